// Depthwise convolution and its gradients.
//
//   dst[h][w][c] = bias[c] + sum_r sum_q src[h * stride + r][w * stride + q][c] * weight[r][q][c]
//
// Method: vectors over channels. A tile is P neighbouring pixels of a row; for one vector of
// channels it holds P sums and the weights of one kernel row in registers, and a source pixel,
// loaded once, serves every sum it reaches. Source columns beyond the image are skipped by a bit
// mask, which only pixels within a kernel's width of a tile's ends are asked for, rows by the range
// of kernel rows, so nothing is copied and no product with padding is computed. Tiles go down a
// column of a block of rows, some channels at a time, so that a source row read for one row of
// tiles is in the first-level cache for the next; the block and what it writes stay in the second.
// depthwise_spread (input gradient of a stride of 2) is the same tile seen from the other side: a
// tile of the wide side, whose sums are reached by alternating kernel columns. The weight gradient
// holds P gradients in registers and the sums of one kernel row. Grouped convolution with groups
// narrower than a vector is the same again, once per input channel of the group: a permutation
// brings channel i of every lane's group to that lane, so no lane idles.
// Registers: P sums, K weights, one source pixel: 8 + 7 + 1 = 16, or 14 + 7 + 1 = 22 of 32.
//
// Measured on two Xeon cores with AVX-512 (58 GB/s of lines into the second-level caches, a copy's
// writes counted once, whatever the instructions), batch 16, ms, by rows and columns of tiles: 240
// channels at 28x28, 5x5: 0.81, 0.63; 96 at 56x56, 7x7: 2.06, 1.61; input gradient of 144 at
// 56x56, 5x5, stride 2: 1.50, 0.80; input gradient of 96 at 112x112, 3x3, stride 2, by tiles of 14
// and of 8: 2.55, 2.10. Maps of 3x3 are near the memory's time (most 1.05 to 1.3). Lost: storing
// past the caches below 32 MiB (32 at 112x112: 1.22 times the memory's time, 1.03); fetching 56
// source lines at a time for stride 2 (192 at 28x28: 1.22, 1.05); 14 pixels for 3x3 of stride 2;
// the weight gradient with all the sums in registers down a column of one vector (960 at 7x7,
// 3x3: 1.26 times the memory's time, 1.07); blocks of 32 channels on maps of 56x56; for groups of
// whole vectors, one broadcast input channel per tile and K products (24 per group at 28x28: 5.6,
// the matrix product 4.1).
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"
#include "simd/tune.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// Pixels of the widest tile.
constexpr int kMostPixels = kRegisters == 32 ? 14 : 8;

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
// Pixels side by side of a row, and the bits that say which are inside the image. Distance and bits
// are hidden from the compiler, which would rather keep one of each for every pixel of the tile
// than compute them, and reload them from the stack all the time.
struct Pixels {
    const float* base;
    int64_t pixel;
    uint32_t mask;
    inline __attribute__((always_inline)) Pixels(const float* row, int64_t distance, uint32_t bits)
        : base(row), pixel(distance), mask(bits) {
        asm("" : "+r"(pixel), "+r"(mask));
    }
    inline __attribute__((always_inline)) const float* at(int q) const {
        return base + q % 5 * pixel;
    }
    // After pixel q.
    inline __attribute__((always_inline)) void step(int q) {
        if (q % 5 != 4) return;
        base += 5 * pixel;
        asm("" : "+r"(base));
    }
};
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
};

// What the next block of rows reads and writes, in the order of memory: a piece of it is brought
// into the second-level cache with every vector that is computed.
struct Ahead {
    const float* src;
    const float* dst;
    template <int sources>
    inline __attribute__((always_inline)) void read() {
#pragma GCC unroll 64
        for (int i = 0; i < sources * VL; i += 16) __builtin_prefetch(src + i, 0, 2);
        src += sources * VL;
    }
    template <int results, int write>
    inline __attribute__((always_inline)) void next() {
#pragma GCC unroll 16
        for (int i = 0; i < results * VL; i += 16) __builtin_prefetch(dst + i, write, 2);
        dst += results * VL;
    }
};

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

