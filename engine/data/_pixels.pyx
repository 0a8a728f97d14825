# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Warping, colour and noise of one uint8 image, without the GIL.

Layout: an image is (H, W, C), C contiguous. Every function is deterministic and returns a new array. Arithmetic and
rounding are those of torchvision's v2 kernels on uint8 tensors, so that results agree to the level. Shapes and lengths
are checked before the GIL is released, because the loops themselves check nothing.
"""
from libc.math cimport floorf, fmodf
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

import numpy as np


# ---- warps ------------------------------------------------------------------------------------------------------------
# grid_sample of PyTorch with align_corners=False, in float32 like it, so that a pixel on the edge between two others
# falls to the same side.

cdef inline float _round(float value) noexcept nogil:
    """To the nearest whole number, halves to the even one, for values below 2^22; no call into the library."""
    return (value + <float>12582912.0) - <float>12582912.0


cdef inline int _floor(float value) noexcept nogil:
    cdef int whole = <int>value
    return whole - (value < whole)


cdef void _sample_row(const uint8_t* image, Py_ssize_t height, Py_ssize_t width, Py_ssize_t channels, const float* xs,
                      const float* ys, uint8_t* dst, Py_ssize_t count, bint nearest, const float* fill,
                      bint filled) noexcept nogil:
    """Results at normalised places (xs, ys), where -1 and 1 are the image's borders."""
    cdef Py_ssize_t i, c, x, y
    cdef float at_x, at_y, right, below, nw, ne, sw, se, inside, value
    cdef float w = <float>width, h = <float>height, one = 1.0, half = 0.5, zero = 0.0
    cdef const uint8_t* src
    cdef bint left_in, right_in, top_in, bottom_in
    for i in range(count):
        at_x = (xs[i] + one) * (w * half) - half
        at_y = (ys[i] + one) * (h * half) - half
        if not (at_x > -2.0 and at_x < w + one and at_y > -2.0 and at_y < h + one):  # NaN, too
            at_x = at_y = -2.0
        if nearest:
            x, y = <Py_ssize_t>_round(at_x), <Py_ssize_t>_round(at_y)
            if x >= 0 and x < width and y >= 0 and y < height:
                src = image + (y * width + x) * channels
                for c in range(channels):
                    dst[c] = src[c]
            else:
                for c in range(channels):
                    dst[c] = <uint8_t>fill[c]
        else:
            x, y = _floor(at_x), _floor(at_y)
            right, below = at_x - <float>x, at_y - <float>y
            nw = (one - right) * (one - below)
            ne = right * (one - below)
            sw = (one - right) * below
            se = right * below
            left_in, right_in = x >= 0 and x < width, x + 1 >= 0 and x + 1 < width
            top_in, bottom_in = y >= 0 and y < height, y + 1 >= 0 and y + 1 < height
            src = image + (y * width + x) * channels
            if left_in and right_in and top_in and bottom_in:
                for c in range(channels):
                    value = src[c] * nw + src[channels + c] * ne + src[width * channels + c] * sw
                    dst[c] = <uint8_t><int>_round(value + src[(width + 1) * channels + c] * se)
            else:
                nw = nw if left_in and top_in else zero
                ne = ne if right_in and top_in else zero
                sw = sw if left_in and bottom_in else zero
                se = se if right_in and bottom_in else zero
                inside = nw + ne + sw + se
                for c in range(channels):
                    value = 0.0
                    if left_in and top_in:
                        value += src[c] * nw
                    if right_in and top_in:
                        value += src[channels + c] * ne
                    if left_in and bottom_in:
                        value += src[width * channels + c] * sw
                    if right_in and bottom_in:
                        value += src[(width + 1) * channels + c] * se
                    if filled:  # weighed twice at the border, as the reference does it
                        value = (value - fill[c]) * inside + fill[c]
                    dst[c] = <uint8_t><int>_round(min(max(value, zero), <float>255.0))
        dst += channels


