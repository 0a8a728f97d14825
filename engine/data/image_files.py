"""Data sets of image files: a folder per class, or a table of paths and labels."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .dataset import Dataset
from .decode import ImageError, read_image
from .random import SampleRandom
from .transforms import Transform

IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp", ".gif")


class ImageFiles(Dataset):
    """Images in files, with a class number for each.

    A sample is (image, label): the image (H, W, C) uint8, or what `transform` makes of it. Where training and
    validation need different transforms of the same files, give them to the loaders instead of to the data set.

    Args:
        paths: the files.
        labels: one class number per file.
        classes: the names of the classes.
        transform: applied to each image: a `Transform`, which gets the sample's random numbers, or any function of one
            image. Without a loader there are no random numbers, and transforms do what evaluation needs.
        target_transform: applied to each label.
        loader: reads a file; None for `read_image`, which names the file when it is damaged.
        channels: 1 for grey, 3 for red, green and blue; for `read_image`.

    Raises:
        ValueError: when there is not one label per file, or a label has no class name.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (6, 4), "red").save("red.png")
        >>> data = ImageFiles(["red.png"], [0], classes=("colours",))
        >>> image, label = data[0]
        >>> image.shape, label
        ((4, 6, 3), 0)
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        labels: Sequence[int] | np.ndarray,
        classes: Iterable[str],
        transform: Transform | Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] | None = None,
        *,
        channels: int = 3,
    ) -> None:
        name = type(self).__name__
        self.paths = [os.fspath(path) for path in paths]
        self.labels = np.array(labels, np.int64).reshape(-1)
        self.classes = tuple(classes)
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}
        self.transform = transform
        self.target_transform = target_transform
        self.loader = loader
        self.channels = channels
        if len(self.labels) != len(self.paths):
            raise ValueError(
                f"[{name}] expected one label per file, got {len(self.labels)} labels for {len(self.paths)} files"
            )
        if len(self.class_to_idx) != len(self.classes):
            raise ValueError(f"[{name}] expected every class name once, got {list(self.classes)}")
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"[{name}] expected labels in 0..{len(self.classes) - 1} for {len(self.classes)} class names, got "
                f"labels from {self.labels.min()} to {self.labels.max()}"
            )

    @property
    def samples(self) -> list[tuple[str, int]]:
        """Path and class number of each sample."""
        return list(zip(self.paths, self.labels.tolist()))

    @property
    def targets(self) -> list[int]:
        """The class numbers."""
        numbers: list[int] = self.labels.tolist()
        return numbers

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        return self.sample(index)

    def sample(self, index: int, random: SampleRandom | None = None) -> Any:
        """Returns sample `index`, its transform given these random numbers.

        Args:
            index: the sample's number.
            random: its stream; None for evaluation.

        Raises:
            ImageError: when the file is damaged; the message names it and the sample's number.
        """
        path = self.paths[index]
        try:
            image = read_image(path, self.channels) if self.loader is None else self.loader(path)
        except ImageError as error:
            raise ImageError(f"[{type(self).__name__}] sample {index}: {error}", path, index) from error
        label = int(self.labels[index])
        if self.transform is not None:
            image = transformed(self.transform, image, random)
        return image, label if self.target_transform is None else self.target_transform(label)

    def content_of(self, index: int) -> tuple[str, Any]:
        return self.paths[index], _FileContent(self.paths[index])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.classes)} classes)"


def transformed(transform: Any, image: Any, random: SampleRandom | None) -> Any:
    """Returns the transformed image of one sample.

    Args:
        transform: a `Transform`, or any function of one image.
        image: the image.
        random: the sample's stream, for a `Transform`.

    Example:
        >>> transformed(lambda image: image + 1, 1, None)
        2
    """
    return transform(image, random) if isinstance(transform, Transform) else transform(image)