// Where the block after d's rows begins, whose first source row not read yet is `row`.
inline Ahead below(const DepthwiseArgs& d, int64_t row) {
    if (row > d.src_h) row = d.src_h;
    return {d.src + row * d.src_w * d.src_pixel, d.dst + d.row_end * d.dst_w * d.dst_pixel};
}

// Adds to P sums what Q source pixels side by side carry to them over some rows, one vector of
// channels: pixel q meets sum p through kernel column Tap(p, q) = OfP * p + OfQ * q + First. Pixels
// before `begin` and from `end` on are inside the image, others where their bit of the mask is set.
template <Source source, int K, int P, int Q, int OfP, int OfQ, int First, int Begin, int End,
          Part part>
inline __attribute__((always_inline)) void accumulate(const DepthwiseArgs& d, const Rows& rows,
                                                      uint32_t mask, int64_t c, int n,
                                                      vf (&sum)[P]) {
    const float* src = rows.src + c;
    const float* weight_row = rows.weight + c;
    const int64_t inputs = source == same ? 1 : d.group;
    for (int64_t r = rows.count; r > 0; --r) {
        const float* weight = weight_row;
        vi lanes = first_lanes(inputs);
        for (int64_t input = 0; input < inputs; ++input) {
            vf k[K];
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) k[i] = get<part>(weight + i * d.weight_tap, n);
            Pixels pixels(src, d.src_pixel, mask);
#pragma GCC unroll 48
            for (int q = 0; q < Q; pixels.step(q), ++q)
                if ((q >= Begin && q < End) || there<part>(pixels.mask, q)) {
                    const vf x = take<source, part>(pixels.at(q), lanes, n);
#pragma GCC unroll 16
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

// How many channels are taken at a time on the way down a column of tiles: what the kernel's rows
// and weights take of the first-level cache is still there for the next row.
inline int64_t channel_block(int64_t kernel_h, int64_t floats_per_row) {
    const int64_t block = (int64_t{7} << 10) / (kernel_h * floats_per_row) / VL * VL;
    return block < 2 * VL ? 2 * VL : block;
}

// The pixels per tile, of those compiled, that covers a row with the least work; the last tile is
// moved back over the one before it, unless the row is narrower than a tile.
inline int best_pixels(int64_t width, int most) {
    if (width < 4) return 1;
    const struct {
        int pixels, cost;
    } tiles[] = {{7, 9}, {8, 10}, {14, 15}};
    int best = 4;
    int64_t least = (width + 3) / 4 * 6;
    for (const auto& tile : tiles) {
        const int64_t cost = (width + tile.pixels - 1) / tile.pixels * tile.cost;
        if (tile.pixels <= width && tile.pixels <= most && cost <= least)
            least = cost, best = tile.pixels;
    }
    return best;
}

// P outputs side by side, one vector of channels. rows.src: column 0 of the tile, which may lie
// outside the image.
template <Source source, int K, int S, int P, Part part>
inline __attribute__((always_inline)) void forward_vector(const DepthwiseArgs& d, const Rows& rows,
                                                          uint32_t mask, float* dst, int64_t c,
                                                          int n) {
    constexpr int Q = (P - 1) * S + K;
    vf sum[P];
    const vf start = d.bias ? get<part>(d.bias + c, n) : zero();
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[p] = start;
    accumulate<source, K, P, Q, -S, 1, 0, K - 1, Q - K + 1, part>(d, rows, mask, c, n, sum);
    const bool relu = d.activation == Activation::relu || d.activation == Activation::relu6;
    if (relu && !d.residual) {
        const vf limit = set1(d.activation == Activation::relu ? __builtin_inff() : 6.0f);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum[p] = min_raw(limit, max_raw(zero(), sum[p]));
    }
    if (part != tail && d.stream) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) stream(dst + p * d.dst_pixel + c, sum[p]);
        return;
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) put<part>(dst + p * d.dst_pixel + c, sum[p], n);
    if (d.residual || (!relu && d.activation != Activation::none)) finish_pixels(d, dst, P, c, n);
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

// Calls f(channel, lanes, part) for channels [begin, end): whole vectors, then the rest.
template <Part part>
struct As {
    static constexpr Part value = part;
};
template <int pixels, class F>
inline __attribute__((always_inline)) void over_vectors(int64_t begin, int64_t end, bool inside,
                                                        F f) {
    int64_t c = begin;
    if (pixels > 4 && inside)
        for (; c + VL <= end; c += VL) f(c, VL, As<whole>());
    else
        for (; c + VL <= end; c += VL) f(c, VL, As<edge>());
    if (c < end) f(c, static_cast<int>(end - c), As<tail>());
}

template <Source source, int K, int S, int P>
void forward_columns(const DepthwiseArgs& d) {
    constexpr int Q = (P - 1) * S + K;
    const int64_t inputs = source == same ? 1 : d.group, src_row = d.src_w * d.src_pixel;
    const int64_t block = channel_block(d.kernel_h, Q + K * inputs);
    Ahead ahead =
        below(d, (d.row_end - 1) * d.stride_h - d.pad_top + (d.kernel_h - 1) * d.dilation_h + 1);
    for (int64_t next = 0; next < d.dst_w; next += P) {
        const int64_t p = next + P <= d.dst_w ? next : d.dst_w - P;
        const int64_t left = p * S - d.pad_left;
        const uint32_t mask = bits(-left, d.src_w - left) & bits(0, Q);
        for (int64_t begin = 0; begin < d.channels; begin += block) {
            const int64_t end = begin + block < d.channels ? begin + block : d.channels;
            for (int64_t h = d.row_begin; h < d.row_end; ++h) {
                const int64_t first = h * d.stride_h - d.pad_top;
                const RowRange range = kernel_rows(first, d.dilation_h, d.kernel_h, d.src_h);
                Rows rows;
                rows.src_step = d.dilation_h * src_row;
                rows.src =
                    d.src + (first + range.begin * d.dilation_h) * src_row + left * d.src_pixel;
                rows.weight_step = K * inputs * d.weight_tap;
                rows.weight = d.weight + range.begin * rows.weight_step;
                rows.count = range.end - range.begin;
                float* dst = d.dst + (h * d.dst_w + p) * d.dst_pixel;
                over_vectors<P>(begin, end, mask == bits(0, Q), [&](int64_t c, int n, auto part) {
                    if (d.fetch_ahead) ahead.read<P * S * S>();
                    if (d.fetch_results) ahead.next<P, 1>();
                    forward_vector<source, K, S, P, decltype(part)::value>(d, rows, mask, dst, c,
                                                                           n);
                });
            }
        }
    }
}

template <Source source, int K, int S>
void forward(const DepthwiseArgs& d) {
    switch (best_pixels(d.dst_w, K == 3 && S == 2 ? 8 : kMostPixels)) {
        case 14: return forward_columns<source, K, S, kMostPixels>(d);
        case 8: return forward_columns<source, K, S, 8>(d);
        case 7: return forward_columns<source, K, S, 7>(d);
        case 4: return forward_columns<source, K, S, 4>(d);
        default: return forward_columns<source, K, S, 1>(d);
    }
}

// P outputs side by side of the input gradient, the first of them Phase after one that kernel
// column 0 carries to, one vector of channels. Output p is reached by source pixel q of the tile
// through kernel column p + Phase + S * (Before - q).
template <Source source, int K, int S, int P, int Phase, Part part>
inline __attribute__((always_inline)) void spread_vector(const DepthwiseArgs& d, const Rows& rows,
                                                         uint32_t mask, float* dst, int64_t c,
                                                         int n) {
    constexpr int Before = (K - 1) / S, Q = Before + (P - 1 + Phase) / S + 1;
    vf sum[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) sum[p] = zero();
    accumulate<source, K, P, Q, 1, -S, Before * S + Phase, 0, 0, part>(d, rows, mask, c, n, sum);
    if (part != tail && d.stream) {
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) stream(dst + p * d.dst_pixel + c, sum[p]);
        return;
    }
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) put<part>(dst + p * d.dst_pixel + c, sum[p], n);
}

