// The vector contract (simd/simd.h) and the elementary functions (simd/math.h) against libm in
// double precision.
#include <cstring>
#include <limits>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

namespace engine {
#define DECLARE(isa_name)                                                        \
    namespace isa_name {                                                         \
    bool vector_apply(const char*, const float*, const float*, float*, int64_t); \
    void vector_reduce(const float*, float*, float*, float*, int64_t);           \
    void vector_bytes(const uint8_t*, float*, uint8_t*, int64_t);                \
    }
ENGINE_ISA_LIST(DECLARE)
#undef DECLARE
}  // namespace engine

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Functions {
    const char* isa;
    bool (*apply)(const char*, const float*, const float*, float*, int64_t);
    void (*reduce)(const float*, float*, float*, float*, int64_t);
    void (*bytes)(const uint8_t*, float*, uint8_t*, int64_t);
};

const Functions& functions() {
    static const Functions all[] = {
#define ROW(isa_name)                                                              \
    {#isa_name, &engine::isa_name::vector_apply, &engine::isa_name::vector_reduce, \
     &engine::isa_name::vector_bytes},
        ENGINE_ISA_LIST(ROW)
#undef ROW
    };
    for (const Functions& f : all)
        if (engine::isa() == f.isa) return f;
    std::abort();
}

// Distance of a float from the exact value, in units of the last place of that value.
double ulps(float got, double exact) {
    if (std::isnan(got) || std::isnan(exact)) return std::isnan(got) && std::isnan(exact) ? 0 : 1e9;
    if (std::isinf(got) && std::fabs(exact) > std::numeric_limits<float>::max()) return 0;
    if (got == exact) return 0;
    if (std::isinf(exact) || std::isinf(got)) return 1e9;
    int exponent;
    std::frexp(exact, &exponent);
    if (exponent < -125) exponent = -125;  // below the normal numbers: their spacing
    return std::fabs(got - exact) / std::ldexp(1.0, exponent - 24);
}

using Reference = double (*)(double, double);

void check(const char* name, Reference reference, const std::vector<float>& x,
           const std::vector<float>& z, double limit) {
    const int64_t n = static_cast<int64_t>(x.size());
    Guarded<float> a(n, Against::end), b(n, Against::end), y(n, Against::end);
    std::memcpy(a.data(), x.data(), x.size() * sizeof(float));
    std::memcpy(b.data(), z.data(), z.size() * sizeof(float));
    CHECK(functions().apply(name, a, b, y, n));
    for (int64_t i = 0; i < n; ++i) {
        engine_test::describe(name, "(", a[i], ", ", b[i], ")");
        const double exact = reference(a[i], b[i]);
        // Below the normal numbers a function may round to zero.
        if (std::fabs(exact) < std::numeric_limits<float>::min() && y[i] == 0) continue;
        if (ulps(y[i], exact) > limit)
            engine_test::report(__FILE__, __LINE__, y[i], " is ", ulps(y[i], exact), " ulp from ",
                                exact);
    }
}

// Special values, then numbers spread over [low, high].
std::vector<float> spread(float low, float high, size_t count = 4003) {
    std::vector<float> values = {0.0f,  -0.0f,  1.0f,  -1.0f,  0.5f,   -0.5f,   1.5f,  2.5f,
                                 -2.5f, kInf,   -kInf, kNan,   1e-30f, -1e-30f, 1e-6f, -1e-6f,
                                 1e30f, -1e30f, 88.0f, -88.0f, 90.0f,  -104.0f};
    Numbers numbers;
    while (values.size() < count) values.push_back(numbers.value(low, high));
    return values;
}

std::vector<float> shuffled(std::vector<float> values) {
    Numbers numbers(7);
    for (size_t i = values.size() - 1; i > 0; --i)
        std::swap(values[i],
                  values[static_cast<size_t>(numbers.integer(0, static_cast<int64_t>(i)))]);
    return values;
}

double truth(bool value) { return value ? 1.0 : 0.0; }

}  // namespace

