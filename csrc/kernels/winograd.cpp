// Transforms of Winograd's minimal filtering F(4 x 4, 3 x 3) with the points 0, 1, -1, 2, -2 (Lavin
// and Gray 2016, arXiv 1509.09308).
//
//   y  = A^T [ (G g G^T) * (B^T d B) ] A           36 products for 16 outputs instead of 144
//   dg = G^T [ sum over tiles (B^T d B) * (A dy A^T) ] G
//
// Layout: a plane per transform element e, channels contiguous. Method: vectors over channels; the
// one-dimensional transform is applied to columns, then to rows, through a 6 x 6 array of vectors
// that the compiler keeps in registers and, beyond those, in the first-level cache.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// out = B^T in, six values `step` apart.
ENGINE_INLINE void input_line(const vf* in, int in_step, vf* out, int out_step) {
    const vf d0 = in[0], d1 = in[in_step], d2 = in[2 * in_step], d3 = in[3 * in_step],
             d4 = in[4 * in_step], d5 = in[5 * in_step];
    const vf two = set1(2.0f), four = set1(4.0f), five = set1(5.0f);
    const vf a = fnma(four, d2, d4), b = fnma(four, d1, d3);  // d4 - 4 d2, d3 - 4 d1
    const vf c = d4 - d2, e = two * (d3 - d1);
    out[0] = fma(four, d0, fnma(five, d2, d4));
    out[out_step] = a + b;
    out[2 * out_step] = a - b;
    out[3 * out_step] = c + e;
    out[4 * out_step] = c - e;
    out[5 * out_step] = fma(four, d1, fnma(five, d3, d5));
}

// out = G in: three values to six.
ENGINE_INLINE void weight_line(const vf* in, int in_step, vf* out, int out_step) {
    const vf g0 = in[0], g1 = in[in_step], g2 = in[2 * in_step];
    const vf sixth = set1(1.0f / 6), twelfth = set1(1.0f / 12), part = set1(1.0f / 24);
    const vf even = sixth * (g0 + g2), odd = sixth * g1;
    const vf even2 = fma(part, g0, sixth * g2), odd2 = twelfth * g1;
    out[0] = set1(0.25f) * g0;
    out[out_step] = -even - odd;
    out[2 * out_step] = odd - even;
    out[3 * out_step] = even2 + odd2;
    out[4 * out_step] = even2 - odd2;
    out[5 * out_step] = g2;
}

// out = A^T in: six values to four.
ENGINE_INLINE void output_line(const vf* in, int in_step, vf* out, int out_step) {
    const vf m0 = in[0], m1 = in[in_step], m2 = in[2 * in_step], m3 = in[3 * in_step],
             m4 = in[4 * in_step], m5 = in[5 * in_step];
    const vf sum1 = m1 + m2, difference1 = m1 - m2, sum2 = m3 + m4, difference2 = m3 - m4;
    out[0] = m0 + sum1 + sum2;
    out[out_step] = fma(set1(2.0f), difference2, difference1);
    out[2 * out_step] = fma(set1(4.0f), sum2, sum1);
    out[3 * out_step] = fma(set1(8.0f), difference2, difference1) + m5;
}

// out = A in: four values to six.
ENGINE_INLINE void gradient_line(const vf* in, int in_step, vf* out, int out_step) {
    const vf y0 = in[0], y1 = in[in_step], y2 = in[2 * in_step], y3 = in[3 * in_step];
    const vf even = y0 + y2, odd = y1 + y3;
    const vf even2 = fma(set1(4.0f), y2, y0), odd2 = fma(set1(8.0f), y3, set1(2.0f) * y1);
    out[0] = y0;
    out[out_step] = even + odd;
    out[2 * out_step] = even - odd;
    out[3 * out_step] = even2 + odd2;
    out[4 * out_step] = even2 - odd2;
    out[5 * out_step] = y3;
}

// out = G^T in: six values to three.
ENGINE_INLINE void filter_line(const vf* in, int in_step, vf* out, int out_step) {
    const vf m1 = in[in_step], m2 = in[2 * in_step], m3 = in[3 * in_step], m4 = in[4 * in_step];
    const vf sixth = set1(1.0f / 6), sum1 = m1 + m2, sum2 = m3 + m4;
    out[0] = fma(set1(0.25f), in[0], fnma(sixth, sum1, set1(1.0f / 24) * sum2));
    out[out_step] = fma(sixth, m2 - m1, set1(1.0f / 12) * (m3 - m4));
    out[2 * out_step] = fma(sixth, sum2 - sum1, in[5 * in_step]);
}

}  // namespace

void winograd_input(const WinogradInputArgs& a) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf d[36], t[36];
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) d[i] = load_some(a.pixels[i] + c, n);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) input_line(d + i, 6, t + i, 6);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) input_line(t + 6 * i, 1, d + 6 * i, 1);
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) store_some(a.dst + i * a.plane + c, d[i], n);
    }
}

void winograd_weight(const WinogradWeightArgs& a) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf g[9], t[18], u[36];
#pragma GCC unroll 9
        for (int i = 0; i < 9; ++i)
            g[i] = load_some(a.src + (a.turned ? 8 - i : i) * a.src_plane + c, n);
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) weight_line(g + i, 3, t + i, 3);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) weight_line(t + 3 * i, 1, u + 6 * i, 1);
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) store_some(a.dst + i * a.plane + c, u[i], n);
    }
}

void winograd_output(const WinogradOutputArgs& a) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf m[36], t[24], y[16];
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) m[i] = load_some(a.src + i * a.plane + c, n);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) output_line(m + i, 6, t + i, 6);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) output_line(t + 6 * i, 1, y + 4 * i, 1);
        vf check = zero();
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) check = fma(y[i], zero(), check);
        if (any(is_nan(check))) *a.spoiled = 1;
        const vf bias = a.bias ? load_some(a.bias + c, n) : zero();
        for (int i = 0; i < a.rows; ++i)
            for (int j = 0; j < a.columns; ++j) {
                vf value = y[4 * i + j] + bias;
                if (a.residual)
                    value =
                        value +
                        load_some(a.residual + i * a.residual_row + j * a.residual_pixel + c, n);
                store_some(a.dst + i * a.dst_row + j * a.dst_pixel + c,
                           activate(a.activation, value), n);
            }
    }
}

void winograd_gradient(const WinogradGradientArgs& a) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf g[16], t[24], w[36];
#pragma GCC unroll 16
        for (int i = 0; i < 16; ++i) g[i] = load_some(a.pixels[i] + c, n);
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) gradient_line(g + i, 4, t + i, 4);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) gradient_line(t + 4 * i, 1, w + 6 * i, 1);
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) store_some(a.dst + i * a.plane + c, w[i], n);
    }
}

void winograd_filter(const WinogradFilterArgs& a) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf m[36], t[18], g[9];
#pragma GCC unroll 36
        for (int i = 0; i < 36; ++i) m[i] = load_some(a.src + i * a.plane + c, n);
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) filter_line(m + i, 6, t + i, 6);
#pragma GCC unroll 3
        for (int i = 0; i < 3; ++i) filter_line(t + 6 * i, 1, g + 3 * i, 1);
#pragma GCC unroll 9
        for (int i = 0; i < 9; ++i) store_some(a.dst + i * a.dst_plane + c, g[i], n);
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
