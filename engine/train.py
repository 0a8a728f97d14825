"""The training loop: five verbs, and events around them.

A step is predict, loss, backward, step, zero_grad. `Trainer` runs them over loaders and announces what it is about to
do and has done; everything else (progress, checkpoints, early stopping, logging) is a callback. To change how a step
works, override the verb. To watch or steer it, write a callback. To own the loop, call the verbs yourself.
"""

from __future__ import annotations

import inspect
import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, overload

import numpy as np

from engine import backend as B
from engine.autograd import no_grad
from engine.tensor import Tensor

__all__ = ["EVENTS", "Evaluation", "NonFiniteLossError", "Trainer"]

# What callbacks may define: before_fit, after_fit, before_epoch, ...; `interrupt` comes between two steps when the user
# has pressed Ctrl-C, `close` last, also after an error.
_SPANS = ("fit", "epoch", "batch", "predict", "loss", "backward", "step", "zero_grad", "evaluate")
EVENTS = (*(f"{when}_{span}" for span in _SPANS for when in ("before", "after")), "interrupt", "close")


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


@dataclass
class _Tally:
    """What the batches of an epoch have summed up to; saved with a checkpoint in the middle of the epoch."""

    lr: float | None = None  # at the first step
    loss: float = 0.0
    samples: int = 0
    correct: int = 0
    counted: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    step_seconds: float = 0.0


