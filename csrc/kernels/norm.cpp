// Normalisation.
//
//   batch, group   y = activation((x - mean[c]) * scale[c] + shift[c] + residual), statistics per
//                  channel over pixels
//                  dx = g * a[c] + (x - mean[c]) * b[c] + c[c], after one pass of channel sums of
//                  g = dy * activation'(...)
//   layer          y = (x - mean) * invstd * weight + bias, statistics per row of adjacent floats
//   response       y = x / (k + alpha / size * sum of x^2 over a window of channels)^beta
//
// Layout: channels-last with pixel strides for the first and last, dense rows for the second.
// Method: every pass reads each element once, in the order of memory: a visit of a sum takes four
// or eight pixels, whose channels share one load and store of the sums, which lie in the
// first-level cache. Statistics are taken chunk by chunk from deviations from the mean of the
// chunk's first pixels, so a mean large against the deviation costs no digits; the op combines the
// chunks in double. What the activation saw is computed again from x in the backward passes.
// Subtracting the mean before scaling, rather than folding it into the shift, costs one
// instruction in a pass bound by memory and keeps constant channels exact.
// Lost: sums in registers, 64 channels at a time down the pixels (memory is then read in pieces),
// and taking each chunk twice, mean first (a fifth slower).
// Row sums run over blocks of 4096 floats, four accumulators each, added up in double.
// Registers: a pixel and 5 parameters for the maps, plus the constants of sigmoid.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

inline void fill_zero(float* p, int64_t count) {
    for (int64_t i = 0; i < count; i += VL) store_some(p + i, zero(), lanes_left(count - i));
}

inline void put(float* p, vf v, int n, bool streamed) {
    if (streamed)
        stream(p, v);
    else
        store_some(p, v, n);
}

// Brings what lies about two kilobytes further on into the first-level cache: the processor itself
// stops at the end of a page.
ENGINE_INLINE int64_t floats_ahead(int64_t ld, int64_t channels) {
    return ld == channels ? 512 : (512 / channels + 1) * ld;
}
ENGINE_INLINE void fetch(const float* p, int64_t c) {
    if (c % 16 == 0) __builtin_prefetch(p);
}

// Pixels per visit: what is kept per channel is loaded and stored once for all of them.
constexpr int kVisit = 8;

// Adds deviations from the shift (in a.mean) and their squares to a.sum and a.m2.
template <int kPixels>
inline void stats_pixels(const ChannelStatsArgs& a, const float* src) {
    const int64_t ahead = floats_ahead(a.src_ld, a.channels);
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf shift = load_some(a.mean + c, n);
        vf sum = zero(), squares = zero();
        for (int p = 0; p < kPixels; ++p) {
            fetch(src + p * a.src_ld + c + ahead, c);
            const vf d = load_some(src + p * a.src_ld + c, n) - shift;
            sum = sum + d;
            squares = fma(d, d, squares);
        }
        store_some(a.sum + c, load_some(a.sum + c, n) + sum, n);
        store_some(a.m2 + c, load_some(a.m2 + c, n) + squares, n);
    }
}

// Maps take one pixel after the other: what belongs to a channel is loaded again for each, which
// costs less than leaving the order of memory (41 GB/s from memory, 38 with four pixels a
// visit).
template <Activation kActivation, bool kResidual>
inline void affine_pixel(const ChannelAffineArgs& a, int64_t pixel) {
    const float* src = a.src + pixel * a.src_ld;
    const float* residual = kResidual ? a.residual + pixel * a.residual_ld : nullptr;
    float* dst = a.dst + pixel * a.dst_ld;
    const int64_t ahead = floats_ahead(a.src_ld, a.channels);
    const int64_t residual_ahead = kResidual ? floats_ahead(a.residual_ld, a.channels) : 0;
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf mean = load_some(a.mean + c, n), scale = load_some(a.scale + c, n);
        fetch(src + c + ahead, c);
        vf z = fma(load_some(src + c, n) - mean, scale, load_some(a.shift + c, n));
        if (kResidual) {
            fetch(residual + c + residual_ahead, c);
            z = z + load_some(residual + c, n);
        }
        put(dst + c, activate(kActivation, z), n, a.stream);
    }
}

