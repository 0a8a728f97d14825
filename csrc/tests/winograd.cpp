// The transforms of every Winograd form, put together: one tile's output and one tile's filter
// gradient.
#include <cmath>
#include <memory>
#include <vector>

#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;
using engine::WinogradForm;

namespace {

constexpr double kTolerance = 5e-4;  // values of a few units through constants up to 11

// A form: outputs and taps of rows and columns.
struct Form {
    WinogradForm id;
    int mh, rh, mw, rw;
    int th() const { return mh + rh - 1; }
    int tw() const { return mw + rw - 1; }
    int elements() const { return th() * tw(); }
    int taps() const { return rh * rw; }
};
#define ENGINE_FORM(with, name, algorithm, mh, rh, mw, rw) {WinogradForm::name, mh, rh, mw, rw},
constexpr Form kForms[] = {ENGINE_WINOGRAD_FORMS(ENGINE_FORM, )};
#undef ENGINE_FORM

// A window of pixels in a guarded image of its own.
struct Tile {
    Tile(int64_t rows, int64_t columns, int64_t channels, uint32_t seed, Against side)
        : columns(columns), channels(channels), data(rows * columns * channels, side) {
        Numbers(seed).fill(data);
        data.freeze();
        for (int64_t i = 0; i < rows * columns; ++i) pixels.push_back(data + i * channels);
    }
    double at(int64_t row, int64_t column, int64_t c) const {
        return data[(row * columns + column) * channels + c];
    }
    int64_t columns, channels;
    Guarded<float> data;
    std::vector<const float*> pixels;
};

// One input channel at a time: the sum over channels is the matrix product's business.
void check_output(const Form& f, int64_t channels, int32_t rows, int32_t columns, bool with_bias,
                  bool turned, Against side) {
    engine_test::describe("form ", static_cast<int>(f.id), ", ", channels, " channels, ", rows,
                          " x ", columns, " pixels");
    const int64_t plane = channels + 3, last = (f.elements() - 1) * plane + channels;
    Tile input(f.th(), f.tw(), channels, 1, side);
    Guarded<float> weight(f.taps() * channels, side), bias(channels, side);
    Numbers numbers(2);
    numbers.fill(weight), numbers.fill(bias);
    weight.freeze(), bias.freeze();
    Guarded<float> v(last, side), u(last, side);
    kernels().winograd_input({f.id, input.pixels.data(), channels, v, plane});
    kernels().winograd_weight({f.id, weight, channels, channels, turned, u, plane});
    Guarded<float> m(last, side);
    for (int64_t e = 0; e < f.elements(); ++e)
        for (int64_t c = 0; c < channels; ++c)
            m[e * plane + c] = v[e * plane + c] * u[e * plane + c];
    m.freeze();

    const int64_t pixel = channels + 1, row = 5 * pixel;
    Guarded<float> dst((rows - 1) * row + (columns - 1) * pixel + channels, side);
    dst.fill(-7.0f);
    int32_t spoiled = 0;
    kernels().winograd_output({f.id, m, plane, channels, with_bias ? bias.data() : nullptr, nullptr,
                               0, 0, engine::Activation::none, dst, pixel, row, rows, columns,
                               &spoiled});
    CHECK_EQUAL(spoiled, 0);
    if (channels % kernels().lanes == 0) {  // past the caches the same
        Guarded<float> past(rows * columns * channels, Against::start);
        kernels().winograd_output({f.id, m, plane, channels, with_bias ? bias.data() : nullptr,
                                   nullptr, 0, 0, engine::Activation::none, past, channels,
                                   columns * channels, rows, columns, &spoiled, true, true});
        for (int64_t h = 0; h < rows; ++h)
            for (int64_t w = 0; w < columns; ++w)
                for (int64_t c = 0; c < channels; ++c)
                    CHECK_EQUAL(past[(h * columns + w) * channels + c],
                                dst[h * row + w * pixel + c]);
    }
    for (int64_t h = 0; h < rows; ++h)
        for (int64_t w = 0; w < columns; ++w)
            for (int64_t c = 0; c < channels; ++c) {
                double sum = with_bias ? bias[c] : 0.0f;
                for (int64_t k = 0; k < f.taps(); ++k)
                    sum += input.at(h + k / f.rw, w + k % f.rw, c) *
                           weight[(turned ? f.taps() - 1 - k : k) * channels + c];
                CHECK_CLOSE(dst[h * row + w * pixel + c], sum, kTolerance);
            }
}

void check_filter(const Form& f, int64_t channels, Against side) {
    engine_test::describe("form ", static_cast<int>(f.id), ", ", channels, " channels");
    const int64_t plane = channels + 2, last = (f.elements() - 1) * plane + channels;
    Tile input(f.th(), f.tw(), channels, 3, side), gradient(f.mh, f.mw, channels, 4, side);
    Guarded<float> v(last, side), g(last, side);
    kernels().winograd_input({f.id, input.pixels.data(), channels, v, plane});
    kernels().winograd_gradient({f.id, gradient.pixels.data(), channels, g, plane});
    Guarded<float> m(last, side), filter((f.taps() - 1) * plane + channels, side);
    for (int64_t e = 0; e < f.elements(); ++e)
        for (int64_t c = 0; c < channels; ++c)
            m[e * plane + c] = v[e * plane + c] * g[e * plane + c];
    m.freeze();
    kernels().winograd_filter({f.id, m, plane, channels, filter, plane});
    for (int64_t k = 0; k < f.taps(); ++k)
        for (int64_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (int64_t p = 0; p < f.mh * f.mw; ++p)
                sum += input.at(p / f.mw + k / f.rw, p % f.mw + k % f.rw, c) *
                       gradient.at(p / f.mw, p % f.mw, c);
            CHECK_CLOSE(filter[k * plane + c], sum, kTolerance);
        }
}

}  // namespace

TEST(winograd_output_tiles) {
    for (const Form& f : kForms)
        for (Against side : {Against::end, Against::start})
            for (int64_t channels : {1, 3, 8, 15, 16, 17, 33})
                for (int32_t rows = 1; rows <= f.mh; rows += 2)
                    for (int32_t columns = f.mw; columns > 0; columns -= 3) {
                        check_output(f, channels, rows, columns, rows == 1, false, side);
                        check_output(f, channels, f.mh, columns, false, true, side);
                    }
}

TEST(winograd_filter_gradient) {
    for (const Form& f : kForms)
        for (Against side : {Against::end, Against::start})
            for (int64_t channels : {1, 4, 7, 8, 16, 31, 33}) check_filter(f, channels, side);
}

TEST(winograd_reports_what_is_not_finite) {
    Guarded<float> m(36, Against::end), dst(16, Against::end);
    m.fill(1.0f);
    for (float bad : {INFINITY, -INFINITY, NAN}) {
        m[7] = bad;
        int32_t spoiled = 0;
        kernels().winograd_output({WinogradForm::f4x4_3x3, m, 1, 1, nullptr, nullptr, 0, 0,
                                   engine::Activation::none, dst, 1, 4, 4, 4, &spoiled});
        CHECK_EQUAL(spoiled, 1);
    }
}
