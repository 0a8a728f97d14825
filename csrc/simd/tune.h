// Register budgets and panel widths per instruction set.
#pragma once

namespace engine {
namespace ENGINE_ISA {

// Most rows of a register tile with 1, 2, 3, 4 vectors per row: rows * vectors sums, the vectors of
// B and one broadcast must fit the register file. kDots: sums of products of rows with rows.
#if defined(ENGINE_ISA_IS_avx512) || defined(ENGINE_ISA_IS_amx)  // 32 registers
enum { kRegisters = 32, kRows1 = 14, kRows2 = 14, kRows3 = 9, kRows4 = 6, kDots = 16 };
#elif defined(ENGINE_ISA_IS_neon)  // 32 registers
enum { kRegisters = 32, kRows1 = 14, kRows2 = 12, kRows3 = 9, kRows4 = 6, kDots = 16 };
#else                              // 16 registers
enum { kRegisters = 16, kRows1 = 12, kRows2 = 6, kRows3 = 4, kRows4 = 3, kDots = 8 };
#endif

}  // namespace ENGINE_ISA
}  // namespace engine
