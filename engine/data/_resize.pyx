# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Resizing of one uint8 image, alone or together with what follows it on the way to a model, without the GIL.

Layout: an image is (H, W, C), C contiguous. Only the pixels that have influence on the result are touched.

Method: Pillow's, to the bit. Two passes with bytes between them; first along the rows or, where the height shrinks by
more than twice what the width shrinks by, first along the columns (Pillow 13; older versions always begin along the
rows, which makes a difference of more than a level only where bicubic overshoots black or white). Weights have 22 bits
after the binary point. Two taps are one multiply-add instruction of 16-bit numbers, so a weight is split into its
upper and its lower bits, and the sums are joined at the end.
"""
from libc.math cimport fabs, floor, floorf
from libc.stdint cimport int16_t, int32_t, uint8_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

import numpy as np


# One row at a time. Along a row `pairs` pairs of taps are added up for every result, weights beyond the last one being
# 0, so `src` must be readable for a few bytes beyond the row (ROW_MARGIN). SSE2 is what every x86-64 has.
cdef extern from *:
    """
    #include <stddef.h>
    #include <stdint.h>
    #if defined(__SSE2__)
    #include <emmintrin.h>
    #endif

    #define ROW_MARGIN 16
    #define WEIGHT_BITS 22
    #define LOWER_BITS 11

    static inline uint8_t engine_byte(int32_t value) {
        value >>= WEIGHT_BITS;
        return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
    }

    #if defined(__SSE2__)
    /* For two taps of an RGB or RGBA pixel: r0 r1, g0 g1, b0 b1, a0 a1 as 16-bit numbers. */
    static inline __m128i engine_pair(const uint8_t* src, int channels) {
        const __m128i both = _mm_loadl_epi64((const __m128i*)src);
        const __m128i second = channels == 3 ? _mm_srli_si128(both, 3) : _mm_srli_si128(both, 4);
        return _mm_unpacklo_epi8(_mm_unpacklo_epi8(both, second), _mm_setzero_si128());
    }

    static inline __m128i engine_join(__m128i upper, __m128i lower) {
        return _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(upper, LOWER_BITS), lower), WEIGHT_BITS);
    }

    static inline __attribute__((always_inline)) void engine_across_simd(
        const uint8_t* src, uint8_t* dst, ptrdiff_t out, int channels, const int16_t* weights, ptrdiff_t pairs,
        const int32_t* first) {
        for (ptrdiff_t x = 0; x < out; ++x) {
            const uint8_t* pixel = src + (ptrdiff_t)first[x] * channels;
            __m128i upper = _mm_setzero_si128(), lower = _mm_set1_epi32(1 << (WEIGHT_BITS - 1));
            for (ptrdiff_t k = 0; k < pairs; ++k) {
                const __m128i taps = engine_pair(pixel, channels);
                const __m128i both = _mm_loadl_epi64((const __m128i*)(weights + 4 * k));
                upper = _mm_add_epi32(upper, _mm_madd_epi16(taps, _mm_shuffle_epi32(both, 0x00)));
                lower = _mm_add_epi32(lower, _mm_madd_epi16(taps, _mm_shuffle_epi32(both, 0x55)));
                pixel += 2 * channels;
            }
            const __m128i sums = _mm_packs_epi32(engine_join(upper, lower), upper);
            const int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(sums, sums));
            __builtin_memcpy(dst, &bytes, 4); /* of three channels the fourth byte is overwritten by the next pixel */
            dst += channels;
            weights += 4 * pairs;
        }
    }
    #endif

    static inline int32_t engine_weight(const int16_t* weights, ptrdiff_t k) {
        const int16_t* pair = weights + 4 * (k / 2) + k % 2;
        return pair[0] * (1 << LOWER_BITS) + pair[2];
    }

    /* One row to its new width; `dst` takes ROW_MARGIN bytes more than the row has. */
    static void engine_across(const uint8_t* src, uint8_t* dst, ptrdiff_t out, ptrdiff_t channels,
                              const int16_t* weights, ptrdiff_t pairs, const int32_t* first) {
    #if defined(__SSE2__)
        if (channels == 3) {
            switch (pairs) {
                case 1: engine_across_simd(src, dst, out, 3, weights, 1, first); return;
                case 2: engine_across_simd(src, dst, out, 3, weights, 2, first); return;
                case 3: engine_across_simd(src, dst, out, 3, weights, 3, first); return;
                default: engine_across_simd(src, dst, out, 3, weights, pairs, first); return;
            }
        }
        if (channels == 4) {
            engine_across_simd(src, dst, out, 4, weights, pairs, first);
            return;
        }
    #endif
        for (ptrdiff_t x = 0; x < out; ++x) {
            const uint8_t* pixel = src + (ptrdiff_t)first[x] * channels;
            for (ptrdiff_t c = 0; c < channels; ++c) {
                int32_t sum = 1 << (WEIGHT_BITS - 1);
                for (ptrdiff_t k = 0; k < 2 * pairs; ++k) sum += engine_weight(weights, k) * pixel[k * channels + c];
                dst[c] = engine_byte(sum);
            }
            dst += channels;
            weights += 4 * pairs;
        }
    }

    /* One row from `count` rows that lie `stride` bytes apart; touches nothing beyond them. */
    static void engine_down(const uint8_t* src, ptrdiff_t stride, uint8_t* dst, ptrdiff_t length,
                            const int16_t* weights, ptrdiff_t count) {
        ptrdiff_t i = 0;
    #if defined(__SSE2__)
        const __m128i zero = _mm_setzero_si128(), half = _mm_set1_epi32(1 << (WEIGHT_BITS - 1));
        for (; i + 8 <= length; i += 8) {
            __m128i upper[2] = {zero, zero}, lower[2] = {half, half};
            for (ptrdiff_t k = 0; k < count; k += 2) {
                const uint8_t* row = src + k * stride + i;
                const __m128i one = _mm_loadl_epi64((const __m128i*)row);
                const __m128i next = k + 1 < count ? _mm_loadl_epi64((const __m128i*)(row + stride)) : zero;
                const __m128i taps = _mm_unpacklo_epi8(one, next);
                const __m128i low = _mm_unpacklo_epi8(taps, zero), high = _mm_unpackhi_epi8(taps, zero);
                const __m128i both = _mm_loadl_epi64((const __m128i*)(weights + 2 * k));
                const __m128i w = _mm_shuffle_epi32(both, 0x00), v = _mm_shuffle_epi32(both, 0x55);
                upper[0] = _mm_add_epi32(upper[0], _mm_madd_epi16(low, w));
                upper[1] = _mm_add_epi32(upper[1], _mm_madd_epi16(high, w));
                lower[0] = _mm_add_epi32(lower[0], _mm_madd_epi16(low, v));
                lower[1] = _mm_add_epi32(lower[1], _mm_madd_epi16(high, v));
            }
            const __m128i sums = _mm_packs_epi32(engine_join(upper[0], lower[0]), engine_join(upper[1], lower[1]));
            _mm_storel_epi64((__m128i*)(dst + i), _mm_packus_epi16(sums, sums));
        }
    #endif
        for (; i < length; ++i) {
            int32_t sum = 1 << (WEIGHT_BITS - 1);
            for (ptrdiff_t k = 0; k < count; ++k) sum += engine_weight(weights, k) * src[k * stride + i];
            dst[i] = engine_byte(sum);
        }
    }
    """
    const Py_ssize_t ROW_MARGIN
    const int WEIGHT_BITS
    const int LOWER_BITS
    void engine_across(const uint8_t* src, uint8_t* dst, Py_ssize_t out, Py_ssize_t channels, const int16_t* weights,
                       Py_ssize_t pairs, const int32_t* first) noexcept nogil
    void engine_down(const uint8_t* src, Py_ssize_t stride, uint8_t* dst, Py_ssize_t length, const int16_t* weights,
                     Py_ssize_t count) noexcept nogil


# ---- weights

cdef struct Taps:
    int16_t* weights  # [out][pairs]: the upper bits of two weights, then their lower bits; 0 beyond the last one
    int32_t* first  # [out]: the place of the first one
    int32_t* count  # [out]
    Py_ssize_t pairs


cdef double _kernel(double x, bint cubic, double a) noexcept nogil:
    x = fabs(x)
    if not cubic:
        return 1.0 - x if x < 1.0 else 0.0
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


cdef void _free_taps(Taps* taps) noexcept nogil:
    free(taps.weights)
    free(taps.first)
    free(taps.count)


cdef bint _make_taps(Taps* taps, Py_ssize_t size, Py_ssize_t out, bint cubic, bint antialias) noexcept nogil:
    """Fills in the weights that bring `size` pixels to `out`; False when there is no memory."""
    cdef double scale = <double>size / out
    cdef double stretch = max(scale, 1.0) if antialias else 1.0
    cdef double support = (2.0 if cubic else 1.0) * stretch
    cdef double a = -0.5 if antialias else -0.75  # Pillow's and PyTorch's constants of the cubic
    cdef double centre, total
    cdef Py_ssize_t i, k, low, high, at, width = <Py_ssize_t>support * 2 + 4, longest = 0
    cdef double* exact = <double*>calloc(out * width, sizeof(double))
    cdef double* row
    cdef int16_t* fixed
    cdef int32_t weight
    taps.first = <int32_t*>malloc(out * sizeof(int32_t))
    taps.count = <int32_t*>malloc(out * sizeof(int32_t))
    taps.weights = NULL
    if exact == NULL or taps.first == NULL or taps.count == NULL:
        free(exact)
        return False
    for i in range(out):
        centre = scale * (i + 0.5)
        row = exact + i * width
        if antialias:
            low = max(<Py_ssize_t>(centre - support + 0.5), 0)
            high = min(<Py_ssize_t>(centre + support + 0.5), size)
            total = 0.0
            for k in range(high - low):
                row[k] = _kernel((k + low - centre + 0.5) / stretch, cubic, a)
                total += row[k]
            for k in range(high - low):
                row[k] /= total
        else:  # the border's pixels are repeated
            centre -= 0.5
            if not cubic:
                centre = max(centre, 0.0)
            at = <Py_ssize_t>floor(centre)
            low = min(max(at - (1 if cubic else 0), 0), size - 1)
            high = min(max(at + (2 if cubic else 1), 0), size - 1) + 1
            for k in range(at - (1 if cubic else 0), at + (3 if cubic else 2)):
                row[min(max(k, 0), size - 1) - low] += _kernel(k - centre, cubic, a)
        taps.first[i] = <int32_t>low
        taps.count[i] = <int32_t>(high - low)
        longest = max(longest, high - low)
    taps.pairs = (longest + 1) // 2
    taps.weights = <int16_t*>calloc(out * 4 * taps.pairs, sizeof(int16_t))
    if taps.weights != NULL:
        for i in range(out):
            row, fixed = exact + i * width, taps.weights + i * 4 * taps.pairs
            for k in range(taps.count[i]):
                weight = <int32_t>(row[k] * (1 << WEIGHT_BITS) + (0.5 if row[k] >= 0 else -0.5))
                fixed[4 * (k // 2) + k % 2] = <int16_t>(weight >> LOWER_BITS)
                fixed[4 * (k // 2) + k % 2 + 2] = <int16_t>(weight & ((1 << LOWER_BITS) - 1))
    free(exact)
    return taps.weights != NULL


# ---- the two passes

cdef struct Sink:
    uint8_t* bytes  # rows of bytes, or
    float* floats  # rows of floats that a table gives for the bytes
    const float* table  # [channels][256]
    bint flip  # floats only: mirrored left to right


cdef void _emit(const Sink* sink, const uint8_t* row, Py_ssize_t y, Py_ssize_t width,
                Py_ssize_t channels) noexcept nogil:
    """Delivers row `y` of the result."""
    cdef float* dst
    cdef const float* table = sink.table
    cdef Py_ssize_t x, c, step = channels
    if sink.floats == NULL:
        memcpy(sink.bytes + y * width * channels, row, <size_t>(width * channels))
        return
    dst = sink.floats + y * width * channels
    if sink.flip:
        dst += (width - 1) * channels
        step = -channels
    if channels == 3:
        for x in range(width):
            dst[0] = table[row[0]]
            dst[1] = table[256 + row[1]]
            dst[2] = table[512 + row[2]]
            row += 3
            dst += step
    else:
        for x in range(width):
            for c in range(channels):
                dst[c] = table[c * 256 + row[c]]
            row += channels
            dst += step


cdef bint _resize(const uint8_t* src, Py_ssize_t stride, Py_ssize_t channels, Py_ssize_t in_h, Py_ssize_t in_w,
                  Py_ssize_t height, Py_ssize_t width, bint cubic, bint antialias, const Sink* sink) noexcept nogil:
    """Resizes the window at `src`, whose rows lie `stride` bytes apart; False when there is no memory."""
    cdef Taps across, down
    cdef Py_ssize_t y, low = 0, high = in_h, row = width * channels + ROW_MARGIN, wide
    cdef bint columns = in_w != width, rows = in_h != height, done = False
    cdef bint rows_first = antialias and height < in_h and in_h - height > 2 * (in_w - width)
    cdef uint8_t* line = NULL
    cdef uint8_t* middle = NULL
    across.weights = down.weights = NULL
    across.first = down.first = across.count = down.count = NULL
    if not columns and not rows:
        for y in range(height):
            _emit(sink, src + y * stride, y, width, channels)
        return True
    if ((not columns or _make_taps(&across, in_w, width, cubic, antialias))
            and (not rows or _make_taps(&down, in_h, height, cubic, antialias))):
        # A row that the pass along the rows can read beyond its end.
        wide = (in_w + (2 * across.pairs if columns else 0)) * channels + ROW_MARGIN
        line = <uint8_t*>calloc(wide + row, 1)
        if rows and not rows_first:
            low, high = in_h, 0
            for y in range(height):
                low, high = min(low, down.first[y]), max(high, down.first[y] + down.count[y])
            middle = <uint8_t*>malloc((high - low) * row)
        if line != NULL and (middle != NULL or not rows or rows_first):
            done = True
            if not rows:
                for y in range(height):
                    memcpy(line, src + y * stride, <size_t>(in_w * channels))
                    engine_across(line, line + wide, width, channels, across.weights, across.pairs, across.first)
                    _emit(sink, line + wide, y, width, channels)
            elif rows_first:
                for y in range(height):
                    engine_down(src + down.first[y] * stride, stride, line, in_w * channels,
                                down.weights + y * 4 * down.pairs, down.count[y])
                    if columns:
                        engine_across(line, line + wide, width, channels, across.weights, across.pairs, across.first)
                    _emit(sink, line + wide if columns else line, y, width, channels)
            else:
                for y in range(low, high):
                    if columns:
                        memcpy(line, src + y * stride, <size_t>(in_w * channels))
                        engine_across(line, middle + (y - low) * row, width, channels, across.weights, across.pairs,
                                      across.first)
                    else:
                        memcpy(middle + (y - low) * row, src + y * stride, <size_t>(width * channels))
                for y in range(height):
                    engine_down(middle + (down.first[y] - low) * row, row, line, width * channels,
                                down.weights + y * 4 * down.pairs, down.count[y])
                    _emit(sink, line, y, width, channels)
    free(line)
    free(middle)
    _free_taps(&across)
    _free_taps(&down)
    return done


def resize(const uint8_t[:, :, ::1] image, Py_ssize_t top, Py_ssize_t left, Py_ssize_t in_h, Py_ssize_t in_w,
           Py_ssize_t height, Py_ssize_t width, bint cubic, bint antialias):
    """Resizes the window [top, top + in_h) x [left, left + in_w), bilinearly or bicubically.

    Returns uint8 of shape (height, width, C). What lies outside the window has no influence.
    """
    cdef Py_ssize_t channels = image.shape[2]
    cdef bint done
    cdef Sink sink
    _check_window(image, top, left, in_h, in_w, height, width)
    out = np.empty((height, width, channels), np.uint8)
    if out.size == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    sink.bytes, sink.floats, sink.table, sink.flip = &result[0, 0, 0], NULL, NULL, False
    with nogil:
        done = _resize(&image[top, left, 0], image.shape[1] * channels, channels, in_h, in_w, height, width, cubic,
                       antialias, &sink)
    if not done:
        raise MemoryError
    return out


def resize_normalized(const uint8_t[:, :, ::1] image, Py_ssize_t top, Py_ssize_t left, Py_ssize_t in_h,
                      Py_ssize_t in_w, float[:, :, ::1] out, bint cubic, bint antialias, bint flip,
                      const float[:, ::1] table):
    """Resizes a window into `out`, (height, width, C), mirrored if `flip`, each byte replaced by its channel's float.

    The same as `resize`, `horizontal_flip` and `normalize` one after the other, without anything kept in between.
    """
    cdef Py_ssize_t channels = image.shape[2]
    cdef bint done
    cdef Sink sink
    _check_window(image, top, left, in_h, in_w, out.shape[0], out.shape[1])
    if out.shape[2] != channels or table.shape[0] != channels or table.shape[1] != 256:
        raise ValueError(f"[resize] expected {channels} channels of 256 floats, got a table of shape "
                         f"({table.shape[0]}, {table.shape[1]}) and {out.shape[2]} channels in the result")
    if out.shape[0] == 0 or out.shape[1] == 0 or channels == 0:
        return
    sink.bytes, sink.floats, sink.table, sink.flip = NULL, &out[0, 0, 0], &table[0, 0], flip
    with nogil:
        done = _resize(&image[top, left, 0], image.shape[1] * channels, channels, in_h, in_w, out.shape[0],
                       out.shape[1], cubic, antialias, &sink)
    if not done:
        raise MemoryError


cdef void _nearest(Py_ssize_t size, Py_ssize_t out, bint exact, Py_ssize_t[::1] places) noexcept nogil:
    cdef double step = <double>size / out, at = step * 0.5
    cdef float scale = <float>size / <float>out
    cdef Py_ssize_t i
    for i in range(out):
        places[i] = min(<Py_ssize_t>floorf((i + <float>0.5) * scale) if exact else <Py_ssize_t>at, size - 1)
        at += step  # Pillow adds up, and where a centre falls between two pixels, its rounding decides


def resize_nearest(const uint8_t[:, :, ::1] image, Py_ssize_t top, Py_ssize_t left, Py_ssize_t in_h, Py_ssize_t in_w,
                   Py_ssize_t height, Py_ssize_t width, bint exact):
    """Resizes a window by taking the pixel under each result's centre, rounded as in PyTorch (`exact`) or in Pillow."""
    cdef Py_ssize_t channels = image.shape[2]
    cdef Py_ssize_t y, x, c
    cdef const uint8_t* row
    cdef const uint8_t* src
    cdef uint8_t* dst
    _check_window(image, top, left, in_h, in_w, height, width)
    out = np.empty((height, width, channels), np.uint8)
    if out.size == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    cdef Py_ssize_t[::1] rows = np.empty(height, np.intp)
    cdef Py_ssize_t[::1] columns = np.empty(width, np.intp)
    with nogil:
        _nearest(in_h, height, exact, rows)
        _nearest(in_w, width, exact, columns)
        dst = &result[0, 0, 0]
        for y in range(height):
            row = &image[top + rows[y], left, 0]
            for x in range(width):
                src = row + columns[x] * channels
                for c in range(channels):
                    dst[c] = src[c]
                dst += channels
    return out


def _check_window(const uint8_t[:, :, ::1] image, Py_ssize_t top, Py_ssize_t left, Py_ssize_t in_h, Py_ssize_t in_w,
                  Py_ssize_t height, Py_ssize_t width):
    if top < 0 or left < 0 or in_h < 1 or in_w < 1 or top + in_h > image.shape[0] or left + in_w > image.shape[1]:
        raise ValueError(f"[resize] expected a window with pixels inside the image of {image.shape[0]} x "
                         f"{image.shape[1]}, got {in_h} x {in_w} at ({top}, {left})")
    if height < 0 or width < 0:
        raise ValueError(f"[resize] expected a size of at least 0 x 0, got {height} x {width}")
