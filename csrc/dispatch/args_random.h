// Arguments of the kernels in csrc/kernels/random.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {}
