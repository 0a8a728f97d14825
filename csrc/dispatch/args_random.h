// Arguments of the kernels in csrc/kernels/random.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {

// dst[i] for i in 0..n is the value of element `first + i` of the stream (seed, offset).
struct RandomArgs {
    enum Kind : int32_t {
        uniform,  // a + u (b - a), at most `largest`
        normal,   // a + b z
        keep,     // 0 with probability p, else `scale`
        dropout,  // src[i] times that
    };
    Kind kind;
    const float* src;
    float* dst;
    int64_t first, n;
    uint64_t seed, offset;
    float a, b, largest;
    int32_t drop_below;  // p * 2^24, rounded up
    float scale;
};

}  // namespace engine
