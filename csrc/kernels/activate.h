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

// dy * activation'(z); for relu and relu6 z may be the output as well.
ENGINE_INLINE vf activate_backward(Activation activation, vf dy, vf z) {
    switch (activation) {
        case Activation::none: break;
        case Activation::relu: return select(le(z, zero()), zero(), dy);
        case Activation::relu6: return select(and_(gt(z, zero()), lt(z, set1(6.0f))), dy, zero());
        case Activation::silu: {
            const vf s = sigmoid(z);
            return dy * s * fma(z, set1(1.0f) - s, set1(1.0f));
        }
        case Activation::hardswish: {
            const vf middle = dy * fma(z, set1(1.0f / 3.0f), set1(0.5f));
            return select(le(z, set1(-3.0f)), zero(), select(lt(z, set1(3.0f)), middle, dy));
        }
    }
    return dy;
}

}  // namespace ENGINE_ISA
}  // namespace engine
