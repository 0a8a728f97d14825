// The vector contract on GCC/clang vector extensions: four lanes, no intrinsics, any architecture
// (SSE2 on baseline x86-64). See simd.h for the meaning of each function.
#pragma once

#ifndef ENGINE_ISA_IS_generic
#error "simd/generic.h: include simd/simd.h, compiled with -DENGINE_ISA=generic"
#endif

namespace engine {
namespace ENGINE_ISA {

constexpr int VL = 4;
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));
typedef int32_t vm __attribute__((vector_size(16)));  // all bits of a lane set = true

ENGINE_INLINE vf zero() { return vf{0.f, 0.f, 0.f, 0.f}; }
ENGINE_INLINE vf set1(float x) { return vf{x, x, x, x}; }
ENGINE_INLINE vi seti(int32_t x) { return vi{x, x, x, x}; }
ENGINE_INLINE vi iota() { return vi{0, 1, 2, 3}; }

ENGINE_INLINE vf load(const float* p) {
    vf v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}
ENGINE_INLINE void store(float* p, vf v) { __builtin_memcpy(p, &v, sizeof(v)); }
ENGINE_INLINE vi loadi(const int32_t* p) {
    vi v;
    __builtin_memcpy(&v, p, sizeof(v));
    return v;
}
ENGINE_INLINE void storei(int32_t* p, vi v) { __builtin_memcpy(p, &v, sizeof(v)); }

ENGINE_INLINE vf load_n(const float* p, int n) {
    if (n >= 4) return load(p);
    return vf{n > 0 ? p[0] : 0.f, n > 1 ? p[1] : 0.f, n > 2 ? p[2] : 0.f, 0.f};
}
ENGINE_INLINE void store_n(float* p, vf v, int n) {
    if (n >= 4) return store(p, v);
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
}
ENGINE_INLINE vi loadi_n(const int32_t* p, int n) {
    if (n >= 4) return loadi(p);
    return vi{n > 0 ? p[0] : 0, n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0};
}
ENGINE_INLINE void storei_n(int32_t* p, vi v, int n) {
    if (n >= 4) return storei(p, v);
    if (n > 0) p[0] = v[0];
    if (n > 1) p[1] = v[1];
    if (n > 2) p[2] = v[2];
}
ENGINE_INLINE void stream(float* p, vf v) { store(p, v); }
ENGINE_INLINE void stream_fence() {}

ENGINE_INLINE vf as_float(vi v) { return (vf)v; }
ENGINE_INLINE vi as_int(vf v) { return (vi)v; }
ENGINE_INLINE vf to_float(vi v) { return __builtin_convertvector(v, vf); }
ENGINE_INLINE vi to_int(vf v) { return __builtin_convertvector(v, vi); }
template <int k>
ENGINE_INLINE vi shl(vi v) {
    return (vi)((vu)v << k);
}
template <int k>
ENGINE_INLINE vi shr(vi v) {
    return (vi)((vu)v >> k);
}
ENGINE_INLINE vi andi(vi a, vi b) { return a & b; }
ENGINE_INLINE vi ori(vi a, vi b) { return a | b; }
ENGINE_INLINE vi xori(vi a, vi b) { return a ^ b; }

ENGINE_INLINE vf permute(vf v, vi lanes) {
    return vf{v[lanes[0]], v[lanes[1]], v[lanes[2]], v[lanes[3]]};
}
ENGINE_INLINE vf permute2(vf v, vf w, vi lanes) {
    float both[8];
    store(both, v);
    store(both + 4, w);
    return vf{both[lanes[0]], both[lanes[1]], both[lanes[2]], both[lanes[3]]};
}

ENGINE_INLINE vi mul_wide(vi a, uint32_t b, vi* high) {
    const uint64_t p0 = (uint64_t)(uint32_t)a[0] * b, p1 = (uint64_t)(uint32_t)a[1] * b;
    const uint64_t p2 = (uint64_t)(uint32_t)a[2] * b, p3 = (uint64_t)(uint32_t)a[3] * b;
    *high = vi{(int32_t)(p0 >> 32), (int32_t)(p1 >> 32), (int32_t)(p2 >> 32), (int32_t)(p3 >> 32)};
    return vi{(int32_t)p0, (int32_t)p1, (int32_t)p2, (int32_t)p3};
}

ENGINE_INLINE vf load_u8(const uint8_t* p) {
    return vf{(float)p[0], (float)p[1], (float)p[2], (float)p[3]};
}
ENGINE_INLINE vf load_u8_n(const uint8_t* p, int n) {
    return vf{n > 0 ? (float)p[0] : 0.f, n > 1 ? (float)p[1] : 0.f, n > 2 ? (float)p[2] : 0.f,
              n > 3 ? (float)p[3] : 0.f};
}
ENGINE_INLINE vm load_bool(const uint8_t* p) {
    return -vi{p[0] != 0, p[1] != 0, p[2] != 0, p[3] != 0};
}
ENGINE_INLINE vm load_bool_n(const uint8_t* p, int n) {
    return -vi{n > 0 && p[0] != 0, n > 1 && p[1] != 0, n > 2 && p[2] != 0, n > 3 && p[3] != 0};
}
ENGINE_INLINE void store_bool(uint8_t* p, vm m) {
    for (int i = 0; i < 4; ++i) p[i] = (uint8_t)(m[i] & 1);
}
ENGINE_INLINE void store_bool_n(uint8_t* p, vm m, int n) {
    for (int i = 0; i < n; ++i) p[i] = (uint8_t)(m[i] & 1);
}

