// The vector contract and the elementary functions, reached through plain pointers: compiled once
// per instruction set like a kernel, driven by ../vector.cpp. No STL in here, as in kernels.
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

// y[i] = name(x[i], z[i]) for i < n through whole and partial vectors; false for an unknown name.
bool vector_apply(const char* name, const float* x, const float* z, float* y, int64_t n) {
#define APPLY(function, expression)                                \
    if (__builtin_strcmp(name, function) == 0) {                   \
        int64_t i = 0;                                             \
        for (; i + VL <= n; i += VL) {                             \
            const vf a = load(x + i), b = load(z + i);             \
            (void)b;                                               \
            store(y + i, expression);                              \
        }                                                          \
        const int left = static_cast<int>(n - i);                  \
        const vf a = load_n(x + i, left), b = load_n(z + i, left); \
        (void)b;                                                   \
        store_n(y + i, expression, left);                          \
        return true;                                               \
    }
    const vf one = set1(1.0f);
    APPLY("add", a + b)
    APPLY("sub", a - b)
    APPLY("mul", a * b)
    APPLY("div", a / b)
    APPLY("negative", -a)
    APPLY("fma", fma(a, b, one))
    APPLY("fnma", fnma(a, b, one))
    APPLY("min", min(a, b))
    APPLY("max", max(a, b))
    APPLY("sqrt", sqrt(a))
    APPLY("abs", abs(a))
    APPLY("floor", floor(a))
    APPLY("ceil", ceil(a))
    APPLY("trunc", trunc(a))
    APPLY("round", round(a))
    APPLY("copysign", copysign(a, b))
    APPLY("lt", select(lt(a, b), one, zero()))
    APPLY("le", select(le(a, b), one, zero()))
    APPLY("gt", select(gt(a, b), one, zero()))
    APPLY("ge", select(ge(a, b), one, zero()))
    APPLY("eq", select(eq(a, b), one, zero()))
    APPLY("ne", select(ne(a, b), one, zero()))
    APPLY("is_nan", select(is_nan(a), one, zero()))
    APPLY("and", select(and_(lt(a, b), gt(a, zero())), one, zero()))
    APPLY("or", select(or_(lt(a, b), gt(a, zero())), one, zero()))
    APPLY("not", select(not_(lt(a, b)), one, zero()))
    APPLY("to_int", to_float(to_int(a)))
    APPLY("bits", as_float(andi(as_int(a), seti(0x7fffffff))))
    APPLY("exponent", to_float(shr<23>(as_int(abs(a)))))
    APPLY("exp", exp(a))
    APPLY("log", log(a))
    APPLY("log1p", log1p(a))
    APPLY("expm1", expm1(a))
    APPLY("tanh", tanh(a))
    APPLY("sigmoid", sigmoid(a))
    APPLY("erf", erf(a))
    APPLY("sin", sin(a))
    APPLY("cos", cos(a))
    APPLY("softplus", softplus(a))
    APPLY("pow", pow(a, b))
#undef APPLY
    return false;
}

// sums, maxima and minima of consecutive groups of lanes
void vector_reduce(const float* x, float* sum, float* highest, float* lowest, int64_t groups) {
    for (int64_t g = 0; g < groups; ++g) {
        const vf a = load(x + g * VL);
        sum[g] = reduce_add(a);
        highest[g] = reduce_max(a);
        lowest[g] = reduce_min(a);
    }
}

// y[i] = x[i] as a float; truth[i] = x[i] != 0
void vector_bytes(const uint8_t* x, float* y, uint8_t* truth, int64_t n) {
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        store(y + i, load_u8(x + i));
        store_bool(truth + i, load_bool(x + i));
    }
    const int left = static_cast<int>(n - i);
    store_n(y + i, load_u8_n(x + i, left), left);
    store_bool_n(truth + i, load_bool_n(x + i, left), left);
}

}  // namespace ENGINE_ISA
}  // namespace engine
