// Matrix products and fully connected layers.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/array.h"
#include "dispatch/table.h"

namespace engine {

// The second operand of a product, cut into panels of a few vectors of columns: panel p holds rows
// of width(p) floats (zeros beyond the last column) at offset p * rows * full_width().
struct Panels {
    int64_t rows, columns;
    int lanes, vectors;  // of a full panel
    enum class Tiles { tall, wide, three };
    Panels(int64_t rows, int64_t columns, Tiles tiles = Tiles::tall);
    // For a left factor that comes in lines of so many rows.
    static Tiles tiles_of_lines(int64_t length);
    int64_t full_width() const { return static_cast<int64_t>(lanes) * vectors; }
    int64_t count() const { return (columns + full_width() - 1) / full_width(); }
    int64_t columns_of(int64_t p) const;
    int vectors_of(int64_t p) const {
        return static_cast<int>((columns_of(p) + lanes - 1) / lanes);
    }
    int64_t width(int64_t p) const { return static_cast<int64_t>(lanes) * vectors_of(p); }
    int64_t offset(int64_t p) const { return p * rows * full_width(); }
    size_t bytes() const {
        return static_cast<size_t>(rows * count() * full_width()) * sizeof(float);
    }
};

// C = A * B on the calling thread; A's rows are as long as B has rows.
void multiply_panels(const float* a, int64_t a_row, int64_t rows, const Panels& panels,
                     const float* packed, float* c, int64_t c_row);

// Element (q, j) of the operand is source[q * row + j * column].
std::shared_ptr<Workspace> pack_panels(const Panels& panels, const float* source, int64_t row,
                                       int64_t column);
// The same, kept with the weight's storage until the weight is written to. `tag` tells apart
// different packings of one weight.
std::shared_ptr<Workspace> pack_weight(const Array& weight, const Panels& panels, int64_t row,
                                       int64_t column, uint64_t tag);

// What is done to results on their way out: y = activation(y + bias + residual).
struct Epilogue {
    const float* bias = nullptr;      // per column (output channel)
    const float* residual = nullptr;  // row i at residual + i * residual_row
    int64_t residual_row = 0;
    Activation activation = Activation::none;
    // Whether tiles apply it to what they hold; other activations run over what is stored.
    bool in_registers() const { return activation <= Activation::relu6; }
    // The same for rows and columns from (row, column) on.
    Epilogue at(int64_t row, int64_t column) const {
        return {bias ? bias + column : nullptr,
                residual ? residual + row * residual_row + column : nullptr, residual_row,
                activation};
    }
};

// "none", "relu", "relu6", "silu" or "hardswish"; anything else is an Error(value) that names `op`.
Activation parse_activation(const char* op, const std::string& name);

// What is done to a source on its way in: x = activation(x * scale + shift), per channel.
struct Prologue {
    const float *scale, *shift, *zeros;  // channels each; zeros are what the kernel takes as means
    Activation activation;
    // `pixels` of `channels` floats, `src_ld` apart, to `dst`, densely.
    void apply(const float* src, int64_t src_ld, int64_t channels, int64_t pixels,
               float* dst) const;
};

// What every product shares.
struct Product {
    int64_t rows, columns, depth;
    const float* a;
    int64_t a_row, a_depth;
    float* c;
    int64_t c_row;
    Epilogue epilogue;
    const Prologue* prologue = nullptr;  // on rows of a, which then are adjacent floats
};
void run_product(const Product& product, const Panels& panels, const float* packed);
// With a weight as the second operand: element (q, j) is number q * row + j * column of it. Its
// packing is kept as `pack_weight` keeps it.
void run_product(const Product& product, const Array& weight, int64_t row, int64_t column,
                 uint64_t tag);

// Fills `pointers` with where the numbers of rows [first, first + count) of tap `tap` stand, side
// by side.
using RowPointers =
    std::function<void(int64_t tap, int64_t first, int64_t count, const float** pointers)>;

// Two matrices with equally many rows: of a they lie `row` floats apart, those of b are made of
// `taps` pieces of `columns` floats each, which lie anywhere.
struct LeftRows {
    const float* data;
    int64_t columns, row;
};
struct RightRows {
    RowPointers pointers;
    int64_t taps, columns;
    static RightRows dense(const float* data, int64_t columns, int64_t row);
};
// c[m][n] = sum over p < depth of a[p][m] * b[p][n], dense; sums[m] = sum of a[p][m] unless null.
// The reduction is split by the shapes alone.
void transposed_product(const LeftRows& a, const RightRows& b, int64_t depth, float* c,
                        float* sums);
// The same, never on matrix tiles.
void transposed_product_on_vectors(const LeftRows& a, const RightRows& b, int64_t depth, float* c,
                                   float* sums);

// Rank >= 2 on both sides; leading axes broadcast. trans_* swaps the last two axes.
Array matmul(const Array& a, const Array& b, bool trans_a, bool trans_b);
// x (..., K), w (O, K), bias (O) or null -> activation(x w^T + bias) (..., O).
Array linear(const Array& x, const Array& w, const Array* bias,
             Activation activation = Activation::none);
Array linear_backward_data(const Array& dy, const Array& w);
// -> dw (O, K) and, if asked, dbias (O).
std::pair<Array, std::optional<Array>> linear_backward_weight(const Array& dy, const Array& x,
                                                              bool with_bias);

// sums[j] = sum over rows of source[i * row + j]; split over fixed chunks of rows, added in order.
void column_sums(const float* source, int64_t row, int64_t rows, int64_t columns, float* sums);

}  // namespace engine
