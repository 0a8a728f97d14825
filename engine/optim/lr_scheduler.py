"""Learning-rate schedules.

A scheduler changes the "lr" of the optimizer's groups: once when it is made, then at every `step()`, which is called
after `optimizer.step()` (or after an epoch of them; an "epoch" below is whatever lies between two calls). Most
schedules multiply the rate that they find, so that several can act on one optimizer.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any, SupportsFloat

from engine.optim.optimizer import Optimizer

__all__ = [
    "ChainedScheduler",
    "ConstantLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "MultiplicativeLR",
    "OneCycleLR",
    "PolynomialLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
]


class LRScheduler:
    """Base class: a subclass defines `get_lr`, the rates at `self.last_epoch`.

    Args:
        optimizer: its groups' "lr" is changed.
        last_epoch: index of the last epoch done; -1 starts anew, otherwise the groups must hold "initial_lr".

    Raises:
        TypeError: optimizer is not an Optimizer.
        KeyError: "initial_lr" is missing.

    Follows torch.optim.lr_scheduler.LRScheduler.
    """

    _initial = False
    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch >= 0: load the optimizer's state dict first"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._first_step()

    def _attach(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer

    def _first_step(self) -> None:
        self._step_count = 0
        self._initial = True
        try:
            self.step()
        finally:
            del self._initial

    def get_lr(self) -> list[float]:
        """Returns the rate of each group at last_epoch; for users, `get_last_lr` is the right call."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """Returns the rate of each group that this scheduler set last."""
        return self._last_lr

    def step(self) -> None:
        """Goes to the next epoch and sets its rates."""
        if self._step_count == 1 and not self.optimizer._stepped:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`: call `optimizer.step()` first, or "
                "the first value of the schedule is skipped.",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self.last_epoch += 1
        self._set(self.get_lr())

    def _restart(self) -> None:
        """Goes to epoch 0 from the initial rates, whatever the present ones are."""
        self.last_epoch = 0
        self._set(self._first_lr())

    def _first_lr(self) -> list[float]:
        return self.get_lr()

    def _set(self, values: Sequence[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, values):
            group["lr"] = lr
        self._last_lr = list(values)

    def _rates(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Returns all attributes but the optimizer (and functions): numbers, strings and lists."""
        return {key: value for key, value in self.__dict__.items() if key not in self._not_saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over what `state_dict` returned."""
        self.__dict__.update(state_dict)


class _Chainable(LRScheduler):
    """Multiplies the present rate by a factor at every epoch; at epoch 0 this is the first factor."""

    # Whether a scheduler that resumes applies the factor of the epoch at which it resumes.
    _on_resume = False

    def _factor(self, epoch: int) -> float:
        raise NotImplementedError

    def get_lr(self) -> list[float]:
        if self._initial and self.last_epoch > 0 and not self._on_resume:
            return self._rates()
        factor = self._factor(self.last_epoch)
        return [lr * factor for lr in self._rates()]

    def _first_lr(self) -> list[float]:
        factor = self._factor(0)
        return [lr * factor for lr in self.base_lrs]


def _functions(
    function: Callable[[int], float] | Sequence[Callable[[int], float]], optimizer: Optimizer
) -> list[Callable[[int], float]]:
    count = len(optimizer.param_groups)
    if isinstance(function, (list, tuple)):
        if len(function) != count:
            raise ValueError(f"Expected {count} lr_lambdas, but got {len(function)}")
        return list(function)
    return [function] * count  # type: ignore[list-item]


class LambdaLR(LRScheduler):
    """Initial rate times a function of the epoch.

    Args:
        optimizer: its groups' "lr" is changed.
        lr_lambda: the function, or one for each group; not part of the state dict.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: the number of functions is not that of groups.

    Example:
        >>> import engine
        >>> optimizer = engine.optim.SGD([engine.nn.Parameter(engine.ones(1))], lr=1.0)
        >>> scheduler = engine.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch)
        >>> for epoch in range(2):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]

    Follows torch.optim.lr_scheduler.LambdaLR.
    """

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _functions(lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [lr * function(self.last_epoch) for function, lr in zip(self.lr_lambdas, self.base_lrs)]


class MultiplicativeLR(LRScheduler):
    """Present rate times a function of the epoch, from epoch 1 on.

    Args:
        optimizer: its groups' "lr" is changed.
        lr_lambda: the function, or one for each group; not part of the state dict.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: the number of functions is not that of groups.

    Follows torch.optim.lr_scheduler.MultiplicativeLR.
    """

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self.lr_lambdas = _functions(lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self._initial:
            return self._rates()
        return [lr * function(self.last_epoch) for function, lr in zip(self.lr_lambdas, self._rates())]


class StepLR(_Chainable):
    """Multiplies the rate by gamma every step_size epochs.

    Args:
        optimizer: its groups' "lr" is changed.
        step_size: epochs between two reductions.
        gamma: the factor.
        last_epoch: index of the last epoch done; -1 starts anew.

    Example:
        >>> import engine
        >>> optimizer = engine.optim.SGD([engine.nn.Parameter(engine.ones(1))], lr=1.0)
        >>> scheduler = engine.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> for epoch in range(4):
        ...     optimizer.step()
        ...     scheduler.step()
        >>> scheduler.get_last_lr()
        [0.25]

    Follows torch.optim.lr_scheduler.StepLR.
    """

    _on_resume = True

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = step_size
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.gamma if epoch != 0 and epoch % self.step_size == 0 else 1.0


class MultiStepLR(_Chainable):
    """Multiplies the rate by gamma at given epochs.

    Args:
        optimizer: its groups' "lr" is changed.
        milestones: the epochs; one that stands twice counts twice.
        gamma: the factor.
        last_epoch: index of the last epoch done; -1 starts anew.

    Follows torch.optim.lr_scheduler.MultiStepLR.
    """

    _on_resume = True

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return self.gamma ** self.milestones.count(epoch)


class ConstantLR(_Chainable):
    """Multiplies the rate by a factor for the first epochs.

    Args:
        optimizer: its groups' "lr" is changed.
        factor: the factor, 0 to 1.
        total_iters: number of epochs with it.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: factor is out of range.

    Follows torch.optim.lr_scheduler.ConstantLR.
    """

    _on_resume = True

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        if not 0 <= factor <= 1:
            raise ValueError(f"Constant multiplicative factor expected to be between 0 and 1, got {factor}")
        self.factor = factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        if epoch == 0:
            return self.factor
        return 1.0 / self.factor if epoch == self.total_iters else 1.0

    def get_lr(self) -> list[float]:
        if self.factor == 0 and self.last_epoch == self.total_iters:  # zero cannot be undone by a factor
            return list(self.base_lrs)
        return super().get_lr()

    def _first_lr(self) -> list[float]:
        return [lr * (self.factor if self.total_iters > 0 else 1.0) for lr in self.base_lrs]


class LinearLR(_Chainable):
    """Moves the rate's factor linearly from start_factor to end_factor: a warm-up.

    Args:
        optimizer: its groups' "lr" is changed.
        start_factor: first factor, above 0, at most 1.
        end_factor: last factor, 0 to 1.
        total_iters: epochs until the last factor.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: a factor is out of range.

    Follows torch.optim.lr_scheduler.LinearLR.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not 0 < start_factor <= 1:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1, "
                f"got {start_factor}"
            )
        if not 0 <= end_factor <= 1:
            raise ValueError(f"Ending multiplicative factor expected to be between 0 and 1, got {end_factor}")
        self.start_factor = start_factor
        self.end_factor = end_factor
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        if epoch == 0:
            return self.start_factor
        if epoch > self.total_iters:
            return 1.0
        rise = self.end_factor - self.start_factor
        return 1.0 + rise / (self.total_iters * self.start_factor + (epoch - 1) * rise)


