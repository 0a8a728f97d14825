// Pooling.
//
//   max:      y[o] = max over the window of x, index = position of the maximum in its plane
//   average:  y[o] = sum over the window of x / size of the window
//
// Layout: channels-last with a pixel stride on either side. A window is a pair of axis tables
// (begin, count, step) made by the op, so plain, dilated, ceil-mode, adaptive and global pooling
// are one loop.
// Method: vectors run over channels with a masked tail; one accumulator (value and, for max, its
// index) per vector stays in registers while the window is walked in scan order.
// NaN wins a maximum, as in PyTorch: a NaN replaces whatever stood there and nothing but a later
// NaN replaces it; among equal values the first in scan order stays.
// Average sums row by row and then the rows, which keeps the error of large windows small.
// The backward passes gather: each element of dx is written once, from the outputs whose windows
// hold it. Only where the windows are not known (or dilated) does the backward of max scatter,
// element by element (two channels never share an address, two outputs of one channel may).
// Registers: value + index + candidate + three masks for max; 2 x 4 accumulators for average.
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// Floats from an element to the one that is fetched meanwhile.
constexpr int64_t kAhead = 512;

ENGINE_INLINE void put(float* p, vf v, int n, bool streamed) {
    if (streamed)
        stream(p, v);
    else
        store_some(p, v, n);
}

// One output pixel, all channels.
template <bool kIndices>
inline void max_window(const MaxPoolArgs& a, const float* image, float* dst, int32_t* indices,
                       int64_t y0, int64_t y_count, int64_t x0, int64_t x_count) {
    for (int64_t c = 0; c < a.channels; c += VL) {
        const int n = lanes_left(a.channels - c);
        const float* first = image + (y0 * a.in_w + x0) * a.src_ld + c;
        vf best = load_some(first, n);
        vi where = seti(static_cast<int>(y0 * a.in_w + x0));
        for (int64_t i = 0; i < y_count; ++i) {
            const int64_t row = (y0 + i * a.y.step) * a.in_w;
            for (int64_t j = 0; j < x_count; ++j) {
                const int64_t position = row + x0 + j * a.x.step;
                const float* p = image + position * a.src_ld + c;
                if (a.fetch_ahead) __builtin_prefetch(p + kAhead);
                const vf v = load_some(p, n);
                if (kIndices) {
                    const vm wins = or_(gt(v, best), is_nan(v));
                    best = select(wins, v, best);
                    where = select(wins, seti(static_cast<int>(position)), where);
                } else {
                    best = max(v, best);
                }
            }
        }
        put(dst + c, best, n, a.stream);
        if (kIndices) {
            if (a.stream)
                stream(reinterpret_cast<float*>(indices + c), as_float(where));
            else if (n == VL)
                storei(indices + c, where);
            else
                storei_n(indices + c, where, n);
        }
    }
}

template <int kVectors>
inline void avg_window(const AvgPoolArgs& a, const float* src, float* dst, int64_t y_count,
                       int64_t x_count, vf size, int n) {
    vf total[kVectors];
    for (int v = 0; v < kVectors; ++v) total[v] = zero();
    for (int64_t i = 0; i < y_count; ++i) {
        const float* p = src + i * a.in_w * a.src_ld;
        vf row[kVectors];
        for (int v = 0; v < kVectors; ++v) row[v] = zero();
        for (int64_t j = 0; j < x_count; ++j, p += a.src_ld) {
            if (a.fetch_ahead)
                for (int v = 0; v < kVectors; ++v) __builtin_prefetch(p + kAhead + v * VL);
            for (int v = 0; v < kVectors; ++v)
                row[v] =
                    row[v] + load_some(p + v * VL, v + 1 < kVectors ? static_cast<int>(VL) : n);
        }
        for (int v = 0; v < kVectors; ++v) total[v] = total[v] + row[v];
    }
    for (int v = 0; v < kVectors; ++v)
        put(dst + v * VL, total[v] / size, v + 1 < kVectors ? static_cast<int>(VL) : n, a.stream);
}

// The outputs that read one input pixel, a few at a time.
constexpr int kReaders = 32;
class Readers {
  public:
    Readers(const PoolAxis& y, const PoolAxis& x, int64_t iy, int64_t ix)
        : y_(y.begin[iy]),
          y_end_(y_ + y.count[iy]),
          x_begin_(x.begin[ix]),
          x_(x_begin_),
          x_end_(x_begin_ + x.count[ix]) {
        if (x_ == x_end_) y_ = y_end_;
    }
    bool left() const { return y_ < y_end_; }
    // f(k, oy, ox) for the next ones; returns how many.
    template <class F>
    int next(F f) {
        int k = 0;
        for (; k < kReaders && left(); ++k) {
            f(k, y_, x_);
            if (++x_ == x_end_) x_ = x_begin_, ++y_;
        }
        return k;
    }

  private:
    int64_t y_, y_end_, x_begin_, x_, x_end_;
};

}  // namespace

void max_pool_forward(const MaxPoolArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.out_h, oy = row % a.out_h;
        const float* src = a.src + image * a.in_h * a.in_w * a.src_ld;
        for (int64_t ox = 0; ox < a.out_w; ++ox) {
            const int64_t out = row * a.out_w + ox;
            if (a.indices)
                max_window<true>(a, src, a.dst + out * a.dst_ld, a.indices + out * a.indices_ld,
                                 a.y.begin[oy], a.y.count[oy], a.x.begin[ox], a.x.count[ox]);
            else
                max_window<false>(a, src, a.dst + out * a.dst_ld, nullptr, a.y.begin[oy],
                                  a.y.count[oy], a.x.begin[ox], a.x.count[ox]);
        }
    }
    if (a.stream) stream_fence();
}

