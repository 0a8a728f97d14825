// The choice among several ways to compute a direction of a convolution.
#pragma once

#include <string>
#include <vector>

#include "ops/conv2d.h"

namespace engine {

// One way to compute a direction of a convolution. The list of a direction is ordered by
// preference; the first that does not decline is taken.
template <class Run>
struct ConvAlgorithm {
    const char* name;
    std::string (*declines)(const Conv&);  // empty: accepts; else the reason
    Run run;
};
// The residual of the epilogue is one more array of y's shape: row i is pixel i.
using ConvForward = void (*)(const Conv&, const Array& x, const Array& w, const Epilogue& epilogue,
                             const Array& y);
using ConvBackwardData = void (*)(const Conv&, const Array& dy, const Array& w, const Array& dx);
using ConvBackwardWeight = void (*)(const Conv&, const Array& dy, const Array& x, const Array& dw,
                                    float* dbias);
const std::vector<ConvAlgorithm<ConvForward>>& conv_forward_algorithms();
const std::vector<ConvAlgorithm<ConvBackwardData>>& conv_backward_data_algorithms();
const std::vector<ConvAlgorithm<ConvBackwardWeight>>& conv_backward_weight_algorithms();

// Forces one algorithm by name for all directions that know it ("" returns to the choice by list).
// A forced algorithm that declines a problem is an Error(value).
void set_conv_algorithm(const std::string& name);
std::string forced_conv_algorithm();

// The algorithm for a problem: the forced one, else the first that accepts. Logs with
// ENGINE_VERBOSE.
template <class Run>
const ConvAlgorithm<Run>& choose(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                 const Conv& conv);

}  // namespace engine
