// Resampling through its axis tables.
#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;

namespace {

// A table with windows of random place and length; with `nearest`, one weight of 1.
struct Table {
    std::vector<int32_t> begin, count;
    std::vector<int64_t> offset;
    std::vector<float> weights;
    Table(int64_t in, int64_t out, bool nearest, Numbers& numbers) {
        for (int64_t o = 0; o < out; ++o) {
            const int64_t n = nearest ? 1 : numbers.integer(0, std::min<int64_t>(in, 4));
            begin.push_back(static_cast<int32_t>(numbers.integer(0, in - n)));
            count.push_back(static_cast<int32_t>(n));
            offset.push_back(static_cast<int64_t>(weights.size()));
            for (int64_t i = 0; i < n; ++i) weights.push_back(nearest ? 1.0f : numbers.value());
        }
        weights.push_back(0);  // data() must not be null
    }
    engine::ResizeAxis axis() const {
        return {begin.data(), count.data(), offset.data(), weights.data()};
    }
};

void check(int64_t channels, bool dense, bool nearest, Against side) {
    engine_test::describe(channels, " channels, ", dense ? "dense" : "spaced");
    const int64_t images = 2, in_h = 5, in_w = 4, out_h = 7, out_w = 6;
    const int64_t src_ld = dense ? channels : channels + 2, dst_ld = channels + 1;
    Numbers numbers(static_cast<uint32_t>(channels));
    const Table y(in_h, out_h, nearest, numbers), x(in_w, out_w, nearest, numbers);
    // A pixel view ends with its last channel, but its rows are whole; the kernel may read between.
    Guarded<float> src(images * in_h * in_w * src_ld - (src_ld - channels), side);
    Guarded<float> dst((images * out_h * out_w - 1) * dst_ld + channels, side),
        row(in_w * channels, side);
    numbers.fill(src);
    src.freeze();
    engine::ResizeArgs a{};
    a.src = src, a.dst = dst, a.src_ld = src_ld, a.dst_ld = dst_ld, a.channels = channels;
    a.in_h = in_h, a.in_w = in_w, a.out_h = out_h, a.out_w = out_w, a.y = y.axis(), a.x = x.axis();
    a.row = row, a.row_end = 3;
    kernels().resize_rows(a);
    a.row_begin = 3, a.row_end = images * out_h;
    kernels().resize_rows(a);
    for (int64_t n = 0; n < images; ++n)
        for (int64_t oy = 0; oy < out_h; ++oy)
            for (int64_t ox = 0; ox < out_w; ++ox)
                for (int64_t c = 0; c < channels; ++c) {
                    const auto sy = static_cast<size_t>(oy), sx = static_cast<size_t>(ox);
                    double sum = 0;
                    for (int64_t i = 0; i < y.count[sy]; ++i)
                        for (int64_t j = 0; j < x.count[sx]; ++j)
                            sum += double{y.weights[static_cast<size_t>(y.offset[sy] + i)]} *
                                   x.weights[static_cast<size_t>(x.offset[sx] + j)] *
                                   src[((n * in_h + y.begin[sy] + i) * in_w + x.begin[sx] + j) *
                                           src_ld +
                                       c];
                    CHECK_CLOSE(dst[((n * out_h + oy) * out_w + ox) * dst_ld + c], sum, 3e-6);
                }
}

}  // namespace

TEST(resize) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, int64_t{3}, lanes - 1, lanes, 2 * lanes + 1})
            for (bool dense : {false, true})
                for (bool nearest : {false, true}) check(channels, dense, nearest, side);
}
