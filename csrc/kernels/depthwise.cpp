// Depthwise convolution, one output row at a time.
//
//   dst[p][c] = bias[c] + sum_r sum_q src[row r][pixel q][c] * weight[tap(r, q)][c]
//
// Method: vectors over channels; the sums of one pixel's vectors stay in registers over all taps.
// Which rows and pixels take part comes as tables, so padding costs no copy, and the input gradient
// (any stride and dilation) is the same loop with other tables.
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

template <int NV>
inline __attribute__((always_inline)) void block(const DepthwiseArgs& d, int64_t c, int last) {
    for (int64_t p = 0; p < d.pixels; ++p) {
        vf sum[NV];
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            sum[v] = zero();
            if (d.bias)
                sum[v] =
                    v == NV - 1 ? load_n(d.bias + c + v * VL, last) : load(d.bias + c + v * VL);
        }
        for (int64_t r = 0; r < d.row_count; ++r) {
            const float* s = d.src + d.row_src[r] + c;
            const float* w = d.weight + d.row_tap[r] * d.channels + c;
            for (int32_t q = d.column_begin[p]; q < d.column_begin[p + 1]; ++q) {
                const float* x = s + d.column_src[q] * d.src_pixel;
                const float* k = w + d.column_tap[q] * d.channels;
#pragma GCC unroll 4
                for (int v = 0; v < NV; ++v) {
                    const bool tail = v == NV - 1;
                    const vf xv = tail ? load_n(x + v * VL, last) : load(x + v * VL);
                    const vf kv = tail ? load_n(k + v * VL, last) : load(k + v * VL);
                    sum[v] = fma(xv, kv, sum[v]);
                }
            }
        }
        float* y = d.dst + p * d.dst_pixel + c;
#pragma GCC unroll 4
        for (int v = 0; v < NV; ++v) {
            if (v == NV - 1)
                store_n(y + v * VL, sum[v], last);
            else
                store(y + v * VL, sum[v]);
        }
    }
}

}  // namespace

void depthwise_row(const DepthwiseArgs& d) {
    int64_t c = 0;
    for (; c + 4 * VL <= d.channels; c += 4 * VL) block<4>(d, c, VL);
    for (; c < d.channels; c += VL)
        block<1>(d, c, static_cast<int>(d.channels - c < VL ? d.channels - c : VL));
}

void depthwise_weight_row(const DepthwiseWeightArgs& d) {
    for (int64_t c = 0; c < d.channels; c += VL) {
        const int n = static_cast<int>(d.channels - c < VL ? d.channels - c : VL);
        vf sum = load_n(d.dweight + c, n);
        for (int64_t p = 0; p < d.pixels; ++p)
            sum = fma(load_n(d.src + p * d.src_pixel + c, n),
                      load_n(d.grad + p * d.grad_pixel + c, n), sum);
        store_n(d.dweight + c, sum, n);
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
