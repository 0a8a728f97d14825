// Moving elements by position, and the sums that are its gradients.
#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;
using engine::SumType;

namespace {

void fill_bytes(Guarded<char>& buffer, uint32_t seed) {
    Numbers numbers(seed);
    for (int64_t i = 0; i < buffer.size(); ++i)
        buffer[i] = static_cast<char>(numbers.integer(-128, 127));
    buffer.freeze();
}

const int64_t kByteCounts[] = {1, 2, 3, 4, 5, 8, 12, 16, 60, 64, 68, 100, 1023, 1024, 1030};

template <class T>
void check_add_rows(SumType type, int64_t inner, Against side) {
    engine_test::describe("inner ", inner);
    const int64_t outer = 3, axis = 4, count = 6;
    Guarded<int64_t> index(count, side);
    Guarded<T> src(outer * count * inner, side), dst(outer * axis * inner, side);
    Numbers numbers(5);
    for (int64_t j = 0; j < count; ++j) index[j] = numbers.integer(0, axis - 1);
    for (int64_t i = 0; i < src.size(); ++i) src[i] = static_cast<T>(numbers.integer(-50, 50));
    for (int64_t i = 0; i < dst.size(); ++i) dst[i] = static_cast<T>(i % 7);
    src.freeze();
    index.freeze();
    const int64_t middle = inner / 2;
    kernels().add_rows({src, dst, index, type, axis, count, inner, 0, outer, 0, middle});
    kernels().add_rows({src, dst, index, type, axis, count, inner, 0, outer, middle, inner});
    for (int64_t o = 0; o < outer; ++o)
        for (int64_t a = 0; a < axis; ++a)
            for (int64_t i = 0; i < inner; ++i) {
                T sum = static_cast<T>(((o * axis + a) * inner + i) % 7);
                for (int64_t j = 0; j < count; ++j)
                    if (index[j] == a) sum = static_cast<T>(sum + src[(o * count + j) * inner + i]);
                CHECK_EQUAL(dst[(o * axis + a) * inner + i], sum);
            }
}

// Two other axes (2 x 3), lines of `length` indices along an axis of 5.
template <class T>
void check_lines(SumType type, Against side) {
    const int64_t rows = 2, columns = 3, axis = 5, length = 7;
    Guarded<T> source(rows * columns * axis, side), gathered(rows * columns * length, side);
    Guarded<T> added(rows * columns * axis, side);
    Guarded<int64_t> index(rows * columns * length, side);
    Numbers numbers(9);
    for (int64_t i = 0; i < index.size(); ++i) index[i] = numbers.integer(0, axis - 1);
    for (int64_t i = 0; i < source.size(); ++i) {
        source[i] = static_cast<T>(numbers.integer(0, 100));
        added[i] = 0;
    }
    source.freeze();
    index.freeze();
    engine::LinesArgs a{};
    a.src = source, a.dst = gathered, a.index = index, a.element_size = sizeof(T), a.type = type;
    a.rank = 2, a.shape[0] = rows, a.shape[1] = columns;
    a.src_stride[0] = columns * axis, a.src_stride[1] = 1,
    a.src_step = columns;  // [row][axis][column]
    a.dst_stride[0] = columns * length, a.dst_stride[1] = length, a.dst_step = 1;
    a.index_stride[0] = columns * length, a.index_stride[1] = length, a.index_step = 1;
    a.length = length, a.begin = 0, a.end = 2;
    kernels().gather_lines(a);
    a.begin = 2, a.end = rows * columns;
    kernels().gather_lines(a);
    std::vector<T> expected(static_cast<size_t>(rows * columns * axis), T{0});
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < columns; ++c)
            for (int64_t j = 0; j < length; ++j) {
                const int64_t line = (r * columns + c) * length + j;
                const int64_t from = r * columns * axis + index[line] * columns + c;
                CHECK_EQUAL(gathered[line], source[from]);
                T& sum = expected[static_cast<size_t>(from)];
                sum = static_cast<T>(sum + gathered[line]);
            }
    if (sizeof(T) == 1) return;
    std::swap(a.src_stride, a.dst_stride);
    std::swap(a.src_step, a.dst_step);
    a.src = gathered, a.dst = added, a.begin = 0;
    kernels().scatter_add_lines(a);
    for (int64_t i = 0; i < added.size(); ++i)
        CHECK_EQUAL(added[i], expected[static_cast<size_t>(i)]);
}

}  // namespace