class Trainer:
    """Trains and evaluates a model on batches of (inputs, targets).

    During a fit, callbacks find here: `epoch` (counted from 0) and `epochs`, `steps_done`, `batch_index`, `batches`
    (per epoch), `inputs`, `targets`, `outputs`, `loss_tensor`, `loss_value` of the current batch, `row` (the numbers of
    the current epoch), `history` (the rows of the epochs so far), `train_loader`, `valid_loader`. They end training
    early with `stop`.

    The first Ctrl-C during a fit takes effect between two steps: callbacks are told (`engine.callbacks.Checkpoint`
    saves) and KeyboardInterrupt is raised. A second one takes effect at once.

    Args:
        model: maps inputs to outputs; has `train`, `eval`, `parameters` and `state_dict` as `engine.nn.Module`.
        loss_fn: maps (outputs, targets) to a scalar tensor, the mean over the batch.
        optimizer: updates the parameters; None when the trainer only evaluates and predicts.
        scheduler: changes the learning rate, or None.
        scheduler_interval: when the scheduler steps, after every "epoch" or after every "batch" (with `accumulate`:
            after every update).
        scheduler_monitor: what a scheduler that wants a number is given, e.g. ReduceLROnPlateau; "val_loss" by default
            when there is a validation loader, else "train_loss".
        accumulate: batches whose gradients are summed up for one update. The update is that of one batch of all their
            samples: each batch counts by its size. (Batch norm still sees the small batches.)
        callbacks: objects with methods named after `EVENTS`, each called with the trainer; they run in the order of
            their `order` attribute (0 when absent), equal ones as given.

    Raises:
        ValueError: for an unknown interval, accumulate below 1, or a callback with a before_, after_ or on_ method that
            names no event.

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
        scheduler_monitor: str | None = None,
        accumulate: int = 1,
        callbacks: Iterable[Any] = (),
    ) -> None:
        if scheduler_interval not in ("epoch", "batch"):
            raise ValueError(f'[Trainer] expected scheduler_interval "epoch" or "batch", got {scheduler_interval!r}')
        if accumulate < 1:
            raise ValueError(f"[Trainer] expected accumulate of at least 1, the batches per update, got {accumulate}")
        self.model = model
        self.loss_fn = loss_fn
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.scheduler_interval = scheduler_interval
        self.scheduler_monitor = scheduler_monitor
        self.accumulate = accumulate
        self.callbacks = sorted(callbacks, key=lambda callback: getattr(callback, "order", 0))
        self.train_loader: Any = None
        self.valid_loader: Any = None
        self.fitting = False
        self.epoch = 0
        self.epochs = 0
        self.steps_done = 0
        self.batch_index = 0
        self.batches = 0
        self.batches_done = 0  # of the current epoch
        self.history: list[dict[str, Any]] = []
        self.row: dict[str, Any] = {}
        self.stop_reason: str | None = None
        self.inputs: Any = None
        self.targets: Any = None
        self.outputs: Any = None
        self.loss_tensor: Any = None
        self.loss_value = float("nan")
        #: Weights that stand in for the model's own where it is judged and kept (an average of them), or None.
        self.averaged_weights: dict[str, Any] | None = None
        self._tally = _Tally()
        self._waiting = [0, 0]  # batches and samples whose gradients wait for an update
        self._interrupts = _Interrupts()
        self._loader_state: Any = None
        self._expected_data: str | None = None
        self._data: tuple[Any, str] | None = None
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
            valid_loader: evaluated after every epoch, or None; told the epoch likewise.
            epochs: epochs in total, those of earlier calls included.

        Returns:
            `history`: per epoch a dict of epoch, lr, train_loss, train_accuracy, val_loss, val_accuracy (accuracies
            only where targets are class numbers), seconds, images_per_second, and where the seconds went:
            data_seconds (waiting for the loader), forward_seconds, backward_seconds, step_seconds; data_share is the
            part of all that was spent waiting for data.

        Raises:
            ValueError: when there is no optimizer, the loader gave no batch, or a state was loaded that was reached on
                other data.
            KeyboardInterrupt: after Ctrl-C, between two steps and after the callbacks have been told.
        """
        if self.optimizer is None:
            raise ValueError("[Trainer.fit] expected an optimizer: pass one to Trainer(model, loss_fn, optimizer)")
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.epochs = epochs
        self.stop_reason = None
        self._check_data()
        self.fitting = True
        try:
            with self._interrupts:
                self._announce("before_fit")
                while self.epoch < epochs and self.stop_reason is None:
                    self._fit_epoch(train_loader, valid_loader)
                self._announce("after_fit")
        except _InterruptedBetweenSteps:
            self._announce("interrupt")
            raise KeyboardInterrupt from None
        finally:
            self._announce("close")
            self.fitting = False
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
        loss_sum, samples = 0.0, 0
        predictions: list[np.ndarray] = []
        truths: list[np.ndarray] = []
        self._announce("before_evaluate")
        try:
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
                    self._interrupts.check()
        finally:
            self._announce("after_evaluate")
        if samples == 0:
            raise ValueError("[Trainer.evaluate] expected at least one batch, got none: is the data set empty?")
        result = Evaluation(loss_sum / samples, None, None, None, samples)
        if truths:
            result.targets, result.predictions = np.concatenate(truths), np.concatenate(predictions)
            result.accuracy = float(np.mean(result.targets == result.predictions))
        return result

    # State.

    def weights(self) -> dict[str, Any]:
        """Returns the weights by which the model is judged: `averaged_weights` where there are, else its own."""
        own: dict[str, Any] = self.model.state_dict() if self.averaged_weights is None else self.averaged_weights
        return own

    def state_dict(self) -> dict[str, Any]:
        """Returns how far training is: epochs, batches and steps done, the history, what callbacks remember.

        Between two steps (in `after_batch` when no gradients wait for an update, `after_epoch`, `interrupt`) this, with
        the states of model, optimizer, scheduler and random generator, is all that the rest of the run depends on.
        """
        remembered = {name: c.state_dict() for name, c in self._named_callbacks() if hasattr(c, "state_dict")}
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "steps_done": self.steps_done,
            "history": [dict(row) for row in self.history],
            "callbacks": remembered,
        }
        if self.batches_done:
            state["batches_done"] = self.batches_done
            state["tally"] = asdict(self._tally)
            if hasattr(self.train_loader, "state_dict"):
                state["loader"] = self.train_loader.state_dict()
        if self.train_loader is not None:
            state["data"] = self._data_fingerprint()
        return state

    def load_state_dict(self, state: dict[str, Any], check_data: bool = True) -> None:
        """Continues from what `state_dict` returned; model, optimizer and scheduler are restored by their own.

        Args:
            state: a trainer's state.
            check_data: whether the next fit must be on the data that the state was reached with.
        """
        self.epoch = int(state["epoch"])
        self.steps_done = int(state["steps_done"])
        self.history = [dict(row) for row in state["history"]]
        self.batches_done = int(state.get("batches_done", 0))
        self._tally = _Tally(**state.get("tally", {}))
        self._loader_state = state.get("loader")
        self._expected_data = state.get("data") if check_data else None
        remembered = state.get("callbacks", {})
        for name, callback in self._named_callbacks():
            if name in remembered:
                callback.load_state_dict(remembered[name])

    def _named_callbacks(self) -> Iterator[tuple[str, Any]]:
        seen: dict[str, int] = {}
        for callback in self.callbacks:
            name = type(callback).__name__
            seen[name] = seen.get(name, 0) + 1
            yield (name if seen[name] == 1 else f"{name}.{seen[name]}"), callback

    def _data_fingerprint(self) -> str:
        from engine.data.fingerprint import fingerprint

        source = getattr(self.train_loader, "dataset", self.train_loader)
        if self._data is None or self._data[0] is not source:
            self._data = (source, fingerprint(source))
        return self._data[1]

    def _check_data(self) -> None:
        expected, self._expected_data = self._expected_data, None
        if expected is not None and expected != self._data_fingerprint():
            raise ValueError(
                f"[Trainer.fit] this training began on other data (fingerprint {expected[:12]}, now "
                f"{self._data_fingerprint()[:12]}): pass the data set it began with, or "
                "load_state_dict(state, check_data=False) to continue on this one"
            )

    def _announce(self, event: str) -> None:
        for listener in self._listeners[event]:
            listener(self)

    def _fit_epoch(self, train_loader: Any, valid_loader: Any) -> None:
        self.row = {"epoch": self.epoch + 1}
        if not self.batches_done:
            self._tally = _Tally()
            if getattr(self.optimizer, "param_groups", None):
                # The last group is the head's where groups have rates of their own.
                self._tally.lr = float(self.optimizer.param_groups[-1]["lr"])
        if self._tally.lr is not None:
            self.row["lr"] = self._tally.lr
        self.batches = len(train_loader) if hasattr(train_loader, "__len__") else 0
        if hasattr(train_loader, "set_epoch"):
            train_loader.set_epoch(self.epoch)
        self.model.train()
        self._announce("before_epoch")
        tally, clock = self._tally, time.perf_counter
        begin, before = clock(), tally.seconds
        asked = begin
        self.batch_index = self.batches_done - 1
        for batch in self._remaining(train_loader):
            self.inputs, self.targets = batch
            self.batch_index += 1
            tally.data_seconds += clock() - asked
            self._fit_batch()
            tally.seconds = before + clock() - begin
            if not self._waiting[0]:
                self._interrupts.check()
            if self.stop_reason is not None:
                break
            asked = clock()
        if self._waiting[0]:
            self._update()
        if tally.samples == 0:
            raise ValueError(
                "[Trainer.fit] expected at least one batch per epoch, got none: the data set is empty, or smaller "
                "than one batch with drop_last=True"
            )
        tally.seconds = before + clock() - begin
        self.row["train_loss"] = self.running_loss
        if tally.counted:
            self.row["train_accuracy"] = self.running_accuracy
        if valid_loader is not None:
            if hasattr(valid_loader, "set_epoch"):
                valid_loader.set_epoch(self.epoch)
            validation = self.evaluate(valid_loader)
            self.row["val_loss"] = validation.loss
            if validation.accuracy is not None:
                self.row["val_accuracy"] = validation.accuracy
        seconds = max(tally.seconds, 1e-9)
        self.row.update(
            seconds=tally.seconds,
            data_seconds=tally.data_seconds,
            forward_seconds=tally.forward_seconds,
            backward_seconds=tally.backward_seconds,
            step_seconds=tally.step_seconds,
            data_share=tally.data_seconds / seconds,
            images_per_second=tally.samples / seconds,
        )
        self.epoch += 1
        self.batches_done = 0
        self.history.append(self.row)
        if self.scheduler is not None and self.scheduler_interval == "epoch":
            self._step_scheduler()
        self._announce("after_epoch")

    def _remaining(self, loader: Any) -> Iterator[Any]:
        """The batches of the epoch that are still to be done."""
        state, self._loader_state = self._loader_state, None
        if not self.batches_done:
            return iter(loader)
        if self.batches and self.batches_done >= self.batches:  # saved between the last step and the end of the epoch
            return iter(())
        if state is not None and hasattr(loader, "load_state_dict"):
            loader.load_state_dict(state)
            return iter(loader)
        return itertools.islice(iter(loader), self.batches_done, None)

    def _fit_batch(self) -> None:
        announce, clock, tally = self._announce, time.perf_counter, self._tally
        announce("before_batch")
        begin = clock()
        announce("before_predict")
        self.outputs = self.predict(self.inputs)
        announce("after_predict")
        announce("before_loss")
        self.loss_tensor = self.loss(self.outputs, self.targets)
        self.loss_value = float(self.loss_tensor.item())
        announce("after_loss")
        predicted = clock()
        count = len(self.inputs)
        announce("before_backward")
        self.backward(self.loss_tensor if self.accumulate == 1 else self.loss_tensor * float(count))
        announce("after_backward")
        tally.forward_seconds += predicted - begin
        tally.backward_seconds += clock() - predicted
        self._waiting[0] += 1
        self._waiting[1] += count
        if self._waiting[0] == self.accumulate:
            self._update()
        self.batches_done += 1
        tally.samples += count
        tally.loss += self.loss_value * count
        labels = _class_numbers(self.outputs, self.targets)
        if labels is not None:
            tally.correct += int(np.count_nonzero(self.outputs.detach().numpy().argmax(axis=1) == labels))
            tally.counted += count
        announce("after_batch")

    def _update(self) -> None:
        """Takes the step that the gradients are there for."""
        announce, begin = self._announce, time.perf_counter()
        if self.accumulate > 1:  # gradients of sums over samples become that of the mean
            gradients = [p.grad.data for p in self.model.parameters() if p.grad is not None]
            if gradients:
                B.scale_(gradients, 1.0 / self._waiting[1])
        self._waiting = [0, 0]
        announce("before_step")
        self.step()
        announce("after_step")
        announce("before_zero_grad")
        self.zero_grad()
        announce("after_zero_grad")
        self.steps_done += 1
        if self.scheduler is not None and self.scheduler_interval == "batch":
            self._step_scheduler()
        self._tally.step_seconds += time.perf_counter() - begin

    def _step_scheduler(self) -> None:
        if "metrics" not in inspect.signature(self.scheduler.step).parameters:
            self.scheduler.step()
            return
        name = self.scheduler_monitor or ("val_loss" if "val_loss" in self.row else "train_loss")
        row = self.row if self.scheduler_interval == "epoch" else {"train_loss": self.loss_value}
        if name not in row:
            raise ValueError(
                f"[Trainer] {type(self.scheduler).__name__} cannot follow {name!r}: the numbers after every "
                f"{self.scheduler_interval} are {', '.join(row)}; set scheduler_monitor to one of them"
            )
        self.scheduler.step(row[name])

    @property
    def samples_seen(self) -> int:
        """Samples of the current epoch so far."""
        return self._tally.samples

    @property
    def updates_pending(self) -> bool:
        """Whether gradients wait for an update, so that the present state could not be continued from a file."""
        return self._waiting[0] > 0

    @property
    def running_loss(self) -> float:
        """The mean training loss of the current epoch so far."""
        return self._tally.loss / max(self._tally.samples, 1)

    @property
    def running_accuracy(self) -> float:
        """The training accuracy of the current epoch so far; NaN where targets are not class numbers."""
        return self._tally.correct / self._tally.counted if self._tally.counted else float("nan")


class _InterruptedBetweenSteps(KeyboardInterrupt):
    """Ctrl-C, at a moment when everything is consistent."""


class _Interrupts:
    """Notes the first Ctrl-C, for `check` to raise at a good moment; the second one is raised where it strikes.

    Does nothing where the program has a handler of its own, and in threads, which get no signals.
    """

    def __init__(self) -> None:
        self.noted = False
        self._active = False

    def __enter__(self) -> None:
        self.noted = False
        self._active = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._active:
            signal.signal(signal.SIGINT, self._note)

    def __exit__(self, *exc: object) -> None:
        if self._active:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._active = False
        self.noted = False

    def _note(self, number: int, frame: object) -> None:
        if self.noted:
            raise KeyboardInterrupt
        self.noted = True

    def check(self) -> None:
        if self.noted:
            raise _InterruptedBetweenSteps


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
            elif name.startswith(("before_", "after_", "on_")):
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