class _FileContent:
    """What is in a file: equal to another of equal bytes.

    Only of files of equal size is the end read, where compressed pixels differ, and only when it is equal the whole.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)
        self._size = os.path.getsize(path)
        self._end: bytes | None = None
        self._digest: bytes | None = None

    def __hash__(self) -> int:
        return hash(self._size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _FileContent) or self._size != other._size:
            return False
        return self._path == other._path or (self._tail() == other._tail() and self._read() == other._read())

    def _tail(self) -> bytes:
        if self._end is None:
            with open(self._path, "rb") as file:
                file.seek(-min(self._size, 1024), os.SEEK_END)
                self._end = hashlib.sha256(file.read()).digest()
        return self._end

    def _read(self) -> bytes:
        if self._digest is None:
            with open(self._path, "rb") as file:
                self._digest = hashlib.sha256(file.read()).digest()
        return self._digest


class ImageFolder(ImageFiles):
    """Images in one folder per class, as torchvision's data set of this name.

    `root/cat/1.jpg`, `root/cat/tabby/2.png` and `root/dog/3.jpg` are two images of class "cat", number 0, and one of
    "dog", number 1: classes are numbered in alphabetical order. Unlike torchvision's, it passes over folders and files
    whose name begins with a dot: thumbnails, checkpoints of notebooks and what else programs hide are no samples.

    Args:
        root: the folder of the classes' folders.
        transform: see `ImageFiles`.
        target_transform: see `ImageFiles`.
        loader: see `ImageFiles`.
        is_valid_file: says of a path whether to use it; None takes what ends as image files do.
        allow_empty: accept classes without an image.
        channels: 1 for grey, 3 for red, green and blue.

    Raises:
        FileNotFoundError: when there is no such folder, no class in it, or a class without an image; the message names
            them.

    Example:
        >>> import os
        >>> from PIL import Image
        >>> for name in ("cat", "dog"):
        ...     os.makedirs(f"animals/{name}")
        ...     Image.new("RGB", (6, 4)).save(f"animals/{name}/1.png")
        >>> data = ImageFolder("animals")
        >>> data.classes, data.targets
        (('cat', 'dog'), [0, 1])
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] | None = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
        *,
        channels: int = 3,
    ) -> None:
        self.root = os.fspath(root)
        if not os.path.isdir(self.root):
            raise FileNotFoundError(f"[ImageFolder] {self.root}: no such folder: expected one with a folder per class")
        classes = sorted(
            entry.name for entry in os.scandir(self.root) if entry.is_dir() and not entry.name.startswith(".")
        )
        if not classes:
            raise FileNotFoundError(f"[ImageFolder] {self.root}: no folders in it, expected one for each class")
        valid = is_valid_file or (lambda path: path.lower().endswith(IMG_EXTENSIONS))
        paths: list[str] = []
        labels: list[int] = []
        empty = []
        for number, name in enumerate(classes):
            found = [path for path in files_below(os.path.join(self.root, name)) if valid(path)]
            if not found:
                empty.append(name)
            paths += found
            labels += [number] * len(found)
        if empty and not allow_empty:
            endings = "" if is_valid_file else f" ({' '.join(IMG_EXTENSIONS)})"
            raise FileNotFoundError(
                f"[ImageFolder] {self.root}: no image{endings} of class {', '.join(empty)}: add some, remove the "
                f"folder, or pass allow_empty=True"
            )
        super().__init__(paths, labels, classes, transform, target_transform, loader, channels=channels)

    @property
    def imgs(self) -> list[tuple[str, int]]:
        """`samples` under the other name that it has in torchvision."""
        return self.samples


def files_below(folder: str) -> list[str]:
    """Returns the files in a folder and the folders in it, sorted, without those whose name begins with a dot.

    Args:
        folder: where to look; links to folders are followed.

    Example:
        >>> import os
        >>> os.makedirs("cats/.thumbnails")
        >>> for name in ("tabby.png", ".tabby.png", ".thumbnails/tabby.png"):
        ...     open(f"cats/{name}", "w").close()
        >>> files_below("cats")
        ['cats/tabby.png']
    """
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


