// Figures of the machine that benchmarks quote beside their own.
#pragma once

#include <cstdint>
#include <string>

namespace engine {

// Multiply-add peak of the active instruction set, in GFLOP/s, best of several short runs.
double measure_peak(int threads);
// Bytes per second, in GB/s, of a loop over three arrays of `bytes` each on all threads: "read", or
// "triad", a = b + s * c. Every byte that the loop names counts once. Median of five.
double measure_bandwidth(const std::string& kind, int64_t bytes);
// Time for a cache line to pass from one of two threads to the other, in nanoseconds; tells near
// from far cores. 0 where only one core is to be had.
double measure_ping_pong();

}  // namespace engine
