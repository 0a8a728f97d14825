// Pooling.
//
//   max:      y[o] = max over the window of x, index = position of the maximum in its plane
//   average:  y[o] = sum over the window of x / size of the window
//
// Layout: channels-last with a pixel stride on either side. A window is a pair of axis tables
// (begin, count, step) made by the op, so plain, dilated, ceil-mode, adaptive and global pooling
// are one loop.
// Method: vectors run over channels with a masked tail; accumulators (value and, for max, its
// index) of up to four vectors stay in registers while the window is walked in scan order. Windows
// of 2 x 2 and 3 x 3 are unrolled. Of fewer channels than lanes a vector takes several pixels,
// which a permutation of one or two loads brings together by tables that the op makes once per
// call: two to ten times as fast as a pixel at a time. NaN wins a maximum, as in PyTorch: a NaN
// replaces whatever stood there and nothing but a later NaN replaces it; among equal values the
// first in scan order stays. Average sums row by row and then the rows, which keeps the error of
// large windows small. The backward passes gather: each element of dx is written once, from the
// outputs whose windows hold it. Only where the windows are not known (or dilated) does the
// backward of max scatter, element by element (two channels never share an address, two outputs of
// one channel may). Lost: prefetching further ahead than 2 KB, into the second-level cache, or
// lines of the next rows in one go; memory alone decides for large arrays, and what counts there is
// that results go past the caches. Registers: 4 x (value + index) + candidate + masks for max; 2 x
// 4 accumulators for average.
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

// Inlined, what takes several pixels per vector would cost the loops over single pixels their
// registers.
#define ENGINE_APART __attribute__((noinline))

// Floats from an element to the one that is fetched meanwhile.
constexpr int64_t kAhead = 512;

ENGINE_INLINE void put(float* p, vf v, int n, bool streamed) {
    if (streamed)
        stream(p, v);
    else
        store_some(p, v, n);
}

