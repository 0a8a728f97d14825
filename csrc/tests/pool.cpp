// Pooling through its axis tables.
#include <limits>

#include "dispatch/table.h"
#include "ops/pool2d.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;

namespace {

// One axis: windows of `kernel` inputs every `stride`, `pad` before the first, clipped to the
// input.
struct Axis {
    int64_t in, out, kernel, stride, pad, dilation;
    std::vector<int32_t> begin, count;
    std::vector<float> size;

    Axis(int64_t in_, int64_t kernel_, int64_t stride_, int64_t pad_, int64_t dilation_)
        : in(in_), kernel(kernel_), stride(stride_), pad(pad_), dilation(dilation_) {
        out = (in + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
        for (int64_t o = 0; o < out; ++o) {
            int64_t first = o * stride - pad, n = kernel;
            while (first < 0) first += dilation, --n;
            while (first + (n - 1) * dilation >= in) --n;
            begin.push_back(static_cast<int32_t>(first));
            count.push_back(static_cast<int32_t>(n));
            size.push_back(static_cast<float>(n));
        }
    }
    engine::PoolAxis axis() const { return {begin.data(), count.data(), dilation}; }
    // Which outputs read input i; contiguous when dilation is 1.
    void transpose(std::vector<int32_t>& first, std::vector<int32_t>& readers) const {
        for (int64_t i = 0; i < in; ++i) {
            int32_t n = 0, lowest = 0;
            for (int64_t o = out - 1; o >= 0; --o)
                if (begin[static_cast<size_t>(o)] <= i &&
                    i < begin[static_cast<size_t>(o)] + count[static_cast<size_t>(o)])
                    lowest = static_cast<int32_t>(o), ++n;
            first.push_back(lowest);
            readers.push_back(n);
        }
    }
};

// What the kernels are given beside the windows: pixels apart from each other, adjacent ones
// written past the caches, adjacent ones of which vectors take several.
enum class Form { apart, streamed, lanes };

constexpr int64_t kImages = 2;

int64_t extent(int64_t pixels, int64_t ld, int64_t channels) {
    return (pixels - 1) * ld + channels;
}

void check_max(int64_t channels, const Axis& y, const Axis& x, bool with_nan, Against side,
               Form form = Form::apart) {
    engine_test::describe(channels, " channels, ", y.in, "x", x.in, ", kernel ", y.kernel, "x",
                          x.kernel);
    const bool streamed = form == Form::streamed;
    const int64_t src_ld = channels + !streamed, dx_ld = channels + (form == Form::apart);
    const int64_t dst_ld = channels + 2 * (form == Form::apart);
    Guarded<float> src(extent(kImages * y.in * x.in, src_ld, channels), side);
    Numbers numbers(static_cast<uint32_t>(channels));
    for (int64_t i = 0; i < src.size(); ++i)
        src[i] = static_cast<float>(numbers.integer(-3, 3));  // ties
    if (with_nan)
        for (int64_t i = 0; i < src.size(); i += 11)
            src[i] = std::numeric_limits<float>::quiet_NaN();
    src.freeze();
    const int64_t outputs = kImages * y.out * x.out;
    Guarded<float> dst(extent(outputs, dst_ld, channels), side),
        plain(extent(outputs, dst_ld, channels), side);
    Guarded<int32_t> indices(extent(outputs, dst_ld, channels), side);
    engine::MaxPoolArgs a{};
    a.src = src, a.dst = dst, a.indices = indices, a.src_ld = src_ld;
    a.dst_ld = a.indices_ld = dst_ld;
    a.channels = channels, a.in_h = y.in, a.in_w = x.in, a.out_h = y.out, a.out_w = x.out;
    a.y = y.axis(), a.x = x.axis(), a.row_begin = 0, a.row_end = 1;
    a.stream = a.fetch_ahead = streamed;
    engine::PoolLaneTables tables, reader_tables;
    if (form == Form::lanes)
        tables = {engine::PoolPass::maximum,
                  {x.begin, x.count, x.size, x.dilation},
                  x.in,
                  src_ld,
                  channels};
    a.lanes = tables.lanes();
    kernels().max_pool_forward(a);
    a.row_begin = 1, a.row_end = kImages * y.out;
    kernels().max_pool_forward(a);
    a.dst = plain, a.indices = nullptr, a.row_begin = 0;
    kernels().max_pool_forward(a);

    for (int64_t n = 0; n < kImages; ++n)
        for (int64_t oy = 0; oy < y.out; ++oy)
            for (int64_t ox = 0; ox < x.out; ++ox)
                for (int64_t c = 0; c < channels; ++c) {
                    float best = -std::numeric_limits<float>::infinity();
                    int64_t where = -1;
                    for (int64_t i = 0; i < y.count[static_cast<size_t>(oy)]; ++i)
                        for (int64_t j = 0; j < x.count[static_cast<size_t>(ox)]; ++j) {
                            const int64_t at =
                                (y.begin[static_cast<size_t>(oy)] + i * y.dilation) * x.in +
                                x.begin[static_cast<size_t>(ox)] + j * x.dilation;
                            const float v = src[(n * y.in * x.in + at) * src_ld + c];
                            if (where < 0 || v > best || std::isnan(v)) best = v, where = at;
                        }
                    const int64_t out = ((n * y.out + oy) * x.out + ox) * dst_ld + c;
                    CHECK_CLOSE(dst[out], best, 0.0);
                    CHECK_CLOSE(plain[out], best, 0.0);
                    CHECK_EQUAL(indices[out], where);
                }
    if (y.dilation > 1 || x.dilation > 1) return;

    indices.freeze();
    Guarded<float> dy(extent(outputs, channels, channels), side);
    Guarded<float> dx(extent(kImages * y.in * x.in, dx_ld, channels), side);
    numbers.fill(dy);
    dy.freeze();
    std::vector<int32_t> y_first, y_readers, x_first, x_readers;
    y.transpose(y_first, y_readers);
    x.transpose(x_first, x_readers);
    engine::MaxPoolGatherArgs b{};
    b.dy = dy, b.indices = indices, b.dx = dx, b.dy_ld = channels, b.indices_ld = dst_ld;
    b.dx_ld = dx_ld, b.channels = channels;
    b.in_h = y.in, b.in_w = x.in, b.out_h = y.out, b.out_w = x.out;
    b.y = {y_first.data(), y_readers.data(), 1}, b.x = {x_first.data(), x_readers.data(), 1};
    b.row_end = kImages * y.in;
    b.stream = streamed;
    if (form == Form::lanes)
        reader_tables = {
            engine::PoolPass::backward, {x_first, x_readers, {}, 1}, x.out, channels, channels};
    b.lanes = reader_tables.lanes();
    kernels().max_pool_gather(b);
    std::vector<double> expected(static_cast<size_t>(kImages * y.in * x.in * channels), 0.0);
    for (int64_t out = 0; out < outputs; ++out)
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t at = out / (y.out * x.out) * y.in * x.in + indices[out * dst_ld + c];
            expected[static_cast<size_t>(at * channels + c)] += dy[out * channels + c];
        }
    for (int64_t at = 0; at < kImages * y.in * x.in; ++at)
        for (int64_t c = 0; c < channels; ++c)
            CHECK_CLOSE(dx[at * dx_ld + c], expected[static_cast<size_t>(at * channels + c)], 1e-5);
}

void check_max_backward(int64_t channels, bool dense, Against side) {
    engine_test::describe(channels, " channels");
    const int64_t in_pixels = 12, out_pixels = 20, dx_ld = dense ? channels : channels + 3;
    Guarded<float> dy(extent(out_pixels, channels, channels), side),
        dx(extent(in_pixels, dx_ld, channels), side);
    Guarded<int32_t> indices(dy.size(), side);
    Numbers numbers;
    numbers.fill(dy);
    dx.fill(3.0f);
    for (int64_t i = 0; i < indices.size(); ++i)
        indices[i] = static_cast<int32_t>(numbers.integer(0, in_pixels - 1));
    indices[1] = -1, indices[indices.size() - 1] = static_cast<int32_t>(in_pixels);
    int32_t bad = 0;
    kernels().max_pool_backward(
        {dy, indices, dx, channels, channels, dx_ld, channels, in_pixels, out_pixels, &bad});
    CHECK_EQUAL(bad, 1);
    std::vector<double> expected(static_cast<size_t>(in_pixels * channels), 0.0);
    for (int64_t p = 0; p < out_pixels; ++p)
        for (int64_t c = 0; c < channels; ++c) {
            const int32_t at = indices[p * channels + c];
            if (at >= 0 && at < in_pixels)
                expected[static_cast<size_t>(at * channels + c)] += dy[p * channels + c];
        }
    for (int64_t p = 0; p < in_pixels; ++p)
        for (int64_t c = 0; c < dx_ld && p * dx_ld + c < dx.size(); ++c)
            CHECK_CLOSE(dx[p * dx_ld + c],
                        c < channels ? expected[static_cast<size_t>(p * channels + c)] : 3.0, 1e-5);
}

void check_average(int64_t channels, const Axis& y, const Axis& x, Against side,
                   Form form = Form::apart) {
    engine_test::describe(channels, " channels, ", y.in, "x", x.in, ", kernel ", y.kernel, "x",
                          x.kernel);
    const bool streamed = form == Form::streamed;
    const int64_t src_ld = channels + !streamed, dx_ld = channels + (form == Form::apart);
    const int64_t dst_ld = channels + 2 * (form == Form::apart);
    const int64_t outputs = kImages * y.out * x.out;
    Guarded<float> src(extent(kImages * y.in * x.in, src_ld, channels), side);
    Guarded<float> dst(extent(outputs, dst_ld, channels), side);
    Numbers numbers;
    numbers.fill(src);
    src.freeze();
    engine::AvgPoolArgs a{};
    a.src = src, a.dst = dst, a.src_ld = src_ld, a.dst_ld = dst_ld, a.channels = channels;
    a.in_h = y.in, a.in_w = x.in, a.out_h = y.out, a.out_w = x.out, a.y = y.axis(), a.x = x.axis();
    a.y_size = y.size.data(), a.x_size = x.size.data(), a.row_end = kImages * y.out;
    a.stream = a.fetch_ahead = streamed;
    using engine::PoolPass;
    engine::PoolLaneTables tables, reader_tables;
    if (form == Form::lanes)
        tables = {PoolPass::average, {x.begin, x.count, x.size, 1}, x.in, src_ld, channels, x.size};
    a.lanes = tables.lanes();
    kernels().avg_pool_forward(a);

    Guarded<float> dy(extent(outputs, dst_ld, channels), side);
    Guarded<float> dx(extent(kImages * y.in * x.in, dx_ld, channels), side);
    numbers.fill(dy);
    dy.freeze();
    std::vector<int32_t> y_first, y_readers, x_first, x_readers;
    y.transpose(y_first, y_readers);
    x.transpose(x_first, x_readers);
    engine::AvgPoolBackwardArgs b{};
    b.dy = dy, b.dx = dx, b.dy_ld = dst_ld, b.dx_ld = dx_ld, b.channels = channels;
    b.in_h = y.in, b.in_w = x.in, b.out_h = y.out, b.out_w = x.out;
    b.y = {y_first.data(), y_readers.data(), 1}, b.x = {x_first.data(), x_readers.data(), 1};
    b.y_size = y.size.data(), b.x_size = x.size.data(), b.row_end = kImages * y.in;
    b.stream = streamed;
    if (form == Form::lanes)
        reader_tables = {
            PoolPass::backward, {x_first, x_readers, {}, 1}, x.out, dst_ld, channels, x.size};
    b.lanes = reader_tables.lanes();
    kernels().avg_pool_backward(b);

    std::vector<double> expected(static_cast<size_t>(kImages * y.in * x.in * channels), 0.0);
    for (int64_t n = 0; n < kImages; ++n)
        for (int64_t oy = 0; oy < y.out; ++oy)
            for (int64_t ox = 0; ox < x.out; ++ox) {
                const auto sy = static_cast<size_t>(oy), sx = static_cast<size_t>(ox);
                const double size = double{y.size[sy]} * x.size[sx];
                const int64_t out = ((n * y.out + oy) * x.out + ox) * dst_ld;
                for (int64_t c = 0; c < channels; ++c) {
                    double sum = 0;
                    for (int64_t i = 0; i < y.count[sy]; ++i)
                        for (int64_t j = 0; j < x.count[sx]; ++j) {
                            const int64_t at =
                                (n * y.in + y.begin[sy] + i) * x.in + x.begin[sx] + j;
                            sum += src[at * src_ld + c];
                            expected[static_cast<size_t>(at * channels + c)] += dy[out + c] / size;
                        }
                    CHECK_CLOSE(dst[out + c], sum / size, 1e-6);
                }
            }
    for (int64_t at = 0; at < kImages * y.in * x.in; ++at)
        for (int64_t c = 0; c < channels; ++c)
            CHECK_CLOSE(dx[at * dx_ld + c], expected[static_cast<size_t>(at * channels + c)], 1e-5);
}

std::vector<int64_t> channel_counts() {
    const int64_t lanes = kernels().lanes;
    return {1, lanes - 1, lanes, lanes + 1, 4 * lanes, 5 * lanes + 2};
}

}  // namespace

