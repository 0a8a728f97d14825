// Elementwise operations with NumPy's broadcasting. The result has the layout of an operand that
// has the result's shape and is dense, else the canonical one.
#pragma once

#include <string_view>
#include <utility>

#include "core/array.h"
#include "dispatch/args_eltwise.h"

namespace engine {

// Throws Error(value), naming all operations, for a name that is not in the list.
UnaryOp unary_op_from_name(std::string_view name);
BinaryOp binary_op_from_name(std::string_view name);

struct UnaryOpInfo {
    const char* name;
    const char* result;  // "float32" or "bool"
    const char* saved;   // what the gradient needs: "x", "y", "nothing" or "no_gradient"
};
// One entry per operation, ended by a null name.
extern const UnaryOpInfo kUnaryOps[];

// An array or a number.
struct Operand {
    const Array* array = nullptr;
    double value = 0.0;
    DType type = DType::f32;  // of a number: f32, i64 or b8
    int64_t whole = 0;        // a number of type i64 or b8, exactly
};

// `out`, unless null, is what the result is written to: see destination(). It may be the very view
// that an operand is.
Array unary(UnaryOp op, const Array& x, double p0, double p1, const Array* out = nullptr);
// x and y may be null where the list says that the gradient does not need them.
Array unary_backward(UnaryOp op, const Array& dy, const Array* x, const Array* y, double p0,
                     double p1);

Array binary(BinaryOp op, const Operand& a, const Operand& b, const Array* out = nullptr);
// a = a op b
void binary_in_place(BinaryOp op, const Array& a, const Operand& b);
Array where(const Array& condition, const Operand& a, const Operand& b);

// y = x > 0 ? x : weight * x, weight of one element or one per channel (axis 1).
Array prelu(const Array& x, const Array& weight);
// (dx, dweight)
std::pair<Array, Array> prelu_backward(const Array& dy, const Array& x, const Array& weight);

// Shape both broadcast to; throws Error(value).
Dims broadcast_shapes(const char* op, const Dims& a, const Dims& b);

}  // namespace engine
