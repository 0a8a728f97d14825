// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed
// bijection of a 128-bit counter. Any element of a random array is computed from its index alone,
// so neither threads nor vector width can change it.
//
// Static and always inlined: csrc/kernels includes it too, and must not share symbols with
// anything.
#pragma once

#include <cstdint>

namespace engine {

constexpr int kPhiloxRounds = 10;
constexpr uint32_t kPhiloxFactor0 = 0xD2511F53u, kPhiloxFactor1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxStep0 = 0x9E3779B9u, kPhiloxStep1 = 0xBB67AE85u;

// counter -> four random words, in place. kernels/random.cpp has the same on vectors.
static inline __attribute__((always_inline)) void philox4x32(uint32_t& c0, uint32_t& c1,
                                                             uint32_t& c2, uint32_t& c3,
                                                             uint32_t key0, uint32_t key1) {
    for (int round = 0; round < kPhiloxRounds; ++round) {
        const uint64_t product0 = uint64_t{kPhiloxFactor0} * c0;
        const uint64_t product1 = uint64_t{kPhiloxFactor1} * c2;
        c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
        c1 = static_cast<uint32_t>(product1);
        c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
        c3 = static_cast<uint32_t>(product0);
        key0 += kPhiloxStep0;
        key1 += kPhiloxStep1;
    }
}

}  // namespace engine
