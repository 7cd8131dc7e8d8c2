// Fused scale, noise, bias, leaky ReLU and gain. One pass over memory, which is all that it costs.
#include <algorithm>
#include <vector>

#include "../operators.h"
#include "parallel.h"

namespace sgmatte {
namespace {

// A task is a range of pixels of one sample, with all channels. Its size depends on the shape alone.
struct Blocks {
    int64_t pixels, size, count;  // pixels of a sample, of a task, and tasks of a sample

    explicit Blocks(const Image& x) : pixels(x.h * x.w) {
        size = std::max<int64_t>(256, 65536 / std::max<int64_t>(x.c, 1));
        count = (pixels + size - 1) / size;
    }
};

// The factors of one sample, with nothing left out, so that the loops need not ask.
struct Factors {
    std::vector<float> scale, bias, noise;  // (C), (C), (pixels of the block), noise already scaled

    Factors(const Activation& how, const Image& x, int64_t n, int64_t first, int64_t last)
        : scale(x.c, 1.f), bias(x.c, 0.f), noise(last - first, 0.f) {
        if (how.scale) std::copy_n(how.scale + n * x.c, x.c, scale.data());
        if (how.bias) std::copy_n(how.bias, x.c, bias.data());
        if (!how.noise) return;
        const float strength = how.noise_scale ? *how.noise_scale : 1.f;
        const float* map = how.noise + n * how.noise_stride;
        for (int64_t p = first; p < last; ++p) noise[p - first] = strength * map[p];
    }
};

template <class T>
void forward(const Image& x, const Image& out, const Activation& how, int threads) {
    const Blocks blocks(x);
    const bool last = x.stride_c == 1;
    const float high = how.gain, low = how.gain * how.slope;
    parallel_for(x.n * blocks.count, threads, [&](int64_t task) {
        const int64_t n = task / blocks.count, first = task % blocks.count * blocks.size;
        const int64_t end = std::min(first + blocks.size, blocks.pixels), count = end - first, channels = x.c;
        const Factors f(how, x, n, first, end);
        const float *scale = f.scale.data(), *bias = f.bias.data(), *noise = f.noise.data();
        if (last) {
            const T* from = static_cast<const T*>(x.data) + n * x.stride_n + first * channels;
            T* to = static_cast<T*>(out.data) + n * out.stride_n + first * channels;
            for (int64_t p = 0; p < count; ++p, from += channels, to += channels) {
                const float shift = noise[p];
#pragma omp simd
                for (int64_t c = 0; c < channels; ++c) {
                    const float v = float(from[c]) * scale[c] + (bias[c] + shift);
                    to[c] = T(v * (v > 0 ? high : low));
                }
            }
        } else {
            for (int64_t c = 0; c < channels; ++c) {
                const T* from = static_cast<const T*>(x.data) + n * x.stride_n + c * x.stride_c + first;
                T* to = static_cast<T*>(out.data) + n * out.stride_n + c * out.stride_c + first;
                const float factor = scale[c], shift = bias[c];
#pragma omp simd
                for (int64_t p = 0; p < count; ++p) {
                    const float v = float(from[p]) * factor + (shift + noise[p]);
                    to[p] = T(v * (v > 0 ? high : low));
                }
            }
        }
    });
}

template <class T>
void backward(const Image& g, const Image& y, const Image& dx, const Activation& how, float* channel_sums,
              float* pixel_sums, int threads) {
    const Blocks blocks(y);
    const bool last = y.stride_c == 1;
    const float high = how.gain, low = how.gain * how.slope, per_high = 1 / high, per_low = 1 / low;
    std::vector<float> partial(channel_sums ? y.n * blocks.count * y.c * 2 : 0);  // (task, which of the two, C)
    parallel_for(y.n * blocks.count, threads, [&](int64_t task) {
        const int64_t n = task / blocks.count, first = task % blocks.count * blocks.size;
        const int64_t end = std::min(first + blocks.size, blocks.pixels), count = end - first, channels = y.c;
        const Factors f(how, y, n, first, end);
        const float *scale = f.scale.data(), *bias = f.bias.data(), *noise = f.noise.data();
        std::vector<float> local(channel_sums ? 0 : 2 * channels), over(count, 0.f);
        float* sums = channel_sums ? partial.data() + task * channels * 2 : local.data();
        float* products = sums + channels;
        float* pixel = pixel_sums ? pixel_sums + n * blocks.pixels + first : over.data();
        if (last) {
            const int64_t at = first * channels;
            const T* grad = static_cast<const T*>(g.data) + n * g.stride_n + at;
            const T* value = static_cast<const T*>(y.data) + n * y.stride_n + at;
            T* to = static_cast<T*>(dx.data) + n * dx.stride_n + at;
            for (int64_t p = 0; p < count; ++p, grad += channels, value += channels, to += channels) {
                const float shift = noise[p];
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (int64_t c = 0; c < channels; ++c) {
                    const float v = float(value[c]), slope = v > 0 ? high : low, per_slope = v > 0 ? per_high : per_low;
                    const float d = float(grad[c]) * slope;
                    to[c] = T(d * scale[c]);
                    sum += d;
                    sums[c] += d;
                    products[c] += d * (v * per_slope - (bias[c] + shift));
                }
                pixel[p] = sum;
            }
        } else {
            std::fill_n(pixel, count, 0.f);
            for (int64_t c = 0; c < channels; ++c) {
                const T* grad = static_cast<const T*>(g.data) + n * g.stride_n + c * g.stride_c + first;
                const T* value = static_cast<const T*>(y.data) + n * y.stride_n + c * y.stride_c + first;
                T* to = static_cast<T*>(dx.data) + n * dx.stride_n + c * dx.stride_c + first;
                const float factor = scale[c], shift = bias[c];
                float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
                for (int64_t p = 0; p < count; ++p) {
                    const float v = float(value[p]), slope = v > 0 ? high : low, per_slope = v > 0 ? per_high : per_low;
                    const float d = float(grad[p]) * slope;
                    to[p] = T(d * factor);
                    sum += d;
                    product += d * (v * per_slope - (shift + noise[p]));
                    pixel[p] += d;
                }
                sums[c] = sum;
                products[c] = product;
            }
        }
    });
    if (!channel_sums) return;
    for (int64_t n = 0; n < y.n; ++n)
        for (int64_t c = 0; c < y.c; ++c)
            for (int which = 0; which < 2; ++which) {
                double total = 0;
                for (int64_t b = 0; b < blocks.count; ++b)
                    total += partial[((n * blocks.count + b) * 2 + which) * y.c + c];
                channel_sums[(n * y.c + c) * 2 + which] = float(total);
            }
}

}  // namespace
}  // namespace sgmatte

int sgmatte_bias_act(const Image* x, const Image* out, const Activation* how, int threads, void*) {
    using namespace sgmatte;
    (x->type == BFLOAT16 ? forward<bfloat16> : forward<float>)(*x, *out, *how, threads);
    return 0;
}

int sgmatte_bias_act_backward(const Image* g, const Image* y, const Image* dx, const Activation* how,
                              float* channel_sums, float* pixel_sums, int threads, void*) {
    using namespace sgmatte;
    (y->type == BFLOAT16 ? backward<bfloat16> : backward<float>)(*g, *y, *dx, *how, channel_sums, pixel_sums, threads);
    return 0;
}
