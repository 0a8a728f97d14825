// Arguments of the kernels in csrc/kernels/depthwise.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// One row of a depthwise convolution (or of its input gradient: the tap tables differ).
//   dst[p][c] = bias[c] + sum over row taps r, column taps q of pixel p:
//               src[row_src[r] + column_src[q] * src_pixel + c] * weight[(row_tap[r] +
//               column_tap[q]) * channels + c]
struct DepthwiseArgs {
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

// Weight gradient, one tap, one output row: dweight[c] += sum over p of src[p * src_pixel + c] *
// grad[p * grad_pixel + c]
struct DepthwiseWeightArgs {
    const float* src;
    int64_t src_pixel;
    const float* grad;
    int64_t grad_pixel;
    int64_t channels;
    int64_t pixels;
    float* dweight;
};

}  // namespace engine
