// Elementwise operations.
//
// Formula   dst[i] = f(src[i]);  dx[i] = dy[i] * f'(x[i]), from x or from y as ENGINE_UNARY_OPS
// says Layout    rows of contiguous elements, operands of a row contiguous (step 1) or one value
// (step 0);
//           layout of the array does not matter here, the op hands out runs
// Method    one vector per iteration, masked tail; one FORWARD and one BACKWARD line per operation
// Registers the constants of the polynomials (up to 20) plus a few; memory-bound for the cheap ones
#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

ENGINE_INLINE void put(float* p, vf v, bool streamed) {
    if (streamed)
        stream(p, v);
    else
        store(p, v);
}
ENGINE_INLINE void put_n(float* p, vf v, int n) { store_n(p, v, n); }
ENGINE_INLINE void put(uint8_t* p, vm m, bool) { store_bool(p, m); }
ENGINE_INLINE void put_n(uint8_t* p, vm m, int n) { store_bool_n(p, m, n); }

// Brings the cache line about two kilobytes further on: the processor itself stops at the end of a
// page.
ENGINE_INLINE void fetch(const float* p, int64_t i) {
    constexpr int64_t kAhead = 512;
    if (i % 16 == 0) __builtin_prefetch(p + i + kAhead);
}

// Result types of the lists.
typedef float result_f32;
typedef uint8_t result_b8;

// ---- unary ----

#define FORWARD(name)                                                                \
    ENGINE_INLINE auto name##_forward([[maybe_unused]] vf x, [[maybe_unused]] vf p0, \
                                      [[maybe_unused]] vf p1)
// The parameter after dy is what the list says the gradient needs. Which side a NaN and the corners
// fall on is torch's choice.
#define BACKWARD(name, saved)                                                           \
    ENGINE_INLINE vf name##_backward([[maybe_unused]] vf dy, [[maybe_unused]] vf saved, \
                                     [[maybe_unused]] vf p0, [[maybe_unused]] vf p1)

FORWARD(relu) { return max_raw(zero(), x); }
BACKWARD(relu, y) { return select(le(y, zero()), zero(), dy); }

FORWARD(relu6) { return min_raw(set1(6.f), max_raw(zero(), x)); }
BACKWARD(relu6, y) { return select(and_(gt(y, zero()), lt(y, set1(6.f))), dy, zero()); }

FORWARD(leaky_relu) { return select(gt(x, zero()), x, x * p0); }
BACKWARD(leaky_relu, x) { return select(gt(x, zero()), dy, dy * p0); }

FORWARD(elu) { return select(gt(x, zero()), x, p0 * expm1(x)); }
BACKWARD(elu, x) { return select(le(x, zero()), dy * p0 * exp(x), dy); }

constexpr float kSeluScale = 1.0507009873554804934f;
constexpr float kSeluScaleAlpha = 1.7580993408473768599f;
FORWARD(selu) {
    return select(gt(x, zero()), x * set1(kSeluScale), set1(kSeluScaleAlpha) * expm1(x));
}
BACKWARD(selu, y) {
    return dy * select(le(y, zero()), y + set1(kSeluScaleAlpha), set1(kSeluScale));
}

// Share of the standard normal distribution below x.
ENGINE_INLINE vf normal_cdf(vf x) {
    return set1(0.5f) * (set1(1.f) + erf(x * set1(0.70710678118654752f)));
}
FORWARD(gelu) { return x * normal_cdf(x); }
BACKWARD(gelu, x) {
    const vf density = set1(0.39894228040143268f) * exp_nonpositive(set1(-0.5f) * x * x);
    return dy * fma(x, density, normal_cdf(x));
}

// (1 + tanh u) / 2 = sigmoid(2u), which keeps its digits where tanh u is near -1.
constexpr float kGeluSlope = 1.59576912160573071f;  // 2 sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;
FORWARD(gelu_tanh) { return x * sigmoid(set1(kGeluSlope) * fma(set1(kGeluCubic) * x * x, x, x)); }
BACKWARD(gelu_tanh, x) {
    const vf xx = x * x;
    const vf s = sigmoid(set1(kGeluSlope) * fma(set1(kGeluCubic) * xx, x, x));
    const vf slope = set1(kGeluSlope) * fma(set1(3.f * kGeluCubic), xx, set1(1.f));
    return dy * s * fma(x * (set1(1.f) - s), slope, set1(1.f));
}

