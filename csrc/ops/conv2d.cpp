#include "ops/conv2d.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/env.h"
#include "core/parallel.h"
#include "core/status.h"
#include "ops/algorithm.h"
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
    ENGINE_CHECK(c.kh >= 1 && c.kw >= 1 && c.oc >= 1, Kind::value, "[", op,
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

// How many neighbouring output pixels one row of the product covers: the number that wastes the
// fewest multiplications on empty lanes and on the zeros of the widened filter.
int64_t merged_pixels(const Conv& c) {
    int64_t best = 1;
    double best_use = 0;
    const int64_t lanes = kernels().lanes;
    for (int64_t m = 1; m <= 4; ++m) {
        if (c.ow % m || (m > 1 && c.oc >= lanes)) continue;
        const int64_t vectors = (m * c.oc + lanes - 1) / lanes;
        const double use = static_cast<double>(m * c.kw * c.oc) /
                           static_cast<double>(((m - 1) * c.stride_w + c.kw) * vectors * lanes);
        if (use > 1.1 * best_use) best = m, best_use = use;
    }
    return best;
}

// Filters of `merged` pixels side by side: row (kh, r, i), column (j, oc) holds w[oc][i][kh][r - j
// * stride].
std::shared_ptr<Workspace> pack_merged(const Conv& c, const Array& w, const Panels& panels,
                                       int64_t merged) {
    const uint64_t key = 0x3E ^ static_cast<uint64_t>(w.offset()) << 24 ^
                         static_cast<uint64_t>(merged * 4096 + c.stride_w * 64 + panels.lanes) << 8;
    return w.storage()->pack(key, [&] {
        const int64_t reach = (merged - 1) * c.stride_w + c.kw, width = merged * c.oc;
        Workspace wide(static_cast<size_t>(c.kh * reach * c.ic * width) * sizeof(float));
        std::fill_n(wide.f32(), c.kh * reach * c.ic * width, 0.0f);
        for (int64_t oc = 0; oc < c.oc; ++oc)
            for (int64_t kh = 0; kh < c.kh; ++kh)
                for (int64_t kw = 0; kw < c.kw; ++kw)
                    for (int64_t i = 0; i < c.ic; ++i)
                        for (int64_t j = 0; j < merged; ++j)
                            wide.f32()[((kh * reach + kw + j * c.stride_w) * c.ic + i) * width +
                                       j * c.oc + oc] =
                                w.f32()[((oc * c.kh + kh) * c.kw + kw) * c.ic + i];
        return pack_panels(panels, wide.f32(), width, 1);
    });
}

}  // namespace

// Implicit matrix product: the kernel reads pixels where they lie. Only with padding is a strip of
// input rows copied, with its zeros, into the thread's scratch.
void forward_direct(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                    const Array& y) {
    forward_direct_from(c, nullptr, x, w, epilogue, y);
}

