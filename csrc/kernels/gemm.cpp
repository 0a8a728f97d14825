// Matrix product on packed panels: the one multiply-add loop of the engine.
//
//   C[i][j] = epilogue(sum_t sum_k A[taps[t] + i*a_row + k*a_depth] * B[t*depth + k][j])
//
// Method: a tile of MR rows x NV vectors of C stays in registers; per k, NV loads of B and MR
// broadcasts of A. A is read where it lies (any row and depth stride): convolutions pass pixels,
// weight gradients pass transposed operands, nothing is repacked. Rows are split evenly over tiles,
// so that no tile is left with a row or two. Registers: MR * NV sums + NV of B + 1 broadcast:
// AVX-512 14x2 = 31 of 32, 6x4 = 29; AVX2 6x2 = 15 of 16, 4x3 = 16. A's rows are addressed from
// ceil(MR / 3) base pointers as p, p + s, p + 2s (scaled addressing); one pointer per row would
// spill. Lost: 7x4 (33 registers, spills), packing A, unrolling 14x2 and 6x2 by four, fetching the
// next panel of B, or of few rows what lies ahead in it. On a Xeon whose multiply-adds alone run at
// 236 GFLOP/s on a core, tiles in cache reach 203 to 213, and the same loops in assembler 205 to
// 217: the clock falls with the loads.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"
#include "simd/tune.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// One step of the depth: every sum gains A(i) * B(v).
template <int MR, int NV>
ENGINE_INLINE void step_of_depth(const float* const* base, int64_t step, int u, const float* b,
                                 vf (&sum)[MR][NV]) {
    vf row[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) row[v] = load(b + v * VL);
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
        const vf x = set1(base[i / 3][(i % 3) * step + u]);
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) sum[i][v] = fma(x, row[v], sum[i][v]);
    }
}

// UNIT: A's depth stride is 1.
template <int MR, int NV, bool UNIT>
inline __attribute__((always_inline)) void tile(const GemmArgs& g, const float* a, float* c,
                                                const float* residual) {
    vf sum[MR][NV];
    const int last =
        static_cast<int>(g.columns - (NV - 1) * VL);  // columns in the last vector, 1 to VL
    if (g.accumulate) {
#pragma GCC unroll 16
        for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
            for (int v = 0; v < NV; ++v) {
                const float* p = c + i * g.c_row + v * VL;
                sum[i][v] = v == NV - 1 ? load_n(p, last) : load(p);
            }
        }
    } else {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            vf start = zero();
            if (g.bias) start = v == NV - 1 ? load_n(g.bias + v * VL, last) : load(g.bias + v * VL);
#pragma GCC unroll 16
            for (int i = 0; i < MR; ++i) sum[i][v] = start;
        }
    }

    constexpr int kUnroll = VL == 16 && MR * NV <= 24 ? 4 : 1;
    constexpr int kBases = (MR + 2) / 3;
    const int64_t step = g.a_row, depth_step = g.a_depth, b_step = g.b_row;
    const float* b = g.b;
    for (int64_t t = 0; t < g.tap_count; ++t) {
        const float* base[kBases];
#pragma GCC unroll 8
        for (int r = 0; r < kBases; ++r) base[r] = a + g.taps[t] + 3 * r * step;
        int64_t k = 0;
        if (UNIT) {
            const float* ahead = base[0] + MR * step;
            for (; k + kUnroll <= g.depth; k += kUnroll) {
#pragma GCC unroll 4
                for (int u = 0; u < kUnroll; ++u) {
                    step_of_depth<MR, NV>(base, step, u, b, sum);
                    __builtin_prefetch(ahead + u * MR);
                    b += b_step;
                }
                ahead += kUnroll * MR;
#pragma GCC unroll 8
                for (int r = 0; r < kBases; ++r) base[r] += kUnroll;
            }
        }
        for (; k < g.depth; ++k) {
            step_of_depth<MR, NV>(base, step, 0, b, sum);
#pragma GCC unroll 8
            for (int r = 0; r < kBases; ++r) base[r] += depth_step;
            b += b_step;
        }
    }

