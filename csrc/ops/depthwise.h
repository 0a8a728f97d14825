// Depthwise convolution: each channel has its own filter.
#pragma once

#include <string>

#include "ops/conv2d.h"

namespace engine {

// Reason to decline, empty when each channel has one filter and one output.
std::string declines_depthwise(const Conv& conv);
void forward_depthwise(const Conv& conv, const Array& x, const Array& w, const Epilogue& epilogue,
                       const Array& y);
void data_depthwise(const Conv& conv, const Array& dy, const Array& w, const Array& dx);
void weight_depthwise(const Conv& conv, const Array& dy, const Array& x, const Array& dw,
                      float* dbias);

}  // namespace engine
