#include "ops/winograd.h"
#include "ops/layout.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/parallel.h"
#include "ops/algorithm.h"
#include "ops/conv2d_direct.h"
#include "ops/gemm.h"
#include "ops/split.h"
#include "ops/update.h"

namespace engine {

namespace {

// A form and what follows from it, see dispatch/args_winograd.h.
struct Form {
    WinogradForm id;
    int64_t mh, rh, mw, rw;  // outputs and taps
    int64_t th() const { return mh + rh - 1; }
    int64_t tw() const { return mw + rw - 1; }
    int64_t elements() const { return th() * tw(); }
    int64_t taps() const { return rh * rw; }
};
constexpr int64_t kMaxElements = 36;

#define ENGINE_FORM(with, name, algorithm, mh, rh, mw, rw) {WinogradForm::name, mh, rh, mw, rw},
constexpr Form kForms[] = {ENGINE_WINOGRAD_FORMS(ENGINE_FORM, )};
#undef ENGINE_FORM
constexpr const Form& form_of(WinogradForm id) { return kForms[static_cast<int>(id)]; }

// Tiles times elements of a fused block: enough tiles to reuse a filter panel, few enough for the
// transformed input to stay in the second-level cache up to 256 channels. Measured for 4 x 4, 14 to
// 168 tiles: 28 wins at all sizes.
constexpr int64_t kBlockElements = 1008;
// Staged from this many floats of transformed filters on, in chunks whose transforms have this many
// floats: 256 to 256 channels at 14 x 14, batch 16, ran at 774 GFLOP/s fused, 923 staged in chunks
// of 128 tiles and 965 in one of 256 (peak 481); 512 to 512 at 7 x 7 at 229 and 956; 64 to 64 at 56
// x 56 at 1073 and 898. Staged too when the tiles would make fewer than two blocks.
constexpr int64_t kStagedFilters = int64_t{2} << 20;
constexpr int64_t kChunkFloats = int64_t{5} << 20;

// The output tiles of a problem.
struct Tiles {
    int64_t mh, mw, rows, columns, per_image, count;
    Tiles(const Form& f, int64_t n, int64_t oh, int64_t ow)
        : mh(f.mh), mw(f.mw), rows((oh + mh - 1) / mh), columns((ow + mw - 1) / mw) {
        per_image = rows * columns;
        count = n * per_image;
    }
    // Image and first pixel of tile t.
    struct Place {
        int64_t n, row, column;
    };
    Place operator[](int64_t t) const {
        return {t / per_image, t % per_image / columns * mh, t % columns * mw};
    }
};

// The stride-1 convolution that forward and input gradient share.
struct Problem {
    const Form& form;
    const float* src;
    int64_t n, h, w, channels, src_pixel;  // source
    int64_t top, left;                     // padding
    float* dst;
    int64_t oh, ow, outputs, dst_pixel;
    Epilogue epilogue;
};

// Pointers to the rows x columns pixels of an image from (row, column) on; `zeros` for those
// outside.
void window(const float* image, int64_t pixel, int64_t h, int64_t w, int64_t row, int64_t column,
            int64_t rows, int64_t columns, const float* zeros, const float** pixels) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
            const int64_t y = row + i, x = column + j;
            const bool inside = y >= 0 && y < h && x >= 0 && x < w;
            *pixels++ = inside ? image + (y * w + x) * pixel : zeros;
        }
}

