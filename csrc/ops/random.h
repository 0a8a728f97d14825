// Random arrays. The value of an element depends on (seed, offset, logical row-major index) only:
// not on layout, threads or vector width.
#pragma once

#include <string_view>

#include "core/array.h"

namespace engine {

Array uniform(const Dims& shape, double low, double high, uint64_t seed, uint64_t offset);
Array normal(const Dims& shape, double mean, double std, uint64_t seed, uint64_t offset);

// What is dropped together: single elements, (n, c) planes, or samples.
enum class DropMode { element, channel, row };
DropMode drop_mode_from_name(std::string_view name);
// x times 0 with probability p, else times 1 / (1 - p). Applied to dy it is its own gradient.
Array dropout(const Array& x, double p, uint64_t seed, uint64_t offset, DropMode mode);

}  // namespace engine
