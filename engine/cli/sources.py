"""Where data come from: what a path leads to, and how it is parted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.data import Dataset, Subset, load_dataset, read_image, stratified_split

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_TRAIN, _VAL, _TEST = ("train", "training"), ("val", "valid", "validation"), ("test",)


class Source(NamedTuple):
    """What was found: one data set, or several that are parts already; class names; whether images are in memory."""

    parts: dict[str, Any]  # "all", or "train" with "val" and "test" as far as they are there
    classes: Sequence[str]
    stored: bool


def find(path: str, channels: int) -> Source:
    """Opens what a path leads to.

    Args:
        path: "digits", a file, or a folder.
        channels: 1 or 3, for image files.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: there is nothing that is known here.
    """
    if path == "digits" or path.endswith(".npz"):
        data = load_dataset(path)
        return Source({"all": data}, list(data.classes or ()), True)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file or folder")
    if not os.path.isdir(path):
        raise ValueError(f"{path}: expected a folder of images, or an .npz file with images and labels")
    inside = _folders(path)
    names = {
        part: next((name for name in inside if name.lower() in spellings), None)
        for part, spellings in (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
    }
    if names["train"] is None or not _folders(os.path.join(path, names["train"])):
        whole = ImageFiles.of_folder(path, channels)
        return Source({"all": whole}, whole.classes, False)
    parts = {part: ImageFiles.of_folder(os.path.join(path, name), channels) for part, name in names.items() if name}
    for name, part in parts.items():
        if part.classes != parts["train"].classes:
            other = sorted(set(part.classes) ^ set(parts["train"].classes))
            raise ValueError(f"{path}: the classes of {name} are not those of train: {', '.join(other[:5])}")
    return Source(parts, parts["train"].classes, False)


def _folders(path: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


class ImageFiles(Dataset):
    """Image files with their classes; decoded when asked for.

    Attributes:
        samples: (file, class number).
        geometry: applied to each decoded image, so that all have one size; set by who knows the size.
    """

    def __init__(self, root: str, samples: Sequence[tuple[str, int]], classes: Sequence[str], channels: int) -> None:
        self.root = root
        self.samples = list(samples)
        self.classes = tuple(classes)
        self.channels = channels
        self.labels = np.array([label for _, label in self.samples], np.int64)
        self.geometry: Any = None

    @classmethod
    def of_folder(cls, root: str, channels: int) -> ImageFiles:
        """Finds the images of a folder with a folder per class.

        Args:
            root: the folder.
            channels: 1 or 3.

        Raises:
            ValueError: there are no such folders, or one has no images.
        """
        classes = _folders(root)
        if not classes:
            raise ValueError(f"{root}: expected a folder of images for each class in it, found no folders")
        samples = []
        for label, name in enumerate(classes):
            files = images_below(os.path.join(root, name))
            if not files:
                raise ValueError(
                    f"{os.path.join(root, name)}: no images in the folder of this class: add some, or remove it"
                )
            samples += [(file, label) for file in files]
        return cls(root, samples, classes, channels)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        file, label = self.samples[index]
        image = read_image(file, self.channels)
        return (image if self.geometry is None else np.asarray(self.geometry(image))), label


def images_below(folder: str) -> list[str]:
    """Returns the image files in a folder and the folders in it, sorted.

    Args:
        folder: where to look.
    """
    found = []
    for where, folders, files in os.walk(folder):
        folders.sort()
        found += [os.path.join(where, name) for name in sorted(files) if name.lower().endswith(_IMAGES)]
    return found


def parted(source: Source, fractions: Sequence[float], seed: int) -> dict[str, Any]:
    """Returns train, val and test; what is not there as a part of its own is taken from the training part.

    Args:
        source: what was found.
        fractions: shares of training, validation and test.
        seed: decides which samples go where.
    """
    if "all" in source.parts:
        whole = source.parts["all"]
        indices = stratified_split(whole.labels, fractions, seed)
        return {name: Subset(whole, part) for name, part in zip(("train", "val", "test"), indices, strict=True)}
    parts = {name: Subset(part, np.arange(len(part))) for name, part in source.parts.items()}
    missing = [name for name in ("val", "test") if name not in parts]
    if missing:
        whole = parts["train"].dataset
        shares = [fractions[("train", "val", "test").index(name)] for name in missing]
        rest = stratified_split(whole.labels, [1 - sum(shares), *shares], seed)
        parts.update({name: Subset(whole, part) for name, part in zip(("train", *missing), rest, strict=True)})
    return parts


def digest(parts: dict[str, Any]) -> str:
    """Returns what differs when the parts' content does: of arrays all bytes count, of files names and sizes.

    Args:
        parts: subsets by name.
    """
    found = hashlib.sha256()
    wholes = list({id(part.dataset): part.dataset for part in parts.values()}.values())
    for whole in wholes:
        if hasattr(whole, "arrays"):
            for array in whole.arrays:
                found.update(f"{array.dtype.str}{array.shape}".encode())
                found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            continue
        for file, label in whole.samples:
            name = os.path.relpath(file, whole.root)
            found.update(f"{name}\0{os.path.getsize(file)}\0{label}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
