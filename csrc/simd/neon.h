// The vector contract on AArch64 Advanced SIMD: four lanes. See simd.h for the meaning of each
// function.
#pragma once

#ifndef ENGINE_ISA_IS_neon
#error "simd/neon.h: include simd/simd.h, compiled with -DENGINE_ISA=neon"
#endif
#if !defined(__aarch64__) || !defined(__ARM_NEON)
#error "simd/neon.h: needs AArch64 with Advanced SIMD"
#endif

#include <arm_neon.h>

namespace engine {
namespace ENGINE_ISA {

constexpr int VL = 4;
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32x4_t vm;  // all bits of a lane set = true

ENGINE_INLINE vf zero() { return vdupq_n_f32(0.f); }
ENGINE_INLINE vf set1(float x) { return vdupq_n_f32(x); }
ENGINE_INLINE vi seti(int32_t x) { return vdupq_n_s32(x); }
ENGINE_INLINE vi iota() { return vi{0, 1, 2, 3}; }

ENGINE_INLINE vm lti(vi a, vi b) { return vcltq_s32(a, b); }
ENGINE_INLINE vm gti(vi a, vi b) { return vcgtq_s32(a, b); }
ENGINE_INLINE vm eqi(vi a, vi b) { return vceqq_s32(a, b); }
ENGINE_INLINE vm first_n(int n) { return lti(iota(), seti(n)); }

ENGINE_INLINE vf load(const float* p) { return vld1q_f32(p); }
ENGINE_INLINE void store(float* p, vf v) { vst1q_f32(p, v); }
ENGINE_INLINE vi loadi(const int32_t* p) { return vld1q_s32(p); }
ENGINE_INLINE void storei(int32_t* p, vi v) { vst1q_s32(p, v); }
ENGINE_INLINE vf load_n(const float* p, int n) {
    if (n >= 4) return load(p);
    vf v = zero();
    if (n > 0) v = vld1q_lane_f32(p, v, 0);
    if (n > 1) v = vld1q_lane_f32(p + 1, v, 1);
    if (n > 2) v = vld1q_lane_f32(p + 2, v, 2);
    return v;
}
ENGINE_INLINE void store_n(float* p, vf v, int n) {
    if (n >= 4) return store(p, v);
    if (n > 0) vst1q_lane_f32(p, v, 0);
    if (n > 1) vst1q_lane_f32(p + 1, v, 1);
    if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}
ENGINE_INLINE vi loadi_n(const int32_t* p, int n) {
    if (n >= 4) return loadi(p);
    vi v = seti(0);
    if (n > 0) v = vld1q_lane_s32(p, v, 0);
    if (n > 1) v = vld1q_lane_s32(p + 1, v, 1);
    if (n > 2) v = vld1q_lane_s32(p + 2, v, 2);
    return v;
}
ENGINE_INLINE void storei_n(int32_t* p, vi v, int n) {
    if (n >= 4) return storei(p, v);
    if (n > 0) vst1q_lane_s32(p, v, 0);
    if (n > 1) vst1q_lane_s32(p + 1, v, 1);
    if (n > 2) vst1q_lane_s32(p + 2, v, 2);
}
ENGINE_INLINE void stream(float* p, vf v) { store(p, v); }
ENGINE_INLINE void stream_fence() {}

ENGINE_INLINE vf as_float(vi v) { return vreinterpretq_f32_s32(v); }
ENGINE_INLINE vi as_int(vf v) { return vreinterpretq_s32_f32(v); }
ENGINE_INLINE vf to_float(vi v) { return vcvtq_f32_s32(v); }
ENGINE_INLINE vi to_int(vf v) { return vcvtq_s32_f32(v); }
template <int k>
ENGINE_INLINE vi shl(vi v) {
    return vshlq_n_s32(v, k);
}
template <int k>
ENGINE_INLINE vi shr(vi v) {
    return vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(v), k));
}
ENGINE_INLINE vi andi(vi a, vi b) { return vandq_s32(a, b); }
ENGINE_INLINE vi ori(vi a, vi b) { return vorrq_s32(a, b); }
ENGINE_INLINE vi xori(vi a, vi b) { return veorq_s32(a, b); }

ENGINE_INLINE vf permute(vf v, vi lanes) {
    return vf{v[lanes[0]], v[lanes[1]], v[lanes[2]], v[lanes[3]]};
}
ENGINE_INLINE vf permute2(vf v, vf w, vi lanes) {
    const uint8x16x2_t both = {{vreinterpretq_u8_f32(v), vreinterpretq_u8_f32(w)}};
    const int32x4_t bytes = vmlaq_n_s32(vdupq_n_s32(0x03020100), lanes, 0x04040404);
    return vreinterpretq_f32_u8(vqtbl2q_u8(both, vreinterpretq_u8_s32(bytes)));
}

ENGINE_INLINE vi mul_wide(vi a, uint32_t b, vi* high) {
    const uint32x4_t u = vreinterpretq_u32_s32(a);
    const uint32x4_t low = vreinterpretq_u32_u64(vmull_n_u32(vget_low_u32(u), b));
    const uint32x4_t top = vreinterpretq_u32_u64(vmull_n_u32(vget_high_u32(u), b));
    *high = vreinterpretq_s32_u32(vuzp2q_u32(low, top));
    return vreinterpretq_s32_u32(vuzp1q_u32(low, top));
}