class ExponentialLR(_Chainable):
    """Multiplies the rate by gamma at every epoch.

    Args:
        optimizer: its groups' "lr" is changed.
        gamma: the factor.
        last_epoch: index of the last epoch done; -1 starts anew.

    Follows torch.optim.lr_scheduler.ExponentialLR.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        return 1.0 if epoch == 0 else self.gamma


class PolynomialLR(_Chainable):
    """Initial rate times (1 - epoch / total_iters)^power.

    Args:
        optimizer: its groups' "lr" is changed.
        total_iters: epochs until the rate is zero.
        power: the exponent.
        last_epoch: index of the last epoch done; -1 starts anew.

    Follows torch.optim.lr_scheduler.PolynomialLR.
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self.total_iters = total_iters
        self.power = power
        super().__init__(optimizer, last_epoch)

    def _factor(self, epoch: int) -> float:
        if epoch == 0 or epoch > self.total_iters:
            return 1.0
        now, before = 1.0 - epoch / self.total_iters, 1.0 - (epoch - 1) / self.total_iters
        return (now / before) ** self.power


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial rate down to eta_min, and up again if continued.

    Args:
        optimizer: its groups' "lr" is changed.
        T_max: epochs from the initial rate to eta_min.
        eta_min: the smallest rate.
        last_epoch: index of the last epoch done; -1 starts anew.

    Example:
        >>> import engine
        >>> optimizer = engine.optim.SGD([engine.nn.Parameter(engine.ones(1))], lr=1.0)
        >>> scheduler = engine.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> optimizer.step()
        >>> scheduler.step()
        >>> round(scheduler.get_last_lr()[0], 6)
        0.5

    Follows torch.optim.lr_scheduler.CosineAnnealingLR; Loshchilov and Hutter, https://arxiv.org/abs/1608.03983.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = T_max
        self.eta_min = eta_min
        super().__init__(optimizer, last_epoch)

    def _height(self, epoch: int) -> float:
        return 1 + math.cos(math.pi * epoch / self.T_max)

    def get_lr(self) -> list[float]:
        epoch = self.last_epoch
        if self._initial:
            return self._rates()
        if (epoch - 1 - self.T_max) % (2 * self.T_max) == 0:  # leaving the valley, where the ratio below is 0 / 0
            rise = (1 - math.cos(math.pi / self.T_max)) / 2
            return [lr + (base - self.eta_min) * rise for base, lr in zip(self.base_lrs, self._rates())]
        ratio = self._height(epoch) / self._height(epoch - 1)
        return [ratio * (lr - self.eta_min) + self.eta_min for lr in self._rates()]

    def _first_lr(self) -> list[float]:
        return list(self.base_lrs)


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine from the initial rate down to eta_min, again and again.

    Args:
        optimizer: its groups' "lr" is changed.
        T_0: epochs of the first descent.
        T_mult: every descent is so many times longer than the one before.
        eta_min: the smallest rate.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: T_0 or T_mult is not a positive integer.

    Follows torch.optim.lr_scheduler.CosineAnnealingWarmRestarts; Loshchilov and Hutter,
    https://arxiv.org/abs/1608.03983.
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        self.T_0 = T_0
        self.T_i = T_0
        self.T_mult = T_mult
        self.eta_min = eta_min
        self.T_cur: float = last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        height = (1 + math.cos(math.pi * self.T_cur / self.T_i)) / 2
        return [self.eta_min + (base - self.eta_min) * height for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Goes to the next epoch, or to a given point, and sets its rates.

        Args:
            epoch: the point, e.g. epoch + batch / batches for a rate that changes at every batch.

        Raises:
            ValueError: epoch is negative.
        """
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = epoch or 0
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            if epoch < self.T_0:
                self.T_i, self.T_cur = self.T_0, epoch
            elif self.T_mult == 1:
                self.T_cur = epoch % self.T_0
            else:
                restarts = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
                self.T_cur = epoch - self.T_0 * (self.T_mult**restarts - 1) / (self.T_mult - 1)
                self.T_i = self.T_0 * self.T_mult**restarts
        self.last_epoch = math.floor(epoch)
        self._set(self.get_lr())

    def _first_lr(self) -> list[float]:
        self.T_i, self.T_cur = self.T_0, 0
        return self.get_lr()


class OneCycleLR(LRScheduler):
    """Up to max_lr and down to almost nothing, once, in steps of batches; momentum goes the other way.

    Args:
        optimizer: its groups' "lr" (and "momentum" or "betas") is changed.
        max_lr: the largest rate, or one for each group.
        total_steps: number of steps; or give epochs and steps_per_epoch.
        epochs: number of epochs.
        steps_per_epoch: number of batches per epoch.
        pct_start: share of the steps in which the rate rises.
        anneal_strategy: "cos" or "linear".
        cycle_momentum: whether the momentum falls while the rate rises.
        base_momentum: the smallest momentum, or one for each group.
        max_momentum: the largest momentum, or one for each group.
        div_factor: max_lr / first rate.
        final_div_factor: first rate / last rate.
        three_phase: fall to the first rate as fast as it rose, then to the last.
        last_epoch: index of the last step done; -1 starts anew.

    Raises:
        ValueError: an argument is out of range; at `step`, when it is called more than total_steps times.

    Follows torch.optim.lr_scheduler.OneCycleLR; Smith and Topin, https://arxiv.org/abs/1708.07120.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
            for name, value in (("epochs", epochs), ("steps_per_epoch", steps_per_epoch)):
                if not isinstance(value, int) or value <= 0:
                    raise ValueError(f"Expected positive integer {name}, but got {value}")
            total_steps = epochs * steps_per_epoch
        elif not isinstance(total_steps, int) or total_steps <= 0:
            raise ValueError(f"Expected positive integer total_steps, but got {total_steps}")
        if not 0 <= pct_start <= 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        self.total_steps = total_steps
        self.anneal_strategy = anneal_strategy
        self.cycle_momentum = cycle_momentum
        # Phases: (last step, rate at start and end, momentum at start and end), as keys of the groups.
        up = (float(pct_start * total_steps) - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        last = float(total_steps - 1)
        if three_phase:
            turn = float(2 * pct_start * total_steps) - 2
            self._phases: list[tuple[Any, ...]] = [
                up,
                (turn, "max_lr", "initial_lr", "base_momentum", "max_momentum"),
                (last, "initial_lr", "min_lr", "max_momentum", "max_momentum"),
            ]
        else:
            self._phases = [up, (last, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        groups = optimizer.param_groups
        if cycle_momentum and not {"momentum", "betas"} & set(optimizer.defaults):
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in optimizer.defaults
        if last_epoch == -1:
            for group, rate in zip(groups, _per_group("max_lr", max_lr, optimizer)):
                group["initial_lr"] = rate / div_factor
                group["max_lr"] = rate
                group["min_lr"] = group["initial_lr"] / final_div_factor
            if cycle_momentum:
                largest = _per_group("max_momentum", max_momentum, optimizer)
                smallest = _per_group("base_momentum", base_momentum, optimizer)
                for group, group["max_momentum"], group["base_momentum"] in zip(groups, largest, smallest):
                    self._set_momentum(group, group["max_momentum"])
        super().__init__(optimizer, last_epoch)

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value

    def _between(self, start: float, end: float, share: float) -> float:
        if self.anneal_strategy == "cos":
            return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
        return (end - start) * share + start

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise ValueError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")
        phases = self._phases
        current = next((i for i, phase in enumerate(phases) if step <= phase[0]), len(phases) - 1)
        start = phases[current - 1][0] if current > 0 else 0.0
        end, *keys = phases[current]
        share = (step - start) / (end - start)
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[keys[0]], group[keys[1]], share))
            if self.cycle_momentum:
                self._set_momentum(group, self._between(group[keys[2]], group[keys[3]], share))
        return rates


def _per_group(name: str, value: float | Sequence[float], optimizer: Optimizer) -> list[float]:
    count = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            raise ValueError(f"{name} must have the same length as optimizer.param_groups: {count}, got {len(value)}")
        return list(value)
    return [value] * count  # type: ignore[list-item]


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the rate by a factor when a quantity has stopped improving.

    Args:
        optimizer: its groups' "lr" is changed.
        mode: "min" if smaller is better, "max" if larger.
        factor: the factor, below 1.
        patience: epochs without improvement that are tolerated.
        threshold: what counts as an improvement.
        threshold_mode: "rel" takes the threshold as a share of the best value, "abs" as an amount.
        cooldown: epochs after a reduction in which none are counted.
        min_lr: the smallest rate, or one for each group.
        eps: smaller reductions are left out.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> import engine
        >>> optimizer = engine.optim.SGD([engine.nn.Parameter(engine.ones(1))], lr=1.0)
        >>> scheduler = engine.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (1.0, 1.0, 1.0):
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]

    Follows torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1.0:
            raise ValueError(f"Factor should be < 1.0, got {factor}")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown, expected 'min' or 'max'")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown, expected 'rel' or 'abs'")
        self._attach(optimizer)
        self.min_lrs = _per_group("min_lr", min_lr, optimizer)
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.cooldown = cooldown
        self.eps = eps
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self.last_epoch = 0
        self._last_lr = self._rates()

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Looks at the quantity after an epoch and reduces the rates when it is time.

        Args:
            metrics: the quantity: a number or a tensor of one element.
        """
        current = float(metrics)
        self.last_epoch += 1
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def _is_better(self, current: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            limit = self.best * (1.0 + sign * self.threshold)
        else:
            limit = self.best + sign * self.threshold
        return current > limit if self.mode == "max" else current < limit

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        self.min_lrs += [self.min_lrs[-1]] * (len(groups) - len(self.min_lrs))  # for groups added since
        for group, smallest in zip(groups, self.min_lrs):
            reduced = max(group["lr"] * self.factor, smallest)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced


def _check_schedulers(name: str, schedulers: Sequence[LRScheduler], optimizer: Optimizer) -> None:
    for i, scheduler in enumerate(schedulers):
        if isinstance(scheduler, ReduceLROnPlateau):
            raise ValueError(
                f"{name} does not support `ReduceLROnPlateau` scheduler as it requires additional kwargs to be "
                f"specified when calling `step`, but got one at index {i} in the given schedulers sequence."
            )
        if scheduler.optimizer is not optimizer:
            raise ValueError(
                f"{name} expects all schedulers to belong to the same optimizer, but the one at index {i} has another"
            )


class _Composite(LRScheduler):
    _not_saved = ("optimizer", "_schedulers")
    _schedulers: list[LRScheduler]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_schedulers": [scheduler.state_dict() for scheduler in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        own = dict(state_dict)
        for scheduler, state in zip(self._schedulers, own.pop("_schedulers")):
            scheduler.load_state_dict(state)
        self.__dict__.update(own)


class ChainedScheduler(_Composite):
    """Steps several schedulers at once, each on the rates that the one before has set.

    Args:
        schedulers: the schedulers, all of one optimizer.
        optimizer: that optimizer; taken from the first scheduler by default.

    Raises:
        ValueError: there are none, or their optimizers differ.

    Follows torch.optim.lr_scheduler.ChainedScheduler.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        if not schedulers:
            raise ValueError("ChainedScheduler expects at least one scheduler to be chained, but got no scheduler.")
        self.optimizer = optimizer or schedulers[0].optimizer
        _check_schedulers("ChainedScheduler", schedulers, self.optimizer)
        self._schedulers = list(schedulers)
        self._last_lr = self._rates()

    def step(self) -> None:
        """Steps every scheduler."""
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


