"""Train a model, test it, and keep everything about the run in one directory.

Without options: LeNet-5 on the packaged handwritten digits."""

from __future__ import annotations

import argparse
import os
from typing import Any

from engine.cli.arguments import add_threads, integer, number, set_threads

HELP = "train a model; without options LeNet-5 on the packaged digits"

# Learning rates that suit small networks, by optimizer.
_LEARNING_RATES = {"sgd": 0.05, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "adagrad": 0.02}
_SCHEDULERS = ("cosine", "step", "constant")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options, named as in torchvision's and timm's training scripts."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data-path", default="digits", metavar="PATH", help='"digits", or an .npz file with images and labels'
    )
    data.add_argument("--val-fraction", type=number(0, 1, True), default=0.15, metavar="F", help="share for validation")
    data.add_argument("--test-fraction", type=number(0, 1, True), default=0.15, metavar="F", help="share for the test")
    data.add_argument("--img-size", type=integer(1), metavar="N", help="input height and width (default: the model's)")
    data.add_argument("--workers", type=integer(0), default=0, metavar="N", help="threads that prepare batches ahead")
    model = parser.add_argument_group("model and optimization")
    model.add_argument("--model", default="lenet5", metavar="NAME", help="a name of engine.models")
    model.add_argument("--epochs", type=integer(1), default=40, metavar="N", help="passes over the training part")
    model.add_argument("-b", "--batch-size", type=integer(1), default=64, metavar="N", help="images per step")
    model.add_argument("--opt", choices=sorted(_LEARNING_RATES), default="adam", help="optimizer")
    model.add_argument("--lr", type=number(0, open_low=True), metavar="RATE", help="learning rate (default: by --opt)")
    model.add_argument("--momentum", type=number(0, 1), default=0.9, metavar="M", help="of sgd and rmsprop")
    model.add_argument("--wd", "--weight-decay", type=number(0), default=0.0, metavar="W", help="weight decay")
    model.add_argument("--lr-scheduler", choices=_SCHEDULERS, default="cosine", help="how the learning rate changes")
    model.add_argument("--label-smoothing", type=number(0, 1), default=0.1, metavar="S", help="of the loss")
    model.add_argument(
        "--patience", type=int, default=15, metavar="N", help="epochs without improvement before an early stop; 0: none"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--seed", type=integer(0), default=0, metavar="N", help="of split, weights, order, augmentation")
    add_threads(run)
    run.add_argument("--output", metavar="DIR", help="directory of the run (default: runs/MODEL-DATA)")


def run(arguments: argparse.Namespace) -> int:
    """Trains, tests and saves."""
    import json
    import time

    import engine
    from engine import backend
    from engine.callbacks import Checkpoint, EarlyStopping, HistoryLog, Progress, StopOnNaN
    from engine.cli import tasks
    from engine.data import Compose, DataLoader, Preprocessing, RandomCrop
    from engine.data.images import statistics
    from engine.train import Trainer

    set_threads(arguments.threads)
    if arguments.lr is None:
        arguments.lr = _LEARNING_RATES[arguments.opt]
    if arguments.val_fraction + arguments.test_fraction >= 1:
        raise ValueError("--val-fraction and --test-fraction leave nothing to train on: their sum must be below 1")
    fractions = (
        1 - arguments.val_fraction - arguments.test_fraction,
        arguments.val_fraction,
        arguments.test_fraction,
    )
    splits = tasks.open_data(arguments.data_path, fractions, arguments.seed)
    classes = list(splits.data.classes or ())

    engine.manual_seed(arguments.seed)
    model_args = {"num_classes": len(classes)}
    model = tasks.make_model(arguments.model, model_args)
    stored = splits.data.arrays[0]
    size = arguments.img_size or (32 if arguments.model == "lenet5" else stored.shape[1])
    images = tasks.with_channels(stored, tasks.input_channels(model))
    kind = "digit" if arguments.data_path == "digits" else "image"
    unit = (1.0,) * images.shape[3]
    preprocessing = Preprocessing((size, size), unit, unit, kind)
    tasks.prepare(splits, preprocessing)
    mean, std = statistics(splits.data.arrays[0][splits.parts["train"]])
    preprocessing = Preprocessing((size, size), mean, std, kind)

    normalize = preprocessing.normalize()
    augment = Compose([RandomCrop(size, padding=max(1, size // 16)), normalize])
    options = {"batch_size": arguments.batch_size, "num_workers": arguments.workers, "seed": arguments.seed}
    train_loader = DataLoader(splits.part("train"), shuffle=True, transform=augment, **options)
    val_loader = DataLoader(splits.part("val"), transform=normalize, **options)
    test_loader = DataLoader(splits.part("test"), transform=normalize, **options)

    optimizer = _optimizer(arguments, model)
    directory = _make_directory(arguments)
    _write(directory, "args.json", json.dumps(_plain(arguments), indent=2) + "\n")
    contents = {
        "model_name": arguments.model,
        "model_args": model_args,
        "class_names": classes,
        "preprocessing": preprocessing.to_dict(),
        "data": splits.description,
        "arguments": _plain(arguments),
    }
    stopping = EarlyStopping("val_loss", arguments.patience)
    checkpoint = Checkpoint(directory, "val_loss", contents=contents)
    trainer = Trainer(
        model,
        engine.nn.CrossEntropyLoss(label_smoothing=arguments.label_smoothing),
        optimizer,
        scheduler=_scheduler(arguments, optimizer),
        callbacks=[StopOnNaN(), stopping, checkpoint, HistoryLog(directory), Progress()],
    )
    count = sum(int(parameter.numel()) for parameter in model.parameters())
    print(
        f"{arguments.model} ({count:,} parameters) on {os.path.basename(arguments.data_path)}: "
        f"{len(train_loader.dataset)} training, {len(val_loader.dataset)} validation, {len(test_loader.dataset)} test "
        f"images of {len(classes)} classes; {backend.num_threads()} threads, {backend.isa()}",
        flush=True,
    )
    begin = time.perf_counter()
    try:
        trainer.fit(train_loader, val_loader, epochs=arguments.epochs)
    except KeyboardInterrupt:
        if trainer.epoch:
            print(f"\ninterrupted after {trainer.epoch} whole epochs; their states are in {directory}", flush=True)
        raise
    seconds = time.perf_counter() - begin

    text, numbers = tasks.report(trainer.evaluate(test_loader), classes)
    speed = sum(row["images_per_second"] * row["seconds"] for row in trainer.history)
    speed /= sum(row["seconds"] for row in trainer.history)
    print(
        f"\ntrained {trainer.epoch} epochs in {seconds:.1f} s ({speed:,.0f} images/s), best epoch "
        f"{stopping.best_epoch}\n\ntest {text}\n"
    )
    numbers.update(best_epoch=stopping.best_epoch, epochs=trainer.epoch, seconds=seconds, images_per_second=speed)
    numbers["stop_reason"] = trainer.stop_reason
    _write(directory, "results.json", json.dumps(numbers, indent=2) + "\n")
    saved = ["best.safetensors", "last.safetensors", "args.json", "history.csv", "history.jsonl", "results.json"]
    saved += _plots(directory, trainer.history, stopping.best_epoch, numbers, classes)
    print(f"saved in {directory}: {', '.join(saved)}")
    print(f"next: engine evaluate {checkpoint.best_path}")
    return 0


def _optimizer(arguments: argparse.Namespace, model: Any) -> Any:
    from engine import optim

    options: dict[str, Any] = {"lr": arguments.lr, "weight_decay": arguments.wd}
    if arguments.opt in ("sgd", "rmsprop"):
        options["momentum"] = arguments.momentum
    kinds = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad"}
    return getattr(optim, kinds[arguments.opt])(model.parameters(), **options)


def _scheduler(arguments: argparse.Namespace, optimizer: Any) -> Any:
    from engine.optim import lr_scheduler

    if arguments.lr_scheduler == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, arguments.epochs)
    if arguments.lr_scheduler == "step":
        return lr_scheduler.StepLR(optimizer, max(1, arguments.epochs // 3), 0.1)
    return None


def _plain(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(arguments).items() if name != "run"}


def _make_directory(arguments: argparse.Namespace) -> str:
    """Makes the run's directory; an earlier run's is never written into."""
    data = os.path.splitext(os.path.basename(arguments.data_path))[0]
    wanted = arguments.output or os.path.join("runs", f"{arguments.model}-{data}")
    directory, number = wanted, 1
    while True:
        try:
            os.makedirs(directory)
            break
        except FileExistsError:
            if os.path.isdir(directory) and not os.listdir(directory):
                break
            number += 1
            directory = f"{wanted.rstrip(os.sep)}-{number}"
    if directory != wanted:
        print(f"{wanted} holds an earlier run: writing to {directory}")
    return directory


def _write(directory: str, name: str, text: str) -> None:
    from engine.io.atomic_file import open_atomic

    with open_atomic(os.path.join(directory, name)) as file:
        file.write(text.encode())


def _plots(
    directory: str, history: list[dict[str, Any]], best_epoch: int | None, numbers: dict[str, Any], classes: list[str]
) -> list[str]:
    from engine import plots

    try:
        plots.training_curves(history, os.path.join(directory, "curves.png"), best_epoch)
        plots.confusion_matrix(numbers["confusion_matrix"], os.path.join(directory, "confusion_matrix.png"), classes)
    except ImportError as error:
        print(f"no plots: {error}")
        return []
    return ["curves.png", "confusion_matrix.png"]
