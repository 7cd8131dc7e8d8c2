// The operators for GPUs. One thread computes one output value, or one sum; what is neighbouring in memory is computed by
// neighbouring threads. LAUNCH and the few names of CUDA used here can be defined beforehand, which is how the tests run
// this very source on a CPU.
#include "../operators.h"

#ifndef LAUNCH
#include <cuda_runtime.h>
#define LAUNCH(kernel, blocks, stream, ...) kernel<<<dim3(unsigned(blocks)), BLOCK, 0, cudaStream_t(stream)>>>(__VA_ARGS__)
#endif

namespace sgmatte {
namespace {

constexpr int BLOCK = 256;
constexpr int64_t MOST_BLOCKS = 1 << 20;  // larger work is looped over

int64_t blocks_for(int64_t values) {
    const int64_t blocks = (values + BLOCK - 1) / BLOCK;
    return blocks < MOST_BLOCKS ? (blocks > 0 ? blocks : 1) : MOST_BLOCKS;
}

__device__ __forceinline__ int64_t first_index() { return int64_t(blockIdx.x) * BLOCK + threadIdx.x; }
__device__ __forceinline__ int64_t index_step() { return int64_t(gridDim.x) * BLOCK; }

struct Place {
    int64_t n, c, y, x;
};

// The i-th value of an image in the order of its memory.
__device__ __forceinline__ Place place(const Image& image, int64_t i) {
    Place at;
    if (image.stride_c == 1) at.c = i % image.c, i /= image.c;
    at.x = i % image.w, i /= image.w;
    at.y = i % image.h, i /= image.h;
    if (image.stride_c != 1) at.c = i % image.c, i /= image.c;
    at.n = i;
    return at;
}

template <class T>
__device__ __forceinline__ T& value(const Image& image, const Place& at) {
    return static_cast<T*>(image.data)[at.n * image.stride_n + at.c * image.stride_c + at.y * image.stride_h +
                                       at.x * image.stride_w];
}

// The first tap that does not fall on an inserted zero.
__device__ __forceinline__ int first_tap(int64_t at, int up) {
    const int over = int(at % up);
    return over == 0 ? 0 : (over > 0 ? up - over : -over);
}

template <class T>
__global__ void upfirdn2d(Image x, Image out, Resampling how) {
    const int64_t values = out.n * out.c * out.h * out.w;
    for (int64_t i = first_index(); i < values; i += index_step()) {
        const Place at = place(out, i);
        const int64_t top = at.y * how.down_y - how.pad_y0, left = at.x * how.down_x - how.pad_x0;
        float sum = 0;
        for (int ky = first_tap(top, how.up_y); ky < how.kh; ky += how.up_y) {
            const int64_t y = (top + ky) / how.up_y;
            if (top + ky < 0 || y >= x.h) continue;
            const float* taps = how.taps + (how.kh - 1 - ky) * how.kw + how.kw - 1;  // flipped
            for (int kx = first_tap(left, how.up_x); kx < how.kw; kx += how.up_x) {
                const int64_t column = (left + kx) / how.up_x;
                if (left + kx >= 0 && column < x.w) sum += taps[-kx] * get(value<T>(x, Place{at.n, at.c, y, column}));
            }
        }
        put(value<T>(out, at), sum);
    }
}

__device__ __forceinline__ float scale_at(const Activation& how, const Image& image, const Place& at) {
    return how.scale ? how.scale[at.n * image.c + at.c] : 1.f;
}

// noise * strength + bias
__device__ __forceinline__ float shift_at(const Activation& how, const Image& image, const Place& at) {
    float shift = how.bias ? how.bias[at.c] : 0.f;
    if (how.noise)
        shift += (how.noise_scale ? *how.noise_scale : 1.f) * how.noise[at.n * how.noise_stride + at.y * image.w + at.x];
    return shift;
}

template <class T>
__global__ void bias_act(Image x, Image out, Activation how) {
    const int64_t values = out.n * out.c * out.h * out.w;
    for (int64_t i = first_index(); i < values; i += index_step()) {
        const Place at = place(out, i);
        const float v = get(value<T>(x, at)) * scale_at(how, x, at) + shift_at(how, x, at);
        put(value<T>(out, at), v * (v > 0 ? how.gain : how.gain * how.slope));
    }
}

// The gradient before slope and gain.
template <class T>
__device__ __forceinline__ float gradient_at(const Image& g, const Image& y, const Activation& how, const Place& at) {
    return get(value<T>(g, at)) * (get(value<T>(y, at)) > 0 ? how.gain : how.gain * how.slope);
}

template <class T>
__global__ void bias_act_dx(Image g, Image y, Image dx, Activation how) {
    const int64_t values = y.n * y.c * y.h * y.w;
    for (int64_t i = first_index(); i < values; i += index_step()) {
        const Place at = place(y, i);
        put(value<T>(dx, at), gradient_at<T>(g, y, how, at) * scale_at(how, y, at));
    }
}

// A block for each channel of each sample.
template <class T>
__global__ void bias_act_channels(Image g, Image y, Activation how, float* sums) {
    __shared__ float shared[2][BLOCK];
    for (int64_t plane = blockIdx.x; plane < y.n * y.c; plane += gridDim.x) {
        float sum = 0, product = 0;
        for (int64_t p = threadIdx.x; p < y.h * y.w; p += BLOCK) {
            const Place at{plane / y.c, plane % y.c, p / y.w, p % y.w};
            const float v = get(value<T>(y, at)), d = gradient_at<T>(g, y, how, at);
            sum += d;
            product += d * (v / (v > 0 ? how.gain : how.gain * how.slope) - shift_at(how, y, at));
        }
        shared[0][threadIdx.x] = sum, shared[1][threadIdx.x] = product;
        for (unsigned half = BLOCK / 2; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half) {
                shared[0][threadIdx.x] += shared[0][threadIdx.x + half];
                shared[1][threadIdx.x] += shared[1][threadIdx.x + half];
            }
        }
        if (threadIdx.x == 0) sums[2 * plane] = shared[0][0], sums[2 * plane + 1] = shared[1][0];
        __syncthreads();  // before the next plane overwrites what thread 0 reads
    }
}

template <class T>
__global__ void bias_act_pixels(Image g, Image y, Activation how, float* sums) {
    for (int64_t i = first_index(); i < y.n * y.h * y.w; i += index_step()) {
        Place at{i / (y.h * y.w), 0, i / y.w % y.h, i % y.w};
        float sum = 0;
        for (; at.c < y.c; ++at.c) sum += gradient_at<T>(g, y, how, at);
        sums[i] = sum;
    }
}

template <class T>
int backward(const Image& g, const Image& y, const Image& dx, const Activation& how, float* channel_sums,
             float* pixel_sums, void* stream) {
    const int64_t planes = y.n * y.c, pixels = y.n * y.h * y.w;
    LAUNCH(bias_act_dx<T>, blocks_for(planes * y.h * y.w), stream, g, y, dx, how);
    if (channel_sums)
        LAUNCH(bias_act_channels<T>, planes < MOST_BLOCKS ? planes : MOST_BLOCKS, stream, g, y, how, channel_sums);
    if (pixel_sums) LAUNCH(bias_act_pixels<T>, blocks_for(pixels), stream, g, y, how, pixel_sums);
    return int(cudaGetLastError());
}

// Place of one of the four coefficients (0 the average) of channel k: C averages, then three details for each channel.
__device__ __forceinline__ Place coefficient(const Image& x, Place at, int which) {
    if (which > 0) at.c = x.c / 4 + 3 * at.c + which - 1;
    return at;
}

__device__ __forceinline__ Place quarter(const Place& at, int which) {
    return Place{at.n, at.c, 2 * at.y + which / 2, 2 * at.x + which % 2};
}

// An image's first quarter of channels, so that `place` counts the quadruples of coefficients.
__device__ __forceinline__ Image averages(Image x) {
    x.c /= 4;
    return x;
}

__device__ __forceinline__ float half_scale(const float* scale, const Image& x, const Place& at) {
    return scale ? 0.5f * scale[at.n * x.c + at.c] : 0.5f;
}

template <class T>
__global__ void haar_synthesis(Image x, Image out, const float* scale) {
    const Image quads = averages(x);
    for (int64_t i = first_index(); i < quads.n * quads.c * quads.h * quads.w; i += index_step()) {
        const Place at = place(quads, i);
        float v[4];
        for (int k = 0; k < 4; ++k) {
            const Place from = coefficient(x, at, k);
            v[k] = get(value<T>(x, from)) * half_scale(scale, x, from);
        }
        haar(v[0], v[1], v[2], v[3]);
        for (int k = 0; k < 4; ++k) put(value<T>(out, quarter(at, k)), v[k]);
    }
}

template <class T>
__device__ __forceinline__ void haar_analysis(const Image& g, const Place& at, float* v) {
    for (int k = 0; k < 4; ++k) v[k] = get(value<T>(g, quarter(at, k)));
    haar(v[0], v[1], v[2], v[3]);
}

template <class T>
__global__ void haar_dx(Image g, Image dx, const float* scale) {
    const Image quads = averages(dx);
    for (int64_t i = first_index(); i < quads.n * quads.c * quads.h * quads.w; i += index_step()) {
        const Place at = place(quads, i);
        float v[4];
        haar_analysis<T>(g, at, v);
        for (int k = 0; k < 4; ++k) {
            const Place to = coefficient(dx, at, k);
            put(value<T>(dx, to), v[k] * half_scale(scale, dx, to));
        }
    }
}

// A block for the four coefficients of each channel of each sample.
template <class T>
__global__ void haar_sums(Image g, Image x, float* sums) {
    __shared__ float shared[4][BLOCK];
    for (int64_t plane = blockIdx.x; plane < g.n * g.c; plane += gridDim.x) {
        float sum[4] = {0, 0, 0, 0};
        for (int64_t p = threadIdx.x; p < x.h * x.w; p += BLOCK) {
            const Place at{plane / g.c, plane % g.c, p / x.w, p % x.w};
            float v[4];
            haar_analysis<T>(g, at, v);
            for (int k = 0; k < 4; ++k) sum[k] += v[k] * get(value<T>(x, coefficient(x, at, k)));
        }
        for (int k = 0; k < 4; ++k) shared[k][threadIdx.x] = sum[k];
        for (unsigned half = BLOCK / 2; half > 0; half /= 2) {
            __syncthreads();
            if (threadIdx.x < half)
                for (int k = 0; k < 4; ++k) shared[k][threadIdx.x] += shared[k][threadIdx.x + half];
        }
        if (threadIdx.x == 0)
            for (int k = 0; k < 4; ++k) {
                const Place to = coefficient(x, Place{plane / g.c, plane % g.c, 0, 0}, k);
                sums[to.n * x.c + to.c] = 0.5f * shared[k][0];
            }
        __syncthreads();  // before the next plane overwrites what thread 0 reads
    }
}

template <class T>
int haar_backward(const Image& g, const Image& x, const Image& dx, const float* scale, float* sums, void* stream) {
    const int64_t planes = g.n * g.c;
    LAUNCH(haar_dx<T>, blocks_for(planes * x.h * x.w), stream, g, dx, scale);
    LAUNCH(haar_sums<T>, planes < MOST_BLOCKS ? planes : MOST_BLOCKS, stream, g, x, sums);
    return int(cudaGetLastError());
}

}  // namespace
}  // namespace sgmatte

