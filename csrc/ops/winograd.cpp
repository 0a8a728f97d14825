#include "ops/winograd.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/parallel.h"
#include "ops/gemm.h"
#include "ops/update.h"

namespace engine {

namespace {

constexpr int64_t kElements = 36;
// Tiles of a fused block: two register tiles of rows, enough to reuse a filter panel, few enough
// for the transformed input to stay in the second-level cache up to 256 channels. Measured 14 to
// 168: 28 wins at all sizes.
constexpr int64_t kBlock = 28;
// Staged from this many floats of transformed filters on, in chunks whose transforms have this many
// floats: 256 to 256 channels at 14 x 14, batch 16, ran at 774 GFLOP/s fused, 923 staged in chunks
// of 128 tiles and 965 in one of 256 (peak 481); 512 to 512 at 7 x 7 at 229 and 956; 64 to 64 at 56
// x 56 at 1073 and 898.
constexpr int64_t kStagedFilters = int64_t{2} << 20;
constexpr int64_t kChunkFloats = int64_t{5} << 20;

// The stride-1 3 x 3 convolution that forward and input gradient share.
struct Problem {
    const float* src;
    int64_t n, h, w, channels, src_pixel;  // source
    int64_t top, left;                     // padding
    float* dst;
    int64_t oh, ow, outputs, dst_pixel;
    Epilogue epilogue;
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

// Filters as [panel][element][channel][columns of the panel]. What stands in the columns beyond the
// last is multiplied too, but never stored.
std::shared_ptr<Workspace> pack_filters(const Conv& c, const Array& w, const Panels& panels,
                                        bool turned) {
    const uint64_t key = (turned ? 0x5741 : 0x5746) ^ static_cast<uint64_t>(w.offset()) << 20 ^
                         static_cast<uint64_t>(panels.full_width()) << 56;
    return w.storage()->pack(key, [&] {
        auto packed = std::make_shared<Workspace>(panels.bytes() * kElements);
        // Vectors run over the columns of a panel. The gradient's are input channels, as they lie
        // in memory; forward's are output channels, so the filters are transposed first, while they
        // are small.
        const int64_t depth = 9 * c.ic, pitch = c.oc + 16;
        Workspace by_output(turned ? 0 : static_cast<size_t>(depth * pitch) * sizeof(float));
        if (!turned)
            parallel_for((depth + 63) / 64, std::max<int64_t>(1, 256 / c.oc),
                         [&](int64_t begin, int64_t end, int) {
                             const int64_t first = begin * 64, last = std::min(depth, end * 64);
                             kernels().pack({w.f32() + first, 1, depth, last - first, c.oc,
                                             by_output.f32() + first * pitch, pitch});
                         });
        parallel_for(
            panels.rows, std::max<int64_t>(1, 1024 / panels.columns),
            [&](int64_t begin, int64_t end, int) {
                for (int64_t row = begin; row < end; ++row)
                    for (int64_t p = 0; p < panels.count(); ++p) {
                        const int64_t column = p * panels.full_width();
                        const float* src =
                            turned ? w.f32() + row * depth : by_output.f32() + row * pitch;
                        float* dst =
                            packed->f32() + kElements * panels.offset(p) + row * panels.width(p);
                        kernels().winograd_weight({src + column, turned ? c.ic : c.ic * pitch,
                                                   panels.columns_of(p), turned, dst,
                                                   panels.rows * panels.width(p)});
                    }
            });
        return packed;
    });
}

// Fused: every thread transforms a block of tiles into scratch of its own, multiplies panel by
// panel, and transforms each panel's result back while it is in cache; the filters are read once
// per block. Staged, for filters far larger than a cache: the threads share a chunk of tiles, then
// the elements, then the tiles again; the filters are read once per chunk. Returns false when a
// result is not finite.
bool run(const Problem& q, const Panels& panels, const float* filters) {
    const int64_t tiles_h = (q.oh + 3) / 4, tiles_w = (q.ow + 3) / 4;
    const int64_t per_image = tiles_h * tiles_w, tiles = q.n * per_image;
    const bool staged = kElements * q.channels * q.outputs >= kStagedFilters && tiles > kBlock;
    const int64_t blocks =
        staged ? (tiles * kElements * (q.channels + q.outputs) + kChunkFloats - 1) / kChunkFloats
               : std::max<int64_t>(
                     1, std::max((tiles + kBlock - 1) / kBlock, std::min<int64_t>(tiles / 14, 8)));
    const int64_t block = (tiles + blocks - 1) / blocks;
    // 16 floats more than a power of two: planes, and with many channels rows, that start 4 KiB
    // apart would fight for cache lines.
    const int64_t v_row = staged ? q.channels + 16 : q.channels;
    const int64_t m_row = staged ? panels.count() * panels.full_width() : panels.full_width();
    const int64_t v_plane = block * v_row + 16, m_plane = block * m_row + 16;
    const int64_t own_floats = kElements * (v_plane + m_plane);
    const int64_t owners = staged ? 1 : num_threads();
    Workspace scratch(static_cast<size_t>(owners * own_floats + q.channels) * sizeof(float));
    float* zeros = scratch.f32() + owners * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(q.channels) * sizeof(float));
    std::atomic<bool> spoiled{false};

