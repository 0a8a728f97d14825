// Elementary functions on vectors. Error at most 4 ulp where the result is a normal number, the
// right limits at 0 and +-infinity, NaN in NaN out. Written once, on the contract of simd.h.
//
// Method: the usual argument reductions with Cody-Waite constants, then polynomials fitted here
// (weighted minimax in the relative error of the function). Steps that need more than float
// precision use pairs (hi, lo) of floats, or doubles for the reduction of sin and cos.
//
//   exp log log1p expm1 tanh sigmoid erf pow sin cos sincos sincos_turns softplus exp2
#pragma once

#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace constants {
constexpr float kInf = __builtin_inff();
constexpr float kNan = __builtin_nanf("");
constexpr float kLog2e = 1.44269504088896341f;
// ln 2 = hi + lo; hi has nine bits, so n * hi is exact for every exponent n.
constexpr float kLn2Hi = 0.693359375f;
constexpr float kLn2Lo = -2.12194440054690583e-4f;
constexpr float kSmallestNormal = 1.17549435e-38f;
}  // namespace constants

// p * 2^n for integer-valued n in -300..300, right into the subnormals and infinity.
ENGINE_INLINE vf scale2(vf p, vf n) {
#if defined(ENGINE_ISA_IS_avx512) || defined(ENGINE_ISA_IS_amx)
    return _mm512_scalef_ps(p, n);
#else
    const vi whole = to_int(n);
    const vi half = whole >> 1;
    return p * pow2i(half) * pow2i(whole - half);
#endif
}

// (e^r - 1 - r) / r^2 for |r| <= ln(2)/2.
ENGINE_INLINE vf exp_tail(vf r) {
    vf q = set1(1.991503232e-04f);
    q = fma(q, r, set1(1.394205960e-03f));
    q = fma(q, r, set1(8.333271369e-03f));
    q = fma(q, r, set1(4.166634008e-02f));
    q = fma(q, r, set1(1.666666716e-01f));
    return fma(q, r, set1(0.5f));
}

ENGINE_INLINE vf exp(vf x) {
    // Past these bounds the result is infinity or zero all the same; a NaN passes the _raw
    // functions.
    x = min_raw(set1(89.f), max_raw(set1(-104.f), x));
    const vf n = round(x * set1(constants::kLog2e));
    vf r = fnma(n, set1(constants::kLn2Hi), x);
    r = fnma(n, set1(constants::kLn2Lo), r);
    vf q = set1(1.381314243e-03f);
    q = fma(q, r, set1(8.369418792e-03f));
    q = fma(q, r, set1(4.166845605e-02f));
    q = fma(q, r, set1(1.666651517e-01f));
    q = fma(q, r, set1(4.999999404e-01f));
    return scale2(fma(q, r * r, r) + set1(1.f), n);
}

// e^x for x <= 0 with results below 2^-126 flushed to zero: cheaper, for softmax and the like.
ENGINE_INLINE vf exp_nonpositive(vf x) {
    x = max_raw(set1(-88.f), x);
    const vf n = round(x * set1(constants::kLog2e));
    vf r = fnma(n, set1(constants::kLn2Hi), x);
    r = fnma(n, set1(constants::kLn2Lo), r);
    vf q = set1(1.381314243e-03f);
    q = fma(q, r, set1(8.369418792e-03f));
    q = fma(q, r, set1(4.166845605e-02f));
    q = fma(q, r, set1(1.666651517e-01f));
    q = fma(q, r, set1(4.999999404e-01f));
    // n = -127 gives the factor 0
    return (fma(q, r * r, r) + set1(1.f)) * pow2i(to_int(n));
}

// 2^r for |r| a little over one half.
ENGINE_INLINE vf exp2_reduced(vf r) {
    vf q = set1(1.531494490e-05f);
    q = fma(q, r, set1(1.546710846e-04f));
    q = fma(q, r, set1(1.333343098e-03f));
    q = fma(q, r, set1(9.618037380e-03f));
    q = fma(q, r, set1(5.550410971e-02f));
    q = fma(q, r, set1(2.402265072e-01f));
    q = fma(q, r, set1(6.931471825e-01f));
    return fma(q, r, set1(1.f));
}