class SequentialLR(_Composite):
    """Runs schedulers one after the other, each from its epoch 0.

    Args:
        optimizer: its groups' "lr" is changed.
        schedulers: the schedulers, all of this optimizer.
        milestones: the epochs at which the second, third, ... takes over.
        last_epoch: index of the last epoch done; -1 starts anew.

    Raises:
        ValueError: the numbers of schedulers and milestones do not fit, or the optimizers differ.

    Example:
        >>> import engine
        >>> from engine.optim import lr_scheduler
        >>> optimizer = engine.optim.SGD([engine.nn.Parameter(engine.ones(1))], lr=1.0)
        >>> warm_up = lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> decay = lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = lr_scheduler.SequentialLR(optimizer, [warm_up, decay], milestones=[2])
        >>> rates = []
        >>> for epoch in range(4):
        ...     rates += scheduler.get_last_lr()
        ...     optimizer.step()
        ...     scheduler.step()
        >>> rates
        [0.5, 0.75, 1.0, 0.5]

    Follows torch.optim.lr_scheduler.SequentialLR.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        if not schedulers:
            raise ValueError("SequentialLR expects at least one scheduler, but got no scheduler.")
        _check_schedulers("SequentialLR", schedulers, optimizer)
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                "Sequential Schedulers expects number of schedulers provided to be one more than the number of "
                f"milestone points, but got number of schedulers {len(schedulers)} and the number of milestones to be "
                f"equal to {len(milestones)}"
            )
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        _undo_first_step(self._schedulers)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._first_step()
        self._last_lr = first.get_last_lr()

    def step(self) -> None:
        """Goes to the next epoch and sets its rates."""
        self.last_epoch += 1
        position = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[position]
        if position > 0 and self._milestones[position - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


def _undo_first_step(schedulers: Sequence[LRScheduler]) -> None:
    for scheduler in schedulers:
        if isinstance(scheduler, _Composite):
            _undo_first_step(scheduler._schedulers)
        else:
            scheduler.last_epoch -= 1
