// Reductions, softmax and cross-entropy.
#include <limits>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;
using engine::ReduceOp;

namespace {

std::vector<int64_t> lengths() {
    const int64_t lanes = kernels().lanes;
    return {1, lanes - 1, lanes, 4 * lanes, 9 * lanes + 3};
}

double combine(ReduceOp op, double a, double b) {
    switch (op) {
        case ReduceOp::max: return std::isnan(a) || std::isnan(b) ? NAN : std::fmax(a, b);
        case ReduceOp::min: return std::isnan(a) || std::isnan(b) ? NAN : std::fmin(a, b);
        case ReduceOp::prod: return a * b;
        default: return a + b;
    }
}

}  // namespace

TEST(reduce_rows_and_columns) {
    for (Against side : {Against::end, Against::start})
        for (ReduceOp op :
             {ReduceOp::sum, ReduceOp::mean, ReduceOp::max, ReduceOp::min, ReduceOp::prod})
            for (int64_t n : lengths())
                for (int64_t rows : {1, 3, 20})
                    for (bool with_nan : {false, true}) {
                        engine_test::describe("op ", static_cast<int>(op), ", ", rows, " rows of ",
                                              n);
                        const int64_t src_row = n + 2;
                        Guarded<float> x((rows - 1) * src_row + n, side);
                        Numbers numbers(static_cast<uint32_t>(n));
                        numbers.fill(x, 0.9f, 1.1f);
                        for (int64_t i = 0; i < x.size(); i += 2) x[i] = -x[i];
                        if (with_nan) x[x.size() / 2] = std::numeric_limits<float>::quiet_NaN();
                        x.freeze();
                        Guarded<double> by_row(rows, side), by_column(n, side);
                        std::vector<double> rows_exact, columns_exact;
                        for (int64_t r = 0; r < rows; ++r) by_row[r] = 0.5 + static_cast<double>(r);
                        for (int64_t c = 0; c < n; ++c) by_column[c] = -0.5;
                        for (int64_t r = 0; r < rows; ++r) {
                            double value = by_row[r];
                            for (int64_t c = 0; c < n; ++c)
                                value = combine(op, value, x[r * src_row + c]);
                            rows_exact.push_back(value);
                        }
                        for (int64_t c = 0; c < n; ++c) {
                            double value = by_column[c];
                            for (int64_t r = 0; r < rows; ++r)
                                value = combine(op, value, x[r * src_row + c]);
                            columns_exact.push_back(value);
                        }
                        kernels().reduce_rows({op, x, by_row, n, rows, src_row});
                        kernels().reduce_columns({op, x, by_column, n, rows, src_row});
                        for (int64_t r = 0; r < rows; ++r) {
                            const double exact = rows_exact[static_cast<size_t>(r)];
                            CHECK_CLOSE(by_row[r], exact,
                                        sum_tolerance(n) * (1 + std::fabs(exact)));
                        }
                        for (int64_t c = 0; c < n; ++c) {
                            const double exact = columns_exact[static_cast<size_t>(c)];
                            CHECK_CLOSE(by_column[c], exact,
                                        sum_tolerance(rows) * (1 + std::fabs(exact)));
                        }
                    }
}

TEST(index_of_the_largest_and_smallest) {
    for (Against side : {Against::end, Against::start})
        for (int64_t n : lengths())
            for (int32_t smallest : {0, 1})
                for (bool with_nan : {false, true}) {
                    engine_test::describe(n, " elements");
                    const int64_t rows = 4;
                    Guarded<float> x(rows * n, side);
                    Guarded<int64_t> index(rows, side);
                    Numbers numbers(static_cast<uint32_t>(n));
                    for (int64_t i = 0; i < x.size(); ++i)
                        x[i] = static_cast<float>(numbers.integer(-4, 4));
                    if (with_nan)
                        x[x.size() / 2] = x[x.size() - 1] = std::numeric_limits<float>::quiet_NaN();
                    x.freeze();
                    kernels().argreduce_rows({x, index, n, rows, n, smallest});
                    for (int64_t r = 0; r < rows; ++r) {
                        int64_t best = 0;
                        for (int64_t i = 1; i < n; ++i) {
                            const float v = x[r * n + i], b = x[r * n + best];
                            if (!std::isnan(b) && (std::isnan(v) || (smallest ? v < b : v > b)))
                                best = i;
                        }
                        CHECK_EQUAL(index[r], best);
                    }
                }
}