def warp(const uint8_t[:, :, ::1] image, const float[::1] matrix, Py_ssize_t height, Py_ssize_t width, bint centred,
         bint nearest, const float[::1] fill, bint filled):
    """Takes result (x, y) from the place (a x + b y + c) / d, (e x + f y + g) / d with d = p x + q y + 1.

    `matrix` is (a, b, c, e, f, g, p, q), giving places where -1 and 1 are the borders; x and y are centres of pixels,
    counted from the middle of the result (`centred`) or from its corner; in the latter case 1 is subtracted.
    """
    cdef Py_ssize_t channels = image.shape[2]
    cdef Py_ssize_t y, x
    cdef float at_x, at_y, divisor
    cdef float start_x = (1.0 - width) * 0.5 if centred else 0.5
    cdef float start_y = (1.0 - height) * 0.5 if centred else 0.5
    if matrix.shape[0] != 8 or fill.shape[0] != channels:
        raise ValueError(f"[warp] expected 8 coefficients and {channels} fill values, got {matrix.shape[0]} and "
                         f"{fill.shape[0]}")
    out = np.empty((height, width, channels), np.uint8)
    if out.size == 0 or image.shape[0] == 0 or image.shape[1] == 0:
        out[...] = np.asarray(fill)
        return out
    cdef uint8_t[:, :, ::1] result = out
    cdef float[::1] xs = np.empty(width, np.float32)
    cdef float[::1] ys = np.empty(width, np.float32)
    with nogil:
        for y in range(height):
            at_y = start_y + y
            for x in range(width):
                at_x = start_x + x
                xs[x] = matrix[0] * at_x + matrix[1] * at_y + matrix[2]
                ys[x] = matrix[3] * at_x + matrix[4] * at_y + matrix[5]
                if not centred:
                    divisor = matrix[6] * at_x + matrix[7] * at_y + <float>1.0
                    xs[x] = xs[x] / divisor - <float>1.0
                    ys[x] = ys[x] / divisor - <float>1.0
            _sample_row(&image[0, 0, 0], image.shape[0], image.shape[1], channels, &xs[0], &ys[0], &result[y, 0, 0],
                        width, nearest, &fill[0], filled)
    return out


def sample(const uint8_t[:, :, ::1] image, const float[:, ::1] xs, const float[:, ::1] ys, bint nearest,
           const float[::1] fill, bint filled):
    """Takes each result from its own place, -1 and 1 being the image's borders. Returns uint8 (*xs.shape, C)."""
    cdef Py_ssize_t channels = image.shape[2], height = xs.shape[0], width = xs.shape[1]
    cdef Py_ssize_t y
    if ys.shape[0] != height or ys.shape[1] != width or fill.shape[0] != channels:
        raise ValueError(f"[sample] expected places of one shape and {channels} fill values, got ({height}, {width}), "
                         f"({ys.shape[0]}, {ys.shape[1]}) and {fill.shape[0]} values")
    out = np.empty((height, width, channels), np.uint8)
    if out.size == 0 or image.shape[0] == 0 or image.shape[1] == 0:
        out[...] = np.asarray(fill)
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        for y in range(height):
            _sample_row(&image[0, 0, 0], image.shape[0], image.shape[1], channels, &xs[y, 0], &ys[y, 0],
                        &result[y, 0, 0], width, nearest, &fill[0], filled)
    return out


# ---- colour -----------------------------------------------------------------------------------------------------------

def lookup(const uint8_t[:, :, ::1] image, const uint8_t[:, ::1] table):
    """Replaces value v of channel c by `table[c, v]`."""
    cdef Py_ssize_t i, c, channels = image.shape[2], pixels = image.shape[0] * image.shape[1]
    cdef const uint8_t* src
    cdef uint8_t* dst
    if table.shape[0] != channels or table.shape[1] != 256:
        raise ValueError(f"[lookup] expected a table of shape ({channels}, 256), got ({table.shape[0]}, "
                         f"{table.shape[1]})")
    out = np.empty((image.shape[0], image.shape[1], channels), np.uint8)
    if out.size == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        src, dst = &image[0, 0, 0], &result[0, 0, 0]
        for i in range(pixels):
            for c in range(channels):
                dst[c] = table[c, src[c]]
            src += channels
            dst += channels
    return out


def histogram(const uint8_t[:, :, ::1] image):
    """Returns how often each value occurs in each channel, as int64 of shape (C, 256)."""
    cdef Py_ssize_t i, c, channels = image.shape[2], pixels = image.shape[0] * image.shape[1]
    cdef const uint8_t* src
    out = np.zeros((channels, 256), np.int64)
    if pixels * channels == 0:
        return out
    cdef int64_t[:, ::1] counts = out
    with nogil:
        src = &image[0, 0, 0]
        for i in range(pixels):
            for c in range(channels):
                counts[c, src[c]] += 1
            src += channels
    return out