// Filters as [tap][channel][output]: vectors run over outputs, so they are turned while they are
// small. The gradient's outputs are input channels, side by side in memory as they are.
struct Filters {
    Filters(const Form& f, const Conv& c, const Array& w, bool turned)
        : turned(turned),
          pitch(turned ? c.ic : c.oc + 16),
          row(turned ? f.taps() * c.ic : pitch),
          tap(turned ? c.ic : c.ic * pitch),
          data(w.f32()),
          copy(turned ? 0 : static_cast<size_t>(f.taps() * c.ic * pitch) * sizeof(float)) {
        if (turned) return;
        const int64_t depth = f.taps() * c.ic;
        parallel_for((depth + 63) / 64, std::max<int64_t>(1, 256 / c.oc),
                     [&](int64_t begin, int64_t end, int) {
                         const int64_t first = begin * 64, last = std::min(depth, end * 64);
                         kernels().pack({w.f32() + first, 1, depth, last - first, c.oc,
                                         copy.f32() + first * pitch, pitch});
                     });
        data = copy.f32();
    }
    bool turned;
    int64_t pitch, row, tap;
    const float* data;
    Workspace copy;
};

// Filters as [panel][element][channel][columns of the panel]. What stands in the columns beyond the
// last is multiplied too, but never stored.
std::shared_ptr<Workspace> pack_filters(const Form& f, const Conv& c, const Array& w,
                                        const Panels& panels, bool turned) {
    const uint64_t key = (turned ? 0x5741 : 0x5746) ^ static_cast<uint64_t>(f.id) << 16 ^
                         static_cast<uint64_t>(w.offset()) << 20 ^
                         static_cast<uint64_t>(panels.full_width()) << 56;
    return w.storage()->pack(key, [&] {
        auto packed =
            std::make_shared<Workspace>(panels.bytes() * static_cast<size_t>(f.elements()));
        const Filters source(f, c, w, turned);
        parallel_for(
            panels.rows, std::max<int64_t>(1, 1024 / panels.columns),
            [&](int64_t begin, int64_t end, int) {
                for (int64_t row = begin; row < end; ++row)
                    for (int64_t p = 0; p < panels.count(); ++p)
                        kernels().winograd_weight(
                            {f.id, source.data + row * source.row + p * panels.full_width(),
                             source.tap, panels.columns_of(p), turned,
                             packed->f32() + f.elements() * panels.offset(p) +
                                 row * panels.width(p),
                             panels.rows * panels.width(p)});
            });
        return packed;
    });
}

// The same as the right factor of products on matrix tiles; its taps are the elements.
SplitFactor split_filters(const Form& f, const Conv& c, const Array& w, bool turned) {
    const int64_t rows = turned ? c.oc : c.ic;
    const uint64_t key = (turned ? 0x5751 : 0x5756) ^ static_cast<uint64_t>(f.id) << 16 ^
                         static_cast<uint64_t>(w.offset()) << 20;
    SplitFactor all{turned ? c.ic : c.oc, f.elements(), rows, nullptr};
    all.data = w.storage()->pack(key, [&] {
        all.data =
            std::make_shared<Workspace>(static_cast<size_t>(all.count()) * all.panel_bytes() + 64);
        const Filters source(f, c, w, turned);
        constexpr int64_t kPlane = kSplitDepth * kSplitLines;
        const int64_t own_floats = f.elements() * kPlane;
        Workspace scratch(static_cast<size_t>(num_threads() * own_floats) * sizeof(float));
        std::atomic<int32_t> spoiled{0};
        parallel_for(all.count() * all.tap_steps(), [&](int64_t begin, int64_t end, int thread) {
            float* own = scratch.f32() + thread * own_floats;
            const float* lines[kSplitDepth];
            int32_t bad = 0;
            for (int64_t item = begin; item < end; ++item) {
                const int64_t p = item / all.tap_steps(), step = item % all.tap_steps();
                const int64_t first = step * kSplitDepth;
                const int64_t count = std::min<int64_t>(kSplitDepth, rows - first);
                for (int64_t i = 0; i < count; ++i)
                    kernels().winograd_weight(
                        {f.id, source.data + (first + i) * source.row + p * kSplitLines, source.tap,
                         all.columns_of(p), turned, own + i * kSplitLines, kPlane});
                for (int64_t e = 0; e < f.elements(); ++e) {
                    for (int64_t i = 0; i < count; ++i)
                        lines[i] = own + e * kPlane + i * kSplitLines;
                    kernels().split({lines, count, all.columns_of(p), true, true,
                                     const_cast<char*>(all.panel(p)) +
                                         (e * all.tap_steps() + step) * kSplitStep,
                                     &bad});
                }
            }
            if (bad) spoiled = 1;
        });
        *reinterpret_cast<int32_t*>(const_cast<char*>(all.panel(all.count()))) = spoiled;
        return all.data;
    });
    return all;
}

