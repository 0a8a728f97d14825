// Normalisation kernels against double precision.
#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::Activation;
using engine::kernels;

namespace {

std::vector<int64_t> channel_counts() {
    const int64_t lanes = kernels().lanes;
    return {1, lanes - 1, lanes, lanes + 1, 4 * lanes, 6 * lanes + 3};
}

int64_t extent(int64_t pixels, int64_t ld, int64_t channels) {
    return (pixels - 1) * ld + channels;
}

void check_channels(int64_t channels, int64_t pixels, Against side) {
    engine_test::describe(channels, " channels, ", pixels, " pixels");
    Numbers numbers(static_cast<uint32_t>(channels * 31 + pixels));
    const int64_t x_ld = channels + 1, dy_ld = channels + 2, out_ld = channels + 3;
    Guarded<float> x(extent(pixels, x_ld, channels), side),
        dy(extent(pixels, dy_ld, channels), side);
    Guarded<float> scale(channels, side), shift(channels, side), third(channels, side);
    numbers.fill(x, 9.0f, 11.0f);  // a mean that is large against the deviation
    for (auto* buffer : {&dy, &scale, &shift, &third}) numbers.fill(*buffer);
    for (auto* buffer : {&x, &dy, &scale, &shift, &third}) buffer->freeze();

    Guarded<float> mean(channels, side), m2(channels, side), sum(channels, side),
        sum_x(channels, side);
    kernels().channel_stats({x, x_ld, channels, pixels, mean, m2, sum});
    kernels().channel_grad_sums({dy, x, dy_ld, x_ld, channels, pixels, mean, nullptr, nullptr,
                                 Activation::none, nullptr, nullptr, 0, 0, false, sum, sum_x});
    Guarded<float> y(extent(pixels, out_ld, channels), side),
        dx(extent(pixels, out_ld, channels), side);
    Guarded<float> scaled(extent(pixels, out_ld, channels), side);
    kernels().channel_affine({x, y, x_ld, out_ld, channels, pixels, mean, scale, shift, nullptr, 0,
                              Activation::none, false});
    kernels().channel_grad({dy, x, dx, dy_ld, x_ld, out_ld, channels, pixels, mean, scale, third,
                            shift, nullptr, Activation::none, false});
    kernels().channel_grad({dy, nullptr, scaled, dy_ld, 0, out_ld, channels, pixels, nullptr, scale,
                            nullptr, nullptr, nullptr, Activation::none, false});

    Guarded<float> scale_dx(extent(pixels, out_ld, channels), side), scale_sum(channels, side);
    kernels().channel_scale_grad(
        {dy, x, scale, scale_dx, scale_sum, dy_ld, x_ld, out_ld, channels, pixels, false});
    for (int64_t c = 0; c < channels; ++c) {
        double product = 0;
        for (int64_t p = 0; p < pixels; ++p) {
            product += double{dy[p * dy_ld + c]} * x[p * x_ld + c];
            CHECK_CLOSE(scale_dx[p * out_ld + c], double{dy[p * dy_ld + c]} * scale[c], 1e-6);
        }
        CHECK_CLOSE(scale_sum[c], product, 11 * sum_tolerance(pixels));
    }

    for (int64_t c = 0; c < channels; ++c) {
        double total = 0, squares = 0, total_dy = 0, total_dy_x = 0;
        for (int64_t p = 0; p < pixels; ++p) total += x[p * x_ld + c];
        const double exact_mean = total / static_cast<double>(pixels);
        for (int64_t p = 0; p < pixels; ++p) {
            const double d = x[p * x_ld + c] - exact_mean, g = dy[p * dy_ld + c];
            squares += d * d;
            total_dy += g;
            total_dy_x += g * (double{x[p * x_ld + c]} - mean[c]);
        }
        CHECK_CLOSE(mean[c], exact_mean, 1e-5);
        CHECK_CLOSE(m2[c], squares, 1e-5 * static_cast<double>(pixels));
        CHECK_CLOSE(sum[c], total_dy, sum_tolerance(pixels));
        CHECK_CLOSE(sum_x[c], total_dy_x, sum_tolerance(pixels));
        for (int64_t p = 0; p < pixels; ++p) {
            const double centred = double{x[p * x_ld + c]} - mean[c], g = dy[p * dy_ld + c];
            CHECK_CLOSE(y[p * out_ld + c], centred * scale[c] + shift[c], 2e-6);
            CHECK_CLOSE(dx[p * out_ld + c], g * scale[c] + centred * third[c] + shift[c], 2e-6);
            CHECK_CLOSE(scaled[p * out_ld + c], g * scale[c], 1e-6);
        }
    }
}

double activated(Activation activation, double z) {
    switch (activation) {
        case Activation::relu: return std::max(z, 0.0);
        case Activation::relu6: return std::min(std::max(z, 0.0), 6.0);
        case Activation::silu: return z / (1 + std::exp(-z));
        case Activation::hardswish: return z * std::min(std::max(z + 3, 0.0), 6.0) / 6;
        default: return z;
    }
}

double slope(Activation activation, double z) {
    const double s = 1 / (1 + std::exp(-z));
    switch (activation) {
        case Activation::relu: return z > 0;
        case Activation::relu6: return z > 0 && z < 6;
        case Activation::silu: return s * (1 + z * (1 - s));
        case Activation::hardswish: return z <= -3 ? 0 : z < 3 ? z / 3 + 0.5 : 1;
        default: return 1;
    }
}

// Maps and gradients through residual and activation; x far enough apart to reach every branch.
void check_activated(Activation activation, bool with_residual, int64_t channels, int64_t pixels,
                     Against side) {
    engine_test::describe(channels, " channels, ", pixels, " pixels, activation ",
                          static_cast<int>(activation), with_residual ? ", residual" : "");
    Numbers numbers(static_cast<uint32_t>(channels * 7 + pixels));
    const int64_t x_ld = channels + 1, r_ld = channels + 2, y_ld = channels + 3;
    Guarded<float> x(extent(pixels, x_ld, channels), side),
        residual(extent(pixels, r_ld, channels), side), dy(pixels * channels, side);
    Guarded<float> mean(channels, side), scale(channels, side), shift(channels, side),
        x_scale(channels, side), g_shift(channels, side);
    numbers.fill(x, -8.0f, 8.0f);
    numbers.fill(residual, -2.0f, 2.0f);
    for (auto* buffer : {&dy, &mean, &scale, &shift, &x_scale, &g_shift}) numbers.fill(*buffer);
    for (auto* buffer : {&x, &residual, &dy, &mean, &scale, &shift, &x_scale, &g_shift})
        buffer->freeze();
    const float* added = with_residual ? residual.data() : nullptr;
    Guarded<float> y(extent(pixels, y_ld, channels), side);
    kernels().channel_affine(
        {x, y, x_ld, y_ld, channels, pixels, mean, scale, shift, added, r_ld, activation, false});
    y.freeze();
    const bool output = activation == Activation::relu || activation == Activation::relu6;
    Guarded<float> g(pixels * channels, side), sum(channels, side), sum_x(channels, side),
        dx(pixels * channels, side);
    kernels().channel_grad_sums({dy, x, channels, x_ld, channels, pixels, mean, scale, shift,
                                 activation, added ? (output ? y.data() : added) : nullptr,
                                 added ? g.data() : nullptr, output ? y_ld : r_ld, channels, false,
                                 sum, sum_x});
    if (!added)
        kernels().channel_grad({dy, x, dx, channels, x_ld, channels, channels, pixels, mean, scale,
                                x_scale, g_shift, shift, activation, false});
    for (int64_t c = 0; c < channels; ++c) {
        double total = 0, total_x = 0;
        for (int64_t p = 0; p < pixels; ++p) {
            const double centred = double{x[p * x_ld + c]} - mean[c];
            const double z =
                centred * scale[c] + shift[c] + (added ? double{residual[p * r_ld + c]} : 0.0);
            const double exact = dy[p * channels + c] * slope(activation, z);
            CHECK_CLOSE(y[p * y_ld + c], activated(activation, z), 5e-6);
            total += exact;
            total_x += exact * centred;
            if (added)
                CHECK_CLOSE(g[p * channels + c], exact, 5e-6);
            else
                CHECK_CLOSE(dx[p * channels + c],
                            exact * scale[c] + centred * x_scale[c] + g_shift[c], 1e-5);
        }
        CHECK_CLOSE(sum[c], total, 1e-5 + sum_tolerance(pixels));
        CHECK_CLOSE(sum_x[c], total_x, 10 * (1e-5 + sum_tolerance(pixels)));
    }
}

void check_rows(int64_t columns, bool affine, Against side) {
    engine_test::describe(columns, " columns");
    const int64_t rows = 3;
    Numbers numbers(static_cast<uint32_t>(columns));
    Guarded<float> x(rows * columns, side), dy(rows * columns, side), weight(columns, side),
        bias(columns, side);
    for (auto* buffer : {&x, &dy, &weight, &bias}) {
        numbers.fill(*buffer);
        buffer->freeze();
    }
    Guarded<float> y(rows * columns, side), dx(rows * columns, side), mean(rows, side),
        invstd(rows, side);
    Guarded<float> dweight(columns, side), dbias(columns, side);
    const float* w = affine ? weight.data() : nullptr;
    kernels().row_norm_forward(
        {x, y, columns, 0, rows, w, affine ? bias.data() : nullptr, 1e-5, mean, invstd});
    kernels().row_norm_backward({dy, x, dx, columns, 0, rows, w, mean, invstd,
                                 affine ? dweight.data() : nullptr,
                                 affine ? dbias.data() : nullptr});
    std::vector<double> exact_dw(static_cast<size_t>(columns)),
        exact_db(static_cast<size_t>(columns));
    const double n = static_cast<double>(columns);
    for (int64_t r = 0; r < rows; ++r) {
        const auto at = [&](int64_t i) { return r * columns + i; };
        double total = 0, squares = 0, g_sum = 0, gx_sum = 0;
        for (int64_t i = 0; i < columns; ++i) total += x[at(i)];
        for (int64_t i = 0; i < columns; ++i) squares += std::pow(x[at(i)] - total / n, 2);
        const double scale = 1 / std::sqrt(squares / n + 1e-5);
        const auto hat = [&](int64_t i) { return (x[at(i)] - total / n) * scale; };
        const auto g = [&](int64_t i) { return double{dy[at(i)]} * (affine ? weight[i] : 1.0f); };
        for (int64_t i = 0; i < columns; ++i) g_sum += g(i), gx_sum += g(i) * hat(i);
        CHECK_CLOSE(mean[r], total / n, 1e-6);
        CHECK_CLOSE(invstd[r], scale, 2e-5 * scale);
        for (int64_t i = 0; i < columns; ++i) {
            const auto c = static_cast<size_t>(i);
            CHECK_CLOSE(y[at(i)], affine ? hat(i) * weight[i] + bias[i] : hat(i), 1e-4);
            CHECK_CLOSE(dx[at(i)], scale * (g(i) - g_sum / n - hat(i) * gx_sum / n),
                        1e-5 * (1 + scale));
            exact_dw[c] += dy[at(i)] * hat(i);
            exact_db[c] += dy[at(i)];
        }
    }
    for (int64_t i = 0; affine && i < columns; ++i) {
        CHECK_CLOSE(dweight[i], exact_dw[static_cast<size_t>(i)], 1e-4);
        CHECK_CLOSE(dbias[i], exact_db[static_cast<size_t>(i)], 1e-5);
    }
}

void check_response(int64_t channels, int64_t before, int64_t after, float beta, Against side) {
    engine_test::describe(channels, " channels, window -", before, " +", after, ", beta ", beta);
    const int64_t pixels = 3, x_ld = channels + 1, y_ld = channels, dx_ld = channels + 2;
    const float alpha = 0.3f, k = 1.5f;
    Numbers numbers(static_cast<uint32_t>(channels));
    Guarded<float> x(extent(pixels, x_ld, channels), side), dy(pixels * channels, side);
    numbers.fill(x);
    numbers.fill(dy);
    x.freeze();
    dy.freeze();
    Guarded<float> y(pixels * channels, side), dx(extent(pixels, dx_ld, channels), side);
    Guarded<float> squares(before + channels + after, side),
        shares(before + channels + after, side);
    kernels().response_norm_forward(
        {x, y, x_ld, y_ld, channels, pixels, before, after, alpha, beta, k, squares});
    y.freeze();
    kernels().response_norm_backward({dy, x, y, dx, y_ld, x_ld, y_ld, dx_ld, channels, pixels,
                                      before, after, alpha, beta, k, squares, shares});
    for (int64_t p = 0; p < pixels; ++p) {
        const auto d = [&](int64_t c) {
            double sum = 0;
            for (int64_t i = std::max<int64_t>(0, c - before);
                 i <= std::min(channels - 1, c + after); ++i)
                sum += std::pow(double{x[p * x_ld + i]}, 2);
            return k + alpha * sum;
        };
        for (int64_t c = 0; c < channels; ++c) {
            CHECK_CLOSE(y[p * y_ld + c], x[p * x_ld + c] * std::pow(d(c), -double{beta}), 1e-6);
            double exact = dy[p * channels + c] * std::pow(d(c), -double{beta});
            for (int64_t j = std::max<int64_t>(0, c - after);
                 j <= std::min(channels - 1, c + before); ++j)
                exact -= 2.0 * alpha * beta * x[p * x_ld + c] * dy[p * channels + j] *
                         x[p * x_ld + j] * std::pow(d(j), -double{beta} - 1);
            CHECK_CLOSE(dx[p * dx_ld + c], exact, 2e-6);
        }
    }
}

}  // namespace

TEST(channel_statistics_maps_and_gradients) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : channel_counts())
            for (int64_t pixels : {1, 4, 7, 100}) check_channels(channels, pixels, side);
}

TEST(channel_maps_with_residual_and_activation) {
    for (Against side : {Against::end, Against::start})
        for (Activation activation : {Activation::none, Activation::relu, Activation::relu6,
                                      Activation::silu, Activation::hardswish})
            for (bool residual : {false, true})
                for (int64_t channels : channel_counts())
                    for (int64_t pixels : {1, 7, 100})
                        check_activated(activation, residual, channels, pixels, side);
}

TEST(layer_norm_rows) {
    for (Against side : {Against::end, Against::start})
        for (bool affine : {false, true})
            for (int64_t columns : {2, 7, 16, 33, 130, 9001}) check_rows(columns, affine, side);
}

TEST(local_response_norm) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : channel_counts())
            for (float beta : {0.75f, 0.5f, 1.0f, 0.6f}) {
                check_response(channels, 2, 2, beta, side);
                check_response(channels, 1, 0, beta, side);
            }
}
