// Depthwise convolution: each channel has its own filter.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "ops/conv2d.h"

namespace engine {

// Reason to decline, empty when each channel has one filter and one output.
std::string declines_depthwise(const Conv& conv);
void forward_depthwise(const Conv& conv, const Array& x, const Array& w, const Epilogue& epilogue,
                       const Array& y);
void data_depthwise(const Conv& conv, const Array& dy, const Array& w, const Array& dx);
void weight_depthwise(const Conv& conv, const Array& dy, const Array& x, const Array& dw,
                      float* dbias);

// Shared with grouped convolution, whose tiles are the same.
// Whether all windows meet the image: tiles look for the image's sides only within a kernel's
// width of theirs.
bool meets_image(const Conv& conv);
// Arguments of a tile kernel for whole images; weights and group are left to the caller.
DepthwiseArgs forward_tiles(const Conv& conv, const Array& x, const Epilogue& epilogue,
                            const Array& y);
// Whether the input gradient is a convolution of dy, with the filter turned by 180 degrees.
bool turns(const Conv& conv);
DepthwiseArgs backward_tiles(const Conv& conv, const Array& dy, const Array& dx);
DepthwiseWeightArgs weight_tiles(const Conv& conv, const Array& dy, const Array& x);

// All `rows` rows of all images.
void run_tiles(const DepthwiseArgs& problem, void (*kernel)(const DepthwiseArgs&), int64_t images,
               int64_t rows);
// Sums of output rows [first, last), counted over all images of `rows` rows.
void run_weight_tiles(const DepthwiseWeightArgs& problem,
                      void (*kernel)(const DepthwiseWeightArgs&), int64_t rows, int64_t first,
                      int64_t last);
// Runs sum(first row, last row, sums [taps][channels], bias sums or null) for parts of the output
// rows, adds the parts up in order and stores tap t of output channel o at dw[o][order[t]].
void sum_rows(const Conv& conv, const std::vector<int64_t>& order, const Array& dw, float* dbias,
              const std::function<void(int64_t, int64_t, float*, float*)>& sum);

}  // namespace engine
