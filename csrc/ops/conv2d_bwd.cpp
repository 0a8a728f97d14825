// Gradients of conv2d; the twin of conv2d.cpp.
#include <algorithm>
#include <cstring>

#include "core/parallel.h"
#include "core/status.h"
#include "ops/algorithm.h"
#include "ops/conv2d.h"
#include "ops/conv2d_direct.h"
#include "ops/conv2d_split.h"
#include "ops/depthwise.h"
#include "ops/gemm.h"
#include "ops/grouped.h"
#include "ops/winograd.h"

namespace engine {

namespace {

// ---- gradient with respect to the input
// -------------------------------------------------------------

void data_reference(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), gp = pixel_stride(dy),
                  xp = pixel_stride(dx);
    parallel_for(c.n * c.ih, [&](int64_t begin, int64_t end, int) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t n = item / c.ih, ih = item % c.ih;
            for (int64_t iw = 0; iw < c.iw; ++iw)
                for (int64_t i = 0; i < c.ic; ++i) {
                    float sum = 0.0f;
                    for (int64_t kh = 0; kh < c.kh; ++kh)
                        for (int64_t kw = 0; kw < c.kw; ++kw) {
                            const int64_t h = ih + c.pad_top - kh * c.dilation_h;
                            const int64_t v = iw + c.pad_left - kw * c.dilation_w;
                            if (h < 0 || v < 0 || h % c.stride_h || v % c.stride_w) continue;
                            const int64_t oh = h / c.stride_h, ow = v / c.stride_w;
                            if (oh >= c.oh || ow >= c.ow) continue;
                            const float* g =
                                dy.f32() + ((n * c.oh + oh) * c.ow + ow) * gp + i / icg * ocg;
                            const float* k =
                                w.f32() + ((i / icg * ocg * c.kh + kh) * c.kw + kw) * icg + i % icg;
                            for (int64_t o = 0; o < ocg; ++o)
                                sum += g[o] * k[o * c.kh * c.kw * icg];
                        }
                    dx.f32()[((n * c.ih + ih) * c.iw + iw) * xp + i] = sum;
                }
        }
    });
}

std::string declines_columns(const Conv& c) {
    if (c.groups != 1) return "grouped";
    if (c.ic >= kernels().lanes) return "input channels fill a vector";
    if (c.kh * c.kw == 1) return "1 x 1 kernel";
    if (c.dilation_w != 1) return "dilated columns";
    return "";
}

// With fewer input channels than lanes, vectors run over (kh, kw, i) instead: one product gives
// every output pixel's contribution to its whole window, and the windows are added up. Per image,
// so that no two threads write to one pixel.
void data_columns(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t gp = pixel_stride(dy), window = c.kh * c.kw * c.ic, segment = c.kw * c.ic;
    const Panels panels(c.oc, window);
    const auto packed = pack_weight(w, panels, window, 1, 6);
    // The image with its padding; a window then never leaves it.
    const int64_t height = c.ih + c.pad_top + c.pad_bottom,
                  width = (c.iw + c.pad_left + c.pad_right) * c.ic;
    const int64_t block =
        std::max<int64_t>(1, std::min(c.oh, (int64_t{48} << 10) / (c.ow * window)));
    const int64_t product_floats = block * c.ow * window;
    const int64_t own_floats = product_floats + height * width;
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats) * sizeof(float));
    parallel_for(c.n, product_grain(2 * c.oh * c.ow * window * c.oc),
                 [&](int64_t begin, int64_t end, int thread) {
                     float* product = scratch.f32() + thread * own_floats;
                     float* image = product + product_floats;
                     for (int64_t n = begin; n < end; ++n) {
                         std::fill_n(image, height * width, 0.0f);
                         for (int64_t first = 0; first < c.oh; first += block) {
                             const int64_t rows = std::min(block, c.oh - first);
                             multiply_panels(dy.f32() + (n * c.oh + first) * c.ow * gp, gp,
                                             rows * c.ow, panels, packed->f32(), product, window);
                             kernels().add_windows({product, rows, c.ow, c.kh, segment,
                                                    image + first * c.stride_h * width, width,
                                                    c.stride_h, c.dilation_h, c.stride_w * c.ic,
                                                    (c.kw + c.stride_w - 1) / c.stride_w});
                         }
                         for (int64_t ih = 0; ih < c.ih; ++ih)
                             std::memcpy(dx.f32() + (n * c.ih + ih) * c.iw * c.ic,
                                         image + (ih + c.pad_top) * width + c.pad_left * c.ic,
                                         static_cast<size_t>(c.iw * c.ic) * sizeof(float));
                     }
                 });
}

}  // namespace

