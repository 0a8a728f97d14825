// The multiply-add loop, packing, column sums.
#include <algorithm>
#include <cmath>
#include <vector>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::Activation;
using engine::kernels;

namespace {

struct Case {
    int64_t rows, columns, depth, taps;
    int vectors;
    bool accumulate, bias, residual;
    Activation activation;
};

void check(const Case& k, Against side) {
    engine_test::describe(k.rows, " rows, ", k.columns, " columns, depth ", k.depth, ", ", k.taps,
                          " taps, ", k.vectors, " vectors");
    Numbers numbers(static_cast<uint32_t>(k.rows * 1000 + k.columns));
    const int64_t width = static_cast<int64_t>(k.vectors) * kernels().lanes;
    const int64_t a_depth = 2, a_row = k.depth * a_depth + 3, c_row = k.columns + 5;
    Guarded<int64_t> taps(k.taps, side);
    for (int64_t t = 0; t < k.taps; ++t) taps[t] = t * 4;
    Guarded<float> a((k.rows - 1) * a_row + (k.taps - 1) * 4 + (k.depth - 1) * a_depth + 1, side);
    Guarded<float> b(k.taps * k.depth * width, side);
    Guarded<float> c((k.rows - 1) * c_row + k.columns, side);
    Guarded<float> bias(k.columns, side);
    Guarded<float> residual((k.rows - 1) * k.columns + k.columns, side);
    for (auto* buffer : {&a, &b, &bias, &residual}) numbers.fill(*buffer);
    numbers.fill(c);
    std::vector<float> before(c.data(), c.data() + c.size());
    for (auto* buffer : {&a, &b, &bias, &residual}) buffer->freeze();

    engine::GemmArgs g{};
    g.a = a, g.a_row = a_row, g.a_depth = a_depth, g.taps = taps, g.tap_count = k.taps;
    g.depth = k.depth, g.b = b, g.b_row = width, g.c = c, g.c_row = c_row, g.rows = k.rows;
    g.columns = k.columns, g.vectors = k.vectors, g.accumulate = k.accumulate;
    g.activation = k.activation, g.bias = k.bias ? bias.data() : nullptr;
    g.residual = k.residual ? residual.data() : nullptr, g.residual_row = k.columns;
    kernels().gemm(g);

    for (int64_t i = 0; i < k.rows; ++i)
        for (int64_t j = 0; j < c_row && i * c_row + j < c.size(); ++j) {
            const int64_t at = i * c_row + j;
            if (j >= k.columns) {
                CHECK_EQUAL(c[at], before[static_cast<size_t>(at)]);
                continue;
            }
            double sum = k.accumulate ? before[static_cast<size_t>(at)] : k.bias ? bias[j] : 0.0f;
            for (int64_t t = 0; t < k.taps; ++t)
                for (int64_t d = 0; d < k.depth; ++d)
                    sum += double{a[taps[t] + i * a_row + d * a_depth]} *
                           b[(t * k.depth + d) * width + j];
            if (k.residual) sum += residual[i * k.columns + j];
            if (k.activation != Activation::none && sum < 0) sum = 0;
            if (k.activation == Activation::relu6 && sum > 6) sum = 6;
            CHECK_CLOSE(c[at], sum, sum_tolerance(k.taps * k.depth));
        }
}

}  // namespace

TEST(gemm_of_every_tile_height_and_tail) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int vectors = 1; vectors <= 4; ++vectors)
            for (int64_t rows = 1; rows <= 31; ++rows)
                for (int64_t tail : {int64_t{1}, lanes - 1, lanes})
                    check({rows, (vectors - 1) * lanes + tail, 5, 1, vectors, false, rows % 2 == 0,
                           false, Activation::none},
                          side);
}

TEST(gemm_epilogues_taps_and_depths) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t depth : {1, 2, 7, 64})
            for (int64_t taps : {1, 3})
                for (int mask = 0; mask < 8; ++mask)
                    for (Activation activation :
                         {Activation::none, Activation::relu, Activation::relu6})
                        check({13, lanes + 3, depth, taps, 2, (mask & 1) != 0, (mask & 2) != 0,
                               (mask & 4) != 0, activation},
                              side);
}

TEST(gemm_past_the_caches_writes_the_same) {
    const int64_t columns = 2 * kernels().lanes, rows = 31, depth = 40, tap = 0;
    Guarded<float> a(rows * depth, Against::end), b(depth * columns, Against::end);
    Numbers numbers(7);
    numbers.fill(a);
    numbers.fill(b);
    Guarded<float> c(rows * columns, Against::start), past(rows * columns, Against::start);
    engine::GemmArgs g{};
    g.a = a, g.a_row = depth, g.a_depth = 1, g.taps = &tap, g.tap_count = 1, g.depth = depth;
    g.b = b, g.b_row = columns, g.c_row = columns, g.rows = rows, g.columns = columns;
    g.vectors = 2, g.activation = Activation::relu;
    g.c = c;
    kernels().gemm(g);
    g.c = past, g.stream = true;
    kernels().gemm(g);
    for (int64_t i = 0; i < c.size(); ++i) CHECK_EQUAL(past[i], c[i]);
}

