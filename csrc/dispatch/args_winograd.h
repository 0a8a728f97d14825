// Arguments of the kernels in csrc/kernels/winograd.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/args_gemm.h"

namespace engine {

// One tile's input: dst[e * plane + c] = (B^T d B)[e], d the 6 x 6 pixels at `pixels` (row by row).
struct WinogradInputArgs {
    const float* const* pixels;  // 36 pointers; a pointer to zeros stands for padding
    int64_t channels;
    float* dst;
    int64_t plane;
};

// One filter: dst[e * plane + c] = (G g G^T)[e], g[kh][kw] at src + (kh * 3 + kw) * src_plane;
// `turned` by 180 degrees for the input gradient.
struct WinogradWeightArgs {
    const float* src;
    int64_t src_plane;
    int64_t channels;
    bool turned;
    float* dst;
    int64_t plane;
};

// One tile's output: dst pixels = activation(A^T m A + bias + residual), m[e] at src + e * plane.
// Only the first rows x columns pixels of the 4 x 4 are stored.
struct WinogradOutputArgs {
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
};

// One tile of the output's gradient: dst[e * plane + c] = (A g A^T)[e], g the 4 x 4 pixels at
// `pixels`.
struct WinogradGradientArgs {
    const float* const* pixels;  // 16 pointers; a pointer to zeros stands for what lies outside
    int64_t channels;
    float* dst;
    int64_t plane;
};

// A filter's gradient: dst[k * dst_plane + c] = (G^T m G)[k], m[e] at src + e * plane.
struct WinogradFilterArgs {
    const float* src;
    int64_t plane;
    int64_t channels;
    float* dst;
    int64_t dst_plane;
};

}  // namespace engine
