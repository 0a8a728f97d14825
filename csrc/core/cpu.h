// What the CPU and the operating system support.
#pragma once

#include <string>

namespace engine {

// Whether kernels of this row of isa.txt may run here.
bool cpu_supports(const std::string& isa);

}  // namespace engine
