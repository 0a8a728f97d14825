"""safetensors: agreement with the reference package, the rules of the format, and hostile files."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mutation import mutations

from engine.io.errors import FileFormatError
from engine.io.mapped_file import release
from engine.io.safetensors import load_file, read_metadata, save_file

BYTE = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}


def sample() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.integers(0, 2 if name == "bool" else 100, (2, 3)).astype(name)
        for name in (
            ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
            + ["float16", "float32", "float64", "complex64"]
        )
    }
    tensors["empty"] = np.zeros((0, 5), np.float32)
    tensors["scalar"] = np.array(np.nan, np.float32)
    tensors['odd "name"\n\x01\\ é \U0001f600'] = np.arange(3, dtype=np.uint8)
    tensors["b.2"] = tensors["b.10"] = np.arange(7, dtype=np.float32)
    return tensors


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and a[name].tobytes() == b[name].tobytes()
        for name in a
    )


def raw_file(tmp_path: Path, header: object, data: bytes = b"\1", length: int | None = None) -> Path:
    if not isinstance(header, bytes):
        header = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "raw.safetensors"
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


@pytest.mark.parametrize("mmap", [True, False])
def test_round_trip(tmp_path: Path, mmap: bool) -> None:
    path = tmp_path / "a.safetensors"
    save_file(sample(), path, metadata={"format": "pt", "é": "\n"})
    loaded = load_file(path, mmap=mmap)
    assert same(loaded, sample())
    assert read_metadata(path) == {"format": "pt", "é": "\n"}
    for array in loaded.values():
        assert array.flags.writeable is not mmap
        assert array.flags.aligned
    save_file({}, path)
    assert load_file(path, mmap=mmap) == {} == read_metadata(path)


def test_writer_takes_any_layout(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    save_file(
        {
            "transposed": base.transpose(2, 0, 1),
            "reversed": base[::-1, :, ::2],
            "expanded": np.broadcast_to(base[0, 0], (3, 4)),
            "big": base.astype(">f4"),
            "number": np.float64(2.5),
        },
        path,
    )
    loaded = load_file(path)
    np.testing.assert_array_equal(loaded["transposed"], base.transpose(2, 0, 1))
    np.testing.assert_array_equal(loaded["reversed"], base[::-1, :, ::2])
    np.testing.assert_array_equal(loaded["expanded"], np.broadcast_to(base[0, 0], (3, 4)))
    np.testing.assert_array_equal(loaded["big"], base)
    assert loaded["number"].shape == () and loaded["number"] == 2.5


def test_reference_package_agrees(tmp_path: Path) -> None:
    reference = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "a.safetensors"
    save_file(sample(), path)
    assert path.read_bytes() == reference.save(sample())
    assert same(reference.load_file(path), sample())
    path.write_bytes(reference.save(sample(), metadata={"a": "1", "b": "2"}))
    assert same(load_file(path), sample())
    assert read_metadata(path) == {"a": "1", "b": "2"}


def test_bfloat16_and_float16(tmp_path: Path) -> None:
    bits = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)
    header = {
        "b": {"dtype": "BF16", "shape": [1 << 16], "data_offsets": [0, 1 << 17]},
        "h": {"dtype": "F16", "shape": [1 << 16], "data_offsets": [1 << 17, 1 << 18]},
    }
    path = raw_file(tmp_path, header, bits.tobytes() * 2)
    loaded = load_file(path)
    assert loaded["b"].dtype == np.float32 and loaded["h"].dtype == np.float16
    np.testing.assert_array_equal(loaded["b"].view(np.uint32), bits.astype(np.uint32) << 16)
    np.testing.assert_array_equal(loaded["h"].view(np.uint16), bits)
    np.testing.assert_array_equal(load_file(path, keep_bfloat16=True)["b"], bits)
    assert load_file(path, upcast=True)["h"].dtype == np.float32
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(loaded["b"], expected)


def test_unaligned_data_are_copied(tmp_path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}})
    for pad in range(8):
        path = raw_file(tmp_path, header + " " * pad, np.array([1.5, 2.5], np.float32).tobytes())
        array = load_file(path)["a"]
        assert array.flags.aligned and not array.flags.writeable and array.tolist() == [1.5, 2.5]
        release(array)
        assert array.tolist() == [1.5, 2.5]


@pytest.mark.parametrize(
    ("header", "word"),
    [
        ({"a": {**BYTE, "extra": 1}}, "exactly"),
        ({"a": {"dtype": "U8", "shape": [1]}}, "exactly"),
        ({"a": ["U8", [1], [0, 1]]}, "exactly"),
        ({"a": None}, "exactly"),
        ([], "begin with"),
        (" " + json.dumps({"a": BYTE}), "begin with"),
        (json.dumps({"a": BYTE}) + "\n", "spaces"),
        (json.dumps({"a": BYTE}) + "\0", "spaces"),
        (json.dumps({"a": BYTE}) + "{}", "spaces"),
        (json.dumps({"a": BYTE})[:-1], "not JSON"),
        ('{"a":' * 50_000, "nested"),
        ('{"a":' + "[" * 500 + "]" * 500 + "}", "exactly"),
        ('{"a":' + json.dumps(BYTE) + ',"a":' + json.dumps(BYTE) + "}", "twice"),
        ('{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', "twice"),
        ('{"__metadata__":{"a":"1","a":"2"}}', "twice"),
        ('{"__metadata__":{},"__metadata__":{}}', "twice"),
        ({"__metadata__": {"a": 1}, "a": BYTE}, "strings"),
        ({"__metadata__": ["a"], "a": BYTE}, "strings"),
        ('{"\\ud800":' + json.dumps(BYTE) + "}", "Unicode"),
        ('{"__metadata__":{"a":"\\ud800"},"a":' + json.dumps(BYTE) + "}", "Unicode"),
        (b'{"\xff":' + json.dumps(BYTE).encode() + b"}", "UTF-8"),
        ('{"a\x01":' + json.dumps(BYTE) + "}", "not JSON"),
        ({"a": {**BYTE, "dtype": "F33"}}, "unknown type"),
        ({"a": {**BYTE, "dtype": ["U8"]}}, "unknown type"),
        ({"a": {**BYTE, "dtype": "F8_E4M3"}}, "no NumPy counterpart"),
        ({"a": {**BYTE, "dtype": "F4"}}, "takes 0.5 bytes"),
        ({"a": {**BYTE, "shape": 1}}, "list of sizes"),
        ({"a": {**BYTE, "shape": [True]}}, "list of sizes"),
        ({"a": {**BYTE, "shape": ["1"]}}, "list of sizes"),
        ({"a": {**BYTE, "shape": [-1]}}, "-1"),
        ({"a": {**BYTE, "shape": [1.0]}}, "whole"),
        ('{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}', "whole"),
        ('{"a":{"dtype":"U8","shape":[1' + "0" * 100_000 + '],"data_offsets":[0,1]}}', "number"),
        ({"a": {**BYTE, "shape": [1] * 33}}, "axes"),
        ({"a": {**BYTE, "shape": [1 << 40, 1 << 40]}}, "impossible"),
        ({"a": {**BYTE, "shape": [0, 1 << 62]}}, "impossible"),
        ({"a": {**BYTE, "shape": [2]}}, "takes 2 bytes"),
        ({"a": {**BYTE, "data_offsets": [0, 1, 2]}}, "begin, end"),
        ({"a": {**BYTE, "data_offsets": [1, 0]}}, "hold -1"),
        ({"a": {**BYTE, "data_offsets": [1, 2]}}, "hole"),
        ({"a": {**BYTE, "data_offsets": [1 << 60, (1 << 60) + 1]}}, "hole"),
        ({"a": BYTE, "b": BYTE}, "overlaps"),
        ({"a": BYTE, "b": {**BYTE, "data_offsets": [1, 2]}}, "follow the header"),
        ({}, "follow the header"),
        ({"a": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}, "follow the header"),
    ],
)
def test_bad_headers_are_refused(tmp_path: Path, header: object, word: str) -> None:
    path = raw_file(tmp_path, header)
    with pytest.raises(FileFormatError, match=word) as caught:
        load_file(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 600
    if word != "no NumPy counterpart":
        with pytest.raises(FileFormatError):
            read_metadata(path)


def test_bad_lengths_are_refused(tmp_path: Path) -> None:
    for length in (0, 1, 1000, 100_000_000, 100_000_001, 1 << 62, (1 << 64) - 1):
        with pytest.raises(FileFormatError):
            load_file(raw_file(tmp_path, {"a": BYTE}, length=length))
    path = tmp_path / "short"
    for size in range(8):
        path.write_bytes(b"\0" * size)
        with pytest.raises(FileFormatError, match="too few"):
            load_file(path)


def test_other_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "other"
    for content, word in (
        (b"PK\3\4" + b"\0" * 100, "torch"),
        (b"<!DOCTYPE html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
    ):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=word):
            load_file(path)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "missing")
    with pytest.raises(OSError):
        load_file(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(FileFormatError, match="regular"):
            load_file(tmp_path / "pipe")


def test_valid_corner_cases_are_read(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [3, 0], "data_offsets": [1, 1]}
    header = {"z": empty, "a": BYTE, "y": {**empty, "data_offsets": [0, 0]}, "__metadata__": {}}
    loaded = load_file(raw_file(tmp_path, json.dumps(header) + "     "))
    assert list(loaded) == ["z", "a", "y"] and loaded["y"].shape == (3, 0) and loaded["a"].tolist() == [1]


def test_huge_headers_are_quick(tmp_path: Path) -> None:
    entry = b'"%07d":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
    for header in (
        b"{" + b"".join(entry % number for number in range(600_000)) + b'"a":0}',
        b'{"a":[' + b"1," * 40_000_000 + b"1]}",
        b'{"a":' + b"[" * 90_000_000,
        b'{"a":"' + b"x" * 90_000_000,
    ):
        path = raw_file(tmp_path, header)
        started = time.perf_counter()
        with pytest.raises(FileFormatError):
            load_file(path)
        assert time.perf_counter() - started < 10  # about 0.1 s each; the bound is for crowded machines


def test_truncation_at_every_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.arange(5, dtype=np.float32), "b": np.arange(3, dtype=np.uint8)}, path, metadata={"x": "y"})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FileFormatError):
            load_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(FileFormatError):
        load_file(path)


def test_mutated_files(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.arange(5, dtype=np.float32), "b": np.ones((2, 3), np.int8)}, path, metadata={"x": "y"})
    whole = path.read_bytes()
    refused = 0
    for data in mutations(whole, seed=1, tokens=b'{}[]",:0123456789- ', focus=struct.unpack("<Q", whole[:8])[0] + 8):
        path.write_bytes(data)
        try:
            for array in load_file(path).values():
                array.tobytes()
        except FileFormatError:
            refused += 1
    assert refused


def test_writer_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for tensors, metadata, kind in (
        ({1: np.zeros(1)}, None, TypeError),
        ({"a": [1.0]}, None, TypeError),
        ({"a": np.zeros(1, object)}, None, TypeError),
        ({"a": np.zeros(1, np.complex128)}, None, TypeError),
        ({"a": np.array(["x"])}, None, TypeError),
        ({"__metadata__": np.zeros(1)}, None, ValueError),
        ({"\ud800": np.zeros(1)}, None, ValueError),
        ({}, {"a": 1}, TypeError),
        ({}, {1: "a"}, TypeError),
    ):
        with pytest.raises(kind, match="save_file"):
            save_file(tensors, path, metadata)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


def test_writing_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros(1)}, path)
    path.chmod(0o640)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space") as caught:
            save_file({"a": np.ones(1)}, path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == [path.name]

    kept = load_file(path)["a"]
    save_file({"a": np.ones(2)}, path)
    assert kept.tolist() == [0.0] and load_file(path)["a"].tolist() == [1.0, 1.0]
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o640
        link = tmp_path / "link"
        link.symlink_to(path.name)
        save_file({}, link)
        assert link.is_symlink() and load_file(path) == {}
    with pytest.raises(OSError) as caught:
        save_file({}, tmp_path / "missing" / "a")
    assert str(tmp_path / "missing" / "a") == caught.value.filename


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX resource limits")
def test_memory_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"a": np.ones(1 << 20, np.float32), "b": np.ones(1 << 20, np.float32)}, path)
    loaded = load_file(path)
    for array in (loaded["a"], loaded["b"][::-2], loaded["b"][100:200]):
        total = array.sum()
        release(array)
        assert array.sum() == total


@pytest.mark.parametrize("name", ["errors", "atomic_file", "mapped_file", "safetensors"])
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"engine.io.{name}")).failed == 0
