// Convolution and matrix products through the ops, every algorithm, with all operands against guard
// pages: packing, strips, panels and the split over threads in one.
#include <algorithm>
#include <memory>

#include "core/array.h"
#include "core/parallel.h"
#include "ops/algorithm.h"
#include "ops/conv2d.h"
#include "ops/gemm.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::Array;
using engine::Conv;
using engine::Dims;

namespace {

// A float array whose memory ends (or starts) at an inaccessible page. With pixel > C it is a
// channel slice of a wider array.
struct GuardedArray {
    std::shared_ptr<Guarded<float>> memory;
    Array array;

    GuardedArray(const Dims& shape, Against side, int64_t pixel = 0) {
        Dims strides = engine::canonical_strides(shape);
        int64_t count = engine::numel(shape);
        if (pixel > 0) {
            strides = {shape[2] * shape[3] * pixel, 1, shape[3] * pixel, pixel};
            count = (shape[0] * shape[2] * shape[3] - 1) * pixel + shape[1];
        }
        memory = std::make_shared<Guarded<float>>(count, side);
        auto keep = memory;
        auto storage = std::make_shared<engine::Storage>(
            memory->data(), static_cast<size_t>(count) * sizeof(float), [keep] {});
        array = Array(storage, 0, shape, strides, engine::DType::f32);
    }
    float& at(int64_t n, int64_t c, int64_t h, int64_t w) const {
        return array.f32()[n * array.stride(0) + c * array.stride(1) + h * array.stride(2) +
                           w * array.stride(3)];
    }
    void fill(Numbers& numbers) {
        for (int64_t i = 0; i < memory->size(); ++i) (*memory)[i] = numbers.value();
        memory->freeze();
    }
};

// Calls f(n, o, i, oy, ox, iy, ix, ky, kx) for every product of the definition; i counts within the
// group.
template <class F>
void for_each_product(const Conv& c, F f) {
    for (int64_t n = 0; n < c.n; ++n)
        for (int64_t o = 0; o < c.oc; ++o)
            for (int64_t i = 0; i < c.group_ic(); ++i)
                for (int64_t oy = 0; oy < c.oh; ++oy)
                    for (int64_t ox = 0; ox < c.ow; ++ox)
                        for (int64_t ky = 0; ky < c.kh; ++ky)
                            for (int64_t kx = 0; kx < c.kw; ++kx) {
                                const int64_t iy = oy * c.stride_h - c.pad_top + ky * c.dilation_h;
                                const int64_t ix = ox * c.stride_w - c.pad_left + kx * c.dilation_w;
                                if (iy >= 0 && iy < c.ih && ix >= 0 && ix < c.iw)
                                    f(n, o, i, oy, ox, iy, ix, ky, kx);
                            }
}

struct Shape {
    int64_t n, ic, oc, h, w, kh, kw, stride, pad, dilation, groups;
};

void check(const Shape& s, Against side, bool wide, int threads) {
    engine::set_num_threads(threads);
    const Dims x_shape = {s.n, s.ic, s.h, s.w}, w_shape = {s.oc, s.ic / s.groups, s.kh, s.kw};
    const Conv c =
        engine::make_conv("test", x_shape, w_shape, {s.stride, s.stride},
                          {s.pad, s.pad, s.pad, s.pad}, {s.dilation, s.dilation}, s.groups);
    const Dims y_shape = {c.n, c.oc, c.oh, c.ow};
    Numbers numbers(static_cast<uint32_t>(s.ic * 100 + s.oc));
    GuardedArray x(x_shape, side, wide ? s.ic + 3 : 0), w(w_shape, side),
        dy(y_shape, side, wide ? s.oc + 2 : 0);
    GuardedArray bias({s.oc}, side);
    for (GuardedArray* a : {&x, &w, &dy, &bias}) a->fill(numbers);
    GuardedArray ones({s.ic}, side), zeros({s.ic}, side);
    std::fill_n(ones.array.f32(), s.ic, 1.0f), std::fill_n(zeros.array.f32(), s.ic, 0.0f);

    const auto index = [](const Dims& shape, int64_t a, int64_t b, int64_t y, int64_t z) {
        return static_cast<size_t>(((a * shape[1] + b) * shape[2] + y) * shape[3] + z);
    };
    std::vector<double> y(static_cast<size_t>(engine::numel(y_shape))),
        db(static_cast<size_t>(s.oc));
    std::vector<double> dx(static_cast<size_t>(engine::numel(x_shape))),
        dw(static_cast<size_t>(engine::numel(w_shape)));
    for_each_product(c, [&](int64_t n, int64_t o, int64_t i, int64_t oy, int64_t ox, int64_t iy,
                            int64_t ix, int64_t ky, int64_t kx) {
        const int64_t channel = o / c.group_oc() * c.group_ic() + i;
        const double xv = x.at(n, channel, iy, ix), wv = w.at(o, i, ky, kx),
                     gv = dy.at(n, o, oy, ox);
        y[index(y_shape, n, o, oy, ox)] += xv * wv;
        dx[index(x_shape, n, channel, iy, ix)] += gv * wv;
        dw[index(w_shape, o, i, ky, kx)] += gv * xv;
    });
    for (int64_t n = 0; n < c.n; ++n)
        for (int64_t o = 0; o < c.oc; ++o)
            for (int64_t oy = 0; oy < c.oh; ++oy)
                for (int64_t ox = 0; ox < c.ow; ++ox) {
                    y[index(y_shape, n, o, oy, ox)] += bias.array.f32()[o];
                    db[static_cast<size_t>(o)] += dy.at(n, o, oy, ox);
                }
    const auto compare = [&](const GuardedArray& got, const std::vector<double>& exact,
                             int64_t terms) {
        const Dims& d = got.array.shape();
        for (int64_t a = 0; a < d[0]; ++a)
            for (int64_t b = 0; b < d[1]; ++b)
                for (int64_t h = 0; h < d[2]; ++h)
                    for (int64_t v = 0; v < d[3]; ++v)
                        CHECK_CLOSE(got.at(a, b, h, v), exact[index(d, a, b, h, v)],
                                    sum_tolerance(terms));
    };
    const auto name = [&](const char* what, const char* algorithm) {
        engine_test::describe(what, " ", algorithm, ": n", s.n, " ic", s.ic, " oc", s.oc, " ", s.h,
                              "x", s.w, " k", s.kh, "x", s.kw, " s", s.stride, " p", s.pad, " d",
                              s.dilation, " g", s.groups, wide ? " wide" : "", ", ", threads,
                              " threads");
    };
    for (const auto& algorithm : engine::conv_forward_algorithms())
        if (algorithm.declines(c).empty()) {
            name("forward", algorithm.name);
            GuardedArray result(y_shape, side, wide ? s.oc + 1 : 0);
            algorithm.run(c, x.array, w.array, {bias.array.f32()}, result.array);
            compare(result, y, c.group_ic() * c.kh * c.kw);
            if (!algorithm.run_from) continue;
            name("forward behind a prologue", algorithm.name);
            const engine::Prologue same{ones.array.f32(), zeros.array.f32(), zeros.array.f32(),
                                        engine::Activation::none};
            algorithm.run_from(c, &same, x.array, w.array, {bias.array.f32()}, result.array);
            compare(result, y, c.group_ic() * c.kh * c.kw);
        }
    for (const auto& algorithm : engine::conv_backward_data_algorithms())
        if (algorithm.declines(c).empty()) {
            name("backward_data", algorithm.name);
            GuardedArray result(x_shape, side);
            algorithm.run(c, dy.array, w.array, result.array);
            compare(result, dx, c.group_oc() * c.kh * c.kw);
        }
    for (const auto& algorithm : engine::conv_backward_weight_algorithms())
        if (algorithm.declines(c).empty()) {
            name("backward_weight", algorithm.name);
            GuardedArray result(w_shape, side), dbias({s.oc}, side);
            algorithm.run(c, dy.array, x.array, result.array, dbias.array.f32());
            compare(result, dw, c.n * c.oh * c.ow);
            for (int64_t o = 0; o < s.oc; ++o)
                CHECK_CLOSE(dbias.array.f32()[o], db[static_cast<size_t>(o)],
                            sum_tolerance(c.n * c.oh * c.ow));
        }
}

}  // namespace

