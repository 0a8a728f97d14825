// The activations that kernels apply on the way out; the functions are those of
// kernels/eltwise.cpp.
#pragma once

#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

// 1 / d for d of 1 or more: with AVX-512, whose division takes as long as all the rest of a
// sigmoid, an estimate and a step of Newton's method. From 2^126 on, to infinity, 0.
ENGINE_INLINE vf reciprocal_from_one(vf d) {
#if defined(ENGINE_ISA_IS_avx512) || defined(ENGINE_ISA_IS_amx)
    const vf r = _mm512_rcp14_ps(d);
    return select(gt(d, set1(0x1p126f)), zero(), fma(r, fnma(d, r, set1(1.0f)), r));
#else
    return set1(1.0f) / d;
#endif
}
ENGINE_INLINE vf quick_sigmoid(vf x) { return reciprocal_from_one(set1(1.0f) + exp(-x)); }

ENGINE_INLINE vf activate(Activation activation, vf y) {
    switch (activation) {
        case Activation::none: break;
        case Activation::relu: return max(y, zero());
        case Activation::relu6: return min(max(y, zero()), set1(6.0f));
        case Activation::silu: return y * quick_sigmoid(y);
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
            const vf s = quick_sigmoid(z);
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
