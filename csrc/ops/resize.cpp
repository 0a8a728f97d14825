#include "ops/resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"

namespace engine {

namespace {

enum class Mode { nearest, nearest_exact, bilinear, bicubic };

struct Options {
    const char* op;
    Mode mode;
    bool align_corners, antialias;
};

// Longer axes are refused before tables of weights are made for them.
constexpr int64_t kMaxAxis = int64_t{1} << 26;

// Weights of one axis: destination o is the sum of weights[offset[o] + t] * source[begin[o] + t].
struct Table {
    std::vector<int32_t> begin, count;
    std::vector<int64_t> offset;
    std::vector<float> weights;

    void add(int64_t first, const std::vector<double>& taps) {
        begin.push_back(static_cast<int32_t>(first));
        count.push_back(static_cast<int32_t>(taps.size()));
        offset.push_back(static_cast<int64_t>(weights.size()));
        for (double tap : taps) weights.push_back(static_cast<float>(tap));
    }
    ResizeAxis axis() const { return {begin.data(), count.data(), offset.data(), weights.data()}; }
};

// Keys' cubic: a = -0.75 for plain interpolation, -0.5 for antialiasing (as Pillow).
double cubic(double x, double a) {
    x = std::fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((x - 5) * x + 8) * x * a - 4 * a;
    return 0;
}

double triangle(double x) {
    x = std::fabs(x);
    return x < 1 ? 1 - x : 0;
}

// Taps at positions first, first + 1, ...; those outside [0, in) read the border.
void add_clamped(Table* table, int64_t first, const std::vector<double>& taps, int64_t in) {
    const auto clamp = [in](int64_t i) { return std::clamp<int64_t>(i, 0, in - 1); };
    const int64_t low = clamp(first), high = clamp(first + static_cast<int64_t>(taps.size()) - 1);
    std::vector<double> inside(static_cast<size_t>(high - low + 1), 0.0);
    for (size_t t = 0; t < taps.size(); ++t)
        inside[static_cast<size_t>(clamp(first + static_cast<int64_t>(t)) - low)] += taps[t];
    table->add(low, inside);
}

Table make_table(const Options& options, int64_t in, int64_t out, double scale_factor) {
    Table table;
    const bool given = scale_factor > 0 && !options.align_corners;
    const double scale =
        options.align_corners
            ? (out > 1 ? static_cast<double>(in - 1) / static_cast<double>(out - 1) : 0.0)
        : given ? 1.0 / scale_factor
                : static_cast<double>(in) / static_cast<double>(out);
    // The neighbour is found in float, as PyTorch does: at exact multiples the rounding decides.
    const float float_scale = given ? static_cast<float>(1.0 / scale_factor)
                                    : static_cast<float>(in) / static_cast<float>(out);
    std::vector<double> taps;
    for (int64_t o = 0; o < out; ++o) {
        const double position = static_cast<double>(o);
        if (options.mode == Mode::nearest || options.mode == Mode::nearest_exact) {
            const float at = options.mode == Mode::nearest
                                 ? std::floor(static_cast<float>(o) * float_scale)
                                 : std::floor(static_cast<float>((position + 0.5) *
                                                                 static_cast<double>(float_scale)));
            table.add(std::min(static_cast<int64_t>(at), in - 1), {1.0});
        } else if (options.antialias) {
            const bool linear = options.mode == Mode::bilinear;
            const double stretch = std::max(scale, 1.0), support = (linear ? 1.0 : 2.0) * stretch;
            const double centre = scale * (position + 0.5);
            const int64_t first =
                std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
            const int64_t last =
                std::min<int64_t>(in, static_cast<int64_t>(centre + support + 0.5));
            taps.clear();
            double total = 0;
            for (int64_t i = first; i < last; ++i) {
                const double x = (static_cast<double>(i) - centre + 0.5) / stretch;
                taps.push_back(linear ? triangle(x) : cubic(x, -0.5));
                total += taps.back();
            }
            for (double& tap : taps) tap = total != 0 ? tap / total : tap;
            table.add(std::min(first, in - 1), taps);
        } else {
            double real = options.align_corners ? scale * position : scale * (position + 0.5) - 0.5;
            if (options.mode == Mode::bilinear) {
                real = std::max(real, 0.0);
                const int64_t low = std::min(static_cast<int64_t>(real), in - 1);
                const double t = std::clamp(real - static_cast<double>(low), 0.0, 1.0);
                if (in == out) {
                    table.add(low, {1.0});
                } else {
                    add_clamped(&table, low, {1.0 - t, t}, in);
                }
            } else {
                const double floor = std::floor(real);
                const double t = real - floor;
                // The far tap is what the others leave, so that the weights sum to 1.
                const double a = cubic(t + 1, -0.75), b = cubic(t, -0.75), c = cubic(1 - t, -0.75);
                add_clamped(&table, static_cast<int64_t>(floor) - 1, {a, b, c, 1 - a - b - c}, in);
            }
        }
    }
    return table;
}

// The table of the gradient: source and destination exchanged. Source ranges move forward with the
// destination, so the destinations of one source position are neighbours (with zero weights between
// where a tap is missing).
Table transposed(const Table& table, int64_t in) {
    const auto out = static_cast<int64_t>(table.begin.size());
    std::vector<int64_t> first(static_cast<size_t>(in), -1), last(static_cast<size_t>(in), -1);
    for (int64_t o = 0; o < out; ++o)
        for (int32_t t = 0; t < table.count[static_cast<size_t>(o)]; ++t) {
            const auto i = static_cast<size_t>(table.begin[static_cast<size_t>(o)] + t);
            if (first[i] < 0) first[i] = o;
            last[i] = o;
        }
    Table result;
    std::vector<double> taps;
    for (int64_t i = 0; i < in; ++i) {
        taps.clear();
        const int64_t low = first[static_cast<size_t>(i)];
        for (int64_t o = low; low >= 0 && o <= last[static_cast<size_t>(i)]; ++o) {
            const auto at = static_cast<size_t>(o);
            const int64_t t = i - table.begin[at];
            const bool holds = t >= 0 && t < table.count[at];
            taps.push_back(holds ? static_cast<double>(
                                       table.weights[static_cast<size_t>(table.offset[at] + t)])
                                 : 0.0);
        }
        result.add(std::max<int64_t>(low, 0), taps);
    }
    return result;
}

Options read_options(const char* op, const std::string& mode, bool align_corners, bool antialias) {
    Options options{op, Mode::nearest, align_corners, antialias};
    if (mode == "nearest")
        options.mode = Mode::nearest;
    else if (mode == "nearest-exact")
        options.mode = Mode::nearest_exact;
    else if (mode == "bilinear")
        options.mode = Mode::bilinear;
    else if (mode == "bicubic")
        options.mode = Mode::bicubic;
    else
        fail(Kind::value, "[", op,
             "] expected mode nearest, nearest-exact, bilinear or bicubic, got '", mode,
             "': use one of these (area is adaptive_avg_pool2d)");
    const bool smooth = options.mode == Mode::bilinear || options.mode == Mode::bicubic;
    ENGINE_CHECK(smooth || !align_corners, Kind::value, "[", op,
                 "] expected align_corners=False with mode '", mode,
                 "', got True: it is defined for bilinear and bicubic");
    ENGINE_CHECK(smooth || !antialias, Kind::value, "[", op,
                 "] expected antialias=False with mode '", mode,
                 "', got True: it is defined for bilinear and bicubic");
    return options;
}

void expect_sizes(const char* op, int64_t in_h, int64_t in_w, int64_t out_h, int64_t out_w,
                  double scale_h, double scale_w) {
    const auto fits = [](int64_t size) { return size >= 1 && size <= kMaxAxis; };
    ENGINE_CHECK(fits(in_h) && fits(in_w) && fits(out_h) && fits(out_w), Kind::value, "[", op,
                 "] expected input and output sizes between 1 and ", kMaxAxis, ", got input ", in_h,
                 " x ", in_w, " and output ", out_h, " x ", out_w, ": change size or scale_factor");
    // Beyond this a position would leave 64 bits.
    const auto scales = [](double factor) {
        return factor == 0 || (factor >= 1.0 / kMaxAxis && factor <= kMaxAxis);
    };
    ENGINE_CHECK(scales(scale_h) && scales(scale_w), Kind::value, "[", op,
                 "] expected scale factors > 0 (or 0 for none), at least 1 / ", kMaxAxis,
                 " and at most ", kMaxAxis, ", got ", scale_h, " and ", scale_w,
                 ": change scale_factor");
}

// dst (n, c, dst_h, dst_w) from src by the two tables.
void resample(const Array& src, const Array& dst, const Table& y, const Table& x) {
    const int64_t channels = src.dim(1), ld = pixel_stride(src);
    const int64_t row = (src.dim(3) * channels + 15) / 16 * 16;
    Workspace rows(static_cast<size_t>(num_threads() * row) * sizeof(float));
    const int64_t taps = 2 * (src.dim(3) + dst.dim(3)) * channels;
    parallel_for(
        dst.dim(0) * dst.dim(2), grain_of(taps), [&](int64_t begin, int64_t end, int thread) {
            ResizeArgs a{};
            a.src = src.f32(), a.dst = dst.f32();
            a.src_ld = ld, a.dst_ld = channels, a.channels = channels;
            a.in_h = src.dim(2), a.in_w = src.dim(3), a.out_h = dst.dim(2), a.out_w = dst.dim(3);
            a.y = y.axis(), a.x = x.axis();
            a.row = rows.f32() + thread * row;
            a.row_begin = begin, a.row_end = end;
            kernels().resize_rows(a);
        });
}

}  // namespace

Array interpolate(const Array& input, int64_t out_h, int64_t out_w, const std::string& mode,
                  bool align_corners, bool antialias, double scale_h, double scale_w) {
    const char* op = "interpolate";
    const Options options = read_options(op, mode, align_corners, antialias);
    expect_f32(op, "input", input);
    expect_rank(op, "input", input, 4);
    expect_sizes(op, input.dim(2), input.dim(3), out_h, out_w, scale_h, scale_w);
    const Array y = empty({input.dim(0), input.dim(1), out_h, out_w});
    if (y.numel() == 0) return y;
    resample(as_pixels(input), y, make_table(options, input.dim(2), out_h, scale_h),
             make_table(options, input.dim(3), out_w, scale_w));
    return y;
}

Array interpolate_backward(const Array& dy, const Dims& x_shape, const std::string& mode,
                           bool align_corners, bool antialias, double scale_h, double scale_w) {
    const char* op = "interpolate_backward";
    const Options options = read_options(op, mode, align_corners, antialias);
    expect_f32(op, "dy", dy);
    expect_rank(op, "dy", dy, 4);
    ENGINE_CHECK(x_shape.n == 4 && x_shape[0] == dy.dim(0) && x_shape[1] == dy.dim(1), Kind::value,
                 "[", op, "] expected x_shape (", dy.dim(0), ", ", dy.dim(1),
                 ", H, W) for dy of shape ", to_string(dy.shape()), ", got ", to_string(x_shape),
                 ": pass the shape of the forward input");
    expect_sizes(op, x_shape[2], x_shape[3], dy.dim(2), dy.dim(3), scale_h, scale_w);
    const Array dx = empty(x_shape);
    if (dx.numel() == 0) return dx;
    resample(as_pixels(dy), dx,
             transposed(make_table(options, x_shape[2], dy.dim(2), scale_h), x_shape[2]),
             transposed(make_table(options, x_shape[3], dy.dim(3), scale_w), x_shape[3]));
    return dx;
}

}  // namespace engine
