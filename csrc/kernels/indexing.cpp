// Moving elements by position: concat, index_select, gather, pad, and the sums that are their
// gradients.
//
//   take      dst[o][j] = src[o][index[j]]            add      dst[o][index[j]] += src[o][j]
//   gather    dst[l][j] = src[l][index[l][j]]         scatter  dst[l][index[l][j]] += src[l][j]
//   pad       dst[oy][ox] = src[map_y[oy]][map_x[ox]] or the fill value
//
// Layout: physical order of axes, so a rank-4 array is [n][h][w][c]; o stands for the axes before
// the indexed one, l for all others.
// Method: runs of bytes, copied by vectors when they are short multiples of four and by memcpy
// otherwise. Sums go in ascending order of the source position, for each destination element, so
// the split over threads cannot be seen in the result. Indices were checked by the op.
// Registers: nothing to speak of.
#include "dispatch/args.h"
#include "simd/simd.h"

namespace engine {
namespace ENGINE_ISA {

namespace {

inline void copy_bytes(char* dst, const char* src, int64_t bytes) {
    if (bytes == 1) {
        *dst = *src;
    } else if (((reinterpret_cast<uintptr_t>(dst) | reinterpret_cast<uintptr_t>(src) |
                 static_cast<uintptr_t>(bytes)) &
                3) != 0 ||
               bytes >= 1024) {
        __builtin_memcpy(dst, src, static_cast<size_t>(bytes));
    } else {
        // Whole 4-byte words of any type; integer vectors, so that no bit pattern is altered.
        const int32_t* from = reinterpret_cast<const int32_t*>(src);
        int32_t* to = reinterpret_cast<int32_t*>(dst);
        const int64_t words = bytes / 4;
        int64_t i = 0;
        for (; i + VL <= words; i += VL) storei(to + i, loadi(from + i));
        if (i < words)
            storei_n(to + i, loadi_n(from + i, static_cast<int>(words - i)),
                     static_cast<int>(words - i));
    }
}

inline void fill_elements(char* dst, const char* value, int64_t element_size, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += element_size) {
        if (element_size == 4)
            __builtin_memcpy(dst + i, value, 4);
        else if (element_size == 8)
            __builtin_memcpy(dst + i, value, 8);
        else
            dst[i] = value[0];
    }
}

template <class T>
inline void add_range(T* dst, const T* src, int64_t count) {
    for (int64_t i = 0; i < count; ++i) dst[i] = static_cast<T>(dst[i] + src[i]);
}
inline void add_range(float* dst, const float* src, int64_t count) {
    for (int64_t i = 0; i < count; i += VL) {
        const int n = lanes_left(count - i);
        store_some(dst + i, load_some(dst + i, n) + load_some(src + i, n), n);
    }
}

template <class T>
inline void add_rows_of(const AddRowsArgs& a) {
    const T* src = static_cast<const T*>(a.src);
    T* dst = static_cast<T*>(a.dst);
    for (int64_t o = a.begin; o < a.end; ++o)
        for (int64_t j = 0; j < a.count; ++j)
            add_range(dst + (o * a.axis + a.index[j]) * a.inner + a.inner_begin,
                      src + (o * a.count + j) * a.inner + a.inner_begin,
                      a.inner_end - a.inner_begin);
}

// Rows of bytes may lie at any address, so elements go through memcpy, which is one move.
template <int kBytes>
inline void take_elements(const TakeRowsArgs& a) {
    for (int64_t o = a.begin; o < a.end; ++o)
        for (int64_t j = 0; j < a.count; ++j)
            __builtin_memcpy(a.dst + (o * a.count + j) * kBytes,
                             a.src + (o * a.axis + a.index[j]) * kBytes, kBytes);
}

// Calls line(src offset, dst offset, index offset) for each line.
template <class F>
inline void for_each_line(const LinesArgs& a, F line) {
    int64_t at[8] = {}, src = 0, dst = 0, index = 0;
    int64_t left = a.begin;
    for (int64_t d = a.rank - 1; d >= 0; --d) {
        at[d] = left % a.shape[d];
        left /= a.shape[d];
        src += at[d] * a.src_stride[d];
        dst += at[d] * a.dst_stride[d];
        index += at[d] * a.index_stride[d];
    }
    for (int64_t l = a.begin; l < a.end; ++l) {
        line(src, dst, index);
        for (int64_t d = a.rank - 1; d >= 0; --d) {
            src += a.src_stride[d];
            dst += a.dst_stride[d];
            index += a.index_stride[d];
            if (++at[d] < a.shape[d]) break;
            at[d] = 0;
            src -= a.shape[d] * a.src_stride[d];
            dst -= a.shape[d] * a.dst_stride[d];
            index -= a.shape[d] * a.index_stride[d];
        }
    }
}

template <class T>
inline void gather_of(const LinesArgs& a) {
    const T* src = static_cast<const T*>(a.src);
    T* dst = static_cast<T*>(a.dst);
    for_each_line(a, [&](int64_t s, int64_t d, int64_t i) {
        for (int64_t j = 0; j < a.length; ++j)
            dst[d + j * a.dst_step] = src[s + a.index[i + j * a.index_step] * a.src_step];
    });
}

template <class T>
inline void scatter_add_of(const LinesArgs& a) {
    const T* src = static_cast<const T*>(a.src);
    T* dst = static_cast<T*>(a.dst);
    for_each_line(a, [&](int64_t s, int64_t d, int64_t i) {
        for (int64_t j = 0; j < a.length; ++j) {
            T& sum = dst[d + a.index[i + j * a.index_step] * a.dst_step];
            sum = static_cast<T>(sum + src[s + j * a.src_step]);
        }
    });
}

}  // namespace

void copy_rows(const CopyRowsArgs& a) {
    if (a.stream) {
        for (int64_t r = 0; r < a.rows; ++r) {
            const auto* src = reinterpret_cast<const float*>(a.src + r * a.src_step);
            auto* dst = reinterpret_cast<float*>(a.dst + r * a.dst_step);
            for (int64_t i = 0; i < a.bytes / 4; i += 16) {
                __builtin_prefetch(src + i + 512);
                for (int v = 0; v < 16; v += VL) stream(dst + i + v, load(src + i + v));
            }
        }
        return stream_fence();
    }
    for (int64_t r = 0; r < a.rows; ++r)
        copy_bytes(a.dst + r * a.dst_step, a.src + r * a.src_step, a.bytes);
}

void take_rows(const TakeRowsArgs& a) {
    if (a.bytes == 4) return take_elements<4>(a);
    if (a.bytes == 8) return take_elements<8>(a);
    if (a.bytes == 1) return take_elements<1>(a);
    for (int64_t o = a.begin; o < a.end; ++o)
        for (int64_t j = 0; j < a.count; ++j)
            copy_bytes(a.dst + (o * a.count + j) * a.bytes,
                       a.src + (o * a.axis + a.index[j]) * a.bytes, a.bytes);
}

void add_rows(const AddRowsArgs& a) {
    if (a.type == SumType::f32) return add_rows_of<float>(a);
    if (a.type == SumType::i64) return add_rows_of<uint64_t>(a);
    add_rows_of<uint32_t>(a);
}

void gather_lines(const LinesArgs& a) {
    if (a.element_size == 4) return gather_of<uint32_t>(a);
    if (a.element_size == 8) return gather_of<uint64_t>(a);
    gather_of<uint8_t>(a);
}

void scatter_add_lines(const LinesArgs& a) {
    if (a.type == SumType::f32) return scatter_add_of<float>(a);
    if (a.type == SumType::i64) return scatter_add_of<uint64_t>(a);
    scatter_add_of<uint32_t>(a);
}

void pad_forward(const PadArgs& a) {
    const bool adjacent = a.src_pixel == a.pixel_bytes && a.dst_pixel == a.pixel_bytes;
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.out_h, iy = a.y_map[row % a.out_h];
        const char* src = a.src + (image * a.in_h + (iy < 0 ? 0 : iy)) * a.in_w * a.src_pixel;
        char* dst = a.dst + row * a.out_w * a.dst_pixel;
        for (int64_t ox = 0; ox < a.out_w;) {
            const int64_t ix = iy < 0 ? -1 : a.x_map[ox];
            int64_t run = 1;
            if (adjacent && ix >= 0)
                while (ox + run < a.out_w && a.x_map[ox + run] == ix + run) ++run;
            if (ix < 0)
                fill_elements(dst + ox * a.dst_pixel, a.value, a.element_size, a.pixel_bytes);
            else
                copy_bytes(dst + ox * a.dst_pixel, src + ix * a.src_pixel, run * a.pixel_bytes);
            ox += run;
        }
    }
}

void pad_backward(const PadBackwardArgs& a) {
    for (int64_t row = a.row_begin; row < a.row_end; ++row) {
        const int64_t image = row / a.in_h, iy = row % a.in_h;
        float* dx = a.dx + row * a.in_w * a.dx_ld;
        for (int64_t ix = 0; ix < a.in_w; ++ix)
            for (int64_t c = 0; c < a.channels; c += VL)
                store_some(dx + ix * a.dx_ld + c, zero(), lanes_left(a.channels - c));
        for (int64_t e = a.y_begin[iy]; e < a.y_begin[iy + 1]; ++e) {
            const float* dy = a.dy + (image * a.out_h + a.y_list[e]) * a.out_w * a.dy_ld;
            for (int64_t ox = 0; ox < a.out_w; ++ox)
                if (a.x_map[ox] >= 0)
                    add_range(dx + a.x_map[ox] * a.dx_ld, dy + ox * a.dy_ld, a.channels);
        }
    }
}

}  // namespace ENGINE_ISA
}  // namespace engine