    // Tiles [first + begin, first + end) to rows begin, ... of v.
    const auto transform = [&](int64_t first, int64_t begin, int64_t end, float* v) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = first + i;
            const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
            const float* pixels[kElements];
            window(q.src + n * q.h * q.w * q.src_pixel, q.src_pixel, q.h, q.w, 4 * th - q.top,
                   4 * tw - q.left, 6, zeros, pixels);
            kernels().winograd_input({pixels, q.channels, v + i * v_row, v_plane});
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
        g.b = filters + kElements * panels.offset(p) + e * q.channels * width;
        g.b_row = width;
        g.c = m + e * m_plane;
        g.c_row = m_row;
        g.rows = count;
        g.columns = width;
        g.vectors = panels.vectors_of(p);
        kernels().gemm(g);
    };
    // Rows begin, ... of m, `columns` outputs from `column` on, to the output.
    const auto finish = [&](int64_t first, int64_t begin, int64_t end, const float* m,
                            int64_t column, int64_t columns) {
        int32_t bad = 0;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = first + i;
            const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
            const int64_t pixel = (n * q.oh + 4 * th) * q.ow + 4 * tw;
            const Epilogue place = q.epilogue.at(pixel, column);
            WinogradOutputArgs out;
            out.src = m + i * m_row;
            out.plane = m_plane;
            out.channels = columns;
            out.bias = place.bias;
            out.residual = place.residual;
            out.residual_pixel = place.residual_row;
            out.residual_row = q.ow * place.residual_row;
            out.activation = place.activation;
            out.dst = q.dst + pixel * q.dst_pixel + column;
            out.dst_pixel = q.dst_pixel;
            out.dst_row = q.ow * q.dst_pixel;
            out.rows = static_cast<int32_t>(std::min<int64_t>(4, q.oh - 4 * th));
            out.columns = static_cast<int32_t>(std::min<int64_t>(4, q.ow - 4 * tw));
            out.spoiled = &bad;
            kernels().winograd_output(out);
        }
        if (bad) spoiled = true;
    };

