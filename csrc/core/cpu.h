// What the CPU and the operating system support, and the mode of its floating-point arithmetic.
#pragma once

#include <cstdint>
#include <string>

namespace engine {

// Whether kernels of this row of isa.txt may run here.
bool cpu_supports(const std::string& isa);
// The processor's name as it gives it, with the family, model and stepping where it has them.
std::string cpu_model();

// The bits of the calling thread's control register that decide results: rounding, and whether
// denormal numbers (below 1.2e-38) count as zero.
uint32_t float_mode();
void set_float_mode(uint32_t mode);

// Another mode for the life of the object, then the former one.
class FloatMode {
  public:
    explicit FloatMode(uint32_t mode) : before_(float_mode()), changed_(mode != before_) {
        if (changed_) set_float_mode(mode);
    }
    ~FloatMode() {
        if (changed_) set_float_mode(before_);
    }
    FloatMode(const FloatMode&) = delete;
    FloatMode& operator=(const FloatMode&) = delete;

  private:
    uint32_t before_;
    bool changed_;
};

// Denormal numbers count as zero on this thread, and on the workers of its parallel regions, for
// the life of the object: for sums of products, where a processor may take a hundred times as long
// for them and their contribution is beyond the last bit of any other.
class FlushDenormals : FloatMode {
  public:
    FlushDenormals();
};

}  // namespace engine
