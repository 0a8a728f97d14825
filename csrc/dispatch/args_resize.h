// Arguments of csrc/kernels/resize.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// Position o of the destination axis is the sum over t < count[o] of
// weights[offset[o] + t] * src[begin[o] + t].
struct ResizeAxis {
    const int32_t *begin, *count;
    const int64_t* offset;
    const float* weights;
};

// Rows [row_begin, row_end) of the n * out_h destination rows.
struct ResizeArgs {
    const float* src;
    float* dst;
    int64_t src_ld, dst_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    ResizeAxis y, x;
    float* row;  // in_w * channels floats of scratch
    int64_t row_begin, row_end;
};

}  // namespace engine