FORWARD(silu) { return x / (set1(1.f) + exp(-x)); }
BACKWARD(silu, x) {
    const vf s = sigmoid(x);
    return dy * s * fma(x, set1(1.f) - s, set1(1.f));
}

// tanh(softplus(x)) = e(e + 2) / (e(e + 2) + 2) with e = exp(x); 1 in float from 20 on.
ENGINE_INLINE vf tanh_softplus(vf x) {
    const vf e = exp(min_raw(set1(20.f), x));
    const vf n = e * (e + set1(2.f));
    return n / (n + set1(2.f));
}
FORWARD(mish) { return x * tanh_softplus(x); }
BACKWARD(mish, x) {
    const vf t = tanh_softplus(x);
    return dy * fma(x * sigmoid(x), fnma(t, t, set1(1.f)), t);
}

FORWARD(sigmoid) { return sigmoid(x); }
BACKWARD(sigmoid, y) { return dy * y * (set1(1.f) - y); }

FORWARD(tanh) { return tanh(x); }
BACKWARD(tanh, y) { return dy * fnma(y, y, set1(1.f)); }

FORWARD(softplus) {
    const vf scaled = x * p0;
    return select(gt(scaled, p1), x, softplus(scaled) / p0);
}
BACKWARD(softplus, x) {
    const vf scaled = x * p0;
    return select(gt(scaled, p1), dy, dy * sigmoid(scaled));
}

FORWARD(hardtanh) { return min_raw(p1, max_raw(p0, x)); }
BACKWARD(hardtanh, x) { return select(and_(gt(x, p0), lt(x, p1)), dy, zero()); }

FORWARD(hardswish) {
    return x * min_raw(set1(6.f), max_raw(zero(), x + set1(3.f))) * set1(1.f / 6.f);
}
BACKWARD(hardswish, x) {
    const vf middle = dy * fma(x, set1(1.f / 3.f), set1(0.5f));
    return select(le(x, set1(-3.f)), zero(), select(lt(x, set1(3.f)), middle, dy));
}

FORWARD(hardsigmoid) {
    return min_raw(set1(6.f), max_raw(zero(), x + set1(3.f))) * set1(1.f / 6.f);
}
BACKWARD(hardsigmoid, x) {
    const vm inside = and_(gt(x, set1(-3.f)), lt(x, set1(3.f)));
    return select(inside, dy * set1(1.f / 6.f), zero());
}

FORWARD(logsigmoid) { return -softplus(-x); }
BACKWARD(logsigmoid, x) { return dy * sigmoid(-x); }

FORWARD(softsign) { return x / (set1(1.f) + abs(x)); }
BACKWARD(softsign, x) {
    const vf d = set1(1.f) + abs(x);
    return dy / (d * d);
}

FORWARD(neg) { return -x; }
BACKWARD(neg, nothing) { return -dy; }

ENGINE_INLINE vf sign_of(vf x) {
    const vf negative = select(lt(x, zero()), set1(-1.f), zero());
    return select(gt(x, zero()), set1(1.f), negative);
}
FORWARD(abs) { return abs(x); }
BACKWARD(abs, x) { return dy * sign_of(x); }

FORWARD(exp) { return exp(x); }
BACKWARD(exp, y) { return dy * y; }

FORWARD(log) { return log(x); }
BACKWARD(log, x) { return dy / x; }

FORWARD(log1p) { return log1p(x); }
BACKWARD(log1p, x) { return dy / (x + set1(1.f)); }

FORWARD(expm1) { return expm1(x); }
BACKWARD(expm1, y) { return dy * (y + set1(1.f)); }

FORWARD(sqrt) { return sqrt(x); }
BACKWARD(sqrt, y) { return dy / (y + y); }

FORWARD(rsqrt) { return set1(1.f) / sqrt(x); }
BACKWARD(rsqrt, y) { return set1(-0.5f) * dy * y * y * y; }

FORWARD(square) { return x * x; }
BACKWARD(square, x) { return dy * (x + x); }

FORWARD(reciprocal) { return set1(1.f) / x; }
BACKWARD(reciprocal, y) { return -dy * y * y; }

FORWARD(sin) { return sin(x); }
BACKWARD(sin, x) { return dy * cos(x); }

