"""Fine-tuning: from a pretrained model to one for other classes, fast.

The head is trained first, on features that the frozen body computes once; then the layer groups thaw one after the
other from head to stem, each with a smaller learning rate than the one after it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from engine import functional as F, nn, optim, random
from engine.callbacks import (
    EMA,
    Checkpoint,
    EarlyStopping,
    GradientClipping,
    GradualUnfreezing,
    StopOnNaN,
)
from engine.features import Tail, feature_loader, is_deterministic, load_or_compute, split_tail
from engine.optim import lr_scheduler
from engine.tensor import Tensor
from engine.train import Trainer

__all__ = ["FineTuneResult", "fine_tune"]

_OPTIMIZERS = {"adam": optim.Adam, "adamw": optim.AdamW, "sgd": optim.SGD, "rmsprop": optim.RMSprop}
_AUXILIARY_WEIGHT = 0.3  # of the losses of auxiliary classifiers: Szegedy et al., https://arxiv.org/abs/1409.4842


@dataclass
class FineTuneResult:
    """What `fine_tune` achieved.

    Attributes:
        model: the model, with the weights of its best epoch where there was validation, else of the last.
        history: the epochs' numbers, as `engine.train.Trainer.fit` returns them.
        best: the numbers of the best epoch.
        monitor: the number by which it is the best.
        classes: names of the classes in the order of the outputs, as far as the data set has them.
        checkpoint_path: the file of the best state, None without `checkpoint_dir`.
        cached: whether the head was trained on stored features.
        stop_reason: why training ended early, if it did.
        trainer: for further epochs, or to evaluate.
    """

    model: Any
    history: list[dict[str, Any]]
    best: dict[str, Any]
    monitor: str
    classes: tuple[str, ...]
    checkpoint_path: str | None
    cached: bool
    stop_reason: str | None
    trainer: Trainer = field(repr=False)


def fine_tune(
    model: Any,
    data: Any,
    epochs: int = 10,
    *,
    valid_data: Any = None,
    transform: Any = None,
    valid_transform: Any = None,
    batch_size: int = 32,
    num_workers: int = 0,
    num_classes: int | None = None,
    reset_head: bool = True,
    freeze_epochs: int = 3,
    unfreeze_every: int = 1,
    optimizer: str | Callable[[list[dict[str, Any]]], Any] = "adamw",
    lr: float = 1e-3,
    layer_decay: float = 0.7,
    weight_decay: float = 0.01,
    decay_1d: bool = False,
    l1: float = 0.0,
    momentum: float = 0.9,
    warmup_epochs: float = 0.5,
    label_smoothing: float = 0.1,
    dropout: float | None = None,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    clip_norm: float | None = 1.0,
    accumulate: int = 1,
    ema: float | None = None,
    monitor: str | None = None,
    patience: int = 0,
    cache: bool | str = "auto",
    cache_dir: str | os.PathLike[str] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    contents: dict[str, Any] | None = None,
    resume: bool | str | os.PathLike[str] = False,
    seed: int = 0,
    callbacks: Iterable[Any] = (),
) -> FineTuneResult:
    """Trains a pretrained model for the classes of a data set.

    Args:
        model: of `engine.models` (or one with their `layer_groups`, `freeze`, `reset_classifier`); changed in place.
        data: what to train on: a data set of (image, class number), or a `DataLoader` with its own transform.
        epochs: epochs in all.
        valid_data: data set or loader to validate on; or the share of `data`, by class, to set aside; None for none.
        transform: from a batch of stored images to the model's input, for data sets; `engine.data.Transform`s without
            randomness, or none, allow the head to be trained on stored features.
        valid_transform: the same for validation; `transform` without its randomness by default.
        batch_size: samples per step, for data sets.
        num_workers: threads that prepare batches ahead, for data sets.
        num_classes: number of outputs; by default that of the data set's classes.
        reset_head: begin with a new head, even if the old one has the right number of outputs.
        freeze_epochs: epochs in which the head alone is trained; at least `epochs` for the head alone to the end.
        unfreeze_every: epochs after which the next layer group is thawed; 0 thaws all at once.
        optimizer: "adamw", "adam", "sgd" or "rmsprop", or a function from parameter groups to an optimizer.
        lr: learning rate of the head.
        layer_decay: each layer group's rate is that of the group after it times this.
        weight_decay: L2 penalty (decoupled for adamw).
        decay_1d: whether biases and norms decay, too.
        l1: factor of the L1 penalty's gradient.
        momentum: of sgd and rmsprop.
        warmup_epochs: epochs over which rates rise when the body begins to learn.
        label_smoothing: of the cross-entropy.
        dropout: before the head, and of the dropout layers the model has; None leaves the model as it is.
        loss_fn: instead of cross-entropy.
        clip_norm: largest norm of the gradients; None for no limit.
        accumulate: batches per update.
        ema: decay of an exponential moving average of the weights; None for none.
        monitor: the number that tells the best epoch; "val_loss" with validation, else "train_loss". Names with
            "accuracy" are better when higher.
        patience: epochs without improvement before an early stop; 0 for none.
        cache: whether the head may be trained on stored features: "auto" when possible, True insists, False never.
        cache_dir: where features are kept; by default `features` in `checkpoint_dir`, else in memory only.
        checkpoint_dir: where `last.safetensors` and `best.safetensors` are written.
        contents: further fields of the checkpoints, such as model_name, model_args, class_names, preprocessing.
        resume: True goes on from `last.safetensors` in `checkpoint_dir` (from the start if there is none), a path from
            that file.
        seed: of head, order, augmentation and dropout.
        callbacks: further callbacks, such as `Progress()`.

    Returns:
        A `FineTuneResult`.

    Raises:
        ValueError: the data have no classes, arguments contradict each other, or the run to go on with was on other
            data.
        engine.io.CheckpointError: the checkpoint cannot be read, or is of another model.

    Example:
        >>> import engine
        >>> from engine.data import ArrayDataset
        >>> images = np.random.default_rng(0).random((32, 1, 32, 32), dtype=np.float32)
        >>> labels = np.arange(32) % 2
        >>> images[labels == 1] += 1
        >>> data = ArrayDataset(images, labels, classes=("dark", "bright"))
        >>> result = engine.fine_tune(engine.models.lenet5(), data, epochs=3, freeze_epochs=2, batch_size=8)
        >>> [row["epoch"] for row in result.history], result.cached
        ([1, 2, 3], True)

    Reference: Howard and Ruder, https://arxiv.org/abs/1801.06146; Kumar et al., https://arxiv.org/abs/2202.10054.
    """
    for name in ("layer_groups", "freeze", "reset_classifier"):
        if not hasattr(model, name):
            raise TypeError(
                f"[fine_tune] expected a model with {name}(), as those of engine.models have, got "
                f"{type(model).__name__}"
            )
    if epochs < 1:
        raise ValueError(f"[fine_tune] expected epochs of at least 1, got {epochs}")
    if resume is True and checkpoint_dir is None:
        raise ValueError("[fine_tune] resume=True needs checkpoint_dir, the directory of the run to go on with")
    random.manual_seed(seed)
    options = {"batch_size": batch_size, "num_workers": num_workers, "seed": seed}
    train_loader, valid_loader = _loaders(data, valid_data, transform, valid_transform, options)
    classes = tuple(getattr(train_loader.dataset, "classes", None) or ())
    if num_classes is None:
        num_classes = len(classes) or int(_labels(train_loader.dataset).max()) + 1
    if reset_head or model.num_classes != num_classes:
        model.reset_classifier(num_classes)

    groups = optim.param_groups(model, lr, weight_decay, layer_decay=layer_decay, decay_1d=decay_1d)
    made = _make_optimizer(optimizer, groups, l1, momentum)
    monitor = monitor or ("val_loss" if valid_loader is not None else "train_loss")
    mode = "max" if "accuracy" in monitor else "min"
    unfreezing = GradualUnfreezing(freeze_epochs, unfreeze_every)
    checkpoint: Checkpoint | None = None
    extra: list[Any] = [unfreezing, StopOnNaN(), *callbacks]
    if clip_norm is not None:
        extra.append(GradientClipping(max_norm=clip_norm))
    if ema is not None:
        extra.append(EMA(ema))
    if valid_loader is not None or patience > 0:
        extra.append(EarlyStopping(monitor, patience, mode))
    if checkpoint_dir is not None:
        contents = {"class_names": list(classes), **(contents or {})}
        checkpoint = Checkpoint(checkpoint_dir, monitor, mode, contents, min_seconds=_SAVING_INTERVAL)
        extra.append(checkpoint)
    steps = math.ceil(len(train_loader) / accumulate)
    trainer = _FineTuner(
        model,
        loss_fn or nn.CrossEntropyLoss(label_smoothing=label_smoothing),
        made,
        scheduler=lr_scheduler.LambdaLR(made, _Schedule(steps, epochs, freeze_epochs, warmup_epochs)),
        scheduler_interval="batch",
        accumulate=accumulate,
        callbacks=extra,
    )
    if resume is not False:
        _resume(trainer, resume, checkpoint_dir)

    with _Dropout(model, dropout):
        features = _Features(trainer, train_loader, valid_loader, freeze_epochs)
        if trainer.epoch < min(freeze_epochs, epochs):
            if cache_dir is None and checkpoint_dir is not None:
                cache_dir = os.path.join(checkpoint_dir, "features")
            features.prepare(cache, cache_dir)
        try:
            trainer.fit(features.train, features.valid, epochs)
        finally:
            trainer.tail = None
            model.unfreeze()
    pick = max if mode == "max" else min
    rated = [row for row in trainer.history if not math.isnan(row[monitor])] or trainer.history
    return FineTuneResult(
        model=model,
        history=trainer.history,
        best=pick(rated, key=lambda row: row[monitor]),
        monitor=monitor,
        classes=classes,
        checkpoint_path=None if checkpoint is None else checkpoint.best_path,
        cached=features.stored,
        stop_reason=trainer.stop_reason,
        trainer=trainer,
    )


_SAVING_INTERVAL = 10.0  # seconds; epochs on features are shorter than writing a checkpoint


class _FineTuner(Trainer):
    """A trainer whose batches may be features, and whose model may have auxiliary classifiers."""

    tail: Tail | None = None
    _auxiliary: tuple[Any, ...] = ()

    def predict(self, inputs: Any) -> Any:
        if not isinstance(inputs, Tensor):
            return super().predict(inputs)
        outputs = self.model(inputs) if self.tail is None else self.tail(inputs)
        self._auxiliary = ()
        if isinstance(outputs, tuple):
            outputs, self._auxiliary = outputs[0], tuple(other for other in outputs[1:] if other is not None)
        return outputs

    def loss(self, outputs: Any, targets: Any) -> Any:
        loss = super().loss(outputs, targets)
        for other in self._auxiliary:
            loss = loss + _AUXILIARY_WEIGHT * super().loss(other, targets)
        return loss


class _Schedule:
    """Factor of the learning rates at a step: a cosine down for the head alone; then a rise, and a cosine to zero."""

    def __init__(self, steps_per_epoch: int, epochs: int, freeze_epochs: int, warmup_epochs: float) -> None:
        self.frozen = min(freeze_epochs, epochs) * steps_per_epoch
        self.rest = epochs * steps_per_epoch - self.frozen
        self.warmup = min(int(warmup_epochs * steps_per_epoch), self.rest // 2)

    def __call__(self, step: int) -> float:
        if step < self.frozen:
            return _cosine(step / self.frozen)
        step -= self.frozen
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return _cosine((step - self.warmup) / max(self.rest - self.warmup, 1))


def _cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


class _Features:
    """The loaders of a fit: features in the epochs in which the body is frozen, images in the others."""

    def __init__(self, trainer: _FineTuner, train_loader: Any, valid_loader: Any, freeze_epochs: int) -> None:
        self.trainer = trainer
        self.images = (train_loader, valid_loader)
        self.freeze_epochs = freeze_epochs
        self.stored = False
        self.train = train_loader
        self.valid = valid_loader

    def prepare(self, cache: bool | str, folder: str | os.PathLike[str] | None) -> None:
        """Computes the features, or finds them on disk, where that is allowed and possible."""
        if cache is False:
            return
        loaders = [loader for loader in self.images if loader is not None]
        tail, reason = None, "the augmentation is random"
        if all(is_deterministic(loader) for loader in loaders):
            tail, reason = self._tail(loaders[0]), "the model's end is not one path through its last layer group"
        if tail is None:
            if cache is True:
                raise ValueError(f"[fine_tune] cache=True, but features cannot be kept: {reason}")
            return
        pairs = [(loader, feature_loader(loader, *load_or_compute(tail, loader, folder))) for loader in loaders]
        switching = [_Switching(images, stored, self) for images, stored in pairs]
        self.stored = True
        self.tail = tail
        self.train, self.valid = switching[0], (switching[1] if len(switching) > 1 else None)

    def _tail(self, loader: Any) -> Tail | None:
        from engine.data import DataLoader, Subset

        few = DataLoader(Subset(loader.dataset, [0]), batch_size=1, transform=loader.transform)
        model = self.trainer.model
        model.eval()
        return split_tail(model, next(iter(few))[0])


class _Switching:
    """A loader of features while the body is frozen, of images from then on."""

    def __init__(self, images: Any, stored: Any, owner: _Features) -> None:
        self.images = images
        self.stored = stored
        self.owner = owner
        self.dataset = images.dataset

    def _present(self) -> Any:
        trainer = self.owner.trainer
        frozen = trainer.epoch < self.owner.freeze_epochs
        trainer.tail = self.owner.tail if frozen else None
        return self.stored if frozen else self.images

    def set_epoch(self, epoch: int) -> None:
        self._present().set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._present())

    def __getattr__(self, name: str) -> Any:  # state_dict, load_state_dict
        return getattr(self._present(), name)


class _Dropout:
    """Sets the dropout of a model during training: of its dropout layers, or before its head if it has none."""

    def __init__(self, model: Any, p: float | None) -> None:
        if p is not None and not 0 <= p < 1:
            raise ValueError(f"[fine_tune] expected dropout in [0, 1), got {p}")
        self.model = model
        self.p = p
        self.handle: Any = None

    def __enter__(self) -> None:
        if self.p is None:
            return
        p = self.p
        layers = [module for module in self.model.modules() if isinstance(module, (nn.Dropout, nn.Dropout2d))]
        for layer in layers:
            layer.p = p
        if not layers:
            self.handle = self.model.get_classifier().register_forward_pre_hook(
                lambda module, args: (F.dropout(args[0], p, module.training),)
            )

    def __exit__(self, *exc: object) -> None:
        if self.handle is not None:
            self.handle.remove()


class _WithoutChance:
    """A transform as it is in evaluation."""

    deterministic = True

    def __init__(self, transform: Any) -> None:
        self.transform = transform

    def __call__(self, images: Any, chance: Any = None) -> Any:
        return self.transform(images, None)

    def __repr__(self) -> str:
        return f"without chance: {self.transform!r}"


def _make_optimizer(optimizer: Any, groups: list[dict[str, Any]], l1: float, momentum: float) -> Any:
    if callable(optimizer):
        return optimizer(groups)
    if optimizer not in _OPTIMIZERS:
        raise ValueError(f"[fine_tune] expected optimizer to be one of {', '.join(_OPTIMIZERS)}, got {optimizer!r}")
    options = {"momentum": momentum} if optimizer in ("sgd", "rmsprop") else {}
    return _OPTIMIZERS[optimizer](groups, l1=l1, **options)


def _loaders(
    data: Any, valid_data: Any, transform: Any, valid_transform: Any, options: dict[str, Any]
) -> tuple[Any, Any]:
    from engine.data import DataLoader, Subset, stratified_split

    if isinstance(valid_data, (int, float)):
        if isinstance(data, DataLoader):
            raise ValueError("[fine_tune] a share for validation needs a data set, not a DataLoader: split it before")
        if not 0 < valid_data < 1:
            raise ValueError(f"[fine_tune] expected a share between 0 and 1 as valid_data, got {valid_data}")
        parts = stratified_split(_labels(data), (1 - valid_data, valid_data), options["seed"])
        data, valid_data = Subset(data, parts[0]), Subset(data, parts[1])
    if valid_transform is None and transform is not None:
        valid_transform = transform if getattr(transform, "deterministic", False) else _WithoutChance(transform)
    loaders: list[Any] = []
    for source, steps, shuffle in ((data, transform, True), (valid_data, valid_transform, False)):
        if source is None or isinstance(source, DataLoader):
            loaders.append(source)
            continue
        loader = DataLoader(source, shuffle=shuffle, transform=steps, **options)
        _check_images(loader)
        loaders.append(loader)
    return loaders[0], loaders[1]


def _check_images(loader: Any) -> None:
    """A plain word about the commonest mistake: stored images without a transform."""
    sample = loader.dataset[0]
    if not isinstance(sample, (tuple, list)) or len(sample) != 2:
        raise ValueError(
            f"[fine_tune] expected samples of (image, class number), got {type(sample).__name__} from "
            f"{type(loader.dataset).__name__}"
        )
    dtype = str(getattr(sample[0], "dtype", type(sample[0]).__name__))
    if loader.transform is None and not dtype.endswith("float32"):
        raise ValueError(
            f"[fine_tune] expected float32 images, got {dtype}: pass transform=, such as "
            "engine.data.ImageClassification(crop_size=224) or engine.data.Normalize(mean, std)"
        )


def _labels(dataset: Any) -> np.ndarray:
    for name in ("labels", "targets"):
        found = getattr(dataset, name, None)
        if found is not None:
            return np.asarray(found)
    raise ValueError(
        f"[fine_tune] {type(dataset).__name__} has no labels (an array of class numbers) nor classes (their names): "
        "pass num_classes, and a validation set of its own"
    )


def _resume(trainer: Trainer, resume: Any, directory: Any) -> None:
    from engine.io import load_checkpoint, previous_path

    path = os.path.join(directory, "last.safetensors") if resume is True else os.fspath(resume)
    if resume is True and not os.path.exists(path) and not os.path.exists(previous_path(path)):
        return
    checkpoint = load_checkpoint(path, fallback=True)
    checkpoint.restore(trainer.model, trainer.optimizer, trainer.scheduler, trainer)