// Whether the products of the elements are taken to matrix tiles, staged. Measured: 64 to 64
// channels at 56 x 56, batch 16, 990 GFLOP/s against 1160 without; 128 to 128 at 28 x 28 1500 and
// 1280, 256 to 256 at 14 x 14 1800 and 1110, 512 to 512 at 7 x 7 1380 and 1080; at batch 1
// 512 to 512 at 28 x 28 2700 and 2100.
bool on_tiles(const Form& f, int64_t channels, int64_t outputs, int64_t tiles) {
    constexpr int64_t kMostSteps = 16;
    return tiles >= kSplitLines && channels <= kMostSteps * kSplitDepth &&
           f.elements() * channels * outputs >= (int64_t{1} << 19) &&
           takes_split(tiles, outputs, f.elements(), channels);
}

// Fused: every thread transforms a block of tiles into scratch of its own, multiplies panel by
// panel, and transforms each panel's result back while it is in cache; the filters are read once
// per block. Staged, for filters far larger than a cache: the threads share a chunk of tiles, then
// the elements, then the tiles again; the filters are read once per chunk. With `split` filters the
// products are those of matrix tiles, always staged. Returns false when a result is not finite.
bool run(const Problem& q, const Panels& panels, const float* filters,
         const SplitFactor* split = nullptr) {
    const Form& f = q.form;
    const int64_t elements = f.elements();
    const Tiles place(f, q.n, q.oh, q.ow);
    const int64_t tiles = place.count;
    const int64_t fused_block = std::max<int64_t>(14, kBlockElements / elements / 14 * 14);
    const bool staged =
        split || elements * q.channels * q.outputs >= kStagedFilters || tiles < 2 * fused_block;
    int64_t blocks =
        staged
            ? (tiles * elements * (q.channels + q.outputs) + kChunkFloats - 1) / kChunkFloats
            : std::max((tiles + fused_block - 1) / fused_block, std::min<int64_t>(tiles / 14, 8));
    // A few blocks are a multiple of the usual numbers of threads.
    if (!staged && blocks < 32) blocks = (blocks + 3) / 4 * 4;
    const int64_t block = (tiles + blocks - 1) / blocks;
    // 16 floats more than a power of two: planes, and with many channels rows, that start 4 KiB
    // apart would fight for cache lines.
    const int64_t v_row = staged ? q.channels + 16 : q.channels;
    const int64_t m_row = split    ? q.outputs + 16
                          : staged ? panels.count() * panels.full_width()
                                   : panels.full_width();
    const int64_t v_plane = block * v_row + 16, m_plane = block * m_row + 16;
    const int64_t own_floats = elements * (v_plane + m_plane);
    const int64_t owners = staged ? 1 : num_threads();
    Workspace scratch(static_cast<size_t>(owners * own_floats + q.channels) * sizeof(float));
    const int64_t line_bytes = block * static_cast<int64_t>(sizeof(float*)) + 64;
    const int64_t left_bytes =
        split ? 2 * split->tap_steps() * kSplitStep + line_bytes / 64 * 64 : 0;
    Workspace left(static_cast<size_t>(num_threads() * left_bytes));
    float* zeros = scratch.f32() + owners * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(q.channels) * sizeof(float));
    std::atomic<bool> spoiled{false};

    // Tiles [first + begin, first + end) to rows begin, ... of v.
    const auto transform = [&](int64_t first, int64_t begin, int64_t end, float* v) {
        for (int64_t i = begin; i < end; ++i) {
            const auto [n, row, column] = place[first + i];
            const float* pixels[kMaxElements];
            window(q.src + n * q.h * q.w * q.src_pixel, q.src_pixel, q.h, q.w, row - q.top,
                   column - q.left, f.th(), f.tw(), zeros, pixels);
            kernels().winograd_input({f.id, pixels, q.channels, v + i * v_row, v_plane});
        }
    };
    const auto multiply = [&](int64_t e, int64_t p, int64_t count, const float* v, float* m) {
        const int64_t width = panels.width(p), tap = 0;
        GemmArgs g{};
        g.a = v + e * v_plane;
        g.a_row = v_row;
        g.a_depth = 1;
        g.taps = &tap;
        g.tap_count = 1;
        g.depth = q.channels;
        g.b = filters + elements * panels.offset(p) + e * q.channels * width;
        g.b_row = width;
        g.c = m + e * m_plane;
        g.c_row = m_row;
        g.rows = count;
        g.columns = width;
        g.vectors = panels.vectors_of(p);
        kernels().gemm(g);
    };
    // Columns of panels [p0, p1) of element e on matrix tiles.
    const auto multiply_split = [&](int64_t e, int64_t p0, int64_t p1, int64_t count,
                                    const float* v, float* m, int thread) {
        char* own = static_cast<char*>(left.data()) + thread * left_bytes;
        auto** lines = reinterpret_cast<const float**>(own + 2 * split->tap_steps() * kSplitStep);
        for (int64_t i = 0; i < count; ++i) lines[i] = v + e * v_plane + i * v_row;
        int32_t bad = 0;
        SplitStreamArgs g{};
        g.lines = lines;
        g.tap_depth = q.channels;
        g.left = own;
        g.right = split->panel(p0) + e * split->tap_steps() * kSplitStep;
        g.right_panel = static_cast<int64_t>(split->panel_bytes());
        g.steps = split->tap_steps();
        g.c = m + e * m_plane + p0 * kSplitLines;
        g.c_row = m_row;
        g.rows = count;
        g.columns = std::min(q.outputs, p1 * kSplitLines) - p0 * kSplitLines;
        g.spoiled = &bad;
        kernels().split_stream(g);
        if (bad) spoiled = true;
    };
    const bool stream = streams(q.dst, q.dst_pixel, q.n * q.oh * q.ow, q.outputs);
    // Rows begin, ... of m, `channels` outputs from `channel` on, to the output.
    const auto finish = [&](int64_t first, int64_t begin, int64_t end, const float* m,
                            int64_t channel, int64_t channels) {
        int32_t bad = 0;
        for (int64_t i = begin; i < end; ++i) {
            const auto [n, row, column] = place[first + i];
            const int64_t pixel = (n * q.oh + row) * q.ow + column;
            const Epilogue last = q.epilogue.at(pixel, channel);
            WinogradOutputArgs out;
            out.form = f.id;
            out.src = m + i * m_row;
            out.plane = m_plane;
            out.channels = channels;
            out.bias = last.bias;
            out.residual = last.residual;
            out.residual_pixel = last.residual_row;
            out.residual_row = q.ow * last.residual_row;
            out.activation = last.activation;
            out.dst = q.dst + pixel * q.dst_pixel + channel;
            out.dst_pixel = q.dst_pixel;
            out.dst_row = q.ow * q.dst_pixel;
            out.rows = static_cast<int32_t>(std::min(f.mh, q.oh - row));
            out.columns = static_cast<int32_t>(std::min(f.mw, q.ow - column));
            out.stream = stream;
            out.fence = stream && i + 1 == end;
            out.spoiled = &bad;
            kernels().winograd_output(out);
        }
        if (bad) spoiled = true;
    };

    if (staged) {
        float *v = scratch.f32(), *m = v + elements * v_plane;
        for (int64_t item = 0; item < blocks; ++item) {
            const int64_t first = tiles * item / blocks;
            const int64_t count = tiles * (item + 1) / blocks - first;
            parallel_for(count,
                         [&](int64_t begin, int64_t end, int) { transform(first, begin, end, v); });
            if (split) {
                const int64_t shares = (split->count() + 7) / 8;
                parallel_for(elements * shares, [&](int64_t begin, int64_t end, int thread) {
                    for (int64_t i = begin; i < end; ++i)
                        multiply_split(i / shares, split->count() * (i % shares) / shares,
                                       split->count() * (i % shares + 1) / shares, count, v, m,
                                       thread);
                });
            } else {
                parallel_for(elements * panels.count(), [&](int64_t begin, int64_t end, int) {
                    for (int64_t i = begin; i < end; ++i)
                        multiply(i / panels.count(), i % panels.count(), count, v,
                                 m + i % panels.count() * panels.full_width());
                });
            }
            parallel_for(count, [&](int64_t begin, int64_t end, int) {
                finish(first, begin, end, m, 0, q.outputs);
            });
        }
    } else {
        parallel_for(blocks, [&](int64_t begin, int64_t end, int thread) {
            float* v = scratch.f32() + thread * own_floats;
            float* m = v + elements * v_plane;
            for (int64_t item = begin; item < end; ++item) {
                const int64_t first = tiles * item / blocks;
                const int64_t count = tiles * (item + 1) / blocks - first;
                transform(first, 0, count, v);
                for (int64_t p = 0; p < panels.count(); ++p) {
                    for (int64_t e = 0; e < elements; ++e) multiply(e, p, count, v, m);
                    finish(first, 0, count, m, p * panels.full_width(), panels.columns_of(p));
                }
            }
        });
    }
    return !spoiled;
}

}  // namespace

