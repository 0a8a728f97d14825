// Reductions: sum, product, maximum, minimum; index of the maximum or minimum.
//
// Formula   rows: out[r] = combine(out[r], src[r][0..n));  columns: out[c] over the rows
// Layout    rows of contiguous floats at distance src_row
// Method    blocks small enough that a float sum stays accurate (256 additions per lane at most)
// are
//           summed with several vector accumulators, block results are combined in double. The
//           order depends on n and rows only, never on threads.
// Registers 4 (rows) or 8 (columns) accumulators
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

struct Sum {
    ENGINE_INLINE vf identity() { return zero(); }
    ENGINE_INLINE vf combine(vf a, vf b) { return a + b; }
    ENGINE_INLINE float lanes(vf v) { return reduce_add(v); }
    ENGINE_INLINE double merge(double a, double b) { return a + b; }
};
struct Max {
    ENGINE_INLINE vf identity() { return set1(-__builtin_inff()); }
    ENGINE_INLINE vf combine(vf a, vf b) { return max(a, b); }
    ENGINE_INLINE float lanes(vf v) { return reduce_max(v); }
    // a NaN in b wins by the second test, one in a because both tests fail
    ENGINE_INLINE double merge(double a, double b) { return b > a || b != b ? b : a; }
};
struct Min {
    ENGINE_INLINE vf identity() { return set1(__builtin_inff()); }
    ENGINE_INLINE vf combine(vf a, vf b) { return min(a, b); }
    ENGINE_INLINE float lanes(vf v) { return reduce_min(v); }
    ENGINE_INLINE double merge(double a, double b) { return b < a || b != b ? b : a; }
};
struct Prod {
    ENGINE_INLINE vf identity() { return set1(1.f); }
    ENGINE_INLINE vf combine(vf a, vf b) { return a * b; }
    ENGINE_INLINE float lanes(vf v) {
        float lane[VL];
        store(lane, v);
        float product = lane[0];
        for (int i = 1; i < VL; ++i) product *= lane[i];
        return product;
    }
    ENGINE_INLINE double merge(double a, double b) { return a * b; }
};

constexpr int64_t kBlock = 256 * 4 * VL;  // floats of a row summed before going to double
constexpr int64_t kRows = 256;            // rows of a column summed before going to double

template <class Op>
ENGINE_INLINE float reduce_block(const float* p, int64_t n) {
    vf a0 = Op::identity(), a1 = a0, a2 = a0, a3 = a0;
    int64_t i = 0;
    for (; i + 4 * VL <= n; i += 4 * VL) {
        for (int line = 0; line < 4 * VL; line += 16) __builtin_prefetch(p + i + line + 512);
        a0 = Op::combine(a0, load(p + i));
        a1 = Op::combine(a1, load(p + i + VL));
        a2 = Op::combine(a2, load(p + i + 2 * VL));
        a3 = Op::combine(a3, load(p + i + 3 * VL));
    }
    for (; i + VL <= n; i += VL) a0 = Op::combine(a0, load(p + i));
    const int rest = static_cast<int>(n - i);
    if (rest > 0) a1 = Op::combine(a1, select(first_n(rest), load_n(p + i, rest), Op::identity()));
    return Op::lanes(Op::combine(Op::combine(a0, a1), Op::combine(a2, a3)));
}

template <class Op>
void rows_of(const ReduceRowsArgs& a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* p = a.src + row * a.src_row;
        double total = a.out[row];
        for (int64_t i = 0; i < a.n; i += kBlock)
            total = Op::merge(total, reduce_block<Op>(p + i, a.n - i < kBlock ? a.n - i : kBlock));
        a.out[row] = total;
    }
}

template <class Op>
ENGINE_INLINE void merge_lanes(double* out, vf v, int n) {
    float lane[VL];
    store(lane, v);
    for (int i = 0; i < n; ++i) out[i] = Op::merge(out[i], lane[i]);
}

// Four vectors of columns, two rows at a time.
template <class Op>
ENGINE_INLINE void reduce_wide(const float* p, int64_t rows, int64_t step, double* out) {
    vf even[4], odd[4];
    for (int k = 0; k < 4; ++k) even[k] = odd[k] = Op::identity();
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2, p += 2 * step)
        for (int k = 0; k < 4; ++k) {
            even[k] = Op::combine(even[k], load(p + k * VL));
            odd[k] = Op::combine(odd[k], load(p + step + k * VL));
        }
    if (r < rows)
        for (int k = 0; k < 4; ++k) even[k] = Op::combine(even[k], load(p + k * VL));
    for (int k = 0; k < 4; ++k) merge_lanes<Op>(out + k * VL, Op::combine(even[k], odd[k]), VL);
}

// n <= VL columns, four rows at a time.
template <class Op>
ENGINE_INLINE void reduce_narrow(const float* p, int64_t rows, int64_t step, int n, double* out) {
    vf a0 = Op::identity(), a1 = a0, a2 = a0, a3 = a0;
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, p += 4 * step) {
        a0 = Op::combine(a0, load_n(p, n));
        a1 = Op::combine(a1, load_n(p + step, n));
        a2 = Op::combine(a2, load_n(p + 2 * step, n));
        a3 = Op::combine(a3, load_n(p + 3 * step, n));
    }
    for (; r < rows; ++r, p += step) a0 = Op::combine(a0, load_n(p, n));
    merge_lanes<Op>(out, Op::combine(Op::combine(a0, a1), Op::combine(a2, a3)), n);
}

template <class Op>
void columns_of(const ReduceColumnsArgs& a) {
    for (int64_t r = 0; r < a.rows; r += kRows) {
        const int64_t rows = a.rows - r < kRows ? a.rows - r : kRows;
        const float* p = a.src + r * a.src_row;
        int64_t c = 0;
        for (; c + 4 * VL <= a.n; c += 4 * VL) reduce_wide<Op>(p + c, rows, a.src_row, a.out + c);
        for (; c < a.n; c += VL) {
            const int n = a.n - c < VL ? static_cast<int>(a.n - c) : VL;
            reduce_narrow<Op>(p + c, rows, a.src_row, n, a.out + c);
        }
    }
}

// Index of the first lane-wise match in p[0..n); there is one.
template <class Match>
ENGINE_INLINE int64_t first_match(const float* p, int64_t n, Match match) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        if (any(match(load(p + i)))) break;
    for (; i < n; ++i)
        if (any(match(set1(p[i])))) return i;
    return 0;
}

template <class Op>
void argreduce_of(const ArgReduceArgs& a) {
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* p = a.src + row * a.src_row;
        const float best = reduce_block<Op>(p, a.n);
        if (best != best)
            a.out[row] = first_match(p, a.n, [](vf v) { return is_nan(v); });
        else
            a.out[row] = first_match(p, a.n, [best](vf v) { return eq(v, set1(best)); });
    }
}

}  // namespace

#define DISPATCH(function)                             \
    switch (a.op) {                                    \
        case ReduceOp::sum:                            \
        case ReduceOp::mean: function<Sum>(a); break;  \
        case ReduceOp::max: function<Max>(a); break;   \
        case ReduceOp::min: function<Min>(a); break;   \
        case ReduceOp::prod: function<Prod>(a); break; \
    }

void reduce_rows(const ReduceRowsArgs& a) { DISPATCH(rows_of) }

void reduce_columns(const ReduceColumnsArgs& a) { DISPATCH(columns_of) }

void argreduce_rows(const ArgReduceArgs& a) {
    if (a.smallest)
        argreduce_of<Min>(a);
    else
        argreduce_of<Max>(a);
}

}  // namespace ENGINE_ISA
}  // namespace engine
