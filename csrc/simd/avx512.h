// The vector contract on AVX-512 F+BW+VL+DQ+CD: sixteen lanes, masks in mask registers.
// See simd.h for the meaning of each function.
#pragma once

#if !defined(ENGINE_ISA_IS_avx512) && !defined(ENGINE_ISA_IS_amx)
#error "simd/avx512.h: include simd/simd.h, compiled with -DENGINE_ISA=avx512"
#endif
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__) || \
    !defined(__AVX512DQ__) || !defined(__AVX512CD__)
#error "simd/avx512.h: compile with -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd"
#endif

#include <immintrin.h>

namespace engine {
namespace ENGINE_ISA {

constexpr int VL = 16;
typedef __m512 vf;
typedef int32_t vi __attribute__((vector_size(64)));
typedef __mmask16 vm;

ENGINE_INLINE vf zero() { return _mm512_setzero_ps(); }
ENGINE_INLINE vf set1(float x) { return _mm512_set1_ps(x); }
ENGINE_INLINE vi seti(int32_t x) { return (vi)_mm512_set1_epi32(x); }
ENGINE_INLINE vi iota() { return vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}; }

ENGINE_INLINE vm lti(vi a, vi b) { return _mm512_cmplt_epi32_mask((__m512i)a, (__m512i)b); }
ENGINE_INLINE vm gti(vi a, vi b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
ENGINE_INLINE vm eqi(vi a, vi b) { return _mm512_cmpeq_epi32_mask((__m512i)a, (__m512i)b); }
ENGINE_INLINE vm first_n(int n) { return (vm)((1u << n) - 1u); }

ENGINE_INLINE vf load(const float* p) { return _mm512_loadu_ps(p); }
ENGINE_INLINE void store(float* p, vf v) { _mm512_storeu_ps(p, v); }
ENGINE_INLINE vf load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_n(n), p); }
ENGINE_INLINE void store_n(float* p, vf v, int n) { _mm512_mask_storeu_ps(p, first_n(n), v); }
ENGINE_INLINE vi loadi(const int32_t* p) { return (vi)_mm512_loadu_si512(p); }
ENGINE_INLINE void storei(int32_t* p, vi v) { _mm512_storeu_si512(p, (__m512i)v); }
ENGINE_INLINE vi loadi_n(const int32_t* p, int n) {
    return (vi)_mm512_maskz_loadu_epi32(first_n(n), p);
}
ENGINE_INLINE void storei_n(int32_t* p, vi v, int n) {
    _mm512_mask_storeu_epi32(p, first_n(n), (__m512i)v);
}
ENGINE_INLINE void stream(float* p, vf v) { _mm512_stream_ps(p, v); }
ENGINE_INLINE void stream_fence() { _mm_sfence(); }

ENGINE_INLINE vf as_float(vi v) { return _mm512_castsi512_ps((__m512i)v); }
ENGINE_INLINE vi as_int(vf v) { return (vi)_mm512_castps_si512(v); }
ENGINE_INLINE vf to_float(vi v) { return _mm512_cvtepi32_ps((__m512i)v); }
ENGINE_INLINE vi to_int(vf v) { return (vi)_mm512_cvttps_epi32(v); }
template <int k>
ENGINE_INLINE vi shl(vi v) {
    return (vi)_mm512_slli_epi32((__m512i)v, k);
}
template <int k>
ENGINE_INLINE vi shr(vi v) {
    return (vi)_mm512_srli_epi32((__m512i)v, k);
}
ENGINE_INLINE vi andi(vi a, vi b) { return a & b; }
ENGINE_INLINE vi ori(vi a, vi b) { return a | b; }
ENGINE_INLINE vi xori(vi a, vi b) { return a ^ b; }

ENGINE_INLINE vf permute(vf v, vi lanes) { return _mm512_permutexvar_ps((__m512i)lanes, v); }
ENGINE_INLINE vf permute2(vf v, vf w, vi lanes) {
    return _mm512_permutex2var_ps(v, (__m512i)lanes, w);
}