class CSVDataset(ImageFiles):
    """Images listed in a table, with a path and a label in each row.

    The file is CSV in UTF-8, its first row has the columns' names. Labels are names: they are sorted, as numbers when
    all of them are whole numbers, and numbered from 0. Pass the training set's `classes` when you read the others, so
    that numbers mean the same.

    Args:
        file: the table.
        root: what paths are relative to; None for the table's folder.
        path_column: the column of the paths.
        label_column: the column of the labels.
        classes: the names that labels may have, in the order of their numbers; None takes those in the table.
        transform: see `ImageFiles`.
        target_transform: see `ImageFiles`.
        loader: see `ImageFiles`.
        delimiter: what separates columns.
        channels: 1 for grey, 3 for red, green and blue.

    Raises:
        FileNotFoundError: when there is no such table, or images that it lists are missing; the message names them.
        ValueError: for a missing column, a row with too few or too many values, an empty value, or an unknown label;
            the message names the line.

    Example:
        >>> from PIL import Image
        >>> Image.new("RGB", (6, 4)).save("1.png")
        >>> from pathlib import Path
        >>> _ = Path("table.csv").write_text("path,label\\n1.png,cat\\n")
        >>> CSVDataset("table.csv").samples
        [('1.png', 0)]
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        root: str | os.PathLike[str] | None = None,
        path_column: str = "path",
        label_column: str = "label",
        classes: Sequence[str] | None = None,
        transform: Transform | Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        loader: Callable[[str], Any] | None = None,
        *,
        delimiter: str = ",",
        channels: int = 3,
    ) -> None:
        name = os.fspath(file)
        rows = _rows(name, (path_column, label_column), delimiter)
        names = sorted({label for _, _, label in rows}, key=_label_order(label for _, _, label in rows))
        known = {label: number for number, label in enumerate(names if classes is None else classes)}
        for line, _, label in rows:
            if label not in known:
                raise ValueError(
                    f"[CSVDataset] {name}, line {line}: label {label!r} is none of the {len(known)} classes "
                    f"{', '.join(list(known)[:10])}"
                )
        base = os.path.dirname(name) if root is None else os.fspath(root)
        paths = [os.path.join(base, path) for _, path, _ in rows]
        missing = [(line, path) for (line, _, _), path in zip(rows, paths) if not os.path.isfile(path)]
        if missing:
            shown = ", ".join(f"{path} (line {line})" for line, path in missing[:5])
            raise FileNotFoundError(
                f"[CSVDataset] {name}: {len(missing)} of {len(rows)} files are missing, the first: {shown}: correct "
                f"the paths, or pass the folder that they are relative to as root"
            )
        labels = [known[label] for _, _, label in rows]
        super().__init__(paths, labels, known, transform, target_transform, loader, channels=channels)


def _rows(name: str, columns: tuple[str, str], delimiter: str) -> list[tuple[int, str, str]]:
    """(line, path, label) of each row of a table."""
    rows = []
    try:
        with open(name, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(reader, [])
            absent = [column for column in columns if column not in header]
            if absent:
                raise ValueError(
                    f"[CSVDataset] {name}: no column {' and '.join(absent)} in its first row, only "
                    f"{', '.join(header) or 'nothing'}: pass path_column and label_column"
                )
            where = [header.index(column) for column in columns]
            for row in reader:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ValueError(
                        f"[CSVDataset] {name}, line {reader.line_num}: expected {len(header)} values, got {len(row)}"
                    )
                path, label = (row[place].strip() for place in where)
                if not path or not label:
                    raise ValueError(
                        f"[CSVDataset] {name}, line {reader.line_num}: no {columns[0] if not path else columns[1]}"
                    )
                rows.append((reader.line_num, path, label))
    except FileNotFoundError:
        raise FileNotFoundError(f"[CSVDataset] {name}: no such file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"[CSVDataset] {name}: not a table in CSV: {error}") from error
    return rows


def _label_order(labels: Iterable[str]) -> Callable[[str], Any]:
    return int if all(label.lstrip("-").isdecimal() for label in labels) else str
