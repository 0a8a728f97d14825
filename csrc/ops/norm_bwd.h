// Gradients of normalisation.
#pragma once

#include <utility>

#include "core/array.h"
#include "dispatch/args_gemm.h"

namespace engine {

struct NormGradients {
    Array dx, dweight, dbias;
};

struct BatchNormGradients {
    Array dx, dweight, dbias;
    Array dresidual;  // only where it differs from dy: with a residual and an activation
};

// `shift` (null without activation) as the forward call gave it; `kept` (null without residual) is
// its result for relu and relu6, the residual for the other activations.
BatchNormGradients batch_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                       const Array& mean, const Array& invstd, bool training,
                                       const Array* shift, const Array* kept,
                                       Activation activation);
// Gradients of x (N, C, H, W) * scale (N, C, 1, 1), both in one pass.
std::pair<Array, Array> channel_scale_backward(const Array& dy, const Array& x, const Array& scale);
NormGradients layer_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                  const Array& mean, const Array& invstd, int64_t n_dims);
NormGradients group_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                  const Array& mean, const Array& invstd, int64_t groups);
Array local_response_norm_backward(const Array& dy, const Array& x, const Array& y, int64_t size,
                                   double alpha, double beta, double k);

}  // namespace engine