// One output pixel; n lanes of the last vector. Nothing is above infinity: where all is -infinity
// the first of the window stays. kSide: height and width of the window, 0 for any.
template <int kVectors, int kSide, bool kIndices>
ENGINE_INLINE void max_window(const MaxPoolArgs& a, const float* src, float* dst, int32_t* indices,
                              int64_t first, int64_t y_count, int64_t x_count, int n) {
    const auto lanes = [&](int v) { return v + 1 < kVectors ? static_cast<int>(VL) : n; };
    const int64_t y_step = a.y.step * a.in_w, x_pitch = a.x.step * a.src_ld;
    // Added up in vectors: numbers would have to cross over one by one.
    const vi x_step = seti(static_cast<int>(a.x.step));
    vf best[kVectors];
    vi where[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) best[v] = set1(-__builtin_inff());
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) where[v] = seti(static_cast<int>(first));
#pragma GCC unroll 3
    for (int64_t i = 0; i < (kSide ? kSide : y_count); ++i) {
        const float* p = src + (first + i * y_step) * a.src_ld;
        vi here = seti(static_cast<int>(first + i * y_step));
#pragma GCC unroll 3
        for (int64_t j = 0; j < (kSide ? kSide : x_count);
             ++j, p += x_pitch, here = here + x_step) {
            if (a.fetch_ahead)
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) __builtin_prefetch(p + kAhead + v * VL);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const vf x = load_some(p + v * VL, lanes(v));
                if (kIndices) {
                    const vm wins = or_(gt(x, best[v]), is_nan(x));
                    best[v] = select(wins, x, best[v]);
                    where[v] = select(wins, here, where[v]);
                } else {
                    best[v] = max(x, best[v]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) put(dst + v * VL, best[v], lanes(v), a.stream);
    if (!kIndices) return;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
        if (a.stream)
            stream(reinterpret_cast<float*>(indices + v * VL), as_float(where[v]));
        else if (lanes(v) == VL)
            storei(indices + v * VL, where[v]);
        else
            storei_n(indices + v * VL, where[v], n);
}

// All channels of one output pixel.
template <int kSide, bool kIndices>
inline void max_pixel(const MaxPoolArgs& a, const float* src, float* dst, int32_t* indices,
                      int64_t first, int64_t y_count, int64_t x_count) {
    int64_t c = 0;
    for (; c + 4 * VL <= a.channels; c += 4 * VL)
        max_window<4, kSide, kIndices>(a, src + c, dst + c, indices + c, first, y_count, x_count,
                                       VL);
    for (; c < a.channels; c += VL)
        max_window<1, kSide, kIndices>(a, src + c, dst + c, indices + c, first, y_count, x_count,
                                       lanes_left(a.channels - c));
}

template <bool kIndices>
inline void max_pixels(const MaxPoolArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.out_h, oy = row % a.out_h, y_count = a.y.count[oy];
        const float* src = a.src + image * a.in_h * a.in_w * a.src_ld;
        for (int64_t ox = 0; ox < a.out_w; ++ox) {
            const int64_t out = row * a.out_w + ox, x_count = a.x.count[ox];
            const int64_t first = a.y.begin[oy] * a.in_w + a.x.begin[ox];
            float* dst = a.dst + out * a.dst_ld;
            int32_t* indices = kIndices ? a.indices + out * a.indices_ld : nullptr;
            if (x_count == 2 && y_count == 2)
                max_pixel<2, kIndices>(a, src, dst, indices, first, 2, 2);
            else if (x_count == 3 && y_count == 3)
                max_pixel<3, kIndices>(a, src, dst, indices, first, 3, 3);
            else
                max_pixel<0, kIndices>(a, src, dst, indices, first, y_count, x_count);
        }
    }
    if (a.stream) stream_fence();
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

// What a tap of a vector reads, see PoolLanes.
template <bool kWide, bool kWhole>
ENGINE_INLINE vf pick(const float* p, vi lanes, int64_t source) {
    if (kWhole) return kWide ? permute2(load(p), load(p + VL), lanes) : permute(load(p), lanes);
    const vf v = load_some(p, lanes_left(source));
    if (source <= VL) return permute2(v, v, lanes);
    return permute2(v, load_n(p + VL, static_cast<int>(source - VL)), lanes);
}

// Nothing is above infinity: where all is -infinity the first tap stays.
template <int kTaps, bool kIndices, bool kWide, bool kWhole>
ENGINE_APART void max_rows(const MaxPoolArgs& a) {
    const PoolLanes t = a.lanes;
    const int64_t taps = kTaps ? kTaps : t.taps, pitch = a.in_w * a.src_ld;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t oy = row % a.out_h, y0 = a.y.begin[oy], y_count = a.y.count[oy];
        const float* src = a.src + (row / a.out_h * a.in_h + y0) * pitch;
        const int position = static_cast<int>(y0 * a.in_w);
        const int step = static_cast<int>(a.y.step * a.in_w);
        for (int64_t v = 0; v < t.vectors; ++v) {
            const int32_t* start = t.start + v * taps;
            const int32_t* lane = t.lane + v * taps * VL;
            const int32_t* column = t.column + v * taps * VL;
            vf best = set1(-__builtin_inff());
            vi where = loadi(column) + seti(position);
            const auto add_row = [&](int64_t i) __attribute__((always_inline)) {
                const float* p = src + i * a.y.step * pitch;
                const vi offset = seti(position + static_cast<int>(i) * step);
#pragma GCC unroll 3
                for (int64_t j = 0; j < taps; ++j) {
                    const vf x = pick<kWide, kWhole>(p + start[j], loadi(lane + j * VL), t.source);
                    if (kIndices) {
                        const vm wins = or_(gt(x, best), is_nan(x));
                        best = select(wins, x, best);
                        where = select(wins, loadi(column + j * VL) + offset, where);
                    } else {
                        best = max(x, best);
                    }
                }
            };
            if (kTaps > 0 && y_count == kTaps) {
#pragma GCC unroll 3
                for (int64_t i = 0; i < kTaps; ++i) add_row(i);
            } else {
                for (int64_t i = 0; i < y_count; ++i) add_row(i);
            }
            const int64_t done = v * t.width, left = t.results - done;
            const int n = static_cast<int>(left < t.width ? left : t.width);
            store_some(a.dst + row * t.results + done, best, n);
            if (kIndices) storei_n(a.indices + row * t.results + done, where, n);
        }
    }
}

