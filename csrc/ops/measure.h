// Figures of the machine that benchmarks quote beside their own.
#pragma once

#include <cstdint>
#include <vector>

#include "core/array.h"

namespace engine {

// Multiply-add peak of the active instruction set, in GFLOP/s, best of several short runs.
double measure_peak(int threads);
// One pass of all threads over the first `count` elements of up to 4 arrays that are read and up to
// 3 that are written, dense and of one size, with an addition per element: what memory allows an op
// of that mix. An array may be among both. past_caches: non-temporal stores; fetch_ahead: distance
// of prefetches in elements, 0 leaves them to the processor.
void stream_pass(const std::vector<Array>& sources, const std::vector<Array>& results,
                 int64_t count, bool past_caches, int64_t fetch_ahead);
// Time for a cache line to pass from one of two threads to the other, in nanoseconds; tells near
// from far cores. 0 where only one core is to be had.
double measure_ping_pong();

}  // namespace engine