TEST(exact_functions) {
    const std::vector<float> x = spread(-1000, 1000), z = shuffled(x);
    check("add", [](double a, double b) { return double{float(a) + float(b)}; }, x, z, 0);
    check("sub", [](double a, double b) { return double{float(a) - float(b)}; }, x, z, 0);
    check("mul", [](double a, double b) { return double{float(a) * float(b)}; }, x, z, 0);
    check("div", [](double a, double b) { return double{float(a) / float(b)}; }, x, z, 0);
    check("negative", [](double a, double) { return -a; }, x, z, 0);
    check("sqrt", [](double a, double) { return double{std::sqrt(float(a))}; }, x, z, 0);
    check("abs", [](double a, double) { return std::fabs(a); }, x, z, 0);
    check("floor", [](double a, double) { return std::floor(a); }, x, z, 0);
    check("ceil", [](double a, double) { return std::ceil(a); }, x, z, 0);
    check("trunc", [](double a, double) { return std::trunc(a); }, x, z, 0);
    check("round", [](double a, double) { return std::nearbyint(a); }, x, z, 0);
    check(
        "copysign", [](double a, double b) { return std::copysign(a, b); }, spread(-5, 5),
        {shuffled(spread(1, 5))}, 0);
    const Reference lowest = [](double a, double b) {
        return a != a || b != b ? double{kNan} : std::fmin(a, b);
    };
    const Reference highest = [](double a, double b) {
        return a != a || b != b ? double{kNan} : std::fmax(a, b);
    };
    check("min", lowest, x, z, 0);
    check("max", highest, x, z, 0);
    check("lt", [](double a, double b) { return truth(a < b); }, x, z, 0);
    check("le", [](double a, double b) { return truth(a <= b); }, x, z, 0);
    check("gt", [](double a, double b) { return truth(a > b); }, x, z, 0);
    check("ge", [](double a, double b) { return truth(a >= b); }, x, z, 0);
    check("eq", [](double a, double b) { return truth(a == b); }, x, x, 0);
    check("ne", [](double a, double b) { return truth(a != b); }, x, x, 0);
    check("is_nan", [](double a, double) { return truth(a != a); }, x, z, 0);
    check("and", [](double a, double b) { return truth(a < b && a > 0); }, x, z, 0);
    check("or", [](double a, double b) { return truth(a < b || a > 0); }, x, z, 0);
    check("not", [](double a, double b) { return truth(!(a < b)); }, x, z, 0);
    check("bits", [](double a, double) { return std::fabs(a); }, x, z, 0);
    std::vector<float> finite;
    for (float value : x)
        if (std::fabs(value) < 1e9f) finite.push_back(value);
    check("to_int", [](double a, double) { return std::trunc(a); }, finite, finite, 0);
}

TEST(multiply_add) {
    std::vector<float> x, z;
    Numbers numbers;
    for (int i = 0; i < 1001; ++i)
        x.push_back(numbers.value(-4, 4)), z.push_back(numbers.value(0.5f, 4));
    // Two roundings are allowed: the tolerance is one of the product's, which may be larger than
    // the sum.
    Guarded<float> y(1001, Against::end);
    for (const char* name : {"fma", "fnma"}) {
        CHECK(functions().apply(name, x.data(), z.data(), y, 1001));
        const double sign = name[1] == 'm' ? 1.0 : -1.0;
        for (size_t i = 0; i < x.size(); ++i)
            CHECK_CLOSE(y[static_cast<int64_t>(i)], sign * double{x[i]} * z[i] + 1.0, 2e-6);
    }
}