template <int kTaps>
void max_rows(const MaxPoolArgs& a) {
    if (a.lanes.source < a.lanes.reach)
        a.indices ? max_rows<0, true, true, false>(a) : max_rows<0, false, true, false>(a);
    else if (a.lanes.reach > VL)
        a.indices ? max_rows<kTaps, true, true, true>(a) : max_rows<kTaps, false, true, true>(a);
    else
        a.indices ? max_rows<kTaps, true, false, true>(a) : max_rows<kTaps, false, false, true>(a);
}

template <int kTaps, bool kWide, bool kWhole>
ENGINE_APART void gather_rows(const MaxPoolGatherArgs& a) {
    const PoolLanes t = a.lanes;
    const int64_t taps = kTaps ? kTaps : t.taps, pitch = a.out_w * a.dy_ld;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t iy = row % a.in_h, y_count = a.y.count[iy];
        const int64_t out = (row / a.in_h * a.out_h + a.y.begin[iy]) * pitch;
        const vi offset = seti(static_cast<int>(iy * a.in_w));
        for (int64_t v = 0; v < t.vectors; ++v) {
            const int32_t* start = t.start + v * taps;
            const int32_t* lane = t.lane + v * taps * VL;
            const int32_t* column = t.column + v * taps * VL;
            vf sum = zero();
            for (int64_t i = 0; i < y_count; ++i) {
                const float* dy = a.dy + out + i * pitch;
                const auto* indices = reinterpret_cast<const float*>(a.indices) + out + i * pitch;
#pragma GCC unroll 2
                for (int64_t j = 0; j < taps; ++j) {
                    const vi lanes = loadi(lane + j * VL), x = loadi(column + j * VL);
                    const vi index =
                        as_int(pick<kWide, kWhole>(indices + start[j], lanes, t.source));
                    const vf g = pick<kWide, kWhole>(dy + start[j], lanes, t.source);
                    const vm here = and_(eqi(index, x + offset), gti(x, seti(-1)));
                    sum = sum + select(here, g, zero());
                }
            }
            const int64_t done = v * t.width, left = t.results - done;
            store_some(a.dx + row * t.results + done, sum,
                       static_cast<int>(left < t.width ? left : t.width));
        }
    }
}

template <int kTaps>
void gather_rows(const MaxPoolGatherArgs& a) {
    if (a.lanes.source < a.lanes.reach) return gather_rows<0, true, false>(a);
    a.lanes.reach > VL ? gather_rows<kTaps, true, true>(a) : gather_rows<kTaps, false, true>(a);
}

template <int kTaps, bool kWide, bool kWhole>
ENGINE_APART void average_rows(const AvgPoolArgs& a) {
    const PoolLanes t = a.lanes;
    const int64_t taps = kTaps ? kTaps : t.taps, pitch = a.in_w * a.src_ld;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t oy = row % a.out_h, y_count = a.y.count[oy];
        const float* src = a.src + (row / a.out_h * a.in_h + a.y.begin[oy]) * pitch;
        const vf height = set1(a.y_size[oy]);
        for (int64_t v = 0; v < t.vectors; ++v) {
            const int32_t* start = t.start + v * taps;
            const int64_t first = v * taps * VL;
            vf total = zero();
            for (int64_t i = 0; i < y_count; ++i) {
                vf sum = zero();
#pragma GCC unroll 3
                for (int64_t j = 0; j < taps; ++j) {
                    const vf x = pick<kWide, kWhole>(src + i * pitch + start[j],
                                                     loadi(t.lane + first + j * VL), t.source);
                    const vm there = gti(loadi(t.column + first + j * VL), seti(-1));
                    sum = sum + select(there, x, zero());
                }
                total = total + sum;
            }
            const int64_t done = v * t.width, left = t.results - done;
            store_some(a.dst + row * t.results + done, total / (height * load(t.size + first)),
                       static_cast<int>(left < t.width ? left : t.width));
        }
    }
}

