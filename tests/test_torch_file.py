"""Torch files: the three containers, agreement with torch, and hostile files, which must be refused without effect.

The files are put together here byte by byte, so that most of these tests need no torch; the tar form cannot be written
by any torch of today.
"""

from __future__ import annotations

import builtins
import contextlib
import doctest
import importlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutation import FUZZ_CASES, mutations

from engine.io import pickle_machine, torch_file
from engine.io.errors import FileFormatError, UnsafeFileError
from engine.io.torch_file import load, load_state_dict_file, release, save

# ---- pickles, one function per instruction


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x10" + value.to_bytes(16, "little", signed=True)


def mark_tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"


def integers(values: Sequence[int]) -> bytes:
    return mark_tuple(*map(integer, values))


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def finished(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


ORDERED = name("collections", "OrderedDict") + b")R"


def storage(kind: str = "Float", key: str = "0", numel: int = 6, tail: bytes = b"") -> bytes:
    return (
        mark_tuple(text("storage"), name("torch", kind + "Storage"), text(key), text("cpu"), integer(numel), tail)
        + b"Q"
    )


def tensor(
    where: bytes | None = None, offset: int = 0, shape: Sequence[int] = (2, 3), strides: Sequence[int] = (3, 1)
) -> bytes:
    arguments = mark_tuple(where or storage(), integer(offset), integers(shape), integers(strides), b"\x89", ORDERED)
    return name("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


SIX = np.arange(6, dtype=np.float32)

# ---- containers


def zip_bytes(
    pickled: bytes, storages: dict[str, bytes], extra: dict[str, bytes] | None = None, method: int = 0
) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("model/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"model/data/{key}", data)
        for member, data in (extra or {}).items():
            archive.writestr(member, data)
        archive.writestr("model/version", b"3\n")
    return out.getvalue()


def legacy_bytes(
    pickled: bytes, storages: dict[str, tuple[int, bytes]], keys: bytes | None = None, protocol: int = 1001
) -> bytes:
    info = finished(mapping(protocol_version=integer(1001), little_endian=b"\x88", type_sizes=mapping(int=integer(4))))
    if keys is None:
        keys = b"](" + b"".join(map(text, storages)) + b"e"
    blocks = b"".join(struct.pack("<q", count) + data for count, data in storages.values())
    magic = b"\x80\x02\x8a\n" + 0x1950A86A20F9469CFC6C.to_bytes(10, "little") + b"."
    return magic + finished(integer(protocol)) + info + pickled + finished(keys) + blocks


def tar_bytes(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for member, data in members.items():
            header = tarfile.TarInfo(member)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return out.getvalue()


def tar_storage(key: int, data: np.ndarray, kind: str = "Float", count: int | None = None) -> bytes:
    head = finished(mark_tuple(integer(key), text("cpu"), name("torch", kind + "Storage")))
    return head + struct.pack("<q", data.size if count is None else count) + data.tobytes()


def tar_tensor(
    key: int, root: int, shape: Sequence[int], strides: Sequence[int], offset: int = 0, kind: str = "Float"
) -> bytes:
    head = finished(mark_tuple(integer(key), integer(root), name("torch", kind + "Tensor")))
    rank = len(shape)
    return head + struct.pack(f"<ii{rank}q{rank}qq", rank, 0, *shape, *strides, offset)


def tar_members(pickled: bytes, views: bytes = b"]", **changes: bytes) -> dict[str, bytes]:
    info = finished(mapping(protocol_version=integer(1000), little_endian=b"\x88"))
    long_ = np.arange(3, dtype=np.int64)
    members = {
        "sys_info": info,
        "pickle": pickled,
        "tensors": finished(integer(3))
        + tar_tensor(100, 1, (2, 3), (3, 1))
        + tar_tensor(101, 1, (3, 2), (1, 3))
        + tar_tensor(102, 2, (2,), (1,), 1, "Long"),
        "storages": finished(integer(2)) + tar_storage(1, SIX) + tar_storage(2, long_, "Long") + finished(views),
    }
    members.update(changes)
    return members


def tar_parameter(key: str, state: bytes = b"\x88\x89" + ORDERED + b"\x87") -> bytes:
    return name("torch.nn.parameter", "Parameter") + text(key) + b"Q\x85R" + state + b"b"


STATE = finished(ORDERED + b"(" + text("a") + tensor() + text("b") + tensor(shape=(3, 2), strides=(1, 3)) + b"u")
ZIP = zip_bytes(STATE, {"0": SIX.tobytes()})
LEGACY = legacy_bytes(STATE, {"0": (6, SIX.tobytes())})
TAR = tar_bytes(
    tar_members(
        finished(
            ORDERED
            + b"("
            + text("a")
            + tar_parameter("100")
            + text("b")
            + text("101")
            + b"Q"
            + text("n")
            + text("102")
            + b"Qu"
        )
    )
)
WRAP: dict[str, Callable[[bytes], bytes]] = {
    "zip": lambda pickled: zip_bytes(pickled, {"0": SIX.tobytes()}),
    "deflated": lambda pickled: zip_bytes(pickled, {"0": SIX.tobytes()}, method=zipfile.ZIP_DEFLATED),
    "legacy": lambda pickled: legacy_bytes(pickled, {"0": (6, SIX.tobytes())}),
    "tar": lambda pickled: tar_bytes(tar_members(pickled)),
}


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path = tmp_path / "model.pth"
        path.write_bytes(data)
        return path

    return write


Put = Callable[[bytes], Path]


# ---- what must be read


@pytest.mark.parametrize("data", [ZIP, LEGACY, TAR, WRAP["deflated"](STATE)], ids=["zip", "legacy", "tar", "deflated"])
@pytest.mark.parametrize("mmap", [True, False])
def test_each_container(put: Put, data: bytes, mmap: bool) -> None:
    value = load(put(data), mmap=mmap)
    assert type(value) is OrderedDict and list(value)[:2] == ["a", "b"]
    np.testing.assert_array_equal(value["a"], SIX.reshape(2, 3))
    np.testing.assert_array_equal(value["b"], SIX.reshape(2, 3).T)
    assert value["b"].strides == (4, 12) and np.shares_memory(value["a"], value["b"])
    assert not value["a"].flags.writeable and value["a"].flags.aligned
    if "n" in value:
        assert value["n"].tolist() == [1, 2] and value["n"].dtype == np.int64
    release(value["a"])
    assert value["a"].sum() == 15


def test_plain_values(put: Put) -> None:
    items = mapping(
        none=b"N",
        yes=b"\x88",
        no=b"\x89",
        one=b"\x8a\x01\xff",
        zero=b"\x8a\x00",
        python2=b"](I140234234234\nI-5\nI00\nI01\ne",
        pair=integer(70000) + integer(3) + b"\x86",
        real=b"G" + struct.pack(">d", 0.1),
        old=b"U\x02\xc3\xa9",
        longer=b"T" + struct.pack("<I", 300) + b"x" * 300,
        items=b"](" + integer(1) + text("x") + b"e" + integer(2) + b"a",
        members=b"\x8f(" + integer(1) + text("x") + b"\x90",
        size=name("torch", "Size") + integers((2, 3)) + b"\x85R",
        dtype=name("torch", "float32"),
        numbers=b"}" + integer(0) + integer(5) + b"s",
        old_dict=name("collections", "OrderedDict") + b"](](" + text("k") + integer(1) + b"ee\x85R",
        block=storage(),
    )
    assert load(put(zip_bytes(finished(items), {"0": SIX.tobytes()}))).pop("block").tolist() == SIX.tolist()
    value = load(put(zip_bytes(finished(items), {"0": SIX.tobytes()})))
    del value["block"]
    assert value == {
        "none": None, "yes": True, "no": False, "one": -1, "zero": 0, "python2": [140234234234, -5, False, True],
        "pair": (70000, 3), "real": 0.1, "old": "é",
        "longer": "x" * 300, "items": [1, "x", 2], "members": {1, "x"}, "size": (2, 3), "dtype": "torch.float32",
        "numbers": {0: 5}, "old_dict": OrderedDict(k=1),
    }  # fmt: skip


def test_newer_protocols(put: Put) -> None:
    for protocol in (2, 3, 4, 5):
        value = {"a": [1, 2.5, "é", None, True, (1, 2, 3, 4)], "o": OrderedDict(x=1 << 40)}
        assert load(put(zip_bytes(pickle.dumps(value, protocol), {}))) == value


def test_half_precision(put: Put) -> None:
    half = np.array([1.5, -2.0, np.inf, np.nan, 6e-8, 65504], np.float16)
    pickled = finished(
        mapping(h=tensor(storage("Half")), b=tensor(storage("BFloat16", "1")), t=tensor(storage("BFloat16", "1")))
    )
    path = put(zip_bytes(pickled, {"0": half.tobytes(), "1": np.full(6, 0x3FC0, "<u2").tobytes()}))
    value = load(path)
    assert value["h"].dtype == np.float16 and value["b"].dtype == np.float32 and value["b"].tolist() == [[1.5] * 3] * 2
    assert np.shares_memory(value["b"], value["t"])
    assert load(path, keep_bfloat16=True)["b"].dtype == np.uint16
    value = load_state_dict_file(path)
    np.testing.assert_array_equal(value["h"], half.astype(np.float32).reshape(2, 3))
    assert value["h"].dtype == np.float32


def test_byte_order(put: Put) -> None:
    data = SIX.astype(">f4").tobytes()
    assert load(put(zip_bytes(STATE, {"0": data}, {"model/byteorder": b"big"})))["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert load(put(zip_bytes(STATE, {"0": SIX.tobytes()}, {"model/byteorder": b"little"})))["a"][1, 2] == 5
    with pytest.raises(FileFormatError, match="byte order"):
        load(put(zip_bytes(STATE, {"0": data}, {"model/byteorder": b"middle"})))


def test_legacy_parts_and_order(put: Put) -> None:
    part = storage(key="20", tail=mark_tuple(text("77"), integer(2), integer(3)))
    whole = storage(key="20", tail=b"N")
    other = storage("Long", "3", 2, b"N")
    pickled = finished(
        mapping(
            w=tensor(whole, shape=(6,), strides=(1,)),
            p=tensor(part, shape=(3,), strides=(1,)),
            o=tensor(other, shape=(2,), strides=(1,)),
        )
    )
    long_ = np.array([8, 9])
    data = legacy_bytes(pickled, {"3": (2, long_.tobytes()), "20": (6, SIX.tobytes())})
    value = load(put(data))
    assert value["p"].tolist() == [2, 3, 4] and value["w"].tolist() == SIX.tolist() and value["o"].tolist() == [8, 9]
    assert np.shares_memory(value["p"], value["w"])
    for view in ((5, 2), (-1, 2), (0, -1), (1 << 70, 1)):
        bad = storage(key="20", tail=mark_tuple(text("77"), integer(view[0]), integer(view[1])))
        with pytest.raises(FileFormatError):
            load(put(legacy_bytes(finished(tensor(bad, shape=(), strides=())), {"20": (6, SIX.tobytes())})))


def test_tar_forms(put: Put) -> None:
    views = b"](" + integers((7, 1, 2, 3)) + b"e"
    tensors = finished(integer(1)) + tar_tensor(100, 7, (3,), (1,))
    tensors = tensors.replace(integer(100), b"I100\n")
    old_state = text("100") + b"QN" + ORDERED + b"\x88"
    parameter = name("torch.nn.parameter", "Parameter")
    for value in (
        text("100") + b"Q",
        integer(100) + b"Q",
        tar_parameter("100"),
        parameter + text("100") + b"Q\x85\x81" + b"\x88\x89" + ORDERED + b"\x87b",
        parameter + b")\x81" + mark_tuple(old_state) + b"b",
        parameter + b")\x81" + mark_tuple(old_state, b"\x89") + b"b",
        name("torch._utils", "_rebuild_parameter") + text("100") + b"Q\x88" + ORDERED + b"\x87R",
    ):
        members = tar_members(finished(mapping(w=value)), views, tensors=tensors)
        assert load(put(tar_bytes(members)))["w"].tolist() == [2, 3, 4]


def test_empty_and_scalar(put: Put) -> None:
    pickled = finished(
        mapping(
            scalar=tensor(offset=5, shape=(), strides=()),
            empty=tensor(shape=(0, 3), strides=(3, 1)),
            none=tensor(storage(key="9", numel=0), shape=(0,), strides=(1,)),
            ones=tensor(shape=(1, 2, 1), strides=(1 << 40, 1, 1 << 50)),
            wide=tensor(shape=(4, 2), strides=(0, 1)),
        )
    )
    value = load(put(zip_bytes(pickled, {"0": SIX.tobytes(), "9": b""})))
    assert value["scalar"].shape == () and value["scalar"] == 5 and value["empty"].shape == (0, 3)
    assert value["none"].shape == (0,) and value["ones"].tolist() == [[[0], [1]]]
    assert value["wide"].tolist() == [[0, 1]] * 4


# ---- the state dict inside


def test_state_dict_is_found(put: Put) -> None:
    inner = {"a.weight": SIX, "a.bias": np.zeros(1)}
    path = put(b"")
    for outer in (
        inner,
        {"epoch": 3, "state_dict": inner},
        {"model_state_dict": inner, "optimizer": {"state": {0: {"step": np.zeros(1)}}}},
        {"model": {"state_dict": inner}, "args": {"lr": 0.1}},
    ):
        save(outer, path)
        assert list(load_state_dict_file(path)) == list(inner)
    save({"ema": inner, "epoch": 1}, path)
    with pytest.raises(FileFormatError, match=r"'ema'.*key="):
        load_state_dict_file(path)
    assert list(load_state_dict_file(path, key="ema")) == list(inner)
    with pytest.raises(FileFormatError, match=r"no entry 'ema\.x'"):
        load_state_dict_file(path, key="ema.x")
    save({"w": SIX, "epoch": 3}, path)
    with pytest.raises(FileFormatError, match="'epoch' is a int"):
        load_state_dict_file(path)
    save({"w": SIX, "block._extra_state": None}, path)
    assert list(load_state_dict_file(path)) == ["w"]


def test_prefixes_are_removed(put: Put) -> None:
    path = put(b"")
    for prefix in ("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        state = OrderedDict((prefix + key, SIX) for key in ("a.weight", "b._orig_mod.weight"))
        vars(state)["_metadata"] = OrderedDict(
            {"": {"version": 1}, prefix[:-1]: {"version": 3}, prefix + "a": {"version": 2}}
        )
        save(state, path)
        loaded = load_state_dict_file(path)
        assert list(loaded) == ["a.weight", "b.weight"]
        assert vars(loaded)["_metadata"] == {"": {"version": 3}, "a": {"version": 2}}
        assert list(load_state_dict_file(path, strip=())) == list(state)
    save({"module.a": SIX, "b": SIX}, path)
    assert list(load_state_dict_file(path)) == ["module.a", "b"]
    assert list(load_state_dict_file(path, strip=("b",))) == ["module.a", "b"]
    save({"a._orig_mod.b": SIX, "a.b": SIX}, path)
    with pytest.raises(FileFormatError, match="two entries"):
        load_state_dict_file(path)
    assert vars(load_state_dict_file(path, strip=()))["_metadata"] == {}


# ---- what must be refused


HOSTILE = {
    "os.system": name("os", "system") + text("touch marker") + b"\x85R",
    "posix.system": name("posix", "system") + text("touch marker") + b"\x85R",
    "nt.system": name("nt", "system") + text("touch marker") + b"\x85R",
    "builtins.eval": name("builtins", "eval") + text("open('marker','w')") + b"\x85R",
    "__builtin__.eval": name("__builtin__", "eval") + text("open('marker','w')") + b"\x85R",
    "builtins.getattr": name("builtins", "getattr") + name("os", "system") + text("x") + b"\x86R",
    "torch.nn.Module": name("torch.nn", "Module") + b")\x81",
    "torch.os.system": name("torch", "os.system") + text("touch marker") + b"\x85R",
    "torch.hub.load": name("torch.hub", "load") + text("x") + b"\x85R",
    "collections.OrderedDict.__init__": name("collections", "OrderedDict.__init__") + b")R",
    "collections.Counter": name("collections", "Counter") + b")R",
    "subprocess.Popen": b"\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93" + text("touch marker") + b"\x85R",
    "os.popen": b"\x80\x05\x95\0\0\0\0\0\0\0\0\x8c\x02os\x94\x8c\x05popen\x94\x93\x94)R",
    "numpy._core.multiarray._reconstruct": name("numpy._core.multiarray", "_reconstruct") + b")R",
    "torch.serialization.load": tensor(name("torch.serialization", "load") + b")R"),
    "runpy.run_path": b"}" + text("_metadata") + name("runpy", "run_path") + b")Rs",
}


@pytest.mark.parametrize("container", list(WRAP))
@pytest.mark.parametrize("function", list(HOSTILE))
def test_functions_are_refused_by_name(
    put: Put, container: str, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = put(WRAP[container](finished(HOSTILE[function])))
    with pytest.raises(UnsafeFileError, match="nothing was executed") as caught:
        load(path)
    wanted = "os.system" if function == "builtins.getattr" else function
    assert wanted in str(caught.value) or function in str(caught.value)
    assert str(path) in str(caught.value)
    assert os.listdir(tmp_path) == ["model.pth"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch marker",)


@pytest.mark.parametrize("protocol", range(6))
def test_real_pickles_are_refused(put: Put, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in (Evil(), {"a": [Evil()]}, (1, {2: Evil()})):
        pickled = pickle.dumps(value, protocol)
        for container in WRAP.values():
            with pytest.raises(FileFormatError):
                load(put(container(pickled)))
        with pytest.raises(FileFormatError):
            load(put(pickled))
    assert os.listdir(tmp_path) == ["model.pth"]


@pytest.mark.parametrize(
    "code",
    [b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0", b"(ios\nsystem\n", b"(" + name("torch", "Size") + b"o", b"Pid\n"]
    + [name("torch", "Size") + b")}\x92", b"L1L\n", b"F1\n", b"S'a'\n", b"Va\n", b"d", b"l", b"02", b"1"]
    + [
        b"C\x01a",
        b"B\x01\0\0\0a",
        b"\x8e" + b"\1" + b"\0" * 7 + b"a",
        b"\x96" + b"\0" * 8,
        b"\x97",
        b"\x98",
        b"\x8b\0\0\0\0",
    ]
    + [b"\x8d" + b"\0" * 8, b"\x91", b"g0\n", b"p0\n", b"\0", b"\xff"],
)
def test_instructions_are_refused(put: Put, code: bytes) -> None:
    for container in WRAP.values():
        with pytest.raises(UnsafeFileError, match="instruction"):
            load(put(container(finished(code))))


@pytest.mark.parametrize(
    "code",
    [
        # types of operands
        b"]" + text("a") + integer(1) + b"s",
        b"](" + text("a") + integer(1) + b"u",
        tensor() + text("a") + integer(1) + b"s",
        storage() + b"(" + text("a") + integer(1) + b"u",
        b"}" + integer(1) + b"a",
        b"}(" + integer(1) + b"e",
        tensor() + integer(1) + b"a",
        b"}(" + integer(1) + b"\x90",
        b"\x8f(" + b"]\x90",
        b"}" + mapping(a=integer(1)) + b"b",
        b"]" + mapping(a=integer(1)) + b"b",
        tensor() + mapping(a=integer(1)) + b"b",
        storage() + mapping(a=integer(1)) + b"b",
        name("collections", "OrderedDict") + mapping(a=integer(1)) + b"b",
        ORDERED + mapping(keys=integer(1)) + b"b",
        ORDERED + mapping(_metadata=integer(1)) + b"b",
        ORDERED + mapping(_metadata=b"}", more=b"N") + b"b",
        ORDERED + mapping(__class__=b"}") + b"b",
        b"}(" + text("a") + b"u",
        b"}]" + integer(1) + b"s",
        b"})" + integer(1) + b"s",
        b"}" + tensor() + integer(1) + b"s",
        b"}N" + integer(1) + b"s",
        b"}" + integer(1 << 64) + integer(1) + b"s",
        b"}" + text("k" * 5000) + integer(1) + b"s",
        # the same key twice
        b"}(" + (text("a") + integer(1)) * 2 + b"u",
        b"}(" + integer(1) + b"N\x88Nu",
        ORDERED + (text("a") + integer(1) + b"s") * 2,
        # stack, marks, memory
        b"",
        b"NN",
        b"(",
        b"(N",
        b"t",
        b"s",
        b"u",
        b"R",
        b"Q",
        b"}N(s",
        b"}(b",
        b"h\0",
        b"j\0\0\0\0",
        b"q\0",
        b"\x85",
        b"N\x86",
        b"NN\x87",
        b"Nh\1",
        # numbers and text
        b"\x8a\xff" + b"\1" * 255,
        b"I\n",
        b"I1",
        b"I--1\n",
        b"I1_0\n",
        b"I 1\n",
        b"I" + b"1" * 200 + b"\n",
        b"I\xd9\xa1\n",
        b"X\xff\xff\xff\xffa",
        b"X\1\0\0\0\xff",
        b"U\1\xff",
        b"U\xffa",
        b"c\xff\n\xff\n",
        b"ctorch",
        b"c" + b"a" * 400 + b"\n\n",
        b"\x80\x01N",
        b"\x80\x06N",
        b"\x80\xffN",
        # calls
        b"]]R",
        name("torch", "Size") + b"]R",
        name("torch", "Size") + b")R",
        name("torch", "Size") + b"(" + text("a") + b"t\x85R",
        name("torch", "Size"),
        name("torch", "FloatStorage"),
        name("torch", "FloatStorage") + integer(5) + b"\x85R",
        name("torch", "FloatTensor") + b")R",
        name("torch", "float32") + b")R",
        name("torch._utils", "_rebuild_tensor_v2") + b")\x81",
        name("torch._utils", "_rebuild_tensor_v2") + b")R",
        name("torch._utils", "_rebuild_tensor") + b"(NNNNtR",
        name("collections", "OrderedDict") + b"(NtR",
        name("collections", "OrderedDict") + b"](]e\x85R",
        name("torch.nn.parameter", "Parameter") + b")\x81",
        name("torch.nn.parameter", "Parameter") + b"]\x85R",
        name("torch.nn.parameter", "Parameter") + b")\x81Nb",
        name("torch._utils", "_rebuild_parameter") + b"N\x88" + ORDERED + b"\x87R",
        # references
        b"NQ",
        b")Q",
        text("0") + b"Q",
        mark_tuple(text("storage")) + b"Q",
        mark_tuple(text("module"), name("torch", "Size"), text("file"), text("source")) + b"Q",
        mark_tuple(text("storage"), b"N", text("0"), text("cpu"), integer(6)) + b"Q",
        mark_tuple(text("storage"), name("torch", "Size"), text("0"), text("cpu"), integer(6)) + b"Q",
        mark_tuple(text("storage"), name("torch", "FloatStorage"), integer(0), text("cpu"), integer(6)) + b"Q",
        mark_tuple(text("storage"), name("torch", "FloatStorage"), text("0"), integer(0), integer(6)) + b"Q",
        mark_tuple(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), text("6")) + b"Q",
        storage(numel=-1),
        storage(numel=5),
        storage(numel=7),
        storage("Double"),
        storage("Half"),
        storage(key="1"),
        storage(key="../0"),
        storage() + storage("Int") + b"\x86",
        # views
        tensor(offset=1),
        tensor(offset=-1),
        tensor(offset=1 << 62),
        tensor(shape=(2, 4)),
        tensor(shape=(7,), strides=(1,)),
        tensor(shape=(2,), strides=(6,)),
        tensor(shape=(2,), strides=(-1,)),
        tensor(shape=(-2, -3)),
        tensor(shape=(2, 3), strides=(1,)),
        tensor(shape=(1 << 32, 1 << 32), strides=(0, 0)),
        tensor(shape=(1 << 40,), strides=(0,)),
        tensor(shape=(0, 1 << 62), strides=(0, 0)),
        tensor(shape=(1 << 61, 0), strides=(0, 0)),
        tensor(shape=(2, 2), strides=(1 << 63, 1 << 63)),
        tensor(shape=(1,) * 33, strides=(1,) * 33),
        name("torch._utils", "_rebuild_tensor_v2")
        + mark_tuple(storage(), b"\x89", integers((2, 3)), integers((3, 1)), b"\x89", ORDERED) + b"R",
        name("torch._utils", "_rebuild_tensor_v2")
        + mark_tuple(storage(), integer(0), integers((2, 3)), integers((3, 1)), b"\x89", mapping(a=b"N")) + b"R",
        name("torch._utils", "_rebuild_tensor_v2")
        + mark_tuple(storage(), integer(0), integers((2, 3)), integers((3, 1)), b"\x89", ORDERED, mapping(conj=b"\x88"))
        + b"R",
        # structures
        b"]q\0h\0a",
        b"}q\0" + text("a") + b"h\0s",
        b"]" * 200 + b"a" * 199,
        b")" + b"\x85" * 100_000,
    ],
)  # fmt: skip
def test_confused_pickles_are_refused(put: Put, code: bytes) -> None:
    for container in WRAP.values():
        path = put(container(finished(code)))
        with pytest.raises(FileFormatError) as caught:
            load(path)
        assert len(str(caught.value)) < len(str(path)) + 600


def test_repeated_references_stay_small(put: Put) -> None:
    """A tree of shared tuples has 2^60 leaves; none of the checks may walk or print it."""
    laughs = b")q\0" + b"h\0h\0\x86q\0" * 60
    for code in (
        tensor(offset=0).replace(integer(0) + integers((2, 3)), laughs + integers((2, 3))),
        tensor().replace(integers((2, 3)), mark_tuple(laughs, laughs)),
        mark_tuple(text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), laughs) + b"Q",
        b"}" + laughs + b"Ns",
        laughs + b"Q",
        b"}" + laughs + b"b",
        b"\x8f(" + laughs + b"\x90",
        name("torch", "Size") + laughs + b"R",
    ):
        for container in WRAP.values():
            started = time.perf_counter()
            with pytest.raises(FileFormatError):
                load(put(container(finished(code))))
            assert time.perf_counter() - started < 5


def test_bounded_work(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pickle_machine._MAX_STEPS < 5_000_000 and pickle_machine._MAX_CONTAINERS < 1_000_000
    monkeypatch.setattr(pickle_machine, "_MAX_STEPS", 60_000)
    monkeypatch.setattr(pickle_machine, "_MAX_CONTAINERS", 10_000)
    many = b"N" * 70_000 + b"t"
    for code, word in (
        (b"(" + many, "instructions"),
        (b"](" + b"}" * 20_000 + b"e", "dicts and lists"),
        (b"(" + b"(" * 70_000, "instructions"),
        (b"X" + struct.pack("<I", 65 << 20) + b"x" * (65 << 20), "limit|too long"),
    ):
        with pytest.raises(FileFormatError, match=word):
            load(put(zip_bytes(finished(code), {})))
    shared = storage() + b"q\0" + b"".join(
        tensor(b"h\0", shape=(1 << 20,), strides=(0,)) for _ in range(40)
    )  # fmt: skip
    with pytest.raises(FileFormatError, match="together"):
        load(put(zip_bytes(finished(b"(" + shared + b"t"), {"0": SIX.tobytes()})))


def test_other_files_are_named(put: Put, tmp_path: Path) -> None:
    for content, word in (
        (b"", "empty"),
        (b"x", "not a torch file"),
        (pickle.dumps({"a": 1}, 2), "plain pickle"),
        (b"<html>", "web page"),
        (b"\x1f\x8b" + b"\0" * 600, "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (struct.pack("<Q", 2) + b"{}", "safetensors"),
        (zip_bytes(STATE, {"0": b""}, {"model/constants.pkl": b"x"}), "TorchScript.*state_dict"),
        (zip_bytes(STATE, {"0": b""}, {"model/code/a.py": b"x"}), "TorchScript"),
        (zip_bytes(STATE, {"0": SIX.tobytes()}, {"other/data.pkl": STATE}), "two members"),
        (zip_bytes(STATE, {}).replace(b"data.pkl", b"data.pkk"), "no torch file"),
        (zip_bytes(STATE, {}), "storage '0' is missing"),
    ):
        with pytest.raises(FileFormatError, match=word):
            load(put(content))
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pth")


# ---- damaged containers


def test_declared_sizes(put: Put) -> None:
    for data in (b"", SIX.tobytes()[:-1], SIX.tobytes() + b"\0", bytes(1000)):
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with pytest.raises(FileFormatError, match="24 are declared"):
                load(put(zip_bytes(STATE, {"0": data}, method=method)))
    for count, data in ((5, SIX.tobytes()), (7, SIX.tobytes()), (-1, b""), (1 << 62, b""), (6, b""), (6, bytes(25))):
        with pytest.raises(FileFormatError):
            load(put(legacy_bytes(STATE, {"0": (count, data)})))
    huge = finished(tensor(storage(numel=1 << 60), shape=(1,), strides=(1,)))
    with pytest.raises(FileFormatError, match="are declared"):
        load(put(zip_bytes(huge, {"0": SIX.tobytes()})))
    with pytest.raises(FileFormatError, match="cut off inside"):
        load(put(legacy_bytes(huge, {"0": (1 << 60, SIX.tobytes())})))


def test_legacy_structure(put: Put) -> None:
    block = {"0": (6, SIX.tobytes())}
    for data in (
        legacy_bytes(STATE, block, protocol=1002),
        legacy_bytes(STATE, block, keys=b"]"),
        legacy_bytes(STATE, block, keys=b"}"),
        legacy_bytes(STATE, block, keys=b"](" + text("0") * 2 + b"e"),
        legacy_bytes(STATE, block, keys=b"](" + text("0") + text("1") + b"e"),
        legacy_bytes(STATE, block, keys=b"]" + integer(0) + b"a"),
        legacy_bytes(STATE, block) + b"\0",
    ):
        with pytest.raises(FileFormatError):
            load(put(data))


def test_tar_structure(put: Put) -> None:
    good = finished(mapping(a=text("100") + b"Q"))
    assert "a" in load(put(tar_bytes(tar_members(good))))
    one = finished(integer(1))
    for changes in (
        {"tensors": one + tar_tensor(100, 1, (2, 4), (3, 1))},
        {"tensors": one + tar_tensor(100, 1, (-2, 3), (3, 1))},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, -1))},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, 1), 1)},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, 1), -1)},
        {"tensors": one + tar_tensor(100, 9, (2, 3), (3, 1))},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, 1), 0, "Double")},
        {"tensors": one + tar_tensor(100, 1, (1,) * 33, (1,) * 33)},
        {"tensors": finished(integer(2)) + tar_tensor(100, 1, (2, 3), (3, 1)) * 2},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, 1)) + b"\0"},
        {"tensors": finished(integer(1 << 40))},
        {"tensors": finished(b"N")},
        {"tensors": finished(integer(0))},
        {"tensors": one + tar_tensor(100, 1, (2, 3), (3, 1))[:-40]},
        {"storages": one + tar_storage(1, SIX, count=7) + finished(b"]")},
        {"storages": one + tar_storage(1, SIX, count=5) + finished(b"]")},
        {"storages": one + tar_storage(1, SIX, count=-1) + finished(b"]")},
        {"storages": one + tar_storage(1, SIX, count=1 << 60) + finished(b"]")},
        {"storages": finished(integer(2)) + tar_storage(1, SIX) * 2 + finished(b"]")},
        {"storages": one + tar_storage(1, SIX)},
        {"storages": one + tar_storage(1, SIX) + finished(b"]") + b"\0"},
        {"sys_info": finished(b"]")},
        {"pickle": good + b"N."},
    ):
        with pytest.raises(FileFormatError):
            load(put(tar_bytes(tar_members(good, **changes))))
    for view in ((7, 1, 4, 3), (7, 9, 0, 1), (1, 2, 0, 1), (7, 1, -1, 2), (7, 1, 0, 1 << 62)):
        with pytest.raises(FileFormatError):
            load(put(tar_bytes(tar_members(good, b"](" + integers(view) + b"e"))))


