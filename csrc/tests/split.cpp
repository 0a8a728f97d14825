// Products of numbers split into three parts: every layout, ragged sizes, the epilogue, and an
// error no larger than that of a plain sum in floats.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using namespace engine;

namespace {

// A panel on a cache line, with guard pages close by.
struct Panel {
    explicit Panel(int64_t steps) : memory(steps * kSplitStep, Against::start) {}
    char* data() { return memory.data(); }
    Guarded<char> memory;
};

int64_t steps_of(int64_t depth) { return (depth + kSplitDepth - 1) / kSplitDepth; }

// A factor's numbers: line l, depth k at data[l * depth + k], or the other way round.
struct Factor {
    Factor(int64_t lines, int64_t depth, bool by_depth, uint32_t seed, Against side)
        : lines(lines), depth(depth), by_depth(by_depth), data(lines * depth, side) {
        Numbers(seed).fill(data);
        data.freeze();
        const int64_t length = by_depth ? lines : depth;
        for (int64_t i = 0; i < (by_depth ? depth : lines); ++i)
            rows.push_back(data.data() + i * length);
    }
    double at(int64_t line, int64_t k) const {
        return data[by_depth ? k * lines + line : line * depth + k];
    }
    int64_t lines, depth;
    bool by_depth;
    Guarded<float> data;
    std::vector<const float*> rows;
};

int32_t fill(Factor& f, bool right, char* panel) {
    int32_t spoiled = 0;
    kernels().split({f.rows.data(), f.by_depth ? f.depth : f.lines, f.by_depth ? f.lines : f.depth,
                     f.by_depth, right, panel, &spoiled});
    return spoiled;
}

void check_product(int64_t rows, int64_t columns, int64_t depth, bool left_by_depth,
                   bool right_by_depth, bool accumulate, Against side) {
    engine_test::describe(rows, " rows, ", columns, " columns, depth ", depth);
    Factor a(rows, depth, left_by_depth, 1, side), b(columns, depth, right_by_depth, 2, side);
    const int64_t steps = steps_of(depth), c_row = columns + 3;
    Panel left(steps), right(steps);
    CHECK_EQUAL(fill(a, false, left.data()), 0);
    CHECK_EQUAL(fill(b, true, right.data()), 0);
    Guarded<float> c((rows - 1) * c_row + columns, side);
    Numbers(3).fill(c);
    const std::vector<float> before(c.data(), c.data() + c.size());
    kernels().split_product(
        {left.data(), 0, right.data(), steps, c, c_row, rows, columns, accumulate, nullptr, 0});
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < c_row && i * c_row + j < c.size(); ++j) {
            const int64_t at = i * c_row + j;
            if (j >= columns) {
                CHECK_EQUAL(c[at], before[static_cast<size_t>(at)]);
                continue;
            }
            double sum = accumulate ? before[static_cast<size_t>(at)] : 0.0;
            for (int64_t k = 0; k < depth; ++k) sum += a.at(i, k) * b.at(j, k);
            CHECK_CLOSE(c[at], sum, sum_tolerance(depth));
        }
}

void check_stream(int64_t rows, int64_t columns, int64_t taps, int64_t depth, bool with_epilogue,
                  Against side) {
    engine_test::describe(rows, " rows, ", columns, " columns, ", taps, " taps of depth ", depth);
    const int64_t steps = taps * steps_of(depth);
    const int64_t panels = (columns + kSplitLines - 1) / kSplitLines, c_row = columns + 2;
    std::vector<std::unique_ptr<Factor>> a;
    std::vector<const float*> lines;
    for (int64_t t = 0; t < taps; ++t) {
        a.push_back(std::make_unique<Factor>(rows, depth, false, 10 + t, side));
        lines.insert(lines.end(), a.back()->rows.begin(), a.back()->rows.end());
    }
    Panel left(2 * steps), right(panels * steps);
    std::vector<std::unique_ptr<Factor>> b;  // of panel p, tap t
    for (int64_t p = 0; p < panels; ++p)
        for (int64_t t = 0; t < taps; ++t) {
            const int64_t width = std::min<int64_t>(kSplitLines, columns - p * kSplitLines);
            b.push_back(std::make_unique<Factor>(width, depth, true, 100 + p * 16 + t, side));
            fill(*b.back(), true, right.data() + (p * steps + t * steps_of(depth)) * kSplitStep);
        }
    Guarded<float> c((rows - 1) * c_row + columns, side), bias(columns, side);
    Guarded<float> residual(rows * columns, side);
    for (auto* buffer : {&c, &bias, &residual}) Numbers(4).fill(*buffer);
    int32_t spoiled = 0;
    SplitStreamArgs g{};
    g.lines = lines.data(), g.tap_depth = depth, g.left = left.data(), g.right = right.data();
    g.right_panel = steps * kSplitStep, g.steps = steps, g.c = c, g.c_row = c_row;
    g.rows = rows, g.columns = columns, g.spoiled = &spoiled;
    if (with_epilogue) {
        g.bias = bias, g.residual = residual, g.residual_row = columns;
        g.activation = Activation::relu;
    }
    kernels().split_stream(g);
    CHECK_EQUAL(spoiled, 0);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j) {
            double sum = with_epilogue ? bias[j] + residual[i * columns + j] : 0.0;
            for (int64_t t = 0; t < taps; ++t)
                for (int64_t k = 0; k < depth; ++k)
                    sum +=
                        a[static_cast<size_t>(t)]->at(i, k) *
                        b[static_cast<size_t>(j / kSplitLines * taps + t)]->at(j % kSplitLines, k);
            if (with_epilogue) sum = std::max(sum, 0.0);
            CHECK_CLOSE(c[i * c_row + j], sum, sum_tolerance(taps * depth));
        }
}

