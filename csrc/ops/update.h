// Optimizer steps over lists of parameters, and norms of lists of gradients. One call per step: all
// parameters share one parallel region.
#pragma once

#include <vector>

#include "core/array.h"

namespace engine {

using Arrays = std::vector<Array>;

// Every list has one entry per parameter; state that an option does not use is an empty list.
// Parameters and state are changed in place. l1 * sign(p) is added to the gradient.

struct SgdOptions {
    double lr, momentum, dampening, weight_decay;
    bool nesterov, first_step;  // the first step copies the gradient into the momentum buffer
    double l1;
    bool maximize;
};
void sgd_step(const Arrays& params, const Arrays& grads, const Arrays& buffers,
              const SgdOptions& options);

struct RmspropOptions {
    double lr, alpha, eps, weight_decay, momentum;
    bool centered;
    double l1;
    bool maximize;
};
void rmsprop_step(const Arrays& params, const Arrays& grads, const Arrays& square_avgs,
                  const Arrays& buffers, const Arrays& grad_avgs, const RmspropOptions& options);

// lr is the rate of this step, decay included.
struct AdagradOptions {
    double lr, eps, weight_decay, l1;
    bool maximize;
};
void adagrad_step(const Arrays& params, const Arrays& grads, const Arrays& sums,
                  const AdagradOptions& options);

struct AdamOptions {
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;  // counted from 1
    bool amsgrad, decoupled;
    double l1;
    bool maximize;
};
void adam_step(const Arrays& params, const Arrays& grads, const Arrays& exp_avgs,
               const Arrays& exp_avg_sqs, const Arrays& max_exp_avg_sqs,
               const AdamOptions& options);

// The p-norm of all elements of all arrays; p may be infinity.
double total_norm(const Arrays& arrays, double p);
void scale_in_place(const Arrays& arrays, double factor);
// Clamps every element to [-limit, limit]; NaN stays.
void clamp_in_place(const Arrays& arrays, double limit);
bool all_finite(const Arrays& arrays);

}  // namespace engine
