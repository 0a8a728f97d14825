#include "core/cpu.h"

#ifdef __x86_64__
#include <cpuid.h>
#include <xmmintrin.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include <cstdio>
#include <cstring>
#include <fstream>

namespace engine {

#ifdef __x86_64__
namespace {

// Half-precision conversion; not among the names that every compiler's __builtin_cpu_supports
// knows.
bool has_f16c() {
    unsigned eax, ebx, ecx = 0, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

// Matrix tiles of bfloat16: bits of CPUID leaf 7 that not every compiler names. Linux keeps the
// tile registers only for processes that ask for them.
bool has_tiles() {
#ifdef __linux__
    unsigned eax, ebx, ecx, edx;
    constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
    if (!(edx & kAmxBf16) || !(edx & kAmxTile)) return false;
    constexpr long kRequestPermission = 0x1023, kTileData = 18;  // <asm/prctl.h>, XFEATURE
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
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
    if (isa == "amx") {
        static const bool tiles = has_tiles();
        return tiles && cpu_supports("avx512");
    }
#endif
    return false;
}

#if defined(__x86_64__)

namespace {
constexpr uint32_t kFlush = 0x8040, kRounding = 0x6000;  // FTZ | DAZ, RC of MXCSR
}

uint32_t float_mode() { return _mm_getcsr() & (kFlush | kRounding); }
void set_float_mode(uint32_t mode) { _mm_setcsr((_mm_getcsr() & ~(kFlush | kRounding)) | mode); }

std::string cpu_model() {
    unsigned name[12] = {}, eax = 0, ebx = 0, ecx = 0, edx = 0;
    for (unsigned i = 0; i < 3; ++i)
        if (!__get_cpuid(0x80000002 + i, &name[4 * i], &name[4 * i + 1], &name[4 * i + 2],
                         &name[4 * i + 3]))
            return "unknown";
    char text[sizeof name + 1] = {};
    std::memcpy(text, name, sizeof name);
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    char signature[16];
    std::snprintf(signature, sizeof signature, " %08x", eax);
    std::string model = text + std::strspn(text, " ");
    model.erase(model.find_last_not_of(' ') + 1);
    return model + signature;
}

#elif defined(__aarch64__)

namespace {
constexpr uint64_t kFlush = uint64_t{1} << 24, kRounding = uint64_t{3} << 22;  // FZ, RMode of FPCR

uint64_t control() {
    uint64_t word;
    asm volatile("mrs %0, fpcr" : "=r"(word));
    return word;
}
}  // namespace

uint32_t float_mode() { return static_cast<uint32_t>(control() & (kFlush | kRounding)); }
void set_float_mode(uint32_t mode) {
    const uint64_t word = (control() & ~(kFlush | kRounding)) | mode;
    asm volatile("msr fpcr, %0" : : "r"(word));
}

std::string cpu_model() {
    std::ifstream file("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1");
    std::string identification;
    return file >> identification ? "arm " + identification : "unknown";
}

#else

namespace {
constexpr uint32_t kFlush = 0;
}

uint32_t float_mode() { return 0; }
void set_float_mode(uint32_t) {}
std::string cpu_model() { return "unknown"; }

#endif

FlushDenormals::FlushDenormals() : FloatMode(float_mode() | static_cast<uint32_t>(kFlush)) {}

}  // namespace engine