template <Activation kActivation, bool kKept, int kPixels>
inline void grad_sums_pixels(const ChannelGradSumsArgs& a, int64_t first) {
    constexpr bool kNeedsZ = kActivation > Activation::relu6 || !kKept;
    const float *dy = a.dy + first * a.dy_ld, *x = a.x + first * a.x_ld;
    const float* kept = kKept ? a.kept + first * a.kept_ld : nullptr;
    float* stored = kKept ? a.g + first * a.g_ld : nullptr;
    const int64_t dy_ahead = floats_ahead(a.dy_ld, a.channels);
    const int64_t x_ahead = floats_ahead(a.x_ld, a.channels);
    const int64_t kept_ahead = kKept ? floats_ahead(a.kept_ld, a.channels) : 0;
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf mean = load_some(a.mean + c, n);
        vf scale = zero(), shift = zero(), sum = zero(), sum_x = zero();
        if (kActivation != Activation::none && kNeedsZ) {
            scale = load_some(a.scale + c, n);
            shift = load_some(a.shift + c, n);
        }
        for (int p = 0; p < kPixels; ++p) {
            fetch(x + p * a.x_ld + c + x_ahead, c);
            fetch(dy + p * a.dy_ld + c + dy_ahead, c);
            if (kKept) fetch(kept + p * a.kept_ld + c + kept_ahead, c);
            const vf centred = load_some(x + p * a.x_ld + c, n) - mean;
            vf g = load_some(dy + p * a.dy_ld + c, n);
            if (kActivation != Activation::none) {
                vf z = kNeedsZ ? fma(centred, scale, shift) : zero();
                if (kKept) z = z + load_some(kept + p * a.kept_ld + c, n);
                g = activate_backward(kActivation, g, z);
            }
            if (kKept) put(stored + p * a.g_ld + c, g, n, a.stream);
            sum = sum + g;
            sum_x = fma(g, centred, sum_x);
        }
        store_some(a.sum_g + c, load_some(a.sum_g + c, n) + sum, n);
        store_some(a.sum_g_x + c, load_some(a.sum_g_x + c, n) + sum_x, n);
    }
}

template <Activation kActivation>
inline void grad_pixel(const ChannelGradArgs& a, int64_t pixel) {
    const float* dy = a.dy + pixel * a.dy_ld;
    const float* x = a.x ? a.x + pixel * a.x_ld : nullptr;
    float* dx = a.dx + pixel * a.dx_ld;
    const int64_t dy_ahead = floats_ahead(a.dy_ld, a.channels);
    const int64_t x_ahead = floats_ahead(a.x_ld, a.channels);
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf g_scale = load_some(a.g_scale + c, n);
        fetch(dy + c + dy_ahead, c);
        vf g = load_some(dy + c, n), rest = zero();
        if (x) {
            fetch(x + c + x_ahead, c);
            const vf centred = load_some(x + c, n) - load_some(a.mean + c, n);
            if (kActivation != Activation::none)
                g = activate_backward(kActivation, g,
                                      fma(centred, g_scale, load_some(a.shift + c, n)));
            rest = fma(centred, load_some(a.x_scale + c, n), load_some(a.g_shift + c, n));
        }
        put(dx + c, fma(g, g_scale, rest), n, a.stream);
    }
}

template <int kPixels>
inline void scale_grad_pixels(const ChannelScaleGradArgs& a, int64_t first) {
    const float *dy = a.dy + first * a.dy_ld, *x = a.x + first * a.x_ld;
    float* dx = a.dx + first * a.dx_ld;
    const int64_t dy_ahead = floats_ahead(a.dy_ld, a.channels);
    const int64_t x_ahead = floats_ahead(a.x_ld, a.channels);
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf scale = load_some(a.scale + c, n);
        vf sum = zero();
        for (int p = 0; p < kPixels; ++p) {
            fetch(dy + p * a.dy_ld + c + dy_ahead, c);
            fetch(x + p * a.x_ld + c + x_ahead, c);
            const vf g = load_some(dy + p * a.dy_ld + c, n);
            put(dx + p * a.dx_ld + c, g * scale, n, a.stream);
            sum = fma(g, load_some(x + p * a.x_ld + c, n), sum);
        }
        store_some(a.sum + c, load_some(a.sum + c, n) + sum, n);
    }
}

template <Activation kActivation, bool kResidual>
void affine(const ChannelAffineArgs& a) {
    for (int64_t p = 0; p < a.pixels; ++p) affine_pixel<kActivation, kResidual>(a, p);
    if (a.stream) stream_fence();
}

