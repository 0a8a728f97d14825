// Depthwise convolution and its gradients.
//
//   dst[h][w][c] = bias[c] + sum_r sum_q src[h * stride + r][w * stride + q][c] * weight[r][q][c]
//
// Method: vectors over channels. A tile is P neighbouring pixels of a row; for one vector of
// channels it holds P sums and the weights of one kernel row in registers, and a source pixel,
// loaded once, serves every sum it reaches. Source columns beyond the image are skipped by a bit
// mask, rows by the range of kernel rows, so nothing is copied and no product with padding is
// computed. Within a tile, channels are the inner loop: memory is read in runs of P pixels, and on
// wide maps the source row below is fetched meanwhile.
// depthwise_spread (input gradient of a stride of 2) is the same tile seen from the other side: a
// tile of the wide side, whose sums are reached by alternating kernel columns. The weight gradient
// holds P gradients in registers and the sums of one kernel row. Grouped convolution with groups
// narrower than a vector is the same again, once per input channel of the group: a permutation
// brings channel i of every lane's group to that lane, so no lane idles.
// Registers: P sums, K weights, one source pixel: 8 + 7 + 1 = 16 at most.
//
// Measured on two Xeon cores with AVX-512, batch 16, ms (forward unless said): sums of one pixel
// and four vectors, taps by tables: 32 channels at 112x112 4.34, tiles 1.16; 240 at 28x28,
// 5x5: 2.25, 0.78. Fetching the row below: 96 at 112x112, stride 2: 4.2, 2.7; its weight
// gradient 4.1, 2.6. Storing past the caches as well: 2.1, but 1.22 instead of 1.10 for 32 at
// 112x112. Lost: blocks of 32 channels on maps of 56x56 (2.20, 2.38 for 144); for groups of whole
// vectors, one broadcast input channel per tile and K products (24 per group at 28x28: 5.6, the
// matrix product 4.1).
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// Where a vector of outputs finds its input channels. same: each lane its own channel; group: input
// channel i of each lane's group, whose channels lie in the same vector.
enum Source { same, group };

// How much of a tile exists. whole: all of it, and full vectors; edge: some source columns are
// outside; tail: also the last, partial vector of channels.
enum Part { whole, edge, tail };

template <Part part>
inline __attribute__((always_inline)) vf get(const float* p, int n) {
    return part == tail ? load_n(p, n) : load(p);
}
template <Part part>
inline __attribute__((always_inline)) void put(float* p, vf v, int n) {
    if (part == tail)
        store_n(p, v, n);
    else
        store(p, v);
}
template <Part part>
inline __attribute__((always_inline)) bool there(uint32_t mask, int i) {
    return part == whole || (mask >> i & 1) != 0;
}

template <Source source, Part part>
inline __attribute__((always_inline)) vf take(const float* p, vi lanes, int n) {
    const vf x = get<part>(p, n);
    return source == group ? permute(x, lanes) : x;
}
// One pixel on. Hidden from the compiler, which would rather keep a distance for every pixel of the
// tile than one pointer, and reload them all the time.
inline __attribute__((always_inline)) void step(const float*& p, int64_t pixel) {
    p += pixel;
    asm("" : "+r"(p));
}
// For `group`: the lanes that hold the first channel of each lane's group.
inline __attribute__((always_inline)) vi first_lanes(int64_t group_size) {
    return andi(iota(), seti(static_cast<int32_t>(-group_size)));
}

// The rows of src that reach a tile, and the weights they meet, each a fixed step apart.
struct Rows {
    const float* src;
    int64_t src_step;
    const float* weight;
    int64_t weight_step;
    int64_t count;
    const float* ahead;  // the tile's columns in the first source row below
};

// Brings `vectors` vectors from p on into the second-level cache.
template <int vectors>
inline __attribute__((always_inline)) void fetch(const float* p) {
#pragma GCC unroll 16
    for (int i = 0; i < vectors * VL; i += 16) __builtin_prefetch(p + i, 0, 2);
}

