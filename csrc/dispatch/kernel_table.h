// One instruction set's kernels. Included by kernels/table.cpp too, so: no STL, no functions.
#pragma once

#include "dispatch/args.h"

namespace engine {

struct KernelTable {
    const char* isa;
    int lanes;            // floats per vector
    bool split_products;  // whether matrix tiles make kernels/amx/split.cpp faster than `gemm`
    int tile_rows[4];     // most rows of a register tile of products with 1, 2, 3, 4 vectors
#define KERNEL(name, Args) void (*name)(const Args&);
#include "dispatch/kernels.def"
#undef KERNEL
};

}  // namespace engine
