// Gradients of pooling.
#pragma once

#include "core/array.h"

namespace engine {

// Also the gradient of adaptive_max_pool2d. Throws Error(index) for a position outside the plane.
Array max_pool2d_backward(const Array& dy, const Array& indices, const Dims& x_shape);
Array avg_pool2d_backward(const Array& dy, const Dims& x_shape, const Dims& kernel,
                          const Dims& stride, const Dims& padding, bool ceil_mode,
                          bool count_include_pad, int64_t divisor_override);
Array adaptive_avg_pool2d_backward(const Array& dy, const Dims& x_shape);

}  // namespace engine