template <WinogradForm form>
std::string declines_winograd(const Conv& c) {
    constexpr const Form& f = form_of(form);
    if (c.kh != f.rh || c.kw != f.rw) return "another kernel";
    if (c.stride_h != 1 || c.stride_w != 1) return "strided";
    if (c.dilation_h != 1 || c.dilation_w != 1) return "dilated";
    if (c.groups != 1) return "grouped";
    if (std::max(c.pad_top, c.pad_bottom) >= f.rh || std::max(c.pad_left, c.pad_right) >= f.rw)
        return "padding as large as the kernel";
    if (c.ic < 16 || c.oc < 16) return "fewer than 16 channels";
    return "";
}

template <WinogradForm form>
void forward_winograd(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                      const Array& y) {
    const Form& f = form_of(form);
    const Panels panels(c.ic, c.oc);
    if (on_tiles(f, c.ic, c.oc, Tiles(f, c.n, c.oh, c.ow).count)) {
        const SplitFactor filters = split_filters(f, c, w, false);
        if (!filters.finite() ||
            !run({f, x.f32(), c.n, c.ih, c.iw, c.ic, pixel_stride(x), c.pad_top, c.pad_left,
                  y.f32(), c.oh, c.ow, c.oc, pixel_stride(y), epilogue},
                 panels, nullptr, &filters))
            forward_direct(c, x, w, epilogue, y);
        return;
    }
    const auto filters = pack_filters(f, c, w, panels, false);
    // NaN and infinity must reach just the pixels that the definition says: then the direct form
    // decides.
    if (!run({f, x.f32(), c.n, c.ih, c.iw, c.ic, pixel_stride(x), c.pad_top, c.pad_left, y.f32(),
              c.oh, c.ow, c.oc, pixel_stride(y), epilogue},
             panels, filters->f32()))
        forward_direct(c, x, w, epilogue, y);
}

