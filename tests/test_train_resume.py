"""Training that was interrupted goes on as if it had not been: by a step, by Ctrl-C, by kill -9, by a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import engine
from engine import nn
from engine.callbacks import EMA, Callback, Checkpoint, EarlyStopping
from engine.data import ArrayDataset, Compose, DataLoader, Normalize, RandomCrop, RandomHorizontalFlip
from engine.io import CheckpointError, load_checkpoint
from engine.train import Trainer

EPOCHS = 3


def images(count: int = 40, seed: int = 0) -> ArrayDataset:
    generator = np.random.default_rng(seed)
    return ArrayDataset(generator.integers(0, 256, (count, 8, 8, 1), np.uint8), generator.integers(0, 3, count))


def loader(data: ArrayDataset | None = None, workers: int = 0) -> DataLoader:
    """5 batches, shuffled, augmented."""
    augmentation = Compose([RandomCrop(8, padding=2), RandomHorizontalFlip(), Normalize((0.5,), (0.5,))])
    return DataLoader(data or images(), 8, shuffle=True, seed=3, transform=augmentation, num_workers=workers)


def make(directory, callbacks=(), accumulate: int = 1) -> Trainer:
    """All that has a state: momentum, batch norm, dropout, a schedule per step, an average, early stopping."""
    engine.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3)
    )
    optimizer = engine.optim.Adam(model.parameters(), lr=0.01)
    saving = Checkpoint(directory, "train_loss", every_steps=1)
    return Trainer(
        model,
        nn.CrossEntropyLoss(),
        optimizer,
        scheduler=engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15),
        scheduler_interval="batch",
        accumulate=accumulate,
        callbacks=[saving, EMA(0.9), EarlyStopping("train_loss", patience=0, restore_best=False), *callbacks],
    )


def state(trainer: Trainer) -> dict[str, np.ndarray]:
    """Weights, statistics and moments."""
    arrays = {f"model.{name}": value.numpy().copy() for name, value in trainer.model.state_dict().items()}
    for number, moments in trainer.optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            arrays[f"{number}.{name}"] = value.numpy().copy() if hasattr(value, "numpy") else np.array(value)
    return arrays


def numbers(trainer: Trainer) -> list[dict[str, float]]:
    timed = ("seconds", "data_share", "images_per_second")
    return [{k: v for k, v in row.items() if not k.endswith(timed)} for row in trainer.history]


def assert_same(one: Trainer, other: Trainer) -> None:
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)
    assert numbers(one) == numbers(other)
    assert engine.get_rng_state()  # compared through the dropout masks


class Die(Callback):
    """The end of the process, as far as the trainer can tell."""

    order = 99

    def __init__(self, step: int) -> None:
        self.step = step

    def after_batch(self, trainer: Trainer) -> None:
        if trainer.steps_done == self.step and not trainer.updates_pending:
            raise RuntimeError("killed")


def resumed(directory) -> Trainer:
    trainer = make(directory)
    load_checkpoint(directory / "last.safetensors").restore(
        trainer.model, trainer.optimizer, trainer.scheduler, trainer
    )
    return trainer


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Trainer:
    trainer = make(tmp_path_factory.mktemp("whole"))
    trainer.fit(loader(), loader(images(16, seed=1)), EPOCHS)
    return trainer


@pytest.mark.parametrize("step", [1, 4, 5, 6, 12, 15])
@pytest.mark.parametrize("workers", [0, 2])
def test_k_steps_and_the_rest_are_all_steps(tmp_path, whole: Trainer, step: int, workers: int) -> None:
    with pytest.raises(RuntimeError, match="killed"):
        make(tmp_path, [Die(step)]).fit(loader(workers=workers), loader(images(16, seed=1)), EPOCHS)
    engine.manual_seed(99)  # a new process has another random state
    trainer = resumed(tmp_path)
    assert trainer.steps_done == step
    trainer.fit(loader(workers=workers), loader(images(16, seed=1)), EPOCHS)
    assert_same(trainer, whole)


def test_resumption_with_gradients_of_several_batches(tmp_path) -> None:
    """5 batches, 2 per update: a checkpoint never falls between the two."""
    complete = make(tmp_path / "whole", accumulate=2)
    complete.fit(loader(), epochs=2)
    assert complete.steps_done == 6
    with pytest.raises(RuntimeError, match="killed"):
        make(tmp_path / "parts", [Die(4)], accumulate=2).fit(loader(), epochs=2)
    trainer = make(tmp_path / "parts", accumulate=2)
    saved = load_checkpoint(tmp_path / "parts" / "last.safetensors")
    saved.restore(trainer.model, trainer.optimizer, trainer.scheduler, trainer)
    assert (trainer.epoch, trainer.batches_done) == (1, 2)
    trainer.fit(loader(), epochs=2)
    assert_same(trainer, complete)


def test_any_iterable_can_be_resumed(tmp_path) -> None:
    batches = list(loader())
    complete = make(tmp_path / "whole")
    complete.fit(batches, epochs=2)
    with pytest.raises(RuntimeError, match="killed"):
        make(tmp_path, [Die(7)]).fit(batches, epochs=2)
    trainer = resumed(tmp_path)
    trainer.fit(batches, epochs=2)
    assert_same(trainer, complete)


# Ctrl-C.


class Press(Callback):
    """Ctrl-C at an event."""

    def __init__(self, event: str, step: int, times: int = 1) -> None:
        self.step = step
        self.times = times
        self.after_step = self._press if event == "after_step" else lambda trainer: None  # type: ignore[method-assign]
        self.before_evaluate = self._press if event == "before_evaluate" else lambda trainer: None  # type: ignore

    def after_step(self, trainer: Trainer) -> None: ...

    def before_evaluate(self, trainer: Trainer) -> None: ...

    def _press(self, trainer: Trainer) -> None:
        if trainer.fitting and self.times and trainer.steps_done >= self.step - 1:
            self.times -= 1
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("event", "step"), [("after_step", 7), ("before_evaluate", 10)])
def test_ctrl_c_saves_between_two_steps(tmp_path, whole: Trainer, event: str, step: int) -> None:
    handler = signal.getsignal(signal.SIGINT)
    trainer = make(tmp_path, [Press(event, step)])
    trainer.callbacks[0].every_steps = 0
    for callback in trainer.callbacks:
        if isinstance(callback, Checkpoint):
            callback.every_steps = 0
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(loader(), loader(images(16, seed=1)), EPOCHS)
    assert signal.getsignal(signal.SIGINT) is handler
    again = resumed(tmp_path)
    assert (again.steps_done, again.epoch) == (step, 1)
    again.fit(loader(), loader(images(16, seed=1)), EPOCHS)
    assert_same(again, whole)


def test_a_second_ctrl_c_takes_effect_at_once(tmp_path) -> None:
    record: list[str] = []

    class Watch(Callback):
        def after_batch(self, trainer: Trainer) -> None:
            record.append("batch")

        def interrupt(self, trainer: Trainer) -> None:
            record.append("interrupt")

    class Twice(Callback):
        def before_backward(self, trainer: Trainer) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, [Watch(), Twice()]).fit(loader(), epochs=1)
    assert record == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_program_stays(tmp_path) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        trainer = make(tmp_path, [Press("after_step", 1)])
        trainer.fit(loader(), epochs=1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]
    assert trainer.epoch == 1


# What does not fit.


def test_other_data_are_refused(tmp_path) -> None:
    make(tmp_path).fit(loader(), epochs=1)
    for other in (images(40, seed=1), images(48)):
        trainer = resumed(tmp_path)
        with pytest.raises(ValueError, match="began on other data"):
            trainer.fit(loader(other), epochs=2)
    trainer = make(tmp_path)
    load_checkpoint(tmp_path / "last.safetensors").restore(
        trainer.model, trainer.optimizer, trainer.scheduler, trainer, check_data=False
    )
    trainer.fit(loader(images(40, seed=1)), epochs=2)
    assert trainer.epoch == 2


def test_a_checkpoint_of_another_model_is_refused(tmp_path) -> None:
    trainer = make(tmp_path)
    trainer.fit(loader(), epochs=1)
    saved = load_checkpoint(tmp_path / "last.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)is of another model than this Linear: .*0\.weight"):
        saved.restore(nn.Linear(3, 2))
    narrow = engine.optim.Adam(nn.Linear(3, 2).parameters())
    with pytest.raises(CheckpointError, match="is of another optimizer than this Adam"):
        saved.restore(optimizer=narrow)


# A disk that is full, a process that is killed.


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ENGINE_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=120)


TINY = """
import os, sys
import numpy as np
import engine
from engine.callbacks import Checkpoint, EMA
from engine.data import ArrayDataset, DataLoader
from engine.io import load_checkpoint, previous_path
from engine.train import Trainer

values = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
DATA = ArrayDataset(values, (values[:, 0] > 0).astype(np.int64))

def training(directory, epochs, saving=True):
    engine.manual_seed(0)
    model = engine.nn.Sequential(engine.nn.Linear(8, 64), engine.nn.Dropout(0.5), engine.nn.Linear(64, 2))
    optimizer = engine.optim.Adam(model.parameters())
    callbacks = [EMA(0.9)]
    if saving:
        callbacks.append(Checkpoint(directory, "train_loss", every_steps=2, top_k=2))
    trainer = Trainer(model, engine.nn.CrossEntropyLoss(), optimizer, callbacks=callbacks)
    last = os.path.join(directory, "last.safetensors")
    if os.path.exists(last) or os.path.exists(previous_path(last)):
        load_checkpoint(last, fallback=True).restore(model, optimizer, trainer=trainer)
    trainer.fit(DataLoader(DATA, 16, shuffle=True), epochs=epochs)
    return trainer

def weights(trainer):
    return b"".join(value.numpy().tobytes() for value in trainer.model.state_dict().values())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs file size limits")
def test_a_full_disk_ends_training_and_leaves_the_old_files(tmp_path) -> None:
    code = (
        TINY
        + """
import resource
training(sys.argv[1], 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
training(sys.argv[1], 2)
"""
    )
    done = run(code, str(tmp_path))
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr
    assert "safetensors: cannot be saved: File too large; the file of that name is unchanged" in done.stderr
    assert load_checkpoint(tmp_path / "last.safetensors").epoch == 1
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


