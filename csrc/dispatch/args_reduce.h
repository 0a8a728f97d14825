// Arguments of the kernels in csrc/kernels/reduce.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// mean is a sum to the kernels; the op divides.
enum class ReduceOp : int32_t { sum, mean, max, min, prod };

// out[r] = combine(out[r], all of row r): rows of n contiguous floats.
struct ReduceRowsArgs {
    ReduceOp op;
    const float* src;
    double* out;
    int64_t n, rows, src_row;
};

// out[c] = combine(out[c], src[0][c], src[1][c], ...): n contiguous columns.
struct ReduceColumnsArgs {
    ReduceOp op;
    const float* src;
    double* out;
    int64_t n, rows, src_row;
};

// out[r] = index of the first largest (smallest) element of row r; a NaN counts as both.
struct ArgReduceArgs {
    const float* src;
    int64_t* out;
    int64_t n, rows, src_row;
    int32_t smallest;  // 0 or 1
};

}  // namespace engine
