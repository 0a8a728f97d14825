// Convolutions on matrix tiles; see conv2d_split.cpp.
#pragma once

#include "ops/conv2d.h"

namespace engine {

// Pixels side by side that one piece of the depth covers: a row of the kernel, or one.
int64_t split_window(const Conv& c);
std::string declines_split(const Conv& c);
std::string declines_split_data(const Conv& c);
std::string declines_split_weight(const Conv& c);
void forward_split(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                   const Array& y);
void forward_split_from(const Conv& c, const Prologue* prologue, const Array& x, const Array& w,
                        const Epilogue& epilogue, const Array& y);
void data_split(const Conv& c, const Array& dy, const Array& w, const Array& dx);
void weight_split(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias);

}  // namespace engine
