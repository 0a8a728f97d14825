// Products of numbers split into three bfloat16 in plain loops, where a processor has no matrix
// tiles (kernels/amx/split.cpp has them, and the method). Nothing but the tests calls them:
// KernelTable::split_products.
#include "dispatch/args.h"
#include "kernels/activate.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// The nearest bfloat16 as a float.
ENGINE_INLINE float rounded(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x8000) & 0xffff0000u;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

ENGINE_INLINE uint16_t upper_half(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return static_cast<uint16_t>(bits >> 16);
}

// Where number k of line l stands in a panel, in bfloat16 from its start.
ENGINE_INLINE int64_t place(bool right, int64_t line, int64_t k, int part) {
    const int64_t tile = (k / kSplitDepth * kSplitStep + part * kSplitPart + line / 16 * 1024) / 2;
    const int64_t l = line % 16, d = k % kSplitDepth;
    return tile + (right ? d % 16 * 32 + l * 2 + d / 16 : l * 32 + d % 16 * 2 + d / 16);
}

ENGINE_INLINE float number(const char* panel, bool right, int64_t line, int64_t k, int part) {
    const uint32_t bits =
        static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(panel)[place(right, line, k, part)])
        << 16;
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

}  // namespace

namespace {

void split_prepared(const SplitArgs& s, const float* scale, const float* shift, Activation before) {
    auto* panel = static_cast<uint16_t*>(s.panel);
    const int64_t depth = s.by_depth ? s.count : s.length, lines = s.by_depth ? s.length : s.count;
    const int64_t padded = (depth + kSplitDepth - 1) / kSplitDepth * kSplitDepth;
    for (int64_t line = 0; line < kSplitLines; ++line)
        for (int64_t k = 0; k < padded; ++k) {
            float rest = 0.0f;
            if (line < lines && k < depth) {
                rest = s.by_depth ? s.rows[k][s.first + line] : s.rows[line][s.first + k];
                if (scale) store_n(&rest, activate(before, set1(rest * scale[k] + shift[k])), 1);
            }
            for (int part = 0; part < 3; ++part) {
                const float x = rounded(rest);
                if (part == 0 && !(x - x == 0.0f)) *s.spoiled = 1;
                panel[place(s.right, line, k, part)] = upper_half(x);
                rest -= x;
            }
        }
}

}  // namespace

void split(const SplitArgs& s) { split_prepared(s, nullptr, nullptr, Activation::none); }

void split_product(const SplitProductArgs& g) {
    for (int64_t i = 0; i < g.other_count; ++i) split(g.others[i]);
    for (int64_t i = 0; i < g.rows; ++i)
        for (int64_t j = 0; j < g.columns; ++j) {
            const char* left = g.left + i / kSplitLines * g.left_panel;
            float* c = g.c + i * g.c_row + j;
            double sum = g.accumulate ? *c : 0.0f;
            for (int64_t k = 0; k < g.steps * kSplitDepth; ++k)
                for (int p = 0; p < 3; ++p)
                    for (int q = 0; p + q < 3; ++q)
                        sum += double{number(left, false, i % kSplitLines, k, p)} *
                               number(g.right, true, j, k, q);
            *c = static_cast<float>(sum);
        }
}

void split_stream(const SplitStreamArgs& g) {
    const int64_t tap_steps = (g.tap_depth + kSplitDepth - 1) / kSplitDepth;
    for (int64_t row = 0; row < g.rows; row += kSplitLines) {
        const int64_t rows = g.rows - row < kSplitLines ? g.rows - row : kSplitLines;
        for (int64_t s = 0; s < g.steps; s += tap_steps)
            split_prepared({g.lines + s / tap_steps * g.rows + row, rows, g.tap_depth, false, false,
                            g.left + s * kSplitStep, g.spoiled},
                           g.scale, g.shift, g.before);
        float* c = g.c + row * g.c_row;
        for (int64_t j = 0; j < g.columns; j += kSplitLines)
            split_product({g.left, 0, g.right + j / kSplitLines * g.right_panel, g.steps, c + j,
                           g.c_row, rows, g.columns - j < kSplitLines ? g.columns - j : kSplitLines,
                           g.accumulate, nullptr, 0});
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < g.columns; ++j) {
                float y = c[i * g.c_row + j];
                if (g.bias) y += g.bias[j];
                if (g.residual) y += g.residual[(row + i) * g.residual_row + j];
                store_n(c + i * g.c_row + j, activate(g.activation, set1(y)), 1);
            }
    }
}

void split_cells(const SplitCellsArgs& s) {
    for (int64_t i = 0; i < s.count; ++i)
        for (int64_t k = 0; k < kSplitDepth; ++k) {
            float rest = k < s.length ? s.src[i * s.step + k] : 0.0f;
            for (int part = 0; part < 3; ++part) {
                const float x = rounded(rest);
                if (part == 0 && !(x - x == 0.0f)) *s.spoiled = 1;
                char* cell = s.cells + part * s.part + i * 64;
                reinterpret_cast<uint16_t*>(cell)[place(false, 0, k, 0)] = upper_half(x);
                rest -= x;
            }
        }
}

void split_cells_product(const SplitCellsProductArgs& g) {
    for (int64_t i = 0; i < g.groups; ++i)
        for (int64_t r = 0; r < g.group_rows; ++r)
            for (int64_t j = 0; j < g.columns; ++j) {
                const int64_t row = g.c_rows[i] + r;
                const char* right = g.right + j / kSplitLines * g.right_panel;
                double sum = 0;
                for (int64_t s = 0; s < g.step_count; ++s)
                    for (int64_t k = 0; k < kSplitDepth; ++k)
                        for (int p = 0; p < 3; ++p)
                            for (int q = 0; p + q < 3; ++q)
                                sum += double{number(g.cells + g.starts[i] + g.steps[s] +
                                                         p * g.part + r * g.pitch,
                                                     false, 0, k, 0)} *
                                       number(right + s * kSplitStep, true, j % kSplitLines, k, q);
                auto y = static_cast<float>(sum);
                if (g.bias) y += g.bias[j];
                if (g.residual) y += g.residual[row * g.residual_row + j];
                store_n(g.c + row * g.c_row + j, activate(g.activation, set1(y)), 1);
            }
}

}  // namespace ENGINE_ISA
}  // namespace engine
