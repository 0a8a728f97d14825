// This instruction set's row of the dispatch table: constant data, filled from kernels.def. A
// kernel that is listed but not written for every instruction set fails to link.
#include "dispatch/kernel_table.h"
#include "simd/simd.h"
#include "simd/tune.h"

// The instruction set whose kernels serve where this one has none of its own.
#ifdef ENGINE_ISA_BASE
#define ENGINE_KERNELS ENGINE_ISA_BASE
#else
#define ENGINE_KERNELS ENGINE_ISA
#endif

namespace engine {

namespace ENGINE_KERNELS {
#define KERNEL(name, Args) void name(const Args&);
#include "dispatch/kernels.def"
#undef KERNEL
}  // namespace ENGINE_KERNELS

namespace ENGINE_ISA {

#define KERNEL(name, Args)
#define TILE_KERNEL(name, Args) void name(const Args&);
#include "dispatch/kernels.def"
#undef KERNEL

#define ENGINE_TEXT_OF(x) #x
#define ENGINE_TEXT(x) ENGINE_TEXT_OF(x)
extern const KernelTable kTable;
const KernelTable kTable = {
    ENGINE_TEXT(ENGINE_ISA),
    VL,
#ifdef ENGINE_ISA_IS_amx
    true,
#else
    false,
#endif
    {kRows1, kRows2, kRows3, kRows4},
#define KERNEL(name, Args) &ENGINE_KERNELS::name,
#define TILE_KERNEL(name, Args) &ENGINE_ISA::name,
#include "dispatch/kernels.def"
#undef KERNEL
};

}  // namespace ENGINE_ISA
}  // namespace engine
