// Inverse Haar wavelet of scaled coefficients, and its gradient. One pass over memory, which is all that it costs.
#include <algorithm>
#include <vector>

#include "../operators.h"
#include "parallel.h"

namespace sgmatte {
namespace {

// A task is a few rows of coefficients of one sample, with all channels. Its size depends on the shape alone.
struct Bands {
    int64_t height, rows, count;  // rows of a sample, of a task, and tasks of a sample

    explicit Bands(const Image& x) : height(x.h) {
        rows = std::max<int64_t>(1, 65536 / std::max<int64_t>(x.c * x.w, 1));
        count = (height + rows - 1) / rows;
    }

    // body(n, y) for the rows of a task.
    template <class Body>
    void each(int64_t task, const Body& body) const {
        const int64_t first = task % count * rows;
        for (int64_t y = first; y < std::min(first + rows, height); ++y) body(task / count, y);
    }
};

template <class T>
T* row(const Image& image, int64_t n, int64_t c, int64_t y) {
    return static_cast<T*>(image.data) + n * image.stride_n + c * image.stride_c + y * image.stride_h;
}

// The scales of all samples, with the half in them that makes the wavelet orthonormal.
std::vector<float> halves(const float* scale, int64_t count) {
    std::vector<float> half(count, 0.5f);
    for (int64_t k = 0; scale && k < count; ++k) half[k] *= scale[k];
    return half;
}

// A pixel's 4C coefficients, by way of `four`, as many floats.
template <class T>
void synthesis_channels(const T* x, const float* half, float* four, T* top, T* bottom, int64_t channels) {
#pragma omp simd
    for (int64_t k = 0; k < 4 * channels; ++k) four[k] = get(x[k]) * half[k];
    const float* details = four + channels;
#pragma omp simd
    for (int64_t k = 0; k < channels; ++k) {
        float a = four[k], b = details[3 * k], c = details[3 * k + 1], d = details[3 * k + 2];
        haar(a, b, c, d);
        put(top[k], a), put(top[k + channels], b);
        put(bottom[k], c), put(bottom[k + channels], d);
    }
}

template <class T>
void synthesis_pixels(const T* const x[4], const float half[4], T* top, T* bottom, int64_t n) {
    const T *average = x[0], *vertical = x[1], *horizontal = x[2], *diagonal = x[3];
    const float wa = half[0], wb = half[1], wc = half[2], wd = half[3];
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        float a = get(average[i]) * wa, b = get(vertical[i]) * wb;
        float c = get(horizontal[i]) * wc, d = get(diagonal[i]) * wd;
        haar(a, b, c, d);
        put(top[2 * i], a), put(top[2 * i + 1], b);
        put(bottom[2 * i], c), put(bottom[2 * i + 1], d);
    }
}

// Channel k's coefficients are 4 channels of the input: its average, and its three details.
int64_t coefficient(int64_t k, int64_t which, int64_t channels) {
    return which == 0 ? k : channels + 3 * k + which - 1;
}

template <class T>
void synthesis(const Image& x, const Image& out, const float* scale, int threads) {
    const Bands bands(x);
    const bool last = x.stride_c == 1 && out.stride_c == 1;
    const std::vector<float> half = halves(scale, x.n * x.c);
    parallel_for(x.n * bands.count, threads, [&](int64_t task) {
        std::vector<float> four(last ? x.c : 0);
        bands.each(task, [&](int64_t n, int64_t y) {
            const float* weights = half.data() + n * x.c;
            if (last) {
                const T* from = row<T>(x, n, 0, y);
                T *top = row<T>(out, n, 0, 2 * y), *bottom = row<T>(out, n, 0, 2 * y + 1);
                for (int64_t i = 0; i < x.w; ++i, from += x.c, top += 2 * out.c, bottom += 2 * out.c)
                    synthesis_channels(from, weights, four.data(), top, bottom, out.c);
                return;
            }
            for (int64_t k = 0; k < out.c; ++k) {
                const T* from[4];
                float weight[4];
                for (int64_t j = 0; j < 4; ++j) {
                    const int64_t c = coefficient(k, j, out.c);
                    from[j] = row<T>(x, n, c, y), weight[j] = weights[c];
                }
                synthesis_pixels(from, weight, row<T>(out, n, k, 2 * y), row<T>(out, n, k, 2 * y + 1), x.w);
            }
        });
    });
}

template <class T>
void backward_channels(const T* top, const T* bottom, const T* x, T* dx, const float* half, float* four, float* sums,
                       int64_t channels) {
    float* details = four + channels;
#pragma omp simd
    for (int64_t k = 0; k < channels; ++k) {
        float a = get(top[k]), b = get(top[k + channels]), c = get(bottom[k]), d = get(bottom[k + channels]);
        haar(a, b, c, d);
        four[k] = a, details[3 * k] = b, details[3 * k + 1] = c, details[3 * k + 2] = d;
    }
#pragma omp simd
    for (int64_t k = 0; k < 4 * channels; ++k) {
        put(dx[k], four[k] * half[k]);
        sums[k] += four[k] * get(x[k]);
    }
}

template <class T>
void backward_pixels(const T* top, const T* bottom, const T* const x[4], T* const dx[4], const float half[4],
                     float sums[4], int64_t n) {
    const T *xa = x[0], *xb = x[1], *xc = x[2], *xd = x[3];
    T *da = dx[0], *db = dx[1], *dc = dx[2], *dd = dx[3];
    const float wa = half[0], wb = half[1], wc = half[2], wd = half[3];
    float sa = 0, sb = 0, sc = 0, sd = 0;
#pragma omp simd reduction(+ : sa, sb, sc, sd)
    for (int64_t i = 0; i < n; ++i) {
        float a = get(top[2 * i]), b = get(top[2 * i + 1]), c = get(bottom[2 * i]), d = get(bottom[2 * i + 1]);
        haar(a, b, c, d);
        put(da[i], a * wa), put(db[i], b * wb), put(dc[i], c * wc), put(dd[i], d * wd);
        sa += a * get(xa[i]), sb += b * get(xb[i]), sc += c * get(xc[i]), sd += d * get(xd[i]);
    }
    sums[0] = sa, sums[1] = sb, sums[2] = sc, sums[3] = sd;
}

template <class T>
void backward(const Image& g, const Image& x, const Image& dx, const float* scale, float* sums, int threads) {
    const Bands bands(x);
    const bool last = x.stride_c == 1 && g.stride_c == 1;
    const std::vector<float> half = halves(scale, x.n * x.c);
    std::vector<float> partial(x.n * bands.count * x.c);  // (task, 4C)
    parallel_for(x.n * bands.count, threads, [&](int64_t task) {
        std::vector<float> four(last ? x.c : 0);
        float* own = partial.data() + task * x.c;
        bands.each(task, [&](int64_t n, int64_t y) {
            const float* weights = half.data() + n * x.c;
            if (last) {
                const T *top = row<T>(g, n, 0, 2 * y), *bottom = row<T>(g, n, 0, 2 * y + 1);
                const T* value = row<T>(x, n, 0, y);
                T* to = row<T>(dx, n, 0, y);
                for (int64_t i = 0; i < x.w; ++i, top += 2 * g.c, bottom += 2 * g.c, value += x.c, to += x.c)
                    backward_channels(top, bottom, value, to, weights, four.data(), own, g.c);
                return;
            }
            for (int64_t k = 0; k < g.c; ++k) {
                const T* value[4];
                T* to[4];
                float weight[4], sum[4];
                for (int64_t j = 0; j < 4; ++j) {
                    const int64_t c = coefficient(k, j, g.c);
                    value[j] = row<T>(x, n, c, y), to[j] = row<T>(dx, n, c, y), weight[j] = weights[c];
                }
                backward_pixels(row<T>(g, n, k, 2 * y), row<T>(g, n, k, 2 * y + 1), value, to, weight, sum, x.w);
                for (int64_t j = 0; j < 4; ++j) own[coefficient(k, j, g.c)] += sum[j];
            }
        });
    });
    for (int64_t n = 0; n < x.n; ++n)
        for (int64_t c = 0; c < x.c; ++c) {
            double total = 0;
            for (int64_t b = 0; b < bands.count; ++b) total += partial[(n * bands.count + b) * x.c + c];
            sums[n * x.c + c] = float(0.5 * total);
        }
}

}  // namespace
}  // namespace sgmatte

int sgmatte_haar_synthesis(const Image* x, const Image* out, const float* scale, int threads, void*) {
    using namespace sgmatte;
    (x->type == BFLOAT16 ? synthesis<bfloat16> : synthesis<float>)(*x, *out, scale, threads);
    return 0;
}

int sgmatte_haar_synthesis_backward(const Image* g, const Image* x, const Image* dx, const float* scale, float* sums,
                                    int threads, void*) {
    using namespace sgmatte;
    (x->type == BFLOAT16 ? backward<bfloat16> : backward<float>)(*g, *x, *dx, scale, sums, threads);
    return 0;
}
