"""Image files to pixels.

Pillow is the reference: it says what an image is and what is damaged. Where simplejpeg is installed, it decodes the
JPEG files that have nothing unusual about them, with the same library underneath, to the same pixels, in less time.
"""

from __future__ import annotations

import functools
import io
import os
import struct
from typing import Any, NamedTuple

import numpy as np


class ImageError(ValueError):
    """An image file cannot be read; the message names the file and what is wrong with it.

    Args:
        message: what is wrong.
        path: the file, or None when the image came from elsewhere.
        index: the sample's number in its dataset, or None.

    Example:
        >>> read_image("none.png")
        Traceback (most recent call last):
            ...
        engine.data.decode.ImageError: none.png: no such file
    """

    def __init__(self, message: str, path: str | None = None, index: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.index = index


def read_image(
    path: str | os.PathLike[str], channels: int = 3, *, min_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Decodes an image file.

    The EXIF rotation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bits, and the first frame
    of an animation is taken.

    Args:
        path: the file.
        channels: 1 for grey, 3 for red, green and blue.
        min_size: a JPEG larger than this (height, width) may be decoded at 1/2, 1/4 or 1/8 of its size as long as both
            sides stay at least so large: faster, but other pixels than those of the whole image. None decodes all.

    Returns:
        uint8 of shape (H, W, channels).

    Raises:
        ImageError: when the file is missing, empty, truncated, no image, or has more pixels than
            twice `PIL.Image.MAX_IMAGE_PIXELS` (Pillow warns from once that number): such files are made to fill the
            memory.
        ImportError: when Pillow is not installed.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (6, 4), "red").save("red.png")
        >>> read_image("red.png")[0, 0]
        array([255,   0,   0], dtype=uint8)
    """
    path = os.fspath(path)
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file", path) from None
    except IsADirectoryError:
        raise ImageError(f"{path}: a directory, expected an image file", path) from None
    except OSError as error:
        raise ImageError(f"{path}: cannot be read: {error.strerror or error}", path) from error
    if not data:
        raise ImageError(f"{path}: the file is empty", path)
    try:
        return decode_image(data, channels, min_size=min_size)
    except ImageError as error:
        raise ImageError(f"{path}: {error}", path) from error


def decode_image(data: bytes, channels: int = 3, *, min_size: tuple[int, int] | None = None) -> np.ndarray:
    """Decodes the content of an image file, as `read_image` does.

    Args:
        data: the file's bytes.
        channels: 1 for grey, 3 for red, green and blue.
        min_size: see `read_image`.

    Returns:
        uint8 of shape (H, W, channels).

    Raises:
        ImageError: when the bytes are no complete image, or one of too many pixels.
        ValueError: for another number of channels.

    Example:
        >>> decode_image(b"no image")
        Traceback (most recent call last):
            ...
        engine.data.decode.ImageError: not an image in a known format
    """
    if channels not in (1, 3):
        raise ValueError(f"[decode_image] expected 1 or 3 channels, got {channels}")
    Image = _pillow()
    turbo = _simplejpeg()
    if turbo is not None and min_size is None:
        header = _plain_jpeg(data)
        if header is not None and (header.components == channels or channels == 3) and _is_small(header, Image):
            try:
                pixels = turbo.decode_jpeg(data, colorspace="GRAY" if header.components == 1 else "RGB")
            except ValueError:  # damaged, or unusual after all: for Pillow to judge
                pass
            else:
                return _oriented(pixels if header.components == channels else np.repeat(pixels, 3, 2), header)
    try:
        return _decode_by_pillow(Image, data, channels, min_size)
    except Image.UnidentifiedImageError as error:
        raise ImageError("not an image in a known format") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{error} Raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file") from error
    except Exception as error:  # on damaged files decoders raise nearly anything: OSError, SyntaxError, struct.error
        raise ImageError(f"damaged or unreadable image: {error}") from error


def _decode_by_pillow(Image: Any, data: bytes, channels: int, min_size: tuple[int, int] | None) -> np.ndarray:
    from PIL import ImageOps

    with Image.open(io.BytesIO(data)) as image:
        if min_size is not None:
            image.draft(None, (min_size[1], min_size[0]))
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):  # 16 bits in one or another container
            wide = np.asarray(image).astype(np.float64)
            image = Image.fromarray((np.clip(wide, 0, 65535) / 257 + 0.5).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        mode = "L" if channels == 1 else "RGB"
        pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels.reshape(*pixels.shape[:2], channels)


@functools.cache
def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError('reading image files needs Pillow: pip install "engine[train]"') from error
    return Image


@functools.cache
def _simplejpeg() -> Any:
    """The module, or None where it is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


# ---- headers of JPEG files


class _Header(NamedTuple):
    height: int
    width: int
    components: int
    orientation: int


def _is_small(header: _Header, Image: Any) -> bool:
    """Whether Pillow would take it for a normal size."""
    return Image.MAX_IMAGE_PIXELS is None or header.height * header.width <= Image.MAX_IMAGE_PIXELS


def _plain_jpeg(data: bytes) -> _Header | None:
    """Size and orientation of a JPEG; None when it is anything else, or one that is best left to Pillow.

    Left to it are arithmetic and lossless coding, 12 bits, CMYK, sizes given later, and what is wrong or twice there.
    """
    if data[:3] != b"\xff\xd8\xff":
        return None
    at, frame, orientation = 2, None, 0
    try:
        while True:
            marker = data[at + 1]
            if data[at] != 0xFF:
                return None
            if marker == 0xFF:  # padding
                at += 1
                continue
            if marker == 0xDA:  # the pixels
                return None if frame is None else _Header(*frame, orientation or 1)
            length = data[at + 2] << 8 | data[at + 3]
            if marker in (0xC0, 0xC1, 0xC2):
                bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
                if frame is not None or bits != 8 or components not in (1, 3) or not height or not width:
                    return None
                frame = (height, width, components)
            elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8):
                return None
            elif marker == 0xE1:
                found = _orientation(data[at + 4 : at + 2 + length])
                if found is None or (found and orientation):
                    return None
                orientation = orientation or found
            elif marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2:  # no length, or out of place
                return None
            at += 2 + length
    except (IndexError, struct.error):
        return None


def _orientation(segment: bytes) -> int | None:
    """The orientation 1 to 8 that an APP1 segment gives, 0 when it gives none, None when it is best left to Pillow."""
    if segment[:6] != b"Exif\0\0":
        return None if b"Orientation" in segment else 0
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(segment[6:10])
    if order is None:
        return None
    (directory,) = struct.unpack_from(order + "I", segment, 10)
    (entries,) = struct.unpack_from(order + "H", segment, 6 + directory)
    for entry in range(entries):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", segment, 6 + directory + 2 + 12 * entry)
        if tag == 0x0112:
            return value if kind == 3 and count == 1 and 1 <= value <= 8 else None
    return 1


def _oriented(pixels: np.ndarray, header: _Header) -> np.ndarray:
    """Turns an image as its EXIF orientation says."""
    orientation = header.orientation
    if orientation in (3, 4, 6, 7):
        pixels = pixels[::-1]
    if orientation in (2, 3, 7, 8):
        pixels = pixels[:, ::-1]
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    return np.ascontiguousarray(pixels)
