"""Fine-tuning: what is frozen stays, features stand in for images, and less is computed and kept."""

from __future__ import annotations

import os

import numpy as np
import pytest

import engine
from engine import features, models, nn
from engine.callbacks import Callback, GradualUnfreezing
from engine.data import (
    ArrayDataset,
    Compose,
    DataLoader,
    Normalize,
    RandomCrop,
    RandomHorizontalFlip,
    Resize,
    Subset,
    digits,
)
from engine.io import CheckpointError, load_checkpoint
from engine.optim import param_groups
from engine.train import Trainer

NORMALIZE = Normalize((0.5,), (0.25,))
COLOUR = Normalize((0.5,) * 3, (0.25,) * 3)


def images(count: int = 48, seed: int = 0, channels: int = 1, size: int = 32) -> ArrayDataset:
    """Bright ones and dark ones."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = generator.integers(0, 100, (count, size, size, channels)) + 70 * labels[:, None, None, None]
    return ArrayDataset(pixels.astype(np.uint8), labels, classes=("dark", "grey", "bright"))


def model(seed: int = 0):
    engine.manual_seed(seed)
    return models.lenet5()


def state(module) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in module.state_dict().items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], tolerance: float = 0.0) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=tolerance, atol=tolerance, err_msg=name)


# What is frozen.


def small_resnet():
    engine.manual_seed(0)
    return models.ResNet(models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=3)


def reachable(tensor) -> list:
    """The recorded ops below a tensor."""
    seen: dict[int, object] = {}
    waiting = [tensor.node]
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen or not hasattr(node, "edges"):
            continue
        seen[id(node)] = node
        waiting += node.edges
    return list(seen.values())


def test_backward_stops_at_the_border_and_nothing_is_kept_below() -> None:
    net = small_resnet()
    net.train()
    batch = engine.randn(4, 3, 64, 64)

    def recorded() -> tuple[int, int]:
        """How many ops the output leads to, and the bytes that they keep."""
        output = net(batch)
        ops, held = len(reachable(output)), engine.memory_stats()["in_use"]
        del output
        return ops, held - engine.memory_stats()["in_use"]

    net.freeze()
    ops, kept = recorded()
    assert ops == 1  # the head's
    assert kept < 20_000  # its input and output
    net.unfreeze()
    ops, kept = recorded()
    assert ops > 20
    assert kept > 1_000_000  # the activations of 4 images
    # Half frozen: what is recorded begins at the third stage.
    net.freeze(up_to="layer2")
    assert recorded()[1] < 4 * 64 * 32 * 32 * 4  # bytes of the stem's output
    output = net(batch)
    output.sum().backward()
    assert {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None} == {"layer3", "layer4", "fc"}


@pytest.mark.parametrize("cache", [True, False])
def test_frozen_groups_are_untouched_statistics_included(cache: bool) -> None:
    net = small_resnet()
    before = state(net)
    engine.fine_tune(net, images(24, channels=3), 2, transform=COLOUR, freeze_epochs=2, batch_size=8, cache=cache)
    after = state(net)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert all(p.requires_grad for p in net.parameters())


def test_groups_thaw_one_after_the_other() -> None:
    seen: list[set[str]] = []
    modes: list[bool] = []

    class Look(Callback):
        def after_batch(self, trainer: Trainer) -> None:
            if trainer.batch_index == 0:
                named = trainer.model.named_parameters()
                seen.append({name.split(".")[0] for name, p in named if p.requires_grad})
                modes.append(trainer.model.layer1[0].bn1.training)

    net = small_resnet()
    engine.fine_tune(
        net, images(16, channels=3), 6, transform=COLOUR, freeze_epochs=1, batch_size=8, callbacks=[Look()]
    )
    assert seen[0] == {"fc"}
    assert seen[1] == {"layer4", "fc"}
    assert seen[3] == {"layer2", "layer3", "layer4", "fc"}
    assert seen[5] == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"}
    assert modes == [False] * 4 + [True, True]


# Parameter groups.


def test_rates_fall_towards_the_stem_and_norms_and_biases_do_not_decay() -> None:
    net = small_resnet()
    groups = param_groups(net, lr=0.1, weight_decay=0.01, layer_decay=0.5)
    placed = [p for group in groups for p in group["params"]]
    assert len(placed) == len({id(p) for p in placed}) == len(list(net.parameters()))
    by_parameter = {id(p): group for group in groups for p in group["params"]}
    for name, depth in (("conv1", 5), ("bn1", 5), ("layer1.0.conv1", 4), ("layer4.0.bn2", 1), ("fc", 0)):
        group = by_parameter[id(net.get_parameter(f"{name}.weight"))]
        assert group["lr"] == pytest.approx(0.1 * 0.5**depth)
        assert group["weight_decay"] == (0.0 if "bn" in name else 0.01)
    assert by_parameter[id(net.fc.bias)]["weight_decay"] == 0.0
    assert {g["weight_decay"] for g in param_groups(net, 0.1, 0.01, decay_1d=True)} == {0.01}
    with pytest.raises(ValueError, match="layer_decay"):
        param_groups(net, 0.1, layer_decay=0.0)
    with pytest.raises(ValueError, match="layer groups"):
        param_groups(nn.Linear(2, 2), 0.1, layer_decay=0.5)
    assert len(param_groups(nn.Linear(2, 2), 0.1)) == 2


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"])
def test_every_optimizer_keeps_the_options_of_its_groups(kind: str) -> None:
    layer = nn.Linear(3, 2)
    groups = [{"params": [layer.weight], "lr": 0.5, "weight_decay": 0.1}, {"params": [layer.bias], "lr": 0.0}]
    optimizer = getattr(engine.optim, kind)(groups, lr=0.3)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.0]
    bias, weight = layer.bias.detach().clone(), layer.weight.detach().clone()
    layer(engine.ones(4, 3)).square().sum().backward()
    optimizer.step()
    assert np.array_equal(layer.bias.detach().numpy(), bias.numpy())
    assert not np.array_equal(layer.weight.detach().numpy(), weight.numpy())


# Features.


@pytest.mark.parametrize(
    "name", ["lenet5", "resnet18", "mobilenet_v2", "squeezenet1_1", "googlenet", "densenet121", "efficientnet_b0"]
)
def test_features_and_tail_are_the_model(name: str) -> None:
    engine.manual_seed(0)
    lenet = name == "lenet5"
    net = models.get_model(name, num_classes=4).eval()
    batch = engine.randn(2, 1 if lenet else 3, 32 if lenet else 64, 32 if lenet else 64)
    tail = features.split_tail(net, batch)
    assert tail is not None
    with engine.no_grad():
        np.testing.assert_array_equal(tail(tail.features_of(batch)).numpy(), net(batch).numpy())
    held = {id(p) for module in tail.modules for p in module.parameters()}
    assert id(net.get_classifier().weight) in held
    dropouts = [m for m in net.modules() if isinstance(m, nn.Dropout)]
    if dropouts:
        assert any(m is dropouts[-1] for module in tail.modules for m in module.modules())


def test_a_model_that_ends_in_two_paths_has_no_tail() -> None:
    class Forked(type(model())):
        def forward_head(self, x):
            return super().forward_head(x) + 1.0

    assert features.split_tail(Forked().eval(), engine.randn(1, 1, 32, 32)) is None
    with pytest.raises(ValueError, match="not one path"):
        engine.fine_tune(Forked(), images(), 1, transform=NORMALIZE, cache=True)
    assert not engine.fine_tune(Forked(), images(), 1, transform=NORMALIZE).cached


def test_training_on_features_is_training_on_images(tmp_path) -> None:
    """The same order, batches, steps and schedule; also after the body has thawed."""
    options = {
        "epochs": 4,
        "freeze_epochs": 2,
        "transform": NORMALIZE,
        "batch_size": 16,
        "dropout": 0.3,
        "valid_data": 0.25,
    }
    stored, computed = model(), model()
    with_cache = engine.fine_tune(stored, images(), cache=True, cache_dir=tmp_path, **options)
    without = engine.fine_tune(computed, images(), cache=False, **options)
    assert (with_cache.cached, without.cached) == (True, False)
    assert len(os.listdir(tmp_path)) == 2  # of the training and of the validation part
    assert_same(state(stored), state(computed), 1e-5)
    for one, other in zip(with_cache.history, without.history):
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-5)


def counting(monkeypatch) -> list[int]:
    calls: list[int] = []
    original = features.compute_features

    def count(tail, loader):
        calls.append(len(loader.dataset))
        return original(tail, loader)

    monkeypatch.setattr(features, "compute_features", count)
    return calls


def test_features_are_found_again_and_keyed_by_content(tmp_path, monkeypatch) -> None:
    calls = counting(monkeypatch)

    def tune(net, data=None, **options):
        options = {"transform": NORMALIZE, "freeze_epochs": 1, "cache_dir": tmp_path, **options}
        return engine.fine_tune(net, data or images(), 1, **options)

    first = tune(model())
    assert len(calls) == 1
    again = tune(model())
    assert len(calls) == 1
    assert_same(state(first.model), state(again.model))
    tune(model(), seed=7)  # another head, another order: the same features
    assert len(calls) == 1
    others = [
        (model(seed=1), {}),
        (model(), {"data": images(seed=1)}),
        (model(), {"data": Subset(images(), range(40))}),
        (model(), {"transform": Normalize((0.4,), (0.25,))}),
    ]
    for number, (net, options) in enumerate(others, 2):
        tune(net, **options)
        assert len(calls) == number


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_damaged_features_are_computed_anew(tmp_path, monkeypatch, damage: str) -> None:
    calls = counting(monkeypatch)

    def tune() -> dict[str, np.ndarray]:
        net = model()
        engine.fine_tune(net, images(), 1, transform=NORMALIZE, freeze_epochs=1, cache_dir=tmp_path)
        return state(net)

    wanted = tune()
    (name,) = os.listdir(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    if damage == "flipped":
        content[-100] ^= 16
    (tmp_path / name).write_bytes({"truncated": content[:-7], "empty": b"", "foreign": b"PK" * 99}.get(damage, content))
    assert_same(tune(), wanted)
    assert len(calls) == 2
    assert_same(tune(), wanted)
    assert len(calls) == 2


def test_random_augmentation_is_never_kept() -> None:
    random = Compose([RandomCrop(32, padding=2), RandomHorizontalFlip(), NORMALIZE])
    assert not random.deterministic
    assert Compose([NORMALIZE]).deterministic
    assert not engine.fine_tune(model(), images(), 1, transform=random).cached
    assert not engine.fine_tune(model(), images(), 1, transform=lambda batch, chance: NORMALIZE(batch)).cached
    with pytest.raises(ValueError, match="augmentation is random"):
        engine.fine_tune(model(), images(), 1, transform=random, cache=True)


# The whole.


def test_it_learns_from_data_sets_and_loaders() -> None:
    result = engine.fine_tune(model(), images(), 6, valid_data=images(30, seed=1), transform=NORMALIZE, lr=3e-3)
    assert result.classes == ("dark", "grey", "bright")
    assert result.best["val_accuracy"] > 0.9
    assert result.best["val_loss"] == min(row["val_loss"] for row in result.history)
    held = DataLoader(images(30, seed=1), 16, transform=NORMALIZE)
    assert result.trainer.evaluate(held).loss == pytest.approx(result.best["val_loss"], rel=1e-5)
    training = DataLoader(images(), 16, shuffle=True, transform=NORMALIZE)
    same = engine.fine_tune(model(), training, 6, valid_data=held, lr=3e-3)
    assert same.cached
    assert same.best["val_accuracy"] > 0.9


def test_seed_and_result_are_repeatable() -> None:
    options = {"epochs": 3, "transform": NORMALIZE, "freeze_epochs": 1, "dropout": 0.2}
    one, other, third = model(), model(), model()
    engine.fine_tune(one, images(), seed=3, **options)
    engine.fine_tune(other, images(), seed=3, **options)
    engine.fine_tune(third, images(), seed=4, **options)
    assert_same(state(one), state(other))
    assert not np.array_equal(state(one)["classifier.4.weight"], state(third)["classifier.4.weight"])


@pytest.mark.parametrize("step", [2, 7, 13])
def test_resumption_is_exact_in_every_phase(tmp_path, step: int) -> None:
    class Die(Callback):
        order = 99

        def after_batch(self, trainer: Trainer) -> None:
            if trainer.steps_done == step:
                raise KeyboardInterrupt

    class SaveAlways(Callback):
        def before_fit(self, trainer: Trainer) -> None:
            for callback in trainer.callbacks:
                if hasattr(callback, "every_steps"):
                    callback.every_steps, callback.min_seconds = 1, 0.0

    options = {
        "epochs": 5,
        "freeze_epochs": 2,
        "transform": NORMALIZE,
        "valid_data": 0.25,
        "batch_size": 12,
        "dropout": 0.3,
        "ema": 0.9,
    }
    complete, partly = model(), model()
    whole = engine.fine_tune(complete, images(), checkpoint_dir=tmp_path / "whole", resume=True, **options)
    parts = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        engine.fine_tune(partly, images(), checkpoint_dir=parts, callbacks=[SaveAlways(), Die()], **options)
    again = model(seed=9)
    result = engine.fine_tune(again, images(), checkpoint_dir=parts, resume=True, **options)
    assert_same(state(again), state(complete))
    assert [row["train_loss"] for row in result.history] == [row["train_loss"] for row in whole.history]
    assert load_checkpoint(result.checkpoint_path).class_names == ["dark", "grey", "bright"]
    assert result.best["epoch"] == load_checkpoint(result.checkpoint_path).epoch


def test_resumption_that_does_not_fit(tmp_path) -> None:
    options = {"transform": NORMALIZE, "freeze_epochs": 1, "checkpoint_dir": tmp_path}
    engine.fine_tune(model(), images(), 1, **options)
    with pytest.raises(ValueError, match="began on other data"):
        engine.fine_tune(model(), images(seed=1), 2, resume=True, **options)
    with pytest.raises(CheckpointError, match="another model"):
        engine.fine_tune(small_resnet(), images(channels=3), 2, resume=True, **{**options, "transform": COLOUR})
    with pytest.raises(ValueError, match="checkpoint_dir"):
        engine.fine_tune(model(), images(), 1, transform=NORMALIZE, resume=True)


def test_regularisation_is_within_reach() -> None:
    def head(**options) -> np.ndarray:
        net = model()
        engine.fine_tune(net, images(), 2, transform=NORMALIZE, freeze_epochs=2, optimizer="sgd", lr=0.01, **options)
        return state(net)["classifier.4.weight"]

    plain = head(weight_decay=0.0)
    assert np.abs(head(l1=0.3, weight_decay=0.0)).sum() < 0.8 * np.abs(plain).sum()
    assert np.linalg.norm(head(weight_decay=5.0)) < 0.9 * np.linalg.norm(plain)
    for options in ({"label_smoothing": 0.5}, {"dropout": 0.5}, {"clip_norm": 0.01}, {"ema": 0.9}, {"accumulate": 2}):
        assert not np.array_equal(head(weight_decay=0.0, **options), plain), options


def test_dropout_leaves_no_trace() -> None:
    net = model()
    before = list(net.state_dict())
    engine.fine_tune(net, images(), 1, transform=NORMALIZE, dropout=0.9)
    assert list(net.state_dict()) == before
    batch = engine.randn(2, 1, 32, 32)
    net.train()
    np.testing.assert_array_equal(net(batch).detach().numpy(), net(batch).detach().numpy())
    with pytest.raises(ValueError, match="dropout"):
        engine.fine_tune(model(), images(), 1, transform=NORMALIZE, dropout=1.5)


def test_auxiliary_classifiers_learn_too() -> None:
    engine.manual_seed(0)
    net = models.get_model("googlenet", num_classes=3, aux_logits=True)
    before = state(net)
    data = images(4, channels=3, size=64)
    engine.fine_tune(net, data, 1, transform=COLOUR, freeze_epochs=0, unfreeze_every=0, batch_size=4, valid_data=data)
    assert not np.array_equal(before["aux1.conv.conv.weight"], net.state_dict()["aux1.conv.conv.weight"].numpy())


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="layer_groups"):
        engine.fine_tune(nn.Linear(2, 2), images(), 1)
    with pytest.raises(ValueError, match="expected float32 images, got uint8: pass transform="):
        engine.fine_tune(model(), images(), 1)
    with pytest.raises(ValueError, match="epochs"):
        engine.fine_tune(model(), images(), 0, transform=NORMALIZE)
    with pytest.raises(ValueError, match="optimizer"):
        engine.fine_tune(model(), images(), 1, transform=NORMALIZE, optimizer="lion")
    with pytest.raises(ValueError, match="share"):
        engine.fine_tune(model(), images(), 1, transform=NORMALIZE, valid_data=1.5)
    with pytest.raises(ValueError, match="share"):
        engine.fine_tune(model(), DataLoader(images(), 8), 1, valid_data=0.5)
    with pytest.raises(ValueError, match="image, class number"):
        engine.fine_tune(model(), ArrayDataset(np.zeros((4, 1, 32, 32), np.float32)), 1, num_classes=2)


def test_unfreezing_alone_works_with_any_trainer() -> None:
    net = model()
    optimizer = engine.optim.Adam(param_groups(net, 1e-3, layer_decay=0.8))
    trainer = Trainer(net, nn.CrossEntropyLoss(), optimizer, callbacks=[GradualUnfreezing(1)])
    before = state(net)
    trainer.fit(DataLoader(images(), 16, transform=NORMALIZE), epochs=1)
    assert np.array_equal(before["features.0.weight"], state(net)["features.0.weight"])
    assert not np.array_equal(before["classifier.4.weight"], state(net)["classifier.4.weight"])


def test_transfer_between_digits() -> None:
    """What a network learnt on the digits 0 to 4 helps it with thirty images of each of 5 to 9.

    It learns each of its digits in four rotations, twenty classes: five alone teach it too little that is of use.
    """
    pixels, labels = Resize((16, 16))(digits().arrays[0]), digits().labels
    normalize = Normalize((0.3,), (0.35,))
    low = np.flatnonzero(labels < 5)
    turned = np.concatenate([np.rot90(pixels[low], k, axes=(1, 2)) for k in range(4)])
    classes = np.concatenate([labels[low] * 4 + k for k in range(4)])
    shifted = Compose([RandomCrop(16, padding=2), normalize])
    loader = DataLoader(ArrayDataset(turned, classes), 32, shuffle=True, transform=shifted)
    engine.manual_seed(0)
    pretrained = models.resnet20(num_classes=20, in_chans=1)
    optimizer = engine.optim.SGD(pretrained.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    Trainer(pretrained, nn.CrossEntropyLoss(), optimizer, scheduler=schedule).fit(loader, epochs=6)

    def accuracy(weights: dict | None, seed: int) -> float:
        generator = np.random.default_rng(seed)
        members = [generator.permutation(np.flatnonzero(labels == label)) for label in range(5, 10)]
        few, others = (np.concatenate(part) for part in zip(*((m[:30], m[30:]) for m in members)))
        engine.manual_seed(1)
        net = models.resnet20(num_classes=20, in_chans=1)
        if weights is not None:
            net.load_state_dict(weights)
        options = {"batch_size": 16, "lr": 3e-3, "layer_decay": 1.0, "freeze_epochs": 0, "unfreeze_every": 0}
        data = ArrayDataset(pixels[few], labels[few] - 5)
        result = engine.fine_tune(net, data, 4, transform=normalize, seed=seed, **options)
        test = DataLoader(ArrayDataset(pixels[others], labels[others] - 5), 128, transform=normalize)
        return result.trainer.evaluate(test).accuracy

    weights = pretrained.state_dict()
    tuned, scratch = ([accuracy(start, seed) for seed in (1, 2, 3)] for start in (weights, None))
    assert np.mean(tuned) >= 0.97, (tuned, scratch)
    assert np.mean(tuned) >= np.mean(scratch) + 0.05, (tuned, scratch)