int sgmatte_upfirdn2d(const Image* x, const Image* out, const Resampling* how, int, void* stream) {
    using namespace sgmatte;
    const int64_t blocks = blocks_for(out->n * out->c * out->h * out->w);
    if (x->type == BFLOAT16)
        LAUNCH(upfirdn2d<bfloat16>, blocks, stream, *x, *out, *how);
    else
        LAUNCH(upfirdn2d<float>, blocks, stream, *x, *out, *how);
    return int(cudaGetLastError());
}

int sgmatte_bias_act(const Image* x, const Image* out, const Activation* how, int, void* stream) {
    using namespace sgmatte;
    const int64_t blocks = blocks_for(out->n * out->c * out->h * out->w);
    if (x->type == BFLOAT16)
        LAUNCH(bias_act<bfloat16>, blocks, stream, *x, *out, *how);
    else
        LAUNCH(bias_act<float>, blocks, stream, *x, *out, *how);
    return int(cudaGetLastError());
}

int sgmatte_bias_act_backward(const Image* g, const Image* y, const Image* dx, const Activation* how,
                              float* channel_sums, float* pixel_sums, int, void* stream) {
    using namespace sgmatte;
    return (y->type == BFLOAT16 ? backward<bfloat16> : backward<float>)(*g, *y, *dx, *how, channel_sums, pixel_sums,
                                                                        stream);
}

int sgmatte_haar_synthesis(const Image* x, const Image* out, const float* scale, int, void* stream) {
    using namespace sgmatte;
    const int64_t blocks = blocks_for(out->n * out->c * x->h * x->w);
    if (x->type == BFLOAT16)
        LAUNCH(haar_synthesis<bfloat16>, blocks, stream, *x, *out, scale);
    else
        LAUNCH(haar_synthesis<float>, blocks, stream, *x, *out, scale);
    return int(cudaGetLastError());
}

int sgmatte_haar_synthesis_backward(const Image* g, const Image* x, const Image* dx, const float* scale, float* sums,
                                    int, void* stream) {
    using namespace sgmatte;
    return (x->type == BFLOAT16 ? haar_backward<bfloat16> : haar_backward<float>)(*g, *x, *dx, scale, sums, stream);
}
