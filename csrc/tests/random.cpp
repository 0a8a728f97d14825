// Random numbers: known answers, independence from how a stretch is cut, moments.
#include "core/philox.h"
#include "dispatch/table.h"
#include "tests/guard.h"
#include "tests/test.h"

using engine::kernels;
using engine::RandomArgs;

namespace {

RandomArgs arguments(RandomArgs::Kind kind) {
    RandomArgs a{};
    a.kind = kind, a.seed = 0x123456789abcdefull, a.offset = 77;
    if (kind == RandomArgs::uniform) a.a = -1, a.b = 3, a.largest = 2.9999998f;
    if (kind == RandomArgs::normal) a.a = 0.5f, a.b = 2;
    if (kind == RandomArgs::keep || kind == RandomArgs::dropout)
        a.drop_below = 1 << 22, a.scale = 4.0f / 3;  // p = 1/4
    return a;
}

}  // namespace

TEST(philox_known_answers) {  // from the paper's reference implementation (Random123, kat_vectors)
    uint32_t a = 0, b = 0, c = 0, d = 0;
    engine::philox4x32(a, b, c, d, 0, 0);
    CHECK(a == 0x6627e8d5u && b == 0xe169c58du && c == 0xbc57ac4cu && d == 0x9b00dbd8u);
    a = b = c = d = 0xffffffffu;
    engine::philox4x32(a, b, c, d, 0xffffffffu, 0xffffffffu);
    CHECK(a == 0x408f276du && b == 0x41c83b0eu && c == 0xa20bc7c6u && d == 0x6d5451fdu);
}

TEST(any_stretch_is_the_same_as_the_whole) {
    for (RandomArgs::Kind kind :
         {RandomArgs::uniform, RandomArgs::normal, RandomArgs::keep, RandomArgs::dropout}) {
        const int64_t total = 1500;
        Guarded<float> src(total, Against::end), whole(total, Against::end);
        Numbers().fill(src);
        RandomArgs a = arguments(kind);
        a.src = src, a.dst = whole, a.n = total;
        kernels().random_fill(a);
        Numbers numbers(3);
        for (Against side : {Against::end, Against::start})
            for (int trial = 0; trial < 40; ++trial) {
                const int64_t first = numbers.integer(0, total - 1),
                              n = numbers.integer(0, total - first);
                engine_test::describe("kind ", static_cast<int>(kind), ", first ", first, ", n ",
                                      n);
                Guarded<float> part(n, side), from(n, side);
                for (int64_t i = 0; i < n; ++i) from[i] = src[first + i];
                a.src = from, a.dst = part, a.first = first, a.n = n;
                kernels().random_fill(a);
                for (int64_t i = 0; i < n; ++i) CHECK_EQUAL(part[i], whole[first + i]);
            }
    }
}

TEST(moments_and_limits) {
    const int64_t n = 200000;
    std::vector<float> x(static_cast<size_t>(n));
    const auto moments = [&](RandomArgs::Kind kind, double mean, double deviation) {
        engine_test::describe("kind ", static_cast<int>(kind));
        RandomArgs a = arguments(kind);
        a.dst = x.data(), a.n = n;
        kernels().random_fill(a);
        double sum = 0, squares = 0;
        for (float v : x) sum += v, squares += double{v} * v;
        sum /= static_cast<double>(n);
        CHECK_CLOSE(sum, mean, 5 * deviation / std::sqrt(static_cast<double>(n)));
        CHECK_CLOSE(std::sqrt(squares / static_cast<double>(n) - sum * sum), deviation,
                    0.01 * deviation);
    };
    moments(RandomArgs::uniform, 1.0, 4.0 / std::sqrt(12.0));
    for (float v : x)
        if (!(v >= -1.0f && v < 3.0f)) CHECK_EQUAL(v, 0.0f);
    moments(RandomArgs::normal, 0.5, 2.0);
    moments(RandomArgs::keep, 1.0, std::sqrt(1.0 / 3));
}
