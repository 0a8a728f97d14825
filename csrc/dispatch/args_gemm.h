// Arguments of the kernels in csrc/kernels/gemm.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// What a product applies last. The first three cost one or two instructions in registers; the
// others run over the block just stored, while it is in the first-level cache.
enum class Activation : int32_t { none, relu, relu6, silu, hardswish };

// C[i][j] = epilogue(sum over taps t, depth k of A(i, t, k) * B(t * depth + k, j))
//   A(i, t, k) = a[taps[t] + i * a_row + k * a_depth]
//   B(q, j)    = b[q * b_row + j]
// A convolution is this product with one tap per kernel row; a plain matrix product has one tap.
struct GemmArgs {
    const float* a;
    int64_t a_row, a_depth;
    const int64_t* taps;  // element offsets into a
    int64_t tap_count;
    int64_t depth;
    const float* b;  // a panel: rows of b_row floats, readable up to vectors * lanes columns
    int64_t b_row;
    float* c;
    int64_t c_row;
    int64_t rows;
    int64_t columns;  // of C, at most vectors * lanes
    int32_t vectors;  // per panel row, 1 to 4
    // Epilogue: start from bias (columns floats) or from C, add a residual, activate.
    bool accumulate;
    Activation activation;
    const float* bias;      // or null
    const float* residual;  // or null; element (i, j) at residual[i * residual_row + j]
    int64_t residual_row;
    // C is written past the caches: its rows and columns are whole cache lines.
    bool stream = false;
};

// y = activation(y * scale + bias + residual) in place, for rows x columns values.
struct FinishArgs {
    float* y;
    int64_t row;
    int64_t rows, columns;
    const float* residual;  // or null; element (i, j) at residual[i * residual_row + j]
    int64_t residual_row;
    Activation activation;
    const float *scale, *bias;  // columns each, or null
};

// panel[q][j] = source[q * source_row + j * source_column] for j < columns, 0 for the rest of the
// panel's width.
struct PackArgs {
    const float* source;
    int64_t source_row, source_column;
    int64_t rows, columns;
    float* panel;
    int64_t width;
};

// dst[j * dst_row + i] = src[i * src_row + j] for i < rows, j < columns.
struct TransposeArgs {
    const float* src;
    int64_t src_row;
    int64_t rows, columns;
    float* dst;
    int64_t dst_row;
};

// sums[j] += sum over rows of source[i * row + j]; the order depends on the number of rows only.
struct ColumnSumArgs {
    const float* source;
    int64_t row;
    int64_t rows, columns;
    float* sums;
};

// y[i * y_row + r] = sum over k < depth of x[i * x_row + k] * w[r * w_row + k] for i < count,
// r < rows: few rows meet many that come from memory once. Each sum is formed in the same way
// whatever rows and count are.
struct DotRowsArgs {
    const float* x;
    int64_t x_row, count;  // count <= kMaxDotRows
    const float* w;
    int64_t w_row, rows;
    int64_t depth;
    float* y;
    int64_t y_row;
};
constexpr int64_t kMaxDotRows = 4;

// Floats [offset, offset + columns) of rows that lie anywhere, to rows `pitch` apart.
struct GatherArgs {
    const float* const* rows;
    int64_t count, offset, columns;
    float* dst;
    int64_t pitch;
};

// Windows add to an image what they hold: window (i, j) of a grid of `rows` x `columns`, dense, is
// `lines` lines of `length` floats; its line l is added at line i * row_step + l * line_step of the
// image, `pitch` floats each, from j * column_step on. Windows `apart` columns from one another do
// not overlap.
struct AddWindowsArgs {
    const float* src;
    int64_t rows, columns, lines, length;
    float* dst;
    int64_t pitch, row_step, line_step, column_step;
    int64_t apart;
};

// Runs `rounds` groups of independent multiply-adds in registers; *flops is what they amount to.
struct PeakArgs {
    int64_t rounds;
    double* flops;
    float* sink;  // receives a value that depends on all of them
};

}  // namespace engine
