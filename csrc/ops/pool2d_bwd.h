// Gradients of pooling.
#pragma once

#include "core/array.h"

namespace engine {

// What the forward call was given.
struct PoolArguments {
    Dims kernel, stride, padding;
    bool ceil_mode;
};

// Also the gradient of adaptive_max_pool2d. `windows`, of a pooling without dilation, makes it
// faster; without (null), Error(index) is thrown for a position outside the plane.
Array max_pool2d_backward(const Array& dy, const Array& indices, const Dims& x_shape,
                          const PoolArguments* windows);
Array avg_pool2d_backward(const Array& dy, const Dims& x_shape, const Dims& kernel,
                          const Dims& stride, const Dims& padding, bool ceil_mode,
                          bool count_include_pad, int64_t divisor_override);
Array adaptive_avg_pool2d_backward(const Array& dy, const Dims& x_shape);

}  // namespace engine
