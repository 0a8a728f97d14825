// One instruction set's kernels. Included by kernels/table.cpp too, so: no STL, no functions.
#pragma once

#include "dispatch/args.h"

namespace engine {

struct KernelTable {
    const char* isa;
    int lanes;  // floats per vector
#define KERNEL(name, Args) void (*name)(const Args&);
#include "dispatch/kernels.def"
#undef KERNEL
};

}  // namespace engine