#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            vf y = sum[i][v];
            if (residual) {
                const float* p = residual + i * g.residual_row + v * VL;
                y = y + (v == NV - 1 ? load_n(p, last) : load(p));
            }
            if (g.activation == Activation::relu || g.activation == Activation::relu6)
                y = max(y, zero());
            if (g.activation == Activation::relu6) y = min(y, set1(6.0f));
            float* p = c + i * g.c_row + v * VL;
            if (g.stream)
                stream(p, y);
            else if (v == NV - 1)
                store_n(p, y, last);
            else
                store(p, y);
        }
    }
}

template <int MR, int NV>
void tile_function(const GemmArgs& g, const float* a, float* c, const float* residual) {
    if (g.a_depth == 1)
        tile<MR, NV, true>(g, a, c, residual);
    else
        tile<MR, NV, false>(g, a, c, residual);
}

using TileFunction = void (*)(const GemmArgs&, const float*, float*, const float*);

// Tiles of 1 to max rows for NV vectors; max is a register budget, see simd/tune.h.
template <int NV, int MR>
struct Rows {
    static TileFunction get(int rows) {
        return rows == MR ? &tile_function<MR, NV> : Rows<NV, MR - 1>::get(rows);
    }
};
template <int NV>
struct Rows<NV, 0> {
    static TileFunction get(int) { return nullptr; }
};

template <int NV, int MAX>
void panel(const GemmArgs& g) {
    const int64_t tiles = (g.rows + MAX - 1) / MAX;
    const int64_t base = g.rows / tiles, longer = g.rows % tiles;
    const TileFunction short_tile = Rows<NV, MAX>::get(static_cast<int>(base));
    const TileFunction long_tile =
        longer ? Rows<NV, MAX>::get(static_cast<int>(base + 1)) : short_tile;
    int64_t i = 0;
    for (int64_t t = 0; t < tiles; ++t) {
        const bool is_long = t < longer;
        (is_long ? long_tile : short_tile)(g, g.a + i * g.a_row, g.c + i * g.c_row,
                                           g.residual ? g.residual + i * g.residual_row : nullptr);
        i += base + (is_long ? 1 : 0);
    }
}

}  // namespace

void finish(const FinishArgs& f) {
    for (int64_t i = 0; i < f.rows; ++i) {
        float* y = f.y + i * f.row;
        const float* residual = f.residual ? f.residual + i * f.residual_row : nullptr;
        for (int64_t j = 0; j < f.columns; j += VL) {
            const int n = lanes_left(f.columns - j);
            vf value = load_some(y + j, n);
            if (f.scale) value = value * load_some(f.scale + j, n);
            if (f.bias) value = value + load_some(f.bias + j, n);
            if (residual) value = value + load_some(residual + j, n);
            store_some(y + j, activate(f.activation, value), n);
        }
    }
}

// Whether the tile's epilogue applies it; what takes many registers runs over the stored block.
ENGINE_INLINE bool in_registers(Activation a) { return a <= Activation::relu6; }

void gemm(const GemmArgs& g) {
    if (g.rows <= 0 || g.columns <= 0) return;
    switch (g.vectors) {
        case 1: panel<1, kRows1>(g); break;
        case 2: panel<2, kRows2>(g); break;
        case 3: panel<3, kRows3>(g); break;
        default: panel<4, kRows4>(g); break;
    }
    if (g.stream) stream_fence();
    if (!in_registers(g.activation))
        finish({g.c, g.c_row, g.rows, g.columns, nullptr, 0, g.activation, nullptr, nullptr});
}

namespace {

// d[j * d_row + i] = s[i * s_row + j] for i, j < 4; four floats are a vector everywhere.
ENGINE_INLINE void transpose4(const float* s, int64_t s_row, float* d, int64_t d_row) {
    typedef float Four __attribute__((vector_size(16), aligned(4)));
    const Four a = *reinterpret_cast<const Four*>(s);
    const Four b = *reinterpret_cast<const Four*>(s + s_row);
    const Four e = *reinterpret_cast<const Four*>(s + 2 * s_row);
    const Four f = *reinterpret_cast<const Four*>(s + 3 * s_row);
    const Four low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    const Four high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four low2 = __builtin_shufflevector(e, f, 0, 4, 1, 5);
    const Four high2 = __builtin_shufflevector(e, f, 2, 6, 3, 7);
    *reinterpret_cast<Four*>(d) = __builtin_shufflevector(low, low2, 0, 1, 4, 5);
    *reinterpret_cast<Four*>(d + d_row) = __builtin_shufflevector(low, low2, 2, 3, 6, 7);
    *reinterpret_cast<Four*>(d + 2 * d_row) = __builtin_shufflevector(high, high2, 0, 1, 4, 5);
    *reinterpret_cast<Four*>(d + 3 * d_row) = __builtin_shufflevector(high, high2, 2, 3, 6, 7);
}

}  // namespace