// Bits i for which begin <= i < end; both may lie outside of 0..32.
inline __attribute__((always_inline)) uint32_t bits(int64_t begin, int64_t end) {
    if (begin < 0) begin = 0;
    if (end > 32) end = 32;
    if (begin >= end) return 0;
    return static_cast<uint32_t>(((uint64_t{1} << end) - 1) & ~((uint64_t{1} << begin) - 1));
}

// Adds the residual and activates what was just stored: registers cannot hold the tile and the
// longer activations.
__attribute__((noinline)) void finish_pixels(const DepthwiseArgs& d, float* dst, int pixels,
                                             int64_t c, int n) {
    const int64_t first = d.residual ? (dst - d.dst) / d.dst_pixel : 0;
    for (int p = 0; p < pixels; ++p) {
        vf y = load_some(dst + p * d.dst_pixel + c, n);
        if (d.residual) y = y + load_some(d.residual + (first + p) * d.residual_pixel + c, n);
        store_some(dst + p * d.dst_pixel + c, activate(d.activation, y), n);
    }
}

// Adds to P sums what Q source pixels side by side carry to them over some rows, one vector of
// channels: pixel q meets sum p through kernel column Tap(p, q) = OfP * p + OfQ * q + First.
template <Source source, int K, int P, int Q, int OfP, int OfQ, int First, Part part>
inline __attribute__((always_inline)) void accumulate(const DepthwiseArgs& d, const Rows& rows,
                                                      uint32_t mask, int64_t c, int n,
                                                      vf (&sum)[P]) {
    const float* src = rows.src + c;
    const float* weight_row = rows.weight + c;
    const int64_t inputs = source == same ? 1 : d.group, src_pixel = d.src_pixel;
    for (int64_t r = rows.count; r > 0; --r) {
        const float* weight = weight_row;
        vi lanes = first_lanes(inputs);
        for (int64_t input = 0; input < inputs; ++input) {
            vf k[K];
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) k[i] = get<part>(weight + i * d.weight_tap, n);
            const float* pixel = src;
#pragma GCC unroll 32
            for (int q = 0; q < Q; ++q, step(pixel, src_pixel))
                if (there<part>(mask, q)) {
                    const vf x = take<source, part>(pixel, lanes, n);
#pragma GCC unroll 8
                    for (int p = 0; p < P; ++p) {
                        const int tap = OfP * p + OfQ * q + First;
                        if (tap >= 0 && tap < K) sum[p] = fma(x, k[tap], sum[p]);
                    }
                }
            weight += K * d.weight_tap;
            lanes = lanes + 1;
        }
        src += rows.src_step;
        weight_row += rows.weight_step;
    }
}

// P outputs side by side, one vector of channels. rows.src: column 0 of the tile, which may lie
// outside the image.
template <Source source, int K, int S, int P, Part part>
inline __attribute__((always_inline)) void forward_vector(const DepthwiseArgs& d, const Rows& rows,
                                                          uint32_t mask, float* dst, int64_t c,
                                                          int n) {
    constexpr int Q = (P - 1) * S + K;
    if (part == whole && d.fetch_ahead) {
#pragma GCC unroll 1
        for (int row = 0; row < S; ++row)
            fetch<P * S>(rows.ahead + row * d.src_w * d.src_pixel + c * P * S);
    }
    vf sum[P];
    const vf start = d.bias ? get<part>(d.bias + c, n) : zero();
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[p] = start;
    accumulate<source, K, P, Q, -S, 1, 0, part>(d, rows, mask, c, n, sum);
    const bool relu = d.activation == Activation::relu || d.activation == Activation::relu6;
    if (relu && !d.residual) {
        const vf limit = set1(d.activation == Activation::relu ? __builtin_inff() : 6.0f);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sum[p] = min_raw(limit, max_raw(zero(), sum[p]));
    }
    if (part != tail && d.stream) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) stream(dst + p * d.dst_pixel + c, sum[p]);
        return;
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) put<part>(dst + p * d.dst_pixel + c, sum[p], n);
    if (d.residual || (!relu && d.activation != Activation::none)) finish_pixels(d, dst, P, c, n);
}