cdef inline uint8_t _grey(const uint8_t* pixel) noexcept nogil:
    return <uint8_t>(pixel[0] * <float>0.2989 + pixel[1] * <float>0.587 + pixel[2] * <float>0.114)


def grayscale(const uint8_t[:, :, ::1] image):
    """Returns the luminance of an RGB image, uint8 of shape (H, W, 1)."""
    cdef Py_ssize_t i, pixels = image.shape[0] * image.shape[1]
    cdef const uint8_t* src
    cdef uint8_t* dst
    out = _room_beside(image, 1, "grayscale")
    if pixels == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        src, dst = &image[0, 0, 0], &result[0, 0, 0]
        for i in range(pixels):
            dst[i] = _grey(src + 3 * i)
    return out


def saturate(const uint8_t[:, :, ::1] image, float factor, float rest):
    """Returns factor * image + rest * luminance of an RGB image, cut off to 0..255."""
    cdef Py_ssize_t i, c, pixels = image.shape[0] * image.shape[1]
    cdef const uint8_t* src
    cdef uint8_t* dst
    cdef float grey
    out = _room_beside(image, 3, "adjust_saturation")
    if pixels == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        src, dst = &image[0, 0, 0], &result[0, 0, 0]
        for i in range(pixels):
            grey = rest * <float>_grey(src)
            for c in range(3):
                dst[c] = <uint8_t>min(max(<int>(factor * src[c] + grey), 0), 255)
            src += 3
            dst += 3
    return out


def shift_hue(const uint8_t[:, :, ::1] image, float shift):
    """Turns the hue of an RGB image by `shift` of the colour circle, through HSV in float32."""
    cdef Py_ssize_t i, pixels = image.shape[0] * image.shape[1]
    cdef const uint8_t* src
    cdef uint8_t* dst
    cdef float red, green, blue, low, high, span, hue, saturation, part, p, q, t, r, g, b
    cdef float one = 1.0, to_byte = 255.999, from_byte = 1.0 / 255.0
    cdef int sector
    out = _room_beside(image, 3, "adjust_hue")
    if pixels == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        src, dst = &image[0, 0, 0], &result[0, 0, 0]
        for i in range(pixels):
            red, green, blue = src[0] * from_byte, src[1] * from_byte, src[2] * from_byte
            low, high = min(min(red, green), blue), max(max(red, green), blue)
            span = high - low
            if span == 0:
                hue = saturation = 0.0
            else:
                saturation = span / high
                r, g, b = (high - red) / span, (high - green) / span, (high - blue) / span
                if high == red:
                    hue = b - g
                elif high == green:
                    hue = r + <float>2.0 - b
                else:
                    hue = g + <float>4.0 - r
            hue = fmodf(hue * <float>(1.0 / 6.0) + one, one) + shift
            hue -= floorf(hue)
            hue *= <float>6.0
            part = floorf(hue)
            sector = <int>part % 6
            part = hue - part
            q = min(max((one - saturation * part) * high, <float>0.0), one)
            t = min(max((saturation * part + (one - saturation)) * high, <float>0.0), one)
            p = min(max((one - saturation) * high, <float>0.0), one)
            if sector == 0:
                r, g, b = high, t, p
            elif sector == 1:
                r, g, b = q, high, p
            elif sector == 2:
                r, g, b = p, high, t
            elif sector == 3:
                r, g, b = p, q, high
            elif sector == 4:
                r, g, b = t, p, high
            else:
                r, g, b = high, p, q
            dst[0], dst[1], dst[2] = <uint8_t>(r * to_byte), <uint8_t>(g * to_byte), <uint8_t>(b * to_byte)
            src += 3
            dst += 3
    return out


cdef _room_beside(const uint8_t[:, :, ::1] image, Py_ssize_t channels, name):
    """An array for what becomes of a colour image."""
    if image.shape[2] != 3:
        raise ValueError(f"[{name}] expected an image with 3 channels, got {image.shape[2]}")
    return np.empty((image.shape[0], image.shape[1], channels), np.uint8)


# ---- neighbourhoods ---------------------------------------------------------------------------------------------------

