// Products on matrix tiles (AMX): a float is the sum of three bfloat16, h + m + l, each the rounded
// rest of those before, and holds all 24 bits in them. Of the nine products of parts, h*h, h*m,
// m*h, m*m, h*l and l*h are added up in floats; what m*l, l*m and l*l would add lies below the last
// bit. The error is that of a float sum or smaller (tests/split.cpp), at six tile products of 16 x
// 16 x 32 in 96 cycles: 2.6 times the multiply-adds of two AVX-512 units. Source of the method: G.
// Henry, P. T. P. Tang, A. Heinecke, "Leveraging the bfloat16 Artificial Intelligence Datatype for
// Higher-Precision Computations", ARITH 2019.
//
// 2 x 2 tiles of C, two of the left and two of the right factor fill the eight tile registers.
// Seven pairs of loads serve the six products of parts; each is used twice at once.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// Sixteen vectors of each part.
struct Parts {
    __m512i part[3][16];
};

// parts[p]: in the low halves part p of a's sixteen numbers, in the high halves of b's. Rounding
// adds half of the last bit that stays; what is left for the third part has no more than eight
// bits. bad turns NaN when a number is not finite or rounds to infinity: its rest is not finite.
ENGINE_INLINE void split_pair(vf a, vf b, __m512i (&parts)[3], vf& bad) {
    const __m512i half = _mm512_set1_epi32(0x8000), upper = _mm512_set1_epi32(-0x10000);
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
        const __m512i x = _mm512_add_epi32(_mm512_castps_si512(a), half);
        const __m512i y = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(b), half), upper);
        parts[p] = _mm512_or_si512(_mm512_srli_epi32(x, 16), y);
        a = a - _mm512_castsi512_ps(_mm512_and_si512(x, upper));
        b = b - _mm512_castsi512_ps(y);
        if (p == 0) bad = fma(b, zero(), fma(a, zero(), bad));
    }
    parts[2] = _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(a), 16),
                               _mm512_and_si512(_mm512_castps_si512(b), upper));
}

// The 16 x 16 matrix of dwords, transposed.
ENGINE_INLINE void transpose16(__m512i (&r)[16]) {
    __m512i t[16];
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

ENGINE_INLINE void store_transposed(__m512i (&rows)[16], char* tile) {
    transpose16(rows);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_store_si512(tile + i * 64, rows[i]);
}

// Lines as rows of the source: sixteen lines, 32 of their depth.
ENGINE_INLINE void split_lines(const SplitArgs& s, int64_t line, int64_t k, char* tile, vf& bad) {
    const int n = static_cast<int>(s.length - k < 32 ? s.length - k : 32);
    const int low = n < 16 ? n : 16;
    Parts turned;
    for (int i = 0; i < 16; ++i) {
        __m512i parts[3];
        if (line + i < s.count) {
            const float* row = s.rows[line + i] + s.first + k;
            if (n == 32)
                split_pair(load(row), load(row + 16), parts, bad);
            else
                split_pair(load_n(row, low), load_n(row + low, n - low), parts, bad);
        } else {
            parts[0] = parts[1] = parts[2] = _mm512_setzero_si512();
        }
#pragma GCC unroll 3
        for (int p = 0; p < 3; ++p)
            if (s.right)
                turned.part[p][i] = parts[p];
            else
                _mm512_store_si512(tile + p * kSplitPart + i * 64, parts[p]);
    }
    if (s.right)
        for (int p = 0; p < 3; ++p) store_transposed(turned.part[p], tile + p * kSplitPart);
}

// Depths as rows of the source: 32 depths, sixteen of their lines. Done in units of about 100
// instructions, small enough to stand between two products: four times four pairs of depths, then,
// for the left factor, three transposes.
constexpr int kPairUnits = 4, kTurnUnits = 3;

// Pairs [first, first + 4) of a step: rows[i] and rows[i + 16], `n` numbers from `offset` on;
// `there` rows are there.
template <bool WHOLE>
ENGINE_INLINE void split_pairs(const SplitArgs& s, const float* const* rows, int64_t offset, int n,
                               int64_t there, int first, char* tile, Parts& turned, vf& bad) {
    const bool right = s.right;
    vf spoiled = bad;
#pragma GCC unroll 4
    for (int i = first; i < first + 4; ++i) {
        vf pair[2];
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) {
            const int64_t row = i + 16 * j;
            if (WHOLE)
                pair[j] = load(rows[row] + offset);
            else
                pair[j] = row < there ? load_some(rows[row] + offset, n) : zero();
        }
        __m512i parts[3];
        split_pair(pair[0], pair[1], parts, spoiled);
#pragma GCC unroll 3
        for (int p = 0; p < 3; ++p)
            if (right)
                _mm512_store_si512(tile + p * kSplitPart + i * 64, parts[p]);
            else
                turned.part[p][i] = parts[p];
    }
    bad = spoiled;
}