TEST(gemm_without_rows_or_columns_does_nothing) {
    engine::GemmArgs g{};
    g.vectors = 1;
    kernels().gemm(g);
}

TEST(pack_fills_panels_with_zeros_beyond_the_columns) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t source_column : {1, 3})
            for (int64_t rows : {1, 5})
                for (int64_t columns : {int64_t{1}, lanes - 1, lanes, lanes + 1, 3 * lanes}) {
                    for (int64_t width = (columns + lanes - 1) / lanes * lanes; width <= 4 * lanes;
                         width += lanes) {
                        engine_test::describe(rows, " rows, ", columns, " columns, width ", width);
                        const int64_t source_row = columns * source_column + 2;
                        Guarded<float> source(
                            (rows - 1) * source_row + (columns - 1) * source_column + 1, side);
                        Numbers().fill(source);
                        source.freeze();
                        Guarded<float> panel(rows * width, side);
                        kernels().pack(
                            {source, source_row, source_column, rows, columns, panel, width});
                        for (int64_t q = 0; q < rows; ++q)
                            for (int64_t j = 0; j < width; ++j)
                                CHECK_EQUAL(panel[q * width + j],
                                            j < columns ? source[q * source_row + j * source_column]
                                                        : 0.0f);
                    }
                }
}

TEST(transpose_of_every_remainder) {
    for (Against side : {Against::end, Against::start})
        for (int64_t rows : {1, 3, 4, 6, 17})
            for (int64_t columns : {1, 2, 4, 7, 66, 131}) {
                engine_test::describe(rows, " rows, ", columns, " columns");
                const int64_t src_row = columns + 2, dst_row = rows + 1;
                Guarded<float> src((rows - 1) * src_row + columns, side);
                Numbers().fill(src);
                src.freeze();
                Guarded<float> dst((columns - 1) * dst_row + rows, side);
                dst.fill(-7.0f);
                kernels().transpose({src, src_row, rows, columns, dst, dst_row});
                for (int64_t j = 0; j < columns; ++j) {
                    for (int64_t i = 0; i < rows; ++i)
                        CHECK_EQUAL(dst[j * dst_row + i], src[i * src_row + j]);
                    if (j < columns - 1) CHECK_EQUAL(dst[j * dst_row + rows], -7.0f);
                }
            }
}

TEST(finish_scales_adds_and_activates) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (Activation activation : {Activation::none, Activation::relu, Activation::relu6,
                                      Activation::silu, Activation::hardswish})
            for (int64_t columns : {int64_t{1}, lanes, 2 * lanes + 3}) {
                const int64_t rows = 3, row = columns + 1;
                Guarded<float> y((rows - 1) * row + columns, side), residual(rows * columns, side);
                Guarded<float> scale(columns, side), bias(columns, side);
                Numbers numbers(3);
                numbers.fill(y);
                for (Guarded<float>* a : {&residual, &scale, &bias}) numbers.fill(*a), a->freeze();
                std::vector<float> before(y.data(), y.data() + (rows - 1) * row + columns);
                kernels().finish(
                    {y, row, rows, columns, residual, columns, activation, scale, bias});
                for (int64_t i = 0; i < rows; ++i)
                    for (int64_t j = 0; j < columns; ++j) {
                        const double x = double{before[i * row + j]} * double{scale[j]} +
                                         double{bias[j]} + double{residual[i * columns + j]};
                        const double six = std::min(6.0, std::max(0.0, x));
                        const double gate = std::min(6.0, std::max(0.0, x + 3.0)) / 6.0;
                        const double expected = activation == Activation::none    ? x
                                                : activation == Activation::relu  ? std::max(0.0, x)
                                                : activation == Activation::relu6 ? six
                                                : activation == Activation::silu
                                                    ? x / (1.0 + std::exp(-x))
                                                    : x * gate;
                        CHECK_CLOSE(y[i * row + j], expected, 1e-5);
                    }
            }
}

