// The transforms of F(4 x 4, 3 x 3), put together: one tile's output and one tile's filter
// gradient.
#include <cmath>
#include <memory>
#include <vector>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;

namespace {

constexpr double kTolerance = 2e-4;  // values of a few units through constants up to 8 * 8

// A size x size window of pixels in a guarded image of its own.
struct Tile {
    Tile(int64_t size, int64_t channels, uint32_t seed, Against side)
        : size(size), channels(channels), data(size * size * channels, side) {
        Numbers(seed).fill(data);
        data.freeze();
        for (int64_t i = 0; i < size * size; ++i) pixels.push_back(data + i * channels);
    }
    double at(int64_t row, int64_t column, int64_t c) const {
        return data[(row * size + column) * channels + c];
    }
    int64_t size, channels;
    Guarded<float> data;
    std::vector<const float*> pixels;
};

// One input channel at a time: the sum over channels is the matrix product's business.
void check_output(int64_t channels, int32_t rows, int32_t columns, bool with_bias, bool turned,
                  Against side) {
    engine_test::describe(channels, " channels, ", rows, " x ", columns, " pixels");
    const int64_t plane = channels + 3;
    Tile input(6, channels, 1, side);
    Guarded<float> weight(9 * channels, side), bias(channels, side);
    Numbers numbers(2);
    numbers.fill(weight), numbers.fill(bias);
    weight.freeze(), bias.freeze();
    Guarded<float> v(35 * plane + channels, side), u(35 * plane + channels, side);
    kernels().winograd_input({input.pixels.data(), channels, v, plane});
    kernels().winograd_weight({weight, channels, channels, turned, u, plane});
    Guarded<float> m(35 * plane + channels, side);
    for (int64_t e = 0; e < 36; ++e)
        for (int64_t c = 0; c < channels; ++c)
            m[e * plane + c] = v[e * plane + c] * u[e * plane + c];
    m.freeze();

    const int64_t pixel = channels + 1, row = 5 * pixel;
    Guarded<float> dst((rows - 1) * row + (columns - 1) * pixel + channels, side);
    dst.fill(-7.0f);
    int32_t spoiled = 0;
    kernels().winograd_output({m, plane, channels, with_bias ? bias.data() : nullptr, nullptr, 0, 0,
                               engine::Activation::none, dst, pixel, row, rows, columns, &spoiled});
    CHECK_EQUAL(spoiled, 0);
    for (int64_t h = 0; h < rows; ++h)
        for (int64_t w = 0; w < columns; ++w)
            for (int64_t c = 0; c < channels; ++c) {
                double sum = with_bias ? bias[c] : 0.0f;
                for (int64_t k = 0; k < 9; ++k)
                    sum += input.at(h + k / 3, w + k % 3, c) *
                           weight[(turned ? 8 - k : k) * channels + c];
                CHECK_CLOSE(dst[h * row + w * pixel + c], sum, kTolerance);
            }
}

void check_filter(int64_t channels, Against side) {
    engine_test::describe(channels, " channels");
    const int64_t plane = channels + 2;
    Tile input(6, channels, 3, side), gradient(4, channels, 4, side);
    Guarded<float> v(35 * plane + channels, side), g(35 * plane + channels, side);
    kernels().winograd_input({input.pixels.data(), channels, v, plane});
    kernels().winograd_gradient({gradient.pixels.data(), channels, g, plane});
    Guarded<float> m(35 * plane + channels, side), filter(8 * plane + channels, side);
    for (int64_t e = 0; e < 36; ++e)
        for (int64_t c = 0; c < channels; ++c)
            m[e * plane + c] = v[e * plane + c] * g[e * plane + c];
    m.freeze();
    kernels().winograd_filter({m, plane, channels, filter, plane});
    for (int64_t k = 0; k < 9; ++k)
        for (int64_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (int64_t p = 0; p < 16; ++p)
                sum += input.at(p / 4 + k / 3, p % 4 + k % 3, c) * gradient.at(p / 4, p % 4, c);
            CHECK_CLOSE(filter[k * plane + c], sum, kTolerance);
        }
}

}  // namespace

TEST(winograd_output_tiles) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {1, 3, 8, 15, 16, 17, 33})
            for (int32_t rows : {1, 3, 4})
                for (int32_t columns : {2, 4}) {
                    check_output(channels, rows, columns, rows == 4, false, side);
                    check_output(channels, rows, columns, false, true, side);
                }
}

TEST(winograd_filter_gradient) {
    for (Against side : {Against::end, Against::start})
        for (int64_t channels : {1, 4, 7, 8, 16, 31, 33}) check_filter(channels, side);
}

TEST(winograd_reports_what_is_not_finite) {
    Guarded<float> m(36, Against::end), dst(16, Against::end);
    m.fill(1.0f);
    for (float bad : {INFINITY, -INFINITY, NAN}) {
        m[7] = bad;
        int32_t spoiled = 0;
        kernels().winograd_output(
            {m, 1, 1, nullptr, nullptr, 0, 0, engine::Activation::none, dst, 1, 4, 4, 4, &spoiled});
        CHECK_EQUAL(spoiled, 1);
    }
}
