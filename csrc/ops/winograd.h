// Winograd's F(4 x 4, 3 x 3): a quarter of the multiplications of the direct form.
#pragma once

#include <string>

#include "ops/conv2d.h"

namespace engine {

// Reason to decline, empty when a 3 x 3, stride-1 problem is large enough to gain.
std::string declines_winograd(const Conv& conv);
void forward_winograd(const Conv& conv, const Array& x, const Array& w, const Epilogue& epilogue,
                      const Array& y);
void data_winograd(const Conv& conv, const Array& dy, const Array& w, const Array& dx);
void weight_winograd(const Conv& conv, const Array& dy, const Array& x, const Array& dw,
                     float* dbias);

}  // namespace engine