// dx is the convolution of dy, padded by taps - 1 - pad, with the filters turned by 180 degrees.
template <WinogradForm form>
void data_winograd(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const Form& f = form_of(form);
    const Panels panels(c.oc, c.ic);
    const bool tiles = on_tiles(f, c.oc, c.ic, Tiles(f, c.n, c.ih, c.iw).count);
    SplitFactor factor{};
    std::shared_ptr<Workspace> filters;
    if (tiles)
        factor = split_filters(f, c, w, true);
    else
        filters = pack_filters(f, c, w, panels, true);
    if ((tiles && !factor.finite()) ||
        !run({f,
              dy.f32(),
              c.n,
              c.oh,
              c.ow,
              c.oc,
              pixel_stride(dy),
              f.rh - 1 - c.pad_top,
              f.rw - 1 - c.pad_left,
              dx.f32(),
              c.ih,
              c.iw,
              c.ic,
              pixel_stride(dx),
              {}},
             panels, tiles ? nullptr : filters->f32(), tiles ? &factor : nullptr))
        data_direct(c, dy, w, dx);
}

namespace {

// Few tiles: so few that the sums of all elements cost more than the products. Measured at batch 1,
// 512 to 512 channels at 7 x 7 in tiles of 2 x 2: by rows 0.97 ms, staged 1.25; 128 to 128 at 28 x
// 28: 0.45 and 0.30.
constexpr int64_t kFewTiles = 16;
// Sums that a thread keeps in its second-level cache, 1 MiB: 64 channels on both sides.
constexpr int64_t kOwnSums = int64_t{1} << 18;
// Tiles times elements of a part at least, for every part has sums to clear and to add.
constexpr int64_t kPartElements = 3500;
// Tiles times elements that are transformed before they are multiplied.
constexpr int64_t kStagedElements = 6912;

// Both operands of a block of tiles are transformed, then each element is a product whose depth
// runs over the block's tiles. Three ways, none of which depends on the number of threads:
// "fused", few channels: every part of the tiles has sums of its own, which fit the second-level
// cache of the thread that works on the part, and the parts are added in order;
// "by rows", few tiles: all are transformed at once, and every thread takes some output channels
// through all elements and back to filters, so that no sum leaves its cache;
// "staged": one set of sums, the threads share the tiles, then the elements.
// Rows of the products are output channels and columns input channels, as the weight lies in
// memory.
void weight_gradient(const Form& f, const Conv& c, const Array& dy, const Array& x, const Array& dw,
                     float* dbias) {
    const float *src = x.f32(), *grad = dy.f32();
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x);
    const int64_t elements = f.elements(), taps = f.taps();
    const Tiles place(f, c.n, c.oh, c.ow);
    const int64_t tiles = place.count;
    const Panels panels(c.oc, c.ic, Panels::Tiles::wide);
    // Rows are 16 floats longer than whole vectors: rows 4 KiB apart would fight for cache lines.
    const int64_t pitch = (c.ic + 15) / 16 * 16 + 16, g_pitch = (c.oc + 15) / 16 * 16 + 16;
    const int64_t sums_plane = c.oc * pitch, sums_floats = elements * sums_plane;
    const int64_t most_parts = tiles * elements / kPartElements;
    const bool fused = sums_floats <= kOwnSums && most_parts > 1;
    const bool by_rows = !fused && tiles <= kFewTiles;
    int64_t parts = 1;
    while (fused && parts < most_parts && parts < 8) parts *= 2;
    const int64_t wanted =
        by_rows ? tiles : std::max<int64_t>(28, (fused ? 2016 : kStagedElements) / elements);
    const int64_t v_plane = wanted * pitch, g_plane = wanted * g_pitch;
    // The last row's last vector may reach beyond its columns; what is read there is not stored.
    constexpr int64_t kSlack = 64;
    const int64_t own_floats = elements * (v_plane + g_plane) + kSlack;
    const int64_t owners = fused ? num_threads() : 1;
    const int64_t zero_floats = std::max(c.ic, c.oc);
    Workspace scratch(static_cast<size_t>(owners * own_floats + zero_floats) * sizeof(float));
    Workspace all_sums(static_cast<size_t>(by_rows ? 0 : parts * sums_floats) * sizeof(float));
    float *sums = all_sums.f32(), *zeros = scratch.f32() + owners * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(zero_floats) * sizeof(float));

    const auto transform = [&](int64_t first, int64_t begin, int64_t end, float* v, float* g) {
        for (int64_t i = begin; i < end; ++i) {
            const auto [n, row, column] = place[first + i];
            const float* pixels[kMaxElements];
            window(src + n * c.ih * c.iw * xp, xp, c.ih, c.iw, row - c.pad_top, column - c.pad_left,
                   f.th(), f.tw(), zeros, pixels);
            kernels().winograd_input({f.id, pixels, c.ic, v + i * pitch, v_plane});
            window(grad + n * c.oh * c.ow * gp, gp, c.oh, c.ow, row, column, f.mh, f.mw, zeros,
                   pixels);
            kernels().winograd_gradient({f.id, pixels, c.oc, g + i * g_pitch, g_plane});
        }
    };
    // Output channels [first_row, first_row + rows) of elements [begin, end), to planes of `into`.
    const auto multiply = [&](int64_t begin, int64_t end, int64_t first_row, int64_t rows,
                              int64_t depth, bool accumulate, const float* v, const float* g,
                              float* into, int64_t plane) {
        const int64_t tap = 0;
        GemmArgs args{};
        args.a_row = 1;
        args.a_depth = g_pitch;
        args.taps = &tap;
        args.tap_count = 1;
        args.depth = depth;
        args.b_row = pitch;
        args.c_row = pitch;
        args.rows = rows;
        args.accumulate = accumulate;
        for (int64_t e = begin; e < end; ++e)
            for (int64_t p = 0; p < panels.count(); ++p) {
                args.a = g + e * g_plane + first_row;
                args.b = v + e * v_plane + p * panels.full_width();
                args.c = into + e * plane + p * panels.full_width();
                args.columns = panels.columns_of(p);
                args.vectors = panels.vectors_of(p);
                kernels().gemm(args);
            }
    };

    if (fused) {
        parallel_for(parts, [&](int64_t begin, int64_t end, int thread) {
            float* g = scratch.f32() + thread * own_floats;
            float* v = g + elements * g_plane;
            for (int64_t part = begin; part < end; ++part) {
                const int64_t first = tiles * part / parts, last = tiles * (part + 1) / parts;
                for (int64_t start = first; start < last; start += wanted) {
                    const int64_t count = std::min(wanted, last - start);
                    transform(start, 0, count, v, g);
                    multiply(0, elements, 0, c.oc, count, start > first, v, g,
                             sums + part * sums_floats, sums_plane);
                }
            }
        });
        parallel_for(elements, [&](int64_t begin, int64_t end, int) {
            for (int64_t part = 1; part < parts; ++part)
                for (int64_t i = begin * sums_plane; i < end * sums_plane; ++i)
                    sums[i] += sums[part * sums_floats + i];
        });
    } else {
        float *g = scratch.f32(), *v = g + elements * g_plane;
        for (int64_t first = 0; first < tiles; first += wanted) {
            const int64_t count = std::min(wanted, tiles - first);
            parallel_for(count, [&](int64_t begin, int64_t end, int) {
                transform(first, begin, end, v, g);
            });
            if (!by_rows)
                parallel_for(elements, [&](int64_t begin, int64_t end, int) {
                    multiply(begin, end, 0, c.oc, count, first > 0, v, g, sums, sums_plane);
                });
        }
    }

    // Back to filters, where they belong.
    constexpr int64_t kRun = 14;
    const int64_t own_sums = by_rows ? elements * kRun * pitch : 0;
    Workspace few_sums(static_cast<size_t>(num_threads() * own_sums) * sizeof(float));
    parallel_for((c.oc + kRun - 1) / kRun, [&](int64_t begin, int64_t end, int thread) {
        for (int64_t first = begin * kRun; first < std::min(end * kRun, c.oc); first += kRun) {
            const int64_t count = std::min(kRun, c.oc - first);
            float* from = by_rows ? few_sums.f32() + thread * own_sums : sums + first * pitch;
            const int64_t plane = by_rows ? kRun * pitch : sums_plane;
            if (by_rows)
                multiply(0, elements, first, count, tiles, false,
                         scratch.f32() + elements * g_plane, scratch.f32(), from, plane);
            for (int64_t i = 0; i < count; ++i)
                kernels().winograd_filter({f.id, from + i * pitch, plane, c.ic,
                                           dw.f32() + (first + i) * taps * c.ic, c.ic});
        }
    });
    if (!all_finite({dw})) {
        weight_direct(c, dy, x, dw, dbias);
        return;
    }
    if (dbias) column_sums(grad, gp, c.n * c.oh * c.ow, c.oc, dbias);
}

}  // namespace

