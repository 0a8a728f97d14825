"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100: files of their formats, made here, local and downloaded."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Server, serving
from torchvision_models import import_torchvision, needs_torchvision

from engine.data import CIFAR10, CIFAR100, MNIST, DataLoader, FashionMNIST, Normalize, RandomCrop
from engine.data.standard import read_idx
from engine.io.hub import HubError


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def digits_files(count: int = 12) -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    files = {}
    for part, size in (("train", count), ("t10k", count // 2)):
        files[f"{part}-images-idx3-ubyte"] = idx(rng.integers(0, 256, (size, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(rng.integers(0, 10, size, dtype=np.uint8))
    return files


def batch(count: int, key: str, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    content = {
        "data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        key: rng.integers(0, 10, count).tolist(),
        "filenames": ["x.png"] * count,
    }
    return pickle.dumps(content, protocol=2)


def python2_batch(pixels: np.ndarray, labels: list[int]) -> bytes:
    """As the published files were written: text and bytes are the same, NumPy has its old names."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K"
        + bytes([len(pixels)])
        + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ"
        + b"\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", pixels.size)
        + pixels.tobytes()
        + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(U\x04data" + array + b"U\x06labels" + numbers + b"u."


def test_cifar_files_as_they_were_published(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3072), dtype=np.uint8)
    (tmp_path / "test_batch").write_bytes(python2_batch(pixels, [3, 9, 0]))
    data = CIFAR10(tmp_path, train=False)
    np.testing.assert_array_equal(data.data, pixels.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1))
    assert data.targets.tolist() == [3, 9, 0]
    assert pickle.loads(python2_batch(pixels, [1, 2, 3]), encoding="latin1")["labels"] == [1, 2, 3]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ENGINE_HUB_LOOPBACK", "1")
    monkeypatch.delenv("ENGINE_OFFLINE", raising=False)
    monkeypatch.setattr("engine.io.hub._PAUSE", 0.0)
    with serving() as state:
        yield state


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("flat", [True, False])
def test_idx_files_are_read_where_torchvision_has_them(tmp_path: Path, kind: Any, packed: bool, flat: bool) -> None:
    folder = tmp_path if flat else tmp_path / kind.__name__ / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    files = digits_files()
    for name, content in files.items():
        (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(content) if packed else content)
    for train, part in ((True, "train"), (False, "t10k")):
        data = kind(tmp_path, train=train)
        want = np.frombuffer(files[f"{part}-images-idx3-ubyte"][16:], np.uint8).reshape(-1, 28, 28, 1)
        np.testing.assert_array_equal(data.data, want)
        assert data.targets.tolist() == list(files[f"{part}-labels-idx1-ubyte"][8:])
        image, label = data[3]
        assert image.shape == (28, 28, 1)
        assert isinstance(label, int)
    assert len(data.classes) == len(data.class_to_idx) == 10


@needs_torchvision
@pytest.mark.parametrize("kind", [MNIST, FashionMNIST])
def test_idx_files_are_torchvisions(tmp_path: Path, kind: Any) -> None:
    import_torchvision()
    from torchvision import datasets

    folder = tmp_path / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    for name, content in digits_files().items():
        (folder / name).write_bytes(content)
    ours, theirs = kind(tmp_path), getattr(datasets, kind.__name__)(str(tmp_path), train=True)
    np.testing.assert_array_equal(theirs.data.numpy(), ours.data[..., 0])
    assert theirs.targets.tolist() == ours.targets.tolist()
    assert tuple(theirs.classes) == tuple(ours.classes)
    assert [tuple(entry) for entry in theirs.resources] == list(kind.resources)


def test_transforms_of_standard_data(tmp_path: Path) -> None:
    for name, content in digits_files().items():
        (tmp_path / name).write_bytes(content)
    plain = MNIST(tmp_path)
    odd = MNIST(tmp_path, transform=lambda image: image[:2], target_transform=lambda label: label % 2)
    assert odd[0][0].shape == (2, 28, 1)
    assert odd[5][1] == plain[5][1] % 2
    moved = MNIST(tmp_path, transform=RandomCrop(28, padding=4))
    whole, single = DataLoader(plain, 12, transform=RandomCrop(28, padding=4)), DataLoader(moved, 12)
    np.testing.assert_array_equal(next(iter(whole))[0].numpy(), next(iter(single))[0].numpy())
    normal = DataLoader(plain, 5, transform=Normalize((0.1,), (0.3,)))
    assert [tuple(images.shape) for images, _ in normal] == [(5, 1, 28, 28), (5, 1, 28, 28), (2, 1, 28, 28)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged or incomplete"),
        (b"\0\0\x08\x03\0\0", "damaged or incomplete"),
        (b"\0\0\x09\x01\0\0\0\1a", "not an array of bytes in IDX format"),
        (b"PK\3\4....", "not an array of bytes"),
        (idx(np.zeros(9, np.uint8))[:-1], "expected 9 bytes"),
        (idx(np.zeros(9, np.uint8)) + b"!", "got more"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "expected 79228162458924105385300197375 bytes"),
        (gzip.compress(idx(np.zeros(999, np.uint8)))[:-9], "damaged or incomplete"),
        (gzip.compress(idx(np.zeros(999, np.uint8)))[:20] + b"?" * 30, "damaged or incomplete"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "file.idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_labels_and_images_of_different_number_are_refused(tmp_path: Path) -> None:
    for name, content in digits_files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(7, np.uint8)))
    with pytest.raises(ValueError, match=r"\[MNIST\] expected images \(N, H, W\) and N labels"):
        MNIST(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.full(12, 10, np.uint8)))
    with pytest.raises(ValueError, match="labels from 10 to 10"):
        MNIST(tmp_path)
    with pytest.raises(FileNotFoundError, match="pass download=True"):
        MNIST(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no data_batch_1"):
        CIFAR10(tmp_path)


def test_mnist_is_downloaded_once_and_checked(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name + ".gz": gzip.compress(content, mtime=0) for name, content in digits_files().items()}
    monkeypatch.setattr(MNIST, "mirrors", [f"{server.address}/gone/", f"{server.address}/here/"])
    monkeypatch.setattr(MNIST, "resources", [(name, md5(files[name])) for name, _ in MNIST.resources])
    for name, content in files.items():
        server.files["/here/" + name] = content
    server.cuts = [10**9, 10**9, 100]  # one of them comes in two parts
    assert len(MNIST(tmp_path, download=True)) == 12
    assert sorted(os.listdir(tmp_path / "MNIST" / "raw")) == sorted(files)
    asked = len(server.requests)
    assert len(MNIST(tmp_path, train=False, download=True)) == 6
    assert len(server.requests) == asked

    server.files = {"/here/" + name: content[:-1] + b"!" for name, content in files.items()}
    with pytest.raises(HubError, match=r"404.*has the MD5"):
        MNIST(tmp_path / "other", download=True)
    assert not list((tmp_path / "other").rglob("*ubyte*"))
    monkeypatch.setenv("ENGINE_OFFLINE", "1")
    with pytest.raises(HubError, match="ENGINE_OFFLINE forbids"):
        MNIST(tmp_path / "other", download=True)
    monkeypatch.setattr(MNIST, "mirrors", ["http://example.org/"])
    with pytest.raises(HubError, match="only https is trusted"):
        MNIST(tmp_path / "other", download=True)


@pytest.mark.parametrize("kind", [CIFAR10, CIFAR100])
def test_cifar_is_downloaded_unpacked_and_read(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    names = [name for name, _ in (*kind.train_list, *kind.test_list)]
    files = {name: batch(4, kind.label_key, seed) for seed, name in enumerate(names)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {**files, "../../outside": b"!", "batches.meta": b"x"}.items():
            member = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = packed.getvalue()
    server.files["/c.tar.gz"] = archive
    monkeypatch.setattr(kind, "url", f"{server.address}/c.tar.gz")
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    for part in ("train_list", "test_list"):
        monkeypatch.setattr(kind, part, [(name, md5(files[name])) for name, _ in getattr(kind, part)])
    train = kind(tmp_path / "root", download=True)
    assert sorted(os.listdir(tmp_path / "root" / kind.base_folder)) == sorted(names)
    assert os.listdir(tmp_path) == ["root"]
    assert len(train) == 4 * len(kind.train_list)
    assert len(train.classes) == (10 if kind is CIFAR10 else 100)
    for number, name in enumerate(names[: len(kind.train_list)]):
        want = pickle.loads(files[name])
        np.testing.assert_array_equal(
            train.data[4 * number : 4 * number + 4], want["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        )
        assert train.targets[4 * number : 4 * number + 4].tolist() == want[kind.label_key]
    assert train[0][0].shape == (32, 32, 3)
    asked = len(server.requests)
    test = kind(tmp_path / "root", train=False, download=True)
    assert len(test) == 4
    assert len(server.requests) == asked
    flat = kind(tmp_path / "root" / kind.base_folder, train=False)
    np.testing.assert_array_equal(flat.data, test.data)


@needs_torchvision
def test_official_addresses_and_digests_are_torchvisions() -> None:
    import_torchvision()
    from torchvision import datasets

    for ours, theirs in ((CIFAR10, datasets.CIFAR10), (CIFAR100, datasets.CIFAR100)):
        assert (ours.url, ours.tgz_md5, ours.base_folder) == (theirs.url, theirs.tgz_md5, theirs.base_folder)
        assert [tuple(entry) for entry in theirs.train_list] == list(ours.train_list)
        assert [tuple(entry) for entry in theirs.test_list] == list(ours.test_list)
    assert set(MNIST.mirrors) <= set(datasets.MNIST.mirrors)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "damaged"),
        (batch(2, "labels", 0)[:-50], "damaged"),
        (batch(2, "coarse", 0), "labels"),
        (pickle.dumps({"data": np.zeros((2, 5), np.uint8), "labels": [0, 1]}, protocol=2), "expected pixels"),
        (pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, protocol=2), "expected pixels"),
        (pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0]}, protocol=2), "one label per image"),
        (pickle.dumps({"data": Evil(), "labels": [0]}, protocol=2), "nothing was executed"),
    ],
)
def test_damaged_and_malicious_cifar_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        CIFAR10(tmp_path, train=False)
    assert "test_batch" in str(caught.value)
    assert not (tmp_path / "executed").exists()