FORWARD(cos) { return cos(x); }
BACKWARD(cos, x) { return -dy * sin(x); }

FORWARD(erf) { return erf(x); }
BACKWARD(erf, x) { return dy * set1(1.12837916709551257f) * exp_nonpositive(-(x * x)); }

FORWARD(sign) { return sign_of(x); }
BACKWARD(sign, nothing) { return zero(); }

FORWARD(floor) { return floor(x); }
BACKWARD(floor, nothing) { return zero(); }

FORWARD(ceil) { return ceil(x); }
BACKWARD(ceil, nothing) { return zero(); }

FORWARD(round) { return round(x); }
BACKWARD(round, nothing) { return zero(); }

FORWARD(clamp) { return min_raw(p1, max_raw(p0, x)); }
BACKWARD(clamp, x) { return select(and_(ge(x, p0), le(x, p1)), dy, zero()); }

FORWARD(pow_scalar) { return pow(x, p0); }
BACKWARD(pow_scalar, x) {
    return select(eq(p0, zero()), zero(), dy * (p0 * pow(x, p0 - set1(1.f))));
}

FORWARD(logical_not) { return eq(x, zero()); }
FORWARD(isnan) { return is_nan(x); }
FORWARD(isfinite) { return lt(abs(x), set1(constants::kInf)); }

template <class Result, class F>
ENGINE_INLINE void map_unary(const UnaryArgs& a, F f) {
    const bool streamed = a.stream;
    const vf p0 = set1(a.p0), p1 = set1(a.p1);
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* src = a.src + row * a.src_row;
        Result* dst = static_cast<Result*>(a.dst) + row * a.dst_row;
        int64_t i = 0;
        for (; i + VL <= a.n; i += VL) {
            if (streamed) fetch(src, i);
            put(dst + i, f(load(src + i), p0, p1), streamed);
        }
        const int rest = static_cast<int>(a.n - i);
        if (rest > 0) put_n(dst + i, f(load_n(src + i, rest), p0, p1), rest);
    }
    if (streamed) stream_fence();
}

enum class Saved { x, y, nothing, no_gradient };

template <Saved saved, class F>
ENGINE_INLINE void map_backward(const UnaryBackwardArgs& a, F f) {
    const vf p0 = set1(a.p0), p1 = set1(a.p1);
    constexpr bool reads = saved != Saved::nothing;
    const bool streamed = a.stream;
    for (int64_t row = 0; row < a.rows; ++row) {
        const float* dy = a.dy + row * a.dy_row;
        const float* kept = reads ? a.saved + row * a.saved_row : nullptr;
        float* dx = a.dx + row * a.dx_row;
        int64_t i = 0;
        for (; i + VL <= a.n; i += VL) {
            if (streamed) {
                fetch(dy, i);
                if (reads) fetch(kept, i);
            }
            put(dx + i, f(load(dy + i), reads ? load(kept + i) : zero(), p0, p1), streamed);
        }
        const int rest = static_cast<int>(a.n - i);
        if (rest > 0) {
            const vf s = reads ? load_n(kept + i, rest) : zero();
            store_n(dx + i, f(load_n(dy + i, rest), s, p0, p1), rest);
        }
    }
    if (streamed) stream_fence();
}

// ---- binary ----

#define BINARY(name) ENGINE_INLINE auto name##_binary(vf a, vf b)

BINARY(add) { return a + b; }
BINARY(sub) { return a - b; }
BINARY(mul) { return a * b; }
BINARY(div) { return a / b; }
BINARY(pow) { return pow(a, b); }
BINARY(maximum) { return max(a, b); }
BINARY(minimum) { return min(a, b); }
BINARY(eq) { return eq(a, b); }
BINARY(ne) { return ne(a, b); }
BINARY(lt) { return lt(a, b); }
BINARY(le) { return le(a, b); }
BINARY(gt) { return gt(a, b); }
BINARY(ge) { return ge(a, b); }
BINARY(logical_and) { return and_(ne(a, zero()), ne(b, zero())); }
BINARY(logical_or) { return or_(ne(a, zero()), ne(b, zero())); }

template <int step>
ENGINE_INLINE vf get(const float* p, int64_t i) {
    return step ? load(p + i) : set1(*p);
}
template <int step>
ENGINE_INLINE vf get_n(const float* p, int64_t i, int n) {
    return step ? load_n(p + i, n) : set1(*p);
}