// How the pixels are split for a sum whose parts are added up in order: enough parts for several
// threads, never dependent on how many threads there are.
int64_t reduction_parts(const Conv& c, int64_t partial_floats) {
    const int64_t rows = c.n * c.oh;
    const int64_t by_memory =
        std::max<int64_t>(1, (int64_t{8} << 20) / std::max<int64_t>(1, partial_floats));
    return std::max<int64_t>(1, std::min({int64_t{8}, rows, by_memory}));
}

namespace {

// ---- gradient with respect to the weight
// ------------------------------------------------------------

void weight_reference(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                      float* dbias) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), gp = pixel_stride(dy),
                  xp = pixel_stride(x);
    parallel_for(c.oc, [&](int64_t begin, int64_t end, int) {
        for (int64_t oc = begin; oc < end; ++oc) {
            double bias = 0;
            for (int64_t p = 0; p < c.n * c.oh * c.ow; ++p) bias += dy.f32()[p * gp + oc];
            if (dbias) dbias[oc] = static_cast<float>(bias);
            for (int64_t kh = 0; kh < c.kh; ++kh)
                for (int64_t kw = 0; kw < c.kw; ++kw)
                    for (int64_t i = 0; i < icg; ++i) {
                        double sum = 0;
                        for (int64_t n = 0; n < c.n; ++n)
                            for (int64_t oh = 0; oh < c.oh; ++oh)
                                for (int64_t ow = 0; ow < c.ow; ++ow) {
                                    const int64_t ih =
                                        oh * c.stride_h - c.pad_top + kh * c.dilation_h;
                                    const int64_t iw =
                                        ow * c.stride_w - c.pad_left + kw * c.dilation_w;
                                    if (ih < 0 || ih >= c.ih || iw < 0 || iw >= c.iw) continue;
                                    sum += static_cast<double>(
                                               dy.f32()[((n * c.oh + oh) * c.ow + ow) * gp + oc]) *
                                           x.f32()[((n * c.ih + ih) * c.iw + iw) * xp +
                                                   oc / ocg * icg + i];
                                }
                        dw.f32()[((oc * c.kh + kh) * c.kw + kw) * icg + i] =
                            static_cast<float>(sum);
                    }
        }
    });
}

}  // namespace