template <Activation kActivation, bool kKept>
void grad_sums(const ChannelGradSumsArgs& a) {
    fill_zero(a.sum_g, a.channels);
    fill_zero(a.sum_g_x, a.channels);
    int64_t p = 0;
    for (; p + 4 <= a.pixels; p += 4) grad_sums_pixels<kActivation, kKept, 4>(a, p);
    for (; p < a.pixels; ++p) grad_sums_pixels<kActivation, kKept, 1>(a, p);
    if (kKept && a.stream) stream_fence();
}

template <Activation kActivation>
void grad(const ChannelGradArgs& a) {
    for (int64_t p = 0; p < a.pixels; ++p) grad_pixel<kActivation>(a, p);
    if (a.stream) stream_fence();
}

// Calls CALL(activation) with the constant.
#define FOR_ACTIVATION(activation, CALL)                         \
    switch (activation) {                                        \
        case Activation::none: CALL(Activation::none); break;    \
        case Activation::relu: CALL(Activation::relu); break;    \
        case Activation::relu6: CALL(Activation::relu6); break;  \
        case Activation::silu: CALL(Activation::silu); break;    \
        case Activation::hardswish: CALL(Activation::hardswish); \
    }

constexpr int64_t kRowBlock = 4096;

// Sum of x[i] over a row.
inline double row_sum(const float* x, int64_t columns) {
    double total = 0;
    for (int64_t begin = 0; begin < columns; begin += kRowBlock) {
        const int64_t end = begin + kRowBlock < columns ? begin + kRowBlock : columns;
        vf s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
        int64_t i = begin;
        for (; i + 4 * VL <= end; i += 4 * VL) {
            s0 = s0 + load(x + i);
            s1 = s1 + load(x + i + VL);
            s2 = s2 + load(x + i + 2 * VL);
            s3 = s3 + load(x + i + 3 * VL);
        }
        for (; i + VL <= end; i += VL) s0 = s0 + load(x + i);
        if (i < end) s1 = s1 + load_n(x + i, static_cast<int>(end - i));
        total += static_cast<double>(reduce_add((s0 + s1) + (s2 + s3)));
    }
    return total;
}

// Sum of (x[i] - mean)^2 over a row.
inline double row_deviation(const float* x, int64_t columns, float mean_value) {
    const vf mean = set1(mean_value);
    double total = 0;
    for (int64_t begin = 0; begin < columns; begin += kRowBlock) {
        const int64_t end = begin + kRowBlock < columns ? begin + kRowBlock : columns;
        vf s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
        int64_t i = begin;
        for (; i + 4 * VL <= end; i += 4 * VL) {
            const vf d0 = load(x + i) - mean, d1 = load(x + i + VL) - mean;
            const vf d2 = load(x + i + 2 * VL) - mean, d3 = load(x + i + 3 * VL) - mean;
            s0 = fma(d0, d0, s0);
            s1 = fma(d1, d1, s1);
            s2 = fma(d2, d2, s2);
            s3 = fma(d3, d3, s3);
        }
        for (; i < end; i += VL) {
            const int n = lanes_left(end - i);
            const vf d = load_some(x + i, n) - (n == VL ? mean : select(first_n(n), mean, zero()));
            s0 = fma(d, d, s0);
        }
        total += static_cast<double>(reduce_add((s0 + s1) + (s2 + s3)));
    }
    return total;
}

// dst[c] = x[c]^2 with `before` zeros in front and `after` behind.
inline void squares_of(const float* x, int64_t channels, int64_t before, int64_t after,
                       float* dst) {
    for (int64_t i = 0; i < before; ++i) dst[i] = 0.0f;
    for (int64_t c = 0; c < channels; c += VL) {
        const int n = lanes_left(channels - c);
        const vf v = load_some(x + c, n);
        store_some(dst + before + c, v * v, n);
    }
    for (int64_t i = 0; i < after; ++i) dst[before + channels + i] = 0.0f;
}

inline vf window_sum(const float* p, int64_t size, int n) {
    vf sum = zero();
    for (int64_t i = 0; i < size; ++i) sum = sum + load_some(p + i, n);
    return sum;
}