TEST(softmax_and_its_backward) {
    for (Against side : {Against::end, Against::start})
        for (int32_t log : {0, 1})
            for (int64_t n : {1, 2, 10, 33})
                for (int64_t inner : lengths()) {
                    engine_test::describe("n ", n, ", inner ", inner, log ? ", log" : "");
                    const int64_t outer = 2;
                    Guarded<float> x(outer * n * inner, side), dy(outer * n * inner, side);
                    Guarded<float> y(outer * n * inner, side), dx(outer * n * inner, side);
                    Numbers numbers;
                    numbers.fill(x, -8, 8);
                    numbers.fill(dy);
                    x.freeze();
                    dy.freeze();
                    kernels().softmax_forward({x, y, outer, n, inner, log});
                    y.freeze();
                    kernels().softmax_backward({dy, y, dx, outer, n, inner, log});
                    for (int64_t o = 0; o < outer; ++o)
                        for (int64_t i = 0; i < inner; ++i) {
                            const auto at = [&](int64_t c) { return (o * n + c) * inner + i; };
                            double total = 0, dot = 0;
                            for (int64_t c = 0; c < n; ++c) total += std::exp(double{x[at(c)]});
                            const auto p = [&](int64_t c) {
                                return std::exp(double{x[at(c)]}) / total;
                            };
                            for (int64_t c = 0; c < n; ++c) dot += dy[at(c)] * (log ? 1.0 : p(c));
                            for (int64_t c = 0; c < n; ++c) {
                                CHECK_CLOSE(y[at(c)], log ? std::log(p(c)) : p(c), 2e-5);
                                CHECK_CLOSE(dx[at(c)],
                                            log ? dy[at(c)] - p(c) * dot : p(c) * (dy[at(c)] - dot),
                                            2e-5);
                            }
                        }
                }
}

TEST(cross_entropy_and_its_backward) {
    for (Against side : {Against::end, Against::start})
        for (int64_t classes : {1, 2, 10, 33})
            for (bool weighted : {false, true})
                for (float smoothing : {0.0f, 0.25f}) {
                    engine_test::describe(classes, " classes, smoothing ", smoothing);
                    const int64_t rows = 7, ignore = -100;
                    Guarded<float> x(rows * classes, side), weight(classes, side),
                        log_probs(rows * classes, side);
                    Guarded<float> loss(rows, side), target_weight(rows, side), dloss(rows, side);
                    Guarded<float> dx(rows * classes, side);
                    Guarded<int64_t> target(rows, side);
                    Numbers numbers;
                    numbers.fill(x, -5, 5);
                    numbers.fill(weight, 0.5f, 2);
                    numbers.fill(dloss);
                    for (int64_t r = 0; r < rows; ++r)
                        target[r] = r == 3 ? ignore : numbers.integer(0, classes - 1);
                    for (auto* buffer : {&x, &weight, &dloss}) buffer->freeze();
                    target.freeze();
                    const float* w = weighted ? weight.data() : nullptr;
                    kernels().cross_entropy_forward({x, target, w, log_probs, loss, target_weight,
                                                     rows, classes, ignore, smoothing});
                    kernels().cross_entropy_backward({log_probs, target, w, dloss, dx, rows,
                                                      classes, ignore, 1, 0.5f, smoothing});
                    for (int64_t r = 0; r < rows; ++r) {
                        const auto at = [&](int64_t c) { return r * classes + c; };
                        const auto weight_of = [&](int64_t c) {
                            return weighted ? double{weight[c]} : 1.0;
                        };
                        const bool ignored = target[r] == ignore;
                        double total = 0, mass = 0, exact = 0;
                        for (int64_t c = 0; c < classes; ++c) total += std::exp(double{x[at(c)]});
                        // The target distribution, weighted by class.
                        const auto q = [&](int64_t c) {
                            const double share = smoothing / static_cast<double>(classes);
                            return weight_of(c) *
                                   (share + (c == target[r] ? 1.0 - smoothing : 0.0));
                        };
                        for (int64_t c = 0; c < classes; ++c) {
                            const double log_p = x[at(c)] - std::log(total);
                            CHECK_CLOSE(log_probs[at(c)], log_p, 1e-5);
                            exact -= q(c) * log_p;
                            mass += q(c);
                        }
                        CHECK_CLOSE(loss[r], ignored ? 0.0 : exact, 3e-5);
                        CHECK_CLOSE(target_weight[r], ignored ? 0.0 : weight_of(target[r]), 1e-6);
                        for (int64_t c = 0; c < classes; ++c) {
                            const double p = std::exp(double{x[at(c)]}) / total;
                            CHECK_CLOSE(dx[at(c)],
                                        ignored ? 0.0 : 0.5 * dloss[r] * (p * mass - q(c)), 1e-5);
                        }
                    }
                }
}
