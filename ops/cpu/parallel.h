// Threads for a loop of independent tasks.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace sgmatte {

// Runs `work` on `threads` threads and waits. They are those of the OpenMP runtime that torch has loaded, if it has one:
// threads of our own would share the cores with torch's, which keep spinning for a while after each of its operators.
template <class Work>
void team(int threads, Work& work) {
    using Fork = void (*)(void (*)(void*), void*, unsigned, unsigned);
    static const Fork fork = reinterpret_cast<Fork>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    if (threads <= 1) return work();
    if (fork) return fork([](void* data) { (*static_cast<Work*>(data))(); }, &work, unsigned(threads), 0);
    std::vector<std::thread> others;
    for (int k = 1; k < threads; ++k) others.emplace_back([&work] { work(); });
    work();
    for (auto& other : others) other.join();
}

// body(k) for k in [0, tasks), each thread taking the next one that is left. The tasks, and so the results, do not depend
// on the number of threads.
template <class Body>
void parallel_for(int64_t tasks, int threads, const Body& body) {
    std::atomic<int64_t> next{0};
    auto work = [&] {
        for (int64_t k; (k = next.fetch_add(1, std::memory_order_relaxed)) < tasks;) body(k);
    };
    team(int(tasks < threads ? tasks : threads), work);
}

}  // namespace sgmatte
