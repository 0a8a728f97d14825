// The activations that kernels apply on the way out; the values are those of kernels/eltwise.cpp.
#pragma once

#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

ENGINE_INLINE vf activate(Activation activation, vf y) {
    switch (activation) {
        case Activation::none: break;
        case Activation::relu: return max(y, zero());
        case Activation::relu6: return min(max(y, zero()), set1(6.0f));
        case Activation::silu: return y * sigmoid(y);
        case Activation::hardswish:
            return y * min(set1(6.0f), max(zero(), y + set1(3.0f))) * set1(1.0f / 6.0f);
    }
    return y;
}

}  // namespace ENGINE_ISA
}  // namespace engine
