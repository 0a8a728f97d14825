// Argument structs of all kernels: plain data, no inline functions, nothing but fixed-width types.
// (Kernels are compiled with wider instruction sets; anything with linkage in a header they share
// with baseline code could reach an old CPU.)
#pragma once

#include "dispatch/args_depthwise.h"
#include "dispatch/args_eltwise.h"
#include "dispatch/args_gemm.h"
#include "dispatch/args_indexing.h"
#include "dispatch/args_norm.h"
#include "dispatch/args_pool.h"
#include "dispatch/args_random.h"
#include "dispatch/args_reduce.h"
#include "dispatch/args_resize.h"
#include "dispatch/args_softmax.h"
#include "dispatch/args_split.h"
#include "dispatch/args_update.h"
#include "dispatch/args_winograd.h"
