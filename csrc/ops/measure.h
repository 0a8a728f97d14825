// Figures of the machine that benchmarks quote beside their own.
#pragma once

namespace engine {

// Multiply-add peak of the active instruction set, in GFLOP/s, best of several short runs.
double measure_peak(int threads);
// Time for a cache line to pass from one of two threads to the other, in nanoseconds; tells near
// from far cores. 0 where only one core is to be had.
double measure_ping_pong();

}  // namespace engine
