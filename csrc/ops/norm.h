// Normalisation, forward. See norm_bwd.h for the gradients.
#pragma once

#include <algorithm>

#include "core/array.h"
#include "core/parallel.h"
#include "dispatch/args_gemm.h"

namespace engine {

// A result and the statistics its gradient needs.
struct Normed {
    Array y, mean, invstd;
};
// shift: y before residual and activation is (x - mean) * (invstd * weight) + shift.
struct BatchNormed {
    Array y, mean, invstd, shift;
};

// y = activation(batch_norm(x) + residual), x of rank 2, 3 or 4, channel axis 1; null stands for an
// absent weight, bias or residual. In training the running statistics (null or of shape (C,)) are
// moved towards the batch's by `momentum`, the variance unbiased; otherwise they are what
// normalises. mean, invstd and shift have shape (C,). `out`, unless null, is what y is written to:
// see destination(); it may be the very view that x or the residual is.
BatchNormed batch_norm(const Array& x, const Array* weight, const Array* bias,
                       const Array* running_mean, const Array* running_var, bool training,
                       double momentum, double eps, const Array* residual, Activation activation,
                       const Array* out = nullptr);
// Over the last n_dims logical axes. A dense x whose normalised axes lie innermost in memory is
// worked on where it is and y has its strides. mean and invstd have one entry per row, in the order
// of the rows in x's memory.
Normed layer_norm(const Array& x, int64_t n_dims, const Array* weight, const Array* bias,
                  double eps);
// mean and invstd have shape (N, groups).
Normed group_norm(const Array& x, int64_t groups, const Array* weight, const Array* bias,
                  double eps);
// x of rank 3 or 4. y = x / (k + alpha / size * sum of squares of `size` neighbouring
// channels)^beta
Array local_response_norm(const Array& x, int64_t size, double alpha, double beta, double k);

// An array of rank 2, 3 or 4 seen as pixels of channels: rank 4 (N, C, H, W), channels adjacent,
// `ld` floats from pixel to pixel.
struct ChannelView {
    Array array;
    int64_t images, channels, pixels;  // pixels per image
    int64_t ld;
    float* data() const { return array.f32(); }
};
ChannelView channel_view(const char* op, const char* name, const Array& a);
// A new array to be written as pixels, for a result of this shape; `restore` gives it that shape.
Array new_pixels(const Dims& shape);
Array restore(const Array& pixels, const Dims& shape);

// Rows of `columns` adjacent floats.
struct RowView {
    Array array;  // dense, rows one after another
    int64_t rows, columns;
    bool in_place;  // the memory order is x's own
};
RowView row_view(const char* op, const Array& x, int64_t n_dims);
// A parameter over the last n_dims axes of x, in the memory order of x's rows: columns floats.
Array row_parameter(const char* op, const char* name, const Array& parameter, const Array& x,
                    int64_t n_dims, bool in_place);
// Result rows (dense, like view.array) as an array of x's shape.
Array restore_rows(const Array& rows, const Array& x, const RowView& view);

// Calls map(image, begin, end) for blocks that cover all pixels, [begin, end) counted over all
// images; a block stays within one image where `by_image`, else image is 0. Every thread takes its
// own pixels, those that the pass before visited last first: they are still in its cache.
template <class F>
void each_block_backwards(const ChannelView& x, bool by_image, F map) {
    const int64_t runs = by_image ? x.images : 1, run = by_image ? x.pixels : x.images * x.pixels;
    // Long blocks let memory be read ahead; short ones keep every thread busy on small arrays.
    const int64_t floats =
        std::clamp<int64_t>(x.images * x.pixels * x.channels / 64, 1 << 14, 1 << 17);
    const int64_t size = std::max<int64_t>(1, floats / x.channels);
    const int64_t blocks = (run + size - 1) / size, items = runs * blocks, parts = num_threads();
    parallel_for(items, [&](int64_t first, int64_t last, int) {
        for (int64_t item = first; item < last; ++item) {
            const int64_t part = ((item + 1) * parts - 1) / items;
            const int64_t mirrored = items * part / parts + items * (part + 1) / parts - 1 - item;
            const int64_t image = mirrored / blocks, start = mirrored % blocks * size;
            map(image, image * run + start, image * run + std::min(run, start + size));
        }
    });
}

// Pixels per chunk of channel statistics: depends on the shape alone.
int64_t pixels_per_chunk(int64_t channels);
// Throws unless both have one shape.
void expect_same_shape(const char* op, const char* name, const Array& a, const Array& input);
// Throws unless `parameter` is float32 of shape (size,); gives it back with stride 1.
Array channel_parameter(const char* op, const char* name, const Array& parameter, int64_t size);

}  // namespace engine
