// Arguments of the kernels in csrc/kernels/softmax.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// Dense memory seen as [outer][n][inner]; softmax runs along n. inner = 1 is the contiguous case.
struct SoftmaxArgs {
    const float* x;
    float* y;
    int64_t outer, n, inner;
    int32_t log;  // 1: log_softmax
};

struct SoftmaxBackwardArgs {
    const float* dy;
    const float* y;
    float* dx;
    int64_t outer, n, inner;
    int32_t log;
};

// Rows of contiguous classes. Targets are inside [0, classes) or equal ignore_index.
struct CrossEntropyArgs {
    const float* logits;
    const int64_t* target;
    const float* weight;  // per class, or null
    float* log_probs;
    float* loss;           // per row, not yet divided by anything
    float* target_weight;  // per row: the weight of its target, 0 when ignored
    int64_t rows, classes, ignore_index;
    float smoothing;
};

struct CrossEntropyBackwardArgs {
    const float* log_probs;
    const int64_t* target;
    const float* weight;  // per class, or null
    const float* dloss;   // per row at distance dloss_step (0: one for all), times scale
    float* dlogits;
    int64_t rows, classes, ignore_index, dloss_step;
    float scale, smoothing;
};

}  // namespace engine