// In blocks of columns whose lines in dst stay in the first-level cache until all rows have been
// read.
void transpose(const TransposeArgs& t) {
    const int64_t rows = t.rows / 4 * 4, columns = t.columns / 4 * 4;
    for (int64_t first = 0; first < columns; first += 64) {
        const int64_t last = columns - first < 64 ? columns : first + 64;
        for (int64_t i = 0; i < rows; i += 4)
            for (int64_t j = first; j < last; j += 4)
                transpose4(t.src + i * t.src_row + j, t.src_row, t.dst + j * t.dst_row + i,
                           t.dst_row);
    }
    for (int64_t j = 0; j < t.columns; ++j)
        for (int64_t i = j < columns ? rows : 0; i < t.rows; ++i)
            t.dst[j * t.dst_row + i] = t.src[i * t.src_row + j];
}

void pack(const PackArgs& p) {
    const int64_t full = p.columns;
    if (p.source_column == 1) {
        for (int64_t q = 0; q < p.rows; ++q) {
            const float* s = p.source + q * p.source_row;
            float* d = p.panel + q * p.width;
            int64_t j = 0;
            for (; j + VL <= full; j += VL) store(d + j, load(s + j));
            if (j < full) {
                store(d + j, load_n(s + j, static_cast<int>(full - j)));  // zeros beyond
                j += VL;
            }
            for (; j < p.width; j += VL) store(d + j, zero());
        }
        return;
    }
    if (p.source_row == 1) {  // down columns that are contiguous in the source
        transpose({p.source, p.source_column, full, p.rows, p.panel, p.width});
        for (int64_t q = 0; q < p.rows; ++q)
            for (int64_t j = full; j < p.width; ++j) p.panel[q * p.width + j] = 0.0f;
        return;
    }
    for (int64_t q = 0; q < p.rows; ++q) {
        const float* s = p.source + q * p.source_row;
        float* d = p.panel + q * p.width;
        for (int64_t j = 0; j < full; ++j) d[j] = s[j * p.source_column];
        for (int64_t j = full; j < p.width; ++j) d[j] = 0.0f;
    }
}

void gather(const GatherArgs& g) {
    for (int64_t i = 0; i < g.count; ++i) {
        const float* s = g.rows[i] + g.offset;
        float* d = g.dst + i * g.pitch;
        int64_t j = 0;
        for (; j + VL <= g.columns; j += VL) store(d + j, load(s + j));
        if (j < g.columns) {
            const int n = static_cast<int>(g.columns - j);
            store_n(d + j, load_n(s + j, n), n);
        }
    }
}

namespace {

// Four sums per column, of every fourth row each, so that an addition need not wait for the last:
// the same order for every column, wherever it lies and whatever the vectors.
template <int kVectors>
ENGINE_INLINE void sum_columns(const ColumnSumArgs& s, int64_t j, int n) {
    const auto lanes = [&](int v) { return v + 1 < kVectors ? static_cast<int>(VL) : n; };
    vf sum[4][kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
        sum[0][v] = load_some(s.sums + j + v * VL, lanes(v));
        sum[1][v] = sum[2][v] = sum[3][v] = zero();
    }
    int64_t i = 0;
    for (; i + 4 <= s.rows; i += 4)
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                sum[k][v] =
                    sum[k][v] + load_some(s.source + (i + k) * s.row + j + v * VL, lanes(v));
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k)
        if (i + k < s.rows)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v)
                sum[k][v] =
                    sum[k][v] + load_some(s.source + (i + k) * s.row + j + v * VL, lanes(v));
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
        store_some(s.sums + j + v * VL, (sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v]),
                   lanes(v));
}

}  // namespace