ENGINE_INLINE void split_unit(const SplitArgs& s, int64_t line, int64_t k, int unit, char* tile,
                              Parts& turned, vf& bad) {
    if (unit >= kPairUnits) {
        const int p = unit - kPairUnits;
        store_transposed(turned.part[p], tile + p * kSplitPart);
        return;
    }
    const float* const* rows = s.rows + k;
    const int64_t rest = s.length - line, there = s.count - k, offset = s.first + line;
    if (rest >= VL && there >= kSplitDepth)
        split_pairs<true>(s, rows, offset, VL, there, 4 * unit, tile, turned, bad);
    else
        split_pairs<false>(s, rows, offset, rest < 0 ? 0 : lanes_left(rest), there, 4 * unit, tile,
                           turned, bad);
}

struct TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The tile instructions of GCC's headers are assembler statements that say nothing about memory.
ENGINE_INLINE void fence() { asm volatile("" ::: "memory"); }

ENGINE_INLINE void multiply_tiles() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

// Where a product finds the two tiles of its left factor: in a panel, or in cells.
struct PanelRows {
    const char* step;
    template <int PART>
    inline __attribute__((always_inline)) void load() const {
        _tile_loadd(4, step + PART * kSplitPart, 64);
        _tile_loadd(5, step + PART * kSplitPart + 1024, 64);
    }
    void next() { step += kSplitStep; }
};

struct CellRows {
    const char* first[2];
    const int64_t* step;
    int64_t part, pitch;
    template <int PART>
    inline __attribute__((always_inline)) void load() const {
        _tile_loadd(4, first[0] + *step + PART * part, pitch);
        _tile_loadd(5, first[1] + *step + PART * part, pitch);
    }
    void next() { ++step; }
};

template <int PART>
ENGINE_INLINE void load_right(const char* step) {
    _tile_loadd(6, step + PART * kSplitPart, 64);
    _tile_loadd(7, step + PART * kSplitPart + 1024, 64);
}

// Work for the vector units and the memory beside the tile unit: pieces of it are done between the
// products of tiles, few at a time, or the processor would not see the next products early enough.
struct Splitting {
    const float* const* lines;  // of the panel, `pitch` pointers from tap to tap
    int64_t pitch, count, tap_depth;
    char* panel;
    int64_t units;  // that are left; one is 32 numbers of a line
    int64_t steps;  // of a line
    // The next piece, and how many after it follow in memory, itself counted.
    const float* from;
    char* to;
    int64_t run;
    int64_t line, tap;
    const float *scale, *shift;  // of the next piece, or null
    Activation before;
    bool whole;  // no line and no number is missing
    vf bad;
};

__attribute__((noinline)) void next_run(Splitting& b) {
    const int64_t tap_steps = (b.tap_depth + kSplitDepth - 1) / kSplitDepth;
    if ((b.tap + 1) * tap_steps < b.steps)
        ++b.tap;
    else
        ++b.line, b.tap = 0;
    if (b.line < b.count) b.from = b.lines[b.tap * b.pitch + b.line];
    b.to = b.panel + b.tap * tap_steps * kSplitStep + b.line * 64;
    b.run = tap_steps;
    if (b.scale) b.scale -= tap_steps * kSplitDepth, b.shift -= tap_steps * kSplitDepth;
}

ENGINE_INLINE vf prepared(const Splitting& b, vf x, int64_t at, int n) {
    if (!b.scale) return x;
    return activate(b.before, fma(x, load_some(b.scale + at, n), load_some(b.shift + at, n)));
}