KILLED = (
    TINY
    + """
import random, signal, time

directory, kills, epochs = sys.argv[1], int(sys.argv[2]), 500
generator = random.Random(0)
reference = weights(training(os.path.join(directory, "whole"), epochs, saving=False))

parts = os.path.join(directory, "parts")
begin = time.perf_counter()
training(parts, 2)  # 8 steps, 6 files: what a process gets done in about this time on this machine
longest = time.perf_counter() - begin
for number in range(kills):
    child = os.fork()
    if child == 0:
        training(parts, epochs)
        os._exit(0)
    time.sleep(generator.uniform(0.0, longest))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    last = os.path.join(parts, "last.safetensors")
    for name in (last, os.path.join(parts, "best.safetensors")):
        if os.path.exists(name):
            load_checkpoint(name)  # verifies the checksum
reached = load_checkpoint(last).trainer["steps_done"]
assert weights(training(parts, epochs, saving=False)) == reference, "the run that was killed ended elsewhere"
print(reached)
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_kill_at_a_hundred_random_moments(tmp_path) -> None:
    """Each process goes on from what the one before left; in the end every bit is that of the run nobody disturbed."""
    done = run(KILLED, str(tmp_path), "100")
    assert done.returncode == 0, done.stderr
    assert 0 < int(done.stdout) < 2000
