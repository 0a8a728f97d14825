// Transforms of Winograd's minimal filtering (Lavin and Gray 2016, arXiv 1509.09308), for every
// form in dispatch/args_winograd.h. A form is a product of two axes, each F(m, r): m results of a
// filter of r taps from m + r - 1 products.
//
//   y  = A^T [ (G g G^T) * (B^T d B) ] A
//   dg = G^T [ sum over tiles (B^T d B) * (A dy A^T) ] G
//
// Matrices: Toom-Cook interpolation at 0, pairs +-p, and infinity. Row i of A holds the powers of
// point p_i, row i of G the same over N_i = product of (p_i - p_k), row i of B^T the coefficients
// of the product of (x - p_k), k != i. The rows of +p and -p agree in even columns and differ in
// sign in odd ones, so a pair costs one row and two additions.
//
// Points: what counts is how much larger the products are than their result. Of pairs on a grid of
// eighths (quarters and some eighths for four pairs), these make the sum over i of
// (A_ij |B_i| |G_i|)^2 least; for F(4, 3) it is 8 where the usual 1, 2 give 31, on each axis.
//
// Tried and lost: F(6 x 6, 3 x 3), largest error 1.7e-5 in a simulation with 256 channels, ran at
// 0.8 to 1.0 of the speed of F(4 x 4, 3 x 3) at batch 16 and on large maps, slower on small ones (7
// x 7: half); F(2, 7), a third of the error of F(4, 7) in the simulation, ran at 0.68 to 0.76 of
// its speed. Not tried: 3 x 3 with stride 2, split by the parity of rows and columns, needs 25/36
// of the products with tiles of 2 x 2, which the transforms' third of the gain elsewhere would eat
// up.
//
// Layout: a plane per transform element e, channels contiguous. Method: vectors over channels; the
// one-dimensional transform is applied to columns, then to rows, through an array of vectors that
// the compiler keeps in registers and, beyond those, in the first-level cache.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

constexpr double kPoints[4][4] = {{1}, {0.625, 1.625}, {0.5, 1, 2}, {0.375, 0.875, 1.25, 2.25}};

// The matrices of F(M, R).
template <int M, int R>
struct Line {
    enum { kOutputs = M, kTaps = R, kSize = M + R - 1 };
    static_assert(kSize % 2 == 0, "points come in pairs beside zero and infinity");
    double bt[kSize][kSize] = {}, g[kSize][R] = {}, a[kSize][M] = {};
    constexpr Line() {
        double point[kSize] = {};
        for (int i = 1; i < kSize - 1; ++i)
            point[i] = (i % 2 ? 1 : -1) * kPoints[kSize / 2 - 2][(i - 1) / 2];
        for (int i = 0; i < kSize; ++i) {
            double scale = 1;
            bt[i][0] = 1;
            for (int k = 0, degree = 0; k < kSize - 1; ++k) {
                if (k == i) continue;
                scale *= i < kSize - 1 ? point[i] - point[k] : 1;
                for (int j = ++degree; j >= 0; --j)
                    bt[i][j] = (j ? bt[i][j - 1] : 0) - point[k] * bt[i][j];
            }
            double power = 1;
            for (int j = 0; i < kSize - 1 && (j < M || j < R); ++j, power *= point[i]) {
                if (j < M) a[i][j] = power;
                if (j < R) g[i][j] = power / scale;
            }
        }
        a[kSize - 1][M - 1] = g[kSize - 1][R - 1] = 1;
    }
};
// An axis that is not transformed.
template <>
struct Line<1, 1> {
    enum { kOutputs = 1, kTaps = 1, kSize = 1 };
};
template <class L>
constexpr L kLine{};

enum class Matrix { bt, g, a };

template <class L, Matrix m>
constexpr int columns_of() {
    return m == Matrix::bt ? L::kSize : m == Matrix::g ? L::kTaps : L::kOutputs;
}
template <class L, Matrix m>
constexpr double entry(int i, int j) {
    if constexpr (m == Matrix::bt)
        return kLine<L>.bt[i][j];
    else if constexpr (m == Matrix::g)
        return kLine<L>.g[i][j];
    else
        return kLine<L>.a[i][j];
}

template <int I>
struct Index {
    enum { value = I };
    constexpr operator int() const { return I; }
};
// f(Index<0>), ..., f(Index<N - 1>): loops whose variable is a constant.
template <int N, int I = 0, class F>
ENGINE_INLINE void unrolled(const F& f) {
    if constexpr (I < N) {
        f(Index<I>{});
        unrolled<N, I + 1>(f);
    }
}