ENGINE_INLINE void split_piece(Splitting& b) {
    __m512i parts[3];
    const int64_t n = b.whole || b.run > 1 ? 32 : b.tap_depth % 32 ? b.tap_depth % 32 : 32;
    if (b.line >= b.count) {
        parts[0] = parts[1] = parts[2] = _mm512_setzero_si512();
    } else {
        const int low = static_cast<int>(n < 16 ? n : 16), high = static_cast<int>(n) - low;
        const vf x = load_some(b.from, low);
        const vf y = high == VL ? load(b.from + VL) : load_n(b.from + low, high);
        split_pair(prepared(b, x, 0, low), prepared(b, y, low, high), parts, b.bad);
    }
#pragma GCC unroll 3
    for (int p = 0; p < 3; ++p) _mm512_store_si512(b.to + p * kSplitPart, parts[p]);
    b.from += kSplitDepth;
    b.to += kSplitStep;
    if (b.scale) b.scale += kSplitDepth, b.shift += kSplitDepth;
    if (--b.units && --b.run == 0) next_run(b);
}

// Lines of a panel that begins at line `from` of so many.
ENGINE_INLINE int64_t lines_from(int64_t count, int64_t from) {
    return count - from < kSplitLines ? count - from : kSplitLines;
}

void start_splitting(const SplitStreamArgs& g, int64_t row, Splitting& b) {
    b.lines = g.lines + row;
    b.pitch = g.rows;
    b.count = lines_from(g.rows, row);
    b.tap_depth = g.tap_depth;
    b.panel = g.left + row / kSplitLines % 2 * g.steps * kSplitStep;
    b.steps = g.steps;
    b.units = kSplitLines * g.steps;
    b.whole = g.tap_depth % kSplitDepth == 0;
    b.line = -1;
    b.tap = g.steps;
    b.scale = b.shift = nullptr;
    next_run(b);
    b.scale = g.scale, b.shift = g.shift, b.before = g.before;
}

// Panels to be split by depth, unit by unit.
struct SplittingDepths {
    const SplitArgs* job;
    int64_t units;  // that are left, of all jobs
    int64_t line, k;
    int unit;
    Parts turned;
    vf bad;
    // Rows to be fetched, so many lines after each four tiles; the next line of all.
    const SplitProductArgs::Rows* later;
    int64_t lists, lines, row, line_of_row;
};

__attribute__((noinline)) void fetch_lines(SplittingDepths& b) {
    for (int64_t i = 0; i < b.lines && b.lists; ++i) {
        __builtin_prefetch(b.later->rows[b.row] + b.line_of_row * 16, 0, 2);
        if (++b.line_of_row < b.later->lines) continue;
        b.line_of_row = 0;
        if (++b.row < b.later->count) continue;
        b.row = 0;
        ++b.later, --b.lists;
    }
}

ENGINE_INLINE int64_t units_of(const SplitArgs& s) {
    return (s.count + kSplitDepth - 1) / kSplitDepth * 2 *
           (s.right ? kPairUnits : kPairUnits + kTurnUnits);
}

ENGINE_INLINE void split_piece(SplittingDepths& b) {
    const SplitArgs& s = *b.job;
    char* tile = static_cast<char*>(s.panel) + b.k / kSplitDepth * kSplitStep + b.line * 64;
    split_unit(s, b.line, b.k, b.unit, tile, b.turned, b.bad);
    --b.units;
    if (++b.unit < (s.right ? kPairUnits : kPairUnits + kTurnUnits)) return;
    b.unit = 0;
    b.line += 16;
    if (b.line < kSplitLines) return;
    b.line = 0;
    b.k += kSplitDepth;
    if (b.k < s.count) return;
    b.k = 0;
    ++b.job;
}

// What a product does with its sums: those of each of the two tiles of rows, 32 columns.
struct Half {
    float* c;
    const float* residual;  // or null
    int64_t rows;           // that are wanted
};
struct Target {
    Half half[2];
    int64_t c_row, columns;
    bool whole;       // all rows of the tiles and all columns are wanted
    bool accumulate;  // start from C
    Activation activation;
    const float* bias;
    int64_t residual_row;
    Half ahead[2];  // of the next product, fetched meanwhile; no C where it stays in the caches
};

// The right factor's way from memory, a kibibyte at a time.
struct Fetching {
    const char* next;
    int64_t units;
};