ENGINE_INLINE vf expm1(vf x) {
    const vf clamped = min_raw(set1(89.f), max_raw(set1(-30.f), x));
    const vf n = round(clamped * set1(constants::kLog2e));
    vf r = fnma(n, set1(constants::kLn2Hi), clamped);
    r = fnma(n, set1(constants::kLn2Lo), r);
    const vf p = fma(exp_tail(r), r * r, r);
    // 2^n p + (2^n - 1), halved so that n = 128 does not overflow early
    const vf half = pow2i(to_int(n) - 1);
    const vf y = fma(half, p, half - set1(0.5f));
    return select(eq(n, zero()), p, y + y);
}

// x = m * 2^e with m in [sqrt(1/2), sqrt(2)); subnormals too. Garbage for x <= 0, infinity and NaN.
ENGINE_INLINE vf split_exponent(vf x, vf* e) {
    const vm tiny = lt(x, set1(constants::kSmallestNormal));
    x = select(tiny, x * set1(8388608.f), x);
    const vi offset = as_int(x) - 0x3f3504f3;
    const vi exponent = offset >> 23;
    *e = to_float(exponent) - select(tiny, set1(23.f), zero());
    return as_float(andi(offset, seti(0x007fffff)) + 0x3f3504f3);
}

// Limits of a logarithm: `y` for ordinary x, -inf at 0, NaN below, x itself at +inf and NaN.
ENGINE_INLINE vf log_limits(vf x, vf y) {
    const vm ordinary = and_(gt(x, zero()), lt(x, set1(constants::kInf)));
    const vf special = select(gt(x, zero()), x, set1(constants::kNan));
    return select(ordinary, y, select(eq(x, zero()), set1(-constants::kInf), special));
}

// log of a positive, finite x.
ENGINE_INLINE vf log_ordinary(vf x) {
    vf e;
    const vf f = split_exponent(x, &e) - set1(1.f);
    vf p = set1(-7.859551907e-02f);
    p = fma(p, f, set1(1.288162023e-01f));
    p = fma(p, f, set1(-1.312876344e-01f));
    p = fma(p, f, set1(1.418119669e-01f));
    p = fma(p, f, set1(-1.662455350e-01f));
    p = fma(p, f, set1(2.000228614e-01f));
    p = fma(p, f, set1(-2.500081062e-01f));
    p = fma(p, f, set1(3.333331645e-01f));
    const vf ff = f * f;
    vf low = fma(e, set1(constants::kLn2Lo), p * ff * f);
    low = fnma(set1(0.5f), ff, low);
    return fma(e, set1(constants::kLn2Hi), f + low);
}

ENGINE_INLINE vf log(vf x) { return log_limits(x, log_ordinary(x)); }

ENGINE_INLINE vf log1p(vf x) {
    const vf u = x + set1(1.f);
    // What rounding 1 + x lost; where x is so large that 1 is lost, it is lost in the result too.
    const vf lost = select(lt(x, set1(16777216.f)), x - (u - set1(1.f)), zero());
    return log_limits(u, log_ordinary(u) + lost / u);
}

// log1p for 0 <= x <= 1 (NaN passes).
ENGINE_INLINE vf log1p_unit(vf x) {
    const vf u = x + set1(1.f);
    return log_ordinary(u) + (x - (u - set1(1.f))) / u;
}

ENGINE_INLINE vf tanh(vf x) {
    // with t = e^(-2|x|) - 1: tanh|x| = -t / (t + 2)
    const vf a = max_raw(set1(-20.f), abs(x) * set1(-2.f));
    const vf n = round(a * set1(constants::kLog2e));
    vf r = fnma(n, set1(constants::kLn2Hi), a);
    r = fnma(n, set1(constants::kLn2Lo), r);
    const vf p = fma(exp_tail(r), r * r, r);
    const vf scale = pow2i(to_int(n));
    const vf t = fma(scale, p, scale - set1(1.f));
    // copysign would drop nothing here: |t| carries the NaN
    return copysign(t / (t + set1(2.f)), x);
}

ENGINE_INLINE vf sigmoid(vf x) { return set1(1.f) / (set1(1.f) + exp(-x)); }