void forward_direct_from(const Conv& c, const Prologue* prologue, const Array& x, const Array& w,
                         const Epilogue& epilogue, const Array& y) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), xp = pixel_stride(x),
                  yp = pixel_stride(y);
    const int64_t depth = c.kh * c.kw * icg;
    const bool padded = c.pad_top || c.pad_bottom || c.pad_left || c.pad_right;

    if (c.kh == 1 && c.kw == 1 && c.stride_h == 1 && c.stride_w == 1 && !padded && c.groups == 1) {
        Product product{};
        product.rows = c.n * c.oh * c.ow, product.columns = c.oc, product.depth = depth;
        product.a = x.f32(), product.a_row = xp, product.a_depth = 1;
        product.c = y.f32(), product.c_row = yp;
        product.epilogue = epilogue;
        product.prologue = prologue;
        run_product(product, w, 1, depth, 3);
        return;
    }

    // Kernel columns lie side by side in memory, so that one tap covers a whole kernel row, when
    // nothing stands between them: no dilation, no other group, no gap between pixels.
    const bool strip = padded || prologue || (xp != c.ic && c.kw > 1 && c.groups == 1);
    const bool whole_rows = c.dilation_w == 1 && c.groups == 1;
    const int64_t pixel = strip ? c.ic : xp;
    const int64_t width = strip ? c.iw + c.pad_left + c.pad_right : c.iw;
    const int64_t reach_h = (c.kh - 1) * c.dilation_h + 1;

    // Few output channels leave lanes empty: then a vector takes those of `merged` neighbouring
    // pixels.
    const bool dense = yp == c.oc && (!epilogue.residual || epilogue.residual_row == c.oc);
    const int64_t merged = whole_rows && dense ? merged_pixels(c) : 1;
    const int64_t tap_depth = whole_rows ? ((merged - 1) * c.stride_w + c.kw) * icg : icg;
    const int64_t rows = c.ow / merged;
    const Panels panels(merged > 1 ? c.kh * tap_depth : depth, merged * ocg,
                        Panels::tiles_of_lines(rows));
    std::vector<std::shared_ptr<Workspace>> packed;
    Epilogue out = epilogue;
    Workspace merged_bias(static_cast<size_t>(merged * c.oc) * sizeof(float));
    if (merged > 1) {
        packed.push_back(pack_merged(c, w, panels, merged));
        for (int64_t j = 0; j < merged && out.bias; ++j)
            std::copy_n(out.bias, c.oc, merged_bias.f32() + j * c.oc);
        if (out.bias) out.bias = merged_bias.f32();
    } else {
        for (int64_t g = 0; g < c.groups; ++g)
            packed.push_back(pack_weight(w.view({ocg * depth}, {1}, w.offset() + g * ocg * depth),
                                         panels, 1, depth, 4));
    }

    std::vector<int64_t> taps;
    for (int64_t kh = 0; kh < c.kh; ++kh)
        for (int64_t kw = 0; kw < (whole_rows ? 1 : c.kw); ++kw)
            taps.push_back((kh * c.dilation_h * width + kw * c.dilation_w) * pixel);

    // An item is a block of output rows, or several whole images when they are small, so that a
    // panel of weights meets enough pixels. The strip stays within the second-level cache. There
    // are at least eight items: by cutting the image where it is larger than the weights, else by
    // cutting the panels. A few blocks are as many for each thread.
    const int64_t row_floats = width * c.ic * c.stride_h, weight_floats = depth * c.oc;
    int64_t block = std::max<int64_t>(1, std::min(c.oh, (int64_t{48} << 10) / row_floats));
    const int64_t wanted = weight_floats > c.ih * c.iw * c.ic ? 1 : std::max<int64_t>(1, 8 / c.n);
    block = std::min(block, std::max<int64_t>(1, (c.oh + wanted - 1) / wanted));
    int64_t blocks = (c.oh + block - 1) / block;
    if (blocks > 1 && c.n * blocks < 16) {
        const int64_t threads = num_threads(), step = threads / std::gcd(c.n, threads);
        blocks = std::min(c.oh, (blocks + step - 1) / step * step);
        block = (c.oh + blocks - 1) / blocks;
    }
    const int64_t together =
        blocks > 1 ? 1
                   : std::max<int64_t>(1, std::min({c.n, 196 / (c.oh * c.ow),
                                                    (int64_t{96} << 10) / (c.oh * row_floats)}));
    const int64_t places = blocks > 1 ? c.n * blocks : (c.n + together - 1) / together;
    const int64_t all_panels = c.groups * panels.count();
    const int64_t shares = std::min(all_panels, std::max<int64_t>(1, (8 + places - 1) / places));
    const int64_t strip_rows = (block - 1) * c.stride_h + reach_h;
    const int64_t strip_floats = strip ? together * strip_rows * width * c.ic : 0;
    Workspace scratch(static_cast<size_t>(num_threads() * strip_floats) * sizeof(float));
    const int64_t flops = 2 * depth * together * block * c.ow * c.oc / shares;

    // A panel that a row of pixels streams through too fast for the second-level cache is taken in
    // slices of its depth, for all rows of the item: each as large as the first level holds, or, as
    // wide panels are read less often than sums are, as a part of the second does.
    const int64_t tap_count = static_cast<int64_t>(taps.size()), per_kh = tap_count / c.kh;
    const bool sliced = tap_count * tap_depth * panels.full_width() > (int64_t{32} << 10);
    const int64_t slice = panels.lanes >= 16 ? 768 : 256;
    const bool stream = !sliced && out.in_registers() &&
                        streams(y.f32(), yp, c.n * c.oh * c.ow, c.oc) && ocg % 16 == 0 &&
                        panels.full_width() % 16 == 0;

    parallel_for(
        places * shares, product_grain(flops), [&](int64_t begin, int64_t end, int thread) {
            int64_t in_scratch = -1;  // the strip of which place is there
            for (int64_t item = begin; item < end; ++item) {
                const int64_t share = item % shares, place = item / shares;
                const int64_t n0 = blocks > 1 ? place / blocks : place * together;
                const int64_t n1 = std::min(c.n, n0 + together);
                const int64_t b = blocks > 1 ? place % blocks : 0;
                const int64_t first = c.oh * b / blocks, last = c.oh * (b + 1) / blocks;
                float* own = scratch.f32() + thread * strip_floats;
                if (strip && in_scratch != place)
                    for (int64_t n = n0; n < n1; ++n)
                        copy_strip(x.f32() + n * c.ih * c.iw * xp, xp, c.ic, c.ih, c.iw,
                                   first * c.stride_h - c.pad_top,
                                   (last - first - 1) * c.stride_h + reach_h, -c.pad_left, width,
                                   own + (n - n0) * strip_rows * width * c.ic, prologue);
                in_scratch = place;
                GemmArgs g{};
                g.a_row = merged * c.stride_w * pixel;
                g.a_depth = 1;
                g.c_row = merged * yp;
                g.rows = rows;
                g.residual_row = merged * out.residual_row;
                for (int64_t q = all_panels * share / shares; q < all_panels * (share + 1) / shares;
                     ++q) {
                    const int64_t group = q / panels.count(), p = q % panels.count();
                    const int64_t column = group * ocg + p * panels.full_width();
                    const float* panel =
                        packed[static_cast<size_t>(group)]->f32() + panels.offset(p);
                    g.b_row = panels.width(p);
                    g.columns = panels.columns_of(p);
                    g.vectors = panels.vectors_of(p);
                    // Depth [from, from + depth) of taps [low, high) for every row.
                    const auto multiply = [&](int64_t low, int64_t high, int64_t from,
                                              int64_t part) {
                        for (int64_t n = n0; n < n1; ++n)
                            for (int64_t oh = first; oh < last; ++oh) {
                                // Kernel rows that fall into the padding are left out.
                                const int64_t top = oh * c.stride_h - c.pad_top;
                                const int64_t inside =
                                    std::min(c.kh, (c.ih - top + c.dilation_h - 1) / c.dilation_h);
                                const int64_t t0 = std::min(
                                    tap_count,
                                    per_kh *
                                        (top < 0 ? (-top + c.dilation_h - 1) / c.dilation_h : 0));
                                const int64_t t1 = std::max(t0, per_kh * inside);
                                const int64_t l = std::max(low, t0), h = std::min(high, t1);
                                const bool starts = from == 0 && (l == t0 || t0 == t1);
                                if (l >= h && !(starts && low == 0 && t0 == t1)) continue;
                                const bool ends = h == t1 && from + part == tap_depth;
                                const Epilogue at = out.at((n * c.oh + oh) * c.ow, column);
                                g.taps = taps.data() + l;
                                g.tap_count = std::max<int64_t>(0, h - l);
                                g.depth = part;
                                g.b = panel + (l * tap_depth + from) * g.b_row;
                                g.accumulate = !starts;
                                g.bias = starts ? at.bias : nullptr;
                                g.residual = ends || t0 == t1 ? at.residual : nullptr;
                                g.activation = ends || t0 == t1 ? out.activation : Activation::none;
                                g.stream = stream;
                                const int64_t row = (oh - first) * c.stride_h;
                                g.a = (strip ? own + ((n - n0) * strip_rows + row) * width * c.ic
                                             : x.f32() + (n * c.ih + oh * c.stride_h) * c.iw * xp) +
                                      group * icg + from;
                                g.c = y.f32() + (n * c.oh + oh) * c.ow * yp + column;
                                kernels().gemm(g);
                            }
                    };
                    if (!sliced) {
                        multiply(0, tap_count, 0, tap_depth);
                        continue;
                    }
                    const int64_t slices = (tap_depth + slice - 1) / slice;
                    for (int64_t t = 0; t < tap_count; ++t)
                        for (int64_t s = 0; s < slices; ++s) {
                            const int64_t from = tap_depth * s / slices;
                            multiply(t, t + 1, from, tap_depth * (s + 1) / slices - from);
                        }
                }
            }
        });
}

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