TEST(convolution_by_every_algorithm) {
    const int before = engine::num_threads();
    const Shape shapes[] = {
        {1, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1},     {2, 3, 17, 7, 9, 3, 3, 1, 1, 1, 1},
        {1, 17, 33, 6, 5, 1, 1, 1, 0, 1, 1},   {2, 16, 16, 8, 7, 3, 3, 2, 1, 1, 1},
        {1, 5, 7, 9, 8, 5, 3, 1, 2, 1, 1},     {1, 4, 6, 9, 9, 3, 3, 1, 2, 2, 1},
        {2, 6, 9, 7, 7, 3, 3, 2, 1, 1, 3},     {1, 19, 19, 8, 6, 3, 3, 1, 1, 1, 19},
        {2, 33, 33, 9, 7, 5, 5, 2, 2, 1, 33},  {1, 8, 16, 5, 5, 3, 3, 1, 1, 1, 8},
        {2, 17, 17, 9, 15, 5, 5, 1, 2, 1, 17}, {2, 34, 34, 8, 9, 3, 3, 1, 0, 2, 34},
        {1, 5, 5, 11, 10, 4, 4, 3, 2, 1, 5},   {2, 20, 20, 7, 9, 3, 3, 1, 1, 1, 5},
        {1, 24, 24, 9, 6, 3, 3, 2, 1, 1, 3},   {2, 20, 20, 9, 9, 3, 3, 2, 1, 1, 20},
        {1, 31, 65, 4, 3, 2, 4, 3, 3, 1, 1},   {3, 2, 3, 11, 4, 7, 1, 2, 0, 1, 1},
    };
    for (const Shape& shape : shapes)
        for (Against side : {Against::end, Against::start})
            for (bool wide : {false, true}) check(shape, side, wide, side == Against::end ? 1 : 3);
    engine::set_num_threads(before);
}