TEST(copy_rows_of_every_length) {
    for (Against side : {Against::end, Against::start})
        for (int64_t bytes : kByteCounts)
            for (int64_t gap : {0, 1, 4}) {
                engine_test::describe(bytes, " bytes, gap ", gap);
                const int untouched = static_cast<char>(-1);  // char has no sign on some machines
                const int64_t rows = 3, src_step = bytes + gap, dst_step = bytes + 2 * gap;
                Guarded<char> src((rows - 1) * src_step + bytes, side),
                    dst((rows - 1) * dst_step + bytes, side);
                fill_bytes(src, 3);
                kernels().copy_rows({src, dst, src_step, dst_step, bytes, rows, false});
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t i = 0; i < dst_step && r * dst_step + i < dst.size(); ++i)
                        CHECK_EQUAL(int{dst[r * dst_step + i]},
                                    i < bytes ? int{src[r * src_step + i]} : untouched);
            }
}

TEST(copy_rows_past_the_caches) {
    for (Against side : {Against::end, Against::start})
        for (int64_t lines : {1, 5}) {
            const int64_t bytes = 64 * lines, rows = 3;
            Guarded<char> src(rows * bytes, side), dst(rows * bytes, side);
            fill_bytes(src, 3);
            kernels().copy_rows({src, dst, bytes, bytes, bytes, rows, true});
            for (int64_t i = 0; i < rows * bytes; ++i) CHECK_EQUAL(int{dst[i]}, int{src[i]});
        }
}

TEST(take_rows_of_every_length) {
    for (Against side : {Against::end, Against::start})
        for (int64_t bytes : kByteCounts) {
            engine_test::describe(bytes, " bytes");
            const int64_t outer = 2, axis = 5, count = 7;
            Guarded<char> src(outer * axis * bytes, side), dst(outer * count * bytes, side);
            Guarded<int64_t> index(count, side);
            fill_bytes(src, 4);
            Numbers numbers(6);
            for (int64_t j = 0; j < count; ++j) index[j] = numbers.integer(0, axis - 1);
            kernels().take_rows({src, dst, index, axis, count, bytes, 0, 1});
            kernels().take_rows({src, dst, index, axis, count, bytes, 1, outer});
            for (int64_t o = 0; o < outer; ++o)
                for (int64_t j = 0; j < count; ++j)
                    for (int64_t i = 0; i < bytes; ++i)
                        CHECK_EQUAL(int{dst[(o * count + j) * bytes + i]},
                                    int{src[(o * axis + index[j]) * bytes + i]});
        }
}

TEST(take_rows_of_bytes_at_odd_addresses) {
    for (int64_t bytes : {4, 8, 12}) {
        Guarded<char> src(3 * bytes + 1, Against::start), dst(2 * bytes + 1, Against::start);
        fill_bytes(src, 4);
        const int64_t index[] = {2, 0};
        kernels().take_rows({src.data() + 1, dst.data() + 1, index, 3, 2, bytes, 0, 1});
        for (int64_t i = 0; i < bytes; ++i)
            CHECK_EQUAL(int{dst[1 + i]}, int{src[1 + 2 * bytes + i]});
    }
}

TEST(add_rows) {
    for (Against side : {Against::end, Against::start})
        for (int64_t inner : {1, 2, 15, 16, 33}) {
            check_add_rows<float>(SumType::f32, inner, side);
            check_add_rows<int32_t>(SumType::i32, inner, side);
            check_add_rows<int64_t>(SumType::i64, inner, side);
        }
}

