// Arguments of the kernels in csrc/kernels/amx/split.cpp (and split.cpp): products of matrices
// whose numbers are split into three bfloat16 each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dispatch/args_gemm.h"

namespace engine {

// A factor is cut into panels of 32 lines (rows of the left factor, columns of the right one), a
// panel into steps of 32 of the depth. A step holds three parts (the high, middle and low eight
// bits of every number), a part two tiles of 16 lines, a tile 16 rows of 64 bytes:
//   left   row = line: 16 pairs of bfloat16
//   right  row = pair: that of each of 16 lines
// Pair d of a step are numbers d and d + 16.
enum : int64_t { kSplitLines = 32, kSplitDepth = 32, kSplitPart = 2048, kSplitStep = 3 * 2048 };

// Fills one panel: numbers beyond the sources are zero.
struct SplitArgs {
    // By line: rows[l][k] is number k of line l. By depth: rows[k][l].
    const float* const* rows;
    int64_t count;   // of rows: lines (at most 32), or depth
    int64_t length;  // of a row: depth, or lines (at most 32)
    bool by_depth, right;
    void* panel;        // 64-byte aligned, a step for each 32 of the depth
    int32_t* spoiled;   // set when a number is not finite or rounds to infinity
    int64_t first = 0;  // number of each row to begin with
};

// C[i][j] (+)= sum over k of left(i, k) * right(k, j), of the nine products of parts the six that
// reach the last bit of a float.
struct SplitProductArgs {
    const char* left;  // panels left_panel bytes apart
    int64_t left_panel;
    const char* right;  // one panel
    int64_t steps;
    float* c;
    int64_t c_row;
    int64_t rows;
    int64_t columns;  // at most 32
    bool accumulate;
    // Panels to be split by depth meanwhile.
    const SplitArgs* others;
    int64_t other_count;
    // Rows that are split later: of each so many lines of 64 bytes are fetched meanwhile.
    struct Rows {
        const float* const* rows;
        int64_t count, lines;
    } later[2] = {};
};

// The same for a left factor that is still to be split, and with an epilogue. While the tiles of a
// panel of rows are multiplied, the next panel is split.
struct SplitStreamArgs {
    // Number k of tap t of row i is lines[t * rows + i][k]; each tap's depth is padded to whole
    // steps.
    const float* const* lines;
    int64_t tap_depth;
    // Of a single tap, or null: it is before(number * scale[k] + shift[k]) that is split.
    const float *scale, *shift;
    Activation before;
    char* left;         // room for two panels
    const char* right;  // panels right_panel bytes apart
    int64_t right_panel;
    int64_t steps;
    float* c;
    int64_t c_row;
    int64_t rows, columns;
    bool accumulate;
    Activation activation;
    const float* bias;      // or null
    const float* residual;  // or null; element (i, j) at residual[i * residual_row + j]
    int64_t residual_row;
    int32_t* spoiled;  // as above
};

// Rows of a left factor that several products read, each of 32 of the depth in a cell of 64 bytes:
// cell i of a part is number i * step of the source and those behind it, `length` of them (at most
// 32), then zeros.
struct SplitCellsArgs {
    const float* src;
    int64_t step, count, length;
    char* cells;       // of the first part, 64-byte aligned
    int64_t part;      // bytes from part to part
    int32_t* spoiled;  // as above
};

// The product of groups of up to 16 rows, cells `pitch` bytes apart: step s of group i begins
// starts[i] + steps[s] bytes behind `cells` and makes rows c_rows[i] and following of C.
struct SplitCellsProductArgs {
    const char* cells;
    int64_t part, pitch;
    const int64_t *starts, *c_rows;
    int64_t groups, group_rows;
    const int64_t* steps;
    int64_t step_count;
    const char* right;  // panels right_panel bytes apart
    int64_t right_panel;
    float* c;
    int64_t c_row;
    int64_t columns;
    Activation activation;
    const float* bias;      // or null
    const float* residual;  // or null; as above
    int64_t residual_row;
};

}  // namespace engine
