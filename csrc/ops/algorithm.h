// The choice among several ways to compute a direction of a convolution.
#pragma once

#include <functional>
#include <map>
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
    // The same on a source that passes a prologue; null where that takes a pass of its own before.
    void (*run_from)(const Conv&, const Prologue* prologue, const Array& x, const Array& w,
                     const Epilogue& epilogue, const Array& y) = nullptr;
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

// Forces one algorithm by name for all directions that know it ("" returns to the choice below).
// A forced algorithm that declines a problem is an Error(value).
void set_conv_algorithm(const std::string& name);

// "auto": any algorithm; "direct": none that computes in a transformed domain (Winograd), whose
// rounding errors are larger than those of a plain sum. At the start ENGINE_CONV_ALGORITHM, else
// "auto".
void set_conv_policy(const std::string& policy);
std::string conv_policy();

// Autotuning. While it is on, a problem (shape, direction, instruction set, threads, policy) that
// is not among the known choices is measured once with all algorithms that accept it, and the
// fastest is remembered; known choices are obeyed. Choices are problem -> name of the algorithm.
void set_autotune(bool on);
std::map<std::string, std::string> tuned_choices();
void set_tuned_choices(const std::map<std::string, std::string>& choices);
// Problems measured since the process began.
int64_t tuned_problems();

// The algorithm for a problem: the forced one, else the remembered or measured one, else the first
// that accepts. `run` computes the problem with an algorithm and is called only to measure. Logs
// with ENGINE_VERBOSE.
template <class Run>
const ConvAlgorithm<Run>& choose(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                 const Conv& conv,
                                 const std::function<void(const ConvAlgorithm<Run>&)>& run);

}  // namespace engine
