"""The trainer's loop and events, and the callbacks."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest

import engine
from engine.callbacks import Callback, Checkpoint, EarlyStopping, HistoryLog, Progress, StopOnNaN
from engine.data import ArrayDataset, DataLoader
from engine.io import load_checkpoint
from engine.train import EVENTS, NonFiniteLossError, Trainer


def points(count: int = 96, seed: int = 0) -> ArrayDataset:
    values = np.random.default_rng(seed).normal(size=(count, 2)).astype(np.float32)
    return ArrayDataset(values, (values[:, 0] > values[:, 1]).astype(np.int64), classes=("left", "right"))


def loader(count: int = 96, shuffle: bool = True, seed: int = 0) -> DataLoader:
    return DataLoader(points(count, seed), batch_size=32, shuffle=shuffle)


def make(callbacks=(), lr: float = 0.5, momentum: float = 0.0, **options) -> Trainer:
    engine.manual_seed(1)
    model = engine.nn.Linear(2, 2)
    optimizer = engine.optim.SGD(model.parameters(), lr=lr, momentum=momentum)
    return Trainer(model, engine.nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def weights(trainer: Trainer) -> np.ndarray:
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in trainer.model.parameters()]).copy()


class Record(Callback):
    order = 99

    def __init__(self) -> None:
        self.events: list[str] = []


for _event in EVENTS:
    setattr(Record, _event, lambda self, trainer, event=_event: self.events.append(event))


class Scripted(Callback):
    """Replaces the validation loss by a script, to test those who watch it."""

    order = -99

    def __init__(self, losses) -> None:
        self.losses = losses

    def after_epoch(self, trainer: Trainer) -> None:
        trainer.row["val_loss"] = self.losses[trainer.epoch - 1]


def test_fit_learns_and_reports_every_epoch() -> None:
    trainer = make()
    history = trainer.fit(loader(), loader(seed=1), epochs=8)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert history[-1]["val_accuracy"] > 0.9
    assert set(history[0]) == {
        "epoch",
        "lr",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
        "data_seconds",
        "forward_seconds",
        "backward_seconds",
        "step_seconds",
        "data_share",
        "images_per_second",
    }
    for row in history:
        parts = [row[f"{part}_seconds"] for part in ("data", "forward", "backward", "step")]
        assert all(part > 0 for part in parts)
        assert sum(parts) <= row["seconds"]
        assert row["data_share"] == pytest.approx(row["data_seconds"] / row["seconds"])
    assert trainer.steps_done == 24


def test_the_loop_is_the_loop_one_would_write() -> None:
    trainer = make()
    trainer.fit(loader(), epochs=3)
    engine.manual_seed(1)
    model = engine.nn.Linear(2, 2)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.5)
    loss_fn, batches = engine.nn.CrossEntropyLoss(), loader()
    for _ in range(3):
        for inputs, targets in batches:
            loss = loss_fn(model(inputs), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    np.testing.assert_array_equal(
        weights(trainer), np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
    )


def test_fit_continues_where_it_stopped() -> None:
    whole, parted = make(momentum=0.9), make(momentum=0.9)
    whole.fit(loader(), epochs=4)
    parted.fit(loader(), epochs=1)
    parted.fit(loader(), epochs=4)
    np.testing.assert_array_equal(weights(whole), weights(parted))
    assert len(parted.history) == 4


def test_events_come_in_order_around_the_five_verbs() -> None:
    record = Record()
    make([record]).fit(DataLoader(points(4), batch_size=4), DataLoader(points(4), batch_size=4), epochs=1)
    verbs = [
        f"{when}_{verb}"
        for verb in ("predict", "loss", "backward", "step", "zero_grad")
        for when in ("before", "after")
    ]
    batch = ["before_batch", *verbs, "after_batch"]
    epoch = ["before_epoch", *batch, "before_evaluate", "after_evaluate", "after_epoch"]
    assert record.events == ["before_fit", *epoch, "after_fit", "close"]


def test_callbacks_run_in_their_order_and_misspelt_ones_are_refused() -> None:
    calls: list[str] = []

    class Late(Callback):
        order = 5

        def before_fit(self, trainer: Trainer) -> None:
            calls.append("late")

    class Plain:
        def before_fit(self, trainer: Trainer) -> None:
            calls.append("plain")

    make([Late(), Plain()]).fit(loader(), epochs=1)
    assert calls == ["plain", "late"]

    class Misspelt:
        def after_epochs(self, trainer: Trainer) -> None: ...

    with pytest.raises(ValueError, match=r"Misspelt\.after_epochs names no event"):
        make([Misspelt()])


def test_close_comes_after_an_error_too() -> None:
    record = Record()

    class Fails(Callback):
        def after_step(self, trainer: Trainer) -> None:
            raise RuntimeError("the disk burns")

    with pytest.raises(RuntimeError, match="the disk burns"):
        make([record, Fails()]).fit(loader(), epochs=1)
    assert record.events[-1] == "close"
    assert "after_fit" not in record.events


def test_verbs_can_be_overridden_and_used_alone() -> None:
    class Scaled(Trainer):
        def loss(self, outputs, targets):
            return 2 * super().loss(outputs, targets)

    model = engine.nn.Linear(2, 2)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.0)
    plain, scaled = Trainer(model, engine.nn.CrossEntropyLoss(), optimizer), Scaled(model, engine.nn.CrossEntropyLoss())
    assert scaled.evaluate(loader()).loss == pytest.approx(2 * plain.evaluate(loader()).loss, rel=1e-6)
    inputs, targets = next(iter(loader()))
    loss = plain.loss(plain.predict(inputs), targets)
    plain.backward(loss)
    plain.step()
    plain.zero_grad()


def test_evaluate_counts_every_sample_once_and_leaves_the_mode() -> None:
    trainer = make()
    trainer.model = engine.nn.Sequential(trainer.model, engine.nn.Dropout(0.9))
    trainer.model.train()
    data = points(50)
    result = trainer.evaluate(DataLoader(data, batch_size=32))
    assert trainer.model.training
    outputs = trainer.predict(DataLoader(data, batch_size=7))
    assert outputs.shape == (50, 2)
    assert trainer.model.training
    np.testing.assert_array_equal(result.predictions, outputs.argmax(1))
    np.testing.assert_array_equal(result.targets, data.labels)
    logits = outputs.astype(np.float64)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(50), data.labels]
    assert result.loss == pytest.approx(losses.mean(), rel=1e-5)
    assert result.accuracy == np.mean(outputs.argmax(1) == data.labels)
    assert result.samples == 50


def test_regression_has_no_accuracy() -> None:
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    data = ArrayDataset(values, values @ np.array([[1.0], [2.0], [3.0]], np.float32))
    model = engine.nn.Linear(3, 1)
    trainer = Trainer(model, engine.nn.MSELoss(), engine.optim.SGD(model.parameters(), lr=0.1))
    history = trainer.fit(DataLoader(data, batch_size=8), DataLoader(data, batch_size=8), epochs=5)
    assert "train_accuracy" not in history[0]
    assert history[-1]["val_loss"] < 0.1 * history[0]["train_loss"]
    assert trainer.evaluate(DataLoader(data, batch_size=8)).accuracy is None


def test_scheduler_steps_per_epoch_or_per_batch() -> None:
    for interval, want in (("epoch", [0.5, 0.25]), ("batch", [0.5, 0.0625])):
        trainer = make()
        trainer.scheduler = engine.optim.lr_scheduler.StepLR(trainer.optimizer, 1, 0.5)
        trainer.scheduler_interval = interval
        history = trainer.fit(loader(), epochs=2)
        assert [row["lr"] for row in history] == pytest.approx(want)
    with pytest.raises(ValueError, match="scheduler_interval"):
        make(scheduler_interval="step")


def test_nothing_to_train_on_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        make().fit(DataLoader(points(4), batch_size=8, drop_last=True))
    with pytest.raises(ValueError, match="at least one batch"):
        make().evaluate([])
    with pytest.raises(ValueError, match="at least one batch"):
        make().predict([])
    with pytest.raises(ValueError, match="expected an optimizer"):
        Trainer(engine.nn.Linear(2, 2), engine.nn.CrossEntropyLoss()).fit(loader())


# Callbacks.


def test_early_stopping_restores_the_best_weights() -> None:
    kept = {}

    class Keep(Callback):
        order = -50

        def after_epoch(self, trainer: Trainer) -> None:
            kept[trainer.epoch] = weights(trainer)

    stopping = EarlyStopping(patience=3)
    trainer = make([Keep(), Scripted([5.0, 3.0, 4.0, math.nan, 3.0, 1.0]), stopping])
    trainer.fit(loader(), loader(), epochs=6)
    assert trainer.epoch == 5
    assert stopping.best_epoch == 2
    assert "val_loss has not improved for 3 epochs" in str(trainer.stop_reason)
    np.testing.assert_array_equal(weights(trainer), kept[2])
    assert not np.array_equal(kept[5], kept[2])


def test_early_stopping_restores_also_after_the_last_epoch() -> None:
    stopping = EarlyStopping("train_loss", patience=0, mode="max")
    trainer = make([stopping])
    trainer.fit(loader(), epochs=3)
    assert trainer.epoch == 3
    assert stopping.best_epoch == 1


def test_early_stopping_counts_small_changes_as_none() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.5)
    trainer = make([Scripted([5.0, 4.8, 4.6, 4.0]), stopping])
    trainer.fit(loader(), loader(), epochs=4)
    assert (trainer.epoch, stopping.best_epoch) == (3, 1)


def test_monitoring_what_is_not_there_says_what_is() -> None:
    with pytest.raises(ValueError, match=r"cannot monitor 'val_loss'.*train_loss"):
        make([EarlyStopping()]).fit(loader(), epochs=1)
    with pytest.raises(ValueError, match="mode"):
        EarlyStopping(mode="least")


def test_nan_loss_stops_before_the_weights_are_touched() -> None:
    trainer = make([StopOnNaN()])
    data = points(96)
    data.arrays[0][70] = np.nan
    before = weights(make())
    with pytest.raises(NonFiniteLossError, match=r"loss is nan in epoch 1, batch 2: the inputs are not finite"):
        trainer.fit(DataLoader(data, batch_size=32), epochs=1)
    assert np.isfinite(weights(trainer)).all()
    assert not np.array_equal(weights(trainer), before)


def test_nan_in_a_parameter_is_named() -> None:
    trainer = make([StopOnNaN()])
    trainer.model.load_state_dict(
        {
            "weight": engine.from_numpy(np.full((2, 2), np.nan, np.float32)),
            "bias": engine.from_numpy(np.zeros(2, np.float32)),
        }
    )
    with pytest.raises(NonFiniteLossError, match="parameter weight is not finite; lower the learning rate"):
        trainer.fit(loader(), epochs=1)


def test_progress_lines_say_what_matters() -> None:
    stream = io.StringIO()
    make([Progress(stream)]).fit(loader(), loader(), epochs=2)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    for word in ("epoch 2/2", "loss", "acc", "val_loss", "val_acc", "img/s", "left 0:00"):
        assert word in lines[1]


def test_progress_bar_on_request() -> None:
    pytest.importorskip("tqdm")
    stream = io.StringIO()
    make([Progress(stream, bar=True)]).fit(loader(), loader(), epochs=1)
    text = stream.getvalue()
    for word in ("epoch 1/1 |", "/3", "img/s", "left", "val_acc"):
        assert word in text


def test_progress_does_without_tqdm(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    make([Progress(stream)]).fit(loader(), epochs=1)
    assert stream.getvalue().startswith("epoch 1/1")
    with pytest.raises(ImportError, match=r"engine\[train\]"):
        make([Progress(stream, bar=True)]).fit(loader(), epochs=1)


def test_history_files(tmp_path) -> None:
    trainer = make([Scripted([1.0, math.nan]), HistoryLog(tmp_path / "run")])
    trainer.fit(loader(), loader(), epochs=2)
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["train_loss"]) == trainer.history[0]["train_loss"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert lines[0]["train_loss"] == trainer.history[0]["train_loss"]
    assert lines[1]["val_loss"] is None


def test_checkpoints_of_best_and_last(tmp_path) -> None:
    callback = Checkpoint(tmp_path / "run", contents={"model_name": "line", "class_names": ["left", "right"]})
    trainer = make([Scripted([3.0, 1.0, 2.0]), callback], momentum=0.9)
    trainer.fit(loader(), loader(), epochs=3)
    best, last = load_checkpoint(callback.best_path), load_checkpoint(callback.last_path)
    assert (best.epoch, last.epoch) == (2, 3)
    assert best.model_name == "line"
    assert [row["val_loss"] for row in last.history] == [3.0, 1.0, 2.0]
    np.testing.assert_array_equal(last.model["weight"], trainer.model.weight.detach().numpy())


def test_a_run_that_continues_from_a_checkpoint_is_the_same_run(tmp_path) -> None:
    def parts():
        trainer = make([EarlyStopping(patience=0), Checkpoint(tmp_path)], momentum=0.9)
        trainer.scheduler = engine.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, 6)
        return trainer

    whole = parts()
    whole.fit(loader(), loader(seed=1), epochs=6)
    first = parts()
    first.fit(loader(), loader(seed=1), epochs=2)
    second = parts()
    load_checkpoint(tmp_path / "last.safetensors").restore(second.model, second.optimizer, second.scheduler, second)
    second.fit(loader(), loader(seed=1), epochs=6)
    np.testing.assert_array_equal(weights(second), weights(whole))
    assert [row["train_loss"] for row in second.history] == [row["train_loss"] for row in whole.history]


def test_plots_are_written(tmp_path) -> None:
    pytest.importorskip("matplotlib")
    from engine import plots

    history = make().fit(loader(), loader(), epochs=2)
    plots.training_curves(history, tmp_path / "curves.png", best_epoch=1)
    plots.confusion_matrix(np.array([[3, 1], [0, 4]]), tmp_path / "matrix.svg", ("left", "right"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "matrix.svg").read_bytes()
    with pytest.raises(ValueError, match="empty history"):
        plots.training_curves([], tmp_path / "none.png")