// Coefficients that a sum of products is written with.
// Row of the matrix: all columns (parity 2), the even ones (0), or the odd ones over the last of
// them (1), so that one sum needs no multiplication and the addition to the even ones has it.
template <class L, Matrix m, int row, int parity>
struct RowOf {
    enum { kCount = columns_of<L, m>() };
    static constexpr double factor() {
        double last = 0;
        for (int j = 1; j < kCount; j += 2)
            if (entry<L, m>(row, j) != 0) last = entry<L, m>(row, j);
        return last;
    }
    static constexpr double at(int j) {
        if (parity == 1) return j % 2 ? entry<L, m>(row, j) / factor() : 0;
        return parity == 2 || j % 2 == 0 ? entry<L, m>(row, j) : 0;
    }
};
// Column of the matrix, for values m_0, m_1 + m_2, m_1 - m_2, m_3 + m_4, ..., m_last.
template <class L, Matrix m, int column>
struct ColumnOf {
    enum { kCount = L::kSize };
    static constexpr double at(int i) {
        if (i == 0 || i == kCount - 1) return entry<L, m>(i, column);
        return (i + column) % 2 ? entry<L, m>(i - 1 + i % 2, column) : 0;
    }
};

// Where a sum begins: at a term that needs no multiplication, if there is one.
template <class C>
constexpr int start_of() {
    int start = -1;
    for (int j = C::kCount - 1; j >= 0; --j)
        if (C::at(j) != 0 && !(start >= 0 && C::at(start) == 1 && C::at(j) != 1)) start = j;
    return start;
}

template <class C>
ENGINE_INLINE vf sum_of_products(const vf* in, int step) {
    constexpr int start = start_of<C>();
    vf sum = in[start * step];
    if constexpr (C::at(start) != 1) sum = set1(static_cast<float>(C::at(start))) * sum;
    unrolled<C::kCount>([&](auto index) __attribute__((always_inline)) {
        constexpr int j = decltype(index)::value;
        constexpr double factor = C::at(j);
        if constexpr (j != start && factor == 1)
            sum = sum + in[j * step];
        else if constexpr (j != start && factor == -1)
            sum = sum - in[j * step];
        else if constexpr (j != start && factor != 0)
            sum = fma(set1(static_cast<float>(factor)), in[j * step], sum);
    });
    return sum;
}

// out = matrix in: to the values of L::kSize points.
template <class L, Matrix m>
struct Spread {
    enum { kFrom = columns_of<L, m>(), kTo = L::kSize };
    ENGINE_INLINE void apply(const vf* in, int in_step, vf* out, int out_step) {
        if constexpr (kTo == 1) {
            out[0] = in[0];
        } else {
            out[0] = sum_of_products<RowOf<L, m, 0, 2>>(in, in_step);
            unrolled<(kTo - 2) / 2>([&](auto index) __attribute__((always_inline)) {
                constexpr int row = 2 * decltype(index)::value + 1;
                using Odd = RowOf<L, m, row, 1>;
                const vf even = sum_of_products<RowOf<L, m, row, 0>>(in, in_step);
                const vf odd = sum_of_products<Odd>(in, in_step);
                if constexpr (Odd::factor() == 1) {
                    out[row * out_step] = even + odd;
                    out[(row + 1) * out_step] = even - odd;
                } else {
                    const vf factor = set1(static_cast<float>(Odd::factor()));
                    out[row * out_step] = fma(factor, odd, even);
                    out[(row + 1) * out_step] = fnma(factor, odd, even);
                }
            });
            out[(kTo - 1) * out_step] = sum_of_products<RowOf<L, m, kTo - 1, 2>>(in, in_step);
        }
    }
};

// out = matrix^T in: back from the points.
template <class L, Matrix m>
struct Gather {
    enum { kFrom = L::kSize, kTo = columns_of<L, m>() };
    ENGINE_INLINE void apply(const vf* in, int in_step, vf* out, int out_step) {
        if constexpr (kFrom == 1) {
            out[0] = in[0];
        } else {
            vf paired[kFrom];
            paired[0] = in[0];
            unrolled<(kFrom - 2) / 2>([&](auto index) __attribute__((always_inline)) {
                constexpr int i = 2 * decltype(index)::value + 1;
                paired[i] = in[i * in_step] + in[(i + 1) * in_step];
                paired[i + 1] = in[i * in_step] - in[(i + 1) * in_step];
            });
            paired[kFrom - 1] = in[(kFrom - 1) * in_step];
            unrolled<kTo>([&](auto index) __attribute__((always_inline)) {
                constexpr int j = decltype(index)::value;
                out[j * out_step] = sum_of_products<ColumnOf<L, m, j>>(paired, 1);
            });
        }
    }
};

// Down the columns, then along the rows.
template <class H, class W>
ENGINE_INLINE void transform(const vf* in, vf* out) {
    vf half[H::kTo * W::kFrom];
    unrolled<W::kFrom>([&](auto j) __attribute__((always_inline)) {
        H::apply(in + j, W::kFrom, half + j, W::kFrom);
    });
    unrolled<H::kTo>([&](auto i) __attribute__((always_inline)) {
        W::apply(half + i * W::kFrom, 1, out + i * W::kTo, 1);
    });
}

