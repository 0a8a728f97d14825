"""Averages, clipping, accumulation, criteria, checkpoints of the k best, TensorBoard, the learning-rate finder."""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import pytest

import engine
from engine import nn
from engine.callbacks import (
    EMA,
    SWA,
    Callback,
    Checkpoint,
    Convergence,
    EarlyStopping,
    GradientClipping,
    GradualUnfreezing,
    StopOnNaN,
    TensorBoard,
    update_bn,
)
from engine.data import ArrayDataset, DataLoader
from engine.io import load_checkpoint
from engine.train import NonFiniteLossError, Trainer

Weights = dict[str, np.ndarray]


def points(count: int = 96, seed: int = 0) -> ArrayDataset:
    values = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    return ArrayDataset(values, (values[:, 0] > values[:, 1]).astype(np.int64))


def loader(count: int = 96, batch_size: int = 32) -> DataLoader:
    return DataLoader(points(count), batch_size, shuffle=True)


def make(callbacks=(), lr: float = 0.5, norm: bool = False, **options) -> Trainer:
    engine.manual_seed(1)
    layers = [nn.Linear(3, 4), *([nn.BatchNorm1d(4)] if norm else []), nn.ReLU(), nn.Linear(4, 2)]
    model = nn.Sequential(*layers)
    optimizer = engine.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=callbacks, **options)


def weights(trainer: Trainer) -> Weights:
    return {name: value.numpy().astype(np.float64) for name, value in trainer.model.state_dict().items()}


class Keep(Callback):
    """The weights after every step and every epoch."""

    order = -50

    def __init__(self) -> None:
        self.steps: list[Weights] = []
        self.epochs: list[Weights] = []

    def after_step(self, trainer: Trainer) -> None:
        self.steps.append(weights(trainer))

    def after_epoch(self, trainer: Trainer) -> None:
        self.epochs.append(weights(trainer))


def assert_close(found: Weights, wanted: Weights, tolerance: float = 1e-6) -> None:
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


# Averages.


@pytest.mark.parametrize("warmup", [False, True])
def test_ema_is_the_average_by_its_formula(warmup: bool) -> None:
    keep, average = Keep(), EMA(0.9, warmup=warmup)
    trainer = make([keep, average])
    wanted = weights(trainer)
    trainer.fit(loader(), epochs=3)
    for step, now in enumerate(keep.steps, 1):
        decay = min(0.9, (1 + step) / (10 + step)) if warmup else 0.9
        wanted = {name: decay * wanted[name] + (1 - decay) * now[name] for name in now}
    assert_close(weights(trainer), wanted)
    assert average.count == len(keep.steps) == 9


def test_validation_and_the_best_checkpoint_go_by_the_average(tmp_path) -> None:
    keep, average = Keep(), EMA(0.9)
    trainer = make([keep, average, Checkpoint(tmp_path)], norm=True)
    history = trainer.fit(loader(), loader(40), epochs=2)
    last, best = load_checkpoint(tmp_path / "last.safetensors"), load_checkpoint(tmp_path / "best.safetensors")
    assert_close({k: v.astype(np.float64) for k, v in last.model.items()}, keep.epochs[-1], 0)
    assert best.epoch == 2
    for name, value in trainer.model.state_dict().items():
        np.testing.assert_array_equal(best.model[name], value.numpy())
    assert trainer.evaluate(loader(40)).loss == pytest.approx(history[-1]["val_loss"], rel=1e-6)
    assert not np.array_equal(best.model["0.weight"], last.model["0.weight"])


def test_early_stopping_restores_the_average_of_the_best_epoch() -> None:
    class Scripted(Callback):
        order = -99

        def after_epoch(self, trainer: Trainer) -> None:
            trainer.row["val_loss"] = [2.0, 1.0, 3.0][trainer.epoch - 1]

    class KeepAverage(Callback):
        order = 6

        def after_epoch(self, trainer: Trainer) -> None:
            kept.append({name: value.numpy().copy() for name, value in average.average.items()})

    kept: list[Weights] = []
    average = EMA(0.9)
    trainer = make([Scripted(), average, KeepAverage(), EarlyStopping(patience=0)])
    trainer.fit(loader(), loader(), epochs=3)
    assert_close(weights(trainer), kept[1], 0)


