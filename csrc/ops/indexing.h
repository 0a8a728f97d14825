// Moving elements by position, and the sums that are the gradients of that.
#pragma once

#include <string>
#include <vector>

#include "core/array.h"

namespace engine {

// Axes may be negative, indices may not. Indices are int64 or int32; one outside its axis throws
// Error(index). Results are canonical.
Array concat(const std::vector<Array>& arrays, int64_t axis);
// index has rank 1.
Array index_select(const Array& a, int64_t axis, const Array& index);
// The gradient of index_select: zeros of `shape`, then out[.., index[j], ..] += src[.., j, ..] in
// ascending j. float32, int64 or int32.
Array index_add(const Dims& shape, int64_t axis, const Array& index, const Array& src);
// out[i][j][k] = a[i][index[i][j][k]][k] for axis 1; the index has a's rank and is at most as large
// in the other axes.
Array gather(const Array& a, int64_t axis, const Array& index);
// The gradient of gather: zeros of `shape`, then out[i][index[i][j][k]][k] += src[i][j][k].
Array scatter_add(const Dims& shape, int64_t axis, const Array& index, const Array& src);
// Rank 4; pads = (left, right, top, bottom), mode constant | reflect | replicate. Negative pads
// crop, with mode constant only.
Array pad(const Array& a, const Dims& pads, const std::string& mode, double value);
Array pad_backward(const Array& dy, const Dims& x_shape, const Dims& pads, const std::string& mode);

}  // namespace engine
