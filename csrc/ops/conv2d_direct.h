// Convolutions on vectors, which every other algorithm may fall back on; see conv2d_direct.cpp.
#pragma once

#include "ops/conv2d.h"

namespace engine {

void forward_direct(const Conv&, const Array& x, const Array& w, const Epilogue& epilogue,
                    const Array& y);
// The same on a source that passes a prologue, null for none.
void forward_direct_from(const Conv&, const Prologue* prologue, const Array& x, const Array& w,
                         const Epilogue& epilogue, const Array& y);
void data_direct(const Conv&, const Array& dy, const Array& w, const Array& dx);
void weight_direct(const Conv&, const Array& dy, const Array& x, const Array& dw, float* dbias);

}  // namespace engine
