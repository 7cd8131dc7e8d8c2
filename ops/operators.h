// The C interface of the operators, the same for CPU and CUDA: raw pointers, strides and a stream, so that a build
// needs neither torch's headers nor its compiler. sgmatte/ops/native.py holds the other side of every declaration.
// What the operators compute is written in sgmatte/ops/reference.py.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define SGMATTE_HD __host__ __device__ __forceinline__
#else
#define SGMATTE_HD inline
#endif

#ifdef _WIN32
#define SGMATTE_API extern "C" __declspec(dllexport)
#else
#define SGMATTE_API extern "C" __attribute__((visibility("default")))
#endif

namespace sgmatte {

// The upper half of a float.
struct bfloat16 {
    uint16_t bits;
};

SGMATTE_HD float get(float value) { return value; }

SGMATTE_HD float get(bfloat16 stored) {
    const uint32_t word = uint32_t(stored.bits) << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

SGMATTE_HD void put(float& to, float value) { to = value; }

// Rounds to nearest, ties to even, as torch does.
SGMATTE_HD void put(bfloat16& to, float value) {
    uint32_t word;
    memcpy(&word, &value, sizeof word);
    const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u), quiet = word | 0x400000u;
    to.bits = uint16_t((value == value ? rounded : quiet) >> 16);
}

// Haar wavelet, in place and twice the orthonormal one: top left, top right, bottom left and bottom right pixel become
// the average, the vertical, horizontal and diagonal difference. The same sums are its inverse, but for a factor of 4.
SGMATTE_HD void haar(float& a, float& b, float& c, float& d) {
    const float top = a + b, bottom = c + d, slope_top = a - b, slope_bottom = c - d;
    a = top + bottom, b = top - bottom, c = slope_top + slope_bottom, d = slope_top - slope_bottom;
}

enum Type : int32_t { FLOAT32 = 0, BFLOAT16 = 1 };

}  // namespace sgmatte

// (N, C, H, W). Strides are in elements; either those of a contiguous tensor or those of channels_last.
struct Image {
    void* data;
    int64_t n, c, h, w;
    int64_t stride_n, stride_c, stride_h, stride_w;
    int32_t type;
};

// Filter of kh x kw, not flipped. Steps are at least 1, pads may be negative.
struct Resampling {
    const float* taps;
    int32_t kh, kw, up_y, up_x, down_y, down_x, pad_x0, pad_y0;
};

// gain * leaky_relu(x * scale[n, c] + *noise_scale * noise[n, pixel] + bias[c], slope); null pointers are left out.
// `noise_stride` is the distance between the noise of two samples, 0 where they share it. slope and gain are positive.
struct Activation {
    const float *scale, *bias, *noise, *noise_scale;
    int64_t noise_stride;
    float slope, gain;
};

// All return 0, or an error code of CUDA. `threads` is for the CPU, `stream` for CUDA.
SGMATTE_API int sgmatte_upfirdn2d(const Image* x, const Image* out, const Resampling* how, int threads, void* stream);
SGMATTE_API int sgmatte_bias_act(const Image* x, const Image* out, const Activation* how, int threads, void* stream);

// From the gradient `g` of the output `y`: with p = g * slope of the activation there, dx = p * scale,
// channel_sums[n, c] = (sum p, sum p * x * scale) and pixel_sums[n, pixel] = sum over c of p; either may be null.
// x * scale is found from y, so that x need not be kept.
SGMATTE_API int sgmatte_bias_act_backward(const Image* g, const Image* y, const Image* dx, const Activation* how,
                                          float* channel_sums, float* pixel_sums, int threads, void* stream);

// Inverse Haar wavelet of x * scale[n, k]: x is (N, 4C, H, W), out (N, C, 2H, 2W). Channels of x: C averages, then for
// each of the C its vertical, horizontal and diagonal difference. A null `scale` is left out.
SGMATTE_API int sgmatte_haar_synthesis(const Image* x, const Image* out, const float* scale, int threads, void* stream);

// From the gradient `g` of the output: with d = the Haar wavelet of g, dx = d * scale and sums[n, k] = sum of d * x.
SGMATTE_API int sgmatte_haar_synthesis_backward(const Image* g, const Image* x, const Image* dx, const float* scale,
                                                float* sums, int threads, void* stream);