ENGINE_INLINE vm lt(vf a, vf b) { return (vm)(a < b); }
ENGINE_INLINE vm le(vf a, vf b) { return (vm)(a <= b); }
ENGINE_INLINE vm gt(vf a, vf b) { return (vm)(a > b); }
ENGINE_INLINE vm ge(vf a, vf b) { return (vm)(a >= b); }
ENGINE_INLINE vm eq(vf a, vf b) { return (vm)(a == b); }
ENGINE_INLINE vm ne(vf a, vf b) { return (vm)(a != b); }
ENGINE_INLINE vm is_nan(vf a) { return (vm)(a != a); }
ENGINE_INLINE vm lti(vi a, vi b) { return (vm)(a < b); }
ENGINE_INLINE vm gti(vi a, vi b) { return (vm)(a > b); }
ENGINE_INLINE vm eqi(vi a, vi b) { return (vm)(a == b); }
ENGINE_INLINE vm and_(vm a, vm b) { return a & b; }
ENGINE_INLINE vm or_(vm a, vm b) { return a | b; }
ENGINE_INLINE vm not_(vm a) { return ~a; }
ENGINE_INLINE vm andnot_(vm a, vm b) { return a & ~b; }
ENGINE_INLINE vm first_n(int n) { return lti(iota(), seti(n)); }
ENGINE_INLINE bool any(vm m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
ENGINE_INLINE bool all(vm m) { return (m[0] & m[1] & m[2] & m[3]) != 0; }
ENGINE_INLINE vf select(vm m, vf a, vf b) { return (vf)((m & (vi)a) | (~m & (vi)b)); }
ENGINE_INLINE vi select(vm m, vi a, vi b) { return (m & a) | (~m & b); }

ENGINE_INLINE vf fma(vf a, vf b, vf c) { return a * b + c; }
ENGINE_INLINE vf fnma(vf a, vf b, vf c) { return c - a * b; }
ENGINE_INLINE vf min_raw(vf a, vf b) { return select(lt(a, b), a, b); }
ENGINE_INLINE vf max_raw(vf a, vf b) { return select(gt(a, b), a, b); }
ENGINE_INLINE vf min(vf a, vf b) { return select(or_(lt(a, b), is_nan(a)), a, b); }
ENGINE_INLINE vf max(vf a, vf b) { return select(or_(gt(a, b), is_nan(a)), a, b); }
ENGINE_INLINE vf abs(vf v) { return (vf)((vi)v & 0x7fffffff); }
ENGINE_INLINE vf copysign(vf magnitude, vf sign) {
    return (vf)(((vi)magnitude & 0x7fffffff) | ((vi)sign & (vi)set1(-0.f)));
}
ENGINE_INLINE vf sqrt(vf v) {
    return vf{__builtin_sqrtf(v[0]), __builtin_sqrtf(v[1]), __builtin_sqrtf(v[2]),
              __builtin_sqrtf(v[3])};
}
// Adding and subtracting 2^23 leaves no fraction bits; larger magnitudes (and NaN) have none.
ENGINE_INLINE vf round(vf v) {
    const vf magic = copysign(set1(8388608.f), v);
    const vf rounded = copysign((v + magic) - magic, v);
    return select(lt(abs(v), set1(8388608.f)), rounded, v);
}
ENGINE_INLINE vf floor(vf v) {
    const vf r = round(v);
    return select(gt(r, v), r - set1(1.f), r);
}
ENGINE_INLINE vf ceil(vf v) {
    const vf r = round(v);
    return select(lt(r, v), copysign(r + set1(1.f), v), r);
}
ENGINE_INLINE vf trunc(vf v) { return copysign(floor(abs(v)), v); }
ENGINE_INLINE vf pow2i(vi n) { return as_float(shl<23>(n + 127)); }

ENGINE_INLINE float reduce_add(vf v) { return (v[0] + v[2]) + (v[1] + v[3]); }
ENGINE_INLINE float reduce_max(vf v) {
    const vf w = max(v, vf{v[2], v[3], v[0], v[1]});
    return max(w, vf{w[1], w[0], w[3], w[2]})[0];
}
ENGINE_INLINE float reduce_min(vf v) {
    const vf w = min(v, vf{v[2], v[3], v[0], v[1]});
    return min(w, vf{w[1], w[0], w[3], w[2]})[0];
}

}  // namespace ENGINE_ISA
}  // namespace engine
