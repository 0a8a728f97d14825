#include "ops/winograd.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "ops/gemm.h"

namespace engine {

namespace {

constexpr int64_t kElements = 36;

// The stride-1 3 x 3 convolution that forward and input gradient share.
struct Problem {
    const float* src;
    int64_t n, h, w, channels, src_pixel;  // source
    int64_t top, left;                     // padding
    float* dst;
    int64_t oh, ow, outputs, dst_pixel;
    const float* bias;
};

// Pointers to the size x size pixels of an image from (row, column) on; `zeros` for those outside.
void window(const float* image, int64_t pixel, int64_t h, int64_t w, int64_t row, int64_t column,
            int64_t size, const float* zeros, const float** pixels) {
    for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j) {
            const int64_t y = row + i, x = column + j;
            const bool inside = y >= 0 && y < h && x >= 0 && x < w;
            *pixels++ = inside ? image + (y * w + x) * pixel : zeros;
        }
}

// Filters as [panel][element][channel][columns of the panel].
std::shared_ptr<Workspace> pack_filters(const Conv& c, const Array& w, const Panels& panels,
                                        bool turned) {
    const uint64_t key = (turned ? 0x5741 : 0x5746) ^ static_cast<uint64_t>(w.offset()) << 20 ^
                         static_cast<uint64_t>(panels.full_width()) << 56;
    return w.storage()->pack(key, [&] {
        auto packed = std::make_shared<Workspace>(panels.bytes() * kElements);
        // Transformed by filter first, [element][oc][ic]: vectors run over input channels.
        const int64_t plane = c.oc * c.ic;
        Workspace by_filter(static_cast<size_t>(kElements * plane) * sizeof(float));
        parallel_for(c.oc, std::max<int64_t>(1, 4096 / c.ic), [&](int64_t begin, int64_t end, int) {
            for (int64_t oc = begin; oc < end; ++oc)
                kernels().winograd_weight(
                    {w.f32() + oc * 9 * c.ic, c.ic, turned, by_filter.f32() + oc * c.ic, plane});
        });
        // Rows of a panel are what is summed over: ic forward, oc for the gradient.
        const int64_t row = turned ? c.ic : 1, column = turned ? 1 : c.ic;
        parallel_for(panels.count() * kElements, [&](int64_t begin, int64_t end, int) {
            for (int64_t item = begin; item < end; ++item) {
                const int64_t p = item / kElements, e = item % kElements;
                PackArgs args;
                args.source = by_filter.f32() + e * plane + p * panels.full_width() * column;
                args.source_row = row;
                args.source_column = column;
                args.rows = panels.rows;
                args.columns = panels.columns_of(p);
                args.width = panels.width(p);
                args.panel =
                    packed->f32() + kElements * panels.offset(p) + e * panels.rows * args.width;
                kernels().pack(args);
            }
        });
        return packed;
    });
}

// Fused per thread: a block of tiles is transformed into the thread's scratch, multiplied panel by
// panel, and each panel's result transformed back while it is in cache.
// Returns false when a result is not finite.
bool run(const Problem& q, const Panels& panels, const float* filters) {
    const int64_t tiles_h = (q.oh + 3) / 4, tiles_w = (q.ow + 3) / 4;
    const int64_t per_image = tiles_h * tiles_w, tiles = q.n * per_image;
    // Multiples of the register tile's rows; the transformed input should stay in the second-level
    // cache.
    const int64_t wanted = q.channels <= 128 ? 28 : 14;
    const int64_t blocks = std::max<int64_t>(
        1, std::max((tiles + wanted - 1) / wanted, std::min<int64_t>(tiles / 14, 8)));
    const int64_t block = (tiles + blocks - 1) / blocks;
    // 16 floats more than a power of two: planes that start 4 KiB apart would fight for cache
    // lines.
    const int64_t v_plane = block * q.channels + 16, m_plane = block * panels.full_width() + 16;
    const int64_t own_floats = kElements * (v_plane + m_plane);
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats + q.channels) * sizeof(float));
    float* zeros = scratch.f32() + num_threads() * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(q.channels) * sizeof(float));

    std::atomic<bool> spoiled{false};
    parallel_for(blocks, [&](int64_t begin, int64_t end, int thread) {
        int32_t bad = 0;
        float* v = scratch.f32() + thread * own_floats;
        float* m = v + kElements * v_plane;
        const int64_t tap = 0;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t first = tiles * item / blocks, last = tiles * (item + 1) / blocks;
            for (int64_t t = first; t < last; ++t) {
                const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
                const float* pixels[kElements];
                window(q.src + n * q.h * q.w * q.src_pixel, q.src_pixel, q.h, q.w, 4 * th - q.top,
                       4 * tw - q.left, 6, zeros, pixels);
                kernels().winograd_input(
                    {pixels, q.channels, v + (t - first) * q.channels, v_plane});
            }
            for (int64_t p = 0; p < panels.count(); ++p) {
                const int64_t width = panels.width(p), column = p * panels.full_width();
                GemmArgs g{};
                g.a_row = q.channels;
                g.a_depth = 1;
                g.taps = &tap;
                g.tap_count = 1;
                g.depth = q.channels;
                g.b_row = width;
                g.c_row = width;
                g.rows = last - first;
                g.columns = width;
                g.vectors = panels.vectors_of(p);
                for (int64_t e = 0; e < kElements; ++e) {
                    g.a = v + e * v_plane;
                    g.b = filters + kElements * panels.offset(p) + e * q.channels * width;
                    g.c = m + e * m_plane;
                    kernels().gemm(g);
                }
                for (int64_t t = first; t < last; ++t) {
                    const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
                    WinogradOutputArgs out;
                    out.src = m + (t - first) * width;
                    out.plane = m_plane;
                    out.channels = panels.columns_of(p);
                    out.bias = q.bias ? q.bias + column : nullptr;
                    out.dst = q.dst + ((n * q.oh + 4 * th) * q.ow + 4 * tw) * q.dst_pixel + column;
                    out.dst_pixel = q.dst_pixel;
                    out.dst_row = q.ow * q.dst_pixel;
                    out.rows = static_cast<int32_t>(std::min<int64_t>(4, q.oh - 4 * th));
                    out.columns = static_cast<int32_t>(std::min<int64_t>(4, q.ow - 4 * tw));
                    out.spoiled = &bad;
                    kernels().winograd_output(out);
                }
            }
        }
        if (bad) spoiled = true;
    });
    return !spoiled;
}

}  // namespace