template <Source source, int K, int S, int P>
void forward_tile(const DepthwiseArgs& d, const Rows& rows, uint32_t mask, float* dst) {
    constexpr int Q = (P - 1) * S + K;
    const int64_t full = d.channels / VL * VL;
    if (mask == bits(0, Q))
        for (int64_t c = 0; c < full; c += VL)
            forward_vector<source, K, S, P, whole>(d, rows, mask, dst, c, VL);
    else
        for (int64_t c = 0; c < full; c += VL)
            forward_vector<source, K, S, P, edge>(d, rows, mask, dst, c, VL);
    if (full < d.channels)
        forward_vector<source, K, S, P, tail>(d, rows, mask, dst, full,
                                              static_cast<int>(d.channels - full));
}

// The pixels per tile, of those compiled, that covers a row with the least work; the last tile is
// moved back over the one before it, unless the row is narrower than a tile.
inline int best_pixels(int64_t width) {
    if (width < 4) return 1;
    if (width < 7) return 4;
    const int64_t by_8 = (width + 7) / 8 * 10, by_7 = (width + 6) / 7 * 9,
                  by_4 = (width + 3) / 4 * 6;
    if (width >= 8 && by_8 <= by_7 && by_8 <= by_4) return 8;
    return by_7 <= by_4 ? 7 : 4;
}

template <Source source, int K, int S, int P>
void forward_row(const DepthwiseArgs& d, Rows rows, float* dst) {
    constexpr int Q = (P - 1) * S + K;
    const float* row = rows.src;
    const float* below = rows.ahead;
    for (int64_t next = 0; next < d.dst_w; next += P) {
        const int64_t p = next + P <= d.dst_w ? next : d.dst_w - P;
        const int64_t first = p * S - d.pad_left;
        rows.src = row + first * d.src_pixel;
        rows.ahead = below + p * S * d.src_pixel;
        forward_tile<source, K, S, P>(d, rows, bits(-first, d.src_w - first) & bits(0, Q),
                                      dst + p * d.dst_pixel);
    }
}

// Kernel rows [begin, end) of output row `h` meet the image.
struct RowRange {
    int64_t begin, end;
};
inline RowRange kernel_rows(int64_t first, int64_t dilation, int64_t kernel, int64_t height) {
    RowRange range{0, kernel};
    while (range.begin < kernel && first + range.begin * dilation < 0) ++range.begin;
    while (range.end > range.begin && first + (range.end - 1) * dilation >= height) --range.end;
    return range;
}

template <Source source, int K, int S>
void forward(const DepthwiseArgs& d) {
    const int pixels = best_pixels(d.dst_w);
    const int64_t inputs = source == same ? 1 : d.group;
    for (int64_t h = d.row_begin; h < d.row_end; ++h) {
        const int64_t first = h * d.stride_h - d.pad_top;
        const RowRange range = kernel_rows(first, d.dilation_h, d.kernel_h, d.src_h);
        Rows rows;
        rows.src_step = d.dilation_h * d.src_w * d.src_pixel;
        rows.src = d.src + (first + range.begin * d.dilation_h) * d.src_w * d.src_pixel;
        rows.weight_step = K * inputs * d.weight_tap;
        rows.weight = d.weight + range.begin * rows.weight_step;
        rows.count = range.end - range.begin;
        rows.ahead = d.src + (first + (d.kernel_h - 1) * d.dilation_h + 1) * d.src_w * d.src_pixel;
        float* dst = d.dst + h * d.dst_w * d.dst_pixel;
        switch (pixels) {
            case 8: forward_row<source, K, S, 8>(d, rows, dst); break;
            case 7: forward_row<source, K, S, 7>(d, rows, dst); break;
            case 4: forward_row<source, K, S, 4>(d, rows, dst); break;
            default: forward_row<source, K, S, 1>(d, rows, dst);
        }
    }
}

