"""The packaged digits, and data sets in files."""

from __future__ import annotations

import os
import zipfile
from typing import Any

import numpy as np

from .dataset import ArrayDataset
from .images import as_images

DIGITS_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "digits")


def digits() -> ArrayDataset:
    """Returns 1,797 real handwritten digits: images (1797, 8, 8, 1) uint8, 255 where full of ink, and their labels.

    The test part of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49), under CC BY 4.0, in the order of scikit-learn's `load_digits`. Each
    pixel is the share of a 4 x 4 cell of the scan that is inked, in 17 steps. Not downloaded, part of the package.

    Example:
        >>> data = digits()
        >>> image, label = data[0]
        >>> image.shape, int(label), len(data)
        ((8, 8, 1), 0, 1797)
    """
    with np.load(os.path.join(DIGITS_DIRECTORY, "digits.npz"), allow_pickle=False) as file:
        levels, labels = file["images"], file["labels"]
    images = ((levels.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return ArrayDataset(images[..., None], labels.astype(np.int64), classes=[str(digit) for digit in range(10)])


def load_dataset(path: str | os.PathLike[str]) -> ArrayDataset:
    """Loads "digits" or a NumPy archive (.npz) of images and labels.

    The archive holds `images`, (N, H, W) or (N, H, W, C) uint8, and `labels`, N integers from 0; optionally
    `class_names`, one string per class.

    Args:
        path: the word "digits" or a file.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is no such archive or its content does not fit together; the message names the file.

    Example:
        >>> len(load_dataset("digits").classes)
        10
    """
    name = os.fspath(path)
    if name == "digits":
        return digits()
    if os.path.isdir(name):
        raise ValueError(f"{name}: a directory, expected an .npz file with the arrays images and labels")
    try:
        with np.load(name, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise ValueError("a single array, expected an .npz archive with the arrays images and labels")
            missing = [key for key in ("images", "labels") if key not in file.files]
            if missing:
                raise ValueError(f"no array {' and '.join(missing)} in it, only {', '.join(file.files) or 'none'}")
            images, labels = as_images(file["images"]), file["labels"]
            names: Any = file["class_names"].tolist() if "class_names" in file.files else None
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise ValueError(f"expected labels to be N integers, got {labels.dtype} of shape {labels.shape}")
        if names is None:
            names = [str(label) for label in range(int(labels.max()) + 1 if len(labels) else 0)]
        return ArrayDataset(images, labels.astype(np.int64), classes=[str(name) for name in names])
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: {error}") from error
