// Softmax, log-softmax and cross-entropy with their gradients.
#pragma once

#include <string_view>

#include "core/array.h"

namespace engine {

Array softmax(const Array& x, int64_t axis, bool log);
// y is the result of softmax with the same axis and log.
Array softmax_backward(const Array& dy, const Array& y, int64_t axis, bool log);

enum class Reduction { none, mean, sum };
Reduction reduction_from_name(std::string_view name);

struct CrossEntropy {
    Array loss;          // of one element, or of target's shape for Reduction::none
    Array log_probs;     // of logits' shape
    Array total_weight;  // one element: the sum of the targets' weights, by which the mean divides
};

// logits (N, C, ...) with classes on axis 1, target (N, ...) int64, weight (C,) or null. Targets
// equal to ignore_index count nowhere. As torch.nn.functional.cross_entropy.
CrossEntropy cross_entropy(const Array& logits, const Array& target, const Array* weight,
                           int64_t ignore_index, double label_smoothing, Reduction reduction);
Array cross_entropy_backward(const Array& dloss, const Array& log_probs, const Array& target,
                             const Array* weight, int64_t ignore_index, double label_smoothing,
                             Reduction reduction, const Array& total_weight);

}  // namespace engine