// P outputs side by side of the input gradient, one vector of channels. Output j of the tile is
// reached by source pixel (j - q) / S of the tile through kernel column q; the source pixels of the
// tile begin (K - 1) / S before the one that column 0 carries to output 0.
template <Source source, int K, int S, int P, Part part>
inline __attribute__((always_inline)) void spread_vector(const DepthwiseArgs& d, const Rows& rows,
                                                         uint32_t mask, uint32_t wanted, float* dst,
                                                         int64_t c, int n) {
    constexpr int Before = (K - 1) / S, Q = Before + (P - 1) / S + 1;
    if (part == whole && d.fetch_ahead) fetch<P / S>(rows.ahead + c * (P / S));
    vf sum[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) sum[p] = zero();
    accumulate<source, K, P, Q, 1, -S, Before * S, part>(d, rows, mask, c, n, sum);
    if (part != tail && d.stream) {
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p)
            if (there<part>(wanted, p)) stream(dst + p * d.dst_pixel + c, sum[p]);
        return;
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
        if (there<part>(wanted, p)) put<part>(dst + p * d.dst_pixel + c, sum[p], n);
}

template <Source source, int K, int S>
void spread(const DepthwiseArgs& d) {
    constexpr int P = 8, Before = (K - 1) / S, Q = Before + (P - 1) / S + 1;
    const int64_t full = d.channels / VL * VL;
    const int64_t inputs = source == same ? 1 : d.group;
    for (int64_t h = d.row_begin; h < d.row_end; ++h) {
        // Kernel rows first, first + stride, ... come from source rows i, i - 1, ...
        const int64_t reach = h + d.pad_top;
        int64_t r = reach % d.stride_h, i = reach / d.stride_h;
        if (i >= d.src_h) {
            r += (i - d.src_h + 1) * d.stride_h;
            i = d.src_h - 1;
        }
        Rows rows;
        rows.src_step = -d.src_w * d.src_pixel;
        rows.weight_step = d.stride_h * K * inputs * d.weight_tap;
        rows.weight = d.weight + r * K * inputs * d.weight_tap;
        rows.count = r < d.kernel_h ? (d.kernel_h - r + d.stride_h - 1) / d.stride_h : 0;
        if (rows.count > i + 1) rows.count = i + 1;
        const float* row = d.src + i * d.src_w * d.src_pixel;
        // Tiles begin where kernel column 0 meets a source pixel.
        for (int64_t w = -(d.pad_left % S); w < d.dst_w; w += P) {
            const int64_t first = (w + d.pad_left) / S - Before;
            const uint32_t mask = bits(-first, d.src_w - first) & bits(0, Q);
            const uint32_t wanted = bits(-w, d.dst_w - w) & bits(0, P);
            rows.src = row + first * d.src_pixel;
            rows.ahead = rows.src + (d.src_w + Before) * d.src_pixel;
            float* dst = d.dst + (h * d.dst_w + w) * d.dst_pixel;
            if (mask == bits(0, Q) && wanted == bits(0, P))
                for (int64_t c = 0; c < full; c += VL)
                    spread_vector<source, K, S, P, whole>(d, rows, mask, wanted, dst, c, VL);
            else
                for (int64_t c = 0; c < full; c += VL)
                    spread_vector<source, K, S, P, edge>(d, rows, mask, wanted, dst, c, VL);
            if (full < d.channels)
                spread_vector<source, K, S, P, tail>(d, rows, mask, wanted, dst, full,
                                                     static_cast<int>(d.channels - full));
        }
    }
}