TEST(elementary_functions_within_four_ulp) {
    const auto none = [](const std::vector<float>& x) {
        return std::vector<float>(x.size(), 1.0f);
    };
    const auto unary = [&](const char* name, Reference reference, float low, float high) {
        const std::vector<float> x = spread(low, high, 20011);
        check(name, reference, x, none(x), 4);
    };
    unary("exp", [](double a, double) { return std::exp(a); }, -87, 89);
    unary("expm1", [](double a, double) { return std::expm1(a); }, -20, 89);
    unary("expm1", [](double a, double) { return std::expm1(a); }, -0.5f, 0.5f);
    unary("log", [](double a, double) { return std::log(a); }, 0, 3);
    unary("log", [](double a, double) { return std::log(a); }, 0, 1e6f);
    unary("log1p", [](double a, double) { return std::log1p(a); }, -1, 1);
    unary("log1p", [](double a, double) { return std::log1p(a); }, 0, 1e6f);
    unary("tanh", [](double a, double) { return std::tanh(a); }, -10, 10);
    unary("tanh", [](double a, double) { return std::tanh(a); }, -0.1f, 0.1f);
    unary("sigmoid", [](double a, double) { return 1 / (1 + std::exp(-a)); }, -80, 80);
    unary("erf", [](double a, double) { return std::erf(a); }, -5, 5);
    unary("erf", [](double a, double) { return std::erf(a); }, -0.1f, 0.1f);
    unary(
        "softplus", [](double a, double) { return a > 700 ? a : std::log1p(std::exp(a)); }, -80,
        80);
    const auto turning = [&](const char* name, Reference reference) {
        std::vector<float> x;
        for (float value : spread(-30, 30, 20011))
            if (std::isfinite(value) && std::fabs(value) < 1e5f) x.push_back(value);
        x.insert(x.end(), {kInf, -kInf, kNan});
        check(name, reference, x, none(x), 4);
    };
    turning("sin", [](double a, double) { return std::sin(a); });
    turning("cos", [](double a, double) { return std::cos(a); });
    const std::vector<float> base = spread(0, 20, 20011), power = shuffled(spread(-8, 8, 20011));
    check("pow", [](double a, double b) { return std::pow(a, b); }, base, power, 8);
}

TEST(partial_vectors_touch_only_their_lanes) {
    for (int64_t n = 0; n <= 2 * engine::kernels().lanes; ++n)
        for (Against side : {Against::end, Against::start}) {
            engine_test::describe(n, " elements");
            Guarded<float> x(n, side), y(n, side);
            Guarded<uint8_t> bytes(n, side), truths(n, side);
            for (int64_t i = 0; i < n; ++i)
                x[i] = static_cast<float>(i + 1),
                bytes[i] = static_cast<uint8_t>(i % 3 ? 255 - i : 0);
            x.freeze();
            bytes.freeze();
            CHECK(functions().apply("negative", x, x, y, n));
            for (int64_t i = 0; i < n; ++i) CHECK_EQUAL(y[i], -static_cast<float>(i + 1));
            functions().bytes(bytes, y, truths, n);
            for (int64_t i = 0; i < n; ++i) {
                CHECK_EQUAL(y[i], static_cast<float>(bytes[i]));
                CHECK_EQUAL(int{truths[i]}, bytes[i] != 0 ? 1 : 0);
            }
        }
}

TEST(reductions_over_lanes) {
    const int64_t lanes = engine::kernels().lanes, groups = 50;
    Guarded<float> x(groups * lanes, Against::end);
    Numbers().fill(x);
    x[3 * lanes + lanes / 2] = kNan;
    std::vector<float> sum(groups), highest(groups), lowest(groups);
    functions().reduce(x, sum.data(), highest.data(), lowest.data(), groups);
    for (int64_t g = 0; g < groups; ++g) {
        engine_test::describe("group ", g);
        double total = 0;
        float high = -kInf, low = kInf;
        for (int64_t i = 0; i < lanes; ++i) {
            const float v = x[g * lanes + i];
            total += v;
            if (std::isnan(v) || v > high) high = v;
            if (std::isnan(v) || v < low) low = v;
            if (std::isnan(v)) i = lanes, total = v;
        }
        const auto at = static_cast<size_t>(g);
        CHECK_CLOSE(sum[at], total, 4e-6);
        CHECK_CLOSE(highest[at], high, 0.0);
        CHECK_CLOSE(lowest[at], low, 0.0);
    }
}
