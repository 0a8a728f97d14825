// Arguments of the kernels in csrc/kernels/depthwise.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/args_gemm.h"

namespace engine {

// Some rows and some channels of one image of a depthwise convolution, or of a grouped one whose
// groups, of as many outputs as inputs, are narrower than a vector and divide it (`grouped`; its
// weights are [kernel_h][input of the group][kernel_w][weight_tap floats])
//   dst[h][w][c] = activation(residual[h][w][c] + bias[c] + sum over r, q of
//                      src[h * stride_h - pad_top + r][w * stride_w - pad_left + q][c] *
//                      weight[r][q][c])
// or, for depthwise_spread, of its input gradient: what src[h][w] spreads, dst gathers,
//   dst[h][w][c] = sum over r, q with (h + pad_top - r) = stride_h * i, (w + pad_left - q) =
//                  stride_w * j of src[i][j][c] * weight[r][q][c]
// Pixels outside src count as zero and are not read. Padding may be negative; no window lies in the
// padding alone.
struct DepthwiseArgs {
    const float* src;  // first pixel of the image, first channel of the call
    int64_t src_pixel, src_h, src_w;
    float* dst;
    int64_t dst_pixel, dst_w;
    int64_t row_begin, row_end;  // of dst
    const float* weight;         // [kernel_h][kernel_w][weight_tap floats]
    int64_t weight_tap;
    // Epilogue of the forward direction: bias and residual may be null.
    const float* bias;
    const float* residual;
    int64_t residual_pixel;
    Activation activation;
    int64_t channels;
    int64_t group;               // channels per group, for grouped
    int64_t kernel_h, kernel_w;  // kernel_w: 3, 5 or 7; for grouped 3
    int64_t stride_h, stride_w;  // stride_w: 1 or 2; depthwise_spread: 2
    int64_t pad_top, pad_left;
    int64_t dilation_h;  // depthwise_spread: 1
    // The rows come from memory, not from a near cache: fetch what the rows after row_end read,
    // and own the lines that they write. Pixels are dense.
    bool fetch_ahead, fetch_results;
    // Store past the caches; dst is aligned to vectors and nothing is left to do after registers.
    bool stream;
};

// One row by tables, for any kernel, stride and dilation of either direction:
//   dst[p][c] = bias[c] + sum over row taps r, column taps q of pixel p:
//               src[row_src[r] + column_src[q] * src_pixel + c] * weight[(row_tap[r] +
//               column_tap[q]) * channels + c]
struct DepthwiseTapsArgs {
    const float* src;
    int64_t src_pixel;
    float* dst;
    int64_t dst_pixel;
    const float* weight;  // [kh][kw][channels]
    const float* bias;    // or null
    int64_t channels;
    int64_t pixels;
    const int64_t* row_src;  // element offset of each row that takes part
    const int64_t* row_tap;  // kh * kernel width
    int64_t row_count;
    const int32_t* column_begin;  // pixels + 1 entries into column_src / column_tap
    const int32_t* column_src;    // pixel index within the row
    const int32_t* column_tap;    // kw
};

// What some output rows of one image add to the weight gradient:
//   dweight[r][q][c] += sum over h, w of grad[h][w][c] * src[h * stride_h - pad_top + r]
//                                                          [w * stride_w - pad_left + q][c]
struct DepthwiseWeightArgs {
    const float* src;
    int64_t src_pixel, src_h, src_w;
    const float* grad;
    int64_t grad_pixel, grad_w;
    int64_t row_begin, row_end;  // of grad
    float* dweight;              // [kernel_h][kernel_w][weight_tap floats]
    int64_t weight_tap;
    float* dbias;  // or null: dbias[c] += sum over h, w of grad[h][w][c]
    int64_t channels;
    int64_t group;
    int64_t kernel_h, kernel_w;
    int64_t stride_h, stride_w;
    int64_t pad_top, pad_left;
    int64_t dilation_h;
    bool fetch_ahead;  // pixels are dense, so that rows to come may be fetched
};

// Weight gradient, one tap, one output row, any stride and dilation: dweight[c] += sum over p of
// src[p * src_pixel + c] * grad[p * grad_pixel + c]
struct DepthwiseWeightTapArgs {
    const float* src;
    int64_t src_pixel;
    const float* grad;
    int64_t grad_pixel;
    int64_t channels;
    int64_t pixels;
    float* dweight;
};

}  // namespace engine
