// Arguments of the kernels in csrc/kernels/softmax.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace engine {}
