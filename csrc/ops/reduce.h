// Reductions over any axes of a strided array.
#pragma once

#include <string_view>

#include "core/array.h"
#include "dispatch/args_reduce.h"

namespace engine {

ReduceOp reduce_op_from_name(std::string_view name);

// Null axes means all of them, an empty list none. float32 stays float32; sum and prod of integers
// and bools are int64, max and min keep the type, mean is float32.
Array reduce(ReduceOp op, const Array& a, const Dims* axes, bool keepdims);
// Index along `axis` of the first largest or smallest element (int64); over all elements in logical
// row-major order when `all`.
Array argreduce(ReduceOp op, const Array& a, int64_t axis, bool all, bool keepdims);
// Undoes broadcasting: sums over the axes that `shape` lacks or has as 1.
Array sum_to(const Array& a, const Dims& shape);

}  // namespace engine