def test_tar_tricks(put: Put) -> None:
    good = tar_members(finished(mapping(a=text("100") + b"Q")))
    for extra in ("../evil", "/evil", "C:\\evil", "evil", "./pickle", "x" * 200):
        with pytest.raises(UnsafeFileError):
            load(put(tar_bytes({**good, extra: b"x"})))
    plain = tar_bytes(good)
    stored = 512 + ((len(good["sys_info"]) + 511) // 512) * 512  # the second header, of the member pickle
    end = len(plain.rstrip(b"\0")) // 512 * 512 + 512
    double = plain[:stored] + plain[:stored] + plain[stored:]
    for data in (double, plain[:end] + bytes(1024) + b"x", plain + plain):
        with pytest.raises(UnsafeFileError):
            load(put(data))
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:") as archive:
            header = tarfile.TarInfo("pickle")
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
        with pytest.raises(UnsafeFileError, match="regular"):
            load(put(out.getvalue()))
    for missing in good:
        with pytest.raises(FileFormatError, match=missing):
            load(put(tar_bytes({member: data for member, data in good.items() if member != missing})))
    with pytest.raises(FileFormatError, match="checksum"):
        load(put(plain[:150] + b"1" + plain[151:]))


def test_zip_tricks(put: Put) -> None:
    block = {"0": SIX.tobytes()}
    for extra in ("../evil", "model/../../evil", "/evil", "C:/evil", "model\\evil", "model/a\0b"):
        data = zip_bytes(STATE, block, {extra.replace("\\", "|").replace("\0", "^"): b"x"})
        with pytest.raises(UnsafeFileError, match="name"):
            load(put(data.replace(b"|", b"\\").replace(b"^", b"\0")))
    with pytest.warns(UserWarning, match="Duplicate"):
        data = zip_bytes(STATE, block, {"model/data/0": SIX[::-1].tobytes()})
    with pytest.raises(UnsafeFileError, match="two zip entries"):
        load(put(data))
    assert load(put(zip_bytes(STATE, block, {"model/": b""})))["a"][0, 1] == 1  # a folder's entry is harmless

    place, central = ZIP.index(b"model/data/0"), ZIP.rindex(b"model/data/0")
    local = place - 30
    directory = ZIP.index(b"PK\1\2")
    for position, value in (
        (place, b"modem"),  # the name in the header only
        (central, b"modem"),
        (local + 6, b"\1"),  # flags
        (local + 6, b"\x08"),
        (local + 8, b"\x08"),  # method
        (local + 14, b"\xff"),  # checksum
        (local + 18, b"\xff"),  # sizes
        (local + 22, b"\xff"),
        (local + 26, b"\x0b"),
        (local + 28, b"\1"),
        (central - 46 + 8, b"\1"),
        (central - 46 + 10, b"\x08"),
        (central - 46 + 10, b"\x63"),
        (central - 46 + 20, b"\xff"),
        (central - 46 + 24, b"\xff"),
        (central - 46 + 34, b"\1"),
        (central - 46 + 40, b"\0\0\xff\xa1"),  # a symbolic link
        (central - 46 + 42, b"\0"),
        (central - 46 + 42, b"\xff"),
        (directory, b"PK\1\3"),
        (len(ZIP) - 22 + 4, b"\1"),
        (len(ZIP) - 22 + 8, b"\7"),
        (len(ZIP) - 22 + 10, b"\1"),
        (len(ZIP) - 22 + 12, b"\1"),
        (len(ZIP) - 22 + 16, b"\1"),
        (len(ZIP) - 22 + 20, b"\1"),
    ):
        assert ZIP[position : position + len(value)] != value
        with pytest.raises(FileFormatError):
            load(put(ZIP[:position] + value + ZIP[position + len(value) :]))
    for data in (ZIP + b"\0", b"\0" + ZIP, ZIP + ZIP, ZIP[:local] + b"hole" + ZIP[local:]):
        with pytest.raises(FileFormatError):
            load(put(data))


def test_zip_descriptors(put: Put) -> None:
    """Torch writes sizes after the data; every form of that must be read, and must be true."""
    crc = zlib.crc32(SIX.tobytes())
    pickled = struct.pack("<III", zlib.crc32(STATE), len(STATE), len(STATE))

    def build(descriptor: bytes) -> bytes:
        out, directory = b"", b""
        for member, data, after in (
            (b"m/data.pkl", STATE, b"PK\7\x08" + pickled),
            (b"m/data/0", SIX.tobytes(), descriptor),
        ):
            directory += b"PK\1\2" + struct.pack(
                "<HHHHIIIIHHHHHII",
                20, 20, 8, 0, 0, zlib.crc32(data), len(data), len(data), len(member), *[0] * 5, len(out)
            ) + member  # fmt: skip
            out += b"PK\3\4" + struct.pack("<HHHIIIIHH", 20, 8, 0, 0, 0, 0, 0, len(member), 0) + member + data + after
        return out + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(directory), len(out), 0)

    right = [struct.pack("<III", crc, 24, 24), struct.pack("<IQQ", crc, 24, 24)]
    for form in (*right, *(b"PK\7\x08" + form for form in right)):
        assert load(put(build(form)))["a"][1, 2] == 5
    for form in (
        b"",
        right[0][:-1],
        right[0] + b"\0",
        struct.pack("<III", crc ^ 1, 24, 24),
        struct.pack("<III", crc, 24, 25),
    ):
        with pytest.raises(UnsafeFileError, match="after its data"):
            load(put(build(form)))


