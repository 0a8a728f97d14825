// Pooling, forward. See pool2d_bwd.h for the gradients.
#pragma once

#include <utility>
#include <vector>

#include "core/array.h"
#include "dispatch/args.h"

namespace engine {

// Every pair is (height, width). y and the flat positions ih * W + iw of the maxima (int32, shape
// of y); without `with_indices` the second array is undefined. `out`, unless null, is what y is
// written to: see destination().
std::pair<Array, Array> max_pool2d(const Array& x, const Dims& kernel, const Dims& stride,
                                   const Dims& padding, const Dims& dilation, bool ceil_mode,
                                   bool with_indices = true, const Array* out = nullptr);
// divisor_override 0 divides by the size of the window.
Array avg_pool2d(const Array& x, const Dims& kernel, const Dims& stride, const Dims& padding,
                 bool ceil_mode, bool count_include_pad, int64_t divisor_override,
                 const Array* out = nullptr);
// The shape of either's result.
Dims pool2d_shape(const Dims& x_shape, const Dims& kernel, const Dims& stride, const Dims& padding,
                  const Dims& dilation, bool ceil_mode);
Array adaptive_avg_pool2d(const Array& x, const Dims& out_hw);
std::pair<Array, Array> adaptive_max_pool2d(const Array& x, const Dims& out_hw,
                                            bool with_indices = true);

// The windows of one axis: output o reads input begin[o] + t * step, t < count[o]; size[o] is what
// an average divides by.
struct PoolWindows {
    std::vector<int32_t> begin, count;
    std::vector<float> size;
    int64_t step = 1;

    int64_t outputs() const { return static_cast<int64_t>(begin.size()); }
    PoolAxis axis() const { return {begin.data(), count.data(), step}; }
};

enum class PoolPass { maximum, average, backward };

// How vectors take the pixels of rows of so few channels that one would not fill them: the tables
// of PoolLanes, empty where a vector would hold no more than a pixel. Rows of the source have
// `pixels` pixels, `ld` floats apart. For a backward pass, windows are those of the inputs, over
// outputs. sizes: of the outputs, for averages.
class PoolLaneTables {
  public:
    PoolLaneTables() = default;
    PoolLaneTables(PoolPass pass, const PoolWindows& windows, int64_t pixels, int64_t ld,
                   int64_t channels, const std::vector<float>& sizes = {});
    PoolLanes lanes() const;

  private:
    std::vector<int32_t> start_;
    Array lane_, column_, size_;
    int64_t vectors_ = 0, taps_ = 0, width_ = 0, reach_ = 0, results_ = 0, source_ = 0;
};

// From so many rows on tables are worth making.
constexpr int64_t kLaneRows = 16;

// How an average divides.
enum class PoolDivisor { padded_window, window };

PoolWindows pool_windows(const char* op, const char* axis, int64_t in, int64_t kernel,
                         int64_t stride, int64_t padding, int64_t dilation, bool ceil_mode,
                         PoolDivisor divisor);
PoolWindows adaptive_windows(const char* op, const char* axis, int64_t in, int64_t out);
// Replaces the window sizes of the two axes by one divisor.
void override_divisor(PoolWindows* y, PoolWindows* x, int64_t divisor);
// (height, width) from one or two numbers, each in [low, 2^31).
std::pair<int64_t, int64_t> expect_pair(const char* op, const char* name, const Dims& pair,
                                        int64_t low);
// A plane that int32 positions can name; C, H, W > 0.
void expect_plane(const char* op, const Dims& shape);

}  // namespace engine