namespace {

std::string declines_im2col(const Conv& c) { return c.groups != 1 ? "grouped" : ""; }

// dW[oc][(kh, kw, i)] = sum over pixels of dy[pixel][oc] * x[pixel at (kh, kw)][i]: one product,
// whose right factor is laid out block by block.
void weight_im2col(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    ZeroPixel zeros(c.ic);
    const RightRows source{source_pixels(c, x.f32(), pixel_stride(x), zeros.data.f32()),
                           c.kh * c.kw, c.ic};
    transposed_product_on_vectors({dy.f32(), c.oc, pixel_stride(dy)}, source, c.n * c.oh * c.ow,
                                  dw.f32(), dbias);
}

std::string declines_sliding(const Conv& c) {
    if (c.groups != 1) return "grouped";
    if (c.oc >= kernels().lanes) return "output channels fill a vector";
    if (c.kw == 1) return "kernel one column wide";
    if (c.stride_w != 1 || c.dilation_w != 1) return "strided or dilated columns";
    if (c.kw * c.oc > 4 * kernels().lanes) return "kernel row wider than four vectors";
    if (c.ic > 4) return "more than four input channels";
    return "";
}

// With few output channels, vectors run over (kw, oc) instead: an input pixel meets the window of
// dy pixels around it, which lie side by side. The windows of one row overlap, so the panel is dy
// itself between zeros; rows of the product are the kernel's rows.
void weight_sliding(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x), lanes = kernels().lanes;
    const int64_t width = c.ow + c.kw - 1,
                  columns = c.kw * c.oc;  // width: input pixels a row of dy meets
    const int64_t vectors = (columns + lanes - 1) / lanes, padded = vectors * lanes;
    const int64_t reach_h = (c.kh - 1) * c.dilation_h + 1;
    const int64_t partial_floats = c.ic * c.kh * padded + c.oc;
    const int64_t parts = reduction_parts(c, partial_floats), rows = c.n * c.oh;
    const int64_t block = std::max<int64_t>(
        1, std::min(c.oh, (int64_t{32} << 10) / (width * (c.ic * c.stride_h + c.oc))));
    const int64_t strip_floats = ((block - 1) * c.stride_h + reach_h) * width * c.ic;
    const int64_t panel_floats = (block * width + c.kw - 1) * c.oc + padded;
    const int64_t own_floats = strip_floats + panel_floats;
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats) * sizeof(float));
    Workspace partial(static_cast<size_t>(parts * partial_floats) * sizeof(float));
    std::fill_n(partial.f32(), parts * partial_floats, 0.0f);
    std::vector<int64_t> taps;
    for (int64_t r = 0; r < block; ++r) taps.push_back(r * c.stride_h * width * c.ic);
    parallel_for(parts, [&](int64_t begin, int64_t end, int thread) {
        float* strip = scratch.f32() + thread * own_floats;
        float* panel = strip + strip_floats;
        for (int64_t part = begin; part < end; ++part) {
            float* sums = partial.f32() + part * partial_floats;
            std::fill_n(panel, panel_floats, 0.0f);
            int64_t row = rows * part / parts;
            const int64_t end_row = rows * (part + 1) / parts;
            while (row < end_row) {
                const int64_t n = row / c.oh, oh = row % c.oh;
                const int64_t count = std::min({block, c.oh - oh, end_row - row});
                copy_strip(x.f32() + n * c.ih * c.iw * xp, xp, c.ic, c.ih, c.iw,
                           oh * c.stride_h - c.pad_top, (count - 1) * c.stride_h + reach_h,
                           -c.pad_left, width, strip);
                const float* grad = dy.f32() + row * c.ow * gp;
                for (int64_t r = 0; r < count; ++r)
                    copy_strip(grad + r * c.ow * gp, gp, c.oc, 1, c.ow, 0, 1, 0, c.ow,
                               panel + (r * width + c.kw - 1) * c.oc);
                if (dbias)
                    kernels().column_sum(
                        {grad, gp, count * c.ow, c.oc, sums + c.ic * c.kh * padded});
                GemmArgs g{};
                g.a_row = c.dilation_h * width * c.ic;
                g.a_depth = c.ic;
                g.taps = taps.data();
                g.tap_count = count;
                g.depth = width;
                g.b = panel;
                g.b_row = c.oc;
                g.c_row = padded;
                g.rows = c.kh;
                g.columns = padded;
                g.vectors = static_cast<int32_t>(vectors);
                g.accumulate = true;
                for (int64_t i = 0; i < c.ic; ++i) {
                    g.a = strip + i;
                    g.c = sums + i * c.kh * padded;
                    kernels().gemm(g);
                }
                row += count;
            }
        }
    });
    for (int64_t part = 1; part < parts; ++part)
        for (int64_t i = 0; i < partial_floats; ++i)
            partial.f32()[i] += partial.f32()[part * partial_floats + i];
    // The window's first pixel belongs to the kernel's last column.
    for (int64_t oc = 0; oc < c.oc; ++oc)
        for (int64_t kh = 0; kh < c.kh; ++kh)
            for (int64_t kw = 0; kw < c.kw; ++kw)
                for (int64_t i = 0; i < c.ic; ++i)
                    dw.f32()[((oc * c.kh + kh) * c.kw + kw) * c.ic + i] =
                        partial.f32()[(i * c.kh + kh) * padded + (c.kw - 1 - kw) * c.oc + oc];
    if (dbias) std::copy_n(partial.f32() + c.ic * c.kh * padded, c.oc, dbias);
}

