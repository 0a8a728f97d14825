// Random numbers: uniform, normal, dropout.
//
// Formula   words 4k..4k+3 of the stream = Philox4x32-10(counter (k, offset), key seed);
//           u = (word >> 8) 2^-24; normal pairs from words (0, 1) and (2, 3) of a counter:
//           sqrt(-2 log(1 - u0)) (cos, sin)(2 pi u1)
// Layout    element i of the logical row-major order takes word i; dst is a contiguous stretch
// Method    blocks of 64 counters (256 elements) into a buffer, one counter per lane, then to
// floats.
//           Blocks are aligned to multiples of 256 elements, so that a stretch may start and end
//           anywhere.
#include "core/philox.h"
#include "dispatch/args.h"
#include "simd/math.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

constexpr int kCounters = 64;
constexpr int kElements = 4 * kCounters;

// words[j][i]: word j of counter `first_counter + i`; first_counter is a multiple of kCounters.
ENGINE_INLINE void random_words(const RandomArgs& a, uint64_t first_counter,
                                uint32_t (&words)[4][kCounters]) {
    const uint32_t low = static_cast<uint32_t>(first_counter);
    const uint32_t high = static_cast<uint32_t>(first_counter >> 32);
    const uint32_t offset0 = static_cast<uint32_t>(a.offset);
    const uint32_t offset1 = static_cast<uint32_t>(a.offset >> 32);
    const uint32_t key0 = static_cast<uint32_t>(a.seed);
    const uint32_t key1 = static_cast<uint32_t>(a.seed >> 32);
#if defined(ENGINE_ISA_IS_generic)  // wide products are a scalar matter here
    for (int i = 0; i < kCounters; ++i) {
        uint32_t c0 = low + static_cast<uint32_t>(i), c1 = high, c2 = offset0, c3 = offset1;
        philox4x32(c0, c1, c2, c3, key0, key1);
        words[0][i] = c0;
        words[1][i] = c1;
        words[2][i] = c2;
        words[3][i] = c3;
    }
#else
    for (int i = 0; i < kCounters; i += VL) {
        vi c0 = iota() + static_cast<int32_t>(low + static_cast<uint32_t>(i));
        vi c1 = seti(static_cast<int32_t>(high));
        vi c2 = seti(static_cast<int32_t>(offset0)), c3 = seti(static_cast<int32_t>(offset1));
        uint32_t k0 = key0, k1 = key1;
        for (int round = 0; round < kPhiloxRounds; ++round) {
            vi high0, high1;
            const vi low0 = mul_wide(c0, kPhiloxFactor0, &high0);
            const vi low1 = mul_wide(c2, kPhiloxFactor1, &high1);
            c0 = xori(xori(high1, c1), seti(static_cast<int32_t>(k0)));
            c1 = low1;
            c2 = xori(xori(high0, c3), seti(static_cast<int32_t>(k1)));
            c3 = low0;
            k0 += kPhiloxStep0;
            k1 += kPhiloxStep1;
        }
        storei(reinterpret_cast<int32_t*>(words[0] + i), c0);
        storei(reinterpret_cast<int32_t*>(words[1] + i), c1);
        storei(reinterpret_cast<int32_t*>(words[2] + i), c2);
        storei(reinterpret_cast<int32_t*>(words[3] + i), c3);
    }
#endif
}

// The upper 24 bits of each word, as numbers 0 .. 2^24 - 1.
ENGINE_INLINE vi bits24(const uint32_t* words) {
    return shr<8>(loadi(reinterpret_cast<const int32_t*>(words)));
}

ENGINE_INLINE void to_values(const RandomArgs& a, const uint32_t (&words)[4][kCounters],
                             float (&values)[4][kCounters]) {
    constexpr float kStep = 1.f / 16777216.f;
    if (a.kind == RandomArgs::normal) {
        for (int j = 0; j < 4; j += 2)
            for (int i = 0; i < kCounters; i += VL) {
                // 1 - u lies in (0, 1]: its logarithm is finite
                const vf u0 = (set1(16777216.f) - to_float(bits24(words[j] + i))) * set1(kStep);
                const vf u1 = to_float(bits24(words[j + 1] + i)) * set1(kStep);
                const vf radius = sqrt(set1(-2.f) * log(u0)) * set1(a.b);
                vf sine, cosine;
                sincos_turns(u1, &sine, &cosine);
                store(values[j] + i, fma(radius, cosine, set1(a.a)));
                store(values[j + 1] + i, fma(radius, sine, set1(a.a)));
            }
        return;
    }
    for (int j = 0; j < 4; ++j)
        for (int i = 0; i < kCounters; i += VL) {
            const vi bits = bits24(words[j] + i);
            vf v;
            if (a.kind == RandomArgs::uniform)
                v = min_raw(set1(a.largest),
                            fma(to_float(bits), set1((a.b - a.a) * kStep), set1(a.a)));
            else
                v = select(lti(bits, seti(a.drop_below)), zero(), set1(a.scale));
            store(values[j] + i, v);
        }
}

}  // namespace

void random_fill(const RandomArgs& a) {
    alignas(64) uint32_t words[4][kCounters];
    alignas(64) float values[4][kCounters];
    alignas(64) float ordered[kElements];
    int64_t done = 0;
    while (done < a.n) {
        const int64_t index = a.first + done;
        const int64_t block = index / kElements;
        const int64_t skip = index - block * kElements;
        const int64_t count = a.n - done < kElements - skip ? a.n - done : kElements - skip;
        random_words(a, static_cast<uint64_t>(block) * kCounters, words);
        to_values(a, words, values);
        for (int i = 0; i < kCounters; ++i)
            for (int j = 0; j < 4; ++j) ordered[4 * i + j] = values[j][i];
        float* dst = a.dst + done;
        if (a.kind == RandomArgs::dropout) {
            const float* src = a.src + done;
            for (int64_t i = 0; i < count; i += VL) {
                const int lanes = count - i < VL ? static_cast<int>(count - i) : VL;
                store_n(dst + i, load_n(src + i, lanes) * load_n(ordered + skip + i, lanes), lanes);
            }
        } else {
            __builtin_memcpy(dst, ordered + skip, static_cast<size_t>(count) * sizeof(float));
        }
        done += count;
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
