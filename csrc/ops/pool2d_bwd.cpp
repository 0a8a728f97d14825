#include "ops/pool2d_bwd.h"

#include <algorithm>

#include "core/parallel.h"
#include "core/status.h"
#include "dispatch/table.h"
#include "ops/layout.h"
#include "ops/pool2d.h"

namespace engine {

namespace {

constexpr int64_t kChannelBlock = 64;
constexpr int64_t kManyImages = 16;

// For each input position the outputs whose window holds it: windows move forward with the output,
// so these are neighbours.
PoolWindows transposed(const PoolWindows& windows, int64_t in) {
    PoolWindows out;
    out.begin.assign(static_cast<size_t>(in), 0);
    out.count.assign(static_cast<size_t>(in), 0);
    for (int64_t o = 0; o < windows.outputs(); ++o) {
        const auto at = static_cast<size_t>(o);
        for (int32_t t = 0; t < windows.count[at]; ++t) {
            const auto i = static_cast<size_t>(windows.begin[at] + t);
            if (out.count[i]++ == 0) out.begin[i] = static_cast<int32_t>(o);
        }
    }
    return out;
}

void expect_gradient(const char* op, const Array& dy, const Dims& x_shape) {
    expect_f32(op, "dy", dy);
    expect_rank(op, "dy", dy, 4);
    ENGINE_CHECK(x_shape.n == 4, Kind::value, "[", op, "] expected x_shape (N, C, H, W), got ",
                 to_string(x_shape), ": pass the shape of the forward input");
    expect_plane(op, x_shape);
    ENGINE_CHECK(x_shape[0] >= 0, Kind::value, "[", op,
                 "] expected a batch of at least 0 images, got x_shape ", to_string(x_shape),
                 ": pass the shape of the forward input");
}

Array spread(const char* op, const Array& dy_given, const Dims& x_shape, const PoolWindows& wy,
             const PoolWindows& wx) {
    const Dims expected{x_shape[0], x_shape[1], wy.outputs(), wx.outputs()};
    ENGINE_CHECK(dy_given.shape() == expected, Kind::value, "[", op, "] expected dy of shape ",
                 to_string(expected), " for x_shape ", to_string(x_shape), ", got ",
                 to_string(dy_given.shape()), ": pass the arguments of the forward call");
    const Array dy = as_pixels(dy_given);
    const Array dx = empty(x_shape);
    if (dx.numel() == 0) return dx;
    const PoolWindows ty = transposed(wy, x_shape[2]), tx = transposed(wx, x_shape[3]);
    const int64_t work = x_shape[3] * x_shape[1];
    const PoolLaneTables tables = x_shape[0] * x_shape[2] < kLaneRows
                                      ? PoolLaneTables()
                                      : PoolLaneTables(PoolPass::backward, tx, dy.dim(3),
                                                       pixel_stride(dy), x_shape[1], wx.size);
    parallel_for(x_shape[0] * x_shape[2], grain_of(work), [&](int64_t begin, int64_t end, int) {
        AvgPoolBackwardArgs a{};
        a.dy = dy.f32(), a.dx = dx.f32();
        a.dy_ld = pixel_stride(dy), a.dx_ld = x_shape[1], a.channels = x_shape[1];
        a.in_h = x_shape[2], a.in_w = x_shape[3], a.out_h = wy.outputs(), a.out_w = wx.outputs();
        a.y = ty.axis(), a.x = tx.axis();
        a.y_size = wy.size.data(), a.x_size = wx.size.data();
        a.lanes = tables.lanes();
        a.row_begin = begin, a.row_end = end;
        a.stream = streams(dx, x_shape[1]);
        kernels().avg_pool_backward(a);
    });
    return dx;
}

}  // namespace

Array max_pool2d_backward(const Array& dy_given, const Array& indices_given, const Dims& x_shape,
                          const PoolArguments* windows) {
    const char* op = "max_pool2d_backward";
    expect_gradient(op, dy_given, x_shape);
    ENGINE_CHECK(indices_given.dtype() == DType::i32, Kind::type, "[", op,
                 "] expected indices of dtype int32, got ", name_of(indices_given.dtype()),
                 ": pass the indices of the forward call");
    ENGINE_CHECK(indices_given.shape() == dy_given.shape(), Kind::value, "[", op,
                 "] expected dy and indices of one shape, got ", to_string(dy_given.shape()),
                 " and ", to_string(indices_given.shape()),
                 ": pass the indices of the forward call");
    const int64_t n = x_shape[0], channels = x_shape[1], in_pixels = x_shape[2] * x_shape[3];
    ENGINE_CHECK(dy_given.dim(0) == n && dy_given.dim(1) == channels, Kind::value, "[", op,
                 "] expected dy of shape (", n, ", ", channels, ", ..., ...) for x_shape ",
                 to_string(x_shape), ", got ", to_string(dy_given.shape()),
                 ": pass the shape of the forward input");
    const Array dy = as_pixels(dy_given), indices = as_pixels(indices_given);
    const Array dx = empty(x_shape);
    if (dx.numel() == 0) return dx;
    if (windows) {
        const auto k = expect_pair(op, "kernel_size", windows->kernel, 1);
        const auto s = expect_pair(op, "stride", windows->stride, 1);
        const auto p = expect_pair(op, "padding", windows->padding, 0);
        const PoolDivisor none = PoolDivisor::window;
        const PoolWindows wy = pool_windows(op, "height", x_shape[2], k.first, s.first, p.first, 1,
                                            windows->ceil_mode, none);
        const PoolWindows wx = pool_windows(op, "width", x_shape[3], k.second, s.second, p.second,
                                            1, windows->ceil_mode, none);
        ENGINE_CHECK(wy.outputs() == dy.dim(2) && wx.outputs() == dy.dim(3), Kind::value, "[", op,
                     "] expected dy of ", wy.outputs(), " x ", wx.outputs(), " pixels, got shape ",
                     to_string(dy_given.shape()), ": pass the arguments of the forward call");
        const PoolWindows ty = transposed(wy, x_shape[2]), tx = transposed(wx, x_shape[3]);
        const int64_t ld = pixel_stride(dy);
        const bool alike = pixel_stride(indices) == ld && n * x_shape[2] >= kLaneRows;
        const PoolLaneTables tables =
            alike ? PoolLaneTables(PoolPass::backward, tx, dy.dim(3), ld, channels)
                  : PoolLaneTables();
        parallel_for(n * x_shape[2], grain_of(x_shape[3] * channels),
                     [&](int64_t begin, int64_t end, int) {
                         MaxPoolGatherArgs a{};
                         a.dy = dy.f32(), a.indices = indices.ptr<int32_t>(), a.dx = dx.f32();
                         a.dy_ld = ld, a.indices_ld = pixel_stride(indices);
                         a.dx_ld = a.channels = channels;
                         a.in_h = x_shape[2], a.in_w = x_shape[3];
                         a.out_h = dy.dim(2), a.out_w = dy.dim(3);
                         a.y = ty.axis(), a.x = tx.axis(), a.lanes = tables.lanes();
                         a.row_begin = begin, a.row_end = end;
                         a.stream = streams(dx, channels);
                         kernels().max_pool_gather(a);
                     });
        return dx;
    }
    const int64_t out_pixels = dy.dim(2) * dy.dim(3);
    // A thread owns whole channels of an image, so no two write to one element.
    const int64_t width = n >= kManyImages ? channels : kChannelBlock;
    const int64_t blocks = (channels + width - 1) / width;
    std::vector<int32_t> bad(static_cast<size_t>(num_threads()) * 16, 0);
    const int64_t work = (in_pixels + 4 * out_pixels) * std::min(width, channels);
    parallel_for(n * blocks, grain_of(work), [&](int64_t begin, int64_t end, int thread) {
        for (int64_t item = begin; item < end; ++item) {
            const int64_t image = item / blocks, first = item % blocks * width;
            MaxPoolBackwardArgs a{};
            a.dy_ld = pixel_stride(dy), a.indices_ld = pixel_stride(indices), a.dx_ld = channels;
            a.dy = dy.f32() + image * out_pixels * a.dy_ld + first;
            a.indices = indices.ptr<int32_t>() + image * out_pixels * a.indices_ld + first;
            a.dx = dx.f32() + image * in_pixels * channels + first;
            a.channels = std::min(width, channels - first);
            a.in_pixels = in_pixels, a.out_pixels = out_pixels;
            a.bad = &bad[static_cast<size_t>(thread) * 16];
            kernels().max_pool_backward(a);
        }
    });
    ENGINE_CHECK(std::find(bad.begin(), bad.end(), 1) == bad.end(), Kind::index, "[", op,
                 "] expected indices in [0, ", in_pixels, ") for planes of ", x_shape[2], " x ",
                 x_shape[3], ", got one outside: pass the indices of the forward call");
    return dx;
}

Array avg_pool2d_backward(const Array& dy, const Dims& x_shape, const Dims& kernel,
                          const Dims& stride, const Dims& padding, bool ceil_mode,
                          bool count_include_pad, int64_t divisor_override) {
    const char* op = "avg_pool2d_backward";
    expect_gradient(op, dy, x_shape);
    const auto k = expect_pair(op, "kernel_size", kernel, 1);
    const auto s = expect_pair(op, "stride", stride, 1);
    const auto p = expect_pair(op, "padding", padding, 0);
    const auto divisor = count_include_pad ? PoolDivisor::padded_window : PoolDivisor::window;
    PoolWindows wy =
        pool_windows(op, "height", x_shape[2], k.first, s.first, p.first, 1, ceil_mode, divisor);
    PoolWindows wx =
        pool_windows(op, "width", x_shape[3], k.second, s.second, p.second, 1, ceil_mode, divisor);
    override_divisor(&wy, &wx, divisor_override);
    return spread(op, dy, x_shape, wy, wx);
}

Array adaptive_avg_pool2d_backward(const Array& dy, const Dims& x_shape) {
    const char* op = "adaptive_avg_pool2d_backward";
    expect_gradient(op, dy, x_shape);
    ENGINE_CHECK(dy.dim(2) > 0 && dy.dim(3) > 0, Kind::value, "[", op,
                 "] expected dy with rows and columns, got shape ", to_string(dy.shape()),
                 ": pass the gradient of the forward result");
    return spread(op, dy, x_shape, adaptive_windows(op, "height", x_shape[2], dy.dim(2)),
                  adaptive_windows(op, "width", x_shape[3], dy.dim(3)));
}

}  // namespace engine
