// Optimizer updates, norms and the other passes over flat arrays.
#include <limits>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;
using engine::NormKind;

namespace {

std::vector<int64_t> counts() {
    const int64_t lanes = kernels().lanes;
    return {1, lanes - 1, lanes, lanes + 1, 5 * lanes + 3};
}

// Parameter, gradient and three states, with copies of what they were.
struct State {
    Guarded<float> p, g, a, b, c;
    std::vector<double> p0, g0, a0, b0, c0;
    State(int64_t count, Against side)
        : p(count, side), g(count, side), a(count, side), b(count, side), c(count, side) {
        Numbers numbers(static_cast<uint32_t>(count));
        numbers.fill(p);
        numbers.fill(g);
        for (auto* buffer : {&a, &b, &c}) numbers.fill(*buffer, 0.5f, 1.0f);
        p[0] = 0;  // its sign is zero
        g.freeze();
        const auto copy = [](const Guarded<float>& x) {
            return std::vector<double>(x.data(), x.data() + x.size());
        };
        p0 = copy(p), g0 = copy(g), a0 = copy(a), b0 = copy(b), c0 = copy(c);
    }
    double gradient(size_t i, bool maximize, double decay, double l1) const {
        return (maximize ? -g0[i] : g0[i]) + decay * p0[i] + l1 * ((p0[i] > 0) - (p0[i] < 0));
    }
};

}  // namespace

TEST(sgd) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts())
            for (int mask = 0; mask < 16; ++mask) {
                const bool momentum = mask & 1, nesterov = mask & 2, first = mask & 4,
                           maximize = mask & 8;
                engine_test::describe(count, " elements, variant ", mask);
                State s(count, side);
                kernels().sgd_update({s.p, s.g, momentum ? s.a.data() : nullptr, count, 0.1f, 0.9f,
                                      0.75f, 0.01f, 0.02f, nesterov, first, maximize});
                for (int64_t i = 0; i < count; ++i) {
                    const auto at = static_cast<size_t>(i);
                    double g = s.gradient(at, maximize, 0.01, 0.02), buffer = s.a0[at];
                    if (momentum) {
                        buffer = first ? g : 0.9 * buffer + 0.75 * g;
                        g = nesterov ? g + 0.9 * buffer : buffer;
                    }
                    CHECK_CLOSE(s.p[i], s.p0[at] - 0.1 * g, 1e-6);
                    CHECK_CLOSE(s.a[i], buffer, 1e-6);
                }
            }
}

TEST(rmsprop) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts())
            for (int mask = 0; mask < 8; ++mask) {
                const bool momentum = mask & 1, centered = mask & 2, maximize = mask & 4;
                engine_test::describe(count, " elements, variant ", mask);
                State s(count, side);
                for (int64_t i = 0; i < count; ++i)
                    s.c[i] -= 0.4f, s.c0[static_cast<size_t>(i)] = s.c[i];
                kernels().rmsprop_update({s.p, s.g, s.a, momentum ? s.b.data() : nullptr,
                                          centered ? s.c.data() : nullptr, count, 0.1f, 0.9f, 0.1f,
                                          0.01f, 0.01f, 0.8f, 0.0f, maximize});
                for (int64_t i = 0; i < count; ++i) {
                    const auto at = static_cast<size_t>(i);
                    const double g = s.gradient(at, maximize, 0.01, 0);
                    const double square = 0.9 * s.a0[at] + 0.1 * g * g;
                    const double average = s.c0[at] + 0.1 * (g - s.c0[at]);
                    const double variance = centered ? square - average * average : square;
                    const double change = g / (std::sqrt(variance) + 0.01);
                    const double step = momentum ? 0.8 * s.b0[at] + change : change;
                    CHECK_CLOSE(s.a[i], square, 1e-6);
                    CHECK_CLOSE(s.p[i], s.p0[at] - 0.1 * step, 5e-6);
                    if (momentum) CHECK_CLOSE(s.b[i], step, 2e-5);
                    if (centered) CHECK_CLOSE(s.c[i], average, 1e-6);
                }
            }
}

TEST(adagrad) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts()) {
            State s(count, side);
            kernels().adagrad_update({s.p, s.g, s.a, count, 0.1f, 0.01f, 0.02f, 0.03f, false});
            for (int64_t i = 0; i < count; ++i) {
                const auto at = static_cast<size_t>(i);
                const double g = s.gradient(at, false, 0.02, 0.03), sum = s.a0[at] + g * g;
                CHECK_CLOSE(s.a[i], sum, 1e-6);
                CHECK_CLOSE(s.p[i], s.p0[at] - 0.1 * g / (std::sqrt(sum) + 0.01), 1e-6);
            }
        }
}

