// Arguments of csrc/kernels/indexing.cpp. Elements are moved as bytes; sums name their type.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// dst row r = src row r; rows are `bytes` long and `step` bytes apart. stream: past the caches;
// bytes, dst and dst_step are multiples of 64.
struct CopyRowsArgs {
    const char* src;
    char* dst;
    int64_t src_step, dst_step, bytes, rows;
    bool stream;
};

// src is [outer][axis][bytes], dst is [outer][count][bytes]: dst[o][j] = src[o][index[j]] for o in
// [begin, end).
struct TakeRowsArgs {
    const char* src;
    char* dst;
    const int64_t* index;
    int64_t axis, count, bytes;
    int64_t begin, end;
};

enum class SumType : int32_t { f32, i64, i32 };

// dst is [outer][axis][inner], src is [outer][count][inner]: dst[o][index[j]] += src[o][j] for o in
// [begin, end) and inner positions [inner_begin, inner_end), j ascending.
struct AddRowsArgs {
    const void* src;
    void* dst;
    const int64_t* index;
    SumType type;
    int64_t axis, count, inner;
    int64_t begin, end, inner_begin, inner_end;
};

// Lines along one axis; the lines are numbered row-major over `shape` (the other axes). Strides are
// in elements.
struct LinesArgs {
    const void* src;
    void* dst;
    const int64_t* index;
    int64_t element_size;  // gather: 1, 4 or 8
    SumType type;          // scatter_add
    int64_t rank;
    int64_t shape[8], src_stride[8], dst_stride[8], index_stride[8];
    int64_t length;  // of the index along the axis
    int64_t src_step, dst_step, index_step;
    int64_t begin, end;
};

// Rows [row_begin, row_end) of the n * out_h rows of dst. A map gives the source position of an
// output position, -1 for the fill value.
struct PadArgs {
    const char* src;
    char* dst;
    int64_t src_pixel, dst_pixel;  // bytes between pixels
    int64_t pixel_bytes, element_size;
    int64_t in_h, in_w, out_h, out_w;
    const int32_t *y_map, *x_map;
    char value[8];  // one element
    int64_t row_begin, row_end;
};

// Rows [row_begin, row_end) of the n * in_h rows of dx: the sum of the rows of dy that y_list names
// for it (entries y_begin[iy] ... y_begin[iy + 1] - 1), each spread by x_map.
struct PadBackwardArgs {
    const float* dy;
    float* dx;
    int64_t dy_ld, dx_ld, channels;
    int64_t in_h, in_w, out_h, out_w;
    const int32_t *y_begin, *y_list, *x_map;
    int64_t row_begin, row_end;
};

}  // namespace engine