ENGINE_INLINE void split_piece(Fetching& b) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) __builtin_prefetch(b.next + i * 64, 0, 2);
    b.next += 1024;
    --b.units;
}

template <class Other>
ENGINE_INLINE void fetch_later(Other&) {}

ENGINE_INLINE void fetch_later(SplittingDepths& b) {
    if (b.lists) fetch_lines(b);
}

template <class Other>
ENGINE_INLINE void work(Other& other, int64_t units) {
    for (int64_t i = 0; i < units && other.units; ++i) split_piece(other);
    fetch_later(other);
}

// After each four tiles so many units of the other work are done.
template <class Left, class Other>
ENGINE_INLINE void product_tile(Left left, const char* right, int64_t steps, const Target& t,
                                Other& other, int64_t units) {
    const int64_t row_bytes = t.c_row * static_cast<int64_t>(sizeof(float));
    float *c0 = t.half[0].c, *c1 = t.half[1].c;
    Half ahead[2] = {t.ahead[0], t.ahead[1]};
    const int64_t fetches = (16 + 6 * steps - 1) / (6 * steps);
    int64_t unfetched = ahead[0].c ? 16 : 0;
    // Without it a line of C that is not in the caches is waited for when the tile is stored.
    const auto fetch_row = [&](Half& h) __attribute__((always_inline)) {
        __builtin_prefetch(h.c, 1);
        __builtin_prefetch(h.c + 16, 1);
        h.c += t.c_row;
        if (!h.residual) return;
        __builtin_prefetch(h.residual);
        __builtin_prefetch(h.residual + 16);
        h.residual += t.residual_row;
    };
    const auto beside = [&]() __attribute__((always_inline)) {
        work(other, units);
        for (int64_t i = 0; i < fetches && unfetched; ++i, --unfetched) {
            fetch_row(ahead[0]);
            fetch_row(ahead[1]);
        }
    };
    fence();
    if (t.whole && t.accumulate) {
        _tile_loadd(0, c0, row_bytes);
        _tile_loadd(1, c0 + 16, row_bytes);
        _tile_loadd(2, c1, row_bytes);
        _tile_loadd(3, c1 + 16, row_bytes);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    vf awake = zero();
    for (int64_t s = 0; s < steps; ++s) {
        left.template load<2>();
        load_right<0>(right);
        multiply_tiles();
        beside();
        left.template load<1>();
        multiply_tiles();
        beside();
        load_right<1>(right);
        multiply_tiles();
        beside();
        left.template load<0>();
        multiply_tiles();
        beside();
        load_right<0>(right);
        multiply_tiles();
        beside();
        load_right<2>(right);
        multiply_tiles();
        beside();
        left.next();
        right += kSplitStep;
        // Without a multiply-add now and then the vector units are switched off after about 2000
        // cycles, and the stores below wait for them for 1300.
        asm volatile("vfmadd231ps %0, %0, %0" : "+v"(awake));
    }
    const bool plain = !t.bias && !t.half[0].residual && t.activation == Activation::none;
    if (t.whole && plain) {
        _tile_stored(0, c0, row_bytes);
        _tile_stored(1, c0 + 16, row_bytes);
        _tile_stored(2, c1, row_bytes);
        _tile_stored(3, c1 + 16, row_bytes);
        fence();
        return;
    }
    alignas(64) float block[2][16 * 32];
    _tile_stored(0, block[0], 128);
    _tile_stored(1, block[0] + 16, 128);
    _tile_stored(2, block[1], 128);
    _tile_stored(3, block[1] + 16, 128);
    fence();
    for (int64_t j = 0; j < t.columns; j += VL) {
        const int n = lanes_left(t.columns - j);
        const vf bias = t.bias ? load_some(t.bias + j, n) : zero();
        for (int h = 0; h < 2; ++h) {
            const Half& half = t.half[h];
            for (int64_t r = 0; r < half.rows; ++r) {
                float* to = half.c + r * t.c_row + j;
                vf y = load(block[h] + r * 32 + j) + bias;
                if (t.accumulate && !t.whole) y = y + load_some(to, n);
                if (half.residual) y = y + load_some(half.residual + r * t.residual_row + j, n);
                store_some(to, activate(t.activation, y), n);
            }
        }
    }
}

// Rows [row, row + rows) of C from a column on.
template <class Args>
Half rows_of(const Args& g, int64_t row, int64_t rows, int64_t column) {
    return {g.c + row * g.c_row + column,
            g.residual ? g.residual + row * g.residual_row + column : nullptr, rows};
}

const TileConfig kConfig;

}  // namespace

