// Convolutions as products on matrix tiles: every tap of the kernel is a piece of the depth. Where
// several taps read a pixel, a strip of the image is split into cells first, and tiles are loaded
// from those; otherwise pixels are split as they are read. The arithmetic is that of a plain sum
// (ops/split.h).
#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/parallel.h"
#include "dispatch/table.h"
#include "ops/conv2d.h"
#include "ops/conv2d_direct.h"
#include "ops/conv2d_split.h"
#include "ops/split.h"

namespace engine {

namespace {

int64_t pixels(const Conv& c) { return c.n * c.oh * c.ow; }

std::string declines(const Conv& c) {
    if (!split_products()) return "no matrix tiles";
    if (c.groups != 1) return "grouped";
    return "";
}

// Bytes of a thread's cells: beside a panel of the right factor they stay in the second-level
// cache.
constexpr int64_t kStripBytes = int64_t{512} << 10;
// Groups of fewer pixels make tiles too small.
constexpr int64_t kLeastGroup = 12;
constexpr int64_t kCell = 64;

// Pixels of a line of so many that a tile takes.
int64_t group_rows(int64_t width) {
    const int64_t groups = (width + 15) / 16;
    return (width + groups - 1) / groups;
}

bool fills_groups(int64_t width) { return group_rows(width) >= kLeastGroup; }

// A cell holds 32 channels of a pixel; where there are fewer, 32 numbers of the window of a
// position of the grid. False when a number is not finite, as run_split.
bool run_cells(const TapGrid& g, const SplitFactor& right, float* c, int64_t c_row,
               const Epilogue& epilogue) {
    if (!right.finite()) return false;
    const TapBounds bounds = tap_bounds(g);
    const int64_t top = bounds.top, first_x = bounds.left, line_pixels = bounds.line_pixels;
    const bool windows = g.window > 1;
    // Cells that a tile takes lie side by side: those of every stride_w-th pixel.
    const int64_t phases = windows ? 1 : g.stride_w;
    const int64_t phase_cells = windows ? g.width : (line_pixels + phases - 1) / phases;
    const int64_t columns = phases * phase_cells;
    const int64_t tap_depth = right.tap_depth, cells = right.tap_steps();
    const int64_t row_bytes = cells * columns * kCell;  // of a part

    // An item is a block of lines of the grid, or several whole images when they are small, and a
    // share of the columns of the right factor: that is cut where it is the larger one.
    const int64_t reach = bounds.bottom - top + 1, threads = num_threads();
    const int64_t fitting = kStripBytes / (3 * row_bytes);  // lines of the source
    const int64_t most = std::max<int64_t>(1, (fitting - reach) / g.stride_h + 1);
    const bool heavy =
        right.count() * static_cast<int64_t>(right.panel_bytes()) > 3 * g.h * row_bytes;
    const int64_t wanted = heavy ? 1 : (2 * threads + g.n - 1) / g.n;
    const int64_t blocks = std::min(g.height, std::max(wanted, (g.height + most - 1) / most));
    const int64_t block = (g.height + blocks - 1) / blocks;
    const int64_t strip_rows = (block - 1) * g.stride_h + reach;
    const int64_t together =
        blocks > 1 ? 1 : std::max<int64_t>(1, std::min(fitting / strip_rows, g.n / threads));
    const int64_t places = blocks > 1 ? g.n * blocks : (g.n + together - 1) / together;
    const int64_t shares = std::min(right.count(), equal_shares(places));

    std::vector<int64_t> steps;
    for (const auto& [y, x] : g.taps)
        for (int64_t b = 0; b < cells; ++b)
            steps.push_back((((y - top) * cells + b) * columns +
                             (x - first_x) % phases * phase_cells + (x - first_x) / phases) *
                            kCell);
    // Whether any of the first lines of a block meets this row of the strip: with dilation, or a
    // stride beyond the kernel, some do not.
    const auto meets = [&](int64_t row, int64_t lines) {
        return std::any_of(g.taps.begin(), g.taps.end(), [&](const auto& tap) {
            const int64_t line = row - (tap.first - top);
            return line >= 0 && line % g.stride_h == 0 && line / g.stride_h < lines;
        });
    };
    // A line of the grid in groups as long as tiles take; the last one overlaps where they are not
    // equally long, and makes the same numbers again.
    const int64_t group = group_rows(g.width), line_groups = (g.width + group - 1) / group;
    const int64_t image_bytes = strip_rows * row_bytes, part = together * image_bytes;
    const int64_t most_groups = together * block * line_groups;
    const int64_t groups_bytes = (2 * most_groups * 8 + kCell - 1) / kCell * kCell;
    const int64_t line_bytes = (line_pixels * g.channels * 4 + kCell - 1) / kCell * kCell;
    const int64_t own_bytes = groups_bytes + line_bytes + 3 * part;
    Workspace scratch(static_cast<size_t>(threads * own_bytes));
    std::atomic<int32_t> spoiled{0};
    parallel_for(places * shares, [&](int64_t begin, int64_t end, int thread) {
        char* own = static_cast<char*>(scratch.data()) + thread * own_bytes;
        auto* starts = reinterpret_cast<int64_t*>(own);
        int64_t* rows = starts + most_groups;
        auto* line = reinterpret_cast<float*>(own + groups_bytes);
        char* strip = own + groups_bytes + line_bytes;
        int64_t in_strip = -1;
        int32_t bad = 0;
        for (int64_t item = begin; item < end && !bad; ++item) {
            const int64_t share = item / places, place = item % places;
            const int64_t n0 = blocks > 1 ? place / blocks : place * together;
            const int64_t n1 = std::min(g.n, n0 + together);
            const int64_t b = blocks > 1 ? place % blocks : 0;
            const int64_t low = g.height * b / blocks, high = g.height * (b + 1) / blocks;
            const int64_t strip_top = low * g.stride_h + top;
            const int64_t used_rows = (high - low - 1) * g.stride_h + reach;
            for (int64_t i = 0; i < (n1 - n0) * used_rows && in_strip != place; ++i) {
                const int64_t n = i / used_rows, row = i % used_rows;
                if (!meets(row, high - low)) continue;
                copy_strip(g.src + (n0 + n) * g.h * g.w * g.pixel, g.pixel, g.channels, g.h, g.w,
                           strip_top + row, 1, first_x, line_pixels, line, g.prologue);
                for (int64_t q = 0; q < cells * phases; ++q) {
                    const int64_t b = q / phases, phase = q % phases;
                    kernels().split_cells(
                        {line + phase * g.channels + b * kSplitDepth, g.stride_w * g.channels,
                         windows ? columns : (line_pixels - phase + phases - 1) / phases,
                         std::min<int64_t>(kSplitDepth, tap_depth - b * kSplitDepth),
                         strip + n * image_bytes + row * row_bytes +
                             (b * columns + phase * phase_cells) * kCell,
                         part, &bad});
                }
            }
            in_strip = place;
            int64_t groups = 0;
            const int64_t first_row = (n0 * g.height + low) * g.width;
            for (int64_t n = n0; n < n1; ++n)
                for (int64_t y = low; y < high; ++y)
                    for (int64_t q = 0; q < line_groups; ++q) {
                        const int64_t x = std::min(q * group, g.width - group);
                        starts[groups] =
                            (n - n0) * image_bytes + (y - low) * g.stride_h * row_bytes + x * kCell;
                        rows[groups++] = (n * g.height + y) * g.width + x - first_row;
                    }
            const int64_t p0 = right.count() * share / shares;
            const int64_t p1 = right.count() * (share + 1) / shares;
            const Epilogue out = epilogue.at(first_row, p0 * kSplitLines);
            SplitCellsProductArgs a{};
            a.cells = strip, a.part = part, a.pitch = kCell;
            a.starts = starts, a.c_rows = rows;
            a.groups = groups, a.group_rows = group;
            a.steps = steps.data(), a.step_count = right.steps();
            a.right = right.panel(p0), a.right_panel = static_cast<int64_t>(right.panel_bytes());
            a.c = c + first_row * c_row + p0 * kSplitLines, a.c_row = c_row;
            a.columns = std::min(right.columns, p1 * kSplitLines) - p0 * kSplitLines;
            a.activation = out.activation, a.bias = out.bias;
            a.residual = out.residual, a.residual_row = out.residual_row;
            if (!bad) kernels().split_cells_product(a);
        }
        if (bad) spoiled = 1;
    });
    return spoiled == 0;
}

bool padded(const Conv& c) { return c.pad_top || c.pad_bottom || c.pad_left || c.pad_right; }
bool takes_cells(const Conv& c) { return (c.kh * c.kw > 1 || padded(c)) && fills_groups(c.ow); }

}  // namespace

// Few channels leave cells empty: then a cell takes a row of the kernel.
int64_t split_window(const Conv& c) {
    return takes_cells(c) && c.ic < kSplitDepth && c.dilation_w == 1 ? c.kw : 1;
}

std::string declines_split(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    const int64_t window = split_window(c);
    if (!takes_split(pixels(c), c.oc, c.kh * c.kw / window, window * c.ic, takes_cells(c)))
        return "too few pixels or channels";
    return "";
}

std::string declines_split_data(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    const int64_t width = c.iw / c.stride_w;
    if (!takes_split(c.n * (c.ih / c.stride_h) * width, c.ic, 1, c.oc,
                     c.kh * c.kw > 1 && fills_groups(width)))
        return "too few pixels or channels";
    return "";
}

std::string declines_split_weight(const Conv& c) {
    if (const std::string reason = declines(c); !reason.empty()) return reason;
    if (!takes_split_transposed(c.oc, c.kh * c.kw, c.ic, pixels(c)))
        return "too few pixels or channels";
    return "";
}

void forward_split(const Conv& c, const Array& x, const Array& w, const Epilogue& epilogue,
                   const Array& y) {
    forward_split_from(c, nullptr, x, w, epilogue, y);
}

void forward_split_from(const Conv& c, const Prologue* prologue, const Array& x, const Array& w,
                        const Epilogue& epilogue, const Array& y) {
    const bool cells = takes_cells(c);
    // Without cells a prologue would be done for every tap, and to the padding.
    if (prologue && !cells && (c.kh * c.kw > 1 || padded(c)))
        return forward_direct_from(c, prologue, x, w, epilogue, y);
    const int64_t window = split_window(c), depth = window * c.ic;
    std::vector<int64_t> taps;
    for (int64_t t = 0; t < c.kh * c.kw; t += window) taps.push_back(t * c.ic);
    const SplitFactor filters = split_weight(w, taps, depth, c.oc, 1, c.kh * c.kw * c.ic);
    bool finite;
    if (cells) {
        const TapGrid g = forward_grid(c, x, prologue, window > 1);
        finite = run_cells(g, filters, y.f32(), pixel_stride(y), epilogue);
    } else {
        ZeroPixel zeros(c.ic);
        finite = run_split(pixels(c), source_pixels(c, x.f32(), pixel_stride(x), zeros.data.f32()),
                           filters, y.f32(), pixel_stride(y), epilogue, prologue);
    }
    if (!finite) forward_direct_from(c, prologue, x, w, epilogue, y);
}

void data_split(const Conv& c, const Array& dy, const Array& w, const Array& dx) {
    const int64_t xp = pixel_stride(dx), filter = c.kh * c.kw * c.ic;
    const bool strided = c.stride_h > 1 || c.stride_w > 1;
    ZeroPixel zeros(c.oc);
    for (const GradientPhase& phase : gradient_phases(c, dy)) {
        const TapGrid& g = phase.grid;
        const int64_t rows = c.n * g.height * g.width;
        Workspace dense(strided ? static_cast<size_t>(rows * c.ic) * sizeof(float) : 0);
        if (!g.taps.empty()) {
            std::vector<int64_t> taps;
            for (int64_t k : phase.kernel) taps.push_back(k * c.ic);
            const SplitFactor filters = split_weight(w, taps, c.oc, c.ic, filter, 1);
            const auto pointers = [&](int64_t tap, int64_t first, int64_t count, const float** to) {
                const auto [off_h, off_w] = g.taps[static_cast<size_t>(tap)];
                walk_pixels(first, count, g.height, g.width, [&](int64_t n, int64_t y, int64_t x) {
                    const int64_t oh = y + off_h, ow = x + off_w;
                    const bool inside = oh >= 0 && oh < c.oh && ow >= 0 && ow < c.ow;
                    *to++ =
                        inside ? g.src + ((n * c.oh + oh) * c.ow + ow) * g.pixel : zeros.data.f32();
                });
            };
            float* to = strided ? dense.f32() : dx.f32();
            const int64_t row = strided ? c.ic : xp;
            const bool finite = g.taps.size() > 1 && fills_groups(g.width)
                                    ? run_cells(g, filters, to, row, {})
                                    : run_split(rows, pointers, filters, to, row, {});
            if (!finite) return data_direct(c, dy, w, dx);
        }
        if (!strided) continue;
        const size_t bytes = static_cast<size_t>(c.ic) * sizeof(float);
        const auto spread = [&](int64_t begin, int64_t end, int) {
            for (int64_t line = begin; line < end; ++line) {
                const int64_t ih =
                    line / g.height * c.ih + line % g.height * c.stride_h + phase.row;
                float* to = dx.f32() + (ih * c.iw + phase.column) * xp;
                const float* from = dense.f32() + line * g.width * c.ic;
                for (int64_t i = 0; i < g.width; ++i, to += c.stride_w * xp)
                    if (g.taps.empty())
                        std::memset(to, 0, bytes);
                    else
                        std::memcpy(to, from + i * c.ic, bytes);
            }
        };
        parallel_for(c.n * g.height, grain_of(g.width * c.ic), spread);
    }
}

void weight_split(const Conv& c, const Array& dy, const Array& x, const Array& dw, float* dbias) {
    ZeroPixel zeros(c.ic);
    const RightRows source{source_pixels(c, x.f32(), pixel_stride(x), zeros.data.f32()),
                           c.kh * c.kw, c.ic};
    transposed_product({dy.f32(), c.oc, pixel_stride(dy)}, source, pixels(c), dw.f32(), dbias);
}

}  // namespace engine