// d^-beta; beta 0.75 is the one every network uses.
inline vf power_of(vf d, float beta) {
    if (beta == 0.75f) {
        const vf root = sqrt(d);
        return set1(1.0f) / (root * sqrt(root));
    }
    if (beta == 0.5f) return set1(1.0f) / sqrt(d);
    if (beta == 1.0f) return set1(1.0f) / d;
    return pow(d, set1(-beta));
}

}  // namespace

void channel_stats(const ChannelStatsArgs& a) {
    fill_zero(a.sum, a.channels);
    fill_zero(a.m2, a.channels);
    // Deviations are taken from the mean of the first pixels, or the first pixel where there are
    // few: one of the values, so that a constant channel deviates by nothing.
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf shift = load_some(a.src + c, n);
        if (a.pixels >= kVisit) {
            for (int p = 1; p < kVisit; ++p) shift = shift + load_some(a.src + p * a.src_ld + c, n);
            shift = shift * set1(1.0f / kVisit);
        }
        store_some(a.mean + c, shift, n);
    }
    int64_t p = 0;
    for (; p + kVisit <= a.pixels; p += kVisit) stats_pixels<kVisit>(a, a.src + p * a.src_ld);
    for (; p < a.pixels; ++p) stats_pixels<1>(a, a.src + p * a.src_ld);
    const vf count = set1(static_cast<float>(a.pixels));
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const vf sum = load_some(a.sum + c, n), off = sum / count;
        store_some(a.mean + c, load_some(a.mean + c, n) + off, n);
        store_some(a.m2 + c, max_raw(zero(), fnma(off, sum, load_some(a.m2 + c, n))), n);
    }
}

void channel_affine(const ChannelAffineArgs& a) {
#define CALL(activation) a.residual ? affine<activation, true>(a) : affine<activation, false>(a)
    FOR_ACTIVATION(a.activation, CALL)
#undef CALL
}

void channel_grad_sums(const ChannelGradSumsArgs& a) {
#define CALL(activation) a.kept ? grad_sums<activation, true>(a) : grad_sums<activation, false>(a)
    FOR_ACTIVATION(a.activation, CALL)
#undef CALL
}

void channel_grad(const ChannelGradArgs& a) {
#define CALL(activation) grad<activation>(a)
    FOR_ACTIVATION(a.activation, CALL)
#undef CALL
}

void channel_scale_grad(const ChannelScaleGradArgs& a) {
    fill_zero(a.sum, a.channels);
    int64_t p = 0;
    for (; p + 4 <= a.pixels; p += 4) scale_grad_pixels<4>(a, p);
    for (; p < a.pixels; ++p) scale_grad_pixels<1>(a, p);
    if (a.stream) stream_fence();
}

void row_norm_forward(const RowNormArgs& a) {
    const double columns = static_cast<double>(a.columns);
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const float* x = a.src + row * a.columns;
        float* y = a.dst + row * a.columns;
        const double exact_mean = row_sum(x, a.columns) / columns;
        const float mean_value = static_cast<float>(exact_mean);
        const double variance = row_deviation(x, a.columns, mean_value) / columns;
        const float invstd_value = static_cast<float>(1.0 / __builtin_sqrt(variance + a.eps));
        a.mean[row] = mean_value;
        a.invstd[row] = invstd_value;
        const vf mean = set1(mean_value), invstd = set1(invstd_value);
        // The part of the mean that float does not hold.
        const vf rest =
            set1(static_cast<float>(static_cast<double>(mean_value) - exact_mean) * invstd_value);
        for (int64_t i = 0; i < a.columns; i += VL) {
            const int n = lanes_left(a.columns - i);
            vf v = fma(load_some(x + i, n) - mean, invstd, rest);
            const vf shift = a.bias ? load_some(a.bias + i, n) : zero();
            if (a.weight)
                v = fma(v, load_some(a.weight + i, n), shift);
            else
                v = v + shift;
            store_some(y + i, v, n);
        }
    }
}

