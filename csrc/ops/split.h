// Products on matrix tiles: floats as sums of three bfloat16 (kernels/amx/split.cpp says how).
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/array.h"
#include "ops/gemm.h"

namespace engine {

// The right factor, split and cut into panels of 32 columns. Its depth is that of `taps` pieces,
// each padded to whole steps.
struct SplitFactor {
    int64_t columns, taps, tap_depth;
    std::shared_ptr<Workspace> data;
    int64_t tap_steps() const { return (tap_depth + kSplitDepth - 1) / kSplitDepth; }
    int64_t steps() const { return taps * tap_steps(); }
    int64_t count() const { return (columns + kSplitLines - 1) / kSplitLines; }
    int64_t columns_of(int64_t p) const {
        return std::min<int64_t>(kSplitLines, columns - p * kSplitLines);
    }
    size_t panel_bytes() const { return static_cast<size_t>(steps() * kSplitStep); }
    const char* panel(int64_t p) const {
        return static_cast<const char*>(data->data()) + static_cast<size_t>(p) * panel_bytes();
    }
    bool finite() const;
};

// Whether products are taken to matrix tiles at all: by default where the instruction set has them.
// Elsewhere the same results come slowly; that is for tests.
bool split_products();
void set_split_products(std::optional<bool> on);  // nothing: the default

// The share of a size in panels, or in steps of the depth, that is not padding.
double split_use(int64_t size);
// Whether a product of these sizes is faster on matrix tiles than on vectors; split_once: rows are
// split for all taps together.
bool takes_split(int64_t rows, int64_t columns, int64_t taps, int64_t tap_depth,
                 bool split_once = false);
bool takes_split_transposed(int64_t m, int64_t taps, int64_t columns, int64_t depth);

// Into how many shares each of few items is cut so that all threads have equally much to do. For
// what does not depend on it only: it follows the number of threads.
int64_t equal_shares(int64_t items);

// Number k of tap t of column j is source[taps[t] + k * row + j * column]; row or column is 1.
SplitFactor split_factor(const float* source, const std::vector<int64_t>& taps, int64_t tap_depth,
                         int64_t columns, int64_t row, int64_t column);
// The same, kept with the weight's storage as `pack_weight` keeps panels.
SplitFactor split_weight(const Array& weight, const std::vector<int64_t>& taps, int64_t tap_depth,
                         int64_t columns, int64_t row, int64_t column);

// c[i][j] = epilogue(sum over taps and depth of left * right). False, and c undefined, when a
// factor holds a number that is not finite: its parts would spoil more than it does.
// A prologue takes a single tap.
bool run_split(int64_t rows, const RowPointers& left, const SplitFactor& right, float* c,
               int64_t c_row, const Epilogue& epilogue, const Prologue* prologue = nullptr);

// As transposed_product; a has m columns, b has taps * columns. False as above.
bool run_split_transposed(const RowPointers& a, int64_t m, const RowPointers& b, int64_t taps,
                          int64_t columns, int64_t depth, float* c);

}  // namespace engine