// Groups of rows of an image, a step for each of two taps side by side and each 32 of the depth.
void check_cells(int64_t groups, int64_t group_rows, int64_t columns, int64_t depth,
                 bool with_epilogue, Against side) {
    engine_test::describe(groups, " groups of ", group_rows, " rows, ", columns, " columns, depth ",
                          depth);
    constexpr int64_t kTaps = 2;
    const int64_t width = group_rows + kTaps - 1, blocks = steps_of(depth);
    const int64_t cells = groups * blocks * width, part = cells * 64;
    Guarded<float> x(groups * width * depth, side);
    Numbers(6).fill(x);
    x.freeze();
    Guarded<char> split(3 * part, Against::start);
    int32_t spoiled = 0;
    std::vector<int64_t> starts, c_rows, steps;
    for (int64_t i = 0; i < groups; ++i) {
        for (int64_t b = 0; b < blocks; ++b)
            kernels().split_cells({x.data() + i * width * depth + b * kSplitDepth, depth, width,
                                   std::min<int64_t>(kSplitDepth, depth - b * kSplitDepth),
                                   split.data() + (i * blocks + b) * width * 64, part, &spoiled});
        starts.push_back(i * blocks * width * 64);
        c_rows.push_back((groups - 1 - i) * group_rows);  // in any order
    }
    CHECK_EQUAL(spoiled, 0);
    for (int64_t t = 0; t < kTaps; ++t)
        for (int64_t b = 0; b < blocks; ++b) steps.push_back((b * width + t) * 64);
    const int64_t panels = (columns + kSplitLines - 1) / kSplitLines, c_row = columns + 2;
    Panel right(panels * kTaps * blocks);
    std::vector<std::unique_ptr<Factor>> w;  // of panel p, tap t
    for (int64_t p = 0; p < panels; ++p)
        for (int64_t t = 0; t < kTaps; ++t) {
            const int64_t lines = std::min<int64_t>(kSplitLines, columns - p * kSplitLines);
            w.push_back(std::make_unique<Factor>(lines, depth, true, 100 + p * 16 + t, side));
            fill(*w.back(), true, right.data() + (p * kTaps + t) * blocks * kSplitStep);
        }
    const int64_t rows = groups * group_rows;
    Guarded<float> c((rows - 1) * c_row + columns, side), bias(columns, side);
    Guarded<float> residual(rows * columns, side);
    for (auto* buffer : {&c, &bias, &residual}) Numbers(4).fill(*buffer);
    SplitCellsProductArgs g{};
    g.cells = split.data(), g.part = part, g.pitch = 64;
    g.starts = starts.data(), g.c_rows = c_rows.data();
    g.groups = groups, g.group_rows = group_rows;
    g.steps = steps.data(), g.step_count = kTaps * blocks;
    g.right = right.data(), g.right_panel = kTaps * blocks * kSplitStep;
    g.c = c, g.c_row = c_row, g.columns = columns;
    if (with_epilogue) {
        g.bias = bias, g.residual = residual, g.residual_row = columns;
        g.activation = Activation::relu;
    }
    kernels().split_cells_product(g);
    for (int64_t i = 0; i < groups; ++i)
        for (int64_t r = 0; r < group_rows; ++r)
            for (int64_t j = 0; j < columns; ++j) {
                const int64_t row = c_rows[static_cast<size_t>(i)] + r;
                double sum = with_epilogue ? bias[j] + residual[row * columns + j] : 0.0;
                for (int64_t t = 0; t < kTaps; ++t)
                    for (int64_t k = 0; k < depth; ++k)
                        sum += double{x[((i * width) + r + t) * depth + k]} *
                               w[static_cast<size_t>(j / kSplitLines * kTaps + t)]->at(
                                   j % kSplitLines, k);
                if (with_epilogue) sum = std::max(sum, 0.0);
                CHECK_CLOSE(c[row * c_row + j], sum, sum_tolerance(kTaps * depth));
            }
}

}  // namespace