def test_swa_is_the_mean_of_the_last_epochs_with_new_statistics() -> None:
    keep = Keep()
    trainer = make([keep, SWA(start=0.5, lr=0.05)], norm=True)
    trainer.scheduler = engine.optim.lr_scheduler.CosineAnnealingLR(trainer.optimizer, 4)
    batches = loader()
    trainer.fit(batches, epochs=4)
    found = weights(trainer)
    names = [name for name in found if "running" not in name and "tracked" not in name]
    assert_close(found, {name: (keep.epochs[2][name] + keep.epochs[3][name]) / 2 for name in names})
    assert trainer.optimizer.param_groups[0]["lr"] != 0.5
    # One pass from nothing: the plain mean over batches of equal size is that of all samples.
    data = points().arrays[0].astype(np.float64) @ found["0.weight"].T + found["0.bias"]
    np.testing.assert_allclose(found["1.running_mean"], data.mean(0), rtol=1e-5, atol=1e-6)
    assert found["1.num_batches_tracked"] == 3


def test_averages_agree_with_torch() -> None:
    torch = pytest.importorskip("torch")
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    keep, average = Keep(), EMA(0.95, warmup=False)
    trainer = make([keep, average])
    begin = weights(trainer)
    trainer.fit(loader(), epochs=2)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

    def load(values: Weights) -> None:
        model.load_state_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})

    load(begin)
    theirs = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.95))
    theirs.update_parameters(model)
    for step in keep.steps:
        load(step)
        theirs.update_parameters(model)
    assert_close(weights(trainer), {k: v.numpy() for k, v in theirs.module.state_dict().items()})


def test_update_bn_leaves_frozen_norms_and_modes() -> None:
    class Frozen(nn.Sequential):
        def train(self, mode: bool = True):
            super().train(mode)
            self[0].training = False
            return self

    model = Frozen(nn.BatchNorm1d(3), nn.BatchNorm1d(3)).train()
    update_bn(loader(), model)
    assert model[0].running_mean.tolist() == [0, 0, 0]
    assert int(model[1].num_batches_tracked) == 3
    assert model[1].momentum == 0.1
    assert [m.training for m in model] == [False, True]


# Gradients.


@pytest.mark.parametrize("count", [96, 88, 90])  # the last update of 88: 32 + 24; of 90 in batches of 16: one of 26
def test_accumulation_is_the_big_batch(count: int) -> None:
    keep, big = Keep(), Keep()
    make([keep], accumulate=2).fit(loader(count, 16), epochs=2)
    make([big]).fit(loader(count, 32), epochs=2)
    assert len(keep.steps) == len(big.steps) == 6
    for small, whole in zip(keep.steps, big.steps):
        assert_close(small, whole, 2e-6)


def test_schedulers_step_with_the_updates() -> None:
    trainer = make(accumulate=2, scheduler_interval="batch")
    trainer.scheduler = engine.optim.lr_scheduler.StepLR(trainer.optimizer, 1, 0.5)
    trainer.fit(loader(96, 16), epochs=1)
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5 * 0.5**3
    with pytest.raises(ValueError, match="accumulate"):
        make(accumulate=0)


def gradients_of(clipping: GradientClipping) -> tuple[np.ndarray, np.ndarray]:
    seen: list[np.ndarray] = []

    class Look(Callback):
        def __init__(self, order: int) -> None:
            self.order = order

        def before_step(self, trainer: Trainer) -> None:
            seen.append(np.concatenate([p.grad.numpy().ravel() for p in trainer.model.parameters()]).copy())

    make([Look(-90), clipping, Look(90)]).fit(DataLoader(points(32), 32), epochs=1)
    return seen[0], seen[1]


def test_clipping() -> None:
    before, after = gradients_of(GradientClipping(max_norm=0.1))
    assert np.linalg.norm(before) > 0.1
    np.testing.assert_allclose(after, before * (0.1 / np.linalg.norm(before)), rtol=1e-4)
    before, after = gradients_of(GradientClipping(max_norm=1e3))
    np.testing.assert_array_equal(before, after)
    before, after = gradients_of(GradientClipping(max_value=0.02))
    np.testing.assert_array_equal(after, np.clip(before, -np.float32(0.02), np.float32(0.02)))
    before, after = gradients_of(GradientClipping(max_norm=0.05, norm_type=math.inf))
    assert np.abs(after).max() == pytest.approx(0.05, rel=1e-4)
    with pytest.raises(ValueError, match="GradientClipping"):
        GradientClipping()
    with pytest.raises(ValueError, match="positive"):
        GradientClipping(max_norm=-1.0)


