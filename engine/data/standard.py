"""The standard data sets in the files that they are published in: MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100.

Folders and names of files are torchvision's, so what it has downloaded is read where it is. Nothing is unpickled that
could run anything: the classes that CIFAR's files name are replaced by ones that only hold data.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .dataset import ArrayDataset
from .image_files import transformed
from .random import SampleRandom
from .transforms import Transform


class _Standard(ArrayDataset):
    """Images (N, H, W, C) uint8 and their labels, which torchvision calls `data` and `targets`."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        train: bool = True,
        transform: Transform | Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        self.root = os.fspath(root)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        if download:
            self.download()
        images, labels = self._read()
        super().__init__(images, labels, classes=self.names)

    names: Sequence[str] = ()

    def download(self) -> None:
        """Downloads the files that are not there yet, and checks them.

        Raises:
            engine.io.hub.HubError: when that fails; the message says why.
        """
        raise NotImplementedError

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    @property
    def data(self) -> np.ndarray:
        """The images, (N, H, W, C) uint8."""
        return self.arrays[0]

    @property
    def targets(self) -> np.ndarray:
        """The labels, (N) int64."""
        return self.arrays[1]

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The number of each class by its name."""
        return {name: number for number, name in enumerate(self.names)}

    def __getitem__(self, index: int) -> Any:
        return self.sample(index)

    def sample(self, index: int, random: SampleRandom | None = None) -> Any:
        image, label = super().__getitem__(index)
        if self.transform is not None:
            image = transformed(self.transform, image, random)
        return image, int(label) if self.target_transform is None else self.target_transform(int(label))

    def gathers(self) -> bool:
        return self.transform is None and self.target_transform is None

    def content_of(self, index: int) -> tuple[str, Any]:
        return f"sample {index}", self.data[index].tobytes()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {'train' if self.train else 'test'})"


# ---- MNIST and Fashion-MNIST: arrays in IDX format, compressed


class MNIST(_Standard):
    """Handwritten digits, 60,000 for training and 10,000 for the test, 28 x 28 grey, from `root/MNIST/raw`.

    A sample is (image, label): the image (28, 28, 1) uint8, or what `transform` makes of it. The four files are read
    as published (.gz) or unpacked.

    Args:
        root: the folder that torchvision calls so; or the one that has the files in it.
        train: the training part; False for the test part.
        transform: applied to each image: a `Transform`, which gets the sample's random numbers, or any function.
        target_transform: applied to each label.
        download: download what is missing.

    Raises:
        FileNotFoundError: when files are missing and `download` is False.
        ValueError: when a file is damaged; the message names it.
        engine.io.hub.HubError: when the download fails.

    Example:
        >>> MNIST("nowhere")
        Traceback (most recent call last):
            ...
        FileNotFoundError: [MNIST] no train-images-idx3-ubyte in nowhere/MNIST/raw: pass download=True, ...

    Source: LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist/
    """

    names: Sequence[str] = (
        "0 - zero",
        "1 - one",
        "2 - two",
        "3 - three",
        "4 - four",
        "5 - five",
        "6 - six",
        "7 - seven",
        "8 - eight",
        "9 - nine",
    )
    mirrors: Sequence[str] = ("https://ossci-datasets.s3.amazonaws.com/mnist/",)
    # Names, and the MD5 of the compressed files.
    resources: Sequence[tuple[str, str]] = (
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    )

    @property
    def raw_folder(self) -> str:
        """Where the files belong."""
        return os.path.join(self.root, type(self).__name__, "raw")

    def download(self) -> None:
        from engine.io.hub import download_to

        for file, md5 in self.resources:
            if self._find(file.removesuffix(".gz")) is None:
                download_to(self.raw_folder, [mirror + file for mirror in self.mirrors], file, md5)

    def _find(self, name: str) -> str | None:
        for folder in (self.raw_folder, self.root):
            for path in (os.path.join(folder, name), os.path.join(folder, name + ".gz")):
                if os.path.isfile(path):
                    return path
        return None

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        arrays = []
        for file, _ in self.resources[:2] if self.train else self.resources[2:]:
            name = file.removesuffix(".gz")
            path = self._find(name)
            if path is None:
                raise FileNotFoundError(
                    f"[{type(self).__name__}] no {name} in {self.raw_folder}: pass download=True, or the right root"
                )
            arrays.append(read_idx(path))
        images, labels = arrays
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise ValueError(
                f"[{type(self).__name__}] expected images (N, H, W) and N labels, got arrays of shape {images.shape} "
                f"and {labels.shape}"
            )
        return images[..., None], labels.astype(np.int64)


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Reads an array of bytes in the IDX format of the MNIST files, compressed by gzip or not.

    Args:
        path: the file.

    Returns:
        uint8, with as many axes as the file says.

    Raises:
        ValueError: when it is no such file, or not all of it; the message names it.

    Example:
        >>> _ = Path("two.idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9]))
        >>> read_idx("two.idx")
        array([7, 9], dtype=uint8)
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: Any = gzip.GzipFile(fileobj=raw) if packed else raw
            zeros, kind, axes = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= axes <= 4:
                raise ValueError("not an array of bytes in IDX format")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            size = int(np.prod(shape, dtype=object))
            content = file.read(min(size, 1 << 32) + 1)
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{name}: damaged or incomplete: {error}") from error
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if len(content) != size:
        got = "more" if len(content) > size else len(content)
        raise ValueError(f"{name}: expected {size} bytes for shape {shape}, got {got}")
    return np.frombuffer(content, np.uint8).reshape(shape)


class FashionMNIST(MNIST):
    """Pictures of clothes in ten classes, 60,000 for training and 10,000 for the test, 28 x 28 grey.

    Args, errors and samples are those of `MNIST`; files are in `root/FashionMNIST/raw`.

    Example:
        >>> FashionMNIST.names[9]
        'Ankle boot'

    Source: Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747.
    """

    names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    # The bucket that torchvision names, by the address under which it is served encrypted; and the authors' repository.
    mirrors = (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    )
    resources = (
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    )


# ---- CIFAR: pickled dictionaries with one NumPy array


class CIFAR10(_Standard):
    """Colour pictures in ten classes, 50,000 for training and 10,000 for the test, 32 x 32.

    A sample is (image, label): the image (32, 32, 3) uint8, or what `transform` makes of it. Args and errors are those
    of `MNIST`; files are in `root/cifar-10-batches-py`.

    Example:
        >>> CIFAR10.names[6]
        'frog'

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    base_folder = "cifar-10-batches-py"
    url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
    tgz_md5 = "c58f30108f718f92721af3b95e74349a"
    train_list: Sequence[tuple[str, str]] = (
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    )
    test_list: Sequence[tuple[str, str]] = (("test_batch", "40351d587109b95175f43aff81a1287e"),)
    label_key = "labels"
    names: Sequence[str] = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def download(self) -> None:
        import tarfile

        from engine.io.atomic_file import open_atomic
        from engine.io.hub import download_to

        wanted = dict([*self.train_list, *self.test_list])
        if all(self._is_right(name, md5) for name, md5 in wanted.items()):
            return
        file = os.path.basename(self.url)
        archive = download_to(self.root, [self.url], file, self.tgz_md5)
        folder = Path(self.root, self.base_folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = os.path.basename(member.name)
                if member.name == f"{self.base_folder}/{name}" and name in wanted and member.isfile():
                    content = tar.extractfile(member)
                    assert content is not None  # of a file it never is
                    with open_atomic(folder / name) as target:
                        target.write(content.read())

    def _is_right(self, name: str, md5: str) -> bool:
        path = self._find(name)
        if path is None:
            return False
        return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest() == md5

    def _find(self, name: str) -> str | None:
        paths = [os.path.join(self.root, self.base_folder, name), os.path.join(self.root, name)]
        return next((path for path in paths if os.path.isfile(path)), None)

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        images, labels = [], []
        for name, _ in self.train_list if self.train else self.test_list:
            path = self._find(name)
            if path is None:
                raise FileNotFoundError(
                    f"[{type(self).__name__}] no {name} in {os.path.join(self.root, self.base_folder)}: pass "
                    f"download=True, or the right root"
                )
            pixels, numbers = _read_batch(path, self.label_key)
            images.append(pixels)
            labels.append(numbers)
        # Stored plane by plane; pixels belong together here.
        planes = np.concatenate(images).reshape(-1, 3, 32, 32)
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), np.concatenate(labels)