TEST(adam) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts())
            for (int mask = 0; mask < 4; ++mask) {
                const bool amsgrad = mask & 1, maximize = mask & 2;
                State s(count, side);
                engine::AdamArgs a{};
                a.param = s.p, a.grad = s.g, a.exp_avg = s.a, a.exp_avg_sq = s.b;
                a.max_exp_avg_sq = amsgrad ? s.c.data() : nullptr, a.count = count;
                a.one_minus_beta1 = 0.1f, a.beta2 = 0.99f, a.one_minus_beta2 = 0.01f,
                a.step_size = 0.2f;
                a.inv_root_bc2 = 1.5f, a.eps = 0.01f, a.weight_decay = 0.02f,
                a.decay_factor = 0.97f;
                a.maximize = maximize;
                kernels().adam_update(a);
                for (int64_t i = 0; i < count; ++i) {
                    const auto at = static_cast<size_t>(i);
                    const double g = s.gradient(at, maximize, 0.02, 0);
                    const double average = s.a0[at] + 0.1 * (g - s.a0[at]);
                    double square = 0.99 * s.b0[at] + 0.01 * g * g;
                    CHECK_CLOSE(s.a[i], average, 1e-6);
                    CHECK_CLOSE(s.b[i], square, 1e-6);
                    if (amsgrad) {
                        square = std::max(square, s.c0[at]);
                        CHECK_CLOSE(s.c[i], square, 1e-6);
                    }
                    CHECK_CLOSE(s.p[i],
                                0.97 * s.p0[at] - 0.2 * average / (std::sqrt(square) * 1.5 + 0.01),
                                1e-6);
                }
            }
}

TEST(norms) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts()) {
            engine_test::describe(count, " elements");
            Guarded<float> x(count, side);
            Numbers().fill(x, 0.5f, 2.0f);
            for (int64_t i = 0; i < count; i += 3) x[i] = -x[i];
            x.freeze();
            double sum = 0, squares = 0, cubes = 0, inverse = 0, high = 0, low = 1e9;
            for (int64_t i = 0; i < count; ++i) {
                const double v = std::fabs(x[i]);
                sum += v, squares += v * v, cubes += v * v * v, inverse += 1 / v;
                high = std::max(high, v), low = std::min(low, v);
            }
            const auto norm = [&](NormKind kind, float p) {
                double partial = -1;
                kernels().norm_partial({x, count, kind, p, &partial});
                return partial;
            };
            CHECK_CLOSE(norm(NormKind::sum_abs, 1), sum, 1e-5 * sum);
            CHECK_CLOSE(norm(NormKind::sum_squares, 2), squares, 1e-5 * squares);
            CHECK_CLOSE(norm(NormKind::sum_power, 3), cubes, 1e-5 * cubes);
            CHECK_CLOSE(norm(NormKind::sum_power, -1), inverse, 1e-5 * inverse);
            CHECK_CLOSE(norm(NormKind::max_abs, 0), high, 0.0);
            CHECK_CLOSE(norm(NormKind::min_abs, 0), low, 0.0);
            CHECK_CLOSE(norm(NormKind::count_nonzero, 0), count, 0.0);
        }
}

TEST(scale_clamp_finite) {
    for (Against side : {Against::end, Against::start})
        for (int64_t count : counts()) {
            engine_test::describe(count, " elements");
            Guarded<float> x(count, side), y(count, side);
            Numbers().fill(x, -2, 2);
            for (int64_t i = 0; i < count; ++i) y[i] = x[i];
            kernels().scale_flat({y, count, 0.5f});
            for (int64_t i = 0; i < count; ++i) CHECK_EQUAL(y[i], x[i] * 0.5f);
            kernels().clamp_flat({y, count, 0.25f});
            for (int64_t i = 0; i < count; ++i)
                CHECK_EQUAL(y[i], std::fmin(std::fmax(x[i] * 0.5f, -0.25f), 0.25f));
            bool finite = false;
            kernels().finite_flat({x, count, &finite});
            CHECK(finite);
            for (float bad :
                 {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                  std::numeric_limits<float>::quiet_NaN()}) {
                const float kept = x[count - 1];
                x[count - 1] = bad;
                kernels().finite_flat({x, count, &finite});
                CHECK(!finite);
                x[count - 1] = kept;
            }
        }
}