class Explode(nn.Module):
    """Makes infinities in training, from the second batch on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x / 0.0 if self.calls > 1 else x


def test_nan_names_layer_and_batch_and_leaves_the_state() -> None:
    engine.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), Explode(), nn.Linear(4, 2))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), engine.optim.SGD(model.parameters(), lr=0.1), callbacks=[StopOnNaN()]
    )
    with pytest.raises(NonFiniteLossError, match=r"in epoch 1, batch 1: layer 3 \(Explode\) is the first"):
        trainer.fit(loader(), epochs=1)
    assert int(model[2].num_batches_tracked) == 2  # the repeated pass left no trace
    assert all(np.isfinite(p.detach().numpy()).all() for p in model.parameters())


def test_a_gradient_that_is_not_finite_is_named() -> None:
    class Root(nn.Module):
        def forward(self, x):
            return (x * 0.0).sqrt()

    model = nn.Sequential(nn.Linear(3, 2), Root(), nn.Linear(2, 2))
    before = model[0].weight.detach().clone()
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, callbacks=[StopOnNaN()])
    with pytest.raises(NonFiniteLossError, match=r"gradient of 0\.bias is not finite in epoch 1, batch 0"):
        trainer.fit(loader(), epochs=1)
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), before.numpy())
    assert model[0].weight.grad is None


# Ends, schedules, events.


def scripted(values, *callbacks) -> Trainer:
    class Script(Callback):
        order = -99

        def after_epoch(self, trainer: Trainer) -> None:
            trainer.row["val_loss"] = values[trainer.epoch - 1]

    return make([Script(), *callbacks])


def test_convergence_criterion() -> None:
    trainer = scripted([5.0, 3.0, 3.05, 3.5, 3.45, 3.4, 3.35, 1.0], Convergence(0.1, 3, "val_loss"))
    trainer.fit(loader(), epochs=8)
    assert trainer.epoch == 7
    assert trainer.stop_reason == "val_loss changed by less than 0.1 in each of 3 epochs"
    with pytest.raises(ValueError, match="Convergence"):
        Convergence(patience=0)


def test_plateau_follows_a_number() -> None:
    values = [1.0, 1.0, 1.0, 0.5]
    trainer = scripted(values)
    trainer.scheduler = engine.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, factor=0.1, patience=0)
    trainer.scheduler_monitor = "train_accuracy"
    trainer.fit(loader(), epochs=2)
    assert trainer.scheduler.last_epoch == 2
    trainer = make()
    trainer.scheduler = engine.optim.lr_scheduler.ReduceLROnPlateau(trainer.optimizer, mode="max", patience=0)
    trainer.fit(loader(), loader(), epochs=4)  # the loss falls, which is no improvement with mode="max"
    assert trainer.optimizer.param_groups[0]["lr"] < 0.5
    trainer.scheduler_monitor = "val_f1"
    with pytest.raises(ValueError, match=r"cannot follow 'val_f1': .*val_loss"):
        trainer.fit(loader(), loader(), epochs=5)


@pytest.mark.parametrize("name", ["on_epoch_end", "after_epochs", "before_fits"])
def test_unknown_events_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} names no event: expected one of before_fit"):
        make([type("Mine", (Callback,), {name: lambda self, trainer: None})()])


def test_two_callbacks_of_one_class_keep_their_own_states() -> None:
    first, second = Convergence(1.0, 9), Convergence(0.0, 9, "train_accuracy")
    trainer = make([first, second])
    trainer.fit(loader(), epochs=2)
    again = make([Convergence(1.0, 9), Convergence(0.0, 9, "train_accuracy")])
    again.load_state_dict(trainer.state_dict())
    assert [c.state_dict() for c in again.callbacks] == [first.state_dict(), second.state_dict()]
    assert first.state_dict() != second.state_dict()


def test_the_k_best_are_kept(tmp_path) -> None:
    callback = Checkpoint(tmp_path, "val_loss", top_k=2)
    scripted([3.0, 1.0, 4.0, 2.0, 5.0], callback).fit(loader(), epochs=5)
    names = sorted(name for name in os.listdir(tmp_path) if name.startswith("epoch"))
    assert names == ["epoch-0002-val_loss-1.safetensors", "epoch-0004-val_loss-2.safetensors"]
    assert [load_checkpoint(path).epoch for path in callback.top_paths] == [2, 4]
    accuracy = Checkpoint(tmp_path / "max", "val_loss", mode="max", top_k=1)
    scripted([3.0, 1.0, 4.0], accuracy).fit(loader(), epochs=3)
    assert [load_checkpoint(path).epoch for path in accuracy.top_paths] == [3]


def test_saving_may_wait_but_not_get_lost(tmp_path) -> None:
    keep, callback = Keep(), Checkpoint(tmp_path, "val_loss", min_seconds=3600.0)
    written: list[int] = []

    class Look(Callback):
        order = 50

        def after_epoch(self, trainer: Trainer) -> None:
            written.append(len(os.listdir(tmp_path)))

    scripted([3.0, 1.0, 4.0], keep, callback, Look()).fit(loader(), epochs=3)
    assert written == [0, 0, 2]
    best = load_checkpoint(callback.best_path)
    assert (best.epoch, load_checkpoint(callback.last_path).epoch) == (2, 3)
    assert_close({k: v.astype(np.float64) for k, v in best.model.items()}, keep.epochs[1], 0)


def test_gradual_unfreezing_needs_sensible_numbers() -> None:
    with pytest.raises(ValueError, match="GradualUnfreezing"):
        GradualUnfreezing(freeze_epochs=-1)
    model = engine.models.lenet5()
    assert [GradualUnfreezing(2, 1).frozen_groups(model, epoch) for epoch in range(6)] == [3, 3, 2, 1, 0, 0]
    assert [GradualUnfreezing(1, 2).frozen_groups(model, epoch) for epoch in range(7)] == [3, 2, 2, 1, 1, 0, 0]
    assert [GradualUnfreezing(1, 0).frozen_groups(model, epoch) for epoch in range(3)] == [3, 0, 0]


# TensorBoard.


def test_tensorboard_shows_the_numbers(tmp_path) -> None:
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto import event_pb2

    trainer = make([TensorBoard(tmp_path, every=2)])
    trainer.fit(loader(), epochs=2)
    (name,) = os.listdir(tmp_path)
    content, at, found = (tmp_path / name).read_bytes(), 0, {}
    while at < len(content):  # a record: length, its checksum, content, its checksum
        length = int.from_bytes(content[at : at + 8], "little")
        event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
        at += 12 + length + 4
    assert found["epoch/train_loss", 2] == pytest.approx(trainer.history[1]["train_loss"], rel=1e-6)
    assert ("batch/loss", 4) in found
    assert ("batch/loss", 3) not in found


def test_tensorboard_says_what_to_install(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"engine\[tensorboard\]"):
        make([TensorBoard(tmp_path)]).fit(loader(), epochs=1)


# The learning-rate finder.


def test_the_finder_finds_and_leaves_everything_as_it_was(tmp_path) -> None:
    trainer, batches = make(norm=True), loader()
    trainer.fit(batches, epochs=1)
    before, moments = weights(trainer), trainer.optimizer.state_dict()["state"][0]["momentum_buffer"].numpy().copy()
    random, epoch = engine.get_rng_state(), batches.epoch
    trainer.model.eval()
    found = engine.lr_find(trainer, batches, start=1e-5, end=100.0, steps=60)
    assert_close(weights(trainer), before, 0)
    np.testing.assert_array_equal(trainer.optimizer.state_dict()["state"][0]["momentum_buffer"].numpy(), moments)
    assert (engine.get_rng_state(), batches.epoch) == (random, epoch)
    assert not any(module.training for module in trainer.model.modules())
    assert trainer.optimizer.param_groups[0]["lr"] == 0.5
    assert all(p.grad is None for p in trainer.model.parameters())
    assert len(found.lrs) == len(found.losses) == len(found.smoothed) <= 60
    assert found.lrs[0] == pytest.approx(1e-5)
    assert np.all(np.diff(found.lrs) > 0)
    trainer.optimizer.param_groups[0]["lr"] = found.suggestion
    history = trainer.fit(batches, epochs=12)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    pytest.importorskip("matplotlib")
    found.plot(tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes()[:4] == b"\x89PNG"


def test_the_finder_stops_when_the_loss_explodes_and_keeps_proportions() -> None:
    engine.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
    groups = [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[1].parameters(), "lr": 0.2}]
    rates: list[tuple[float, float]] = []

    class Watched(Trainer):
        def step(self) -> None:
            rates.append(tuple(group["lr"] for group in self.optimizer.param_groups))
            super().step()

    values = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    data = DataLoader(ArrayDataset(values, values[:, :1] * 2), 16)
    trainer = Watched(model, nn.MSELoss(), engine.optim.SGD(groups, lr=0.1))
    found = engine.lr_find(trainer, data, start=1e-3, end=1e6, steps=100)
    assert found.diverged
    assert len(found.lrs) < 100
    assert all(b == pytest.approx(2 * a) for a, b in rates)
    assert 1e-3 < found.suggestion < 10
    with pytest.raises(ValueError, match="lr_find"):
        engine.lr_find(trainer, data, start=1.0, end=0.1)
    with pytest.raises(ValueError, match="at least one batch"):
        engine.lr_find(trainer, [])
