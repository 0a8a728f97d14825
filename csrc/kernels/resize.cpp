// Resampling of the last two axes.
//
//   dst[oy][ox] = sum over ty, tx of wy[oy][ty] * wx[ox][tx] * src[begin_y[oy] + ty][begin_x[ox] +
//   tx]
//
// Layout: channels-last, a pixel stride on either side. The op makes one table of weights per axis;
// every mode, antialiased or not, and every gradient (the transposed table) is this one loop.
// Method: per destination row first the vertical sum over whole input rows into a scratch row (flat
// vectors when the pixels are adjacent), then the horizontal sum, vectors over channels. A vertical
// table with the single weight 1 (nearest) reads the input row in place.
// Registers: one accumulator and one weight.
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// dst[i] = sum over t < count of weights[t] * src[t * step + i], i < length. The first product is
// not added to zero, so that -0 stays -0.
inline void weighted_sum(const float* src, int64_t step, const float* weights, int64_t count,
                         float* dst, int64_t length) {
    for (int64_t i = 0; i < length; i += VL) {
        const int n = lanes_left(length - i);
        vf sum = zero();
        if (count > 0) sum = load_some(src + i, n) * set1(weights[0]);
        for (int64_t t = 1; t < count; ++t)
            sum = fma(load_some(src + t * step + i, n), set1(weights[t]), sum);
        store_some(dst + i, sum, n);
    }
}

}  // namespace

void resize_rows(const ResizeArgs& a) {
    const int64_t in_row = a.in_w * a.src_ld;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.out_h, oy = row % a.out_h;
        const int64_t y_count = a.y.count[oy];
        const float* y_weights = a.y.weights + a.y.offset[oy];
        const float* src = a.src + (image * a.in_h + a.y.begin[oy]) * in_row;
        const float* line = a.row;
        int64_t line_ld = a.channels;
        if (y_count == 1 && y_weights[0] == 1.0f) {
            line = src;
            line_ld = a.src_ld;
        } else if (a.src_ld == a.channels) {
            weighted_sum(src, in_row, y_weights, y_count, a.row, a.in_w * a.channels);
        } else {
            for (int64_t ix = 0; ix < a.in_w; ++ix)
                weighted_sum(src + ix * a.src_ld, in_row, y_weights, y_count,
                             a.row + ix * a.channels, a.channels);
        }
        float* dst = a.dst + row * a.out_w * a.dst_ld;
        for (int64_t ox = 0; ox < a.out_w; ++ox)
            weighted_sum(line + a.x.begin[ox] * line_ld, line_ld, a.x.weights + a.x.offset[ox],
                         a.x.count[ox], dst + ox * a.dst_ld, a.channels);
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