// dx = invstd * (g - mean(g) - xhat * mean(g * xhat)) with g = dy * weight, xhat = (x - mean) *
// invstd.
void row_norm_backward(const RowNormBackwardArgs& a) {
    for (int64_t i = 0; i < a.columns; i += VL) {
        if (a.dweight) store_some(a.dweight + i, zero(), lanes_left(a.columns - i));
        if (a.dbias) store_some(a.dbias + i, zero(), lanes_left(a.columns - i));
    }
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const float *x = a.x + row * a.columns, *dy = a.dy + row * a.columns;
        float* dx = a.dx + row * a.columns;
        const vf mean = set1(a.mean[row]), invstd = set1(a.invstd[row]);
        double total = 0, total_x = 0;
        for (int64_t begin = 0; begin < a.columns; begin += kRowBlock) {
            const int64_t end = begin + kRowBlock < a.columns ? begin + kRowBlock : a.columns;
            vf sum = zero(), sum_x = zero();
            for (int64_t i = begin; i < end; i += VL) {
                const int n = lanes_left(end - i);
                const vf d = load_some(dy + i, n);
                const vf xhat = (load_some(x + i, n) - mean) * invstd;
                const vf g = a.weight ? d * load_some(a.weight + i, n) : d;
                sum = sum + g;
                sum_x = fma(g, xhat, sum_x);
                if (a.dweight)
                    store_some(a.dweight + i, fma(d, xhat, load_some(a.dweight + i, n)), n);
                if (a.dbias) store_some(a.dbias + i, load_some(a.dbias + i, n) + d, n);
            }
            total += static_cast<double>(reduce_add(sum));
            total_x += static_cast<double>(reduce_add(sum_x));
        }
        const vf mean_g = set1(static_cast<float>(total / static_cast<double>(a.columns)));
        const vf mean_gx = set1(static_cast<float>(total_x / static_cast<double>(a.columns)));
        for (int64_t i = 0; i < a.columns; i += VL) {
            const int n = lanes_left(a.columns - i);
            const vf d = load_some(dy + i, n);
            const vf xhat = (load_some(x + i, n) - mean) * invstd;
            const vf g = a.weight ? d * load_some(a.weight + i, n) : d;
            store_some(dx + i, fnma(xhat, mean_gx, g - mean_g) * invstd, n);
        }
    }
}

void response_norm_forward(const ResponseNormArgs& a) {
    const int64_t size = a.before + 1 + a.after;
    const vf alpha = set1(a.alpha_over_size), k = set1(a.k);
    for (int64_t p = 0; p < a.pixels; ++p) {
        const float* x = a.src + p * a.src_ld;
        float* y = a.dst + p * a.dst_ld;
        squares_of(x, a.channels, a.before, a.after, a.squares);
        for (int64_t c = 0; c < a.channels; c += VL) {
            const int n = lanes_left(a.channels - c);
            const vf d = fma(alpha, window_sum(a.squares + c, size, n), k);
            store_some(y + c, load_some(x + c, n) * power_of(d, a.beta), n);
        }
    }
}

// dx[c] = dy[c] * d[c]^-beta - 2 * alpha / size * beta * x[c] * sum of dy * y / d over the channels
// whose window holds c.
void response_norm_backward(const ResponseNormBackwardArgs& a) {
    const int64_t size = a.before + 1 + a.after;
    const vf alpha = set1(a.alpha_over_size), k = set1(a.k);
    const vf factor = set1(2.0f * a.alpha_over_size * a.beta);
    for (int64_t i = 0; i < a.after; ++i) a.shares[i] = 0.0f;
    for (int64_t i = 0; i < a.before; ++i) a.shares[a.after + a.channels + i] = 0.0f;
    for (int64_t p = 0; p < a.pixels; ++p) {
        const float *x = a.x + p * a.x_ld, *y = a.y + p * a.y_ld, *dy = a.dy + p * a.dy_ld;
        float* dx = a.dx + p * a.dx_ld;
        squares_of(x, a.channels, a.before, a.after, a.squares);
        for (int64_t c = 0; c < a.channels; c += VL) {
            const int n = lanes_left(a.channels - c);
            const vf d = fma(alpha, window_sum(a.squares + c, size, n), k);
            const vf g = load_some(dy + c, n);
            // The squares of this block's channels are still needed by the next: dx holds the first
            // term.
            store_some(dx + c, g * power_of(d, a.beta), n);
            const vf share = g * load_some(y + c, n) / d;
            store_some(a.shares + a.after + c, share, n);
        }
        for (int64_t c = 0; c < a.channels; c += VL) {
            const int n = lanes_left(a.channels - c);
            const vf sum = window_sum(a.shares + c, size, n);
            store_some(dx + c, fnma(factor * load_some(x + c, n), sum, load_some(dx + c, n)), n);
        }
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
