"""The training loop: five verbs, and events around them.

A step is predict, loss, backward, step, zero_grad. `Trainer` runs them over loaders and announces what it is about to
do and has done; everything else (progress, checkpoints, early stopping, logging) is a callback. To change how a step
works, override the verb. To watch or steer it, write a callback. To own the loop, call the verbs yourself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from engine.autograd import no_grad
from engine.tensor import Tensor

__all__ = ["EVENTS", "Evaluation", "NonFiniteLossError", "Trainer"]

# What callbacks may define: before_fit, after_fit, before_epoch, ...; `close` comes last, also after an error.
_SPANS = ("fit", "epoch", "batch", "predict", "loss", "backward", "step", "zero_grad", "evaluate")
EVENTS = (*(f"{when}_{span}" for span in _SPANS for when in ("before", "after")), "close")


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite, so nothing learned from here on would be worth anything."""


@dataclass
class Evaluation:
    """What a model achieved on a loader.

    `accuracy`, `predictions` and `targets` are None when the targets are not class numbers.
    """

    loss: float
    accuracy: float | None
    predictions: np.ndarray | None
    targets: np.ndarray | None
    samples: int


class Trainer:
    """Trains and evaluates a model on batches of (inputs, targets).

    During a fit, callbacks find here: `epoch` (counted from 0) and `epochs`, `steps_done`, `batch_index`, `batches`
    (per epoch), `inputs`, `targets`, `outputs`, `loss_tensor`, `loss_value` of the current batch, `row` (the numbers of
    the current epoch) and `history` (the rows of the epochs so far). They end training early with `stop`.

    Args:
        model: maps inputs to outputs; has `train`, `eval`, `parameters` and `state_dict` as `engine.nn.Module`.
        loss_fn: maps (outputs, targets) to a scalar tensor, the mean over the batch.
        optimizer: updates the parameters; None when the trainer only evaluates and predicts.
        scheduler: changes the learning rate, or None.
        scheduler_interval: when the scheduler steps, after every "epoch" or after every "batch".
        callbacks: objects with methods named after `EVENTS`, each called with the trainer; they run in the order of
            their `order` attribute (0 when absent), equal ones as given.

    Raises:
        ValueError: for an unknown interval, or a callback with a before_ or after_ method that names no event.

    Example:
        >>> import engine
        >>> from engine.data import ArrayDataset, DataLoader
        >>> engine.manual_seed(0)
        >>> points = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
        >>> labels = (points[:, 0] > points[:, 1]).astype(np.int64)
        >>> loader = DataLoader(ArrayDataset(points, labels), batch_size=16, shuffle=True)
        >>> model = engine.nn.Linear(2, 2)
        >>> trainer = Trainer(model, engine.nn.CrossEntropyLoss(), engine.optim.SGD(model.parameters(), lr=1.0))
        >>> history = trainer.fit(loader, epochs=5)
        >>> history[-1]["train_loss"] < history[0]["train_loss"]
        True
        >>> trainer.evaluate(loader).accuracy > 0.9
        True
    """

    def __init__(
        self,
        model: Any,
        loss_fn: Callable[[Any, Any], Any],
        optimizer: Any = None,
        *,
        scheduler: Any = None,
        scheduler_interval: str = "epoch",
        callbacks: Iterable[Any] = (),
    ) -> None:
        if scheduler_interval not in ("epoch", "batch"):
            raise ValueError(f'[Trainer] expected scheduler_interval "epoch" or "batch", got {scheduler_interval!r}')
        self.model = model
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.callbacks = sorted(callbacks, key=lambda callback: getattr(callback, "order", 0))
        self.epoch = 0
        self.epochs = 0
        self.steps_done = 0
        self.batch_index = 0
        self.batches = 0
        self.history: list[dict[str, Any]] = []
        self.row: dict[str, Any] = {}
        self.stop_reason: str | None = None
        self.inputs: Any = None
        self.targets: Any = None
        self.outputs: Any = None
        self.loss_tensor: Any = None
        self.loss_value = float("nan")
        self.samples_seen = 0
        self._loss_sum = 0.0
        self._correct = 0
        self._counted = 0
        self._listeners = _listeners(self.callbacks)

    # The five verbs.

    @overload
    def predict(self, inputs: Tensor) -> Tensor: ...

    @overload
    def predict(self, inputs: Iterable[Any]) -> np.ndarray: ...

    def predict(self, inputs: Any) -> Any:
        """Maps inputs to outputs: the first verb for a tensor, all batches of a loader otherwise.

        Args:
            inputs: a batch as a tensor: the model runs in its present mode, and gradients are recorded. Or a loader of
                inputs, or of tuples that begin with them: the model runs in evaluation mode without gradients.

        Returns:
            The outputs: a tensor for a tensor, one float32 array for a loader.
        """
        if isinstance(inputs, Tensor):
            return self.model(inputs)
        with _evaluating(self.model), no_grad():
            outputs = [self.predict(_inputs_of(batch)).numpy() for batch in inputs]
        if not outputs:
            raise ValueError("[Trainer.predict] expected at least one batch, got none")
        return np.concatenate(outputs)

    def loss(self, outputs: Any, targets: Any) -> Any:
        """Returns the scalar to minimise for a batch."""
        return self.loss_fn(outputs, targets)

    def backward(self, loss: Any) -> None:
        """Computes the gradients of the loss."""
        loss.backward()

    def step(self) -> None:
        """Updates the parameters."""
        self.optimizer.step()

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        self.optimizer.zero_grad()

    # The loops.

    def fit(self, train_loader: Any, valid_loader: Any = None, epochs: int = 1) -> list[dict[str, Any]]:
        """Trains until `epochs` epochs are done in all, so a second call with a larger number continues.

        Args:
            train_loader: batches of (inputs, targets); its `set_epoch` is told the epoch when it has one.
            valid_loader: evaluated after every epoch, or None.
            epochs: epochs in total, those of earlier calls included.

        Returns:
            `history`: per epoch a dict of epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy, seconds,
            data_seconds (spent waiting for the loader) and images_per_second; accuracies only where targets are class
            numbers.

        Raises:
            ValueError: when there is no optimizer or the loader gave no batch.
        """
        if self.optimizer is None:
            raise ValueError("[Trainer.fit] expected an optimizer: pass one to Trainer(model, loss_fn, optimizer)")
        self.epochs = epochs
        self.stop_reason = None
        try:
            self._announce("before_fit")
            while self.epoch < epochs and self.stop_reason is None:
                self._fit_epoch(train_loader, valid_loader)
            self._announce("after_fit")
        finally:
            self._announce("close")
            self.inputs = self.targets = self.outputs = self.loss_tensor = None
        return self.history

    def stop(self, reason: str) -> None:
        """Ends the fit: at once within an epoch's batches, with validation and the end-of-epoch events still to come.

        Args:
            reason: kept in `stop_reason` for whoever reports the end.
        """
        self.stop_reason = reason

    def evaluate(self, loader: Iterable[Any]) -> Evaluation:
        """Measures the loss, and the accuracy where targets are class numbers, in evaluation mode.

        Args:
            loader: batches of (inputs, targets).

        Raises:
            ValueError: when the loader gave no batch.
        """
        self._announce("before_evaluate")
        loss_sum, samples = 0.0, 0
        predictions: list[np.ndarray] = []
        truths: list[np.ndarray] = []
        with _evaluating(self.model), no_grad():
            for inputs, targets in loader:
                outputs = self.predict(inputs)
                count = len(inputs)
                loss_sum += float(self.loss(outputs, targets).item()) * count
                samples += count
                labels = _class_numbers(outputs, targets)
                if labels is not None:
                    truths.append(labels)
                    predictions.append(outputs.numpy().argmax(axis=1))
        if samples == 0:
            raise ValueError("[Trainer.evaluate] expected at least one batch, got none: is the data set empty?")
        result = Evaluation(loss_sum / samples, None, None, None, samples)
        if truths:
            result.targets, result.predictions = np.concatenate(truths), np.concatenate(predictions)
            result.accuracy = float(np.mean(result.targets == result.predictions))
        self._announce("after_evaluate")
        return result

    def state_dict(self) -> dict[str, Any]:
        """Returns how far training is: epochs and steps done, the history, and what callbacks remember."""
        remembered = {
            type(callback).__name__: callback.state_dict()
            for callback in self.callbacks
            if hasattr(callback, "state_dict")
        }
        return {
            "epoch": self.epoch,
            "steps_done": self.steps_done,
            "history": [dict(row) for row in self.history],
            "callbacks": remembered,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from what `state_dict` returned; model, optimizer and scheduler are restored by their own.

        Args:
            state: a trainer's state.
        """
        self.epoch = int(state["epoch"])
        self.steps_done = int(state["steps_done"])
        self.history = [dict(row) for row in state["history"]]
        remembered = state.get("callbacks", {})
        for callback in self.callbacks:
            if type(callback).__name__ in remembered:
                callback.load_state_dict(remembered[type(callback).__name__])

    def _announce(self, event: str) -> None:
        for listener in self._listeners[event]:
            listener(self)

    def _fit_epoch(self, train_loader: Any, valid_loader: Any) -> None:
        self.row = {"epoch": self.epoch + 1}
        if getattr(self.optimizer, "param_groups", None):
            self.row["lr"] = float(self.optimizer.param_groups[0]["lr"])
        self._loss_sum, self._correct, self._counted, self.samples_seen = 0.0, 0, 0, 0
        self.batches = len(train_loader) if hasattr(train_loader, "__len__") else 0
        if hasattr(train_loader, "set_epoch"):
            train_loader.set_epoch(self.epoch)
        self.model.train()
        self._announce("before_epoch")
        waited = 0.0
        begin = asked = time.perf_counter()
        for self.batch_index, (self.inputs, self.targets) in enumerate(train_loader):
            waited += time.perf_counter() - asked
            self._fit_batch()
            if self.stop_reason is not None:
                break
            asked = time.perf_counter()
        if self.samples_seen == 0:
            raise ValueError(
                "[Trainer.fit] expected at least one batch per epoch, got none: the data set is empty, or smaller "
                "than one batch with drop_last=True"
            )
        seconds = time.perf_counter() - begin
        self.row["train_loss"] = self.running_loss
        if self._counted:
            self.row["train_accuracy"] = self.running_accuracy
        if valid_loader is not None:
            validation = self.evaluate(valid_loader)
            self.row["val_loss"] = validation.loss
            if validation.accuracy is not None:
                self.row["val_accuracy"] = validation.accuracy
        self.row.update(seconds=seconds, data_seconds=waited, images_per_second=self.samples_seen / max(seconds, 1e-9))
        self.epoch += 1
        self.history.append(self.row)
        if self.scheduler is not None and self.scheduler_interval == "epoch":
            self.scheduler.step()
        self._announce("after_epoch")

    def _fit_batch(self) -> None:
        announce = self._announce
        announce("before_batch")
        announce("before_predict")
        self.outputs = self.predict(self.inputs)
        announce("after_predict")
        announce("before_loss")
        self.loss_tensor = self.loss(self.outputs, self.targets)
        self.loss_value = float(self.loss_tensor.item())
        announce("after_loss")
        announce("before_backward")
        self.backward(self.loss_tensor)
        announce("after_backward")
        announce("before_step")
        self.step()
        announce("after_step")
        announce("before_zero_grad")
        self.zero_grad()
        announce("after_zero_grad")
        count = len(self.inputs)
        self.steps_done += 1
        self.samples_seen += count
        self._loss_sum += self.loss_value * count
        labels = _class_numbers(self.outputs, self.targets)
        if labels is not None:
            self._correct += int(np.count_nonzero(self.outputs.detach().numpy().argmax(axis=1) == labels))
            self._counted += count
        if self.scheduler is not None and self.scheduler_interval == "batch":
            self.scheduler.step()
        announce("after_batch")

    @property
    def running_loss(self) -> float:
        """The mean training loss of the current epoch so far."""
        return self._loss_sum / max(self.samples_seen, 1)

    @property
    def running_accuracy(self) -> float:
        """The training accuracy of the current epoch so far; NaN where targets are not class numbers."""
        return self._correct / self._counted if self._counted else float("nan")


class _evaluating:
    """Puts a model into evaluation mode, and back into the mode each of its modules was in."""

    def __init__(self, model: Any) -> None:
        self.modules = list(model.modules()) if hasattr(model, "modules") else []
        self.model = model

    def __enter__(self) -> None:
        self.was_training = [module.training for module in self.modules]
        if self.modules:
            self.model.eval()

    def __exit__(self, *exc: object) -> None:
        for module, training in zip(self.modules, self.was_training, strict=True):
            module.training = training


def _listeners(callbacks: list[Any]) -> dict[str, list[Callable[[Trainer], None]]]:
    table: dict[str, list[Callable[[Trainer], None]]] = {event: [] for event in EVENTS}
    for callback in callbacks:
        for name in dir(type(callback)):
            if name in table:
                table[name].append(getattr(callback, name))
            elif name.startswith(("before_", "after_")):
                raise ValueError(
                    f"[Trainer] {type(callback).__name__}.{name} names no event: expected one of {', '.join(EVENTS)}"
                )
    return table


def _inputs_of(batch: Any) -> Any:
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def _class_numbers(outputs: Any, targets: Any) -> np.ndarray | None:
    """The targets as an array when this is plain classification, else None."""
    if len(outputs.shape) != 2 or len(targets.shape) != 1 or "int" not in str(targets.dtype):
        return None
    labels: np.ndarray = targets.numpy()
    return labels
