// Enough of CUDA to run a kernel's source on a CPU: the threads of a block are real ones, blocks run one after another.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline

struct Index {
    unsigned x;
};
static thread_local Index threadIdx, blockIdx;
static Index gridDim;

// All threads of the block wait here for each other.
class Barrier {
    std::mutex mutex;
    std::condition_variable all;
    unsigned waiting = 0, round = 0;

   public:
    unsigned size = 1;
    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        const unsigned mine = round;
        if (++waiting == size) {
            waiting = 0, ++round;
            all.notify_all();
        } else {
            all.wait(lock, [&] { return round != mine; });
        }
    }
};
static Barrier barrier;
static void __syncthreads() { barrier.wait(); }
static int cudaGetLastError() { return 0; }

template <class Kernel>
void run_grid(unsigned blocks, unsigned threads, const Kernel& kernel) {
    gridDim.x = blocks, barrier.size = threads;
    std::vector<std::thread> team;
    for (unsigned t = 0; t < threads; ++t)
        team.emplace_back([&, t] {
            threadIdx.x = t;
            for (unsigned b = 0; b < blocks; ++b) {
                blockIdx.x = b;
                kernel();
                barrier.wait();
            }
        });
    for (auto& thread : team) thread.join();
}

#define LAUNCH(kernel, blocks, stream, ...) ((void)(stream), run_grid(unsigned(blocks), BLOCK, [&] { kernel(__VA_ARGS__); }))
