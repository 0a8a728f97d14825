// Elementwise operations: every row of the two lists is run against guard pages, and compared in
// double precision where it has a definition here (the op table of the Python tests has them all).
#include <cstring>
#include <functional>
#include <limits>
#include <map>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::BinaryOp;
using engine::kernels;
using engine::UnaryOp;

namespace {

using Function = std::function<double(double)>;

constexpr double kP0 = -0.75, kP1 = 1.5;  // slope, alpha, limits; softplus and pow take others

double sign(double x) { return (x > 0) - (x < 0); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double normal_cdf(double x) { return 0.5 * (1 + std::erf(x / std::sqrt(2.0))); }
double selu(double x) {
    return 1.0507009873554804934805349852946 *
           (x > 0 ? x : 1.6732632423543772848170429916717 * std::expm1(x));
}

const std::map<std::string, Function>& definitions() {
    static const std::map<std::string, Function> all = {
        {"relu", [](double x) { return x > 0 ? x : 0; }},
        {"relu6", [](double x) { return x > 6   ? 6
                                        : x > 0 ? x
                                                : 0; }},
        {"leaky_relu", [](double x) { return x > 0 ? x : kP0 * x; }},
        {"elu", [](double x) { return x > 0 ? x : kP0 * std::expm1(x); }},
        {"selu", selu},
        {"gelu", [](double x) { return x * normal_cdf(x); }},
        {"gelu_tanh",
         [](double x) {
             return 0.5 * x *
                    (1 +
                     std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
         }},
        {"silu", [](double x) { return x * logistic(x); }},
        {"mish", [](double x) { return x * std::tanh(std::log1p(std::exp(x))); }},
        {"sigmoid", logistic},
        {"tanh", [](double x) { return std::tanh(x); }},
        {"softplus", [](double x) { return std::log1p(std::exp(2 * x)) / 2; }},
        {"hardtanh", [](double x) { return x < kP0   ? kP0
                                           : x > kP1 ? kP1
                                                     : x; }},
        {"hardswish", [](double x) { return x * std::fmin(6, std::fmax(0, x + 3)) / 6; }},
        {"hardsigmoid", [](double x) { return std::fmin(6, std::fmax(0, x + 3)) / 6; }},
        {"logsigmoid", [](double x) { return -std::log1p(std::exp(-x)); }},
        {"softsign", [](double x) { return x / (1 + std::fabs(x)); }},
        {"neg", [](double x) { return -x; }},
        {"abs", [](double x) { return std::fabs(x); }},
        {"exp", [](double x) { return std::exp(x); }},
        {"log", [](double x) { return std::log(x); }},
        {"log1p", [](double x) { return std::log1p(x); }},
        {"expm1", [](double x) { return std::expm1(x); }},
        {"sqrt", [](double x) { return std::sqrt(x); }},
        {"rsqrt", [](double x) { return 1 / std::sqrt(x); }},
        {"square", [](double x) { return x * x; }},
        {"reciprocal", [](double x) { return 1 / x; }},
        {"sin", [](double x) { return std::sin(x); }},
        {"cos", [](double x) { return std::cos(x); }},
        {"erf", [](double x) { return std::erf(x); }},
        {"sign", sign},
        {"floor", [](double x) { return std::floor(x); }},
        {"ceil", [](double x) { return std::ceil(x); }},
        {"round", [](double x) { return std::nearbyint(x); }},
        {"clamp", [](double x) { return x < kP0   ? kP0
                                        : x > kP1 ? kP1
                                                  : x; }},
        {"pow_scalar", [](double x) { return std::pow(x, 2.0); }},
        {"logical_not", [](double x) { return x == 0; }},
        {"isnan", [](double x) { return std::isnan(x); }},
        {"isfinite", [](double x) { return std::isfinite(x); }},
    };
    return all;
}

float first_parameter(const std::string& name) {
    return name == "softplus" || name == "pow_scalar" ? 2.0f : static_cast<float>(kP0);
}
float second_parameter(const std::string& name) {
    return name == "softplus" ? 20.0f : static_cast<float>(kP1);
}

bool needs_positive(const std::string& name) {
    return name == "log" || name == "log1p" || name == "sqrt" || name == "rsqrt" ||
           name == "reciprocal";
}

std::vector<int64_t> lengths() {
    const int64_t lanes = kernels().lanes;
    return {1, lanes - 1, lanes, 2 * lanes + 3};
}

// result: "f32" or "b8"; saved: "x", "y", "nothing" or "no_gradient".
void check_unary(UnaryOp op, const std::string& name, bool is_mask, const std::string& saved,
                 int64_t n, Against side) {
    engine_test::describe(name, ", ", n, " elements");
    const auto found = definitions().find(name);
    const bool defined = found != definitions().end();
    const Function f = defined ? found->second : Function();
    const int64_t rows = 2, src_row = n + 1, dst_row = n + 2;
    Guarded<float> x((rows - 1) * src_row + n, side), y((rows - 1) * dst_row + n, side);
    Guarded<uint8_t> mask((rows - 1) * dst_row + n, side);
    Numbers numbers(static_cast<uint32_t>(n));
    // Away from the corners at -3, 0, 3 and the whole numbers, where the derivative jumps.
    for (int64_t i = 0; i < x.size(); ++i) {
        const float whole = static_cast<float>(numbers.integer(needs_positive(name) ? 0 : -5, 4));
        x[i] = whole + numbers.value(0.1f, 0.4f);
    }
    if (is_mask) x[0] = 0, x[x.size() - 1] = std::numeric_limits<float>::quiet_NaN();
    x.freeze();
    void* dst = is_mask ? static_cast<void*>(mask.data()) : y.data();
    const float p0 = first_parameter(name), p1 = second_parameter(name);
    kernels().eltwise_unary({op, x, dst, n, rows, src_row, dst_row, p0, p1});
    for (int64_t r = 0; defined && r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) {
            const double exact = f(x[r * src_row + i]);
            if (is_mask)
                CHECK_EQUAL(int{mask[r * dst_row + i]}, int{exact != 0});
            else
                CHECK_CLOSE(y[r * dst_row + i], exact, 2e-6 * (1 + std::fabs(exact)));
        }
    if (saved == "no_gradient") return;

    Guarded<float> dy(rows * n, side), dx((rows - 1) * dst_row + n, side);
    numbers.fill(dy);
    dy.freeze();
    const bool from_y = saved == "y", from_x = saved == "x";
    const float* kept = from_y ? y.data() : from_x ? x.data() : nullptr;
    kernels().eltwise_unary_backward(
        {op, dy, kept, dx, n, rows, n, from_y ? dst_row : src_row, dst_row, p0, p1});
    for (int64_t r = 0; defined && r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) {
            const double at = x[r * src_row + i], h = 1e-5;
            const double slope = (f(at + h) - f(at - h)) / (2 * h);
            CHECK_CLOSE(dx[r * dst_row + i], dy[r * n + i] * slope, 1e-5 * (1 + std::fabs(slope)));
        }
}

const std::map<std::string, std::function<double(double, double)>>& binary_definitions() {
    static const std::map<std::string, std::function<double(double, double)>> all = {
        {"add", [](double a, double b) { return a + b; }},
        {"sub", [](double a, double b) { return a - b; }},
        {"mul", [](double a, double b) { return a * b; }},
        {"div", [](double a, double b) { return a / b; }},
        {"pow", [](double a, double b) { return std::pow(a, b); }},
        {"maximum", [](double a, double b) { return std::fmax(a, b); }},
        {"minimum", [](double a, double b) { return std::fmin(a, b); }},
        {"eq", [](double a, double b) { return a == b; }},
        {"ne", [](double a, double b) { return a != b; }},
        {"lt", [](double a, double b) { return a < b; }},
        {"le", [](double a, double b) { return a <= b; }},
        {"gt", [](double a, double b) { return a > b; }},
        {"ge", [](double a, double b) { return a >= b; }},
        {"logical_and", [](double a, double b) { return a != 0 && b != 0; }},
        {"logical_or", [](double a, double b) { return a != 0 || b != 0; }},
    };
    return all;
}

void check_binary(BinaryOp op, const std::string& name, bool is_mask, int64_t n, int a_step,
                  int b_step, Against side) {
    engine_test::describe(name, ", ", n, " elements, steps ", a_step, " ", b_step);
    const auto found = binary_definitions().find(name);
    const bool defined = found != binary_definitions().end();
    const int64_t rows = 3, a_length = a_step ? n : 1, b_length = b_step ? n : 1, dst_row = n + 1;
    Guarded<float> a(rows * a_length, side), b(rows * b_length, side),
        y((rows - 1) * dst_row + n, side);
    Guarded<uint8_t> mask((rows - 1) * dst_row + n, side);
    Numbers numbers(static_cast<uint32_t>(n));
    const bool power = name == "pow" || name == "div";
    for (auto* operand : {&a, &b}) {
        for (int64_t i = 0; i < operand->size(); ++i)
            (*operand)[i] = static_cast<float>(numbers.integer(power ? 1 : -2, 3));
        operand->freeze();
    }
    void* dst = is_mask ? static_cast<void*>(mask.data()) : y.data();
    kernels().eltwise_binary({op, a, b, dst, n, rows, a_length, b_length, dst_row, a_step, b_step});
    for (int64_t r = 0; defined && r < rows; ++r)
        for (int64_t i = 0; i < n; ++i) {
            const double exact = found->second(a[r * a_length + (a_step ? i : 0)],
                                               b[r * b_length + (b_step ? i : 0)]);
            if (is_mask)
                CHECK_EQUAL(int{mask[r * dst_row + i]}, int{exact != 0});
            else
                CHECK_CLOSE(y[r * dst_row + i], exact, 1e-6 * (1 + std::fabs(exact)));
        }
}

}  // namespace

TEST(every_unary_operation_and_its_gradient) {
    for (Against side : {Against::end, Against::start})
        for (int64_t n : lengths()) {
#define CHECK_OP(name, result, saved, cost) \
    check_unary(UnaryOp::name, #name, std::strcmp(#result, "b8") == 0, #saved, n, side);
            ENGINE_UNARY_OPS(CHECK_OP)
#undef CHECK_OP
        }
}

TEST(every_binary_operation) {
    for (Against side : {Against::end, Against::start})
        for (int64_t n : lengths())
            for (int steps = 0; steps < 4; ++steps) {
#define CHECK_OP(name, result, cost)                                                               \
    check_binary(BinaryOp::name, #name, std::strcmp(#result, "b8") == 0, n, steps & 1, steps >> 1, \
                 side);
                ENGINE_BINARY_OPS(CHECK_OP)
#undef CHECK_OP
            }
}

TEST(where) {
    for (Against side : {Against::end, Against::start})
        for (int64_t n : lengths())
            for (int steps = 0; steps < 8; ++steps) {
                engine_test::describe(n, " elements, steps ", steps);
                const int32_t c_step = steps & 1, a_step = (steps >> 1) & 1, b_step = steps >> 2;
                const int64_t rows = 4, c_row = c_step ? n : 1, a_row = a_step ? n : 1,
                              b_row = b_step ? n : 1;
                Guarded<uint8_t> condition(rows * c_row, side);
                Guarded<float> a(rows * a_row, side), b(rows * b_row, side), y(rows * n, side);
                Numbers numbers;
                for (int64_t i = 0; i < condition.size(); ++i)
                    condition[i] = static_cast<uint8_t>(numbers.integer(0, 1));
                numbers.fill(a);
                numbers.fill(b);
                kernels().eltwise_where(
                    {condition, a, b, y, n, rows, c_row, a_row, b_row, n, c_step, a_step, b_step});
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t i = 0; i < n; ++i)
                        CHECK_EQUAL(y[r * n + i], condition[r * c_row + (c_step ? i : 0)]
                                                      ? a[r * a_row + (a_step ? i : 0)]
                                                      : b[r * b_row + (b_step ? i : 0)]);
            }
}

TEST(prelu) {
    for (Against side : {Against::end, Against::start})
        for (int64_t n : lengths())
            for (int32_t step : {0, 1}) {
                engine_test::describe(n, " elements, weight step ", step);
                const int64_t rows = 3;
                Guarded<float> x(rows * n, side), dy(rows * n, side), weight(step ? n : 1, side);
                Guarded<float> y(rows * n, side), dx(rows * n, side), terms(rows * n, side);
                Numbers numbers;
                for (auto* buffer : {&x, &dy, &weight}) {
                    numbers.fill(*buffer);
                    buffer->freeze();
                }
                kernels().eltwise_prelu({x, weight, y, n, rows, n, 0, n, step});
                kernels().eltwise_prelu_backward(
                    {dy, x, weight, dx, terms, n, rows, n, n, 0, n, n, step});
                for (int64_t r = 0; r < rows; ++r)
                    for (int64_t i = 0; i < n; ++i) {
                        const int64_t at = r * n + i;
                        const float w = weight[step ? i : 0];
                        CHECK_EQUAL(y[at], x[at] > 0 ? x[at] : x[at] * w);
                        CHECK_EQUAL(dx[at], x[at] > 0 ? dy[at] : dy[at] * w);
                        CHECK_EQUAL(terms[at], x[at] > 0 ? 0.0f : dy[at] * x[at]);
                    }
            }
}

TEST(bare_passes) {
    for (Against side : {Against::end, Against::start})
        for (bool past_caches : {false, true})
            for (int sources = 0; sources <= 4; ++sources)
                for (int results = 0; results <= 3; ++results) {
                    engine_test::describe(sources, " sources, ", results, " results");
                    const int64_t count = 80;  // every vector is aligned at both ends
                    Guarded<float> a(count, side), b(count, side), x(count, side), y(count, side),
                        z(count, side);
                    Numbers numbers(7);
                    numbers.fill(a), numbers.fill(b);
                    float sink = 0;
                    kernels().stream_pass(
                        {{a, b, a, b}, {x, y, z}, sources, results, count, past_caches, 16, &sink});
                    Guarded<float>* const written[] = {&x, &y, &z};
                    double total = 0;
                    for (int64_t i = 0; i < count; ++i) {
                        double sum = 0;
                        for (int s = 0; s < sources; ++s) sum += 0.5 * double{(s % 2 ? b : a)[i]};
                        for (int r = 0; r < results; ++r) CHECK_CLOSE((*written[r])[i], sum, 1e-6);
                        total += sum;
                    }
                    CHECK_CLOSE(sink, results == 0 ? total : 0.0, 1e-4);
                }
}
