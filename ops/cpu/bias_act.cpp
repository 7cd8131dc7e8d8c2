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

    Factors(const Activation& how, const Image& x, int64_t n, int64_t first, int64_t count)
        : scale(x.c, 1.f), bias(x.c, 0.f), noise(count, 0.f) {
        if (how.scale) std::copy_n(how.scale + n * x.c, x.c, scale.data());
        if (how.bias) std::copy_n(how.bias, x.c, bias.data());
        if (!how.noise) return;
        const float strength = how.noise_scale ? *how.noise_scale : 1.f;
        const float* map = how.noise + n * how.noise_stride + first;
        for (int64_t p = 0; p < count; ++p) noise[p] = strength * map[p];
    }
};

struct Slopes {
    float high, low, per_high, per_low;  // above zero and below; and one over it

    explicit Slopes(const Activation& how)
        : high(how.gain), low(how.gain * how.slope), per_high(1 / high), per_low(1 / low) {}
};

template <class T>
void forward_pixels(const T* x, T* y, int64_t n, float scale, float bias, const float* noise, float high, float low) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const float v = get(x[i]) * scale + (bias + noise[i]);
        put(y[i], v * (v > 0 ? high : low));
    }
}

template <class T>
void forward_channels(const T* x, T* y, int64_t n, const float* scale, const float* bias, float noise, float high,
                      float low) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
        const float v = get(x[i]) * scale[i] + (bias[i] + noise);
        put(y[i], v * (v > 0 ? high : low));
    }
}

template <class T>
void forward(const Image& x, const Image& out, const Activation& how, int threads) {
    const Blocks blocks(x);
    const bool last = x.stride_c == 1;
    const Slopes s(how);
    parallel_for(x.n * blocks.count, threads, [&](int64_t task) {
        const int64_t n = task / blocks.count, first = task % blocks.count * blocks.size;
        const int64_t count = std::min(blocks.size, blocks.pixels - first), channels = x.c;
        const Factors f(how, x, n, first, count);
        const T* from = static_cast<const T*>(x.data) + n * x.stride_n + first * (last ? channels : 1);
        T* to = static_cast<T*>(out.data) + n * out.stride_n + first * (last ? channels : 1);
        if (last)
            for (int64_t p = 0; p < count; ++p)
                forward_channels(from + p * channels, to + p * channels, channels, f.scale.data(), f.bias.data(),
                                 f.noise[p], s.high, s.low);
        else
            for (int64_t c = 0; c < channels; ++c)
                forward_pixels(from + c * x.stride_c, to + c * out.stride_c, count, f.scale[c], f.bias[c],
                               f.noise.data(), s.high, s.low);
    });
}

// Below, p is the gradient before slope and gain, and x * scale is found from the output.
template <class T>
void backward_pixels(const T* grad, const T* y, T* dx, int64_t n, float scale, float bias, const float* noise,
                     const Slopes s, float* pixel, float* channel) {
    float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < n; ++i) {
        const float v = get(y[i]), p = get(grad[i]) * (v > 0 ? s.high : s.low);
        put(dx[i], p * scale);
        pixel[i] += p;
        sum += p;
        product += p * (v * (v > 0 ? s.per_high : s.per_low) - (bias + noise[i]));
    }
    channel[0] = sum, channel[1] = product;
}

template <class T>
float backward_channels(const T* grad, const T* y, T* dx, int64_t n, const float* scale, const float* bias, float noise,
                        const Slopes s, float* sums, float* products) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; ++i) {
        const float v = get(y[i]), p = get(grad[i]) * (v > 0 ? s.high : s.low);
        put(dx[i], p * scale[i]);
        sum += p;
        sums[i] += p;
        products[i] += p * (v * (v > 0 ? s.per_high : s.per_low) - (bias[i] + noise));
    }
    return sum;
}

template <class T>
void backward(const Image& g, const Image& y, const Image& dx, const Activation& how, float* channel_sums,
              float* pixel_sums, int threads) {
    const Blocks blocks(y);
    const bool last = y.stride_c == 1;
    const Slopes s(how);
    const int64_t channels = y.c;
    std::vector<float> partial(y.n * blocks.count * channels * 2);  // (task, C, 2), in channels_last (task, 2, C)
    parallel_for(y.n * blocks.count, threads, [&](int64_t task) {
        const int64_t n = task / blocks.count, first = task % blocks.count * blocks.size;
        const int64_t count = std::min(blocks.size, blocks.pixels - first), step = last ? channels : 1;
        const Factors f(how, y, n, first, count);
        const T* grad = static_cast<const T*>(g.data) + n * g.stride_n + first * step;
        const T* value = static_cast<const T*>(y.data) + n * y.stride_n + first * step;
        T* to = static_cast<T*>(dx.data) + n * dx.stride_n + first * step;
        std::vector<float> own(pixel_sums ? 0 : count);
        float* sums = partial.data() + task * channels * 2;
        float* pixel = pixel_sums ? pixel_sums + n * blocks.pixels + first : own.data();
        if (last) {
            for (int64_t p = 0, at = 0; p < count; ++p, at += channels)
                pixel[p] = backward_channels(grad + at, value + at, to + at, channels, f.scale.data(), f.bias.data(),
                                             f.noise[p], s, sums, sums + channels);
        } else {
            std::fill_n(pixel, count, 0.f);
            for (int64_t c = 0; c < channels; ++c)
                backward_pixels(grad + c * g.stride_c, value + c * y.stride_c, to + c * dx.stride_c, count, f.scale[c],
                                f.bias[c], f.noise.data(), s, pixel, sums + 2 * c);
        }
    });
    if (!channel_sums) return;
    for (int64_t n = 0; n < y.n; ++n)
        for (int64_t c = 0; c < channels; ++c)
            for (int64_t which = 0; which < 2; ++which) {
                const int64_t at = last ? which * channels + c : 2 * c + which;
                double total = 0;
                for (int64_t b = 0; b < blocks.count; ++b) total += partial[(n * blocks.count + b) * channels * 2 + at];
                channel_sums[(n * channels + c) * 2 + which] = float(total);
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
