// Zero insertion, padding or cropping, filtering and decimation, without ever writing the zeros.
//
// A row of the output falls into `phases` interleaved rows in which every pixel meets the same taps: twice as large, the
// even pixels meet the even taps and the odd ones the odd taps. Within a phase, filtering is a sum of shifted rows, which
// the compiler vectorises over pixels (contiguous) or over pixels and channels alike (channels_last). Filters that are
// an outer product are run along rows first, and each filtered row is kept while the column filter needs it.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "../operators.h"
#include "parallel.h"

namespace sgmatte {
namespace {

int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// One axis: out[q * phases + r] = sum over the taps of phase r of weight * in[first + tap.offset + q * step].
struct Axis {
    struct Tap {
        int64_t offset;
        int32_t index;  // in the flipped filter
    };
    int64_t phases, step;
    std::vector<std::vector<Tap>> taps;

    Axis(int length, int up, int down, int pad) {
        const int common = std::gcd(up, down);
        phases = up / common, step = down / common;
        taps.resize(phases);
        for (int64_t r = 0; r < phases; ++r)
            for (int j = 0; j < length; ++j) {
                const int64_t at = r * down + j - pad;  // in the row with zeros inserted
                if (at - floor_div(at, up) * up == 0) taps[r].push_back({floor_div(at, up), j});
            }
    }
};

// The filter, flipped; and if it is the outer product of a column and a row, those two.
struct Filter {
    std::vector<float> taps, column, row;

    explicit Filter(const Resampling& how) : taps(how.taps, how.taps + how.kh * how.kw) {
        std::reverse(taps.begin(), taps.end());
        const auto larger = [](float a, float b) { return std::abs(a) < std::abs(b); };
        const int64_t largest = std::max_element(taps.begin(), taps.end(), larger) - taps.begin();
        const float peak = taps[largest];
        for (int i = 0; i < how.kh; ++i) column.push_back(taps[i * how.kw + largest % how.kw]);
        for (int j = 0; j < how.kw; ++j) row.push_back(taps[largest / how.kw * how.kw + j] / peak);
        bool product = true;
        for (int i = 0; i < how.kh; ++i)
            for (int j = 0; j < how.kw; ++j)
                product &= std::abs(taps[i * how.kw + j] - column[i] * row[j]) <= 4e-7f * std::abs(peak);
        if (!product) row.clear();
    }
};

struct Term {
    const float* row;
    float weight;
};

// out[i] (= or +=) the sum of weight * row[i], four rows a pass.
void weighted_sum(float* out, const Term* terms, size_t count, int64_t n, bool add) {
    if (!count && !add) std::fill_n(out, n, 0.f);
    for (size_t k = 0; k < count; k += 4) {
        Term t[4];
        for (size_t j = 0; j < 4; ++j) t[j] = k + j < count ? terms[k + j] : Term{terms[k].row, 0.f};
        const float *a = t[0].row, *b = t[1].row, *c = t[2].row, *d = t[3].row;
        const float wa = t[0].weight, wb = t[1].weight, wc = t[2].weight, wd = t[3].weight;
        if (count - k <= 2) {
            if (add || k)
#pragma omp simd
                for (int64_t i = 0; i < n; ++i) out[i] += wa * a[i] + wb * b[i];
            else
#pragma omp simd
                for (int64_t i = 0; i < n; ++i) out[i] = wa * a[i] + wb * b[i];
        } else {
            if (add || k)
#pragma omp simd
                for (int64_t i = 0; i < n; ++i) out[i] += wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
            else
#pragma omp simd
                for (int64_t i = 0; i < n; ++i) out[i] = wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
        }
    }
}

// A strip of `count` pixels per phase, `group` values a pixel: all channels in channels_last, one channel otherwise.
template <class T>
struct Strip {
    const Axis& axis;
    int64_t group, first, count, width;  // first and count in pixels of a phase, width of the input
    int64_t lowest, begin, span;         // the lowest tap; pixels of the input that are read, even where there are none
    std::vector<float> padded;           // those pixels, zero outside of the input
    std::vector<Term> terms;

    Strip(const Axis& axis, int64_t group, int64_t first, int64_t count, int64_t width)
        : axis(axis), group(group), first(first), count(count), width(width) {
        int64_t highest = INT64_MIN;
        lowest = INT64_MAX;
        for (const auto& phase : axis.taps)
            for (const auto& tap : phase) lowest = std::min(lowest, tap.offset), highest = std::max(highest, tap.offset);
        begin = lowest + first * axis.step, span = highest - lowest + (count - 1) * axis.step + 1;
        padded.assign(span * group, 0.f);
    }

    void load(const T* row) {
        const int64_t from = std::max<int64_t>(0, begin), to = std::min(width, begin + span);
        const T* in = row + from * group;
        float* at = padded.data() + (from - begin) * group;
#pragma omp simd
        for (int64_t i = 0; i < (to - from) * group; ++i) at[i] = get(in[i]);
    }