void column_sum(const ColumnSumArgs& s) {
    int64_t j = 0;
    for (; j + 4 * VL <= s.columns; j += 4 * VL) sum_columns<4>(s, j, VL);
    for (; j < s.columns; j += VL) sum_columns<1>(s, j, lanes_left(s.columns - j));
}

namespace {

// R rows of w with C rows of x at a time. What is ahead in memory is fetched early: R streams at
// once are more than a core follows by itself.
template <int C, int R>
void dots(const DotRowsArgs& d, int64_t r) {
    constexpr int64_t kAhead = 512;
    vf sum[C][R];
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i)
#pragma GCC unroll 4
        for (int q = 0; q < R; ++q) sum[i][q] = zero();
    const float* w = d.w + r * d.w_row;
    for (int64_t k = 0; k < d.depth; k += VL) {
        const int n = lanes_left(d.depth - k);
        vf x[C];
#pragma GCC unroll 4
        for (int i = 0; i < C; ++i) x[i] = load_some(d.x + i * d.x_row + k, n);
#pragma GCC unroll 4
        for (int q = 0; q < R; ++q) {
            const vf row = load_some(w + q * d.w_row + k, n);
            __builtin_prefetch(w + q * d.w_row + k + kAhead, 0, 2);
#pragma GCC unroll 4
            for (int i = 0; i < C; ++i) sum[i][q] = fma(x[i], row, sum[i][q]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < C; ++i)
#pragma GCC unroll 4
        for (int q = 0; q < R; ++q) d.y[i * d.y_row + r + q] = reduce_add(sum[i][q]);
}

template <int C>
void dot_columns(const DotRowsArgs& d) {
    constexpr int R = kDots / C < 4 ? kDots / C : 4;
    int64_t r = 0;
    for (; r + R <= d.rows; r += R) dots<C, R>(d, r);
    for (; r < d.rows; ++r) dots<C, 1>(d, r);
}

}  // namespace

void dot_rows(const DotRowsArgs& d) {
    switch (d.count) {
        case 1: dot_columns<1>(d); break;
        case 2: dot_columns<2>(d); break;
        case 3: dot_columns<3>(d); break;
        default: dot_columns<4>(d); break;
    }
}

// A line of the image is read and written once for all lines of windows that lie on it. Windows
// that overlap do not follow each other, so that no load waits for the store before it.
void add_windows(const AddWindowsArgs& a) {
    constexpr int64_t kLines = 16;  // at most that many at once
    const int64_t window = a.lines * a.length, below = (a.lines - 1) * a.line_step;
    for (int64_t y = 0; y <= (a.rows - 1) * a.row_step + below; ++y) {
        float* line = a.dst + y * a.pitch;
        for (int64_t l = 0; l < a.lines;) {
            const float* source[kLines];
            int64_t count = 0;
            for (; l < a.lines && count < kLines; ++l) {
                const int64_t i = (y - l * a.line_step) / a.row_step;
                if (y < l * a.line_step || i >= a.rows || i * a.row_step + l * a.line_step != y)
                    continue;
                source[count++] = a.src + i * a.columns * window + l * a.length;
            }
            for (int64_t start = 0; count && start < a.apart && start < a.columns; ++start)
                for (int64_t j = start; j < a.columns; j += a.apart)
                    for (int64_t k = 0; k < a.length; k += VL) {
                        const int n = lanes_left(a.length - k);
                        float* d = line + j * a.column_step + k;
                        vf sum = load_some(d, n);
                        for (int64_t s = 0; s < count; ++s)
                            sum = sum + load_some(source[s] + j * window + k, n);
                        store_some(d, sum, n);
                    }
        }
    }
}

// 12 independent chains: enough to hide the latency of two multiply-add units on any CPU here.
void peak(const PeakArgs& p) {
    vf sum[12];
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) sum[i] = set1(static_cast<float>(i));
    vf x = set1(0.999f), y = set1(0.001f);
    for (int64_t r = 0; r < p.rounds; ++r) {
        asm volatile("" ::: "memory");
#pragma GCC unroll 12
        for (int i = 0; i < 12; ++i) sum[i] = fma(sum[i], x, y);
    }
    vf total = zero();
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) total = total + sum[i];
    *p.sink = reduce_add(total);
    *p.flops = 2.0 * 12 * VL * static_cast<double>(p.rounds);
}

}  // namespace ENGINE_ISA
}  // namespace engine