ENGINE_INLINE vf erf(vf x) {
    const vf a = min_raw(set1(4.f), abs(x));
    const vf s = x * x;
    vf p = set1(7.889114204e-05f);
    p = fma(p, s, set1(-8.020839887e-04f));
    p = fma(p, s, set1(5.189535208e-03f));
    p = fma(p, s, set1(-2.685444430e-02f));
    p = fma(p, s, set1(1.128360033e-01f));
    p = fma(p, s, set1(-3.761262596e-01f));
    p = fma(p, s, set1(1.283791661e-01f));
    const vf inner = fma(p, x, x);
    // erf(a) = 1 - exp(-a q(a)) from one on
    vf q = set1(1.365923890e-05f);
    q = fma(q, a, set1(-3.474564000e-04f));
    q = fma(q, a, set1(3.744269954e-03f));
    q = fma(q, a, set1(-2.398105711e-02f));
    q = fma(q, a, set1(1.064957902e-01f));
    q = fma(q, a, set1(6.349916458e-01f));
    q = fma(q, a, set1(1.128688574e+00f));
    const vf outer = copysign(set1(1.f) - exp_nonpositive(-(a * q)), x);
    return select(lt(a, set1(1.f)), inner, outer);
}

// log(1 + e^x)
ENGINE_INLINE vf softplus(vf x) { return max(x, zero()) + log1p_unit(exp_nonpositive(-abs(x))); }

// a * b = product + *low exactly (barring underflow).
ENGINE_INLINE vf two_product(vf a, vf b, vf* low) {
    const vf product = a * b;
#if defined(ENGINE_ISA_IS_generic)
    const vf a_hi = as_float(as_int(a) & (int32_t)0xfffff000), a_lo = a - a_hi;
    const vf b_hi = as_float(as_int(b) & (int32_t)0xfffff000), b_lo = b - b_hi;
    *low = ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo;
#else
    *low = fma(a, b, -product);
#endif
    return product;
}

// x^y with C's special cases: log2 |x| and its product with y as pairs of floats, then 2^.
ENGINE_INLINE vf pow(vf x, vf y) {
    const vf one = set1(1.f), inf = set1(constants::kInf);
    const vf ax = abs(x), ay = abs(y);
    vf e;
    const vf f = split_exponent(ax, &e) - one;
    // s = f / (2 + f) as a pair; log m = 2 atanh(s)
    const vf d = f + set1(2.f), d_lo = f - (d - set1(2.f));
    const vf s = f / d;
    vf low;
    const vf product = two_product(s, d, &low);
    const vf s_lo = ((f - product) - low - s * d_lo) / d;
    vf z_lo;
    const vf z = two_product(s, s, &z_lo);
    z_lo = fma(s + s, s_lo, z_lo);
    vf t = set1(2.358998656e-01f);
    t = fma(t, z, set1(2.853691876e-01f));
    t = fma(t, z, set1(4.000034034e-01f));
    t = t * z;
    const vf t_hi = t + set1(6.666666269e-01f), t_lo = t - (t_hi - set1(6.666666269e-01f));
    vf tz_lo;
    const vf tz = two_product(t_hi, z, &tz_lo);
    tz_lo = fma(t_hi, z_lo, fma(t_lo, z, tz_lo));
    const vf two_s = s + s;
    const vf rest = fma(tz, s, fma(tz_lo, s, s_lo + s_lo));
    const vf ln = two_s + rest, ln_lo = rest - (ln - two_s);
    // times log2(e) as a pair, plus the exponent
    constexpr float kLog2eLo = 1.92596299e-8f;
    vf part_lo;
    const vf part = two_product(ln, set1(constants::kLog2e), &part_lo);
    part_lo = fma(ln_lo, set1(constants::kLog2e), fma(ln, set1(kLog2eLo), part_lo));
    const vf lg = e + part, lg_lo = (part - (lg - e)) + part_lo;
    vf power_lo;
    vf power = two_product(y, lg, &power_lo);
    power_lo = fma(y, lg_lo, power_lo);
    // |x| of 0, 1 and infinity
    power = select(eq(ax, zero()), y * -inf, power);
    power = select(eq(ax, inf), y * inf, power);
    power = select(eq(ax, one), zero(), power);
    power_lo = select(and_(lt(abs(power), set1(200.f)), ne(ax, one)), power_lo, zero());
    power = min_raw(set1(200.f), max_raw(set1(-200.f), power));
    const vf n = round(power);
    vf result = scale2(exp2_reduced((power - n) + power_lo), n);
    // the sign of x
    const vm whole = eq(floor(y), y);
    const vm odd =
        and_(and_(whole, lt(ay, set1(16777216.f))), eqi(andi(to_int(y), seti(1)), seti(1)));
    const vm negative = lti(as_int(x), seti(0));
    result = select(and_(negative, odd), -result, result);
    result =
        select(and_(and_(lt(x, zero()), gt(x, -inf)), not_(whole)), set1(constants::kNan), result);
    result = select(or_(is_nan(x), is_nan(y)), x + y, result);
    return select(or_(eq(y, zero()), eq(x, one)), one, result);
}

