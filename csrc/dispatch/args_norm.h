// Arguments of csrc/kernels/norm.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// Mean and sum of squared deviations of every channel over one chunk of pixels.
struct ChannelStatsArgs {
    const float* src;
    int64_t src_ld, channels, pixels;  // pixels >= 1
    float *mean, *m2;
};

// sum_dy[c] = sum of dy, sum_dy_x[c] = sum of dy * (x - mean[c]) over one chunk of pixels.
struct ChannelGradSumsArgs {
    const float *dy, *x;
    int64_t dy_ld, x_ld, channels, pixels;
    const float* mean;
    float *sum_dy, *sum_dy_x;
};

// dst = (src - mean[c]) * scale[c] + shift[c]
struct ChannelAffineArgs {
    const float* src;
    float* dst;
    int64_t src_ld, dst_ld, channels, pixels;
    const float *mean, *scale, *shift;
};

// dx = dy * dy_scale[c] + (x - mean[c]) * x_scale[c] + shift[c]; with x null, dx = dy *
// dy_scale[c].
struct ChannelGradArgs {
    const float *dy, *x;
    float* dx;
    int64_t dy_ld, x_ld, dx_ld, channels, pixels;
    const float *mean, *dy_scale, *x_scale, *shift;
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