TEST(matrix_products) {
    const int before = engine::num_threads();
    for (int threads : {1, 3})
        for (Against side : {Against::end, Against::start})
            for (int64_t m : {1, 5, 17})
                for (int64_t k : {1, 16, 33})
                    for (int64_t n : {1, 15, 70}) {
                        engine::set_num_threads(threads);
                        Numbers numbers(static_cast<uint32_t>(m * k * n));
                        GuardedArray x({m, k}, side), w({n, k}, side), bias({n}, side),
                            dy({m, n}, side);
                        for (GuardedArray* a : {&x, &w, &bias, &dy}) a->fill(numbers);
                        const float *xp = x.array.f32(), *wp = w.array.f32(), *gp = dy.array.f32();
                        const Array y = engine::linear(x.array, w.array, &bias.array);
                        const Array dx = engine::linear_backward_data(dy.array, w.array);
                        const auto [dw, db] =
                            engine::linear_backward_weight(dy.array, x.array, true);
                        const auto near = [&](const char* what, const Array& got, int64_t rows,
                                              int64_t columns, int64_t terms, auto exact) {
                            engine_test::describe(what, ": ", m, " x ", k, " x ", n, ", ", threads,
                                                  " threads");
                            for (int64_t i = 0; i < rows; ++i)
                                for (int64_t j = 0; j < columns; ++j)
                                    CHECK_CLOSE(got.f32()[i * columns + j], exact(i, j),
                                                sum_tolerance(terms));
                        };
                        near("linear", y, m, n, k, [&](int64_t i, int64_t j) {
                            double sum = bias.array.f32()[j];
                            for (int64_t d = 0; d < k; ++d)
                                sum += double{xp[i * k + d]} * wp[j * k + d];
                            return sum;
                        });
                        near("matmul", engine::matmul(x.array, w.array, false, true), m, n, k,
                             [&](int64_t i, int64_t j) {
                                 double sum = 0;
                                 for (int64_t d = 0; d < k; ++d)
                                     sum += double{xp[i * k + d]} * wp[j * k + d];
                                 return sum;
                             });
                        near("linear_backward_data", dx, m, k, n, [&](int64_t i, int64_t j) {
                            double sum = 0;
                            for (int64_t o = 0; o < n; ++o)
                                sum += double{gp[i * n + o]} * wp[o * k + j];
                            return sum;
                        });
                        near("linear_backward_weight", dw, n, k, m, [&](int64_t o, int64_t j) {
                            double sum = 0;
                            for (int64_t i = 0; i < m; ++i)
                                sum += double{gp[i * n + o]} * xp[i * k + j];
                            return sum;
                        });
                        near("bias gradient", *db, 1, n, m, [&](int64_t, int64_t o) {
                            double sum = 0;
                            for (int64_t i = 0; i < m; ++i) sum += gp[i * n + o];
                            return sum;
                        });
                    }
    engine::set_num_threads(before);
}
