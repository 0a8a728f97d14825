// Arguments of the kernels in csrc/kernels/reduce.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {}