std::string declines_winograd(const Conv& c) {
    if (c.kh != 3 || c.kw != 3) return "not 3 x 3";
    if (c.stride_h != 1 || c.stride_w != 1) return "strided";
    if (c.dilation_h != 1 || c.dilation_w != 1) return "dilated";
    if (c.groups != 1) return "grouped";
    if (c.pad_top > 2 || c.pad_bottom > 2 || c.pad_left > 2 || c.pad_right > 2)
        return "padding above 2";
    if (c.ic < 16 || c.oc < 16) return "fewer than 16 channels";
    if (c.oh < 6 || c.ow < 6) return "map below 6 x 6";
    const int64_t tiles = c.n * ((c.oh + 3) / 4) * ((c.ow + 3) / 4);
    // Each transformed filter must meet enough tiles to be worth its reading.
    if (tiles < 32) return "fewer than 32 tiles";
    return "";
}

void forward_winograd(const Conv& c, const Array& x, const Array& w, const float* bias,
                      const Array& y) {
    const Panels panels(c.ic, c.oc);
    const auto filters = pack_filters(c, w, panels, false);
    // NaN and infinity must reach just the pixels that the definition says: then the direct form
    // decides.
    if (!run({x.f32(), c.n, c.ih, c.iw, c.ic, pixel_stride(x), c.pad_top, c.pad_left, y.f32(), c.oh,
              c.ow, c.oc, pixel_stride(y), bias},
             panels, filters->f32()))
        forward_direct(c, x, w, bias, y);
}

// dx is the convolution of dy, padded by 2 - pad, with the filters turned by 180 degrees.
void data_winograd(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const Panels panels(c.oc, c.ic);
    const auto filters = pack_filters(c, w, panels, true);
    if (!run({dy.f32(), c.n, c.oh, c.ow, c.oc, pixel_stride(dy), 2 - c.pad_top, 2 - c.pad_left,
              dx.f32(), c.ih, c.iw, c.ic, pixel_stride(dx), nullptr},
             panels, filters->f32()))
        data_direct(c, dy, w, dx);
}