// P gradients side by side, one vector of channels. rows.weight: the sums.
template <Source source, int K, int S, int P, Part part>
inline __attribute__((always_inline)) void weight_vector(const DepthwiseWeightArgs& d,
                                                         const Rows& rows, float* dweight,
                                                         uint32_t mask, const float* grad,
                                                         int64_t c, int n) {
    constexpr int Q = (P - 1) * S + K;
    if (part == whole && d.fetch_ahead) {
        fetch<P>(grad + d.grad_w * d.grad_pixel + c * P);
#pragma GCC unroll 1
        for (int row = 0; row < S; ++row)
            fetch<P * S>(rows.ahead + row * d.src_w * d.src_pixel + c * P * S);
    }
    vf g[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) g[p] = get<part>(grad + p * d.grad_pixel + c, n);
    if (d.dbias) {
        vf sum = get<part>(d.dbias + c, n);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) sum = sum + g[p];
        put<part>(d.dbias + c, sum, n);
    }
    const float* src = rows.src + c;
    float* row_sums = dweight + c;
    const int64_t inputs = source == same ? 1 : d.group, src_pixel = d.src_pixel;
    for (int64_t r = rows.count; r > 0; --r) {
        float* sums = row_sums;
        vi lanes = first_lanes(inputs);
        for (int64_t input = 0; input < inputs; ++input) {
            vf k[K];
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) k[i] = get<part>(sums + i * d.weight_tap, n);
            const float* pixel = src;
#pragma GCC unroll 32
            for (int q = 0; q < Q; ++q, step(pixel, src_pixel))
                if (there<part>(mask, q)) {
                    const vf x = take<source, part>(pixel, lanes, n);
#pragma GCC unroll 8
                    for (int p = 0; p < P; ++p)
                        if (q - p * S >= 0 && q - p * S < K)
                            k[q - p * S] = fma(x, g[p], k[q - p * S]);
                }
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) put<part>(sums + i * d.weight_tap, k[i], n);
            sums += K * d.weight_tap;
            lanes = lanes + 1;
        }
        src += rows.src_step;
        row_sums += rows.weight_step;
    }
}

template <Source source, int K, int S, int P>
void weight_tile(const DepthwiseWeightArgs& d, Rows rows, float* dweight, const float* grad,
                 int64_t p) {
    constexpr int Q = (P - 1) * S + K;
    const int64_t full = d.channels / VL * VL;
    const int64_t first = p * S - d.pad_left;
    const uint32_t mask = bits(-first, d.src_w - first) & bits(0, Q);
    rows.src += first * d.src_pixel;
    rows.ahead += p * S * d.src_pixel;
    grad += p * d.grad_pixel;
    if (mask == bits(0, Q))
        for (int64_t c = 0; c < full; c += VL)
            weight_vector<source, K, S, P, whole>(d, rows, dweight, mask, grad, c, VL);
    else
        for (int64_t c = 0; c < full; c += VL)
            weight_vector<source, K, S, P, edge>(d, rows, dweight, mask, grad, c, VL);
    if (full < d.channels)
        weight_vector<source, K, S, P, tail>(d, rows, dweight, mask, grad, full,
                                             static_cast<int>(d.channels - full));
}

template <Source source, int K, int S>
void weight(const DepthwiseWeightArgs& d) {
    const int64_t inputs = source == same ? 1 : d.group;
    const int64_t wide = d.grad_w % 8 == 0 || d.grad_w % 7 > 3 ? 8 : 7;
    for (int64_t h = d.row_begin; h < d.row_end; ++h) {
        const int64_t first = h * d.stride_h - d.pad_top;
        const RowRange range = kernel_rows(first, d.dilation_h, d.kernel_h, d.src_h);
        Rows rows{};
        rows.src_step = d.dilation_h * d.src_w * d.src_pixel;
        rows.src = d.src + (first + range.begin * d.dilation_h) * d.src_w * d.src_pixel;
        rows.weight_step = K * inputs * d.weight_tap;
        rows.count = range.end - range.begin;
        rows.ahead = d.src + (first + (d.kernel_h - 1) * d.dilation_h + 1) * d.src_w * d.src_pixel;
        float* dweight = d.dweight + range.begin * rows.weight_step;
        const float* grad = d.grad + h * d.grad_w * d.grad_pixel;
        int64_t p = 0;
        for (; p + wide <= d.grad_w; p += wide) {
            if (wide == 8)
                weight_tile<source, K, S, 8>(d, rows, dweight, grad, p);
            else
                weight_tile<source, K, S, 7>(d, rows, dweight, grad, p);
        }
        for (; p + 4 <= d.grad_w; p += 4) weight_tile<source, K, S, 4>(d, rows, dweight, grad, p);
        for (; p < d.grad_w; ++p) weight_tile<source, K, S, 1>(d, rows, dweight, grad, p);
    }
}