TEST(gather_and_scatter_lines) {
    for (Against side : {Against::end, Against::start}) {
        check_lines<float>(SumType::f32, side);
        check_lines<int32_t>(SumType::i32, side);
        check_lines<int64_t>(SumType::i64, side);
        check_lines<uint8_t>(SumType::i32, side);
    }
}

TEST(pad_and_its_backward) {
    const int64_t lanes = kernels().lanes;
    const std::vector<int32_t> y_map = {-1, 1, 0, 1, 2, 1, -1},
                               x_map = {-1, -1, 0, 1, 2, 3, 2};  // constant, reflect
    const int64_t images = 2, in_h = 3, in_w = 4, out_h = 7, out_w = 7;
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {int64_t{1}, lanes - 1, lanes, 2 * lanes + 1})
            for (int64_t gap : {0, 3}) {
                engine_test::describe(channels, " channels, gap ", gap);
                const int64_t src_ld = channels + gap, dst_ld = channels + 2 * gap;
                Guarded<float> src((images * in_h * in_w - 1) * src_ld + channels, side);
                Guarded<float> dst((images * out_h * out_w - 1) * dst_ld + channels, side);
                Guarded<float> dx(src.size(), side);
                Numbers().fill(src);
                src.freeze();
                engine::PadArgs a{};
                a.src = reinterpret_cast<const char*>(src.data()),
                a.dst = reinterpret_cast<char*>(dst.data());
                a.src_pixel = src_ld * 4, a.dst_pixel = dst_ld * 4, a.pixel_bytes = channels * 4,
                a.element_size = 4;
                a.in_h = in_h, a.in_w = in_w, a.out_h = out_h, a.out_w = out_w;
                a.y_map = y_map.data(), a.x_map = x_map.data();
                const float value = 2.5f;
                std::memcpy(a.value, &value, 4);
                a.row_end = images * out_h;
                kernels().pad_forward(a);

                std::vector<int32_t> y_begin = {0}, y_list;
                for (int32_t iy = 0; iy < in_h; ++iy) {
                    for (int32_t oy = 0; oy < out_h; ++oy)
                        if (y_map[static_cast<size_t>(oy)] == iy) y_list.push_back(oy);
                    y_begin.push_back(static_cast<int32_t>(y_list.size()));
                }
                engine::PadBackwardArgs b{};
                b.dy = dst, b.dx = dx, b.dy_ld = dst_ld, b.dx_ld = src_ld, b.channels = channels;
                b.in_h = in_h, b.in_w = in_w, b.out_h = out_h, b.out_w = out_w;
                b.y_begin = y_begin.data(), b.y_list = y_list.data(), b.x_map = x_map.data();
                b.row_end = images * in_h;
                kernels().pad_backward(b);

                std::vector<double> expected(static_cast<size_t>(src.size()), 0.0);
                for (int64_t n = 0; n < images; ++n)
                    for (int64_t oy = 0; oy < out_h; ++oy)
                        for (int64_t ox = 0; ox < out_w; ++ox)
                            for (int64_t c = 0; c < channels; ++c) {
                                const int64_t iy = y_map[static_cast<size_t>(oy)],
                                              ix = x_map[static_cast<size_t>(ox)];
                                const float got = dst[((n * out_h + oy) * out_w + ox) * dst_ld + c];
                                if (iy < 0 || ix < 0) {
                                    CHECK_EQUAL(got, value);
                                    continue;
                                }
                                const int64_t from = ((n * in_h + iy) * in_w + ix) * src_ld + c;
                                CHECK_EQUAL(got, src[from]);
                                expected[static_cast<size_t>(from)] += got;
                            }
                for (int64_t pixel = 0; pixel < images * in_h * in_w; ++pixel)
                    for (int64_t c = 0; c < channels; ++c)
                        CHECK_CLOSE(dx[pixel * src_ld + c],
                                    expected[static_cast<size_t>(pixel * src_ld + c)], 1e-5);
            }
}
