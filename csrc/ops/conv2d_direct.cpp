// Convolutions on vectors, as products in place: the kernel reads pixels where they lie. Only where
// something stands between them, padding above all, is a strip of the image copied first.
#include "ops/conv2d_direct.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/parallel.h"
#include "ops/layout.h"

namespace engine {

namespace {

bool unpadded(const Conv& c) { return !c.pad_top && !c.pad_bottom && !c.pad_left && !c.pad_right; }

using PackedGroups = std::vector<std::shared_ptr<Workspace>>;

// Where the positions of a grid go: floats from image to image, line to line, position to position.
struct Target {
    float* data;
    int64_t image, line, position;
};

// An item is a block of lines of an image, or several whole images when they are small, so that a
// panel of weights meets enough pixels.
struct Cut {
    int64_t block, blocks, together;
};

// The strip stays within the second-level cache. Where the image is larger than the weights it is
// cut for eight items (otherwise the panels are); a few blocks are as many for each thread.
Cut cut_images(const TapGrid& g, int64_t row_floats, int64_t weight_floats) {
    const int64_t fitting = std::max<int64_t>(1, (int64_t{48} << 10) / row_floats);
    const int64_t wanted =
        weight_floats > g.h * g.w * g.channels ? 1 : std::max<int64_t>(1, 8 / g.n);
    int64_t block = std::min({g.height, fitting, (g.height + wanted - 1) / wanted});
    int64_t blocks = (g.height + block - 1) / block;
    if (blocks > 1 && g.n * blocks < 16) {
        const int64_t threads = num_threads(), step = threads / std::gcd(g.n, threads);
        blocks = std::min(g.height, (blocks + step - 1) / step * step);
        block = (g.height + blocks - 1) / blocks;
    }
    if (blocks > 1) return {block, blocks, 1};
    const int64_t images =
        std::min({g.n, 196 / (g.height * g.width), (int64_t{96} << 10) / (g.height * row_floats)});
    return {block, 1, std::max<int64_t>(1, images)};
}

// Taps in the order of their rows; with a window there is one group. Rows of a group's panels are
// (tap, number of the window). The epilogue counts positions of the grid.
void run_strips(const TapGrid& g, const Panels& panels, const PackedGroups& packed,
                const Target& to, const Epilogue& out) {
    const auto groups = static_cast<int64_t>(packed.size());
    const auto tap_count = static_cast<int64_t>(g.taps.size());
    const int64_t depth = g.channels / groups, tap_depth = g.window * depth;
    const TapBounds bounds = tap_bounds(g);
    const int64_t top = bounds.top, left = bounds.left, reach = bounds.bottom - top + 1;
    const bool strip = !bounds.inside || g.prologue || (g.window > 1 && g.pixel != g.channels);
    const int64_t pixel = strip ? g.channels : g.pixel;
    const int64_t width = strip ? bounds.line_pixels : g.w;
    std::vector<int64_t> taps;
    for (const auto& [y, x] : g.taps)
        taps.push_back(strip ? ((y - top) * width + x - left) * pixel : (y * width + x) * pixel);

    const int64_t row_floats = width * g.channels * g.stride_h;
    const Cut cut = cut_images(g, row_floats, groups * panels.rows * panels.columns);
    const int64_t block = cut.block, blocks = cut.blocks, together = cut.together;
    const int64_t places = blocks > 1 ? g.n * blocks : (g.n + together - 1) / together;
    const int64_t all_panels = groups * panels.count();
    const int64_t shares = std::min(all_panels, std::max<int64_t>(1, (8 + places - 1) / places));
    const int64_t strip_rows = (block - 1) * g.stride_h + reach;
    const int64_t image_floats = strip_rows * width * g.channels;
    const int64_t strip_floats = strip ? together * image_floats : 0;
    Workspace scratch(static_cast<size_t>(num_threads() * strip_floats) * sizeof(float));
    const int64_t flops =
        2 * together * block * g.width * tap_count * tap_depth * groups * panels.columns / shares;

    // A panel that a line of pixels streams through too fast for the second-level cache is taken in
    // slices of its depth, for all lines of the item: each as large as the first level holds, or,
    // as wide panels are read less often than sums are, as a part of the second does.
    const bool sliced = tap_count * tap_depth * panels.full_width() > (int64_t{32} << 10);
    const int64_t slice = panels.lanes >= 16 ? 768 : 256;
    const bool stream =
        !sliced && out.in_registers() && panels.columns % 16 == 0 &&
        panels.full_width() % 16 == 0 &&
        streams(to.data, to.position, g.n * g.height * g.width, groups * panels.columns);

    parallel_for(
        places * shares, product_grain(flops), [&](int64_t begin, int64_t end, int thread) {
            float* own = scratch.f32() + thread * strip_floats;
            int64_t in_scratch = -1;  // the strip of which place is there
            for (int64_t item = begin; item < end; ++item) {
                const int64_t share = item % shares, place = item / shares;
                const int64_t n0 = blocks > 1 ? place / blocks : place * together;
                const int64_t n1 = std::min(g.n, n0 + together);
                const int64_t b = blocks > 1 ? place % blocks : 0;
                const int64_t first = g.height * b / blocks, last = g.height * (b + 1) / blocks;
                for (int64_t n = n0; n < n1 && strip && in_scratch != place; ++n)
                    copy_strip(g.src + n * g.h * g.w * g.pixel, g.pixel, g.channels, g.h, g.w,
                               first * g.stride_h + top, (last - first - 1) * g.stride_h + reach,
                               left, width, own + (n - n0) * image_floats, g.prologue);
                in_scratch = place;
                GemmArgs a{};
                a.a_row = g.stride_w * pixel;
                a.a_depth = 1;
                a.c_row = to.position;
                a.rows = g.width;
                a.residual_row = out.residual_row;
                a.stream = stream;
                for (int64_t q = all_panels * share / shares; q < all_panels * (share + 1) / shares;
                     ++q) {
                    const int64_t group = q / panels.count(), p = q % panels.count();
                    const int64_t column = group * panels.columns + p * panels.full_width();
                    const float* panel =
                        packed[static_cast<size_t>(group)]->f32() + panels.offset(p);
                    a.b_row = panels.width(p);
                    a.columns = panels.columns_of(p);
                    a.vectors = panels.vectors_of(p);
                    // Depth [from, from + part) of taps [low, high) for every line.
                    const auto multiply = [&](int64_t low, int64_t high, int64_t from,
                                              int64_t part) {
                        for (int64_t n = n0; n < n1; ++n)
                            for (int64_t y = first; y < last; ++y) {
                                // Taps that fall above or below the image are left out.
                                int64_t t0 = 0, t1 = tap_count;
                                const int64_t row = y * g.stride_h;
                                while (t0 < t1 && row + g.taps[static_cast<size_t>(t0)].first < 0)
                                    ++t0;
                                while (t1 > t0 &&
                                       row + g.taps[static_cast<size_t>(t1 - 1)].first >= g.h)
                                    --t1;
                                const int64_t l = std::max(low, t0), h = std::min(high, t1);
                                const bool starts = from == 0 && (l == t0 || t0 == t1);
                                if (l >= h && !(starts && low == 0 && t0 == t1)) continue;
                                const bool ends = t0 == t1 || (h == t1 && from + part == tap_depth);
                                const Epilogue at = out.at((n * g.height + y) * g.width, column);
                                a.taps = taps.data() + l;
                                a.tap_count = std::max<int64_t>(0, h - l);
                                a.depth = part;
                                a.b = panel + (l * tap_depth + from) * a.b_row;
                                a.accumulate = !starts;
                                a.bias = starts ? at.bias : nullptr;
                                a.residual = ends ? at.residual : nullptr;
                                a.activation = ends ? out.activation : Activation::none;
                                a.a = (strip ? own + (n - n0) * image_floats +
                                                   (y - first) * g.stride_h * width * pixel
                                             : g.src + (n * g.h + row) * g.w * pixel) +
                                      group * depth + from;
                                a.c = to.data + n * to.image + y * to.line + column;
                                kernels().gemm(a);
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

// Taps side by side become windows of one tap, if they do in every row.
void merge_columns(TapGrid& g) {
    size_t columns = 1;
    while (columns < g.taps.size() && g.taps[columns].first == g.taps[0].first) ++columns;
    std::vector<std::pair<int64_t, int64_t>> merged;
    for (size_t t = 0; t < g.taps.size(); ++t) {
        if (t % columns == 0)
            merged.push_back(g.taps[t]);
        else if (g.taps[t].second != g.taps[t - 1].second + 1)
            return;
    }
    g.taps = merged;
    g.window = static_cast<int64_t>(columns);
}

// Of a strided 1 x 1 kernel: one pixel in stride_h * stride_w receives anything.
void data_sparse(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(dx);
    const Panels panels(c.oc, c.ic, Panels::Tiles::wide);
    const auto packed = pack_weight(w, panels, c.ic, 1, 5);
    const size_t pixel_bytes = static_cast<size_t>(c.ic) * sizeof(float);
    parallel_for(c.n * c.ih, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t n = row / c.ih, ih = row % c.ih, oh = ih / c.stride_h;
            const bool reached = ih % c.stride_h == 0 && oh < c.oh;
            float* to = dx.f32() + row * c.iw * xp;
            for (int64_t iw = 0; iw < c.iw; ++iw)
                if (!reached || iw % c.stride_w || iw / c.stride_w >= c.ow)
                    std::memset(to + iw * xp, 0, pixel_bytes);
            if (!reached) continue;
            multiply_panels(dy.f32() + (n * c.oh + oh) * c.ow * gp, gp, c.ow, panels, packed->f32(),
                            to, c.stride_w * xp);
        }
    });
}

}  // namespace

void forward_direct(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                    const Array& y) {
    forward_direct_from(c, nullptr, x, w, epilogue, y);
}

void forward_direct_from(const Conv& c, const Prologue* prologue, const Array& x, const Array& w,
                         const Epilogue& epilogue, const Array& y) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), xp = pixel_stride(x),
                  yp = pixel_stride(y);
    const int64_t depth = c.kh * c.kw * icg;

    if (c.kh == 1 && c.kw == 1 && c.stride_h == 1 && c.stride_w == 1 && unpadded(c) &&
        c.groups == 1) {
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
    // nothing stands between them: no dilation, no other group.
    const bool whole_rows = c.dilation_w == 1 && c.groups == 1;
    // Few output channels leave lanes empty: then a vector takes those of `merged` neighbouring
    // pixels.
    const bool dense = yp == c.oc && (!epilogue.residual || epilogue.residual_row == c.oc);
    const int64_t merged = whole_rows && dense ? merged_pixels(c) : 1;
    TapGrid g = forward_grid(c, x, prologue, whole_rows);
    g.width /= merged;
    g.window += (merged - 1) * c.stride_w;
    g.stride_w *= merged;
    const Panels panels(merged > 1 ? c.kh * g.window * icg : depth, merged * ocg,
                        Panels::tiles_of_lines(g.width));
    PackedGroups packed;
    Epilogue out = epilogue;
    Workspace merged_bias(static_cast<size_t>(merged * c.oc) * sizeof(float));
    if (merged > 1) {
        packed.push_back(pack_merged(c, w, panels, merged));
        for (int64_t j = 0; j < merged && out.bias; ++j)
            std::copy_n(out.bias, c.oc, merged_bias.f32() + j * c.oc);
        if (out.bias) out.bias = merged_bias.f32();
        out.residual_row *= merged;
    } else {
        for (int64_t group = 0; group < c.groups; ++group)
            packed.push_back(pack_weight(
                w.view({ocg * depth}, {1}, w.offset() + group * ocg * depth), panels, 1, depth, 4));
    }
    run_strips(g, panels, packed, {y.f32(), c.oh * c.ow * yp, c.ow * yp, merged * yp}, out);
}

void data_direct(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), xp = pixel_stride(dx);
    const int64_t filter = c.kh * c.kw * icg;

    if (c.kh == 1 && c.kw == 1 && c.stride_h == 1 && c.stride_w == 1 && c.groups == 1 &&
        c.oh == c.ih && c.ow == c.iw) {
        Product product{};
        product.rows = c.n * c.ih * c.iw, product.columns = c.ic, product.depth = c.oc;
        product.a = dy.f32(), product.a_row = pixel_stride(dy), product.a_depth = 1;
        product.c = dx.f32(), product.c_row = xp;
        run_product(product, w, filter, 1, 5);
        return;
    }

    if (c.kh == 1 && c.kw == 1 && c.groups == 1 && unpadded(c)) {
        data_sparse(c, dy, w, dx);
        return;
    }

    for (GradientPhase& phase : gradient_phases(c, dy)) {
        TapGrid& g = phase.grid;
        const Panels panels(static_cast<int64_t>(g.taps.size()) * ocg, icg,
                            Panels::tiles_of_lines(g.width));
        PackedGroups packed;
        for (int64_t group = 0; group < c.groups; ++group) {
            const Array part = w.view({ocg * filter}, {1}, w.offset() + group * ocg * filter);
            uint64_t key = 0xDA;
            for (int64_t each :
                 {phase.row, phase.column, c.stride_h, c.stride_w, c.pad_top, c.pad_left,
                  c.dilation_h, c.dilation_w, part.offset(), panels.full_width()})
                key = (key ^ static_cast<uint64_t>(each)) * 1099511628211ull;
            packed.push_back(w.storage()->pack(key, [&] {
                auto made = std::make_shared<Workspace>(panels.bytes());
                for (int64_t p = 0; p < panels.count(); ++p)
                    for (size_t t = 0; t < g.taps.size(); ++t) {
                        PackArgs a;
                        a.source = part.f32() + phase.kernel[t] * icg + p * panels.full_width();
                        a.source_row = filter;
                        a.source_column = 1;
                        a.rows = ocg;
                        a.columns = panels.columns_of(p);
                        a.width = panels.width(p);
                        a.panel = made->f32() + panels.offset(p) +
                                  static_cast<int64_t>(t) * ocg * a.width;
                        kernels().pack(a);
                    }
                return made;
            }));
        }
        if (c.groups == 1) merge_columns(g);
        run_strips(g, panels, packed,
                   {dx.f32() + (phase.row * c.iw + phase.column) * xp, c.ih * c.iw * xp,
                    c.stride_h * c.iw * xp, c.stride_w * xp},
                   {});
    }
}

// dW[(kh, kw, i)][oc] = sum over pixels of x[pixel at (kh, kw)][i] * dy[pixel][oc]: a product whose
// depth runs over pixels, one tap per output row. Both operands are contiguous in the right
// direction; dy is copied to panels, x to padded strips as in the forward direction.
void weight_direct(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    const int64_t icg = c.group_ic(), ocg = c.group_oc(), gp = pixel_stride(dy),
                  xp = pixel_stride(x);
    const int64_t depth = c.kh * c.kw * icg;  // rows of dW
    const bool padded = c.pad_top || c.pad_bottom || c.pad_left || c.pad_right;
    const bool strip = padded || (xp != c.ic && c.kw > 1 && c.groups == 1);
    const bool whole_rows = c.dilation_w == 1 && c.groups == 1;
    const int64_t pixel = strip ? c.ic : xp;
    const int64_t width = strip ? c.iw + c.pad_left + c.pad_right : c.iw;
    const int64_t reach_h = (c.kh - 1) * c.dilation_h + 1;

    const Panels layout(1, ocg);  // columns only: widths and offsets of one row of dW
    const int64_t padded_oc = layout.count() * layout.full_width();
    const int64_t group_floats = depth * padded_oc, partial_floats = c.groups * group_floats;
    const int64_t parts = reduction_parts(c, partial_floats), rows = c.n * c.oh;
    const int64_t all_panels = c.groups * layout.count();
    const int64_t shares = std::min(all_panels, std::max<int64_t>(1, 8 / parts));

    const int64_t row_floats = std::max(width * c.ic * c.stride_h, c.ow * c.oc);
    const int64_t block = std::max<int64_t>(
        1, std::min(c.oh, (int64_t{48} << 10) / std::max<int64_t>(1, row_floats)));
    const int64_t strip_floats = strip ? ((block - 1) * c.stride_h + reach_h) * width * c.ic : 0;
    const int64_t panel_floats = block * c.ow * layout.full_width();
    const int64_t scratch_floats = strip_floats + panel_floats;
    Workspace scratch(static_cast<size_t>(num_threads() * scratch_floats) * sizeof(float));
    Workspace taps(static_cast<size_t>(block) * sizeof(int64_t));
    auto* tap = static_cast<int64_t*>(taps.data());
    for (int64_t r = 0; r < block; ++r) tap[r] = r * c.stride_h * width * pixel;
    Workspace partial(static_cast<size_t>(parts * (partial_floats + c.oc)) * sizeof(float));
    const int64_t part_floats = partial_floats + c.oc;

    parallel_for(parts * shares, [&](int64_t begin, int64_t end, int thread) {
        float* own_strip = scratch.f32() + thread * scratch_floats;
        float* own_panel = own_strip + strip_floats;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item / shares, share = item % shares;
            const int64_t first_panel = all_panels * share / shares,
                          last_panel = all_panels * (share + 1) / shares;
            float* sums = partial.f32() + part * part_floats;
            float* bias_sums = sums + partial_floats;
            for (int64_t q = first_panel; q < last_panel; ++q) {
                const int64_t group = q / layout.count(), p = q % layout.count();
                std::fill_n(sums + group * group_floats + p * layout.full_width() * depth,
                            depth * layout.width(p), 0.0f);
                std::fill_n(bias_sums + group * ocg + p * layout.full_width(), layout.columns_of(p),
                            0.0f);
            }
            int64_t row = rows * part / parts;
            const int64_t end_row = rows * (part + 1) / parts;
            while (row < end_row) {
                // A block ends with its image.
                const int64_t n = row / c.oh, oh = row % c.oh;
                const int64_t count = std::min({block, c.oh - oh, end_row - row});
                const float* image = x.f32() + n * c.ih * c.iw * xp;
                const float* src = image + oh * c.stride_h * c.iw * xp;
                if (strip) {
                    copy_strip(image, xp, c.ic, c.ih, c.iw, oh * c.stride_h - c.pad_top,
                               (count - 1) * c.stride_h + reach_h, -c.pad_left, width, own_strip);
                    src = own_strip;
                }
                for (int64_t q = first_panel; q < last_panel; ++q) {
                    const int64_t group = q / layout.count(), p = q % layout.count();
                    const int64_t column = group * ocg + p * layout.full_width();
                    const float* grad = dy.f32() + row * c.ow * gp + column;
                    if (dbias)
                        kernels().column_sum(
                            {grad, gp, count * c.ow, layout.columns_of(p), bias_sums + column});
                    kernels().pack({grad, gp, 1, count * c.ow, layout.columns_of(p), own_panel,
                                    layout.width(p)});
                    GemmArgs g{};
                    g.a_row = 1;
                    g.a_depth = c.stride_w * pixel;
                    g.taps = tap;
                    g.tap_count = count;
                    g.depth = c.ow;
                    g.b = own_panel;
                    g.b_row = layout.width(p);
                    g.c_row = layout.width(p);
                    g.columns = layout.width(p);
                    g.vectors = layout.vectors_of(p);
                    g.accumulate = true;
                    g.rows = whole_rows ? c.kw * icg : icg;
                    float* target = sums + group * group_floats + p * layout.full_width() * depth;
                    for (int64_t kh = 0; kh < c.kh; ++kh)
                        for (int64_t kw = 0; kw < (whole_rows ? 1 : c.kw); ++kw) {
                            g.a = src + (kh * c.dilation_h * width + kw * c.dilation_w) * pixel +
                                  group * icg;
                            g.c = target + (kh * c.kw + kw) * icg * layout.width(p);
                            kernels().gemm(g);
                        }
                }
                row += count;
            }
        }
    });

    // Parts are added in order and turned to the weight's layout [oc][kh][kw][i].
    parallel_for(all_panels, [&](int64_t begin, int64_t end, int) {
        for (int64_t q = begin; q < end; ++q) {
            const int64_t group = q / layout.count(), p = q % layout.count(),
                          panel_width = layout.width(p);
            float* sums = partial.f32() + group * group_floats + p * layout.full_width() * depth;
            for (int64_t part = 1; part < parts; ++part) {
                const float* more = sums + part * part_floats;
                for (int64_t i = 0; i < depth * panel_width; ++i) sums[i] += more[i];
            }
            const int64_t column = group * ocg + p * layout.full_width();
            kernels().transpose(
                {sums, panel_width, depth, layout.columns_of(p), dw.f32() + column * depth, depth});
            for (int64_t j = 0; dbias && j < layout.columns_of(p); ++j) {
                float bias = 0.0f;
                for (int64_t part = 0; part < parts; ++part)
                    bias += partial.f32()[part * part_floats + partial_floats + column + j];
                dbias[column + j] = bias;
            }
        }
    });
}

}  // namespace engine
