"""Fine-tuning from end to end through the command line: weights in a .pth file, folders of PNGs, a tested model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import models
from engine.cli import main
from engine.data import ArrayDataset, Compose, DataLoader, Normalize, RandomCrop, Resize, digits
from engine.train import Trainer

PIL = pytest.importorskip("PIL.Image")
SIZE, FEW, HELD = 16, 30, 15  # pixels; training images of each class; images of each class that choose the epoch


def run(*arguments: object) -> int:
    return main([word for argument in arguments for word in str(argument).split()])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.asarray(Resize((SIZE, SIZE))(digits().arrays[0]))


@pytest.fixture(scope="module")
def weights(pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .pth file of a small ResNet that knows the digits 0 to 4 in four rotations: twenty classes."""
    labels = digits().labels
    low = np.flatnonzero(labels < 5)
    turned = np.concatenate([np.rot90(pixels[low], k, axes=(1, 2)) for k in range(4)])
    classes = np.concatenate([labels[low] * 4 + k for k in range(4)])
    shifted = Compose([RandomCrop(SIZE, padding=2), Normalize((0.3,), (0.35,))])
    loader = DataLoader(ArrayDataset(turned, classes), 32, shuffle=True, transform=shifted)
    engine.manual_seed(0)
    model = models.resnet20(num_classes=20, in_chans=1)
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, 6)
    Trainer(model, engine.nn.CrossEntropyLoss(), optimizer, scheduler=schedule).fit(loader, epochs=6)
    path = tmp_path_factory.mktemp("weights") / "low.pth"
    engine.save_weights(model, path)
    return path


def write_folders(root: Path, pixels: np.ndarray, seed: int) -> Path:
    """The digits 5 to 9 at random as train, val and test, each with a folder of PNG files per class."""
    generator = np.random.default_rng(seed)
    for label in range(5, 10):
        members = generator.permutation(np.flatnonzero(digits().labels == label))
        for part, indices in zip(("train", "val", "test"), np.split(members, (FEW, FEW + HELD))):
            place = root / part / str(label)
            place.mkdir(parents=True)
            for i in indices:
                PIL.fromarray(pixels[i, :, :, 0]).save(place / f"{i}.png")
    return root


def accuracy(directory: Path) -> float:
    results = json.loads((directory / "results.json").read_text())
    return float(results["accuracy"])


def test_fine_tuning_beats_training_from_scratch(pixels, weights, tmp_path, capsys) -> None:
    """The digits 5 to 9 from thirty images of each and three epochs, over three draws of the images.

    What is fine-tuned is compared with engine train, and with engine finetune from weights that know nothing: the same
    images, size, batches, optimizer, rate and loss, and no augmentation in any of them.
    """
    engine.manual_seed(1)
    engine.save_weights(models.resnet20(num_classes=20, in_chans=1), tmp_path / "random.pth")
    same = f"--model resnet20 --img-size {SIZE} --in-chans 1 --mean 0.3 --std 0.35 --crop-pct 1 --no-aug --epochs 3 "
    same += "--patience 0 --batch-size 16 --opt adamw --lr 0.003 --weight-decay 0.01 --clip-grad-norm 1"
    at_once = f"finetune {same} --layer-decay 1 --freeze-epochs 0 --unfreeze-every 0 --weights"
    commands = {
        "tuned": f"{at_once} {weights}",
        "random": f"{at_once} {tmp_path}/random.pth",
        "scratch": f"train {same}",
    }
    found: dict[str, list[float]] = {name: [] for name in commands}
    for seed in range(3):
        data = write_folders(tmp_path / f"high{seed}", pixels, seed)
        for name, words in commands.items():
            directory = tmp_path / f"{name}{seed}"
            assert run(words, "--data-path", data, "--seed", seed, "--output-dir", directory) == 0
            found[name].append(accuracy(directory))
    tuned, fresh, scratch = (np.mean(found[name]) for name in ("tuned", "random", "scratch"))
    assert tuned >= 0.97, found
    assert tuned >= scratch + 0.05, found
    assert tuned >= fresh + 0.05, found

    capsys.readouterr()
    assert run("predict", tmp_path / "tuned0", tmp_path / "high0" / "test" / "6", "--format jsonl --topk 1") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert np.mean([answer["predictions"][0]["class"] == "6" for answer in answers]) > 0.9