def sharpen(const uint8_t[:, :, ::1] image, float rest):
    """Returns image + rest * (blurred - image), where the border of one pixel stays as it is.

    The blur weighs the middle 5/13 and its eight neighbours 1/13 each.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], channels = image.shape[2]
    cdef Py_ssize_t y, i, row = width * channels
    cdef float around = 1.0 / 13.0, middle = 5.0 / 13.0, total
    cdef const uint8_t* at
    cdef uint8_t* dst
    out = np.array(image, np.uint8)
    if height < 3 or width < 3 or channels == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        for y in range(1, height - 1):
            at, dst = &image[y, 0, 0], &result[y, 0, 0]
            for i in range(channels, row - channels):
                total = (at[i - row - channels] + at[i - row] + at[i - row + channels] + at[i - channels]
                         + at[i + channels] + at[i + row - channels] + at[i + row] + at[i + row + channels])
                total = _round(total * around + at[i] * middle) - at[i]
                dst[i] = <uint8_t>min(max(<int>(at[i] + rest * total), 0), 255)
    return out


cdef inline Py_ssize_t _mirrored(Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """An index beyond the border, reflected without repeating the border, as often as it takes."""
    if size == 1:
        return 0
    at = at % (2 * size - 2)
    if at < 0:
        at += 2 * size - 2
    return at if at < size else 2 * size - 2 - at


def blur(const float[:, :, ::1] image, const float[::1] across, const float[::1] down):
    """Correlates the columns' axis with `across` and the rows' axis with `down`, the image being mirrored at its borders.

    Returns float32 of the same shape.
    """
    cdef Py_ssize_t height = image.shape[0], width = image.shape[1], channels = image.shape[2]
    cdef Py_ssize_t y, x, c, k, i, row = width * channels, before = across.shape[0] // 2, above = down.shape[0] // 2
    cdef const float* src
    cdef float weight
    out = np.zeros((height, width, channels), np.float32)
    if out.size == 0:
        return out
    cdef float[:, :, ::1] result = out
    cdef float[:, ::1] rows = np.zeros((height, row), np.float32)
    cdef float[::1] wide = np.empty((width + across.shape[0]) * channels, np.float32)
    with nogil:
        for y in range(height):
            for x in range(width + across.shape[0] - 1):
                src = &image[y, _mirrored(x - before, width), 0]
                for c in range(channels):
                    wide[x * channels + c] = src[c]
            for k in range(across.shape[0]):
                weight, src = across[k], &wide[k * channels]
                for i in range(row):
                    rows[y, i] += weight * src[i]
        for y in range(height):
            for k in range(down.shape[0]):
                weight, src = down[k], &rows[_mirrored(y + k - above, height), 0]
                for i in range(row):
                    (&result[y, 0, 0])[i] += weight * src[i]
    return out


# ---- noise ------------------------------------------------------------------------------------------------------------

cdef inline uint64_t _mix(uint64_t value) noexcept nogil:
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


def add_noise(const uint8_t[:, :, ::1] image, const float[::1] levels, bint clip, uint64_t seed):
    """Adds one of 65536 equally likely `levels`, cut to whole ones; which is a function of (seed, place in memory).

    Without `clip` sums outside 0..255 wrap around. Method: SplitMix64 in counter form, 16 bits for each value.
    """
    cdef Py_ssize_t i, size = image.shape[0] * image.shape[1] * image.shape[2]
    cdef uint64_t bits = 0
    cdef const uint8_t* src
    cdef uint8_t* dst
    cdef int value
    if levels.shape[0] != 65536:
        raise ValueError(f"[gaussian_noise] expected 65536 levels, got {levels.shape[0]}")
    out = np.empty((image.shape[0], image.shape[1], image.shape[2]), np.uint8)
    if size == 0:
        return out
    cdef uint8_t[:, :, ::1] result = out
    with nogil:
        src, dst = &image[0, 0, 0], &result[0, 0, 0]
        seed = _mix(seed + <uint64_t>0x9E3779B97F4A7C15)
        for i in range(size):
            if i % 4 == 0:
                bits = _mix(seed + <uint64_t>(i + 1) * <uint64_t>0x9E3779B97F4A7C15)
            value = src[i] + <int>levels[bits & <uint64_t>0xFFFF]
            bits >>= 16
            dst[i] = <uint8_t>(min(max(value, 0), 255) if clip else value & 255)
    return out
