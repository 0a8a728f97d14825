#include "ops/pool2d.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"

namespace engine {

namespace {

constexpr int64_t kChannelBlock = 64;
constexpr int64_t kManyRows = 16;
// Longer axes are refused before tables of windows are made for them.
constexpr int64_t kMaxAxis = int64_t{1} << 26;

// Runs pool(row_begin, row_end, channel_begin, channel_end) over all output rows; a few rows
// (global pooling) are shared out by channels instead.
template <class F>
void for_rows(int64_t rows, int64_t channels, int64_t work_per_row, F pool) {
    const int64_t blocks =
        rows >= kManyRows ? 1
                          : std::max<int64_t>(1, (channels + kChannelBlock - 1) / kChannelBlock);
    const int64_t grain = std::max<int64_t>(1, 16384 * blocks / std::max<int64_t>(1, work_per_row));
    parallel_for(rows * blocks, grain, [&](int64_t begin, int64_t end, int) {
        if (blocks == 1) return pool(begin, end, 0, channels);
        for (int64_t item = begin; item < end; ++item) {
            const int64_t row = item / blocks, first = item % blocks * kChannelBlock;
            pool(row, row + 1, first, std::min(channels, first + kChannelBlock));
        }
    });
}

// Whether an input comes from memory rather than from a cache.
bool is_far(const Array& x) {
    return x.numel() * static_cast<int64_t>(sizeof(float)) >= kStreamBytes;
}

// A map streams its result when that and its operand are kStreamBytes each: so do pools whose
// arrays are as large together, for what leaves the caches does so whatever it belongs to.
bool streams_beside(const Array& x, const Array& y, int64_t results) {
    const int64_t bytes = (x.numel() + results * y.numel()) * static_cast<int64_t>(sizeof(float));
    return is_far(x) && bytes >= 2 * kStreamBytes && can_stream(y, y.dim(1));
}

int64_t largest(const std::vector<int32_t>& counts) {
    return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

// Where the pooling of `op` writes.
Array output_of(const char* op, const Array& x, const PoolWindows& wy, const PoolWindows& wx,
                const Array* out) {
    const Array y = destination(op, out, {x.dim(0), x.dim(1), wy.outputs(), wx.outputs()});
    if (out) {
        expect_apart(op, "input", x, y);
        y.mark_written();
    }
    return y;
}

PoolLaneTables lane_tables(PoolPass pass, const Array& x, const Array& y, const PoolWindows& wx) {
    if (pixel_stride(y) != y.dim(1) || y.dim(0) * y.dim(2) < kLaneRows) return {};
    return {pass, wx, x.dim(3), pixel_stride(x), x.dim(1), wx.size};
}

std::pair<Array, Array> max_over(const char* op, const Array& input, const PoolWindows& wy,
                                 const PoolWindows& wx, bool with_indices,
                                 const Array* out = nullptr) {
    const Array x = as_pixels(input), y = output_of(op, x, wy, wx, out);
    const int64_t n = x.dim(0), channels = x.dim(1);
    const Array indices = with_indices ? empty(y.shape(), DType::i32) : Array();
    if (y.numel() == 0) return {y, indices};
    const int64_t work = wx.outputs() * channels * largest(wy.count) * largest(wx.count);
    const PoolLaneTables tables = lane_tables(PoolPass::maximum, x, y, wx);
    for_rows(n * wy.outputs(), channels, work,
             [&](int64_t begin, int64_t end, int64_t first, int64_t last) {
                 MaxPoolArgs a{};
                 a.src = x.f32() + first;
                 a.dst = y.f32() + first;
                 a.indices = with_indices ? indices.ptr<int32_t>() + first : nullptr;
                 a.src_ld = pixel_stride(x), a.dst_ld = pixel_stride(y);
                 a.indices_ld = channels, a.channels = last - first;
                 a.in_h = x.dim(2), a.in_w = x.dim(3);
                 a.out_h = wy.outputs(), a.out_w = wx.outputs();
                 a.y = wy.axis(), a.x = wx.axis(), a.lanes = tables.lanes();
                 a.row_begin = begin, a.row_end = end;
                 a.stream = streams_beside(x, y, with_indices ? 2 : 1), a.fetch_ahead = is_far(x);
                 kernels().max_pool_forward(a);
             });
    return {y, indices};
}

Array average_over(const char* op, const Array& input, const PoolWindows& wy, const PoolWindows& wx,
                   const Array* out = nullptr) {
    const Array x = as_pixels(input), y = output_of(op, x, wy, wx, out);
    const int64_t n = x.dim(0), channels = x.dim(1);
    if (y.numel() == 0) return y;
    const int64_t work = wx.outputs() * channels * largest(wy.count) * largest(wx.count);
    const PoolLaneTables tables = lane_tables(PoolPass::average, x, y, wx);
    for_rows(n * wy.outputs(), channels, work,
             [&](int64_t begin, int64_t end, int64_t first, int64_t last) {
                 AvgPoolArgs a{};
                 a.src = x.f32() + first;
                 a.dst = y.f32() + first;
                 a.src_ld = pixel_stride(x), a.dst_ld = pixel_stride(y);
                 a.channels = last - first;
                 a.in_h = x.dim(2), a.in_w = x.dim(3);
                 a.out_h = wy.outputs(), a.out_w = wx.outputs();
                 a.y = wy.axis(), a.x = wx.axis();
                 a.y_size = wy.size.data(), a.x_size = wx.size.data();
                 a.lanes = tables.lanes();
                 a.row_begin = begin, a.row_end = end;
                 a.stream = streams_beside(x, y, 1), a.fetch_ahead = is_far(x);
                 kernels().avg_pool_forward(a);
             });
    return y;
}

void expect_input(const char* op, const Array& x) {
    expect_f32(op, "input", x);
    expect_rank(op, "input", x, 4);
    expect_plane(op, x.shape());
}

}  // namespace

std::pair<int64_t, int64_t> expect_pair(const char* op, const char* name, const Dims& pair,
                                        int64_t low) {
    ENGINE_CHECK(pair.n == 1 || pair.n == 2, Kind::value, "[", op, "] expected ", name,
                 " as (height, width), got ", to_string(pair), ": give one or two numbers");
    for (int64_t value : pair)
        ENGINE_CHECK(value >= low && value <= INT32_MAX, Kind::value, "[", op, "] expected ", name,
                     " between ", low, " and 2147483647, got ", to_string(pair), ": change ", name);
    return {pair[0], pair[pair.n - 1]};
}

void expect_plane(const char* op, const Dims& shape) {
    ENGINE_CHECK(shape[1] > 0 && shape[2] > 0 && shape[3] > 0, Kind::value, "[", op,
                 "] expected input with at least one channel, row and column, got shape ",
                 to_string(shape), ": only the batch may be empty");
    const bool fits =
        shape[2] <= kMaxAxis && shape[3] <= kMaxAxis && shape[2] * shape[3] <= INT32_MAX;
    ENGINE_CHECK(fits, Kind::value, "[", op, "] expected planes of at most 2147483647 pixels and ",
                 kMaxAxis, " rows and columns, got shape ", to_string(shape),
                 ": cut the image into tiles");
}

PoolWindows pool_windows(const char* op, const char* axis, int64_t in, int64_t kernel,
                         int64_t stride, int64_t padding, int64_t dilation, bool ceil_mode,
                         PoolDivisor divisor) {
    ENGINE_CHECK(padding <= kernel / 2, Kind::value, "[", op,
                 "] expected padding of at most half the kernel, got padding ", padding,
                 " for kernel ", kernel, " (", axis, "): pad the input first, or lower padding");
    const int64_t extent = dilation * (kernel - 1) + 1;
    const int64_t span = in + 2 * padding - extent + (ceil_mode ? stride - 1 : 0);
    int64_t outputs = span < 0 ? 0 : span / stride + 1;
    // With ceil_mode the last window must start inside the input or the padding before it.
    if (ceil_mode && outputs > 0 && (outputs - 1) * stride >= in + padding) --outputs;
    ENGINE_CHECK(outputs > 0, Kind::value, "[", op, "] expected a window of at most ",
                 in + 2 * padding, " (input ", in, " + 2 * padding ", padding, ", ", axis,
                 "), got ", extent, " (kernel ", kernel, ", dilation ", dilation,
                 "): use a smaller kernel or a larger input");
    PoolWindows windows;
    windows.step = dilation;
    windows.begin.resize(static_cast<size_t>(outputs));
    windows.count.resize(static_cast<size_t>(outputs));
    windows.size.resize(static_cast<size_t>(outputs));
    for (int64_t o = 0; o < outputs; ++o) {
        const int64_t start = o * stride - padding;
        const int64_t skipped = start < 0 ? (-start + dilation - 1) / dilation : 0;
        const int64_t begin = start + skipped * dilation;
        const int64_t fit = begin < in ? (in - 1 - begin) / dilation + 1 : 0;
        const int64_t count = std::min(kernel - skipped, fit);
        ENGINE_CHECK(count > 0, Kind::value, "[", op, "] window ", o, " of the ", axis,
                     " touches only padding (input ", in, ", kernel ", kernel, ", dilation ",
                     dilation, ", padding ", padding, "): use a smaller dilation or no ceil_mode");
        const int64_t padded = std::min(start + kernel, in + padding) - start;
        const auto at = static_cast<size_t>(o);
        windows.begin[at] = static_cast<int32_t>(begin);
        windows.count[at] = static_cast<int32_t>(count);
        windows.size[at] =
            static_cast<float>(divisor == PoolDivisor::padded_window ? padded : count);
    }
    return windows;
}

PoolWindows adaptive_windows(const char* op, const char* axis, int64_t in, int64_t out) {
    ENGINE_CHECK(out <= kMaxAxis, Kind::value, "[", op, "] expected an output ", axis,
                 " of at most ", kMaxAxis, ", got ", out, ": ask for a smaller output");
    PoolWindows windows;
    for (int64_t o = 0; o < out; ++o) {
        const int64_t begin = o * in / out, end = ((o + 1) * in + out - 1) / out;
        windows.begin.push_back(static_cast<int32_t>(begin));
        windows.count.push_back(static_cast<int32_t>(end - begin));
        windows.size.push_back(static_cast<float>(end - begin));
    }
    return windows;
}

PoolLaneTables::PoolLaneTables(PoolPass pass, const PoolWindows& windows, int64_t pixels,
                               int64_t ld, int64_t channels, const std::vector<float>& sizes)
    : taps_(largest(windows.count)),
      results_(windows.outputs() * channels),
      source_((pixels - 1) * ld + channels) {
    const int64_t vl = kernels().lanes;
    if (channels >= vl || taps_ == 0 || source_ > INT32_MAX) return;
    // Of each tap and element of the row, the float it reads or -1, its column and its size.
    std::vector<int32_t> floats, columns;
    std::vector<float> factors;
    for (int64_t t = 0; t < taps_; ++t)
        for (int64_t o = 0; o < windows.outputs(); ++o) {
            const auto at = static_cast<size_t>(o);
            const bool absent = t >= windows.count[at] && pass != PoolPass::maximum;
            const auto column = static_cast<int32_t>(
                windows.begin[at] + std::min<int64_t>(t, windows.count[at] - 1) * windows.step);
            const bool backward = pass == PoolPass::backward;
            const auto output = backward ? static_cast<size_t>(absent ? 0 : column) : at;
            for (int64_t c = 0; c < channels; ++c) {
                floats.push_back(absent ? -1 : static_cast<int32_t>(column * ld + c));
                columns.push_back(absent ? -1 : backward ? static_cast<int32_t>(o) : column);
                factors.push_back(sizes.empty() ? 1.0f : sizes[output]);
            }
        }
    // The floats that elements [first, first + width) take a tap from: lowest, and how many.
    const auto span = [&](int64_t tap, int64_t first, int64_t width) {
        int32_t low = INT32_MAX, high = -1;
        for (int64_t e = first; e < std::min(results_, first + width); ++e) {
            const int32_t at = floats[static_cast<size_t>(tap * results_ + e)];
            if (at >= 0) low = std::min(low, at), high = std::max(high, at);
        }
        return high < 0 ? std::pair<int32_t, int32_t>{0, 0} : std::pair{low, high - low + 1};
    };
    for (width_ = std::min(vl, results_); width_ > channels; --width_) {
        reach_ = 0;
        for (int64_t t = 0; t < taps_; ++t)
            for (int64_t e = 0; e < results_; e += width_)
                reach_ = std::max<int64_t>(reach_, span(t, e, width_).second);
        if (reach_ <= 2 * vl) break;
    }
    if (width_ <= channels) return;
    reach_ = reach_ <= vl ? vl : 2 * vl;
    vectors_ = (results_ + width_ - 1) / width_;
    lane_ = empty({vectors_ * taps_ * vl}, DType::i32);
    column_ = empty(lane_.shape(), DType::i32);
    size_ = empty(lane_.shape());
    auto *lane = lane_.ptr<int32_t>(), *column = column_.ptr<int32_t>();
    float* size = size_.f32();
    for (int64_t v = 0; v < vectors_; ++v)
        for (int64_t t = 0; t < taps_; ++t) {
            // Whole vectors are read, inside the row.
            const auto last = static_cast<int32_t>(std::max<int64_t>(0, source_ - reach_));
            const int32_t start = std::min(span(t, v * width_, width_).first, last);
            start_.push_back(start);
            for (int64_t l = 0; l < vl; ++l) {
                const auto e = static_cast<size_t>(t * results_ + v * width_ + l);
                const bool used = l < width_ && v * width_ + l < results_;
                *lane++ = used && floats[e] >= 0 ? floats[e] - start : 0;
                *column++ = used ? columns[e] : -1;
                *size++ = used ? factors[e] : 1.0f;
            }
        }
}

PoolLanes PoolLaneTables::lanes() const {
    if (vectors_ == 0) return {};
    return {start_.data(),
            lane_.ptr<int32_t>(),
            column_.ptr<int32_t>(),
            size_.f32(),
            vectors_,
            taps_,
            width_,
            reach_,
            results_,
            source_};
}

void override_divisor(PoolWindows* y, PoolWindows* x, int64_t divisor) {
    if (divisor == 0) return;
    std::fill(y->size.begin(), y->size.end(), static_cast<float>(divisor));
    std::fill(x->size.begin(), x->size.end(), 1.0f);
}

namespace {

std::pair<PoolWindows, PoolWindows> max_windows(const char* op, const Dims& x, const Dims& kernel,
                                                const Dims& stride, const Dims& padding,
                                                const Dims& dilation, bool ceil_mode) {
    const auto k = expect_pair(op, "kernel_size", kernel, 1);
    const auto s = expect_pair(op, "stride", stride, 1);
    const auto p = expect_pair(op, "padding", padding, 0);
    const auto d = expect_pair(op, "dilation", dilation, 1);
    const PoolDivisor none = PoolDivisor::window;
    return {
        pool_windows(op, "height", x[2], k.first, s.first, p.first, d.first, ceil_mode, none),
        pool_windows(op, "width", x[3], k.second, s.second, p.second, d.second, ceil_mode, none)};
}

}  // namespace

std::pair<Array, Array> max_pool2d(const Array& x, const Dims& kernel, const Dims& stride,
                                   const Dims& padding, const Dims& dilation, bool ceil_mode,
                                   bool with_indices, const Array* out) {
    const char* op = "max_pool2d";
    expect_input(op, x);
    const auto [wy, wx] = max_windows(op, x.shape(), kernel, stride, padding, dilation, ceil_mode);
    return max_over(op, x, wy, wx, with_indices, out);
}

Dims pool2d_shape(const Dims& x_shape, const Dims& kernel, const Dims& stride, const Dims& padding,
                  const Dims& dilation, bool ceil_mode) {
    const char* op = "pool2d_shape";
    ENGINE_CHECK(x_shape.n == 4, Kind::value, "[", op, "] expected a shape (N, C, H, W), got ",
                 to_string(x_shape), ": add the axes that lack");
    expect_plane(op, x_shape);
    const auto [wy, wx] = max_windows(op, x_shape, kernel, stride, padding, dilation, ceil_mode);
    return {x_shape[0], x_shape[1], wy.outputs(), wx.outputs()};
}

Array avg_pool2d(const Array& x, const Dims& kernel, const Dims& stride, const Dims& padding,
                 bool ceil_mode, bool count_include_pad, int64_t divisor_override,
                 const Array* out) {
    const char* op = "avg_pool2d";
    expect_input(op, x);
    const auto k = expect_pair(op, "kernel_size", kernel, 1);
    const auto s = expect_pair(op, "stride", stride, 1);
    const auto p = expect_pair(op, "padding", padding, 0);
    const auto divisor = count_include_pad ? PoolDivisor::padded_window : PoolDivisor::window;
    PoolWindows wy =
        pool_windows(op, "height", x.dim(2), k.first, s.first, p.first, 1, ceil_mode, divisor);
    PoolWindows wx =
        pool_windows(op, "width", x.dim(3), k.second, s.second, p.second, 1, ceil_mode, divisor);
    override_divisor(&wy, &wx, divisor_override);
    return average_over(op, x, wy, wx, out);
}

Array adaptive_avg_pool2d(const Array& x, const Dims& out_hw) {
    const char* op = "adaptive_avg_pool2d";
    expect_input(op, x);
    const auto out = expect_pair(op, "output_size", out_hw, 1);
    return average_over(op, x, adaptive_windows(op, "height", x.dim(2), out.first),
                        adaptive_windows(op, "width", x.dim(3), out.second));
}

std::pair<Array, Array> adaptive_max_pool2d(const Array& x, const Dims& out_hw, bool with_indices) {
    const char* op = "adaptive_max_pool2d";
    expect_input(op, x);
    const auto out = expect_pair(op, "output_size", out_hw, 1);
    return max_over(op, x, adaptive_windows(op, "height", x.dim(2), out.first),
                    adaptive_windows(op, "width", x.dim(3), out.second), with_indices);
}

}  // namespace engine
