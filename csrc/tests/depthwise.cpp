// One row of a depthwise convolution and its weight gradient.
#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;

namespace {

// A row of `width` pixels under a kernel_h x kernel_w window with padding `pad` at either side.
void check_row(int64_t channels, int64_t width, int64_t kernel_h, int64_t kernel_w, int64_t pad,
               bool with_bias, Against side) {
    engine_test::describe(channels, " channels, width ", width, ", kernel ", kernel_h, "x",
                          kernel_w);
    const int64_t out = width + 2 * pad - kernel_w + 1;
    const int64_t src_pixel = channels + 2, dst_pixel = channels + 1, src_row = width * src_pixel;
    Numbers numbers(static_cast<uint32_t>(channels));
    Guarded<float> src((kernel_h - 1) * src_row + (width - 1) * src_pixel + channels, side);
    Guarded<float> weight(kernel_h * kernel_w * channels, side), bias(channels, side);
    for (auto* buffer : {&src, &weight, &bias}) {
        numbers.fill(*buffer);
        buffer->freeze();
    }
    Guarded<float> dst((out - 1) * dst_pixel + channels, side);
    dst.fill(-7.0f);

    Guarded<int64_t> row_src(kernel_h, side), row_tap(kernel_h, side);
    for (int64_t r = 0; r < kernel_h; ++r) row_src[r] = r * src_row, row_tap[r] = r * kernel_w;
    std::vector<int32_t> column_src, column_tap;
    Guarded<int32_t> column_begin(out + 1, side);
    for (int64_t p = 0; p < out; ++p) {
        column_begin[p] = static_cast<int32_t>(column_src.size());
        for (int64_t q = 0; q < kernel_w; ++q)
            if (p + q - pad >= 0 && p + q - pad < width) {
                column_src.push_back(static_cast<int32_t>(p + q - pad));
                column_tap.push_back(static_cast<int32_t>(q));
            }
    }
    column_begin[out] = static_cast<int32_t>(column_src.size());

    engine::DepthwiseTapsArgs d{};
    d.src = src, d.src_pixel = src_pixel, d.dst = dst, d.dst_pixel = dst_pixel;
    d.weight = weight, d.bias = with_bias ? bias.data() : nullptr;
    d.channels = channels, d.pixels = out, d.row_src = row_src, d.row_tap = row_tap;
    d.row_count = kernel_h, d.column_begin = column_begin;
    d.column_src = column_src.data(), d.column_tap = column_tap.data();
    kernels().depthwise_taps(d);

    for (int64_t p = 0; p < out; ++p)
        for (int64_t c = 0; c < dst_pixel && p * dst_pixel + c < dst.size(); ++c) {
            if (c == channels) {
                CHECK_EQUAL(dst[p * dst_pixel + c], -7.0f);
                continue;
            }
            double sum = with_bias ? bias[c] : 0.0f;
            for (int64_t r = 0; r < kernel_h; ++r)
                for (int64_t q = 0; q < kernel_w; ++q)
                    if (p + q - pad >= 0 && p + q - pad < width)
                        sum += double{src[r * src_row + (p + q - pad) * src_pixel + c]} *
                               weight[(r * kernel_w + q) * channels + c];
            CHECK_CLOSE(dst[p * dst_pixel + c], sum, sum_tolerance(kernel_h * kernel_w));
        }
}

}  // namespace

TEST(depthwise_rows) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, lanes - 1, lanes, lanes + 1, 4 * lanes, 5 * lanes + 3})
            for (int64_t width : {1, 4, 9}) {
                check_row(channels, width, 3, 3, 1, true, side);
                check_row(channels, width, 1, 1, 0, false, side);
                check_row(channels, width, 5, 5, 2, width == 9, side);
            }
}

TEST(depthwise_weight_gradient_of_one_tap) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, lanes - 1, lanes, 2 * lanes + 1})
            for (int64_t pixels : {0, 1, 7}) {
                engine_test::describe(channels, " channels, ", pixels, " pixels");
                const int64_t src_pixel = 2 * channels, grad_pixel = channels + 3;
                Guarded<float> src(pixels ? (pixels - 1) * src_pixel + channels : 0, side);
                Guarded<float> grad(pixels ? (pixels - 1) * grad_pixel + channels : 0, side);
                Guarded<float> dweight(channels, side);
                Numbers numbers;
                numbers.fill(src);
                numbers.fill(grad);
                dweight.fill(0.5f);
                kernels().depthwise_weight_tap(
                    {src, src_pixel, grad, grad_pixel, channels, pixels, dweight});
                for (int64_t c = 0; c < channels; ++c) {
                    double sum = 0.5;
                    for (int64_t p = 0; p < pixels; ++p)
                        sum += double{src[p * src_pixel + c]} * grad[p * grad_pixel + c];
                    CHECK_CLOSE(dweight[c], sum, sum_tolerance(pixels));
                }
            }
}
