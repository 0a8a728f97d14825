// Gradients of normalisation.
#pragma once

#include "core/array.h"

namespace engine {

struct NormGradients {
    Array dx, dweight, dbias;
};

NormGradients batch_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                  const Array& mean, const Array& invstd, bool training);
NormGradients layer_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                  const Array& mean, const Array& invstd, int64_t n_dims);
NormGradients group_norm_backward(const Array& dy, const Array& x, const Array* weight,
                                  const Array& mean, const Array& invstd, int64_t groups);
Array local_response_norm_backward(const Array& dy, const Array& x, const Array& y, int64_t size,
                                   double alpha, double beta, double k);

}  // namespace engine
