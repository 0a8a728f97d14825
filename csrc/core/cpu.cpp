#include "core/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace engine {

#ifdef __x86_64__
namespace {

// Half-precision conversion; not among the names that every compiler's __builtin_cpu_supports
// knows.
bool has_f16c() {
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

}  // namespace
#endif

bool cpu_supports(const std::string& isa) {
    if (isa == "generic") return true;
#if defined(__aarch64__)
    if (isa == "neon") return true;  // part of the base architecture
#elif defined(__x86_64__)
    // The built-in also asks the operating system (XGETBV) whether it saves the registers.
    __builtin_cpu_init();
    if (isa == "avx2")
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    if (isa == "avx512")
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512cd") && cpu_supports("avx2");
#endif
    return false;
}

}  // namespace engine
