"""Training commands: what their options do, configurations, resumption, fine-tuning, search, and bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_data_standard import batch, digits_files

import engine
from engine import backend
from engine.cli import config, main, parse
from engine.data import ArrayDataset, digits

PIL = pytest.importorskip("PIL.Image")


def run(*arguments: object) -> int:
    return main([word for argument in arguments for word in str(argument).split()])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    backend.set_num_threads(1)


def folder(root: Path, labels, per_class: int, first: int = 0, size: int = 16) -> Path:
    """Digits as PNG files in a folder per class."""
    images, truth = digits().arrays[0][..., 0], digits().labels
    for label in labels:
        place = root / str(label)
        place.mkdir(parents=True)
        order = np.random.default_rng(0).permutation(np.flatnonzero(truth == label))
        for i in order[first : first + per_class]:
            PIL.fromarray(images[i]).resize((size, size), PIL.Resampling.BILINEAR).save(place / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    return folder(tmp_path_factory.mktemp("pictures"), (0, 1, 2), 20)


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Two classes of digits in memory: an epoch takes some milliseconds."""
    data = digits()
    which = np.flatnonzero(data.labels < 2)[:160]
    path = tmp_path_factory.mktemp("few") / "few.npz"
    np.savez(path, images=data.arrays[0][which], labels=data.labels[which])
    return path


SMALL = "--model lenet5 --in-chans 1 --img-size 32 --crop-pct 1 --crop none --hflip 0 --epochs 2 -b 16"


# --- options reach what they are for ---------------------------------------------------------------------------------


def setup(*words: str):
    from engine.cli import training

    arguments = parse(["train", *" ".join(words).split()])
    made = training.setup(arguments)
    return arguments, made, training.trainer(arguments, made, None)


def steps(*words: str) -> dict[str, object]:
    _, made, _ = setup(*words)
    return {type(step).__name__: step for step in made.train.transform.transforms}


def test_augmentation_options_become_transforms() -> None:
    plain = steps()
    assert list(plain) == ["RandomCrop", "Normalize"]
    words = "--crop resized --scale 0.5 0.9 --ratio 0.8 1.2 --hflip 0.3 --vflip 0.1 --rotation 15 --color-jitter 0.4 "
    words += "--aa ta_wide --reprob 0.25 --interpolation bicubic"
    found = steps(words)
    assert list(found) == [
        "RandomResizedCrop",
        "RandomHorizontalFlip",
        "RandomVerticalFlip",
        "RandomRotation",
        "TrivialAugmentWide",
        "ColorJitter",
        "RandomErasing",
        "Normalize",
    ]
    crop = found["RandomResizedCrop"]
    assert (tuple(crop.scale), tuple(crop.ratio), crop.interpolation) == ((0.5, 0.9), (0.8, 1.2), "bicubic")
    assert (found["RandomHorizontalFlip"].p, found["RandomVerticalFlip"].p, found["RandomErasing"].p) == (
        0.3,
        0.1,
        0.25,
    )
    assert steps("--auto-augment ra --ra-magnitude 5")["RandAugment"].magnitude == 5
    assert "AutoAugment" in steps("--auto-augment imagenet")


def test_no_augmentation_and_given_statistics() -> None:
    _, made, _ = setup("--no-aug --mean 0.25 --std 0.5")
    assert made.train.transform is made.val.transform
    assert (made.preprocessing.mean, made.preprocessing.std) == ((0.25,), (0.5,))