// sin and cos of r + quadrant * pi/2 for |r| <= pi/4 (a little over is harmless).
ENGINE_INLINE void sincos_quadrant(vf r, vi quadrant, vf* sine, vf* cosine) {
    const vf z = r * r;
    vf s = set1(2.717564712e-06f);
    s = fma(s, z, set1(-1.983925613e-04f));
    s = fma(s, z, set1(8.333329111e-03f));
    s = fma(s, z, set1(-1.666666716e-01f));
    s = fma(s * z, r, r);
    vf c = set1(-2.720331906e-07f);
    c = fma(c, z, set1(2.479943578e-05f));
    c = fma(c, z, set1(-1.388888340e-03f));
    c = fma(c, z, set1(4.166666791e-02f));
    c = fma(c, z * z, fnma(set1(0.5f), z, set1(1.f)));
    const vm swap = eqi(andi(quadrant, seti(1)), seti(1));
    const vi sine_sign = shl<30>(andi(quadrant, seti(2)));
    const vi cosine_sign = shl<30>(andi(quadrant + 1, seti(2)));
    *sine = as_float(xori(as_int(select(swap, c, s)), sine_sign));
    *cosine = as_float(xori(as_int(select(swap, s, c)), cosine_sign));
}

ENGINE_INLINE void sincos(vf x, vf* sine, vf* cosine) {
    constexpr float kLargest = 65536.f;
    const vm small = le(abs(x), set1(kLargest));
    const vf bounded = select(small, x, zero());
    const vf n = round(bounded * set1(0.636619772367581343f));
    // Reduction in double: pi/2 = hi (33 bits, so n * hi is exact) + lo.
    typedef double vd __attribute__((vector_size(VL * 8)));
    typedef float vs __attribute__((vector_size(VL * 4)));
    const vd wide = __builtin_convertvector((vs)bounded, vd);
    const vd turns = __builtin_convertvector((vs)n, vd);
    const vd reduced =
        (wide - turns * 1.57079632673412561417e+00) - turns * 6.07710050650619224932e-11;
    sincos_quadrant((vf) __builtin_convertvector(reduced, vs), to_int(n), sine, cosine);
    if (__builtin_expect(!all(small), 0)) {
        float in[VL], s[VL], c[VL];
        store(in, x);
        store(s, *sine);
        store(c, *cosine);
        for (int i = 0; i < VL; ++i) {
            if (in[i] >= -kLargest && in[i] <= kLargest) continue;
            s[i] = __builtin_sinf(in[i]);
            c[i] = __builtin_cosf(in[i]);
        }
        *sine = load(s);
        *cosine = load(c);
    }
}

ENGINE_INLINE vf sin(vf x) {
    vf s, c;
    sincos(x, &s, &c);
    return s;
}
ENGINE_INLINE vf cos(vf x) {
    vf s, c;
    sincos(x, &s, &c);
    return c;
}
// sin and cos of 2 pi u for 0 <= u <= 1: the reduction is exact.
ENGINE_INLINE void sincos_turns(vf u, vf* sine, vf* cosine) {
    const vf t = u * set1(4.f);
    const vf n = round(t);
    sincos_quadrant((t - n) * set1(1.57079632679489662f), to_int(n), sine, cosine);
}

}  // namespace ENGINE_ISA
}  // namespace engine
