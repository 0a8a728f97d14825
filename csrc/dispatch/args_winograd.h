// Arguments of the kernels in csrc/kernels/winograd.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/args_gemm.h"

namespace engine {

// THE list of forms: name, algorithm, then for rows and for columns the outputs of a tile and the
// taps of a filter. Names: outputs, then taps, both as rows x columns. F(m, r) reads m + r - 1
// pixels. FORM(with, ...) is expanded for each; `with` is handed through.
#define ENGINE_WINOGRAD_FORMS(FORM, with)            \
    FORM(with, f4x4_3x3, "winograd", 4, 3, 4, 3)     \
    FORM(with, f2x2_3x3, "winograd_2x2", 2, 3, 2, 3) \
    FORM(with, f2x2_5x5, "winograd_5x5", 2, 5, 2, 5) \
    FORM(with, f1x4_1x3, "winograd_1x3", 1, 1, 4, 3) \
    FORM(with, f4x1_3x1, "winograd_3x1", 4, 3, 1, 1) \
    FORM(with, f1x4_1x7, "winograd_1x7", 1, 1, 4, 7) \
    FORM(with, f4x1_7x1, "winograd_7x1", 4, 7, 1, 1)

#define ENGINE_NAME(with, name, ...) name,
enum class WinogradForm : int32_t { ENGINE_WINOGRAD_FORMS(ENGINE_NAME, ) };
#undef ENGINE_NAME

// One tile's input: dst[e * plane + c] = (B^T d B)[e], d the pixels of the tile (row by row).
struct WinogradInputArgs {
    WinogradForm form;
    const float* const* pixels;  // a pointer to zeros stands for padding
    int64_t channels;
    float* dst;
    int64_t plane;
};

// One filter: dst[e * plane + c] = (G g G^T)[e], tap k (row by row) at src + k * src_plane;
// `turned` by 180 degrees for the input gradient.
struct WinogradWeightArgs {
    WinogradForm form;
    const float* src;
    int64_t src_plane;
    int64_t channels;
    bool turned;
    float* dst;
    int64_t plane;
};

// One tile's output: dst pixels = activation(A^T m A + bias + residual), m[e] at src + e * plane.
// Only the first rows x columns pixels of the tile are stored.
struct WinogradOutputArgs {
    WinogradForm form;
    const float* src;
    int64_t plane;
    int64_t channels;
    const float* bias;      // or null
    const float* residual;  // or null; pixels of the output tile
    int64_t residual_pixel, residual_row;
    Activation activation;
    float* dst;
    int64_t dst_pixel, dst_row;
    int32_t rows, columns;
    // Set to 1 when a result is not finite: the transforms spread one bad pixel over its whole
    // tile.
    int32_t* spoiled;
    // Written past the caches, whole cache lines; fence: visible to all threads on return.
    bool stream = false, fence = false;
};

// One tile of the output's gradient: dst[e * plane + c] = (A g A^T)[e], g the tile's pixels.
struct WinogradGradientArgs {
    WinogradForm form;
    const float* const* pixels;  // a pointer to zeros stands for what lies outside
    int64_t channels;
    float* dst;
    int64_t plane;
};

// A filter's gradient: dst[k * dst_plane + c] = (G^T m G)[k], m[e] at src + e * plane.
struct WinogradFilterArgs {
    WinogradForm form;
    const float* src;
    int64_t plane;
    int64_t channels;
    float* dst;
    int64_t dst_plane;
};

}  // namespace engine
