// The choice among several ways to compute a direction of a convolution.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ops/conv2d.h"

namespace engine {

// One way to compute a direction of a convolution. The list of a direction is ordered by
// preference: the first that does not decline is taken, but of those that estimate their time the
// cheapest.
template <class Run>
struct ConvAlgorithm {
    const char* name;
    std::string (*declines)(const Conv&);  // empty: accepts; else the reason
    Run run;
    double (*cost)(const Conv&) = nullptr;  // see Work; asked only when it does not decline
    // The same on a source that passes a prologue; null where that takes a pass of its own before.
    void (*run_from)(const Conv&, const Prologue* prologue, const Array& x, const Array& w,
                     const Epilogue& epilogue, const Array& y) = nullptr;
};

// What an algorithm does, for an estimate of its time. The estimate is for choosing: it depends on
// the shape and the instruction set alone, never on threads or load, so that results do not either.
struct Work {
    double multiply_adds;     // of matrix products
    int64_t columns;          // of these products
    bool reduction = false;   // products whose depth runs over pixels read both operands across
    double weight_bytes = 0;  // read once, from memory or the last cache
    double moved_bytes = 0;   // written and read again: transformed tiles, partial sums
};
// Cycles of one core.
double cycles(const Work& work);
// The direct form's, for outputs and for the gradient of the weight.
double direct_cost(const Conv& conv);
double direct_data_cost(const Conv& conv);
double direct_weight_cost(const Conv& conv);
double im2col_weight_cost(const Conv& conv);
// Those of products on matrix tiles.
double split_cost(const Conv& conv);
double split_data_cost(const Conv& conv);
double split_weight_cost(const Conv& conv);

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

// The algorithm taken by default where nothing is forced, remembered or measured.
template <class Run>
const ConvAlgorithm<Run>* preferred(const std::vector<ConvAlgorithm<Run>>& list, const Conv& conv);

// The algorithm for a problem: the forced one, else the remembered or measured one, else the
// preferred one. `run` computes the problem with an algorithm and is called only to measure. Logs
// with ENGINE_VERBOSE.
template <class Run>
const ConvAlgorithm<Run>& choose(const char* op, const std::vector<ConvAlgorithm<Run>>& list,
                                 const Conv& conv,
                                 const std::function<void(const ConvAlgorithm<Run>&)>& run);

}  // namespace engine
