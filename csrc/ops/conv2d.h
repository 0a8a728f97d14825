// Two-dimensional convolution, forward. Its gradients stand in conv2d_bwd.cpp.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/array.h"
#include "ops/gemm.h"

namespace engine {

// A convolution problem. Shape letters as everywhere in csrc (see csrc/README.md).
struct Conv {
    int64_t n, ic, ih, iw;
    int64_t oc, oh, ow;
    int64_t kh, kw;
    int64_t stride_h, stride_w;
    int64_t pad_top, pad_bottom, pad_left, pad_right;
    int64_t dilation_h, dilation_w;
    int64_t groups;
    int64_t group_ic() const { return ic / groups; }
    int64_t group_oc() const { return oc / groups; }
};

// Checks everything and infers the output size; the messages name `op`. stride (h, w); padding
// (top, bottom, left, right); dilation (h, w).
Conv make_conv(const char* op, const Dims& x, const Dims& w, const Dims& stride,
               const Dims& padding, const Dims& dilation, int64_t groups);

// What a convolution does to its source before anything else: activation(x * scale + shift), per
// input channel. Padding stays zero.
struct ChannelMap {
    const Array *scale, *shift;
    Activation activation;
};
// activation(conv(prologue(x), w) * scale + bias + residual); scale and bias are per output
// channel, the residual has the output's shape, `out` is what the result is written to (see
// destination()); all of them and the prologue may be null.
Array conv2d(const Array& x, const Array& w, const Array* bias, const Dims& stride,
             const Dims& padding, const Dims& dilation, int64_t groups,
             const Array* residual = nullptr, Activation activation = Activation::none,
             const Array* scale = nullptr, const ChannelMap* prologue = nullptr,
             const Array* out = nullptr);
Array conv2d_backward_data(const Array& dy, const Array& w, const Dims& x_shape, const Dims& stride,
                           const Dims& padding, const Dims& dilation, int64_t groups);
std::pair<Array, std::optional<Array>> conv2d_backward_weight(
    const Array& dy, const Array& x, const Dims& w_shape, const Dims& stride, const Dims& padding,
    const Dims& dilation, int64_t groups, bool with_bias);

// Shared by forward and backward.
// Adds the residual and activates in a pass of its own, for algorithms that cannot on the way out;
// before that scales and adds the bias where there is a scale.
void finish_output(const Epilogue& epilogue, const Array& y, const float* scale = nullptr);
// Copies rows [row, row + rows) and columns [column, column + columns) of one image (h x w pixels
// of `channels` floats, `pixel` floats apart) to dst, densely, through the prologue unless it is
// null; what lies outside the image is zero.
void copy_strip(const float* image, int64_t pixel, int64_t channels, int64_t h, int64_t w,
                int64_t row, int64_t rows, int64_t column, int64_t columns, float* dst,
                const Prologue* prologue = nullptr);
// Calls put(image, y, x) for `count` positions of a grid from number `first` on.
template <class Put>
void walk_pixels(int64_t first, int64_t count, int64_t height, int64_t width, Put&& put) {
    int64_t n = first / (height * width), y = first / width % height, x = first % width;
    for (int64_t i = 0; i < count; ++i) {
        put(n, y, x);
        if (++x == width) x = 0, ++y;
        if (y == height) y = 0, ++n;
    }
}
// A grid of products of pixels with taps: position (y, x) of the grid meets source position
// (y * stride_h + taps[t].first, x * stride_w + taps[t].second), and from there `window` pixels to
// the right, through tap t.
struct TapGrid {
    const float* src;
    int64_t pixel;  // floats from pixel to pixel
    const Prologue* prologue;
    int64_t n, h, w, channels;
    int64_t height, width;  // of the grid
    int64_t stride_h, stride_w;
    int64_t window;
    std::vector<std::pair<int64_t, int64_t>> taps;
};
// Of the forward direction: a tap for each element of the kernel, or for each of its rows, which is
// a window then.
TapGrid forward_grid(const Conv& conv, const Array& x, const Prologue* prologue, bool whole_rows);
// The rows and the first column that taps start at, the pixels that a line of the grid reaches
// over, and whether all are inside the source.
struct TapBounds {
    int64_t top, bottom, left, line_pixels;
    bool inside;
};
TapBounds tap_bounds(const TapGrid& grid);
// A stride of s splits the input into s x s interleaved grids; on each, the gradient is a plain
// convolution of dy with the taps that reach it: input position (row + y * stride_h, column + x *
// stride_w) belongs to position (y, x) of the grid, tap t is element kernel[t] of a filter's
// plane. Taps ascend, row by row; a phase that the kernel does not reach has none.
struct GradientPhase {
    int64_t row, column;
    TapGrid grid;
    std::vector<int64_t> kernel;
};
std::vector<GradientPhase> gradient_phases(const Conv& conv, const Array& dy);
// Where output pixels meet the input through a tap; outside the image that is `zeros`.
RowPointers source_pixels(const Conv& conv, const float* src, int64_t pixel, const float* zeros);
// What pixels outside the image are read from.
struct ZeroPixel {
    explicit ZeroPixel(int64_t channels);
    Workspace data;
};
// How the output rows are split for a sum whose parts are added up in order: enough parts for
// several threads, never dependent on how many threads there are.
int64_t reduction_parts(const Conv& conv, int64_t partial_floats);
std::string declines_nothing(const Conv& conv);

}  // namespace engine
