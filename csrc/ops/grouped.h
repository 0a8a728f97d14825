// Convolution in many small groups (ResNeXt, RegNet): the depthwise tiles with several inputs.
#pragma once

#include <string>

#include "ops/conv2d.h"

namespace engine {

// Reason to decline, empty when the tiles know the shape.
std::string declines_grouped(const Conv& conv);
void forward_grouped(const Conv& conv, const Array& x, const Array& w, const Epilogue& epilogue,
                     const Array& y);
std::string declines_grouped_data(const Conv& conv);  // the input gradient
void data_grouped(const Conv& conv, const Array& dy, const Array& w, const Array& dx);
void weight_grouped(const Conv& conv, const Array& dy, const Array& x, const Array& dw,
                    float* dbias);

}  // namespace engine