template <class Result, int a_step, int b_step, class F>
ENGINE_INLINE void map_binary_steps(const BinaryArgs& args, F f) {
    const bool streamed = args.stream;
    for (int64_t row = 0; row < args.rows; ++row) {
        const float* a = args.a + row * args.a_row;
        const float* b = args.b + row * args.b_row;
        Result* dst = static_cast<Result*>(args.dst) + row * args.dst_row;
        int64_t i = 0;
        for (; i + VL <= args.n; i += VL) {
            if (streamed) {
                if (a_step) fetch(a, i);
                if (b_step) fetch(b, i);
            }
            put(dst + i, f(get<a_step>(a, i), get<b_step>(b, i)), streamed);
        }
        const int rest = static_cast<int>(args.n - i);
        if (rest > 0) put_n(dst + i, f(get_n<a_step>(a, i, rest), get_n<b_step>(b, i, rest)), rest);
    }
    if (streamed) stream_fence();
}

template <class Result, class F>
ENGINE_INLINE void map_binary(const BinaryArgs& args, F f) {
    if (args.a_step && args.b_step)
        map_binary_steps<Result, 1, 1>(args, f);
    else if (args.a_step)
        map_binary_steps<Result, 1, 0>(args, f);
    else if (args.b_step)
        map_binary_steps<Result, 0, 1>(args, f);
    else
        map_binary_steps<Result, 0, 0>(args, f);
}

// ---- where ----

template <int condition_step>
void where_rows(const WhereArgs& args) {
    for (int64_t row = 0; row < args.rows; ++row) {
        const uint8_t* condition = args.condition + row * args.condition_row;
        const float* a = args.a + row * args.a_row;
        const float* b = args.b + row * args.b_row;
        float* dst = args.dst + row * args.dst_row;
        const vm whole = condition_step || *condition == 0 ? first_n(0) : first_n(VL);
        int64_t i = 0;
        for (; i + VL <= args.n; i += VL) {
            const vm m = condition_step ? load_bool(condition + i) : whole;
            const vf va = args.a_step ? load(a + i) : set1(*a);
            const vf vb = args.b_step ? load(b + i) : set1(*b);
            store(dst + i, select(m, va, vb));
        }
        const int rest = static_cast<int>(args.n - i);
        if (rest > 0) {
            const vm m = condition_step ? load_bool_n(condition + i, rest) : whole;
            const vf va = args.a_step ? load_n(a + i, rest) : set1(*a);
            const vf vb = args.b_step ? load_n(b + i, rest) : set1(*b);
            store_n(dst + i, select(m, va, vb), rest);
        }
    }
}

// ---- bare passes ----

// A cache line at a time.
template <int kSources, int kResults>
void stream_arrays(const StreamPassArgs& a) {
    constexpr int kLine = 16;
    const vf weight = set1(0.5f);
    vf total = zero();
    int64_t i = 0;
    for (; i + kLine <= a.count; i += kLine) {
        if (a.fetch_ahead)
            for (int s = 0; s < kSources; ++s) __builtin_prefetch(a.src[s] + i + a.fetch_ahead);
        for (int64_t at = i; at < i + kLine; at += VL) {
            vf sum = zero();
            for (int s = 0; s < kSources; ++s) sum = fma(load(a.src[s] + at), weight, sum);
            for (int r = 0; r < kResults; ++r)
                if (a.past_caches)
                    stream(a.dst[r] + at, sum);
                else
                    store(a.dst[r] + at, sum);
            if (kResults == 0) total = total + sum;
        }
    }
    if (a.past_caches) stream_fence();
    for (; i < a.count; ++i) {
        float sum = 0.0f;
        for (int s = 0; s < kSources; ++s) sum += 0.5f * a.src[s][i];
        for (int r = 0; r < kResults; ++r) a.dst[r][i] = sum;
    }
    *a.sink += reduce_add(total);
}

// ---- prelu ----

