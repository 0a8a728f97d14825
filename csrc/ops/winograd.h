// Winograd's minimal filtering: fewer multiplications than the direct form, larger rounding errors.
#pragma once

#include <string>

#include "ops/conv2d.h"

namespace engine {

// Reason to decline; empty when the form can compute the problem.
template <WinogradForm form>
std::string declines_winograd(const Conv& conv);
template <WinogradForm form>
void forward_winograd(const Conv& conv, const Array& x, const Array& w, const Epilogue& epilogue,
                      const Array& y);
template <WinogradForm form>
void data_winograd(const Conv& conv, const Array& dy, const Array& w, const Array& dx);
template <WinogradForm form>
void weight_winograd(const Conv& conv, const Array& dy, const Array& x, const Array& dw,
                     float* dbias);
// Estimates, see Work in ops/algorithm.h.
template <WinogradForm form>
double winograd_cost(const Conv& conv);
template <WinogradForm form>
double winograd_data_cost(const Conv& conv);
template <WinogradForm form>
double winograd_weight_cost(const Conv& conv);

}  // namespace engine