// Blocks of tiles: both operands are transformed into scratch, then 36 products whose depth runs
// over the tiles add to the part's sums. Items are parts of the tiles times shares of the output
// channels.
void weight_winograd(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                     float* dbias) {
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x);
    const int64_t tiles_h = (c.oh + 3) / 4, tiles_w = (c.ow + 3) / 4;
    const int64_t per_image = tiles_h * tiles_w, tiles = c.n * per_image;
    constexpr int64_t kBlock = 56;
    const Panels panels(c.ic, c.oc);  // columns: output channels; rows of the sums: input channels
    const int64_t sums_floats = kElements * c.ic * panels.count() * panels.full_width();
    const int64_t by_memory = std::max<int64_t>(1, (int64_t{6} << 20) / sums_floats);
    const int64_t parts = std::max<int64_t>(1, std::min({int64_t{8}, by_memory, tiles / kBlock}));
    const int64_t shares = std::min(panels.count(), (8 + parts - 1) / parts);
    const int64_t v_plane = kBlock * c.ic + 16, w_plane = kBlock * panels.full_width() + 16;
    const int64_t own_floats = kElements * (v_plane + w_plane);
    const int64_t zero_floats = std::max(c.ic, c.oc);
    Workspace scratch(static_cast<size_t>(num_threads() * own_floats + zero_floats) *
                      sizeof(float));
    float* zeros = scratch.f32() + num_threads() * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(zero_floats) * sizeof(float));
    Workspace partial(static_cast<size_t>(parts * sums_floats) * sizeof(float));

    parallel_for(parts * shares, [&](int64_t begin, int64_t end, int thread) {
        float* v = scratch.f32() + thread * own_floats;
        float* g_tiles = v + kElements * v_plane;
        const int64_t tap = 0;
        for (int64_t item = begin; item < end; ++item) {
            const int64_t part = item / shares, share = item % shares;
            const int64_t first_panel = panels.count() * share / shares;
            const int64_t last_panel = panels.count() * (share + 1) / shares;
            float* sums = partial.f32() + part * sums_floats;
            const int64_t first = tiles * part / parts, last = tiles * (part + 1) / parts;
            for (int64_t start = first; start < last; start += kBlock) {
                const int64_t count = std::min(kBlock, last - start);
                for (int64_t t = start; t < start + count; ++t) {
                    const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
                    const float* pixels[kElements];
                    window(x.f32() + n * c.ih * c.iw * xp, xp, c.ih, c.iw, 4 * th - c.pad_top,
                           4 * tw - c.pad_left, 6, zeros, pixels);
                    kernels().winograd_input({pixels, c.ic, v + (t - start) * c.ic, v_plane});
                }
                for (int64_t p = first_panel; p < last_panel; ++p) {
                    const int64_t width = panels.width(p), columns = panels.columns_of(p);
                    if (columns < width)
                        std::memset(g_tiles, 0,
                                    static_cast<size_t>(kElements * w_plane) * sizeof(float));
                    for (int64_t t = start; t < start + count; ++t) {
                        const int64_t n = t / per_image, th = t % per_image / tiles_w,
                                      tw = t % tiles_w;
                        const float* pixels[16];
                        window(dy.f32() + n * c.oh * c.ow * gp, gp, c.oh, c.ow, 4 * th, 4 * tw, 4,
                               zeros, pixels);
                        for (const float*& pixel : pixels)
                            if (pixel != zeros) pixel += p * panels.full_width();
                        kernels().winograd_gradient(
                            {pixels, columns, g_tiles + (t - start) * width, w_plane});
                    }
                    GemmArgs g{};
                    g.a_row = 1;
                    g.a_depth = c.ic;
                    g.taps = &tap;
                    g.tap_count = 1;
                    g.depth = count;
                    g.b_row = width;
                    g.c_row = width;
                    g.rows = c.ic;
                    g.columns = width;
                    g.vectors = panels.vectors_of(p);
                    g.accumulate = start > first;
                    for (int64_t e = 0; e < kElements; ++e) {
                        g.a = v + e * v_plane;
                        g.b = g_tiles + e * w_plane;
                        g.c = sums + kElements * panels.offset(p) + e * c.ic * width;
                        kernels().gemm(g);
                    }
                }
            }
        }
    });

    // Parts are added in order; then back to filters, and from [k][ic][oc] to the weight's layout.
    const int64_t turn_floats = 9 * panels.full_width();
    Workspace turned(static_cast<size_t>(num_threads() * turn_floats) * sizeof(float));
    parallel_for(panels.count() * c.ic, std::max<int64_t>(1, 64),
                 [&](int64_t begin, int64_t end, int thread) {
                     float* own = turned.f32() + thread * turn_floats;
                     for (int64_t item = begin; item < end; ++item) {
                         const int64_t p = item / c.ic, i = item % c.ic, width = panels.width(p);
                         float* sums = partial.f32() + kElements * panels.offset(p) + i * width;
                         for (int64_t part = 1; part < parts; ++part)
                             for (int64_t e = 0; e < kElements; ++e) {
                                 const float* more = sums + part * sums_floats + e * c.ic * width;
                                 for (int64_t j = 0; j < width; ++j)
                                     sums[e * c.ic * width + j] += more[j];
                             }
                         kernels().winograd_filter({sums, c.ic * width, width, own, width});
                         for (int64_t j = 0; j < panels.columns_of(p); ++j) {
                             float* filter =
                                 dw.f32() + (p * panels.full_width() + j) * 9 * c.ic + i;
                             for (int64_t k = 0; k < 9; ++k) filter[k * c.ic] = own[k * width + j];
                         }
                     }
                 });
    float check = 0.0f;
    for (int64_t i = 0; i < dw.numel(); ++i) check += dw.f32()[i] * 0.0f;
    if (std::isnan(check)) {
        weight_direct(c, dy, x, dw, dbias);
        return;
    }
    if (dbias) column_sums(dy.f32(), gp, c.n * c.oh * c.ow, c.oc, dbias);
}

}  // namespace engine