template <WinogradForm form>
void weight_winograd(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                     float* dbias) {
    weight_gradient(form_of(form), c, dy, x, dw, dbias);
}

namespace {

// Of `channels` to `outputs` channels on n maps of h x w outputs.
Work work_of(const Form& f, int64_t n, int64_t h, int64_t w, int64_t channels, int64_t outputs) {
    const double tiles = static_cast<double>(Tiles(f, n, h, w).count * f.elements());
    const double filters = static_cast<double>(channels * outputs);
    Work work{};
    work.multiply_adds = tiles * filters;
    work.columns = outputs;
    work.weight_bytes = 4.0 * static_cast<double>(f.elements()) * filters;
    work.moved_bytes = 4 * tiles * static_cast<double>(channels + outputs);
    return work;
}

// Of the forward direction and the input gradient.
Work product_work(const Form& f, int64_t n, int64_t h, int64_t w, int64_t channels,
                  int64_t outputs) {
    Work work = work_of(f, n, h, w, channels, outputs);
    if (on_tiles(f, channels, outputs, Tiles(f, n, h, w).count)) {
        work.multiply_adds /= 2;
        work.weight_bytes *= 1.5;
    }
    return work;
}

}  // namespace

template <WinogradForm form>
double winograd_cost(const Conv& c) {
    return cycles(product_work(form_of(form), c.n, c.oh, c.ow, c.ic, c.oc));
}

