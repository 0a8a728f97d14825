"""From options to a training: data, model, optimizer, schedule, callbacks; and what is kept of it."""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import engine
from engine import backend, optim
from engine.callbacks import (
    EMA,
    Callback,
    Checkpoint,
    EarlyStopping,
    GradientClipping,
    HistoryLog,
    Mixing,
    Progress,
    StopOnNaN,
)
from engine.cli import tasks
from engine.cli.options import SCHEDULERS
from engine.data import ArrayDataset, DataLoader, Preprocessing, Sampler
from engine.data.images import statistics
from engine.optim import lr_scheduler
from engine.train import Trainer

# Learning rates that suit small networks, by optimizer.
_LEARNING_RATES = {"sgd": 0.05, "sgd_nesterov": 0.05, "adam": 0.002, "adamw": 0.002, "rmsprop": 0.001, "adagrad": 0.02}
_CLASSES = {"adagrad": "Adagrad", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD"}
_WHOLE_CROP = 0.875  # of the shorter side of image files: 224 of 256


@dataclass
class Setup:
    """What training works on.

    Attributes:
        splits: the data.
        model: the model, its head made for the classes of the data.
        model_name: by which `engine.models.get_model` knows it.
        model_args: the further arguments of that call.
        preprocessing: from images to inputs.
        train, val, test: loaders.
        origin: where the weights came from, in words; "" for new ones.
    """

    splits: tasks.Splits
    model: Any
    model_name: str
    model_args: dict[str, Any]
    preprocessing: Preprocessing
    origin: str
    train: DataLoader = field(init=False)
    val: DataLoader = field(init=False)
    test: DataLoader = field(init=False)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.splits.classes

    def contents(self, arguments: argparse.Namespace) -> dict[str, Any]:
        """What a checkpoint says beside the states."""
        return {
            "model_name": self.model_name,
            "model_args": self.model_args,
            "class_names": self.classes,
            "preprocessing": self.preprocessing.to_dict(),
            "data": self.splits.description,
            "arguments": plain(arguments),
        }

    def headline(self) -> str:
        """One line about model and data."""
        count = sum(int(parameter.numel()) for parameter in self.model.parameters())
        origin = f", {self.origin}" if self.origin else ""
        name = os.path.basename(self.splits.description["path"])
        sizes = [len(loader.dataset) for loader in (self.train, self.val, self.test)]
        return (
            f"{self.model_name} ({count:,} parameters{origin}) on {name}: {sizes[0]} training, "
            f"{sizes[1]} validation, {sizes[2]} test images of {len(self.classes)} classes; {backend.num_threads()} "
            f"threads, {backend.isa()}"
        )


def plain(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as JSON can hold them."""
    return {name: value for name, value in vars(arguments).items() if name not in ("run", "parser")}


def setup(arguments: argparse.Namespace) -> Setup:
    """Opens data and model and fits them to each other; settles what was left open in the arguments."""
    if arguments.val_fraction + arguments.test_fraction >= 1:
        raise ValueError("--val-fraction and --test-fraction leave nothing to train on: their sum must be below 1")
    if arguments.mean is not None and arguments.std is not None and len(arguments.mean) != len(arguments.std):
        raise ValueError(f"expected as many numbers after --mean as after --std, got {arguments.mean}, {arguments.std}")
    start = _Start(arguments)
    arguments.model = start.name
    channels = arguments.in_chans or start.channels
    fractions = (1 - arguments.val_fraction - arguments.test_fraction, arguments.val_fraction, arguments.test_fraction)
    splits = tasks.open_data(arguments.data_path, fractions, arguments.seed, channels, arguments.duplicates)
    classes = len(splits.classes)
    outputs = arguments.num_classes or classes
    if outputs < classes:
        raise ValueError(f"--num-classes {outputs}: the data have {classes} classes")
    splits.classes += [f"class {i}" for i in range(classes, outputs)]

    engine.manual_seed(arguments.seed)
    if splits.stored and arguments.in_chans is None and start.state is None and not start.weights:
        channels = splits.channels or channels
    model_args: dict[str, Any] = {"num_classes": outputs, "in_chans": channels}
    model = start.build(model_args)
    if arguments.drop is not None:
        _set_dropout(model, arguments.drop)
    preprocessing = _preprocessing(arguments, splits, start, channels)
    made = Setup(splits, model, start.name, model_args, preprocessing, start.origin)
    _loaders(arguments, made)
    return made


class _Start:
    """Where the weights come from: nowhere, a pretrained file, a file of the user's own, a checkpoint of the engine."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        from engine.models import _registry

        self.weights = arguments.weights or ("DEFAULT" if arguments.pretrained else None)
        self.state: Any = None
        self.name = arguments.model or "lenet5"
        self.origin = ""
        if self.weights:
            self.origin = f"weights {os.path.basename(self.weights)}"
        #: What the weights want images to be like, if they say so.
        self.preset = self._look(arguments) if self.weights else None
        builder = _registry.get_model_builder(self.name)  # a wrong name ends here, before the data are read
        self.channels = 1 if builder.__name__ == "lenet5" else 3
        if self.preset is not None:
            self.channels = self.preset.channels

    def _look(self, arguments: argparse.Namespace) -> Preprocessing | None:
        from engine.io import load_checkpoint
        from engine.models import _weights

        path = str(self.weights)
        if tasks.is_checkpoint(path):
            checkpoint = load_checkpoint(path)
            if arguments.model and arguments.model.lower() != checkpoint.model_name:
                raise ValueError(f"{path}: a checkpoint of {checkpoint.model_name}, not of {arguments.model}")
            self.name, self.state = checkpoint.model_name, checkpoint.model
            return Preprocessing.from_dict(checkpoint.preprocessing)
        entry = _weights.resolve(self.name, self.weights)
        if entry.transforms is None:
            return None
        steps = entry.transforms()
        size = (steps.crop_size, steps.crop_size)
        return Preprocessing(size, steps.mean, steps.std, "image", steps.resize_size, steps.interpolation)

    def build(self, model_args: dict[str, Any]) -> Any:
        """Makes the model; a head of another number of classes is new."""
        if self.state is not None:
            from engine.models import _registry

            model = tasks.make_model(self.name, model_args)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*the weights have no values that fit")
                _registry.load_weights(model, self.state)
            return model
        if not self.weights:
            return tasks.make_model(self.name, model_args)
        try:
            return tasks.make_model(self.name, {**model_args, "weights": self.weights})
        except RuntimeError as error:
            raise RuntimeError(f"{self.weights}: not the weights of a {self.name}: {error}") from error


def _set_dropout(model: Any, p: float) -> None:
    layers = [module for module in model.modules() if isinstance(module, (engine.nn.Dropout, engine.nn.Dropout2d))]
    if not layers:
        raise ValueError(f"--drop: {type(model).__name__} has no dropout layers")
    for layer in layers:
        layer.p = p


def _preprocessing(arguments: argparse.Namespace, splits: tasks.Splits, start: _Start, channels: int) -> Preprocessing:
    """The weights' own where they say it, else by the data; options come first."""
    preset = start.preset
    kind = "digit" if arguments.data_path == "digits" and preset is None else "image"
    if arguments.img_size:
        size = arguments.img_size
    elif preset is not None:
        size = preset.size[0]
    elif splits.stored and start.name.lower() != "lenet5":
        size = splits.parts["train"].dataset.arrays[0].shape[1]
    else:
        size = 32 if start.name.lower() == "lenet5" else 224
    resize = None
    if not splits.stored:
        share = arguments.crop_pct or _WHOLE_CROP
        if preset is not None and not arguments.crop_pct:
            share = 1.0 if preset.resize_size is None else preset.size[0] / preset.resize_size
            resize = preset.resize_size if size == preset.size[0] else None
        resize = resize or max(size, int(size / share))
    unit = (1.0,) * channels
    bare = Preprocessing((size, size), unit, unit, kind, resize, arguments.interpolation)
    tasks.prepare(splits, bare)
    if arguments.mean is None or arguments.std is None:
        mean, std = _statistics(splits, bare, preset, start)
    mean = mean if arguments.mean is None else _per_channel(arguments.mean, channels)
    std = std if arguments.std is None else _per_channel(arguments.std, channels)
    return Preprocessing((size, size), mean, std, kind, resize, arguments.interpolation)


def _statistics(splits: tasks.Splits, bare: Preprocessing, preset: Preprocessing | None, start: _Start) -> Any:
    channels = bare.channels
    if preset is not None and preset.channels == channels:
        return preset.mean, preset.std
    if channels == 3 and (start.weights or not splits.stored):
        return tasks.IMAGENET_MEAN, tasks.IMAGENET_STD
    part = splits.parts["train"]
    if isinstance(part.dataset, ArrayDataset):
        return statistics(part.dataset.arrays[0][part.indices])
    pictures = tasks.Pictures(splits, "train", bare)
    few = np.unique(np.linspace(0, len(part) - 1, 500).astype(np.int64)).tolist()
    return statistics(np.stack([pictures[i] for i in few]))


def _per_channel(values: list[float], channels: int) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise ValueError(f"expected one number per channel ({channels}) after --mean and --std, got {values}")
    return tuple(values * channels if len(values) == 1 else values)


# --- loaders ---------------------------------------------------------------------------------------------------------


def _loaders(arguments: argparse.Namespace, made: Setup) -> None:
    fixed = tasks.evaluation_transform(made.splits, made.preprocessing)
    options = {"batch_size": arguments.batch_size, "num_workers": arguments.workers, "seed": arguments.seed}
    train = made.splits.part("train")
    steps = fixed if arguments.no_aug else augmentation(arguments, made)
    sampler = _sampler(arguments, train)
    made.train = DataLoader(train, shuffle=sampler is None, sampler=sampler, transform=steps, **options)
    made.val = DataLoader(made.splits.part("val"), transform=fixed, **options)
    made.test = DataLoader(made.splits.part("test"), transform=fixed, **options)


def augmentation(arguments: argparse.Namespace, made: Setup) -> Any:
    """Returns the transform from training images to inputs that the options ask for."""
    from engine.data import (
        AutoAugment,
        ColorJitter,
        Compose,
        RandAugment,
        RandomCrop,
        RandomErasing,
        RandomHorizontalFlip,
        RandomResizedCrop,
        RandomRotation,
        RandomVerticalFlip,
        TrivialAugmentWide,
    )

    preprocessing, stored = made.preprocessing, made.splits.stored
    size = preprocessing.size
    crop = arguments.crop or ("padded" if stored else "resized")
    steps: list[Any] = []
    if crop == "resized":
        steps.append(RandomResizedCrop(size, arguments.scale, arguments.ratio, arguments.interpolation))
    else:
        if not stored:
            steps += preprocessing.geometry().transforms
        if crop == "padded":
            steps.append(RandomCrop(size, padding=max(1, size[0] // (16 if preprocessing.kind == "digit" else 8))))
    hflip = arguments.hflip if arguments.hflip is not None else (0.0 if _has_digits(arguments, made) else 0.5)
    if hflip:
        steps.append(RandomHorizontalFlip(hflip))
    if arguments.vflip:
        steps.append(RandomVerticalFlip(arguments.vflip))
    if arguments.rotation:
        steps.append(RandomRotation(arguments.rotation, interpolation="bilinear"))
    if arguments.auto_augment == "ra":
        steps.append(RandAugment(magnitude=arguments.ra_magnitude))
    elif arguments.auto_augment == "ta_wide":
        steps.append(TrivialAugmentWide())
    elif arguments.auto_augment:
        steps.append(AutoAugment())
    if any(arguments.color_jitter):
        steps.append(ColorJitter(*_jitter(arguments.color_jitter, preprocessing.channels)))
    if arguments.random_erase:
        steps.append(RandomErasing(arguments.random_erase))
    return Compose([*steps, preprocessing.normalize()])


def _has_digits(arguments: argparse.Namespace, made: Setup) -> bool:
    """Whether mirrored images would be something else."""
    name = os.path.basename(os.path.abspath(arguments.data_path)).lower()
    if arguments.data_path == "digits" or made.classes[:10] == list(engine.data.MNIST.names):
        return True
    return "mnist" in name and "fashion" not in name


def _jitter(values: list[float], channels: int) -> list[float]:
    if len(values) > 4:
        raise ValueError(f"expected one to four numbers after --color-jitter, got {values}")
    if len(values) == 1:
        return values * (3 if channels == 3 else 2)
    return values


def _sampler(arguments: argparse.Namespace, train: Any) -> Any:
    return None if arguments.sampler is None else Balanced(train.labels, arguments.sampler, arguments.seed)


class Balanced(Sampler):
    """An order in which all classes come about equally often.

    Args:
        labels: class numbers.
        how: "weighted" draws as many samples as there are, with chances against the frequency of their class; "over"
            repeats those of rare classes; "under" leaves out some of frequent ones.
        seed: of the order.
    """

    def __init__(self, labels: np.ndarray, how: str, seed: int) -> None:
        super().__init__(labels)
        self.how = how
        self.seed = seed
        self.members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        sizes = [len(members) for members in self.members]
        self.size = max(sizes) if how == "over" else min(sizes)

    def __len__(self) -> int:
        return len(self.source) if self.how == "weighted" else self.size * len(self.members)

    def indices(self) -> np.ndarray:
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.how == "weighted":
            which = generator.integers(0, len(self.members), len(self))
            shares = generator.random(len(self))
            return np.array([self.members[k][int(share * len(self.members[k]))] for k, share in zip(which, shares)])
        chosen = []
        for members in self.members:
            whole, rest = divmod(self.size, len(members))
            chosen += [members] * whole + [generator.permutation(members)[:rest]]
        return generator.permutation(np.concatenate(chosen))


def loss_function(arguments: argparse.Namespace, made: Setup) -> Any:
    """Returns the loss that the options ask for."""
    weight = None
    if arguments.class_weights:
        counts = np.bincount(made.train.dataset.labels, minlength=len(made.classes))
        present = np.count_nonzero(counts)
        weight = engine.tensor((counts.sum() / (present * np.maximum(counts, 1))).astype(np.float32))
    return engine.nn.CrossEntropyLoss(weight, label_smoothing=arguments.label_smoothing)


# --- optimization ----------------------------------------------------------------------------------------------------


def optimizer(arguments: argparse.Namespace, groups: Any) -> Any:
    """Returns the optimizer over parameters or groups of them."""
    options: dict[str, Any] = {"lr": arguments.lr, "weight_decay": arguments.weight_decay}
    kind = arguments.opt.removesuffix("_nesterov")
    if kind in ("sgd", "rmsprop"):
        options["momentum"] = arguments.momentum
    if kind != arguments.opt:
        options["nesterov"] = True
    return getattr(optim, _CLASSES[kind])(groups, **options)


def settle_rate(arguments: argparse.Namespace) -> None:
    """Fills in the learning rate that the optimizer suggests."""
    if arguments.lr is None:
        arguments.lr = _LEARNING_RATES[arguments.opt]


def _groups(arguments: argparse.Namespace, model: Any) -> Any:
    if arguments.norm_weight_decay is None:
        return list(model.parameters())
    groups = optim.param_groups(model, arguments.lr, arguments.weight_decay)
    for group in groups:
        if group["name"].endswith("no decay"):
            group["weight_decay"] = arguments.norm_weight_decay
    return groups


def scheduler(arguments: argparse.Namespace, made: Any, steps_per_epoch: int) -> tuple[Any, str]:
    """Returns the schedule that the options ask for, and whether it steps per "epoch" or per "batch"."""
    kind = SCHEDULERS[arguments.lr_scheduler]
    warmup = min(arguments.lr_warmup_epochs, arguments.epochs)
    epochs = max(1, arguments.epochs - warmup)
    if kind == "onecycle":
        if warmup:
            raise ValueError("--lr-scheduler onecycle has a warmup of its own: leave out --lr-warmup-epochs")
        return lr_scheduler.OneCycleLR(made, arguments.lr, epochs=epochs, steps_per_epoch=steps_per_epoch), "batch"
    gamma = arguments.lr_gamma
    main: Any = None
    if kind == "cosine":
        main = lr_scheduler.CosineAnnealingLR(made, epochs, arguments.lr_min)
    elif kind == "step":
        main = lr_scheduler.StepLR(made, arguments.lr_step_size or max(1, epochs // 3), gamma)
    elif kind == "multistep":
        if not arguments.milestones:
            raise ValueError("--lr-scheduler multistep needs --milestones, the epochs at which the rate decays")
        main = lr_scheduler.MultiStepLR(made, [max(0, epoch - warmup) for epoch in arguments.milestones], gamma)
    elif kind == "exponential":
        main = lr_scheduler.ExponentialLR(made, gamma)
    elif kind == "poly":
        main = lr_scheduler.PolynomialLR(made, epochs, 1.0)
    elif kind == "plateau":
        if warmup:
            raise ValueError("--lr-scheduler plateau goes without --lr-warmup-epochs")
        how = {"factor": gamma, "patience": arguments.patience_epochs, "min_lr": arguments.lr_min}
        return lr_scheduler.ReduceLROnPlateau(made, _mode(arguments), **how), "epoch"
    if not warmup:
        return main, "epoch"
    if main is None:
        main = lr_scheduler.ConstantLR(made, 1.0, 1)
    rise = lr_scheduler.LinearLR(made, arguments.lr_warmup_decay, 1.0, warmup)
    return lr_scheduler.SequentialLR(made, [rise, main], [warmup]), "epoch"


def _mode(arguments: argparse.Namespace) -> str:
    return "max" if arguments.monitor == "val_accuracy" else "min"


# --- running ---------------------------------------------------------------------------------------------------------


class Lines(Callback):
    """A line every so many batches."""

    order = 19

    def __init__(self, every: int) -> None:
        self.every = every

    def after_batch(self, trainer: Trainer) -> None:
        """Writes the line when it is due."""
        if (trainer.batch_index + 1) % self.every == 0:
            rate = float(trainer.optimizer.param_groups[-1]["lr"])
            place = f"epoch {trainer.epoch + 1}, batch {trainer.batch_index + 1}/{trainer.batches}"
            print(f"{place}: loss {trainer.loss_value:.4f}, mean {trainer.running_loss:.4f}, lr {rate:.3g}", flush=True)


def mixing(arguments: argparse.Namespace, classes: int) -> list[Any]:
    """Returns the callback that mixes batches, if the options ask for it."""
    mixers: list[Any] = []
    if arguments.mixup_alpha:
        mixers.append(engine.data.MixUp(alpha=arguments.mixup_alpha, num_classes=classes))
    if arguments.cutmix_alpha:
        mixers.append(engine.data.CutMix(alpha=arguments.cutmix_alpha, num_classes=classes))
    return [Mixing(mixers)] if mixers else []


def watchers(arguments: argparse.Namespace, directory: str) -> list[Any]:
    """Returns the callbacks that write and show, whatever trains."""
    found: list[Any] = [HistoryLog(directory), Progress()]
    if arguments.print_freq:
        found.append(Lines(arguments.print_freq))
    if arguments.tensorboard:
        from engine.callbacks import TensorBoard

        found.append(TensorBoard(directory))
    return found


def trainer(
    arguments: argparse.Namespace, made: Setup, directory: str | None, callbacks: Iterable[Any] = ()
) -> Trainer:
    """Returns what trains the model as the options say; without a directory nothing is written."""
    settle_rate(arguments)
    stepper = optimizer(arguments, _groups(arguments, made.model))
    every: list[Any] = [StopOnNaN(), EarlyStopping(arguments.monitor, arguments.patience, _mode(arguments)), *callbacks]
    every += mixing(arguments, len(made.classes))
    if arguments.clip_grad_norm:
        every.append(GradientClipping(max_norm=arguments.clip_grad_norm))
    if arguments.model_ema:
        every.append(EMA(arguments.model_ema_decay))
    if directory is not None:
        contents = made.contents(arguments)
        every.append(Checkpoint(directory, arguments.monitor, _mode(arguments), contents=contents))
        every += watchers(arguments, directory)
    steps = -(-len(made.train) // arguments.accumulate)
    schedule, interval = scheduler(arguments, stepper, steps)
    return Trainer(
        made.model,
        loss_function(arguments, made),
        stepper,
        scheduler=schedule,
        scheduler_interval=interval,
        scheduler_monitor=arguments.monitor,
        accumulate=arguments.accumulate,
        callbacks=every,
    )


def make_directory(arguments: argparse.Namespace, name: str) -> str:
    """Makes the run's directory; an earlier run's is never written into.

    Args:
        arguments: with `output_dir`, which None leaves to `name`.
        name: of the model.
    """
    data = os.path.splitext(os.path.basename(os.path.abspath(arguments.data_path)))[0]
    wanted = arguments.output_dir or os.path.join("runs", f"{name}-{data}")
    directory, number = wanted, 1
    while True:
        try:
            os.makedirs(directory)
            break
        except FileExistsError:
            if not os.path.isdir(directory):
                raise
            if not os.listdir(directory):
                break
            number += 1
            directory = f"{wanted.rstrip(os.sep)}-{number}"
    if directory != wanted:
        print(f"{wanted} holds an earlier run: writing to {directory}")
    if not os.access(directory, os.W_OK):
        raise PermissionError(f"{directory}: cannot be written to")
    arguments.output_dir = directory
    return directory


def begin(arguments: argparse.Namespace, directory: str) -> None:
    """Writes down what is known before the first step."""
    tasks.write_json(directory, "args.json", plain(arguments))
    tasks.write_json(directory, "environment.json", tasks.environment())


@dataclass
class _Clock:
    begin: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begin


def fit(trained: Trainer, made: Setup, arguments: argparse.Namespace, directory: str) -> int:
    """Trains, tests, saves and reports; after Ctrl-C it says how to go on."""
    print(made.headline(), flush=True)
    clock = _Clock()
    try:
        trained.fit(made.train, made.val, epochs=arguments.epochs)
    except KeyboardInterrupt:
        print(
            f"\ninterrupted after {trained.epoch} whole epochs; engine {arguments.command} --resume {directory} goes on"
        )
        raise
    finish(trained, made, directory, clock.seconds, trained.history)
    return 0


def finish(
    trained: Trainer, made: Setup, directory: str, seconds: float, history: list[dict[str, Any]]
) -> dict[str, Any]:
    """Tests the trained model, and writes results, plots and report."""
    outcome = tasks.test(trained, made.test)
    text, numbers = tasks.summarize(outcome, made.classes)
    stopping = next((c for c in trained.callbacks if isinstance(c, EarlyStopping)), None)
    best_epoch = None if stopping is None else stopping.best_epoch
    speed = sum(row["images_per_second"] * row["seconds"] for row in history)
    speed /= sum(row["seconds"] for row in history)
    print(
        f"\ntrained {trained.epoch} epochs in {seconds:.1f} s ({speed:,.0f} images/s), best epoch {best_epoch}\n\n"
        f"test {text}\n"
    )
    numbers.update(best_epoch=best_epoch, epochs=trained.epoch, seconds=seconds, images_per_second=speed)
    numbers["stop_reason"] = trained.stop_reason
    tasks.write_json(directory, "results.json", numbers)
    tasks.write_predictions(directory, outcome)
    saved = ["best.safetensors", "last.safetensors", "args.json", "history.csv", "history.jsonl", "results.json"]
    saved += ["predictions.npz", *_plots(directory, history, best_epoch, numbers, made.classes)]
    tasks.write_run_report(directory)
    print(f"saved in {directory}: {', '.join([*saved, 'report.html'])}")
    print(f"next: engine evaluate {os.path.join(directory, 'best.safetensors')}")
    return numbers


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


def resume(trained: Trainer, arguments: argparse.Namespace) -> None:
    """Goes back to the last state of a run."""
    from engine.cli.config import last_of
    from engine.io import load_checkpoint

    checkpoint = load_checkpoint(last_of(arguments.resume))
    checkpoint.restore(trained.model, trained.optimizer, trained.scheduler, trained)
    before = checkpoint.arguments.get("epochs")
    if before != arguments.epochs:  # the schedule's end moves with that of the training
        for part in getattr(trained.scheduler, "_schedulers", [trained.scheduler]):
            if isinstance(part, lr_scheduler.CosineAnnealingLR):
                part.T_max += arguments.epochs - before
    print(f"goes on with {last_of(arguments.resume)} after {trained.epoch} of {arguments.epochs} epochs", flush=True)