template <int NV>
inline __attribute__((always_inline)) void taps_vectors(const DepthwiseTapsArgs& d, int64_t c,
                                                        int last) {
    for (int64_t p = 0; p < d.pixels; ++p) {
        vf sum[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            sum[v] = zero();
            if (d.bias)
                sum[v] =
                    v == NV - 1 ? load_n(d.bias + c + v * VL, last) : load(d.bias + c + v * VL);
        }
        for (int64_t r = 0; r < d.row_count; ++r) {
            const float* s = d.src + d.row_src[r] + c;
            const float* w = d.weight + d.row_tap[r] * d.channels + c;
            for (int32_t q = d.column_begin[p]; q < d.column_begin[p + 1]; ++q) {
                const float* x = s + d.column_src[q] * d.src_pixel;
                const float* k = w + d.column_tap[q] * d.channels;
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) {
                    const bool partial = v == NV - 1;
                    const vf xv = partial ? load_n(x + v * VL, last) : load(x + v * VL);
                    const vf kv = partial ? load_n(k + v * VL, last) : load(k + v * VL);
                    sum[v] = fma(xv, kv, sum[v]);
                }
            }
        }
        float* y = d.dst + p * d.dst_pixel + c;
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            if (v == NV - 1)
                store_n(y + v * VL, sum[v], last);
            else
                store(y + v * VL, sum[v]);
        }
    }
}

}  // namespace

void depthwise(const DepthwiseArgs& d) {
    const bool two = d.stride_w == 2;
    switch (d.kernel_w) {
        case 3: two ? forward<same, 3, 2>(d) : forward<same, 3, 1>(d); break;
        case 5: two ? forward<same, 5, 2>(d) : forward<same, 5, 1>(d); break;
        default: two ? forward<same, 7, 2>(d) : forward<same, 7, 1>(d);
    }
    if (d.stream) stream_fence();
}

void depthwise_spread(const DepthwiseArgs& d) {
    switch (d.kernel_w) {
        case 3: spread<same, 3, 2>(d); break;
        case 5: spread<same, 5, 2>(d); break;
        default: spread<same, 7, 2>(d);
    }
    if (d.stream) stream_fence();
}

void depthwise_weight(const DepthwiseWeightArgs& d) {
    const bool two = d.stride_w == 2;
    switch (d.kernel_w) {
        case 3: return two ? weight<same, 3, 2>(d) : weight<same, 3, 1>(d);
        case 5: return two ? weight<same, 5, 2>(d) : weight<same, 5, 1>(d);
        default: return two ? weight<same, 7, 2>(d) : weight<same, 7, 1>(d);
    }
}

void grouped(const DepthwiseArgs& d) {
    return d.stride_w == 2 ? forward<group, 3, 2>(d) : forward<group, 3, 1>(d);
}

void grouped_spread(const DepthwiseArgs& d) { spread<group, 3, 2>(d); }

void grouped_weight(const DepthwiseWeightArgs& d) {
    return d.stride_w == 2 ? weight<group, 3, 2>(d) : weight<group, 3, 1>(d);
}

void depthwise_taps(const DepthwiseTapsArgs& d) {
    int64_t c = 0;
    for (; c + 4 * VL <= d.channels; c += 4 * VL) taps_vectors<4>(d, c, VL);
    for (; c < d.channels; c += VL) taps_vectors<1>(d, c, lanes_left(d.channels - c));
}

void depthwise_weight_tap(const DepthwiseWeightTapArgs& d) {
    for (int64_t c = 0; c < d.channels; c += VL) {
        const int n = lanes_left(d.channels - c);
        vf sum = load_n(d.dweight + c, n);
        for (int64_t p = 0; p < d.pixels; ++p)
            sum = fma(load_n(d.src + p * d.src_pixel + c, n),
                      load_n(d.grad + p * d.grad_pixel + c, n), sum);
        store_n(d.dweight + c, sum, n);
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
