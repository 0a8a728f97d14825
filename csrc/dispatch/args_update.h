// Arguments of csrc/kernels/update.cpp. All arrays are flat, `count` elements long.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

struct SgdArgs {
    float* param;
    const float* grad;
    float* buffer;  // momentum buffer, or null
    int64_t count;
    float lr, momentum, one_minus_dampening, weight_decay, l1;
    bool nesterov, first_step, maximize;
};

struct RmspropArgs {
    float* param;
    const float* grad;
    float* square_avg;
    float* buffer;    // momentum buffer, or null
    float* grad_avg;  // centered, or null
    int64_t count;
    float lr, alpha, one_minus_alpha, eps, weight_decay, momentum, l1;
    bool maximize;
};

struct AdagradArgs {
    float* param;
    const float* grad;
    float* sum;
    int64_t count;
    float lr, eps, weight_decay, l1;
    bool maximize;
};

struct AdamArgs {
    float* param;
    const float* grad;
    float *exp_avg, *exp_avg_sq;
    float* max_exp_avg_sq;  // amsgrad, or null
    int64_t count;
    float one_minus_beta1, beta2, one_minus_beta2;
    float step_size;     // lr / (1 - beta1^step)
    float inv_root_bc2;  // 1 / sqrt(1 - beta2^step)
    float eps;
    float weight_decay;  // added to the gradient
    float decay_factor;  // multiplies the parameter first: 1 - lr * weight_decay when decoupled,
                         // else 1
    float l1;
    bool maximize;
};

enum class NormKind : int32_t { sum_abs, sum_squares, sum_power, max_abs, min_abs, count_nonzero };

struct NormPartialArgs {
    const float* x;
    int64_t count;  // >= 1
    NormKind kind;
    float p;
    double* partial;
};

struct ScaleArgs {
    float* x;
    int64_t count;
    float factor;
};

// x = clamp(x, -limit, limit)
struct ClampArgs {
    float* x;
    int64_t count;
    float limit;
};

struct FiniteArgs {
    const float* x;
    int64_t count;
    bool* finite;
};

}  // namespace engine