template <int weight_step>
void prelu_rows(const PreluArgs& args) {
    for (int64_t row = 0; row < args.rows; ++row) {
        const float* x = args.x + row * args.x_row;
        const float* weight = args.weight + row * args.weight_row;
        float* y = args.y + row * args.y_row;
        for (int64_t i = 0; i < args.n; i += VL) {
            const int rest = args.n - i < VL ? static_cast<int>(args.n - i) : VL;
            const vf v = load_n(x + i, rest), w = get_n<weight_step>(weight, i, rest);
            store_n(y + i, select(gt(v, zero()), v, v * w), rest);
        }
    }
}

template <int weight_step>
void prelu_backward_rows(const PreluBackwardArgs& args) {
    for (int64_t row = 0; row < args.rows; ++row) {
        const float* dy = args.dy + row * args.dy_row;
        const float* x = args.x + row * args.x_row;
        const float* weight = args.weight + row * args.weight_row;
        float* dx = args.dx + row * args.dx_row;
        float* terms = args.dweight_terms + row * args.terms_row;
        for (int64_t i = 0; i < args.n; i += VL) {
            const int rest = args.n - i < VL ? static_cast<int>(args.n - i) : VL;
            const vf v = load_n(x + i, rest), g = load_n(dy + i, rest);
            const vf w = get_n<weight_step>(weight, i, rest);
            const vm positive = gt(v, zero());
            store_n(dx + i, select(positive, g, g * w), rest);
            store_n(terms + i, select(positive, zero(), g * v), rest);
        }
    }
}

}  // namespace

// The switches; one case per row of the lists.
void eltwise_unary(const UnaryArgs& a) {
    switch (a.op) {
#define CASE(name, result, saved, cost)                                                       \
    case UnaryOp::name:                                                                       \
        map_unary<result_##result>(a, [](vf x, vf p0, vf p1) __attribute__((always_inline)) { \
            return name##_forward(x, p0, p1);                                                 \
        });                                                                                   \
        break;
        ENGINE_UNARY_OPS(CASE)
#undef CASE
    }
}

#define BACKWARD_CASE(name, kept)                                                              \
    case UnaryOp::name:                                                                        \
        map_backward<Saved::kept>(                                                             \
            a, [](vf dy, vf s, vf p0, vf p1)                                                   \
                   __attribute__((always_inline)) { return name##_backward(dy, s, p0, p1); }); \
        break;
#define BACKWARD_x(name) BACKWARD_CASE(name, x)
#define BACKWARD_y(name) BACKWARD_CASE(name, y)
#define BACKWARD_nothing(name) BACKWARD_CASE(name, nothing)
#define BACKWARD_no_gradient(name) \
    case UnaryOp::name: break;
void eltwise_unary_backward(const UnaryBackwardArgs& a) {
    switch (a.op) {
#define CASE(name, result, saved, cost) BACKWARD_##saved(name)
        ENGINE_UNARY_OPS(CASE)
#undef CASE
    }
}

void eltwise_binary(const BinaryArgs& args) {
    switch (args.op) {
#define CASE(name, result, cost)                                                                  \
    case BinaryOp::name:                                                                          \
        map_binary<result_##result>(                                                              \
            args, [](vf a, vf b) __attribute__((always_inline)) { return name##_binary(a, b); }); \
        break;
        ENGINE_BINARY_OPS(CASE)
#undef CASE
    }
}

void stream_pass(const StreamPassArgs& a) {
#define RESULTS(sources)                              \
    switch (a.results) {                              \
        case 0: return stream_arrays<sources, 0>(a);  \
        case 1: return stream_arrays<sources, 1>(a);  \
        case 2: return stream_arrays<sources, 2>(a);  \
        default: return stream_arrays<sources, 3>(a); \
    }
    switch (a.sources) {
        case 0: RESULTS(0)
        case 1: RESULTS(1)
        case 2: RESULTS(2)
        case 3: RESULTS(3)
        default: RESULTS(4)
    }
#undef RESULTS
}

void eltwise_where(const WhereArgs& args) {
    if (args.condition_step)
        where_rows<1>(args);
    else
        where_rows<0>(args);
}

void eltwise_prelu(const PreluArgs& args) {
    if (args.weight_step)
        prelu_rows<1>(args);
    else
        prelu_rows<0>(args);
}

void eltwise_prelu_backward(const PreluBackwardArgs& args) {
    if (args.weight_step)
        prelu_backward_rows<1>(args);
    else
        prelu_backward_rows<0>(args);
}

}  // namespace ENGINE_ISA
}  // namespace engine