void split(const SplitArgs& s) {
    if (s.by_depth) {
        SplittingDepths work{&s, units_of(s), 0, 0, 0, {}, zero(), nullptr, 0, 0, 0, 0};
        while (work.units) split_piece(work);
        if (any(is_nan(work.bad))) *s.spoiled = 1;
        return;
    }
    char* panel = static_cast<char*>(s.panel);
    vf bad = zero();
    for (int64_t k = 0; k < s.length; k += kSplitDepth, panel += kSplitStep)
        for (int64_t line = 0; line < kSplitLines; line += 16)
            split_lines(s, line, k, panel + line * 64, bad);
    if (any(is_nan(bad))) *s.spoiled = 1;
}

void split_product(const SplitProductArgs& g) {
    _tile_loadconfig(&kConfig);
    SplittingDepths other{g.others, 0, 0, 0, 0, {}, zero(), g.later, 0, 0, 0, 0};
    int64_t lines = 0;
    for (int64_t i = 0; i < g.other_count; ++i) other.units += units_of(g.others[i]);
    while (other.lists < 2 && g.later[other.lists].count) {
        lines += g.later[other.lists].count * g.later[other.lists].lines;
        ++other.lists;
    }
    const int64_t groups = 6 * g.steps * ((g.rows + kSplitLines - 1) / kSplitLines);
    other.lines = (lines + groups - 1) / groups;
    const int64_t units = (other.units + groups - 1) / groups;
    for (int64_t i = 0; i < g.rows; i += kSplitLines) {
        const int64_t rows = lines_from(g.rows, i);
        Target t{};
        t.half[0] = {g.c + i * g.c_row, nullptr, rows < 16 ? rows : 16};
        t.half[1] = {g.c + (i + 16) * g.c_row, nullptr, rows - t.half[0].rows};
        t.c_row = g.c_row, t.columns = g.columns;
        t.whole = rows == kSplitLines && g.columns == kSplitLines;
        t.accumulate = g.accumulate;
        product_tile(PanelRows{g.left + i / kSplitLines * g.left_panel}, g.right, g.steps, t, other,
                     units);
    }
    _tile_release();
    while (other.units) split_piece(other);
    if (g.other_count && any(is_nan(other.bad))) *g.others->spoiled = 1;
}

void split_stream(const SplitStreamArgs& g) {
    _tile_loadconfig(&kConfig);
    Splitting next;
    next.bad = zero();
    start_splitting(g, 0, next);
    while (next.units) split_piece(next);
    const auto multiply = [&](int64_t row, int64_t column, auto& other, int64_t units) {
        const int64_t rows = lines_from(g.rows, row), first = rows < 16 ? rows : 16;
        const bool more = column + kSplitLines < g.columns;
        const int64_t next_row = more ? row : row + kSplitLines;
        const int64_t next_column = more ? column + kSplitLines : 0;
        Target t{};
        t.half[0] = rows_of(g, row, first, column);
        t.half[1] = rows_of(g, row + 16, rows - first, column);
        t.ahead[0] = rows_of(g, next_row, 16, next_column);
        t.ahead[1] = rows_of(g, next_row + 16, 16, next_column);
        t.c_row = g.c_row, t.columns = lines_from(g.columns, column);
        t.whole = rows == kSplitLines && t.columns == kSplitLines;
        t.accumulate = g.accumulate;
        t.activation = g.activation;
        if (g.bias) t.bias = g.bias + column;
        t.residual_row = g.residual_row;
        product_tile(PanelRows{g.left + row / kSplitLines % 2 * g.steps * kSplitStep},
                     g.right + column / kSplitLines * g.right_panel, g.steps, t, other, units);
    };
    if (g.rows <= 2 * kSplitLines) {
        // Few rows: the right factor's way from memory decides, and it is gone once.
        if (g.rows > kSplitLines) start_splitting(g, kSplitLines, next);
        while (next.units) split_piece(next);
        constexpr int64_t kAhead = 4 * kSplitStep;
        for (int64_t column = 0; column < g.columns; column += kSplitLines) {
            const char* right = g.right + column / kSplitLines * g.right_panel;
            Fetching ahead{right + kAhead, g.steps * kSplitStep / 1024};
            for (int64_t row = 0; row < g.rows; row += kSplitLines) multiply(row, column, ahead, 1);
        }
    } else {
        // So many after each four tiles that a panel is split when the one before is multiplied.
        const int64_t panels = (g.columns + kSplitLines - 1) / kSplitLines;
        const int64_t units = (kSplitLines + 6 * panels - 1) / (6 * panels);
        for (int64_t row = 0; row < g.rows; row += kSplitLines) {
            if (row + kSplitLines < g.rows) start_splitting(g, row + kSplitLines, next);
            for (int64_t column = 0; column < g.columns; column += kSplitLines)
                multiply(row, column, next, units);
        }
    }
    if (any(is_nan(next.bad))) *g.spoiled = 1;
    _tile_release();
}

