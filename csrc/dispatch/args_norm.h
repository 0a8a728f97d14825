// Arguments of csrc/kernels/norm.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/args_gemm.h"

namespace engine {

// Mean and sum of squared deviations of every channel over one chunk of pixels.
struct ChannelStatsArgs {
    const float* src;
    int64_t src_ld, channels, pixels;  // pixels >= 1
    float *mean, *m2;
    float* sum;  // channels floats of scratch
};

// dst = activation((src - mean[c]) * scale[c] + shift[c] + residual)
struct ChannelAffineArgs {
    const float* src;
    float* dst;
    int64_t src_ld, dst_ld, channels, pixels;
    const float *mean, *scale, *shift;
    const float* residual;  // or null
    int64_t residual_ld;
    Activation activation;
    bool stream;  // past the caches: dst, dst_ld and channels are multiples of a vector
};

// g = dy * activation'(z), z being what the activation saw. Without `kept` that is recomputed:
// z = (x - mean[c]) * scale[c] + shift[c]. When a residual was added, `kept` is the output for relu
// and relu6, whose gradients see no more than that, and for the others the residual, to be added.
//   sum_g[c] = sum of g, sum_g_x[c] = sum of g * (x - mean[c]) over one chunk of pixels
struct ChannelGradSumsArgs {
    const float *dy, *x;
    int64_t dy_ld, x_ld, channels, pixels;
    const float *mean, *scale, *shift;  // the last two only with an activation
    Activation activation;
    const float* kept;  // or null
    float* g;           // written where there is `kept`
    int64_t kept_ld, g_ld;
    bool stream;  // as above, for g
    float *sum_g, *sum_g_x;
};

// dx = g * g_scale[c] + (x - mean[c]) * x_scale[c] + g_shift[c], with g as above from dy, where
// g_scale is also the scale of z; with x null, dx = dy * g_scale[c].
struct ChannelGradArgs {
    const float *dy, *x;
    float* dx;
    int64_t dy_ld, x_ld, dx_ld, channels, pixels;
    const float *mean, *g_scale, *x_scale, *g_shift;
    const float* shift;  // of z, with an activation
    Activation activation;
    bool stream;  // as above, for dx
};

// dx = dy * scale[c] and sum[c] = sum of dy * x over one chunk of pixels.
struct ChannelScaleGradArgs {
    const float *dy, *x, *scale;
    float *dx, *sum;
    int64_t dy_ld, x_ld, dx_ld, channels, pixels;
    bool stream;  // as above, for dx
};

// Rows of `columns` adjacent floats; mean and invstd have one entry per row.
struct RowNormArgs {
    const float* src;
    float* dst;
    int64_t columns, row_begin, row_end;
    const float *weight, *bias;  // columns each, or null
    double eps;
    float *mean, *invstd;
};

// dweight and dbias (columns each, or null) receive the sums over these rows.
struct RowNormBackwardArgs {
    const float *dy, *x;
    float* dx;
    int64_t columns, row_begin, row_end;
    const float *weight, *mean, *invstd;
    float *dweight, *dbias;
};

// y[c] = x[c] / d[c]^beta, d[c] = k + alpha_over_size * sum of x^2 over channels [c - before, c +
// after].
struct ResponseNormArgs {
    const float* src;
    float* dst;
    int64_t src_ld, dst_ld, channels, pixels;
    int64_t before, after;
    float alpha_over_size, beta, k;
    float* squares;  // before + channels + after floats of scratch
};

struct ResponseNormBackwardArgs {
    const float *dy, *x, *y;
    float* dx;
    int64_t dy_ld, x_ld, y_ld, dx_ld, channels, pixels;
    int64_t before, after;
    float alpha_over_size, beta, k;
    float* squares;  // before + channels + after floats of scratch
    float* shares;   // the same
};

}  // namespace engine
