#include "ops/conv2d.h"

#include <algorithm>
#include <cstring>

#include "core/env.h"
#include "core/parallel.h"
#include "core/status.h"
#include "ops/algorithm.h"
#include "ops/conv2d_direct.h"
#include "ops/conv2d_split.h"
#include "ops/depthwise.h"
#include "ops/gemm.h"
#include "ops/grouped.h"
#include "ops/layout.h"
#include "ops/winograd.h"

namespace engine {

Conv make_conv(const char* op, const Dims& x, const Dims& w, const Dims& stride,
               const Dims& padding, const Dims& dilation, int64_t groups) {
    ENGINE_CHECK(x.n == 4, Kind::value, "[", op, "] expected an input of shape (N, C, H, W), got ",
                 to_string(x),
                 x.n == 3 ? ": add the batch axis with unsqueeze(0)" : ": reshape it");
    ENGINE_CHECK(w.n == 4, Kind::value, "[", op,
                 "] expected a weight of shape (out, in / groups, kh, kw), got ", to_string(w));
    ENGINE_CHECK(
        stride.n == 2 && padding.n == 4 && dilation.n == 2, Kind::value, "[", op,
        "] expected stride (h, w), padding (top, bottom, left, right) and dilation (h, w)");
    Conv c{};
    c.n = x[0], c.ic = x[1], c.ih = x[2], c.iw = x[3];
    c.oc = w[0], c.kh = w[2], c.kw = w[3];
    c.stride_h = stride[0], c.stride_w = stride[1];
    c.pad_top = padding[0], c.pad_bottom = padding[1], c.pad_left = padding[2],
    c.pad_right = padding[3];
    c.dilation_h = dilation[0], c.dilation_w = dilation[1];
    c.groups = groups;
    // The limit keeps every product below in 64 bits.
    constexpr int64_t kLimit = (int64_t{1} << 31) - 1;
    const auto check_range = [&](const char* what, const Dims& values, int64_t low) {
        for (int64_t value : values)
            ENGINE_CHECK(value >= low && value <= kLimit, Kind::value, "[", op, "] expected ", what,
                         " between ", low, " and ", kLimit, ", got ", to_string(values));
    };
    check_range("stride (h, w)", stride, 1);
    check_range("padding (top, bottom, left, right)", padding, 0);
    check_range("dilation (h, w)", dilation, 1);
    ENGINE_CHECK(groups >= 1, Kind::value, "[", op, "] expected groups >= 1, got ", groups);
    ENGINE_CHECK(c.kh >= 1 && c.kw >= 1 && c.oc >= 1 && w[1] >= 1, Kind::value, "[", op,
                 "] expected a weight without empty axes, got ", to_string(w));
    ENGINE_CHECK(c.oc % groups == 0, Kind::value, "[", op,
                 "] expected out_channels divisible by groups, got ", c.oc,
                 " output channels and groups=", groups);
    ENGINE_CHECK(c.ic % groups == 0 && w[1] == c.ic / groups, Kind::value, "[", op, "] expected ",
                 w[1] * groups, " input channels (weight of shape ", to_string(w),
                 ", groups=", groups, "), got input of shape ", to_string(x),
                 ": set in_channels=", c.ic, " or check the layer before");
    const int64_t height = c.ih + c.pad_top + c.pad_bottom, width = c.iw + c.pad_left + c.pad_right;
    const int64_t reach_h = (c.kh - 1) * c.dilation_h + 1, reach_w = (c.kw - 1) * c.dilation_w + 1;
    ENGINE_CHECK(height >= reach_h && width >= reach_w, Kind::value, "[", op,
                 "] expected a kernel no larger than the padded input, got kernel ", reach_h, " x ",
                 reach_w, " (dilation counted) on padded input ", height, " x ", width,
                 ": add padding, use a smaller kernel or a larger image");
    c.oh = (height - reach_h) / c.stride_h + 1;
    c.ow = (width - reach_w) / c.stride_w + 1;
    return c;
}

std::string declines_nothing(const Conv&) { return ""; }

void finish_output(const Epilogue& epilogue, const Array& y, const float* scale) {
    if (!scale && !epilogue.residual && epilogue.activation == Activation::none) return;
    const int64_t pixels = y.dim(0) * y.dim(2) * y.dim(3), channels = y.dim(1);
    const int64_t row = pixel_stride(y);
    parallel_for(pixels, grain_of(channels), [&](int64_t begin, int64_t end, int) {
        const Epilogue out = epilogue.at(begin, 0);
        kernels().finish({y.f32() + begin * row, row, end - begin, channels, out.residual,
                          out.residual_row, out.activation, scale, scale ? out.bias : nullptr});
    });
}

void copy_strip(const float* image, int64_t pixel, int64_t channels, int64_t h, int64_t w,
                int64_t row, int64_t rows, int64_t column, int64_t columns, float* dst,
                const Prologue* prologue) {
    const int64_t left = std::min(columns, std::max<int64_t>(0, -column));
    const int64_t right =
        std::max(left, std::min(columns, w - column));  // first column beyond the image
    const size_t bytes = static_cast<size_t>(channels) * sizeof(float);
    for (int64_t r = row; r < row + rows; ++r, dst += columns * channels) {
        if (r < 0 || r >= h) {
            std::memset(dst, 0, bytes * static_cast<size_t>(columns));
            continue;
        }
        const float* src = image + (r * w + column) * pixel;
        std::memset(dst, 0, bytes * static_cast<size_t>(left));
        if (prologue)
            prologue->apply(src + left * pixel, pixel, channels, right - left,
                            dst + left * channels);
        else if (pixel == channels)
            std::memcpy(dst + left * channels, src + left * pixel,
                        bytes * static_cast<size_t>(right - left));
        else
            for (int64_t q = left; q < right; ++q)
                std::memcpy(dst + q * channels, src + q * pixel, bytes);
        std::memset(dst + right * channels, 0, bytes * static_cast<size_t>(columns - right));
    }
}

RowPointers source_pixels(const Conv& c, const float* src, int64_t pixel, const float* zeros) {
    return [=](int64_t tap, int64_t first, int64_t count, const float** pointers) {
        const int64_t dy = tap / c.kw * c.dilation_h - c.pad_top;
        const int64_t dx = tap % c.kw * c.dilation_w - c.pad_left;
        walk_pixels(first, count, c.oh, c.ow, [&](int64_t n, int64_t oh, int64_t ow) {
            const int64_t ih = oh * c.stride_h + dy, iw = ow * c.stride_w + dx;
            const bool inside = ih >= 0 && ih < c.ih && iw >= 0 && iw < c.iw;
            *pointers++ = inside ? src + ((n * c.ih + ih) * c.iw + iw) * pixel : zeros;
        });
    };
}

ZeroPixel::ZeroPixel(int64_t channels) : data(static_cast<size_t>(channels) * sizeof(float)) {
    std::fill_n(data.f32(), channels, 0.0f);
}

TapGrid forward_grid(const Conv& c, const Array& x, const Prologue* prologue, bool whole_rows) {
    TapGrid g{x.f32(), pixel_stride(x), prologue,   c.n, c.ih, c.iw, c.ic, c.oh,
              c.ow,    c.stride_h,      c.stride_w, 1,   {}};
    if (whole_rows) g.window = c.kw;
    for (int64_t t = 0; t < c.kh * c.kw; t += g.window)
        g.taps.emplace_back(t / c.kw * c.dilation_h - c.pad_top,
                            t % c.kw * c.dilation_w - c.pad_left);
    return g;
}

TapBounds tap_bounds(const TapGrid& g) {
    TapBounds b{0, 0, 0, g.width, true};
    if (g.taps.empty()) return b;
    const auto [left, right] =
        std::minmax_element(g.taps.begin(), g.taps.end(),
                            [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto [top, bottom] = std::minmax_element(g.taps.begin(), g.taps.end());
    b.top = top->first, b.bottom = bottom->first, b.left = left->second;
    b.line_pixels = (g.width - 1) * g.stride_w + right->second - b.left + g.window;
    b.inside = b.top >= 0 && b.left >= 0 && (g.height - 1) * g.stride_h + b.bottom < g.h &&
               b.left + b.line_pixels <= g.w;
    return b;
}

std::vector<GradientPhase> gradient_phases(const Conv& c, const Array& dy) {
    std::vector<GradientPhase> phases;
    for (int64_t row = 0; row < std::min(c.stride_h, c.ih); ++row)
        for (int64_t column = 0; column < std::min(c.stride_w, c.iw); ++column) {
            GradientPhase phase{row,
                                column,
                                {dy.f32(),
                                 pixel_stride(dy),
                                 nullptr,
                                 c.n,
                                 c.oh,
                                 c.ow,
                                 c.oc,
                                 (c.ih - row + c.stride_h - 1) / c.stride_h,
                                 (c.iw - column + c.stride_w - 1) / c.stride_w,
                                 1,
                                 1,
                                 1,
                                 {}},
                                {}};
            for (int64_t kh = c.kh - 1; kh >= 0; --kh)
                for (int64_t kw = c.kw - 1; kw >= 0; --kw) {
                    const int64_t h = row + c.pad_top - kh * c.dilation_h;
                    const int64_t v = column + c.pad_left - kw * c.dilation_w;
                    if (h % c.stride_h || v % c.stride_w) continue;
                    phase.grid.taps.emplace_back(h / c.stride_h, v / c.stride_w);
                    phase.kernel.push_back(kh * c.kw + kw);
                }
            phases.push_back(std::move(phase));
        }
    return phases;
}

namespace {

// Plain loops in the order of the definition: what every other algorithm is tested against, and the
// last resort of the list.
void forward_reference(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                       const Array& y) {
    const float* bias = epilogue.bias;
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), xp = pixel_stride(x),
                  yp = pixel_stride(y);
    parallel_for(c.n * c.oh, [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t n = item / c.oh, oh = item % c.oh;
            for (int64_t ow = 0; ow < c.ow; ++ow)
                for (int64_t oc = 0; oc < c.oc; ++oc) {
                    float sum = bias ? bias[oc] : 0.0f;
                    for (int64_t kh = 0; kh < c.kh; ++kh)
                        for (int64_t kw = 0; kw < c.kw; ++kw) {
                            const int64_t ih = oh * c.stride_h - c.pad_top + kh * c.dilation_h;
                            const int64_t iw = ow * c.stride_w - c.pad_left + kw * c.dilation_w;
                            if (ih < 0 || ih >= c.ih || iw < 0 || iw >= c.iw) continue;
                            const float* px =
                                x.f32() + ((n * c.ih + ih) * c.iw + iw) * xp + oc / ocg * icg;
                            const float* pw = w.f32() + ((oc * c.kh + kh) * c.kw + kw) * icg;
                            for (int64_t i = 0; i < icg; ++i) sum += px[i] * pw[i];
                        }
                    y.f32()[((n * c.oh + oh) * c.ow + ow) * yp + oc] = sum;
                }
        }
    });
    finish_output(epilogue, y);
}

}  // namespace

const std::vector<ConvAlgorithm<ConvForward>>& conv_forward_algorithms() {
    static const std::vector<ConvAlgorithm<ConvForward>> list = {
        {"depthwise", declines_depthwise, forward_depthwise},
        {"grouped", declines_grouped, forward_grouped},
#define ENGINE_ENTRY(with, name, algorithm, ...)                                             \
    {algorithm, declines_winograd<WinogradForm::name>, forward_winograd<WinogradForm::name>, \
     winograd_cost<WinogradForm::name>},
        ENGINE_WINOGRAD_FORMS(ENGINE_ENTRY, )
#undef ENGINE_ENTRY
            {"split", declines_split, forward_split, split_cost, forward_split_from},
        {"direct", declines_nothing, forward_direct, direct_cost, forward_direct_from},
        {"reference", declines_nothing, forward_reference},
    };
    return list;
}

namespace {

// The source behind the prologue, as a new array.
Array apply_prologue(const Prologue& prologue, const Array& x) {
    const Array mapped = empty(x.shape());
    const int64_t pixels = x.dim(0) * x.dim(2) * x.dim(3), channels = x.dim(1);
    const int64_t ld = pixel_stride(x);
    parallel_for(pixels, grain_of(channels), [&](int64_t begin, int64_t end, int) {
        prologue.apply(x.f32() + begin * ld, ld, channels, end - begin,
                       mapped.f32() + begin * channels);
    });
    return mapped;
}

}  // namespace

Array conv2d(const Array& x, const Array& w, const Array* bias, const Dims& stride,
             const Dims& padding, const Dims& dilation, int64_t groups, const Array* residual,
             Activation activation, const Array* scale, const ChannelMap* prologue,
             const Array* out) {
    const Conv c = make_conv("conv2d", x.shape(), w.shape(), stride, padding, dilation, groups);
    expect_f32("conv2d", "input", x);
    expect_f32("conv2d", "weight", w);
    const auto per_channel = [](const char* name, const Array& a, int64_t channels) {
        expect_f32("conv2d", name, a);
        ENGINE_CHECK(a.rank() == 1 && a.dim(0) == channels, Kind::value, "[conv2d] expected a ",
                     name, " of shape (", channels, ",), got ", to_string(a.shape()));
        return contiguous(a);
    };
    const Array dense_bias = bias ? per_channel("bias", *bias, c.oc) : Array();
    const Array dense_scale = scale ? per_channel("scale", *scale, c.oc) : Array();
    const Array in_scale =
        prologue ? per_channel("scale of the prologue", *prologue->scale, c.ic) : Array();
    const Array in_shift =
        prologue ? per_channel("shift of the prologue", *prologue->shift, c.ic) : Array();
    const Array y = destination("conv2d", out, {c.n, c.oc, c.oh, c.ow});
    if (residual) {
        expect_f32("conv2d", "residual", *residual);
        ENGINE_CHECK(residual->shape() == y.shape(), Kind::value,
                     "[conv2d] expected a residual of the output's shape ", to_string(y.shape()),
                     ", got ", to_string(residual->shape()));
    }
    if (y.numel() == 0) return y;
    const Array pixels = residual ? as_pixels(*residual) : Array();
    Epilogue epilogue;
    if (bias) epilogue.bias = dense_bias.f32();
    if (residual) epilogue.residual = pixels.f32(), epilogue.residual_row = pixel_stride(pixels);
    epilogue.activation = activation;
    const Array source = as_pixels(x), weight = contiguous(w);
    if (out) {
        expect_apart("conv2d", "input", source, y);
        if (residual) expect_apart("conv2d", "residual", pixels, y);
        for (const Array& a : {weight, dense_bias, dense_scale, in_scale, in_shift})
            if (a.defined()) expect_apart("conv2d", "parameters", a, y);
        y.mark_written();
    }
    const Array zeros = prologue ? full({c.ic}, 0.0, DType::f32) : Array();
    Prologue map{};
    if (prologue) map = {in_scale.f32(), in_shift.f32(), zeros.f32(), prologue->activation};
    // No algorithm scales on the way out: bias, residual and activation wait for that.
    const Epilogue inner = scale ? Epilogue() : epilogue;
    const auto run = [&](const ConvAlgorithm<ConvForward>& algorithm) {
        if (!prologue) {
            algorithm.run(c, source, weight, inner, y);
        } else if (algorithm.run_from) {
            algorithm.run_from(c, &map, source, weight, inner, y);
        } else {
            if (verbosity() > 0)
                log_line(std::string("conv2d: prologue in a pass of its own before ") +
                         algorithm.name);
            algorithm.run(c, apply_prologue(map, source), weight, inner, y);
        }
        if (scale) finish_output(epilogue, y, dense_scale.f32());
    };
    if (scale && verbosity() > 0) log_line("conv2d: scale in a pass of its own behind the product");
    run(choose<ConvForward>("conv2d", conv_forward_algorithms(), c, run));
    return y;
}

}  // namespace engine
