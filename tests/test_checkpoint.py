"""Checkpoints: complete, verified, and never lost, whatever happens while one is written or to a file afterwards."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import engine
from engine.io import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    load_file,
    previous_path,
    save_checkpoint,
    save_file,
)


def checkpoint(epoch: int = 1, size: int = 1000) -> Checkpoint:
    return Checkpoint(
        model={"weight": np.full(size, epoch, np.float32), "bias": np.arange(3, dtype=np.int64)},
        trainer={"epoch": epoch, "history": [{"epoch": epoch, "train_loss": 0.5}]},
    )


def files_in(directory) -> list[str]:
    return sorted(os.listdir(directory))


def test_everything_comes_back(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    saved = Checkpoint(
        model={"conv.weight": np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)},
        model_name="lenet5",
        model_args={"num_classes": 3},
        class_names=["ä", "b", "c"],
        preprocessing={"size": [32, 32], "mean": [0.5]},
        optimizer={
            "state": {0: {"step": 7, "exp_avg": np.ones((2, 3), np.float32)}, 12: {}},
            "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 1], "nesterov": False, "x": None}],
        },
        scheduler={"last_epoch": 3, "base_lrs": [0.1]},
        rng=(2**64 - 1, 5),
        trainer={"epoch": 3, "best": float("inf"), "history": [{"loss": float("nan"), "n": np.int64(3)}]},
        data={"__tensor__": "a key that looks like a mark"},
        arguments={"lr": 0.1, "nested": {"empty": [], "tuple": ()}},
    )
    save_checkpoint(path, saved)
    loaded = load_checkpoint(path)
    np.testing.assert_array_equal(loaded.model["conv.weight"], saved.model["conv.weight"])
    np.testing.assert_array_equal(loaded.optimizer["state"][0]["exp_avg"], np.ones((2, 3)))
    assert loaded.optimizer["state"][0]["step"] == 7
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]
    assert list(loaded.optimizer["state"]) == [0, 12]
    assert loaded.rng == (2**64 - 1, 5)
    assert loaded.trainer["best"] == float("inf")
    assert np.isnan(loaded.history[0]["loss"])
    assert loaded.history[0]["n"] == 3
    for name in ("model_name", "model_args", "class_names", "preprocessing", "scheduler", "data", "arguments"):
        assert getattr(loaded, name) == getattr(saved, name)
    assert files_in(tmp_path) == ["a.safetensors"]


def test_odd_arrays_survive(tmp_path) -> None:
    arrays = {
        "scalar": np.array(3, np.int64),
        "empty": np.zeros((0, 4), np.float32),
        "bool": np.array([True, False]),
        "strided": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::-1],
        "big": np.arange(3, dtype=">f4"),
        "nan": np.array([np.nan, -np.inf], np.float32),
    }
    save_checkpoint(tmp_path / "a", Checkpoint(model=arrays, data={"x": {"y": arrays["nan"]}, "x.y": arrays["bool"]}))
    loaded = load_checkpoint(tmp_path / "a")
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded.model[name], array)
        assert loaded.model[name].shape == array.shape
    assert loaded.data["x"]["y"].dtype == np.float32
    assert loaded.data["x.y"].dtype == bool


def test_any_safetensors_reader_can_take_the_weights(tmp_path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", checkpoint(4))
    assert (load_file(tmp_path / "a.safetensors")["model.weight"] == 4).all()


def test_model_optimizer_and_scheduler_are_restored(tmp_path) -> None:
    def parts():
        model = engine.nn.Sequential(engine.nn.Conv2d(1, 2, 3), engine.nn.Flatten(), engine.nn.Linear(8, 3))
        optimizer = engine.optim.Adam(model.parameters(), lr=0.01)
        return model, optimizer, engine.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def step(model, optimizer, scheduler) -> float:
        inputs = np.random.default_rng(0).normal(size=(5, 1, 4, 4)).astype(np.float32)
        outputs = model(engine.from_numpy(inputs))
        loss = engine.nn.CrossEntropyLoss()(outputs, engine.from_numpy(np.array([0, 1, 2, 0, 1])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        return float(loss.item())

    first = parts()
    for _ in range(3):
        step(*first)
    model, optimizer, scheduler = first
    save_checkpoint(
        tmp_path / "a",
        Checkpoint(model=model.state_dict(), optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict()),
    )
    second = parts()
    load_checkpoint(tmp_path / "a").restore(*second)
    assert [step(*second) for _ in range(3)] == [step(*first) for _ in range(3)]
    with pytest.raises(CheckpointError, match="no state of the trainer"):
        load_checkpoint(tmp_path / "a").restore(trainer=object())


def test_the_file_before_is_kept(tmp_path) -> None:
    path = tmp_path / "last.safetensors"
    for epoch in (1, 2, 3):
        save_checkpoint(path, checkpoint(epoch))
    assert load_checkpoint(path).epoch == 3
    assert load_checkpoint(previous_path(path)).epoch == 2
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match=r"last\.previous\.safetensors"):
        load_checkpoint(path)
    assert load_checkpoint(path, fallback=True).epoch == 2
    save_checkpoint(path, checkpoint(4))  # the damaged file must not push out the good one
    assert load_checkpoint(previous_path(path)).epoch == 2
    os.unlink(path)
    assert load_checkpoint(path, fallback=True).epoch == 2


def test_a_directory_stands_for_its_best(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="holds no"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path / "last.safetensors", checkpoint(2))
    assert load_checkpoint(tmp_path).epoch == 2
    save_checkpoint(tmp_path / "best.safetensors", checkpoint(1))
    assert load_checkpoint(tmp_path).epoch == 1


def test_every_truncation_is_noticed(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, checkpoint(size=20))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"a\.safetensors"):
            load_checkpoint(path)


def test_every_flipped_bit_is_noticed(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, checkpoint(size=20))
    whole = path.read_bytes()
    generator = random.Random(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError as error:
            assert "a.safetensors" in str(error)
        else:  # padding of the header is the only place where a change means nothing
            np.testing.assert_array_equal(loaded.model["weight"], np.full(20, 1, np.float32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "truncated, damaged"),
        (b"hello", "truncated, damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated, damaged"),
        (b"PK\x03\x04" + bytes(100), "truncated, damaged"),
        (b"\x80\x02}q\x00." + bytes(50), "truncated, damaged"),
    ],
)
def test_foreign_files(tmp_path, content: bytes, words: str) -> None:
    path = tmp_path / "foreign.bin"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_foreign_safetensors_and_later_versions(tmp_path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": np.ones(3, np.float32)}, path)
    with pytest.raises(CheckpointError, match="not a checkpoint of this engine"):
        load_checkpoint(path)
    save_file({}, path, {"format": "engine-checkpoint", "version": "99"})
    with pytest.raises(CheckpointError, match="version 99"):
        load_checkpoint(path)
    save_file({}, path, {"format": "engine-checkpoint", "version": "1", "state": "{}", "sha256": "0"})
    with pytest.raises(CheckpointError, match="checksum"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none")


def test_content_that_cannot_be_stored_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "a"
    save_checkpoint(path, checkpoint(1))
    for thing in (object(), {"a": {1, 2}}, np.array([None])):
        with pytest.raises(CheckpointError, match="cannot be saved"):
            save_checkpoint(path, Checkpoint(model={}, arguments={"thing": thing}))
    assert load_checkpoint(path).epoch == 1
    assert files_in(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call: str) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, checkpoint(1))
    save_checkpoint(path, checkpoint(2))
    before = files_in(tmp_path)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(CheckpointError, match="No space left on device") as caught:
            save_checkpoint(path, checkpoint(3))
    assert str(path) in str(caught.value)
    assert "unchanged" in str(caught.value)
    assert files_in(tmp_path) == before
    assert load_checkpoint(path).epoch == 2
    assert load_checkpoint(previous_path(path)).epoch == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True)
    except OSError:
        done = None
    if done is None or done.returncode:
        pytest.skip("mounting needs privileges")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_disk_that_is_really_full(small_disk) -> None:
    path = small_disk / "a.safetensors"
    save_checkpoint(path, checkpoint(1, size=100_000))  # 0.4 MB
    with pytest.raises(CheckpointError, match=r"a\.safetensors: cannot be saved: No space left on device"):
        save_checkpoint(path, checkpoint(2, size=200_000))
    assert files_in(small_disk) == ["a.safetensors"]
    assert load_checkpoint(path).epoch == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="Permission denied"):
        save_checkpoint(tmp_path / "a", checkpoint())
    tmp_path.chmod(0o700)


def test_a_missing_directory(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="No such file or directory"):
        save_checkpoint(tmp_path / "none" / "a", checkpoint())


def test_stale_temporary_files_are_removed_and_young_ones_kept(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    stale, young = tmp_path / ".a.safetensors.0123.tmp", tmp_path / ".engine-4567.tmp"
    for file in (stale, young):
        file.write_bytes(b"left behind")
    os.utime(stale, (time.time() - 7200,) * 2)
    save_checkpoint(path, checkpoint())
    assert files_in(tmp_path) == [".engine-4567.tmp", "a.safetensors"]


_WRITER = """
import sys
import numpy as np
from engine.io import Checkpoint, save_checkpoint
print("ready", flush=True)
epoch = 0
while True:
    epoch += 1
    model = {"weight": np.full(50_000, epoch, np.float32)}
    save_checkpoint(sys.argv[1], Checkpoint(model=model, trainer={"epoch": epoch}))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_kill_at_random_moments_always_leaves_a_good_file(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, Checkpoint(model={"weight": np.zeros(50_000, np.float32)}))
    generator = random.Random(0)
    for _ in range(6):
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(generator.uniform(0.001, 0.05))
            process.kill()
        loaded = load_checkpoint(path)
        assert (loaded.model["weight"] == loaded.epoch).all()
        if os.path.exists(previous_path(path)):
            load_checkpoint(previous_path(path))


def test_the_file_is_json_and_tensors_only(tmp_path) -> None:
    from engine.io import read_metadata

    save_checkpoint(tmp_path / "a", checkpoint())
    metadata = read_metadata(tmp_path / "a")
    assert metadata["format"] == "engine-checkpoint"
    assert json.loads(metadata["state"])["trainer"]["epoch"] == 1