template <WinogradForm form>
double winograd_data_cost(const Conv& c) {
    return cycles(product_work(form_of(form), c.n, c.ih, c.iw, c.oc, c.ic));
}

template <WinogradForm form>
double winograd_weight_cost(const Conv& c) {
    Work work = work_of(form_of(form), c.n, c.oh, c.ow, c.oc, c.ic);
    work.reduction = true;
    // The sums come from memory and go there: within training steps 512 to 512 channels at 7 x 7
    // took twice as long as alone.
    work.moved_bytes += 2.5 * work.weight_bytes;
    work.weight_bytes = 0;
    return cycles(work);
}

#define ENGINE_INSTANCES(with, name, ...)                                                       \
    template std::string declines_winograd<WinogradForm::name>(const Conv&);                    \
    template void forward_winograd<WinogradForm::name>(const Conv&, const Array&, const Array&, \
                                                       const Epilogue&, const Array&);          \
    template void data_winograd<WinogradForm::name>(const Conv&, const Array&, const Array&,    \
                                                    const Array&);                              \
    template void weight_winograd<WinogradForm::name>(const Conv&, const Array&, const Array&,  \
                                                      const Array&, float*);                    \
    template double winograd_cost<WinogradForm::name>(const Conv&);                             \
    template double winograd_data_cost<WinogradForm::name>(const Conv&);                        \
    template double winograd_weight_cost<WinogradForm::name>(const Conv&);
ENGINE_WINOGRAD_FORMS(ENGINE_INSTANCES, )
#undef ENGINE_INSTANCES

}  // namespace engine