def test_deflated_data_must_be_exact(put: Put) -> None:
    data = bytes(range(256)) * 100
    numel = len(data) // 4
    pickled = finished(tensor(storage(numel=numel), shape=(numel,), strides=(1,)))
    whole = zip_bytes(pickled, {"0": data}, method=zipfile.ZIP_DEFLATED)
    assert load(put(whole)).tobytes() == data
    place = whole.index(b"model/data/0") + len("model/data/0")
    for shift in (0, 3, 20):
        broken = bytearray(whole)
        broken[place + shift] ^= 0xFF
        with pytest.raises(FileFormatError, match=r"unpack|checksum"):
            load(put(bytes(broken)))
    for size in (len(data) - 4, len(data) + 4):
        lie = struct.pack("<I", size)
        numel = size // 4
        pickled = finished(tensor(storage(numel=numel), shape=(numel,), strides=(1,)))
        broken = zip_bytes(pickled, {"0": data}, method=zipfile.ZIP_DEFLATED).replace(struct.pack("<I", len(data)), lie)
        with pytest.raises(FileFormatError, match="unpack"):
            load(put(broken))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory of Linux")
def test_zip_bombs(put: Put, tmp_path: Path) -> None:
    """Entries that would unpack to 40 GB, or lie that they are small: refused at once, in little memory."""
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = bytes(1 << 20)
    packed = b"".join(squeezed.compress(chunk) for _ in range(256)) + squeezed.flush()
    for declared, numel in ((256 << 20, 64 << 20), (24, 6), (40 << 30, 10 << 30)):
        pickled = finished(tensor(storage(numel=numel), shape=(1,), strides=(1,)))
        out, directory = b"", b""
        for member, data, size, method in (
            (b"m/data.pkl", pickled, len(pickled), 0),
            (b"m/data/0", packed, declared, 8),
        ):
            narrow = min(size, 0xFFFFFFFF)
            extra = struct.pack("<HHQ", 1, 8, size) if size > narrow else b""
            fields = struct.pack(
                "<HHHIIIIHH", 45, 0, method, 0, zlib.crc32(data), len(data), narrow, len(member), len(extra)
            )
            directory += (
                b"PK\1\2"
                + struct.pack("<H", 45)
                + fields
                + struct.pack("<HHHII", 0, 0, 0, 0, len(out))
                + member
                + extra
            )
            out += b"PK\3\4" + fields + member + extra + data
        end = b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2, 2, len(directory), len(out), 0)
        path = put(out + directory + end)
        script = textwrap.dedent(
            """
            import resource, sys, time
            from engine.io.errors import FileFormatError
            from engine.io.torch_file import load
            before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
            try:
                load(sys.argv[1])
            except FileFormatError as error:
                print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, time.perf_counter() - started, error)
            """
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)], capture_output=True, text=True, env=environment, timeout=60
        )
        assert done.returncode == 0 and done.stdout, done.stderr
        grown, seconds = done.stdout.split()[:2]
        assert int(grown) < 100 << 10 and float(seconds) < 5