void check_gradient(const char* op, const Conv& c, const Array& dy) {
    expect_f32(op, "gradient", dy);
    ENGINE_CHECK((dy.shape() == Dims{c.n, c.oc, c.oh, c.ow}), Kind::value, "[", op,
                 "] expected a gradient of shape ", to_string({c.n, c.oc, c.oh, c.ow}), ", got ",
                 to_string(dy.shape()));
}

}  // namespace

const std::vector<ConvAlgorithm<ConvBackwardData>>& conv_backward_data_algorithms() {
    static const std::vector<ConvAlgorithm<ConvBackwardData>> list = {
        {"depthwise", declines_depthwise, data_depthwise},
        {"grouped", declines_grouped_data, data_grouped},
        {"columns", declines_columns, data_columns},
#define ENGINE_ENTRY(with, name, algorithm, ...)                                          \
    {algorithm, declines_winograd<WinogradForm::name>, data_winograd<WinogradForm::name>, \
     winograd_data_cost<WinogradForm::name>},
        ENGINE_WINOGRAD_FORMS(ENGINE_ENTRY, )
#undef ENGINE_ENTRY
            {"split", declines_split_data, data_split, split_data_cost},
        {"direct", declines_nothing, data_direct, direct_data_cost},
        {"reference", declines_nothing, data_reference},
    };
    return list;
}

const std::vector<ConvAlgorithm<ConvBackwardWeight>>& conv_backward_weight_algorithms() {
    static const std::vector<ConvAlgorithm<ConvBackwardWeight>> list = {
        {"depthwise", declines_depthwise, weight_depthwise},
        {"grouped", declines_grouped, weight_grouped},
        {"sliding", declines_sliding, weight_sliding},
#define ENGINE_ENTRY(with, name, algorithm, ...)                                            \
    {algorithm, declines_winograd<WinogradForm::name>, weight_winograd<WinogradForm::name>, \
     winograd_weight_cost<WinogradForm::name>},
        ENGINE_WINOGRAD_FORMS(ENGINE_ENTRY, )
#undef ENGINE_ENTRY
            {"split", declines_split_weight, weight_split, split_weight_cost},
        {"im2col", declines_im2col, weight_im2col, im2col_weight_cost},
        {"direct", declines_nothing, weight_direct, direct_weight_cost},
        {"reference", declines_nothing, weight_reference},
    };
    return list;
}

Array conv2d_backward_data(const Array& dy, const Array& w, const Dims& x_shape, const Dims& stride,
                           const Dims& padding, const Dims& dilation, int64_t groups) {
    const char* op = "conv2d_backward_data";
    const Conv c = make_conv(op, x_shape, w.shape(), stride, padding, dilation, groups);
    check_gradient(op, c, dy);
    expect_f32(op, "weight", w);
    Array dx = empty(x_shape);
    if (dx.numel() == 0) return dx;
    const Array gradient = as_pixels(dy), weight = contiguous(w);
    const auto run = [&](const ConvAlgorithm<ConvBackwardData>& algorithm) {
        algorithm.run(c, gradient, weight, dx);
    };
    run(choose<ConvBackwardData>(op, conv_backward_data_algorithms(), c, run));
    return dx;
}

std::pair<Array, std::optional<Array>> conv2d_backward_weight(
    const Array& dy, const Array& x, const Dims& w_shape, const Dims& stride, const Dims& padding,
    const Dims& dilation, int64_t groups, bool with_bias) {
    const char* op = "conv2d_backward_weight";
    const Conv c = make_conv(op, x.shape(), w_shape, stride, padding, dilation, groups);
    check_gradient(op, c, dy);
    expect_f32(op, "input", x);
    Array dw = empty(w_shape);
    std::optional<Array> db;
    if (with_bias) db = empty({c.oc});
    if (dy.numel() == 0) {
        std::fill_n(dw.f32(), dw.numel(), 0.0f);
        if (db) std::fill_n(db->f32(), c.oc, 0.0f);
        return {dw, db};
    }
    const Array gradient = as_pixels(dy), source = as_pixels(x);
    const auto run = [&](const ConvAlgorithm<ConvBackwardWeight>& algorithm) {
        algorithm.run(c, gradient, source, dw, db ? db->f32() : nullptr);
    };
    run(choose<ConvBackwardWeight>(op, conv_backward_weight_algorithms(), c, run));
    return {dw, db};
}

}  // namespace engine