ENGINE_INLINE vi mul_wide(vi a, uint32_t b, vi* high) {
    const __m512i factor = _mm512_set1_epi32((int)b);
    const __m512i even = _mm512_mul_epu32((__m512i)a, factor);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
    *high = (vi)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return (vi)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

ENGINE_INLINE __m128i load_bytes(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
ENGINE_INLINE __m128i load_bytes_n(const uint8_t* p, int n) {
    return _mm_maskz_loadu_epi8(first_n(n), p);
}
ENGINE_INLINE vf load_u8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_bytes(p)));
}
ENGINE_INLINE vf load_u8_n(const uint8_t* p, int n) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_bytes_n(p, n)));
}
ENGINE_INLINE vm load_bool(const uint8_t* p) {
    const __m128i bytes = load_bytes(p);
    return _mm_test_epi8_mask(bytes, bytes);
}
ENGINE_INLINE vm load_bool_n(const uint8_t* p, int n) {
    const __m128i bytes = load_bytes_n(p, n);
    return _mm_test_epi8_mask(bytes, bytes);
}
ENGINE_INLINE void store_bool(uint8_t* p, vm m) {
    _mm_storeu_si128((__m128i*)p, _mm_maskz_set1_epi8(m, 1));
}
ENGINE_INLINE void store_bool_n(uint8_t* p, vm m, int n) {
    _mm_mask_storeu_epi8(p, first_n(n), _mm_maskz_set1_epi8(m, 1));
}

ENGINE_INLINE vm lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
ENGINE_INLINE vm le(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
ENGINE_INLINE vm gt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
ENGINE_INLINE vm ge(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
ENGINE_INLINE vm eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
ENGINE_INLINE vm ne(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
ENGINE_INLINE vm is_nan(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
ENGINE_INLINE vm and_(vm a, vm b) { return (vm)(a & b); }
ENGINE_INLINE vm or_(vm a, vm b) { return (vm)(a | b); }
ENGINE_INLINE vm not_(vm a) { return (vm)~a; }
ENGINE_INLINE vm andnot_(vm a, vm b) { return (vm)(a & ~b); }
ENGINE_INLINE bool any(vm m) { return m != 0; }
ENGINE_INLINE bool all(vm m) { return m == 0xffff; }
ENGINE_INLINE vf select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
ENGINE_INLINE vi select(vm m, vi a, vi b) {
    return (vi)_mm512_mask_blend_epi32(m, (__m512i)b, (__m512i)a);
}

ENGINE_INLINE vf fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
ENGINE_INLINE vf fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
ENGINE_INLINE vf min_raw(vf a, vf b) { return _mm512_min_ps(a, b); }
ENGINE_INLINE vf max_raw(vf a, vf b) { return _mm512_max_ps(a, b); }
// The instruction returns b when either is NaN; lanes whose a is NaN keep a.
ENGINE_INLINE vf min(vf a, vf b) {
    return _mm512_mask_min_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b);
}
ENGINE_INLINE vf max(vf a, vf b) {
    return _mm512_mask_max_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b);
}
ENGINE_INLINE vf abs(vf v) { return _mm512_abs_ps(v); }
ENGINE_INLINE vf copysign(vf magnitude, vf sign) {
    // 0xd8: bit ? sign : magnitude, the bit from the third operand
    return as_float((vi)_mm512_ternarylogic_epi32((__m512i)as_int(magnitude), (__m512i)as_int(sign),
                                                  _mm512_set1_epi32((int)0x80000000u), 0xd8));
}
ENGINE_INLINE vf sqrt(vf v) { return _mm512_sqrt_ps(v); }
ENGINE_INLINE vf round(vf v) { return _mm512_roundscale_ps(v, 0x08); }
ENGINE_INLINE vf floor(vf v) { return _mm512_roundscale_ps(v, 0x09); }
ENGINE_INLINE vf ceil(vf v) { return _mm512_roundscale_ps(v, 0x0a); }
ENGINE_INLINE vf trunc(vf v) { return _mm512_roundscale_ps(v, 0x0b); }
ENGINE_INLINE vf pow2i(vi n) { return as_float(shl<23>(n + 127)); }

ENGINE_INLINE float reduce_add(vf v) {
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 a = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}
ENGINE_INLINE float reduce_max(vf v) {
    vf w = max(v, _mm512_shuffle_f32x4(v, v, 0x4e));
    w = max(w, _mm512_shuffle_f32x4(w, w, 0xb1));
    w = max(w, _mm512_permute_ps(w, 0x4e));
    w = max(w, _mm512_permute_ps(w, 0xb1));
    return _mm512_cvtss_f32(w);
}
ENGINE_INLINE float reduce_min(vf v) {
    vf w = min(v, _mm512_shuffle_f32x4(v, v, 0x4e));
    w = min(w, _mm512_shuffle_f32x4(w, w, 0xb1));
    w = min(w, _mm512_permute_ps(w, 0x4e));
    w = min(w, _mm512_permute_ps(w, 0xb1));
    return _mm512_cvtss_f32(w);
}

}  // namespace ENGINE_ISA
}  // namespace engine