template <int kTaps>
void average_rows(const AvgPoolArgs& a) {
    if (a.lanes.source < a.lanes.reach) return average_rows<0, true, false>(a);
    a.lanes.reach > VL ? average_rows<kTaps, true, true>(a) : average_rows<kTaps, false, true>(a);
}

template <int kTaps, bool kWide, bool kWhole>
ENGINE_APART void spread_rows(const AvgPoolBackwardArgs& a) {
    const PoolLanes t = a.lanes;
    const int64_t taps = kTaps ? kTaps : t.taps, pitch = a.out_w * a.dy_ld;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t iy = row % a.in_h, y0 = a.y.begin[iy], y_count = a.y.count[iy];
        const float* dy = a.dy + (row / a.in_h * a.out_h + y0) * pitch;
        for (int64_t v = 0; v < t.vectors; ++v) {
            const int32_t* start = t.start + v * taps;
            const int64_t first = v * taps * VL;
            vf sum = zero();
            for (int64_t i = 0; i < y_count; ++i) {
                const vf height = set1(a.y_size[y0 + i]);
#pragma GCC unroll 2
                for (int64_t j = 0; j < taps; ++j) {
                    const int64_t at = first + j * VL;
                    const vf g = pick<kWide, kWhole>(dy + i * pitch + start[j], loadi(t.lane + at),
                                                     t.source);
                    const vf share = set1(1.0f) / (height * load(t.size + at));
                    const vm there = gti(loadi(t.column + at), seti(-1));
                    sum = fma(select(there, g, zero()), share, sum);
                }
            }
            const int64_t done = v * t.width, left = t.results - done;
            store_some(a.dx + row * t.results + done, sum,
                       static_cast<int>(left < t.width ? left : t.width));
        }
    }
}

template <int kTaps>
void spread_rows(const AvgPoolBackwardArgs& a) {
    if (a.lanes.source < a.lanes.reach) return spread_rows<0, true, false>(a);
    a.lanes.reach > VL ? spread_rows<kTaps, true, true>(a) : spread_rows<kTaps, false, true>(a);
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

// One input pixel that kRows x kColumns outputs read, from output `first` on.
template <int kRows, int kColumns>
ENGINE_INLINE void gather_pixel(const MaxPoolGatherArgs& a, float* dx, int64_t first, vi here) {
    const auto gather = [&](int64_t c, int n) __attribute__((always_inline)) {
        vf sum = zero();
#pragma GCC unroll 2
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
            for (int j = 0; j < kColumns; ++j) {
                const int64_t out = first + i * a.out_w + j;
                const int32_t* indices = a.indices + out * a.indices_ld + c;
                const vi index = n == VL ? loadi(indices) : loadi_n(indices, n);
                const vf g = load_some(a.dy + out * a.dy_ld + c, n);
                sum = sum + select(eqi(index, here), g, zero());
            }
        put(dx + c, sum, n, a.stream);
    };
    int64_t c = 0;
    for (; c + VL <= a.channels; c += VL) gather(c, VL);
    if (c < a.channels) gather(c, static_cast<int>(a.channels - c));
}

// The same for averages.
template <int kRows, int kColumns>
ENGINE_INLINE void spread_pixel(const AvgPoolBackwardArgs& a, float* dx, int64_t first,
                                const float* y_size, const float* x_size) {
    vf share[kRows][kColumns];
#pragma GCC unroll 2
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < kColumns; ++j) share[i][j] = set1(1.0f / (y_size[i] * x_size[j]));
    const auto spread = [&](int64_t c, int n) __attribute__((always_inline)) {
        vf sum = zero();
#pragma GCC unroll 2
        for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
            for (int j = 0; j < kColumns; ++j)
                sum = fma(load_some(a.dy + (first + i * a.out_w + j) * a.dy_ld + c, n), share[i][j],
                          sum);
        put(dx + c, sum, n, a.stream);
    };
    int64_t c = 0;
    for (; c + VL <= a.channels; c += VL) spread(c, VL);
    if (c < a.channels) spread(c, static_cast<int>(a.channels - c));
}

}  // namespace

