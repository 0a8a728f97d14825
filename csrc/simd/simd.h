// The vector contract: what every ISA header provides, and the choice of one of them.
//
// The build compiles each file of csrc/kernels once per ISA with -DENGINE_ISA=<name> and
// -DENGINE_ISA_IS_<name>=1. Everything lives in namespace engine::ENGINE_ISA and is static and
// always inlined: an inline function with external linkage, compiled under -mavx512f, would become
// a weak symbol that the linker may hand to every other object.
//
// Types      VL lanes; vf float vector, vi int32 vector (both with + - * and unary -; vf also /,
//            vi also & | ^ and ==-free arithmetic; comparisons go through the functions below);
//            vm mask. vi and vm may be the same type, so overloads never tell them apart.
// Memory     load(p) store(p, v)           no alignment required
//            load_n(p, n) store_n(p, v, n) n in 0..VL lanes, the rest reads as 0 / stays untouched
//            loadi loadi_n storei storei_n the same for int32
//            load_u8(p) load_u8_n(p, n)    bytes 0..255 to float
//            load_bool load_bool_n         bytes to mask (non-zero = true)
//            store_bool store_bool_n       mask to bytes 0 / 1
//            stream(p, v)                  non-temporal, p aligned to the vector; stream_fence()
// Values     zero() set1(f) seti(i) iota() {0, 1, 2, ...}
// Arithmetic fma(a, b, c) = a*b + c        fnma(a, b, c) = c - a*b   (two roundings on generic)
//            min max                       NaN in either operand wins, as in torch
//            min_raw(a, b) = a < b ? a : b  max_raw(a, b) = a > b ? a : b   one instruction on x86;
//                                          so max_raw(limit, x) keeps a NaN in x
//            sqrt abs floor ceil trunc round (nearest, ties to even) copysign(magnitude, sign)
// Compare    lt le gt ge eq ne is_nan (ordered except ne) -> vm;  lti gti eqi on vi -> vm
// Masks      and_ or_ not_ andnot_(a, b) = a and not b;  first_n(n);  any(m) all(m)
//            select(m, a, b) = m ? a : b   for vf and vi
// Integers   to_float(vi) to_int(vf, truncating; unspecified beyond int32) as_int as_float
//            shl<k> shr<k> (logical) andi ori xori
//            mul_wide(a, b, &high): low (returned) and high halves of the unsigned product with b
//            permute(v, lanes): lane i of the result is lane lanes[i] of the vf v
//            permute2(v, w, lanes): the same with v as lanes 0..VL-1 and w as lanes VL..2*VL-1
//            pow2i(n) = 2^n for n in -126..127 (below and above: unspecified)
// Reductions reduce_add reduce_max reduce_min -> float, in a fixed order; NaN wins in max and min
#pragma once

#include <cstddef>
#include <cstdint>

#ifndef ENGINE_ISA
#error "simd.h: compile with -DENGINE_ISA=<generic|avx2|avx512|amx|neon>"
#endif

#define ENGINE_INLINE static inline __attribute__((always_inline))

#if defined(ENGINE_ISA_IS_generic)
#include "simd/generic.h"
#elif defined(ENGINE_ISA_IS_avx2)
#include "simd/avx2.h"
#elif defined(ENGINE_ISA_IS_avx512) || defined(ENGINE_ISA_IS_amx)
#include "simd/avx512.h"
#elif defined(ENGINE_ISA_IS_neon)
#include "simd/neon.h"
#else
#error "simd.h: compile with -DENGINE_ISA_IS_<name>=1 beside -DENGINE_ISA=<name>"
#endif

namespace engine {
namespace ENGINE_ISA {

// The end of a run: how many of a vector's lanes are left, and loads and stores that take the plain
// instruction when all of them are.
ENGINE_INLINE int lanes_left(int64_t left) {
    return left < VL ? static_cast<int>(left) : static_cast<int>(VL);
}
ENGINE_INLINE vf load_some(const float* p, int n) { return n == VL ? load(p) : load_n(p, n); }
ENGINE_INLINE void store_some(float* p, vf v, int n) {
    if (n == VL)
        store(p, v);
    else
        store_n(p, v, n);
}

}  // namespace ENGINE_ISA
}  // namespace engine