_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""


class CIFAR100(CIFAR10):
    """Colour pictures in a hundred classes, 50,000 for training and 10,000 for the test, 32 x 32.

    Args, errors and samples are those of `CIFAR10`; read from `root/cifar-100-python`. Labels are the fine ones.

    Example:
        >>> len(CIFAR100.names), CIFAR100.names[0]
        (100, 'apple')

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """

    base_folder = "cifar-100-python"
    url = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
    tgz_md5 = "eb9058c3a382ffc7106e4002c42a8d85"
    train_list = (("train", "16019d7e3df5f24257cddd939b257f8d"),)
    test_list = (("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),)
    label_key = "fine_labels"
    names = tuple(_FINE.split())


class _Held:
    """Stands for an object of NumPy in a pickle: holds what the pickle says about it."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in pickles that Python 2 can read."""
    return text.encode("latin1")


_HELD = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if (module, name) not in _HELD:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not needed; nothing was executed")
        return _Held


def _read_batch(path: str, label_key: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) uint8 and N labels of one file."""
    with open(path, "rb") as file:
        data = file.read()
    try:
        content = _Reader(io.BytesIO(data), encoding="latin1").load()
        _, shape, kind, _, pixels = content["data"].state
        if kind.arguments[0] != "u1" or len(shape) != 2 or shape[1] != 3072:
            raise ValueError(f"expected pixels of shape (N, 3072), got {shape}")
        raw = pixels.encode("latin1") if isinstance(pixels, str) else pixels
        images = np.frombuffer(raw, np.uint8).reshape(shape)
        labels = np.array(content[label_key], np.int64)
        if labels.shape != (len(images),):
            raise ValueError(f"expected one label per image, got {labels.shape} for {len(images)}")
    except Exception as error:  # whatever damage makes of a pickle
        raise ValueError(f"{path}: damaged, or not a file of this data set: {error}") from error
    return images, labels