void max_pool_forward(const MaxPoolArgs& a) {
    if (a.lanes.vectors > 0)
        return a.lanes.taps == 2   ? max_rows<2>(a)
               : a.lanes.taps == 3 ? max_rows<3>(a)
                                   : max_rows<0>(a);
    a.indices ? max_pixels<true>(a) : max_pixels<false>(a);
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
    if (a.lanes.vectors > 0)
        return a.lanes.taps == 2   ? average_rows<2>(a)
               : a.lanes.taps == 3 ? average_rows<3>(a)
                                   : average_rows<0>(a);
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
    if (a.lanes.vectors > 0)
        return a.lanes.taps == 1   ? gather_rows<1>(a)
               : a.lanes.taps == 2 ? gather_rows<2>(a)
                                   : gather_rows<0>(a);
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.in_h, iy = row % a.in_h;
        for (int64_t ix = 0; ix < a.in_w; ++ix) {
            float* dx = a.dx + (row * a.in_w + ix) * a.dx_ld;
            const vi here = seti(static_cast<int>(iy * a.in_w + ix));
            const int64_t first = (image * a.out_h + a.y.begin[iy]) * a.out_w + a.x.begin[ix];
            const int rows = a.y.count[iy], columns = a.x.count[ix];
            if ((rows == 1 || rows == 2) && (columns == 1 || columns == 2)) {
                switch (2 * rows + columns) {
                    case 3: gather_pixel<1, 1>(a, dx, first, here); break;
                    case 4: gather_pixel<1, 2>(a, dx, first, here); break;
                    case 5: gather_pixel<2, 1>(a, dx, first, here); break;
                    default: gather_pixel<2, 2>(a, dx, first, here);
                }
                continue;
            }
            Readers readers(a.y, a.x, iy, ix);
            const float* dy[kReaders];
            const int32_t* indices[kReaders];
            for (bool fresh = true; fresh || readers.left(); fresh = false) {
                const int count = readers.next([&](int k, int64_t oy, int64_t ox) {
                    const int64_t out = (image * a.out_h + oy) * a.out_w + ox;
                    dy[k] = a.dy + out * a.dy_ld;
                    indices[k] = a.indices + out * a.indices_ld;
                });
                const bool streamed = a.stream && fresh && !readers.left();
                for (int64_t c = 0; c < a.channels; c += VL) {
                    const int n = lanes_left(a.channels - c);
                    vf sum = fresh ? zero() : load_some(dx + c, n);
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
    if (a.lanes.vectors > 0)
        return a.lanes.taps == 1   ? spread_rows<1>(a)
               : a.lanes.taps == 2 ? spread_rows<2>(a)
                                   : spread_rows<0>(a);
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.in_h, iy = row % a.in_h;
        for (int64_t ix = 0; ix < a.in_w; ++ix) {
            float* dx = a.dx + (row * a.in_w + ix) * a.dx_ld;
            const int64_t oy = a.y.begin[iy], ox = a.x.begin[ix];
            const int rows = a.y.count[iy], columns = a.x.count[ix];
            if ((rows == 1 || rows == 2) && (columns == 1 || columns == 2)) {
                const int64_t first = (image * a.out_h + oy) * a.out_w + ox;
                const float *y_size = a.y_size + oy, *x_size = a.x_size + ox;
                switch (2 * rows + columns) {
                    case 3: spread_pixel<1, 1>(a, dx, first, y_size, x_size); break;
                    case 4: spread_pixel<1, 2>(a, dx, first, y_size, x_size); break;
                    case 5: spread_pixel<2, 1>(a, dx, first, y_size, x_size); break;
                    default: spread_pixel<2, 2>(a, dx, first, y_size, x_size);
                }
                continue;
            }
            Readers readers(a.y, a.x, iy, ix);
            const float* dy[kReaders];
            float share[kReaders];
            for (bool first = true; first || readers.left(); first = false) {
                const int count = readers.next([&](int k, int64_t y, int64_t x) {
                    dy[k] = a.dy + ((image * a.out_h + y) * a.out_w + x) * a.dy_ld;
                    share[k] = 1.0f / (a.y_size[y] * a.x_size[x]);
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