def test_optimization_options_reach_optimizer_schedule_and_callbacks() -> None:
    words = "--opt sgd_nesterov --lr 0.2 --momentum 0.7 --wd 0.01 --norm-weight-decay 0 --clip-grad-norm 2 --model-ema "
    words += "--model-ema-decay 0.5 --accumulate 2 --mixup 0.2 --cutmix 1 --smoothing 0.3 --monitor val_accuracy"
    _, _, trainer = setup(words)
    groups = trainer.optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {0.01, 0.0}
    assert all(group["nesterov"] and group["momentum"] == 0.7 and group["lr"] == 0.2 for group in groups)
    found = {type(callback).__name__: callback for callback in trainer.callbacks}
    assert found["GradientClipping"].max_norm == 2
    assert found["EMA"].decay == 0.5
    assert [type(mixer).__name__ for mixer in found["Mixing"].mixers] == ["MixUp", "CutMix"]
    assert (trainer.accumulate, trainer.loss_fn.label_smoothing) == (2, 0.3)
    assert found["EarlyStopping"].monitor == "val_accuracy"


@pytest.mark.parametrize(
    ("words", "rates"),
    [
        ("--sched constant", [1, 1, 1, 1]),
        ("--lr-scheduler steplr --lr-step-size 2", [1, 1, 0.1, 0.1]),
        ("--lr-scheduler exponentiallr --lr-gamma 0.5", [1, 0.5, 0.25, 0.125]),
        ("--lr-scheduler multisteplr --milestones 1 3 --decay-rate 0.5", [1, 0.5, 0.5, 0.25]),
        ("--lr-scheduler cosineannealinglr --lr-min 0.5", [1, 0.926777, 0.75, 0.573223]),
        ("--lr-scheduler poly", [1, 0.75, 0.5, 0.25]),
        ("--sched step --decay-epochs 1 --warmup-epochs 2 --warmup-factor 0.5", [0.5, 0.75, 1, 0.1]),
        ("--sched constant --lr-warmup-epochs 1 --lr-warmup-decay 0.1", [0.1, 1, 1, 1]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step")
def test_schedules(words: str, rates: list[float]) -> None:
    _, _, trainer = setup(f"--epochs 4 --lr 1 --opt sgd {words}")
    found = []
    for _ in range(4):
        found.append(trainer.optimizer.param_groups[0]["lr"])
        trainer.optimizer.step()
        if trainer.scheduler is not None:
            trainer.scheduler.step()
    assert found == pytest.approx(rates, abs=1e-6)


def test_schedules_by_step_and_by_result() -> None:
    _, made, trainer = setup("--sched onecycle --epochs 3 --accumulate 2")
    assert trainer.scheduler_interval == "batch"
    assert trainer.scheduler.total_steps == 3 * -(-len(made.train) // 2)
    _, _, trainer = setup("--sched plateau --patience-epochs 2 --lr-gamma 0.5")
    assert (trainer.scheduler.patience, trainer.scheduler.factor) == (2, 0.5)
    for wrong in ("--sched multistep", "--sched plateau --lr-warmup-epochs 1", "--sched onecycle --warmup-epochs 1"):
        with pytest.raises(ValueError, match="--"):
            setup(wrong)


def uneven(path: Path) -> Path:
    images = np.random.default_rng(0).integers(0, 255, (100, 8, 8), np.uint8)
    np.savez(path, images=images, labels=np.repeat([0, 1, 2], [70, 20, 10]))
    return path


def test_class_imbalance_options(tmp_path) -> None:
    data = uneven(tmp_path / "uneven.npz")
    _, made, trainer = setup(f"--data-path {data} --class-weights balanced")
    counts = np.bincount(made.train.dataset.labels)
    np.testing.assert_allclose(trainer.loss_fn.weight.numpy(), counts.sum() / (3 * counts), rtol=1e-6)
    for how, size in (("weighted", counts.sum()), ("over", 3 * counts.max()), ("under", 3 * counts.min())):
        _, made, _ = setup(f"--data-path {data} --sampler {how}")
        labels = made.train.dataset.labels[made.train.sampler.indices()]
        drawn = np.bincount(labels)
        assert drawn.sum() == size
        if how == "weighted":
            assert (np.abs(drawn / size - 1 / 3) < 0.2).all()
        else:
            assert len(set(drawn)) == 1


def test_model_options(tmp_path) -> None:
    _, made, _ = setup("--model resnet20 --num-classes 12 --in-chans 3 --img-size 16")
    assert made.model.num_classes == 12 and made.classes[10:] == ["class 10", "class 11"]
    assert made.preprocessing.size == (16, 16) and len(made.preprocessing.mean) == 3
    _, made, _ = setup("--model squeezenet1_1 --drop 0.1")
    assert [m.p for m in made.model.modules() if isinstance(m, engine.nn.Dropout)] == [0.1]
    with pytest.raises(ValueError, match="--num-classes 3"):
        setup("--num-classes 3")
    with pytest.raises(ValueError, match="no dropout"):
        setup("--drop 0.1")


def test_a_folder_in_parts(tmp_path, capsys) -> None:
    for part, first, count in (("train", 0, 12), ("val", 12, 4), ("test", 16, 4)):
        folder(tmp_path / "data" / part, (3, 4), count, first)
    _, made, _ = setup(f"--data-path {tmp_path}/data {SMALL}")
    assert [len(loader.dataset) for loader in (made.train, made.val, made.test)] == [24, 8, 8]
    assert made.classes == ["3", "4"]
    (tmp_path / "data/test/4").rename(tmp_path / "data/test/5")
    assert run("train --data-path", tmp_path / "data", SMALL, "--output", tmp_path / "none") == 1
    assert "the classes of test are not those of train: 4, 5" in capsys.readouterr().err


def contents(made) -> dict[str, list[bytes]]:
    """What is in the files of each part."""
    parts = {name: made.splits.part(name) for name in ("train", "val", "test")}
    return {name: [Path(part.content_of(i)[0]).read_bytes() for i in range(len(part))] for name, part in parts.items()}


def test_what_is_trained_on_is_not_tested_on(tmp_path, capsys) -> None:
    data = folder(tmp_path / "data", (0, 1), 20)
    originals = sorted(data.rglob("*.png"))
    for file in originals[:5]:
        shutil.copy(file, file.with_stem(f"copy of {file.stem}"))
    words = f"--data-path {data} {SMALL}"
    error = refused(capsys, "train", words, "--output-dir", tmp_path / "none")
    assert "5 pairs of images with the same content" in error and "--duplicates together" in error
    assert f"{originals[0]} = {data}/0/copy of {originals[0].name}" in error
    for seed in range(4):
        found = contents(setup(f"{words} --duplicates together --seed {seed}")[1])
        assert not set(found["train"]) & set(found["test"]) and not set(found["val"]) & set(found["test"])
        assert sum(len(part) for part in found.values()) == 45
    mixed = [contents(setup(f"{words} --duplicates allow --seed {seed}")[1]) for seed in range(4)]
    assert any(set(found["train"]) & set(found["test"]) for found in mixed)
    assert run("train", words, "--epochs 1 --duplicates together --output-dir", tmp_path / "run") == 0
    assert run("evaluate", tmp_path / "run") == 0


@pytest.mark.parametrize("with_val", [True, False])
def test_parts_that_are_there_already_have_nothing_in_common(tmp_path, capsys, with_val: bool) -> None:
    data = tmp_path / "data"
    for part, first, count in (("train", 0, 14), ("val", 14, 4), ("test", 18, 4))[:: 1 if with_val else 2]:
        folder(data / part, (3, 4), count, first)
    words = f"--data-path {data} {SMALL}"
    setup(words)
    original = next((data / "test" / "3").iterdir())
    copy = data / "train" / "3" / "z.png"
    shutil.copy(original, copy)
    error = refused(capsys, "train", words, "--output-dir", tmp_path / "none")
    assert f"1 pair of images with the same content: {original} (test) = {copy} (train)" in error
    found = contents(setup(f"{words} --duplicates together")[1])
    assert original.read_bytes() in found["test"] and original.read_bytes() not in found["train"] + found["val"]
    found = contents(setup(f"{words} --duplicates allow")[1])
    assert sum(part.count(original.read_bytes()) for part in found.values()) == 2


def test_training_crops_see_the_whole_image_and_evaluation_the_middle(tmp_path) -> None:
    """Of images twice as wide as high, red on the left and blue on the right, both ends turn up in training."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(10):
            pixels = np.zeros((20, 40, 3), np.uint8)
            pixels[:, :10, 0] = pixels[:, 30:, 2] = 200
            pixels[0, 20, 1] = i + 10 * (label == "b")  # no two alike
            PIL.fromarray(pixels).save(tmp_path / label / f"{i}.png")
    words = f"--data-path {tmp_path} --model resnet20 --img-size 8 --crop-pct 1 --mean 0 --std 1 --hflip 0"
    _, made, _ = setup(words)
    reach = np.max([inputs.numpy().max(axis=(0, 2, 3)) for _ in range(5) for inputs, _ in made.train], axis=0)
    assert reach[0] > 0.75 and reach[2] > 0.75
    for crop in ("none", "padded"):
        _, made, _ = setup(f"{words} --crop {crop}")
        for loader in (made.train, made.test):
            inputs = next(iter(loader))[0].numpy()
            assert inputs.shape[1:] == (3, 8, 8)
            assert inputs[:, [0, 2]].max() < 0.4
    from engine.cli import tasks

    shown = tasks.Pictures(made.splits, "test", made.preprocessing)[0]
    np.testing.assert_allclose(shown / np.float32(255), inputs[0].transpose(1, 2, 0), atol=1e-6)


def test_a_table_of_paths_and_labels(tmp_path) -> None:
    files = sorted(folder(tmp_path / "images", (3, 4), 10).rglob("*.png"))
    rows = [f"{file.relative_to(tmp_path)},{'three' if file.parent.name == '3' else 'four'}" for file in files]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    _, made, _ = setup(f"--data-path {tmp_path}/table.csv {SMALL}")
    assert made.classes == ["four", "three"]
    assert [len(loader.dataset) for loader in (made.train, made.val, made.test)] == [14, 3, 3]
    whole = made.train.dataset.dataset
    assert [label == 1 for label in whole.targets] == [Path(path).parent.name == "3" for path in whole.paths]
    assert next(iter(made.val))[0].shape == (3, 1, 32, 32)
    assert run("train --data-path", tmp_path / "table.csv", SMALL, "--output-dir", tmp_path / "run") == 0
    assert run("evaluate", tmp_path / "run") == 0
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows[2:]]) + "\n")
    assert run("evaluate", tmp_path / "run") == 1  # its test part would be another


@pytest.mark.parametrize("place", ["", "{kind}", "{kind}/raw"])
@pytest.mark.parametrize("kind", ["MNIST", "FashionMNIST"])
def test_files_of_mnist(tmp_path, kind: str, place: str) -> None:
    (tmp_path / kind / "raw").mkdir(parents=True)
    for name, content in digits_files(60).items():
        (tmp_path / kind / "raw" / f"{name}.gz").write_bytes(gzip.compress(content))
    _, made, _ = setup(f"--data-path {tmp_path / place.format(kind=kind)}")
    assert made.classes == list(getattr(engine.data, kind).names)
    assert [len(loader.dataset) for loader in (made.val, made.test)] == [60 - len(made.train.dataset), 30]
    assert 40 <= len(made.train.dataset) < 60
    inputs, labels = next(iter(made.test))
    assert inputs.shape == (30, 1, 32, 32)
    want = getattr(engine.data, kind)(tmp_path, train=False).targets
    assert labels.tolist() == want.tolist()
    names = [type(step).__name__ for step in made.train.transform.transforms]
    assert ("RandomHorizontalFlip" in names) == (kind == "FashionMNIST")


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("classes", [10, 100])
def test_files_of_cifar(tmp_path, classes: int, flat: bool) -> None:
    place = tmp_path / ("cifar-10-batches-py" if classes == 10 else "cifar-100-python")
    place.mkdir()
    key = "labels" if classes == 10 else "fine_labels"
    names = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"] if classes == 10 else ["train", "test"]
    for seed, name in enumerate(names):
        (place / name).write_bytes(batch(20 if classes == 10 else 100, key, seed))
    path = place if flat else tmp_path
    _, made, _ = setup(f"--data-path {path} --model resnet20")
    kind = engine.data.CIFAR10 if classes == 10 else engine.data.CIFAR100
    assert made.classes == list(kind.names)
    inputs, labels = next(iter(made.test))
    test = kind(tmp_path, train=False)
    count = min(len(test), 64)
    assert inputs.shape == (count, 3, 32, 32)
    assert labels.tolist() == test.targets[:count].tolist()
    steps = made.preprocessing
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (steps.mean, steps.std))
    np.testing.assert_allclose(inputs.numpy(), (test.data[:count].transpose(0, 3, 1, 2) / 255 - mean) / std, atol=1e-5)
    assert len(made.train.dataset) + len(made.val.dataset) == 100


def test_of_two_standard_data_sets_in_a_folder_one_must_be_named(tmp_path, capsys) -> None:
    for place, name in (("cifar-10-batches-py", "data_batch_1"), ("cifar-100-python", "train")):
        (tmp_path / place).mkdir()
        (tmp_path / place / name).touch()
    assert "the files of CIFAR10, CIFAR100 are in it" in refused(capsys, "train --data-path", tmp_path)
    (tmp_path / "cifar-100-python" / "train").unlink()
    assert "damaged" in refused(capsys, "train --data-path", tmp_path)


def test_images_that_would_fill_the_memory_are_resized_when_asked_for(few, monkeypatch) -> None:
    words = f"--data-path {few} --img-size 20 --no-aug"
    _, stored, _ = setup(words)
    monkeypatch.setattr("engine.cli.tasks._LARGEST", 1000)
    _, lazy, _ = setup(words)
    assert isinstance(stored.test.dataset.dataset, ArrayDataset)
    assert not isinstance(lazy.test.dataset.dataset, ArrayDataset)
    for (one, labels), (other, others) in zip(stored.train, lazy.train, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=0.05)  # statistics of 500 images, not of all
        assert labels.tolist() == others.tolist()


# --- from folder to report -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory) -> Path:
    backend.set_num_threads(1)
    directory = tmp_path_factory.mktemp("folder-run") / "run"
    assert (
        run("train --data-path", pictures, SMALL, "--epochs 6 --lr 0.005 --print-freq 2 --output-dir", directory) == 0
    )
    return directory


def test_a_folder_is_trained_on_tested_and_reported(trained, pictures, capsys, tmp_path) -> None:
    names = set(os.listdir(trained))
    assert {"args.json", "environment.json", "results.json", "predictions.npz", "report.html"} <= names
    assert json.loads((trained / "args.json").read_text())["print_freq"] == 2
    assert json.loads((trained / "results.json").read_text())["accuracy"] > 0.8
    page = (trained / "report.html").read_text()
    for text in ("First filters", "Confusion matrix", "print_freq", "instruction set"):
        assert text in page
    assert run("evaluate", trained, "--output", tmp_path / "numbers.json") == 0
    again = json.loads((tmp_path / "numbers.json").read_text())
    assert again["confusion_matrix"] == json.loads((trained / "results.json").read_text())["confusion_matrix"]
    assert run("report", trained, "--output", tmp_path / "again.html") == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page
    assert run("report", trained, "--data-path /no/such --output", tmp_path / "bare.html") == 0
    assert "Without pictures" in (tmp_path / "bare.html").read_text()
    assert run("report", pictures) == 1
    assert "not the directory of a finished run" in capsys.readouterr().err


def test_predict_takes_folders_and_patterns_and_writes_tables(trained, pictures, capsys, tmp_path) -> None:
    assert run("predict", trained, pictures / "1", "--format json --topk 2 -b 7") == 0
    answers = json.loads(capsys.readouterr().out)
    assert len(answers) == 20
    assert np.mean([answer["predictions"][0]["class"] == "1" for answer in answers]) > 0.8
    assert run("predict", trained, f"{pictures}/*/1*.png", "--output", tmp_path / "all.csv") == 0
    with open(tmp_path / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    assert list(rows[0]) == ["file", "class1", "probability1", "class2", "probability2", "class3", "probability3"]
    assert sum(float(rows[0][f"probability{k}"]) for k in (1, 2, 3)) == pytest.approx(1, abs=1e-5)
    (tmp_path / "empty").mkdir()
    for nothing in (tmp_path / "empty", f"{tmp_path}/*.gif"):
        assert run("predict", trained, nothing) == 1
        assert str(nothing) in capsys.readouterr().err


# --- configuration and resumption ------------------------------------------------------------------------------------


def test_a_configuration_gives_defaults_and_options_come_first(tmp_path) -> None:
    pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    toml = tmp_path / "a.toml"
    toml.write_text('epochs = 7\nlr-scheduler = "step"\nwd = 0.5\nscale = [0.2, 0.9]\nmodel_ema = true\n')
    found = parse(["train", "--config", str(toml), "--epochs", "3"])
    assert (found.epochs, found.lr_scheduler, found.weight_decay) == (3, "step", 0.5)
    assert (found.scale, found.model_ema) == ([0.2, 0.9], True)
    (tmp_path / "a.json").write_text(json.dumps({"batch_size": 8, "lr": None}))
    assert parse(["train", "--config", str(tmp_path / "a.json")]).batch_size == 8


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"epoch": 3}', "there is no option 'epoch': did you mean epochs?"),
        ('{"epochs": 0}', "epochs: expected a whole number of at least 1, got '0'"),
        ('{"opt": "magic"}', "opt: expected one of adagrad"),
        ('{"model_ema": 1}', "model_ema: expected true or false"),
        ('{"scale": [1]}', "scale: expected 2 values"),
        ('{"lr": [1, 2]}', "lr: expected one value"),
        ('{"lr": true}', "lr: expected a number or a text"),
        ('{"command": "finetune"}', "options of engine finetune, not of engine train"),
        ("[1]", "expected options by name"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_wrong_with_a_configuration_is_usage(content: str, words: str, tmp_path, capsys) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(SystemExit) as caught:
        parse(["train", "--config", str(tmp_path / "a.json")])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_configurations_that_cannot_be_read(tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "a.yaml").write_text("")
    (tmp_path / "a.toml").write_text("lr = ")
    for path, words in (("none.json", "No such file"), ("a.yaml", ".toml or .json"), ("a.toml", "nvalid")):
        with pytest.raises(SystemExit):
            parse(["train", "--config", str(tmp_path / path)])
        assert words in capsys.readouterr().err
    for name in ("tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        parse(["train", "--config", str(tmp_path / "a.toml")])
    assert 'TOML needs Python 3.11, or: pip install "engine[train]"' in capsys.readouterr().err


def test_the_arguments_of_a_run_are_a_configuration(trained, tmp_path) -> None:
    assert run("train --config", trained / "args.json", "--output-dir", tmp_path / "again") == 0
    for name in ("history.jsonl",):
        rows = [
            [json.loads(line)["train_loss"] for line in (place / name).read_text().splitlines()]
            for place in (trained, tmp_path / "again")
        ]
        assert rows[0] == rows[1]


def losses(directory: Path) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (directory / "history.jsonl").read_text().splitlines()]


def test_ctrl_c_saves_and_resume_goes_on_as_if_nothing_had_happened(tmp_path, few, monkeypatch, capsys) -> None:
    from engine.train import Trainer

    options = f"--data-path {few} --epochs 4 --seed 3 --opt sgd --lr-warmup-epochs 1 --mixup 0.2 -b 8"
    assert run("train", options, "--output-dir", tmp_path / "whole") == 0
    step = Trainer.step

    def interrupted(self) -> None:
        step(self)
        if self.epoch == 2 and self.batch_index == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert run("train", options, "--output-dir", tmp_path / "parted") == 130
    captured = capsys.readouterr()
    assert f"engine train --resume {tmp_path / 'parted'} goes on" in captured.out
    assert captured.err.strip() == "interrupted"
    monkeypatch.undo()
    assert run("train --resume", tmp_path / "parted") == 0
    assert losses(tmp_path / "parted") == losses(tmp_path / "whole")
    assert (tmp_path / "parted" / "report.html").exists()
    assert sorted(os.listdir(tmp_path)) == ["parted", "whole"]


def test_resume_may_go_further(few, tmp_path, capsys) -> None:
    assert run("train --epochs 2 --data-path", few, "--output-dir", tmp_path / "run") == 0
    assert run("train --epochs 3 --resume", tmp_path / "run") == 0
    assert len(losses(tmp_path / "run")) == 3
    with pytest.raises(SystemExit) as caught:
        parse(["train", "--resume", str(tmp_path / "none")])
    assert caught.value.code == 1


def test_sigterm_is_exit_code_143(tmp_path) -> None:
    command = [sys.executable, "-m", "engine", "train", "--epochs", "100000", "--patience", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--output-dir", str(tmp_path / "run")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 143, out + errors
    assert errors.strip() == "terminated"
    assert run("evaluate", tmp_path / "run" / "last.safetensors") == 0


def test_test_only_tests_and_writes_nothing(trained, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = json.loads((trained / "args.json").read_text())
    words = f"--test-only --weights {trained} --data-path {arguments['data_path']}"
    assert run("train", words) == 0
    assert "test accuracy" in capsys.readouterr().out
    assert os.listdir(tmp_path) == []
    assert run("train --test-only") == 1
    assert "--test-only needs weights" in capsys.readouterr().err


# --- bad input -------------------------------------------------------------------------------------------------------


def refused(capsys, *arguments: object) -> str:
    assert run(*arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"engine {str(arguments[0]).split()[0]}: error: ")
    assert error.count("\n") == 1 and "Traceback" not in error
    return error


def test_bad_data_is_one_line(tmp_path, capsys) -> None:
    out = f"--output-dir {tmp_path / 'out'}"
    assert "/no/such: no such file or folder" in refused(capsys, "train --data-path /no/such", out)
    assert "no folders in it" in refused(capsys, "train --data-path", tmp_path, out)
    folder(tmp_path / "data", (0, 1), 6)
    (tmp_path / "data" / "empty").mkdir()
    assert "of class empty" in refused(capsys, "train --data-path", tmp_path / "data", out)
    (tmp_path / "data" / "empty").rmdir()
    (tmp_path / "notes.txt").write_text("x")
    assert "expected a folder" in refused(capsys, "train --data-path", tmp_path / "notes.txt", out)
    for number, file in enumerate((tmp_path / "data/0").iterdir()):
        file.write_bytes(b"no image %d" % number)
    assert "not an image" in refused(capsys, "train --data-path", tmp_path / "data", SMALL, out)


def test_bad_weights_are_one_line(trained, pictures, tmp_path, capsys) -> None:
    data = f"--data-path {pictures} --output-dir {tmp_path / 'out'}"
    assert "no file '/no/such.pth'" in refused(capsys, "finetune --weights /no/such.pth", data)
    (tmp_path / "bad.pth").write_bytes(b"PK\x03\x04 nonsense")
    assert "bad.pth" in refused(capsys, "finetune --weights", tmp_path / "bad.pth", data)
    engine.save_weights(engine.models.resnet20(), tmp_path / "other.pth")
    error = refused(capsys, "finetune --model resnet18 --weights", tmp_path / "other.pth", data)
    assert "other.pth: not the weights of a resnet18" in error
    error = refused(capsys, "finetune --model resnet20 --weights", trained, data)
    assert f"{trained}: a checkpoint of lenet5, not of resnet20" in error
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_ends_it_before_training(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("x")
    error = refused(capsys, "train --epochs 1 --output-dir", tmp_path / "file")
    assert str(tmp_path / "file") in error
    assert "file" in refused(capsys, "train --epochs 1 --output-dir", tmp_path / "file" / "below")
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        assert "locked" in refused(capsys, "train --epochs 1 --output-dir", tmp_path / "locked")


def test_a_traceback_on_request(tmp_path, capsys, monkeypatch) -> None:
    assert run("train --data-path /no/such --debug") == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ENGINE_VERBOSE", "1")
    assert run("train --data-path /no/such") == 1
    assert "Traceback" in capsys.readouterr().err


# --- searching -------------------------------------------------------------------------------------------------------


def test_lr_find_suggests_a_rate(tmp_path, few, capsys) -> None:
    assert run("lr-find --steps 60 --data-path", few, "-b 16 --output-dir", tmp_path / "lr") == 0
    found = json.loads((tmp_path / "lr" / "lr_find.json").read_text())
    assert 1e-5 < found["suggestion"] < 1e-1
    assert f"suggested learning rate: {found['suggestion']:.3g}" in capsys.readouterr().out
    assert (tmp_path / "lr" / "lr_find.png").exists()


def test_tune_searches_and_goes_on(tmp_path, few, capsys) -> None:
    pytest.importorskip("optuna")
    words = f"tune --data-path {few} --img-size 32 --epochs 2 --trials 3 --search lr=1e-4..1e-1:log opt=adam,sgd "
    words += "batch_size=64..128 --output-dir"
    assert run(words, tmp_path / "tune") == 0
    assert run(words, tmp_path / "tune") == 0
    out = capsys.readouterr().out
    assert "goes on after 3 trials" in out and "trial   5" in out
    best = json.loads((tmp_path / "tune" / "best.json").read_text())
    assert 1e-4 <= best["lr"] <= 1e-1 and best["opt"] in ("adam", "sgd") and 64 <= best["batch_size"] <= 128
    found = parse(["train", "--config", str(tmp_path / "tune" / "best.json")])
    assert (found.lr, found.opt, found.batch_size, found.epochs) == (best["lr"], best["opt"], best["batch_size"], 2)
    trials = [line.split()[3] for line in out.splitlines() if line.startswith("trial")]
    settings = [line.split("lr ")[1] for line in out.splitlines() if line.startswith("trial")]
    assert len(trials) == 6 and len(set(settings)) == 6
    with pytest.raises(SystemExit):
        run("tune --search speed=1..2")
    assert "there is no option --speed" in capsys.readouterr().err
    assert run(words, tmp_path / "tune", "--monitor val_accuracy") == 1


def test_tune_prunes_what_is_hopeless(tmp_path, few, capsys) -> None:
    pytest.importorskip("optuna")
    words = "--epochs 3 --trials 12 -b 8 --search lr=1e-7,3e-3 --output-dir"
    assert run("tune --data-path", few, words, tmp_path / "tune") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("trial")]
    assert any(" pruned " in line and "lr 1e-7" in line for line in lines)
    assert json.loads((tmp_path / "tune" / "best.json").read_text())["lr"] == 3e-3


def test_tune_without_optuna_names_the_extra(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert 'pip install "engine[tune]"' in refused(capsys, "tune")


def test_every_option_can_be_configured() -> None:
    """What engine train saves beside its results it also takes back."""
    found = vars(parse(["train"]))
    assert set(found) - {"run", "parser", "command"} == config.dests(found["parser"]) | {"config", "debug", "resume"}