TEST(max_pool) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : channel_counts())
            for (bool with_nan : {false, true}) {
                check_max(channels, Axis(7, 3, 2, 1, 1), Axis(5, 2, 2, 0, 1), with_nan, side);
                check_max(channels, Axis(9, 3, 1, 2, 2), Axis(6, 3, 3, 1, 2), with_nan, side);
                check_max(channels, Axis(1, 1, 1, 0, 1), Axis(4, 4, 4, 0, 1), with_nan, side);
                check_max(channels, Axis(12, 7, 1, 3, 1), Axis(13, 7, 1, 3, 1), with_nan, side);
            }
}

TEST(pools_of_several_pixels_per_vector) {
    const Axis y(5, 3, 2, 1, 1);
    for (Against side : {Against::end, Against::start})
        for (int64_t channels = 1; channels <= 20; ++channels)
            for (const Axis& x : {Axis(28, 2, 2, 0, 1), Axis(13, 3, 2, 1, 1), Axis(17, 3, 1, 1, 1),
                                  Axis(23, 2, 3, 1, 1), Axis(12, 3, 1, 2, 2), Axis(3, 2, 1, 0, 1),
                                  Axis(9, 9, 1, 4, 1)}) {
                for (bool with_nan : {false, true})
                    check_max(channels, y, x, with_nan, side, Form::lanes);
                if (x.dilation == 1) check_average(channels, y, x, side, Form::lanes);
            }
}

TEST(max_pool_backward) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : channel_counts())
            for (bool dense : {false, true}) check_max_backward(channels + 1, dense, side);
}

TEST(average_pool_and_its_backward) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : channel_counts()) {
            check_average(channels, Axis(7, 3, 2, 1, 1), Axis(5, 2, 2, 0, 1), side);
            check_average(channels, Axis(4, 4, 4, 0, 1), Axis(4, 4, 1, 0, 1), side);
            check_average(channels, Axis(3, 2, 3, 0, 1), Axis(8, 3, 1, 1, 1), side);
        }
}

TEST(pools_past_the_caches) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {lanes, 5 * lanes})
            // A pixel of the second has 49 readers, more than are gathered at once.
            for (const Axis& axis : {Axis(8, 3, 2, 1, 1), Axis(12, 7, 1, 3, 1)}) {
                check_max(channels, axis, axis, false, side, Form::streamed);
                check_average(channels, axis, axis, side, Form::streamed);
            }
}
