// Arguments of the kernels in csrc/kernels/eltwise.cpp, and the two lists of elementwise
// operations.
//
// The lists are the only place that names the operations: the enumerations, the names Python uses,
// the switch of each kernel and what the backward pass keeps are generated from them. To add one:
// a row here, its FORWARD (and BACKWARD) line in kernels/eltwise.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

// X(name, result, saved, cost)
//   result  f32 | b8: type of the output
//   saved   what the gradient is a function of beside dy: x | y | nothing; or no_gradient
//   cost    cheap | heavy: how much work one element is, for the split over threads
#define ENGINE_UNARY_OPS(X)                \
    X(relu, f32, y, cheap)                 \
    X(relu6, f32, y, cheap)                \
    X(leaky_relu, f32, x, cheap)           \
    X(elu, f32, x, heavy)                  \
    X(selu, f32, y, heavy)                 \
    X(gelu, f32, x, heavy)                 \
    X(gelu_tanh, f32, x, heavy)            \
    X(silu, f32, x, heavy)                 \
    X(mish, f32, x, heavy)                 \
    X(sigmoid, f32, y, heavy)              \
    X(tanh, f32, y, heavy)                 \
    X(softplus, f32, x, heavy)             \
    X(hardtanh, f32, x, cheap)             \
    X(hardswish, f32, x, cheap)            \
    X(hardsigmoid, f32, x, cheap)          \
    X(logsigmoid, f32, x, heavy)           \
    X(softsign, f32, x, cheap)             \
    X(neg, f32, nothing, cheap)            \
    X(abs, f32, x, cheap)                  \
    X(exp, f32, y, heavy)                  \
    X(log, f32, x, heavy)                  \
    X(log1p, f32, x, heavy)                \
    X(expm1, f32, y, heavy)                \
    X(sqrt, f32, y, cheap)                 \
    X(rsqrt, f32, y, cheap)                \
    X(square, f32, x, cheap)               \
    X(reciprocal, f32, y, cheap)           \
    X(sin, f32, x, heavy)                  \
    X(cos, f32, x, heavy)                  \
    X(erf, f32, x, heavy)                  \
    X(sign, f32, nothing, cheap)           \
    X(floor, f32, nothing, cheap)          \
    X(ceil, f32, nothing, cheap)           \
    X(round, f32, nothing, cheap)          \
    X(clamp, f32, x, cheap)                \
    X(pow_scalar, f32, x, heavy)           \
    X(logical_not, b8, no_gradient, cheap) \
    X(isnan, b8, no_gradient, cheap)       \
    X(isfinite, b8, no_gradient, cheap)

// X(name, result, cost)
#define ENGINE_BINARY_OPS(X)  \
    X(add, f32, cheap)        \
    X(sub, f32, cheap)        \
    X(mul, f32, cheap)        \
    X(div, f32, cheap)        \
    X(pow, f32, heavy)        \
    X(maximum, f32, cheap)    \
    X(minimum, f32, cheap)    \
    X(eq, b8, cheap)          \
    X(ne, b8, cheap)          \
    X(lt, b8, cheap)          \
    X(le, b8, cheap)          \
    X(gt, b8, cheap)          \
    X(ge, b8, cheap)          \
    X(logical_and, b8, cheap) \
    X(logical_or, b8, cheap)

namespace engine {

enum class UnaryOp : int32_t {
#define ENGINE_ENUMERATOR(name, ...) name,
    ENGINE_UNARY_OPS(ENGINE_ENUMERATOR)
};
enum class BinaryOp : int32_t {
    ENGINE_BINARY_OPS(ENGINE_ENUMERATOR)
#undef ENGINE_ENUMERATOR
};

// All kernels here walk `rows` rows of `n` elements; *_row is an operand's distance between rows,
// in elements. A row is contiguous; where an operand has a step, 0 stands for one value for the
// row. stream: results are floats and go past the caches, operands come from memory; dst (dx) and
// its rows are aligned to vectors.
struct UnaryArgs {
    UnaryOp op;
    const float* src;
    void* dst;  // float, or one byte per element where the list says b8
    int64_t n, rows, src_row, dst_row;
    float p0, p1;
    bool stream = false;
};

struct UnaryBackwardArgs {
    UnaryOp op;
    const float* dy;
    const float* saved;  // x or y as the list says; unused for `nothing`
    float* dx;
    int64_t n, rows, dy_row, saved_row, dx_row;
    float p0, p1;
    bool stream = false;
};

struct BinaryArgs {
    BinaryOp op;
    const float* a;
    const float* b;
    void* dst;  // float, or one byte per element where the list says b8
    int64_t n, rows, a_row, b_row, dst_row;
    int32_t a_step, b_step;  // 0 or 1
    bool stream = false;
};

struct WhereArgs {
    const uint8_t* condition;
    const float* a;
    const float* b;
    float* dst;
    int64_t n, rows, condition_row, a_row, b_row, dst_row;
    int32_t condition_step, a_step, b_step;  // 0 or 1
};

// A pass over memory with as little computation as there can be, the measure of those that compute:
// every dst[i] = half the sum of all src[i]; without dst, the sums add up in *sink.
struct StreamPassArgs {
    const float* src[4];
    float* dst[3];
    int sources, results;
    int64_t count;
    bool past_caches;     // dst aligned to vectors
    int64_t fetch_ahead;  // floats; 0: left to the processor
    float* sink;
};

struct PreluArgs {
    const float* x;
    const float* weight;
    float* y;
    int64_t n, rows, x_row, weight_row, y_row;
    int32_t weight_step;  // 0 or 1
};

struct PreluBackwardArgs {
    const float* dy;
    const float* x;
    const float* weight;
    float* dx;
    float* dweight_terms;  // what each element adds to its channel's dweight
    int64_t n, rows, dy_row, x_row, weight_row, dx_row, terms_row;
    int32_t weight_step;  // 0 or 1
};

}  // namespace engine
