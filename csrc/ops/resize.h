// Resampling of images, forward and backward.
#pragma once

#include <string>

#include "core/array.h"

namespace engine {

// mode nearest | nearest-exact | bilinear | bicubic, PyTorch's conventions. A scale of 0 is derived
// from the sizes; another one (output per input, as given by the caller) is used as it is.
Array interpolate(const Array& x, int64_t out_h, int64_t out_w, const std::string& mode,
                  bool align_corners, bool antialias, double scale_h, double scale_w);
Array interpolate_backward(const Array& dy, const Dims& x_shape, const std::string& mode,
                           bool align_corners, bool antialias, double scale_h, double scale_w);

}  // namespace engine