TEST(split_cells_of_groups_and_epilogues) {
    for (Against side : {Against::end, Against::start})
        for (int64_t groups : {1, 2, 5})
            for (int64_t group_rows : {1, 7, 12, 16})
                for (int64_t columns : {9, 32, 70})
                    for (int64_t depth : {3, 32, 45, 960})
                        check_cells(groups, group_rows, columns, depth, columns == 70, side);
}

TEST(split_products_of_ragged_panels) {
    for (Against side : {Against::end, Against::start})
        for (int layout = 0; layout < 4; ++layout)
            for (int64_t depth : {1, 15, 16, 17, 31, 32, 33, 70})
                for (int64_t size : {1, 15, 16, 17, 32})
                    check_product(size, 33 - size, depth, layout & 1, layout & 2, depth % 2, side);
}

TEST(split_streams_of_taps_and_epilogues) {
    for (Against side : {Against::end, Against::start})
        for (int64_t taps : {1, 3})
            for (int64_t depth : {5, 32, 40, 96})
                for (int64_t rows : {1, 33, 64, 97})
                    for (int64_t columns : {7, 32, 65})
                        check_stream(rows, columns, taps, depth, rows % 2 == 0, side);
}

// Sums of positive numbers of all sizes: an error as small as if they had been multiplied exactly
// and added in floats.
TEST(split_keeps_every_bit_of_a_product) {
    constexpr int64_t kDepth = 32;
    Numbers numbers(5);
    Guarded<float> a(32 * kDepth, Against::end), b(32 * kDepth, Against::end),
        c(32 * 32, Against::end);
    for (int64_t i = 0; i < a.size(); ++i) a[i] = numbers.value(1.0f, 2.0f);
    for (int64_t i = 0; i < b.size(); ++i) b[i] = numbers.value(1.0f, 2.0f);
    std::vector<const float*> rows_a, rows_b;
    for (int64_t i = 0; i < 32; ++i) {
        rows_a.push_back(a.data() + i * kDepth);
        rows_b.push_back(b.data() + i * kDepth);
    }
    Panel left(1), right(1);
    int32_t spoiled = 0;
    kernels().split({rows_a.data(), 32, kDepth, false, false, left.data(), &spoiled});
    kernels().split({rows_b.data(), 32, kDepth, false, true, right.data(), &spoiled});
    kernels().split_product({left.data(), 0, right.data(), 1, c, 32, 32, 32, false, nullptr, 0});
    for (int64_t i = 0; i < 32; ++i)
        for (int64_t j = 0; j < 32; ++j) {
            double sum = 0;
            for (int64_t k = 0; k < kDepth; ++k)
                sum += double{a[i * kDepth + k]} * b[j * kDepth + k];
            CHECK_CLOSE(c[i * 32 + j] / sum, 1.0, 6e-7);  // bfloat16 alone: 4e-3, two parts: 8e-6
        }
}

TEST(split_reports_what_is_not_finite) {
    for (float value : {std::nanf(""), -std::nanf(""), INFINITY, -INFINITY, 3.4e38f})
        for (bool by_depth : {false, true})
            for (bool right : {false, true})
                for (int64_t at : {0, 15, 16, 31, 40}) {
                    std::vector<float> numbers(64, 1.0f);
                    numbers[static_cast<size_t>(at)] = value;
                    std::vector<const float*> rows;
                    for (int64_t i = 0; i < (by_depth ? 64 : 1); ++i)
                        rows.push_back(numbers.data() + i);
                    Panel panel(2);
                    int32_t spoiled = 0;
                    kernels().split({rows.data(), by_depth ? 64 : 1, by_depth ? 1 : 64, by_depth,
                                     right, panel.data(), &spoiled});
                    CHECK_EQUAL(spoiled, 1);
                }
    for (float value : {std::nanf(""), INFINITY, 3.4e38f})
        for (int64_t at : {0, 15, 16, 31, 40}) {
            std::vector<float> numbers(64, 1.0f);
            numbers[static_cast<size_t>(at)] = value;
            Panel cells(1);
            int32_t spoiled = 0;
            kernels().split_cells({numbers.data(), 30, 2, 30, cells.data(), 128, &spoiled});
            CHECK_EQUAL(spoiled, 1);
        }
}
