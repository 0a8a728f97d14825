// Arguments of csrc/kernels/pool.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// Output position o of an axis reads the `count[o]` input positions begin[o], begin[o] + step, ...
// (all inside the input).
struct PoolAxis {
    const int32_t* begin;
    const int32_t* count;
    int64_t step;
};

// Rows of pixels of fewer channels than a vector has lanes: vector v makes elements [v * width,
// (v + 1) * width) of a row of `results`. Entry e = v * taps + t of the tables says where tap t
// comes from: lane l is float lane[e * VL + l] of the `reach` (VL or 2 VL) at start[e] of a row of
// `source` floats. column[e * VL + l] is the input column that the lane stands for, or -1 where a
// pixel has fewer taps (for a forward maximum the last tap is repeated instead); size is the factor
// of the output in averages. No vectors: not used.
struct PoolLanes {
    const int32_t *start, *lane, *column;
    const float* size;
    int64_t vectors, taps, width, reach, results, source;
};

// stream: what is written goes past the caches; it is aligned and its channels fill vectors.
// fetch_ahead: src comes from memory, not from a near cache.

// Rows [row_begin, row_end) of the n * out_h output rows.
struct MaxPoolArgs {
    const float* src;
    float* dst;
    int32_t* indices;  // iy * in_w + ix per output element; may be null
    int64_t src_ld, dst_ld, indices_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    PoolAxis y, x;
    PoolLanes lanes;  // with dst_ld == indices_ld == channels
    int64_t row_begin, row_end;
    bool stream, fetch_ahead;
};

// Channels [0, channels) of one image: dst is overwritten.
struct MaxPoolBackwardArgs {
    const float* dy;
    const int32_t* indices;
    float* dx;
    int64_t dy_ld, indices_ld, dx_ld, channels;
    int64_t in_pixels, out_pixels;
    int32_t* bad;  // set to 1 when an index lies outside [0, in_pixels); such an element is skipped
};

// Rows [row_begin, row_end) of the n * in_h rows of dx, each element written once. Axes are the
// transposed windows: input position i is read by the output positions begin[i] ... begin[i] +
// count[i] - 1. An index outside the window of its output is no error, its dy gets lost.
struct MaxPoolGatherArgs {
    const float* dy;
    const int32_t* indices;
    float* dx;
    int64_t dy_ld, indices_ld, dx_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    PoolAxis y, x;
    PoolLanes lanes;  // with dx_ld == channels, dy_ld == indices_ld
    int64_t row_begin, row_end;
    bool stream;
};

// dst = sum over the window / (y_size[oy] * x_size[ox]).
struct AvgPoolArgs {
    const float* src;
    float* dst;
    int64_t src_ld, dst_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    PoolAxis y, x;
    const float *y_size, *x_size;
    PoolLanes lanes;  // with dst_ld == channels
    int64_t row_begin, row_end;
    bool stream, fetch_ahead;
};

// Rows [row_begin, row_end) of the n * in_h rows of dx. Axes are the transposed windows: input
// position i is read by the output positions begin[i] ... begin[i] + count[i] - 1.
struct AvgPoolBackwardArgs {
    const float* dy;
    float* dx;
    int64_t dy_ld, dx_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    PoolAxis y, x;
    const float *y_size, *x_size;
    PoolLanes lanes;  // with dx_ld == channels
    int64_t row_begin, row_end;
    bool stream;
};

}  // namespace engine
