// This instruction set's row of the dispatch table: constant data, filled from kernels.def. A
// kernel that is listed but not written for every instruction set fails to link.
#include "dispatch/kernel_table.h"
#include "simd/simd.h"
#include "simd/tune.h"

namespace engine {
namespace ENGINE_ISA {

#define KERNEL(name, Args) void name(const Args&);
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
    kRows4 >= 6,
#define KERNEL(name, Args) &name,
#include "dispatch/kernels.def"
#undef KERNEL
};

}  // namespace ENGINE_ISA
}  // namespace engine
