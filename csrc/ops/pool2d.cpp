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

std::pair<Array, Array> max_over(const char* op, const Array& input, const PoolWindows& wy,
                                 const PoolWindows& wx, bool with_indices,
                                 const Array* out = nullptr) {
    const Array x = as_pixels(input), y = output_of(op, x, wy, wx, out);
    const int64_t n = x.dim(0), channels = x.dim(1);
    const Array indices = with_indices ? empty(y.shape(), DType::i32) : Array();
    if (y.numel() == 0) return {y, indices};
    const int64_t work = wx.outputs() * channels * largest(wy.count) * largest(wx.count);
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
                 a.y = wy.axis(), a.x = wx.axis();
                 a.row_begin = begin, a.row_end = end;
                 a.stream = streams(y, channels), a.fetch_ahead = is_far(x);
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
                 a.row_begin = begin, a.row_end = end;
                 a.stream = streams(y, channels), a.fetch_ahead = is_far(x);
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