    // out (phases, count, group) = or += the loaded row filtered with `weights` (flipped).
    void filter(float* out, const float* weights, bool add) {
        for (const auto& phase : axis.taps) {
            terms.clear();
            for (const auto& tap : phase)
                terms.push_back({padded.data() + (tap.offset - lowest) * group, weights[tap.index]});
            if (axis.step == 1) {
                weighted_sum(out, terms.data(), terms.size(), count * group, add);
            } else if (group == 1) {
                if (!add) std::fill_n(out, count, 0.f);
                for (const auto& term : terms) gather(out, term);
            } else {
                for (int64_t q = 0; q < count; ++q) {
                    weighted_sum(out + q * group, terms.data(), terms.size(), group, add);
                    for (auto& term : terms) term.row += axis.step * group;
                }
            }
            out += count * group;
        }
    }

    void gather(float* out, const Term& term) const {
        const float* in = term.row;
        if (axis.step == 2)
#pragma omp simd
            for (int64_t q = 0; q < count; ++q) out[q] += term.weight * in[2 * q];
        else
            for (int64_t q = 0; q < count; ++q) out[q] += term.weight * in[axis.step * q];
    }

    // Interleave the phases into a row of the output, `total` pixels wide.
    void store(const float* in, T* row, int64_t total) const {
        for (int64_t r = 0; r < axis.phases; ++r, in += count * group) {
            const int64_t last = std::min(first + count, (total - r + axis.phases - 1) / axis.phases);
            if (axis.phases == 1) {
                T* out = row + first * group;
#pragma omp simd
                for (int64_t i = 0; i < (last - first) * group; ++i) put(out[i], in[i]);
            } else {
                for (int64_t q = first; q < last; ++q) {
                    T* out = row + (q * axis.phases + r) * group;
#pragma omp simd
                    for (int64_t g = 0; g < group; ++g) put(out[g], in[(q - first) * group + g]);
                }
            }
        }
    }
};

constexpr int64_t STRIP_VALUES = 2048;  // floats of a filtered row: a few of them stay in the first-level cache
constexpr int64_t BAND_ROWS = 64;       // rows of output in a task

template <class T>
void upfirdn2d(const Image& x, const Image& out, const Resampling& how, int threads) {
    const Axis across(how.kw, how.up_x, how.down_x, how.pad_x0), along(how.kh, how.up_y, how.down_y, how.pad_y0);
    const bool last = x.stride_c == 1 && out.stride_c == 1;
    const int64_t group = last ? x.c : 1, planes = last ? 1 : x.c;
    const int64_t total = (out.w + across.phases - 1) / across.phases;  // pixels of a phase
    const int64_t width = std::clamp<int64_t>(STRIP_VALUES / (group * across.phases), 1, total);
    const int64_t strips = (total + width - 1) / width, bands = (out.h + BAND_ROWS - 1) / BAND_ROWS;
    const Filter filter(how);
    const bool separable = !filter.row.empty();

    parallel_for(x.n * planes * bands * strips, threads, [&](int64_t task) {
        const int64_t strip_index = task % strips, band = task / strips % bands;
        const int64_t plane = task / strips / bands % planes, n = task / strips / bands / planes;
        const T* from = static_cast<const T*>(x.data) + n * x.stride_n + plane * x.stride_c;
        T* to = static_cast<T*>(out.data) + n * out.stride_n + plane * out.stride_c;
        const int64_t first = strip_index * width;
        Strip<T> strip(across, group, first, std::min(width, total - first), x.w);
        const int64_t size = across.phases * strip.count * group;
        std::vector<float> sum(size), kept(separable ? how.kh * size : 0);
        std::vector<int64_t> held(how.kh, -1);  // which input row each kept one is
        std::vector<Term> terms;
        for (int64_t oy = band * BAND_ROWS; oy < std::min((band + 1) * BAND_ROWS, out.h); ++oy) {
            terms.clear();
            bool any = false;
            for (const auto& tap : along.taps[oy % along.phases]) {
                const int64_t iy = tap.offset + oy / along.phases * along.step;
                if (iy < 0 || iy >= x.h) continue;
                if (!separable) {
                    strip.load(from + iy * x.stride_h);
                    strip.filter(sum.data(), filter.taps.data() + tap.index * how.kw, any);
                    any = true;
                    continue;
                }
                const int64_t slot = iy % how.kh;
                float* filtered = kept.data() + slot * size;
                if (held[slot] != iy) {
                    strip.load(from + iy * x.stride_h);
                    strip.filter(filtered, filter.row.data(), false);
                    held[slot] = iy;
                }
                terms.push_back({filtered, filter.column[tap.index]});
            }
            if (separable)
                weighted_sum(sum.data(), terms.data(), terms.size(), size, false);
            else if (!any)
                std::fill(sum.begin(), sum.end(), 0.f);
            strip.store(sum.data(), to + oy * out.stride_h, out.w);
        }
    });
}

}  // namespace
}  // namespace sgmatte

int sgmatte_upfirdn2d(const Image* x, const Image* out, const Resampling* how, int threads, void*) {
    using namespace sgmatte;
    (x->type == BFLOAT16 ? upfirdn2d<bfloat16> : upfirdn2d<float>)(*x, *out, *how, threads);
    return 0;
}
