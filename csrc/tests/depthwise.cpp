// One row of a depthwise convolution and its weight gradient.
#include <algorithm>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;

namespace {

// A row of `width` pixels under a kernel_h x kernel_w window with padding `pad` at either side.
void check_row(int64_t channels, int64_t width, int64_t kernel_h, int64_t kernel_w, int64_t pad,
               bool with_bias, Against side) {
    engine_test::describe(channels, " channels, width ", width, ", kernel ", kernel_h, "x",
                          kernel_w);
    const int64_t out = width + 2 * pad - kernel_w + 1;
    const int64_t src_pixel = channels + 2, dst_pixel = channels + 1, src_row = width * src_pixel;
    Numbers numbers(static_cast<uint32_t>(channels));
    Guarded<float> src((kernel_h - 1) * src_row + (width - 1) * src_pixel + channels, side);
    Guarded<float> weight(kernel_h * kernel_w * channels, side), bias(channels, side);
    for (auto* buffer : {&src, &weight, &bias}) {
        numbers.fill(*buffer);
        buffer->freeze();
    }
    Guarded<float> dst((out - 1) * dst_pixel + channels, side);
    dst.fill(-7.0f);

    Guarded<int64_t> row_src(kernel_h, side), row_tap(kernel_h, side);
    for (int64_t r = 0; r < kernel_h; ++r) row_src[r] = r * src_row, row_tap[r] = r * kernel_w;
    std::vector<int32_t> column_src, column_tap;
    Guarded<int32_t> column_begin(out + 1, side);
    for (int64_t p = 0; p < out; ++p) {
        column_begin[p] = static_cast<int32_t>(column_src.size());
        for (int64_t q = 0; q < kernel_w; ++q)
            if (p + q - pad >= 0 && p + q - pad < width) {
                column_src.push_back(static_cast<int32_t>(p + q - pad));
                column_tap.push_back(static_cast<int32_t>(q));
            }
    }
    column_begin[out] = static_cast<int32_t>(column_src.size());

    engine::DepthwiseTapsArgs d{};
    d.src = src, d.src_pixel = src_pixel, d.dst = dst, d.dst_pixel = dst_pixel;
    d.weight = weight, d.bias = with_bias ? bias.data() : nullptr;
    d.channels = channels, d.pixels = out, d.row_src = row_src, d.row_tap = row_tap;
    d.row_count = kernel_h, d.column_begin = column_begin;
    d.column_src = column_src.data(), d.column_tap = column_tap.data();
    kernels().depthwise_taps(d);

    for (int64_t p = 0; p < out; ++p)
        for (int64_t c = 0; c < dst_pixel && p * dst_pixel + c < dst.size(); ++c) {
            if (c == channels) {
                CHECK_EQUAL(dst[p * dst_pixel + c], -7.0f);
                continue;
            }
            double sum = with_bias ? bias[c] : 0.0f;
            for (int64_t r = 0; r < kernel_h; ++r)
                for (int64_t q = 0; q < kernel_w; ++q)
                    if (p + q - pad >= 0 && p + q - pad < width)
                        sum += double{src[r * src_row + (p + q - pad) * src_pixel + c]} *
                               weight[(r * kernel_w + q) * channels + c];
            CHECK_CLOSE(dst[p * dst_pixel + c], sum, sum_tolerance(kernel_h * kernel_w));
        }
}

// Some rows of an image, in the middle of its channels, by the register tiles.
struct Tiles {
    int64_t channels, height, width, kernel_h, kernel_w, stride, pad, dilation_h;
    int64_t out_h() const {
        return (height + 2 * pad - (kernel_h - 1) * dilation_h - 1) / stride + 1;
    }
    int64_t out_w() const { return (width + 2 * pad - kernel_w) / stride + 1; }
    // f(oh, ow, ih, iw, tap) for every product.
    template <class F>
    void products(F f) const {
        for (int64_t oh = 0; oh < out_h(); ++oh)
            for (int64_t ow = 0; ow < out_w(); ++ow)
                for (int64_t r = 0; r < kernel_h; ++r)
                    for (int64_t q = 0; q < kernel_w; ++q) {
                        const int64_t ih = oh * stride - pad + r * dilation_h;
                        const int64_t iw = ow * stride - pad + q;
                        if (ih >= 0 && ih < height && iw >= 0 && iw < width)
                            f(oh, ow, ih, iw, r * kernel_w + q);
                    }
    }
};

void check_tiles(const Tiles& t, Against side) {
    engine_test::describe(t.channels, " channels, ", t.height, "x", t.width, ", kernel ",
                          t.kernel_h, "x", t.kernel_w, ", stride ", t.stride, ", padding ", t.pad,
                          ", dilation ", t.dilation_h);
    const int64_t x_pixel = t.channels + 2, y_pixel = t.channels + 1, tap = t.channels + 3;
    const int64_t taps = t.kernel_h * t.kernel_w, out_h = t.out_h(), out_w = t.out_w();
    const auto image = [&](int64_t pixels, int64_t pixel) {
        return (pixels - 1) * pixel + t.channels;
    };
    Guarded<float> x(image(t.height * t.width, x_pixel), side);
    Guarded<float> weight(image(taps, tap), side), bias(t.channels, side);
    Guarded<float> dy(image(out_h * out_w, y_pixel), side);
    Guarded<float> residual(image(out_h * out_w, tap), side);
    Numbers numbers(static_cast<uint32_t>(t.channels));
    for (auto* buffer : {&x, &weight, &bias, &dy, &residual}) {
        numbers.fill(*buffer);
        buffer->freeze();
    }
    const auto all = [&](const Guarded<float>& got, int64_t pixels, int64_t pixel, int64_t terms,
                         const std::vector<double>& exact, auto finish) {
        for (int64_t p = 0; p < pixels; ++p)
            for (int64_t c = 0; c < t.channels; ++c)
                CHECK_CLOSE(got[p * pixel + c],
                            finish(exact[static_cast<size_t>(p * t.channels + c)], p, c),
                            sum_tolerance(terms));
        for (int64_t p = 0; p + 1 < pixels; ++p)  // what lies between pixels stays
            for (int64_t c = t.channels; c < pixel; ++c) CHECK_EQUAL(got[p * pixel + c], -7.0f);
    };
    const auto plain = [](double sum, int64_t, int64_t) { return sum; };
    const auto zeros = [&](int64_t pixels) {
        return std::vector<double>(static_cast<size_t>(pixels * t.channels));
    };
    std::vector<double> y = zeros(out_h * out_w), dx = zeros(t.height * t.width), dw = zeros(taps);
    t.products([&](int64_t oh, int64_t ow, int64_t ih, int64_t iw, int64_t k) {
        const int64_t in = ih * t.width + iw, out = oh * out_w + ow;
        for (int64_t c = 0; c < t.channels; ++c) {
            const double xv = x[in * x_pixel + c], wv = weight[k * tap + c],
                         gv = dy[out * y_pixel + c];
            y[static_cast<size_t>(out * t.channels + c)] += xv * wv;
            dx[static_cast<size_t>(in * t.channels + c)] += gv * wv;
            dw[static_cast<size_t>(k * t.channels + c)] += gv * xv;
        }
    });

    engine::DepthwiseArgs d{};
    d.src = x, d.src_pixel = x_pixel, d.src_h = t.height, d.src_w = t.width;
    d.dst_pixel = y_pixel, d.dst_w = out_w, d.row_end = out_h;
    d.weight = weight, d.weight_tap = tap, d.channels = t.channels;
    d.kernel_h = t.kernel_h, d.kernel_w = t.kernel_w, d.stride_h = d.stride_w = t.stride;
    d.pad_top = d.pad_left = t.pad, d.dilation_h = t.dilation_h;
    {
        Guarded<float> got(dy.size(), side);
        got.fill(-7.0f);
        d.dst = got;
        kernels().depthwise(d);
        all(got, out_h * out_w, y_pixel, taps, y, plain);
    }
    if (kernels().lanes == 16 && t.channels % 16 == 0) {
        Guarded<float> got(out_h * out_w * t.channels, side);
        engine::DepthwiseArgs s = d;
        s.dst = got, s.dst_pixel = t.channels, s.stream = s.fetch_ahead = s.fetch_results = true;
        kernels().depthwise(s);
        all(got, out_h * out_w, t.channels, taps, y, plain);
    }
    d.bias = bias;
    using engine::Activation;
    for (const float* added :
         {static_cast<const float*>(nullptr), static_cast<const float*>(residual.data())})
        for (Activation activation : {Activation::relu6, Activation::hardswish}) {
            Guarded<float> got(dy.size(), side);
            got.fill(-7.0f);
            d.dst = got, d.residual = added, d.residual_pixel = tap, d.activation = activation;
            kernels().depthwise(d);
            all(got, out_h * out_w, y_pixel, taps + 2, y, [&](double sum, int64_t p, int64_t c) {
                sum += bias[c] + (added ? residual[p * tap + c] : 0.0f);
                return activation == Activation::relu6
                           ? std::min(6.0, std::max(0.0, sum))
                           : sum * std::min(6.0, std::max(0.0, sum + 3)) / 6;
            });
        }
    if (t.stride == 2 && t.dilation_h == 1) {
        Guarded<float> got(x.size(), side);
        got.fill(-7.0f);
        engine::DepthwiseArgs s = d;
        s.src = dy, s.src_pixel = y_pixel, s.src_h = out_h, s.src_w = out_w;
        s.dst = got, s.dst_pixel = x_pixel, s.dst_w = t.width, s.row_end = t.height;
        s.bias = s.residual = nullptr, s.activation = Activation::none;
        kernels().depthwise_spread(s);
        all(got, t.height * t.width, x_pixel, taps, dx, plain);
    }
    Guarded<float> dweight(weight.size(), side), dbias(t.channels, side);
    dweight.fill(-7.0f);
    dbias.fill(0.5f);
    for (int64_t k = 0; k < taps; ++k)
        for (int64_t c = 0; c < t.channels; ++c) dweight[k * tap + c] = 0.25f;
    engine::DepthwiseWeightArgs g{};
    g.src = x, g.src_pixel = x_pixel, g.src_h = t.height, g.src_w = t.width;
    g.grad = dy, g.grad_pixel = y_pixel, g.grad_w = out_w, g.row_end = out_h;
    g.dweight = dweight, g.weight_tap = tap, g.dbias = dbias, g.channels = t.channels;
    g.kernel_h = t.kernel_h, g.kernel_w = t.kernel_w, g.stride_h = g.stride_w = t.stride;
    g.pad_top = g.pad_left = t.pad, g.dilation_h = t.dilation_h, g.fetch_ahead = t.width > 8;
    kernels().depthwise_weight(g);
    all(dweight, taps, tap, out_h * out_w, dw,
        [](double sum, int64_t, int64_t) { return sum + 0.25; });
    for (int64_t c = 0; c < t.channels; ++c) {
        double sum = 0.5;
        for (int64_t p = 0; p < out_h * out_w; ++p) sum += dy[p * y_pixel + c];
        CHECK_CLOSE(dbias[c], sum, sum_tolerance(out_h * out_w));
    }
}

}  // namespace