ENGINE_INLINE uint32x4_t load_bytes_n(const uint8_t* p, int n) {
    return uint32x4_t{n > 0 ? p[0] : 0u, n > 1 ? p[1] : 0u, n > 2 ? p[2] : 0u, n > 3 ? p[3] : 0u};
}
ENGINE_INLINE uint32x4_t load_bytes(const uint8_t* p) {
    uint32_t bytes;
    __builtin_memcpy(&bytes, p, 4);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bytes)))));
}
ENGINE_INLINE vf load_u8(const uint8_t* p) { return vcvtq_f32_u32(load_bytes(p)); }
ENGINE_INLINE vf load_u8_n(const uint8_t* p, int n) { return vcvtq_f32_u32(load_bytes_n(p, n)); }
ENGINE_INLINE vm load_bool(const uint8_t* p) {
    const uint32x4_t bytes = load_bytes(p);
    return vtstq_u32(bytes, bytes);
}
ENGINE_INLINE vm load_bool_n(const uint8_t* p, int n) {
    const uint32x4_t bytes = load_bytes_n(p, n);
    return vtstq_u32(bytes, bytes);
}
ENGINE_INLINE void store_bool(uint8_t* p, vm m) {
    const uint16x4_t halves = vmovn_u32(vshrq_n_u32(m, 31));
    const uint32_t bytes =
        vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
    __builtin_memcpy(p, &bytes, 4);
}
ENGINE_INLINE void store_bool_n(uint8_t* p, vm m, int n) {
    if (n > 0) p[0] = (uint8_t)(m[0] & 1u);
    if (n > 1) p[1] = (uint8_t)(m[1] & 1u);
    if (n > 2) p[2] = (uint8_t)(m[2] & 1u);
    if (n > 3) p[3] = (uint8_t)(m[3] & 1u);
}

ENGINE_INLINE vm lt(vf a, vf b) { return vcltq_f32(a, b); }
ENGINE_INLINE vm le(vf a, vf b) { return vcleq_f32(a, b); }
ENGINE_INLINE vm gt(vf a, vf b) { return vcgtq_f32(a, b); }
ENGINE_INLINE vm ge(vf a, vf b) { return vcgeq_f32(a, b); }
ENGINE_INLINE vm eq(vf a, vf b) { return vceqq_f32(a, b); }
ENGINE_INLINE vm ne(vf a, vf b) { return vmvnq_u32(vceqq_f32(a, b)); }
ENGINE_INLINE vm is_nan(vf a) { return vmvnq_u32(vceqq_f32(a, a)); }
ENGINE_INLINE vm and_(vm a, vm b) { return vandq_u32(a, b); }
ENGINE_INLINE vm or_(vm a, vm b) { return vorrq_u32(a, b); }
ENGINE_INLINE vm not_(vm a) { return vmvnq_u32(a); }
ENGINE_INLINE vm andnot_(vm a, vm b) { return vbicq_u32(a, b); }
ENGINE_INLINE bool any(vm m) { return vmaxvq_u32(m) != 0; }
ENGINE_INLINE bool all(vm m) { return vminvq_u32(m) != 0; }
ENGINE_INLINE vf select(vm m, vf a, vf b) { return vbslq_f32(m, a, b); }
ENGINE_INLINE vi select(vm m, vi a, vi b) { return vbslq_s32(m, a, b); }

ENGINE_INLINE vf fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
ENGINE_INLINE vf fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
ENGINE_INLINE vf min_raw(vf a, vf b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
ENGINE_INLINE vf max_raw(vf a, vf b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
ENGINE_INLINE vf min(vf a, vf b) { return vminq_f32(a, b); }
ENGINE_INLINE vf max(vf a, vf b) { return vmaxq_f32(a, b); }
ENGINE_INLINE vf abs(vf v) { return vabsq_f32(v); }
ENGINE_INLINE vf copysign(vf magnitude, vf sign) {
    return vbslq_f32(vdupq_n_u32(0x80000000u), sign, magnitude);
}
ENGINE_INLINE vf sqrt(vf v) { return vsqrtq_f32(v); }
ENGINE_INLINE vf round(vf v) { return vrndnq_f32(v); }
ENGINE_INLINE vf floor(vf v) { return vrndmq_f32(v); }
ENGINE_INLINE vf ceil(vf v) { return vrndpq_f32(v); }
ENGINE_INLINE vf trunc(vf v) { return vrndq_f32(v); }
ENGINE_INLINE vf pow2i(vi n) { return as_float(shl<23>(n + 127)); }

ENGINE_INLINE float reduce_add(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
ENGINE_INLINE float reduce_max(vf v) { return vmaxvq_f32(v); }
ENGINE_INLINE float reduce_min(vf v) { return vminvq_f32(v); }

}  // namespace ENGINE_ISA
}  // namespace engine
