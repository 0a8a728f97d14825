// The vector contract on AVX2 + FMA: eight lanes. See simd.h for the meaning of each function.
#pragma once

#ifndef ENGINE_ISA_IS_avx2
#error "simd/avx2.h: include simd/simd.h, compiled with -DENGINE_ISA=avx2"
#endif
#if !defined(__AVX2__) || !defined(__FMA__)
#error "simd/avx2.h: compile with -mavx2 -mfma"
#endif

#include <immintrin.h>

namespace engine {
namespace ENGINE_ISA {

constexpr int VL = 8;
typedef __m256 vf;
typedef int32_t vi __attribute__((vector_size(32)));
typedef vi vm;  // all bits of a lane set = true

ENGINE_INLINE vf zero() { return _mm256_setzero_ps(); }
ENGINE_INLINE vf set1(float x) { return _mm256_set1_ps(x); }
ENGINE_INLINE vi seti(int32_t x) { return (vi)_mm256_set1_epi32(x); }
ENGINE_INLINE vi iota() { return vi{0, 1, 2, 3, 4, 5, 6, 7}; }

ENGINE_INLINE vm lti(vi a, vi b) { return (vm)_mm256_cmpgt_epi32((__m256i)b, (__m256i)a); }
ENGINE_INLINE vm gti(vi a, vi b) { return (vm)_mm256_cmpgt_epi32((__m256i)a, (__m256i)b); }
ENGINE_INLINE vm eqi(vi a, vi b) { return (vm)_mm256_cmpeq_epi32((__m256i)a, (__m256i)b); }
ENGINE_INLINE vm first_n(int n) { return lti(iota(), seti(n)); }

ENGINE_INLINE vf load(const float* p) { return _mm256_loadu_ps(p); }
ENGINE_INLINE void store(float* p, vf v) { _mm256_storeu_ps(p, v); }
ENGINE_INLINE vf load_n(const float* p, int n) {
    return _mm256_maskload_ps(p, (__m256i)first_n(n));
}
ENGINE_INLINE void store_n(float* p, vf v, int n) {
    _mm256_maskstore_ps(p, (__m256i)first_n(n), v);
}
ENGINE_INLINE vi loadi(const int32_t* p) { return (vi)_mm256_loadu_si256((const __m256i*)p); }
ENGINE_INLINE void storei(int32_t* p, vi v) { _mm256_storeu_si256((__m256i*)p, (__m256i)v); }
ENGINE_INLINE vi loadi_n(const int32_t* p, int n) {
    return (vi)_mm256_maskload_epi32((const int*)p, (__m256i)first_n(n));
}
ENGINE_INLINE void storei_n(int32_t* p, vi v, int n) {
    _mm256_maskstore_epi32((int*)p, (__m256i)first_n(n), (__m256i)v);
}
ENGINE_INLINE void stream(float* p, vf v) { _mm256_stream_ps(p, v); }
ENGINE_INLINE void stream_fence() { _mm_sfence(); }

ENGINE_INLINE vf as_float(vi v) { return _mm256_castsi256_ps((__m256i)v); }
ENGINE_INLINE vi as_int(vf v) { return (vi)_mm256_castps_si256(v); }
ENGINE_INLINE vf to_float(vi v) { return _mm256_cvtepi32_ps((__m256i)v); }
ENGINE_INLINE vi to_int(vf v) { return (vi)_mm256_cvttps_epi32(v); }
template <int k>
ENGINE_INLINE vi shl(vi v) {
    return (vi)_mm256_slli_epi32((__m256i)v, k);
}
template <int k>
ENGINE_INLINE vi shr(vi v) {
    return (vi)_mm256_srli_epi32((__m256i)v, k);
}
ENGINE_INLINE vi andi(vi a, vi b) { return a & b; }
ENGINE_INLINE vi ori(vi a, vi b) { return a | b; }
ENGINE_INLINE vi xori(vi a, vi b) { return a ^ b; }

ENGINE_INLINE vf permute(vf v, vi lanes) { return _mm256_permutevar8x32_ps(v, (__m256i)lanes); }
// Both permutations look at the low three bits; the fourth, made the sign, chooses between them.
ENGINE_INLINE vf permute2(vf v, vf w, vi lanes) {
    const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32((__m256i)lanes, 28));
    return _mm256_blendv_ps(permute(v, lanes), permute(w, lanes), second);
}

ENGINE_INLINE vi mul_wide(vi a, uint32_t b, vi* high) {
    const __m256i factor = _mm256_set1_epi32((int)b);
    const __m256i even = _mm256_mul_epu32((__m256i)a, factor);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), factor);
    *high = (vi)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return (vi)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