TEST(depthwise_rows) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, lanes - 1, lanes, lanes + 1, 4 * lanes, 5 * lanes + 3})
            for (int64_t width : {1, 4, 9}) {
                check_row(channels, width, 3, 3, 1, true, side);
                check_row(channels, width, 1, 1, 0, false, side);
                check_row(channels, width, 5, 5, 2, width == 9, side);
            }
}

TEST(depthwise_weight_gradient_of_one_tap) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, lanes - 1, lanes, 2 * lanes + 1})
            for (int64_t pixels : {0, 1, 7}) {
                engine_test::describe(channels, " channels, ", pixels, " pixels");
                const int64_t src_pixel = 2 * channels, grad_pixel = channels + 3;
                Guarded<float> src(pixels ? (pixels - 1) * src_pixel + channels : 0, side);
                Guarded<float> grad(pixels ? (pixels - 1) * grad_pixel + channels : 0, side);
                Guarded<float> dweight(channels, side);
                Numbers numbers;
                numbers.fill(src);
                numbers.fill(grad);
                dweight.fill(0.5f);
                kernels().depthwise_weight_tap(
                    {src, src_pixel, grad, grad_pixel, channels, pixels, dweight});
                for (int64_t c = 0; c < channels; ++c) {
                    double sum = 0.5;
                    for (int64_t p = 0; p < pixels; ++p)
                        sum += double{src[p * src_pixel + c]} * grad[p * grad_pixel + c];
                    CHECK_CLOSE(dweight[c], sum, sum_tolerance(pixels));
                }
            }
}

TEST(depthwise_tiles) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t stride : {1, 2})
            for (int64_t kernel : {3, 5, 7})
                for (int64_t width : {1, 2, 3, 5, 7, 8, 9, 13, 14, 16, 17, 29}) {
                    // Each width with one padding, each number of channels several times.
                    const int64_t pad = kernel - 1 - width % kernel;
                    if (width + 2 * pad < kernel) continue;
                    const int64_t channels[] = {1, lanes, lanes + 1, 2 * lanes + 3};
                    const int64_t c = channels[(width + kernel + stride) % 4];
                    check_tiles({c, 4, width, 3, kernel, stride, pad, 1}, side);
                    const int64_t dilation = 2 * kernel - 1 <= 7 + 2 * pad ? 1 + width % 2 : 1;
                    check_tiles({c, 7, width, kernel, kernel, stride, pad, dilation}, side);
                }
}