void split_cells(const SplitCellsArgs& s) {
    const int low = static_cast<int>(s.length < VL ? s.length : VL);
    const int high = static_cast<int>(s.length) - low;
    const bool whole = s.length == kSplitDepth;
    vf bad = zero();
    for (int64_t i = 0; i < s.count; ++i) {
        const float* from = s.src + i * s.step;
        __m512i parts[3];
        if (whole)
            split_pair(load(from), load(from + VL), parts, bad);
        else
            split_pair(load_n(from, low), load_n(from + low, high), parts, bad);
#pragma GCC unroll 3
        for (int p = 0; p < 3; ++p) _mm512_store_si512(s.cells + p * s.part + i * 64, parts[p]);
    }
    if (any(is_nan(bad))) *s.spoiled = 1;
}

// Panel by panel, each of which stays in the second-level cache for all groups while the next one
// is fetched; or, when they stay there together, group by group, so that C is written in order.
void split_cells_product(const SplitCellsProductArgs& g) {
    constexpr int64_t kTogether = int64_t{256} << 10;
    TileConfig config;
    for (int tile = 0; tile < 6; ++tile) config.rows[tile] = static_cast<uint8_t>(g.group_rows);
    _tile_loadconfig(&config);
    const int64_t pairs = (g.groups + 1) / 2, panels = (g.columns + kSplitLines - 1) / kSplitLines;
    const int64_t products = pairs * panels, panel_units = g.right_panel / 1024;
    const bool by_groups = panels * g.right_panel <= kTogether;
    const auto pair_of = [&](int64_t i) { return by_groups ? i / panels : i % pairs; };
    const auto panel_of = [&](int64_t i) { return by_groups ? i % panels : i / pairs; };
    // Half h of product i. A last group without a partner is multiplied twice.
    const auto group_of = [&](int64_t i, int h) {
        const int64_t group = 2 * pair_of(i) + h;
        return group < g.groups ? group : group - 1;
    };
    const auto half_of = [&](int64_t i, int h) {
        return rows_of(g, g.c_rows[group_of(i, h)], g.group_rows, panel_of(i) * kSplitLines);
    };
    Fetching ahead{g.right, 0};
    for (int64_t i = 0; i < products; ++i) {
        const int64_t p = panel_of(i), column = p * kSplitLines;
        const char* right = g.right + p * g.right_panel;
        if (!by_groups && pair_of(i) == 0 && p + 1 < panels)
            ahead = {right + g.right_panel, panel_units};
        CellRows left{{}, g.steps, g.part, g.pitch};
        Target t{};
        for (int h = 0; h < 2; ++h) {
            left.first[h] = g.cells + g.starts[group_of(i, h)];
            t.half[h] = half_of(i, h);
            t.ahead[h] = half_of(i + 1 < products ? i + 1 : i, h);
        }
        t.c_row = g.c_row, t.columns = lines_from(g.columns, column);
        t.whole = t.columns == kSplitLines;
        t.activation = g.activation;
        t.bias = g.bias ? g.bias + column : nullptr;
        t.residual_row = g.residual_row;
        const int64_t slots = pairs * 6 * g.step_count;
        product_tile(left, right, g.step_count, t, ahead, (panel_units + slots - 1) / slots);
    }
    _tile_release();
}

}  // namespace ENGINE_ISA
}  // namespace engine