template <class H, class W>
void input(const WinogradInputArgs& a) {
    enum { kElements = H::kSize * W::kSize };
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf d[kElements], v[kElements];
        unrolled<kElements>(
            [&](auto i) __attribute__((always_inline)) { d[i] = load_some(a.pixels[i] + c, n); });
        transform<Spread<H, Matrix::bt>, Spread<W, Matrix::bt>>(d, v);
        unrolled<kElements>([&](auto i) __attribute__((always_inline)) {
            store_some(a.dst + i * a.plane + c, v[i], n);
        });
    }
}

template <class H, class W>
void weight(const WinogradWeightArgs& a) {
    enum { kTaps = H::kTaps * W::kTaps, kElements = H::kSize * W::kSize };
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf g[kTaps], u[kElements];
        unrolled<kTaps>([&](auto i) __attribute__((always_inline)) {
            g[i] = load_some(a.src + (a.turned ? kTaps - 1 - i : i) * a.src_plane + c, n);
        });
        transform<Spread<H, Matrix::g>, Spread<W, Matrix::g>>(g, u);
        unrolled<kElements>([&](auto i) __attribute__((always_inline)) {
            store_some(a.dst + i * a.plane + c, u[i], n);
        });
    }
}

template <class H, class W>
void output(const WinogradOutputArgs& a) {
    enum { kPixels = H::kOutputs * W::kOutputs, kElements = H::kSize * W::kSize };
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf m[kElements], y[kPixels];
        unrolled<kElements>([&](auto i) __attribute__((always_inline)) {
            m[i] = load_some(a.src + i * a.plane + c, n);
        });
        transform<Gather<H, Matrix::a>, Gather<W, Matrix::a>>(m, y);
        vf check = zero();
        unrolled<kPixels>([&](auto i)
                              __attribute__((always_inline)) { check = fma(y[i], zero(), check); });
        if (any(is_nan(check))) *a.spoiled = 1;
        const vf bias = a.bias ? load_some(a.bias + c, n) : zero();
        for (int i = 0; i < a.rows; ++i)
            for (int j = 0; j < a.columns; ++j) {
                vf value = y[W::kOutputs * i + j] + bias;
                if (a.residual)
                    value =
                        value +
                        load_some(a.residual + i * a.residual_row + j * a.residual_pixel + c, n);
                float* to = a.dst + i * a.dst_row + j * a.dst_pixel + c;
                value = activate(a.activation, value);
                if (a.stream && n == VL)
                    stream(to, value);
                else
                    store_some(to, value, n);
            }
    }
    if (a.fence) stream_fence();
}

template <class H, class W>
void gradient(const WinogradGradientArgs& a) {
    enum { kPixels = H::kOutputs * W::kOutputs, kElements = H::kSize * W::kSize };
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf g[kPixels], w[kElements];
        unrolled<kPixels>(
            [&](auto i) __attribute__((always_inline)) { g[i] = load_some(a.pixels[i] + c, n); });
        transform<Spread<H, Matrix::a>, Spread<W, Matrix::a>>(g, w);
        unrolled<kElements>([&](auto i) __attribute__((always_inline)) {
            store_some(a.dst + i * a.plane + c, w[i], n);
        });
    }
}

template <class H, class W>
void filter(const WinogradFilterArgs& a) {
    enum { kTaps = H::kTaps * W::kTaps, kElements = H::kSize * W::kSize };
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        vf m[kElements], g[kTaps];
        unrolled<kElements>([&](auto i) __attribute__((always_inline)) {
            m[i] = load_some(a.src + i * a.plane + c, n);
        });
        transform<Gather<H, Matrix::g>, Gather<W, Matrix::g>>(m, g);
        unrolled<kTaps>([&](auto i) __attribute__((always_inline)) {
            store_some(a.dst + i * a.dst_plane + c, g[i], n);
        });
    }
}

}  // namespace

#define ENGINE_CASE(function, name, algorithm, mh, rh, mw, rw) \
    case WinogradForm::name: function<Line<mh, rh>, Line<mw, rw>>(a); break;

void winograd_input(const WinogradInputArgs& a) {
    switch (a.form) { ENGINE_WINOGRAD_FORMS(ENGINE_CASE, input) }
}

void winograd_weight(const WinogradWeightArgs& a) {
    switch (a.form) { ENGINE_WINOGRAD_FORMS(ENGINE_CASE, weight) }
}

void winograd_output(const WinogradOutputArgs& a) {
    switch (a.form) { ENGINE_WINOGRAD_FORMS(ENGINE_CASE, output) }
}

void winograd_gradient(const WinogradGradientArgs& a) {
    switch (a.form) { ENGINE_WINOGRAD_FORMS(ENGINE_CASE, gradient) }
}

void winograd_filter(const WinogradFilterArgs& a) {
    switch (a.form) { ENGINE_WINOGRAD_FORMS(ENGINE_CASE, filter) }
}

#undef ENGINE_CASE

}  // namespace ENGINE_ISA
}  // namespace engine