// Up to eight bytes in the low half of a register; a partial read touches only its own bytes.
ENGINE_INLINE __m128i load_bytes(const uint8_t* p) { return _mm_loadl_epi64((const __m128i*)p); }
ENGINE_INLINE __m128i load_bytes_n(const uint8_t* p, int n) {
    if (n >= 8) return load_bytes(p);
    uint64_t bytes = 0;
    for (int i = 0; i < n; ++i) bytes |= (uint64_t)p[i] << (8 * i);
    return _mm_cvtsi64_si128((long long)bytes);
}
ENGINE_INLINE vf load_u8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_bytes(p)));
}
ENGINE_INLINE vf load_u8_n(const uint8_t* p, int n) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(load_bytes_n(p, n)));
}
ENGINE_INLINE vm load_bool(const uint8_t* p) {
    return gti((vi)_mm256_cvtepu8_epi32(load_bytes(p)), seti(0));
}
ENGINE_INLINE vm load_bool_n(const uint8_t* p, int n) {
    return gti((vi)_mm256_cvtepu8_epi32(load_bytes_n(p, n)), seti(0));
}
ENGINE_INLINE uint64_t mask_bytes(vm m) {
    const __m256i ones = _mm256_srli_epi32((__m256i)m, 31);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(ones), _mm256_extracti128_si256(ones, 1));
    return (uint64_t)_mm_cvtsi128_si64(_mm_packs_epi16(words, words));
}
ENGINE_INLINE void store_bool(uint8_t* p, vm m) {
    const uint64_t bytes = mask_bytes(m);
    __builtin_memcpy(p, &bytes, 8);
}
ENGINE_INLINE void store_bool_n(uint8_t* p, vm m, int n) {
    const uint64_t bytes = mask_bytes(m);
    for (int i = 0; i < n; ++i) p[i] = (uint8_t)(bytes >> (8 * i));
}

ENGINE_INLINE vm lt(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_LT_OQ)); }
ENGINE_INLINE vm le(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_LE_OQ)); }
ENGINE_INLINE vm gt(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
ENGINE_INLINE vm ge(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
ENGINE_INLINE vm eq(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
ENGINE_INLINE vm ne(vf a, vf b) { return as_int(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ)); }
ENGINE_INLINE vm is_nan(vf a) { return as_int(_mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
ENGINE_INLINE vm and_(vm a, vm b) { return a & b; }
ENGINE_INLINE vm or_(vm a, vm b) { return a | b; }
ENGINE_INLINE vm not_(vm a) { return ~a; }
ENGINE_INLINE vm andnot_(vm a, vm b) { return a & ~b; }
ENGINE_INLINE bool any(vm m) { return _mm256_movemask_ps(as_float(m)) != 0; }
ENGINE_INLINE bool all(vm m) { return _mm256_movemask_ps(as_float(m)) == 0xff; }
ENGINE_INLINE vf select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, as_float(m)); }
ENGINE_INLINE vi select(vm m, vi a, vi b) {
    return (vi)_mm256_blendv_epi8((__m256i)b, (__m256i)a, (__m256i)m);
}

ENGINE_INLINE vf fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
ENGINE_INLINE vf fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
ENGINE_INLINE vf min_raw(vf a, vf b) { return _mm256_min_ps(a, b); }
ENGINE_INLINE vf max_raw(vf a, vf b) { return _mm256_max_ps(a, b); }
ENGINE_INLINE vf min(vf a, vf b) { return select(is_nan(a), a, _mm256_min_ps(a, b)); }
ENGINE_INLINE vf max(vf a, vf b) { return select(is_nan(a), a, _mm256_max_ps(a, b)); }
ENGINE_INLINE vf abs(vf v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), v); }
ENGINE_INLINE vf copysign(vf magnitude, vf sign) {
    const vf bit = _mm256_set1_ps(-0.f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, magnitude), _mm256_and_ps(bit, sign));
}
ENGINE_INLINE vf sqrt(vf v) { return _mm256_sqrt_ps(v); }
ENGINE_INLINE vf round(vf v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
ENGINE_INLINE vf floor(vf v) { return _mm256_floor_ps(v); }
ENGINE_INLINE vf ceil(vf v) { return _mm256_ceil_ps(v); }
ENGINE_INLINE vf trunc(vf v) { return _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
ENGINE_INLINE vf pow2i(vi n) { return as_float(shl<23>(n + 127)); }

ENGINE_INLINE float reduce_add(vf v) {
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
ENGINE_INLINE float reduce_max(vf v) {
    vf w = max(v, _mm256_permute2f128_ps(v, v, 1));
    w = max(w, _mm256_permute_ps(w, 0x4e));
    w = max(w, _mm256_permute_ps(w, 0xb1));
    return _mm256_cvtss_f32(w);
}
ENGINE_INLINE float reduce_min(vf v) {
    vf w = min(v, _mm256_permute2f128_ps(v, v, 1));
    w = min(w, _mm256_permute_ps(w, 0x4e));
    w = min(w, _mm256_permute_ps(w, 0xb1));
    return _mm256_cvtss_f32(w);
}

}  // namespace ENGINE_ISA
}  // namespace engine