void max_pool_backward(const MaxPoolBackwardArgs& a) {
    if (a.channels == a.dx_ld) {
        float* p = a.dx;
        const int64_t count = a.in_pixels * a.channels;
        int64_t i = 0;
        for (; i + VL <= count; i += VL) store(p + i, zero());
        if (i < count) store_n(p + i, zero(), static_cast<int>(count - i));
    } else {
        for (int64_t pixel = 0; pixel < a.in_pixels; ++pixel)
            for (int64_t c = 0; c < a.channels; c += VL)
                store_some(a.dx + pixel * a.dx_ld + c, zero(), lanes_left(a.channels - c));
    }
    for (int64_t pixel = 0; pixel < a.out_pixels; ++pixel) {
        const float* dy = a.dy + pixel * a.dy_ld;
        const int32_t* index = a.indices + pixel * a.indices_ld;
        for (int64_t c = 0; c < a.channels; ++c) {
            const int64_t position = index[c];
            if (position < 0 || position >= a.in_pixels) {
                *a.bad = 1;
                continue;
            }
            a.dx[position * a.dx_ld + c] += dy[c];
        }
    }
}

void avg_pool_forward(const AvgPoolArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.out_h, oy = row % a.out_h;
        const int64_t y_count = a.y.count[oy];
        const float* src_row = a.src + (image * a.in_h + a.y.begin[oy]) * a.in_w * a.src_ld;
        for (int64_t ox = 0; ox < a.out_w; ++ox) {
            const int64_t x_count = a.x.count[ox];
            const float* src = src_row + a.x.begin[ox] * a.src_ld;
            float* dst = a.dst + (row * a.out_w + ox) * a.dst_ld;
            const vf size = set1(a.y_size[oy] * a.x_size[ox]);
            int64_t c = 0;
            for (; c + 4 * VL <= a.channels; c += 4 * VL)
                avg_window<4>(a, src + c, dst + c, y_count, x_count, size, VL);
            for (; c + 2 * VL <= a.channels; c += 2 * VL)
                avg_window<2>(a, src + c, dst + c, y_count, x_count, size, VL);
            for (; c < a.channels; c += VL)
                avg_window<1>(a, src + c, dst + c, y_count, x_count, size,
                              lanes_left(a.channels - c));
        }
    }
    if (a.stream) stream_fence();
}

void max_pool_gather(const MaxPoolGatherArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.in_h, iy = row % a.in_h;
        for (int64_t ix = 0; ix < a.in_w; ++ix) {
            Readers readers(a.y, a.x, iy, ix);
            float* dx = a.dx + (row * a.in_w + ix) * a.dx_ld;
            const vi here = seti(static_cast<int>(iy * a.in_w + ix));
            const float* dy[kReaders];
            const int32_t* indices[kReaders];
            for (bool first = true; first || readers.left(); first = false) {
                const int count = readers.next([&](int k, int64_t oy, int64_t ox) {
                    const int64_t out = (image * a.out_h + oy) * a.out_w + ox;
                    dy[k] = a.dy + out * a.dy_ld;
                    indices[k] = a.indices + out * a.indices_ld;
                });
                const bool streamed = a.stream && first && !readers.left();
                for (int64_t c = 0; c < a.channels; c += VL) {
                    const int n = lanes_left(a.channels - c);
                    vf sum = first ? zero() : load_some(dx + c, n);
                    for (int k = 0; k < count; ++k) {
                        const vi index =
                            n == VL ? loadi(indices[k] + c) : loadi_n(indices[k] + c, n);
                        const vf g = load_some(dy[k] + c, n);
                        sum = sum + select(eqi(index, here), g, zero());
                    }
                    put(dx + c, sum, n, streamed);
                }
            }
        }
    }
    if (a.stream) stream_fence();
}

void avg_pool_backward(const AvgPoolBackwardArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.in_h, iy = row % a.in_h;
        for (int64_t ix = 0; ix < a.in_w; ++ix) {
            Readers readers(a.y, a.x, iy, ix);
            float* dx = a.dx + (row * a.in_w + ix) * a.dx_ld;
            const float* dy[kReaders];
            float share[kReaders];
            for (bool first = true; first || readers.left(); first = false) {
                const int count = readers.next([&](int k, int64_t oy, int64_t ox) {
                    dy[k] = a.dy + ((image * a.out_h + oy) * a.out_w + ox) * a.dy_ld;
                    share[k] = 1.0f / (a.y_size[oy] * a.x_size[ox]);
                });
                const bool streamed = a.stream && first && !readers.left();
                for (int64_t c = 0; c < a.channels; c += VL) {
                    const int n = lanes_left(a.channels - c);
                    vf sum = first ? zero() : load_some(dx + c, n);
                    for (int k = 0; k < count; ++k)
                        sum = fma(load_some(dy[k] + c, n), set1(share[k]), sum);
                    put(dx + c, sum, n, streamed);
                }
            }
        }
    }
    if (a.stream) stream_fence();
}

}  // namespace ENGINE_ISA
}  // namespace engine