// One column of tiles from output w on.
template <Source source, int K, int S, int P, int Phase>
void spread_column(const DepthwiseArgs& d, int64_t w, Ahead& ahead) {
    constexpr int Before = (K - 1) / S, Q = Before + (P - 1 + Phase) / S + 1;
    const int64_t inputs = source == same ? 1 : d.group, src_row = d.src_w * d.src_pixel;
    const int64_t left = (w + d.pad_left - Phase) / S - Before;
    const uint32_t mask = bits(-left, d.src_w - left) & bits(0, Q);
    const int64_t block = channel_block(d.kernel_h, Q + K * inputs);
    for (int64_t begin = 0; begin < d.channels; begin += block) {
        const int64_t end = begin + block < d.channels ? begin + block : d.channels;
        for (int64_t h = d.row_begin; h < d.row_end; ++h) {
            // Kernel rows r, r + stride, ... come from source rows i, i - 1, ...
            const int64_t reach = h + d.pad_top;
            int64_t r = reach % d.stride_h, i = reach / d.stride_h;
            if (i >= d.src_h) {
                r += (i - d.src_h + 1) * d.stride_h;
                i = d.src_h - 1;
            }
            Rows rows;
            rows.src_step = -src_row;
            rows.src = d.src + i * src_row + left * d.src_pixel;
            rows.weight_step = d.stride_h * K * inputs * d.weight_tap;
            rows.weight = d.weight + r * K * inputs * d.weight_tap;
            rows.count = r < d.kernel_h ? (d.kernel_h - r + d.stride_h - 1) / d.stride_h : 0;
            if (rows.count > i + 1) rows.count = i + 1;
            float* dst = d.dst + (h * d.dst_w + w) * d.dst_pixel;
            over_vectors<P>(begin, end, mask == bits(0, Q), [&](int64_t c, int n, auto part) {
                if (d.fetch_ahead) ahead.read<(P + 3) / 4>();
                if (d.fetch_results) ahead.next<P, 1>();
                spread_vector<source, K, S, P, Phase, decltype(part)::value>(d, rows, mask, dst, c,
                                                                             n);
            });
        }
    }
}

