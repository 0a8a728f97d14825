# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Loops over uint8 images, without the GIL.

Layout: images are (N, H, W, C), C contiguous, the layout in which decoders deliver them and in which the engine stores
its tensors. Every function is deterministic: whoever calls it has drawn the parameters (see `transforms.py`).
Shapes and lengths are checked here, before the GIL is released, because the loops themselves check nothing.
"""
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

import numpy as np


cdef void _crop_one(const uint8_t* src, uint8_t* dst, Py_ssize_t in_h, Py_ssize_t in_w, Py_ssize_t out_h,
                    Py_ssize_t out_w, Py_ssize_t channels, int64_t top, int64_t left, int fill) noexcept nogil:
    cdef int64_t first = min(max(-left, 0), out_w)  # columns [first, last) of dst lie inside src
    cdef int64_t last = max(min(in_w - left, out_w), first)
    cdef int64_t y, row
    for y in range(out_h):
        row = y + top
        if row < 0 or row >= in_h or last == first:
            memset(dst, fill, <size_t>(out_w * channels))
        else:
            memset(dst, fill, <size_t>(first * channels))
            memcpy(dst + first * channels, src + (row * in_w + left + first) * channels,
                   <size_t>((last - first) * channels))
            memset(dst + last * channels, fill, <size_t>((out_w - last) * channels))
        dst += out_w * channels


def crop(const uint8_t[:, :, :, ::1] images, const int64_t[::1] top, const int64_t[::1] left, Py_ssize_t height,
         Py_ssize_t width, int fill=0):
    """Cuts one window from each image; what lies outside the image is `fill`.

    `top[n]`, `left[n]` is the window's corner in image n and may be negative: a crop is also an integer shift.
    Returns uint8 of shape (N, height, width, C).
    """
    cdef Py_ssize_t count = images.shape[0], in_h = images.shape[1], in_w = images.shape[2], channels = images.shape[3]
    cdef Py_ssize_t n
    cdef int64_t far = 1 << 40
    if top.shape[0] != count or left.shape[0] != count:
        raise ValueError(f"[crop] expected {count} corners, one per image, got {top.shape[0]} tops and "
                         f"{left.shape[0]} lefts")
    if height < 0 or width < 0:
        raise ValueError(f"[crop] expected a window of at least 0 x 0, got {height} x {width}")
    if not 0 <= fill <= 255:
        raise ValueError(f"[crop] expected fill in 0..255, got {fill}")
    out = np.empty((count, height, width, channels), np.uint8)
    if out.size == 0:
        return out
    if in_h == 0 or in_w == 0:
        out.fill(fill)
        return out
    cdef uint8_t[:, :, :, ::1] result = out
    with nogil:
        for n in range(count):
            _crop_one(&images[n, 0, 0, 0], &result[n, 0, 0, 0], in_h, in_w, height, width, channels,
                      min(max(top[n], -far), far), min(max(left[n], -far), far), fill)
    return out


def horizontal_flip(const uint8_t[:, :, :, ::1] images, const uint8_t[::1] flip):
    """Mirrors image n left to right where `flip[n]` is not 0. Returns a new array of the same shape."""
    cdef Py_ssize_t count = images.shape[0], height = images.shape[1], width = images.shape[2]
    cdef Py_ssize_t channels = images.shape[3]
    cdef Py_ssize_t n, y, x, c
    cdef const uint8_t* src
    cdef uint8_t* dst
    if flip.shape[0] != count:
        raise ValueError(f"[horizontal_flip] expected {count} decisions, one per image, got {flip.shape[0]}")
    out = np.empty((count, height, width, channels), np.uint8)
    if out.size == 0:
        return out
    cdef uint8_t[:, :, :, ::1] result = out
    with nogil:
        for n in range(count):
            if not flip[n]:
                memcpy(&result[n, 0, 0, 0], &images[n, 0, 0, 0], <size_t>(height * width * channels))
                continue
            for y in range(height):
                src = &images[n, y, 0, 0]
                dst = &result[n, y, width - 1, 0]
                for x in range(width):
                    for c in range(channels):
                        dst[c] = src[c]
                    src += channels
                    dst -= channels
    return out


def normalize(const uint8_t[:, :, :, ::1] images, const float[:, ::1] table):
    """Looks every byte up in its channel's table of 256 floats.

    `table[c, v]` is the float for value v of channel c, so scaling, mean and deviation cost one load per byte.
    Returns float32 of shape (N, H, W, C).
    """
    cdef Py_ssize_t count = images.shape[0], height = images.shape[1], width = images.shape[2]
    cdef Py_ssize_t channels = images.shape[3]
    cdef Py_ssize_t i, c, pixels = count * height * width
    cdef const uint8_t* src
    cdef const float* values
    cdef float* dst
    if table.shape[0] != channels or table.shape[1] != 256:
        raise ValueError(f"[normalize] expected a table of shape ({channels}, 256), got "
                         f"({table.shape[0]}, {table.shape[1]})")
    out = np.empty((count, height, width, channels), np.float32)
    if out.size == 0:
        return out
    cdef float[:, :, :, ::1] result = out
    with nogil:
        src = &images[0, 0, 0, 0]
        dst = &result[0, 0, 0, 0]
        values = &table[0, 0]
        if channels == 1:
            for i in range(pixels):
                dst[i] = values[src[i]]
        else:
            for i in range(pixels):
                for c in range(channels):
                    dst[c] = values[c * 256 + src[c]]
                src += channels
                dst += channels
    return out