    if (staged) {
        float *v = scratch.f32(), *m = v + kElements * v_plane;
        for (int64_t item = 0; item < blocks; ++item) {
            const int64_t first = tiles * item / blocks;
            const int64_t count = tiles * (item + 1) / blocks - first;
            parallel_for(count,
                         [&](int64_t begin, int64_t end, int) { transform(first, begin, end, v); });
            parallel_for(kElements * panels.count(), [&](int64_t begin, int64_t end, int) {
                for (int64_t i = begin; i < end; ++i)
                    multiply(i / panels.count(), i % panels.count(), count, v,
                             m + i % panels.count() * panels.full_width());
            });
            parallel_for(count, [&](int64_t begin, int64_t end, int) {
                finish(first, begin, end, m, 0, q.outputs);
            });
        }
    } else {
        parallel_for(blocks, [&](int64_t begin, int64_t end, int thread) {
            float* v = scratch.f32() + thread * own_floats;
            float* m = v + kElements * v_plane;
            for (int64_t item = begin; item < end; ++item) {
                const int64_t first = tiles * item / blocks;
                const int64_t count = tiles * (item + 1) / blocks - first;
                transform(first, 0, count, v);
                for (int64_t p = 0; p < panels.count(); ++p) {
                    for (int64_t e = 0; e < kElements; ++e) multiply(e, p, count, v, m);
                    finish(first, 0, count, m, p * panels.full_width(), panels.columns_of(p));
                }
            }
        });
    }
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

void forward_winograd(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                      const Array& y) {
    const Panels panels(c.ic, c.oc);
    const auto filters = pack_filters(c, w, panels, false);
    // NaN and infinity must reach just the pixels that the definition says: then the direct form
    // decides.
    if (!run({x.f32(), c.n, c.ih, c.iw, c.ic, pixel_stride(x), c.pad_top, c.pad_left, y.f32(), c.oh,
              c.ow, c.oc, pixel_stride(y), epilogue},
             panels, filters->f32()))
        forward_direct(c, x, w, epilogue, y);
}

// dx is the convolution of dy, padded by 2 - pad, with the filters turned by 180 degrees.
void data_winograd(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const Panels panels(c.oc, c.ic);
    const auto filters = pack_filters(c, w, panels, true);
    if (!run({dy.f32(),
              c.n,
              c.oh,
              c.ow,
              c.oc,
              pixel_stride(dy),
              2 - c.pad_top,
              2 - c.pad_left,
              dx.f32(),
              c.ih,
              c.iw,
              c.ic,
              pixel_stride(dx),
              {}},
             panels, filters->f32()))
        data_direct(c, dy, w, dx);
}

// Both operands of a block of tiles are transformed, then each of the 36 elements is a product
// whose depth runs over the block's tiles. Few channels: every part of the tiles has sums of its
// own, which fit the second-level cache of the thread that works on the part, and the parts are
// added in order
// ("fused"). Many channels: one set of sums, the threads share the tiles, then the elements
// ("staged"). Neither depends on the number of threads.
void weight_winograd(const Conv& c, const Array& dy, const Array& x, const Array& dw,
                     float* dbias) {
    const float *src = x.f32(), *grad = dy.f32();
    const int64_t gp = pixel_stride(dy), xp = pixel_stride(x);
    const int64_t tiles_h = (c.oh + 3) / 4, tiles_w = (c.ow + 3) / 4;
    const int64_t per_image = tiles_h * tiles_w, tiles = c.n * per_image;
    const Panels panels(c.ic, c.oc);
    // Rows are 16 floats longer than whole vectors: rows 4 KiB apart would fight for cache lines.
    const int64_t pitch = (c.oc + 15) / 16 * 16 + 16;
    const int64_t sums_plane = c.ic * pitch, sums_floats = kElements * sums_plane;
    const bool fused = sums_floats <= int64_t{1} << 18;  // 1 MiB: 64 channels on both sides
    const int64_t parts = fused ? std::max<int64_t>(1, std::min<int64_t>(8, tiles / 56)) : 1;
    const int64_t wanted = fused ? 56 : 96;
    const int64_t v_plane = wanted * c.ic + 16, g_plane = wanted * pitch;
    // The last row's last vector may reach beyond its columns; what is read there is not stored.
    constexpr int64_t kSlack = 64;
    const int64_t own_floats = kElements * (v_plane + g_plane) + kSlack;
    const int64_t owners = fused ? num_threads() : 1;
    const int64_t zero_floats = std::max(c.ic, c.oc);
    Workspace scratch(static_cast<size_t>(owners * own_floats + zero_floats) * sizeof(float));
    Workspace all_sums(static_cast<size_t>(parts * sums_floats) * sizeof(float));
    float *sums = all_sums.f32(), *zeros = scratch.f32() + owners * own_floats;
    std::memset(zeros, 0, static_cast<size_t>(zero_floats) * sizeof(float));

    const auto transform = [&](int64_t first, int64_t begin, int64_t end, float* v, float* g) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t t = first + i;
            const int64_t n = t / per_image, th = t % per_image / tiles_w, tw = t % tiles_w;
            const float* pixels[kElements];
            window(src + n * c.ih * c.iw * xp, xp, c.ih, c.iw, 4 * th - c.pad_top,
                   4 * tw - c.pad_left, 6, zeros, pixels);
            kernels().winograd_input({pixels, c.ic, v + i * c.ic, v_plane});
            window(grad + n * c.oh * c.ow * gp, gp, c.oh, c.ow, 4 * th, 4 * tw, 4, zeros, pixels);
            kernels().winograd_gradient({pixels, c.oc, g + i * pitch, g_plane});
        }
    };
    const auto multiply = [&](int64_t begin, int64_t end, int64_t depth, bool accumulate,
                              const float* v, const float* g, float* into) {
        const int64_t tap = 0;
        GemmArgs args{};
        args.a_row = 1;
        args.a_depth = c.ic;
        args.taps = &tap;
        args.tap_count = 1;
        args.depth = depth;
        args.b_row = pitch;
        args.c_row = pitch;
        args.rows = c.ic;
        args.accumulate = accumulate;
        for (int64_t e = begin; e < end; ++e)
            for (int64_t p = 0; p < panels.count(); ++p) {
                args.a = v + e * v_plane;
                args.b = g + e * g_plane + p * panels.full_width();
                args.c = into + e * sums_plane + p * panels.full_width();
                args.columns = panels.columns_of(p);
                args.vectors = panels.vectors_of(p);
                kernels().gemm(args);
            }
    };

    if (fused) {
        parallel_for(parts, [&](int64_t begin, int64_t end, int thread) {
            float* v = scratch.f32() + thread * own_floats;
            float* g = v + kElements * v_plane;
            for (int64_t part = begin; part < end; ++part) {
                const int64_t first = tiles * part / parts, last = tiles * (part + 1) / parts;
                for (int64_t start = first; start < last; start += wanted) {
                    const int64_t count = std::min(wanted, last - start);
                    transform(start, 0, count, v, g);
                    multiply(0, kElements, count, start > first, v, g, sums + part * sums_floats);
                }
            }
        });
        parallel_for(kElements, [&](int64_t begin, int64_t end, int) {
            for (int64_t part = 1; part < parts; ++part)
                for (int64_t i = begin * sums_plane; i < end * sums_plane; ++i)
                    sums[i] += sums[part * sums_floats + i];
        });
    } else {
        float *v = scratch.f32(), *g = v + kElements * v_plane;
        for (int64_t first = 0; first < tiles; first += wanted) {
            const int64_t count = std::min(wanted, tiles - first);
            parallel_for(count, [&](int64_t begin, int64_t end, int) {
                transform(first, begin, end, v, g);
            });
            parallel_for(kElements, [&](int64_t begin, int64_t end, int) {
                multiply(begin, end, count, first > 0, v, g, sums);
            });
        }
    }

    // Back to filters, and from [k][ic][oc] to the weight's layout, sixteen input channels at a
    // time.
    constexpr int64_t kRun = 16;
    const int64_t turn_floats = kRun * 9 * pitch;
    Workspace turned(static_cast<size_t>(num_threads() * turn_floats) * sizeof(float));
    float* filters = dw.f32();
    parallel_for((c.ic + kRun - 1) / kRun, [&](int64_t begin, int64_t end, int thread) {
        float* own = turned.f32() + thread * turn_floats;
        for (int64_t first = begin * kRun; first < std::min(end * kRun, c.ic); first += kRun) {
            const int64_t count = std::min(kRun, c.ic - first);
            for (int64_t i = 0; i < count; ++i)
                kernels().winograd_filter(
                    {sums + (first + i) * pitch, sums_plane, c.oc, own + i * 9 * pitch, pitch});
            for (int64_t k = 0; k < 9; ++k)
                kernels().transpose({own + k * pitch, 9 * pitch, count, c.oc,
                                     filters + k * c.ic + first, 9 * c.ic});
        }
    });
    if (!all_finite({dw})) {
        weight_direct(c, dy, x, dw, dbias);
        return;
    }
    if (dbias) column_sums(grad, gp, c.n * c.oh * c.ow, c.oc, dbias);
}

}  // namespace engine