template <Source source, int K, int S, int P>
void spread_columns(const DepthwiseArgs& d) {
    Ahead ahead = below(d, (d.row_end - 1 + d.pad_top) / d.stride_h + 1);
    for (int64_t next = 0; next < d.dst_w; next += P) {
        const int64_t w = next + P <= d.dst_w ? next : d.dst_w - P;
        if ((w + d.pad_left) % S == 0)
            spread_column<source, K, S, P, 0>(d, w, ahead);
        else
            spread_column<source, K, S, P, 1>(d, w, ahead);
    }
}

template <Source source, int K, int S>
void spread(const DepthwiseArgs& d) {
    // Past the caches fewer lines at a time are on their way.
    switch (best_pixels(d.dst_w, d.stream ? 8 : kMostPixels)) {
        case 14: return spread_columns<source, K, S, kMostPixels>(d);
        case 8: return spread_columns<source, K, S, 8>(d);
        case 7: return spread_columns<source, K, S, 7>(d);
        case 4: return spread_columns<source, K, S, 4>(d);
        default: return spread_columns<source, K, S, 1>(d);
    }
}

// P gradients side by side, one vector of channels. rows.weight: their distance and number only;
// dweight: the sums that the first of the rows adds to.
template <Source source, int K, int S, int P, Part part>
inline __attribute__((always_inline)) void weight_vector(const DepthwiseWeightArgs& d,
                                                         const Rows& rows, float* dweight,
                                                         uint32_t mask, const float* grad,
                                                         int64_t c, int n) {
    constexpr int Q = (P - 1) * S + K;
    vf g[P];
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) g[p] = get<part>(grad + p * d.grad_pixel + c, n);
    if (d.dbias) {
        vf sum = get<part>(d.dbias + c, n);
#pragma GCC unroll 16
        for (int p = 0; p < P; ++p) sum = sum + g[p];
        put<part>(d.dbias + c, sum, n);
    }
    const float* src = rows.src + c;
    float* row_sums = dweight + c;
    const int64_t inputs = source == same ? 1 : d.group;
    for (int64_t r = rows.count; r > 0; --r) {
        float* sums = row_sums;
        vi lanes = first_lanes(inputs);
        for (int64_t input = 0; input < inputs; ++input) {
            vf k[K];
#pragma GCC unroll 8
            for (int i = 0; i < K; ++i) k[i] = get<part>(sums + i * d.weight_tap, n);
            Pixels pixels(src, d.src_pixel, mask);
#pragma GCC unroll 48
            for (int q = 0; q < Q; pixels.step(q), ++q)
                if ((q >= K - 1 && q < Q - K + 1) || there<part>(pixels.mask, q)) {
                    const vf x = take<source, part>(pixels.at(q), lanes, n);
#pragma GCC unroll 16
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
                 int64_t p, int64_t begin, int64_t end, Ahead* ahead) {
    constexpr int Q = (P - 1) * S + K;
    const int64_t left = p * S - d.pad_left;
    const uint32_t mask = bits(-left, d.src_w - left) & bits(0, Q);
    rows.src += left * d.src_pixel;
    over_vectors<P>(begin, end, mask == bits(0, Q), [&](int64_t c, int n, auto part) {
        if (ahead) {
            ahead->read<P * S * S>();
            ahead->next<P, 0>();
        }
        weight_vector<source, K, S, P, decltype(part)::value>(d, rows, dweight, mask,
                                                              grad + p * d.grad_pixel, c, n);
    });
}

// Rows, tiles, channels: the sums, which every tile adds to, would be read again for each column of
// tiles. Channels are cut where a kernel's rows of some of them fit the first-level cache; wider
// maps are read in longer runs, and fetched a row ahead.
template <Source source, int K, int S>
void weight(const DepthwiseWeightArgs& d) {
    const int64_t inputs = source == same ? 1 : d.group, src_row = d.src_w * d.src_pixel;
    const int64_t fitting = channel_block(d.kernel_h, d.src_w);
    const int64_t block = fitting >= 64 ? fitting : d.channels;
    const bool narrow = d.grad_w % 8 != 0 && d.grad_w % 7 <= 3;
    for (int64_t begin = 0; begin < d.channels; begin += block) {
        const int64_t end = begin + block < d.channels ? begin + block : d.channels;
        for (int64_t h = d.row_begin; h < d.row_end; ++h) {
            const int64_t first = h * d.stride_h - d.pad_top;
            const RowRange range = kernel_rows(first, d.dilation_h, d.kernel_h, d.src_h);
            Rows rows{};
            rows.src_step = d.dilation_h * src_row;
            rows.src = d.src + (first + range.begin * d.dilation_h) * src_row;
            rows.weight_step = K * inputs * d.weight_tap;
            rows.count = range.end - range.begin;
            float* dweight = d.dweight + range.begin * rows.weight_step;
            const float* grad = d.grad + h * d.grad_w * d.grad_pixel;
            int64_t below = first + (d.kernel_h - 1) * d.dilation_h + 1;
            if (below > d.src_h) below = d.src_h;
            Ahead next{d.src + below * src_row, grad + d.grad_w * d.grad_pixel};
            Ahead* ahead = d.fetch_ahead && fitting < 64 ? &next : nullptr;
            int64_t p = 0;
            if (kMostPixels > 8 && S == 1)
                for (; p + kMostPixels <= d.grad_w; p += kMostPixels)
                    weight_tile<source, K, S, kMostPixels>(d, rows, dweight, grad, p, begin, end,
                                                           ahead);
            for (; !narrow && p + 8 <= d.grad_w; p += 8)
                weight_tile<source, K, S, 8>(d, rows, dweight, grad, p, begin, end, ahead);
            for (; narrow && p + 7 <= d.grad_w; p += 7)
                weight_tile<source, K, S, 7>(d, rows, dweight, grad, p, begin, end, ahead);
            for (; p + 4 <= d.grad_w; p += 4)
                weight_tile<source, K, S, 4>(d, rows, dweight, grad, p, begin, end, ahead);
            for (; p < d.grad_w; ++p)
                weight_tile<source, K, S, 1>(d, rows, dweight, grad, p, begin, end, ahead);
        }
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