TEST(column_sums_add_to_what_is_there) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t rows : {0, 1, 2, 7, 33})
            for (int64_t columns : {int64_t{1}, lanes - 1, lanes, 4 * lanes, 5 * lanes + 3}) {
                engine_test::describe(rows, " rows, ", columns, " columns");
                const int64_t row = columns + 1;
                Guarded<float> source(rows ? (rows - 1) * row + columns : 0, side);
                Numbers().fill(source);
                source.freeze();
                Guarded<float> sums(columns, side);
                sums.fill(2.0f);
                kernels().column_sum({source, row, rows, columns, sums});
                for (int64_t j = 0; j < columns; ++j) {
                    double sum = 2.0;
                    for (int64_t i = 0; i < rows; ++i) sum += source[i * row + j];
                    CHECK_CLOSE(sums[j], sum, sum_tolerance(rows));
                    float alone = 2.0f;  // the same bits wherever the column lies
                    kernels().column_sum({source + j, row, rows, 1, &alone});
                    CHECK_EQUAL(alone, sums[j]);
                }
            }
}

TEST(dot_rows_multiplies_rows_with_rows) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t count = 1; count <= engine::kMaxDotRows; ++count)
            for (int64_t rows : {1, 3, 4, 9})
                for (int64_t depth : {int64_t{0}, int64_t{1}, lanes, 5 * lanes + 3}) {
                    engine_test::describe(count, " with ", rows, " rows, depth ", depth);
                    const int64_t x_row = depth + 1, w_row = depth + 2, y_row = rows + 1;
                    Guarded<float> x((count - 1) * x_row + depth, side);
                    Guarded<float> w((rows - 1) * w_row + depth, side);
                    Guarded<float> y((count - 1) * y_row + rows, side);
                    Numbers numbers(static_cast<uint32_t>(depth));
                    for (Guarded<float>* a : {&x, &w}) numbers.fill(*a), a->freeze();
                    y.fill(-7.0f);
                    kernels().dot_rows({x, x_row, count, w, w_row, rows, depth, y, y_row});
                    for (int64_t i = 0; i < count; ++i) {
                        for (int64_t r = 0; r < rows; ++r) {
                            double sum = 0;
                            for (int64_t k = 0; k < depth; ++k)
                                sum += double{x[i * x_row + k]} * w[r * w_row + k];
                            CHECK_CLOSE(y[i * y_row + r], sum, sum_tolerance(depth));
                        }
                        if (i < count - 1) CHECK_EQUAL(y[i * y_row + rows], -7.0f);
                    }
                }
}

TEST(add_windows_adds_where_windows_overlap) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t columns : {1, 5})
            for (int64_t lines : {2, 20})
                for (int64_t length : {int64_t{1}, lanes, 2 * lanes + 3}) {
                    const int64_t rows = 3, row_step = 2, line_step = 3;
                    const int64_t column_step = (length + 2) / 3, apart = 3;
                    const int64_t width = (columns - 1) * column_step + length, pitch = width + 1;
                    const int64_t below = (rows - 1) * row_step + (lines - 1) * line_step;
                    Guarded<float> src(rows * columns * lines * length, side);
                    Guarded<float> dst(below * pitch + width, side);
                    Numbers numbers(static_cast<uint32_t>(length));
                    numbers.fill(src), numbers.fill(dst);
                    src.freeze();
                    std::vector<double> sums(dst.data(), dst.data() + dst.size());
                    for (int64_t at = 0; at < src.size(); ++at) {
                        const int64_t k = at % length, l = at / length % lines;
                        const int64_t j = at / (length * lines) % columns;
                        const int64_t i = at / (length * lines * columns);
                        const int64_t y = i * row_step + l * line_step;
                        sums[static_cast<size_t>(y * pitch + j * column_step + k)] += src[at];
                    }
                    kernels().add_windows({src, rows, columns, lines, length, dst, pitch, row_step,
                                           line_step, column_step, apart});
                    for (int64_t at = 0; at < dst.size(); ++at)
                        CHECK_CLOSE(dst[at], sums[static_cast<size_t>(at)], sum_tolerance(16));
                }
}

TEST(gather_copies_parts_of_rows) {
    const int64_t lanes = kernels().lanes;
    for (Against side : {Against::end, Against::start})
        for (int64_t columns : {int64_t{1}, lanes, 3 * lanes + 2}) {
            const int64_t count = 2, offset = 2, pitch = columns + 1;
            Guarded<float> first(offset + columns, side), second(offset + columns, side);
            Numbers numbers(static_cast<uint32_t>(columns));
            for (Guarded<float>* a : {&first, &second}) numbers.fill(*a), a->freeze();
            const float* rows[] = {first, second};
            Guarded<float> dst(pitch + columns, side);
            dst.fill(-7.0f);
            kernels().gather({rows, count, offset, columns, dst, pitch});
            for (int64_t j = 0; j < columns; ++j) {
                CHECK_EQUAL(dst[j], first[offset + j]);
                CHECK_EQUAL(dst[pitch + j], second[offset + j]);
            }
            CHECK_EQUAL(dst[columns], -7.0f);
        }
}
