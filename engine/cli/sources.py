"""Where data come from: what a path leads to, and how it is parted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.data import (
    CIFAR10,
    CIFAR100,
    MNIST,
    CSVDataset,
    FashionMNIST,
    ImageFolder,
    LeakageError,
    Subset,
    find_leaks,
    load_dataset,
    split_dataset,
)
from engine.data.image_files import IMG_EXTENSIONS, files_below

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
    if path.lower().endswith(".csv"):
        table = CSVDataset(path, channels=channels)
        return Source({"all": table}, table.classes, False)
    if not os.path.isdir(path):
        raise ValueError(f"{path}: expected a folder, a .csv file, or an .npz file with images and labels")
    standard = _standard(path)
    if standard is not None:
        kind, root = standard
        return Source({"train": kind(root, train=True), "test": kind(root, train=False)}, kind.names, True)
    inside = _folders(path)
    names = {
        part: next((name for name in inside if name.lower() in spellings), None)
        for part, spellings in (("train", _TRAIN), ("val", _VAL), ("test", _TEST))
    }
    if names["train"] is None or not _folders(os.path.join(path, names["train"])):
        whole = ImageFolder(path, channels=channels)
        return Source({"all": whole}, whole.classes, False)
    parts = {part: ImageFolder(os.path.join(path, name), channels=channels) for part, name in names.items() if name}
    for name, part in parts.items():
        if part.classes != parts["train"].classes:
            other = sorted(set(part.classes) ^ set(parts["train"].classes))
            raise ValueError(f"{path}: the classes of {name} are not those of train: {', '.join(other[:5])}")
    return Source(parts, parts["train"].classes, False)


def _standard(path: str) -> tuple[Any, str] | None:
    """Which of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 has its files in a folder, and the root to read them from.

    The folder may be the one that torchvision calls root, or the one with the files. MNIST and Fashion-MNIST name their
    files alike: there the path tells which it is.
    """
    alike = FashionMNIST if "fashion" in os.path.abspath(path).lower() else MNIST
    images = "train-images-idx3-ubyte"
    places = (
        (MNIST, "", f"MNIST/raw/{images}"),
        (FashionMNIST, "", f"FashionMNIST/raw/{images}"),
        (alike, "", images),
        (alike, "raw", f"raw/{images}"),
        (CIFAR10, "", "cifar-10-batches-py/data_batch_1"),
        (CIFAR10, "", "data_batch_1"),
        (CIFAR100, "", "cifar-100-python/train"),
        (CIFAR100, "", "train"),
    )
    found = [(kind, os.path.join(path, root)) for kind, root, file in places if _has(path, file)]
    if len(found) > 1:
        names = ", ".join(kind.__name__ for kind, _ in found)
        raise ValueError(f"{path}: the files of {names} are in it: expected a folder with those of one data set")
    return found[0] if found else None


def _has(folder: str, name: str) -> bool:
    return any(os.path.isfile(os.path.join(folder, name + ending)) for ending in ("", ".gz"))


def _folders(path: str) -> list[str]:
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def images_below(folder: str) -> list[str]:
    """Returns the image files in a folder and the folders in it, sorted.

    Args:
        folder: where to look.
    """
    return [path for path in files_below(folder) if path.lower().endswith(IMG_EXTENSIONS)]


def parted(source: Source, fractions: Sequence[float], seed: int, duplicates: str = "raise") -> dict[str, Any]:
    """Returns train, val and test; what is not there as a part of its own is taken from the training part.

    Args:
        source: what was found.
        fractions: shares of training, validation and test.
        seed: decides which samples go where.
        duplicates: what to do about images with the same content: "raise" an error that names those that are in two
            parts or could come into two, "together" keeps them in one part, "allow" does not look. Of parts that are
            there already, "together" leaves out of an earlier one what a later one (train, val, test) has, too.

    Raises:
        LeakageError: see `duplicates`.
    """
    parts = {name: Subset(part, np.arange(len(part))) for name, part in source.parts.items()}
    try:
        if len(parts) > 1 and duplicates != "allow":
            parts = _without_leaks(parts, duplicates)
        first, *given = parts
        taken = ["train", *(name for name in ("val", "test") if name not in given)]
        if len(taken) > 1:
            shares = [fractions[("train", "val", "test").index(name)] for name in taken[1:]]
            whole, indices = parts[first].dataset, parts.pop(first).indices
            pieces = split_dataset(Subset(whole, indices), [1 - sum(shares), *shares], seed, duplicates=duplicates)
            parts.update({name: Subset(whole, indices[piece.indices]) for name, piece in zip(taken, pieces)})
    except LeakageError as error:
        shown = ", ".join(" = ".join(pair) if isinstance(pair, tuple) else str(pair) for pair in error.leaks[:10])
        raise LeakageError(
            f"{len(error.leaks)} pair{'s' * (len(error.leaks) > 1)} of images with the same content: {shown}: what is "
            f"trained on must not be tested on: remove them, or pass --duplicates together to keep them in one part, "
            f"or --duplicates allow",
            error.leaks,
        ) from error
    return {name: parts[name] for name in ("train", "val", "test")}


def _without_leaks(parts: dict[str, Subset], duplicates: str) -> dict[str, Subset]:
    """The parts when they have nothing in common, or without what a later part has, too."""
    later = dict(reversed(parts.items()))
    leaks = find_leaks(later)
    if leaks and duplicates == "raise":
        raise LeakageError("parts have samples in common", leaks)
    shared = {(leak.second_part, leak.second) for leak in leaks}
    return {
        name: Subset(
            part.dataset,
            [
                index
                for place, index in enumerate(part.indices.tolist())
                if (name, part.content_of(place)[0]) not in shared
            ],
        )
        for name, part in parts.items()
    }


def digest(parts: dict[str, Any], path: str) -> str:
    """Returns what differs when the parts' content does: of arrays all bytes count, of files names and sizes.

    Args:
        parts: subsets by name.
        path: the folder or table of image files: their names count from there.
    """
    found = hashlib.sha256()
    root = path if os.path.isdir(path) else os.path.dirname(path)
    wholes = list({id(part.dataset): part.dataset for part in parts.values()}.values())
    for whole in wholes:
        if hasattr(whole, "arrays"):
            for array in whole.arrays:
                found.update(f"{array.dtype.str}{array.shape}".encode())
                found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
            continue
        for file, label in whole.samples:
            name = os.path.relpath(file, root or os.curdir)
            found.update(f"{name}\0{os.path.getsize(file)}\0{label}\n".encode(errors="surrogateescape"))
    return found.hexdigest()