@pytest.mark.parametrize("data", [ZIP, LEGACY, TAR, WRAP["deflated"](STATE)], ids=["zip", "legacy", "tar", "deflated"])
def test_truncation_at_every_byte(put: Put, data: bytes) -> None:
    # A tar archive ends in blocks of zeros, of which two are enough; where one is cut, all tensors are still there.
    needed = len(data) if data is not TAR else (len(TAR.rstrip(b"\0")) + 511) // 512 * 512 + 512
    path = put(data[: needed - 1])
    for size in reversed(range(needed)):
        os.truncate(path, size)
        with pytest.raises(FileFormatError):
            load(path)


OPCODES = b"().0123FGIJKLMNPQRSTUVX]abcdeghijlopqrstu}\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x93\x94\x95"


def digest(value: object) -> int:
    """Touch every byte of every array."""
    if isinstance(value, np.ndarray):
        return zlib.crc32(value.tobytes())
    if isinstance(value, dict):
        return sum(map(digest, value.values()))
    return sum(map(digest, value)) if isinstance(value, list | tuple) else 0


@pytest.mark.parametrize("container", ["zip", "deflated", "legacy", "tar"])
def test_mutated_files(put: Put, container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Damage anywhere: our exception or a valid read; no other exception, no import, no process, no file."""
    whole = {"zip": ZIP, "deflated": WRAP["deflated"](STATE), "legacy": LEGACY, "tar": TAR}[container]
    folder = put(whole).parent
    outcomes = {"read": 0, "refused": 0}

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a file reader called this")

    load(folder / "model.pth")
    monkeypatch.setattr(os, "system", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    monkeypatch.setattr(builtins, "eval", forbidden)
    modules = set(sys.modules)
    for data in mutations(whole, seed=2, tokens=OPCODES):
        path = put(data)
        try:
            digest(load(path))
            outcomes["read"] += 1
        except FileFormatError:
            outcomes["refused"] += 1
    assert outcomes["refused"] and sum(outcomes.values()) == FUZZ_CASES
    assert set(sys.modules) == modules and os.listdir(folder) == ["model.pth"]


def test_mutated_pickles(put: Put) -> None:
    """Only the pickle is damaged, so that the machine sees every case."""
    rich = finished(
        mapping(
            epoch=integer(3),
            model=ORDERED + b"(" + text("a") + tensor() + text("b") + tensor(shape=(3, 2), strides=(1, 3)) + b"u"
            + mapping(_metadata=ORDERED) + b"b",
            p=name("torch._utils", "_rebuild_parameter") + tensor() + b"\x88" + ORDERED + b"\x87R",
            items=b"]q\1(" + integer(1) + text("x") + b"h\1\x85e",
            size=name("torch", "Size") + integers((2, 3)) + b"\x85R",
        )
    ).replace(b"h\1\x85e", b"Ne")  # fmt: skip
    load(put(zip_bytes(rich, {"0": SIX.tobytes()})))
    for data in mutations(rich, seed=3, tokens=OPCODES):
        path = put(zip_bytes(data, {"0": SIX.tobytes()}))
        with contextlib.suppress(FileFormatError):
            digest(load(path))


# ---- writing


def test_round_trip(put: Put) -> None:
    path = put(b"")
    state: OrderedDict[str, Any] = OrderedDict(
        (kind, np.arange(6).astype(kind).reshape(2, 3))
        for kind in ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64")
    )
    state.update(
        empty=np.zeros((0, 4), np.float32), scalar=np.array(7), swapped=SIX.astype(">f4"), t=state["float32"].T
    )
    state["tied"] = state["float32"]
    vars(state)["_metadata"] = OrderedDict({"": {"version": 1}})
    save(
        {"state_dict": state, "epoch": 5, "lr": 0.1, "name": "é", "none": None, "deep": [1, (2, True)], 3: -(1 << 40)},
        path,
    )
    loaded = load(path)
    assert {key: value for key, value in loaded.items() if key != "state_dict"} == {
        "epoch": 5, "lr": 0.1, "name": "é", "none": None, "deep": [1, (2, True)], 3: -(1 << 40)
    }  # fmt: skip
    assert list(loaded["state_dict"]) == list(state)
    for key, array in state.items():
        np.testing.assert_array_equal(loaded["state_dict"][key], array)
        assert loaded["state_dict"][key].dtype == array.dtype.newbyteorder("=")
    assert np.shares_memory(loaded["state_dict"]["tied"], loaded["state_dict"]["float32"])
    assert vars(loaded["state_dict"])["_metadata"] == {"": {"version": 1}}
    first = path.read_bytes()
    save(loaded, path)
    save(load(path), path)
    assert len(path.read_bytes()) == len(first)


def test_writer_refuses(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    nested: dict[str, Any] = {}
    for _ in range(200):
        nested = {"a": nested}
    for value, kind in (
        ([1], TypeError),
        ({"a": object()}, TypeError),
        ({"a": np.zeros(1, np.uint32)}, TypeError),
        ({"a": np.array(["x"])}, TypeError),
        ({1.5: 1}, TypeError),
        ({"a": 1 << 70}, TypeError),
        ({"\ud800": 1}, TypeError),
        (nested, ValueError),
    ):
        with pytest.raises(kind, match="save"):
            save(value, path)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name_", ["pickle_machine", "strict_zip", "torch_file"])
def test_examples(name_: str) -> None:
    assert doctest.testmod(importlib.import_module(f"engine.io.{name_}")).failed == 0


def test_neither_pickle_nor_torch_is_imported(put: Put) -> None:
    script = "import sys; from engine.io import torch_file; torch_file.load(sys.argv[1]); print(set(sys.modules))"
    blocked = "import sys; sys.modules['torch'] = None; sys.modules['safetensors'] = None; " + script
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", blocked, str(put(ZIP))], check=True, env=environment, capture_output=True)
    for source in ("torch_file", "pickle_machine", "strict_zip", "safetensors", "mapped_file"):
        module = importlib.import_module(f"engine.io.{source}")
        assert not {"pickle", "torch", "safetensors", "importlib"} & set(vars(module))


# ---- torch agrees


def torch_state() -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 5), torch.nn.PReLU()
    )
    state = model.state_dict()
    state["nan"] = torch.full((3,), float("nan"))
    return state


def same_bits(ours: np.ndarray, theirs: Any) -> bool:
    torch = pytest.importorskip("torch")
    if theirs.dtype == torch.bfloat16:
        theirs = theirs.float()
    expected = theirs.detach().numpy()
    return ours.dtype == expected.dtype and ours.shape == expected.shape and ours.tobytes() == expected.tobytes()


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_torch_writes_we_read(put: Put, new: bool) -> None:
    torch = pytest.importorskip("torch")
    path = put(b"")
    kinds = [
        "float32",
        "float64",
        "float16",
        "bfloat16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
        "complex64",
        "complex128",
    ]
    base = torch.arange(24.0)
    value = {
        "kinds": {kind: torch.arange(6).to(getattr(torch, kind)).reshape(2, 3) for kind in kinds},
        "state": torch_state(),
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "transposed": base.view(4, 6).t(),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "slices": [base[3:9], base[::5], base.view(2, 3, 4)[:, 1]],
        "expanded": torch.ones(1, 3).expand(4, 3),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "size": torch.Size((2, 3)),
        "dtype": torch.float32,
        "plain": [1, -5, 1 << 40, 0.25, "é", None, True, (1, (2,))],
    }
    torch.save(value, path, _use_new_zipfile_serialization=new)
    for mmap in (True, False):
        ours = load(path, mmap=mmap)
        assert ours["plain"] == value["plain"] and ours["size"] == (2, 3) and ours["dtype"] == "torch.float32"
        for key, tensor_ in value["kinds"].items():
            assert same_bits(ours["kinds"][key], tensor_), key
        assert list(ours["state"]) == list(value["state"])
        assert all(same_bits(ours["state"][key], tensor_) for key, tensor_ in value["state"].items())
        assert vars(ours["state"])["_metadata"] == value["state"]._metadata
        for key in ("parameter", "transposed", "channels_last", "expanded", "empty", "scalar"):
            assert same_bits(ours[key], value[key]), key
        assert all(same_bits(a, b) for a, b in zip(ours["slices"], value["slices"], strict=True))
        assert ours["channels_last"].strides == tuple(4 * step for step in value["channels_last"].stride())
        assert np.shares_memory(ours["transposed"], ours["slices"][0])


def test_torch_storage_without_type(put: Put) -> None:
    torch = pytest.importorskip("torch")
    path = put(b"")
    torch.save({"a": torch.arange(6).to(torch.uint16).reshape(2, 3)}, path)
    assert load(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and load(path)["a"].dtype == np.uint16


def test_torch_extras_are_refused(put: Put) -> None:
    torch = pytest.importorskip("torch")
    path = put(b"")
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(UnsafeFileError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict"):
        load(path)
    torch.save({"a": torch.ones(2, dtype=torch.complex64).conj()}, path)
    with pytest.raises(FileFormatError, match="resolve_conj"):
        load(path)
    torch.save({"a": torch.ones(2).to_sparse()}, path)
    with pytest.raises(UnsafeFileError, match="_rebuild_sparse_tensor"):
        load(path)


def test_torchscript_is_refused(put: Put) -> None:
    torch = pytest.importorskip("torch")
    path = put(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out of torch
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    with pytest.raises(FileFormatError, match=r"TorchScript.*state_dict"):
        load(path)


def test_we_write_torch_reads(put: Put) -> None:
    torch = pytest.importorskip("torch")
    path, state = put(b""), torch_state()
    ours: OrderedDict[str, Any] = OrderedDict((key, value.numpy()) for key, value in state.items())
    vars(ours)["_metadata"] = state._metadata
    ours["tied"] = ours["0.weight"]
    for kind in ("float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64", "complex128"):
        ours[kind] = np.arange(6).astype(kind).reshape(3, 2).T
    ours["empty"], ours["scalar"] = np.zeros((2, 0), np.float32), np.float32(1.5)
    save({"state_dict": ours, "epoch": 3, "lr": 0.5, "big": 1 << 40, "items": [None, True, ("x",)]}, path)
    for mmap in (False, True):
        theirs = torch.load(path, weights_only=True, mmap=mmap)
        assert theirs["epoch"] == 3 and theirs["big"] == 1 << 40 and theirs["items"] == [None, True, ("x",)]
        assert type(theirs["state_dict"]) is OrderedDict and theirs["state_dict"]._metadata == state._metadata
        assert list(theirs["state_dict"]) == list(ours)
        for key, array in ours.items():
            tensor_ = theirs["state_dict"][key]
            assert same_bits(np.ascontiguousarray(array).reshape(array.shape), tensor_.contiguous()), key
        assert theirs["state_dict"]["tied"].data_ptr() == theirs["state_dict"]["0.weight"].data_ptr()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("torch_too", [False, True])
def test_64_bit_zip_records(put: Put, monkeypatch: pytest.MonkeyPatch, torch_too: bool) -> None:
    """Files beyond 4 GB or 65,535 members, played through with smaller limits."""
    path = put(b"")
    state = {str(number): np.arange(100 * number) for number in range(10)}
    for large, many in ((512, 0xFFFF), (1, 0xFFFF), (0xFFFFFFFF, 3), (1000, 3)):
        monkeypatch.setattr(torch_file, "_LARGE", large)
        monkeypatch.setattr(torch_file, "_MANY", many)
        save(state, path)
        loaded = load(path)
        assert all(np.array_equal(loaded[key], array) for key, array in state.items())
        if torch_too:
            theirs = pytest.importorskip("torch").load(path, weights_only=True)
            assert all(np.array_equal(theirs[key].numpy(), array) for key, array in state.items())
