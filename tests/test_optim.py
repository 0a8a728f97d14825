"""Every optimizer and every schedule does what PyTorch's does; state dicts continue a run; bad options are errors."""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import engine
from engine import optim
from engine.optim import lr_scheduler

STEPS = 12
SHAPES = [(3, 5), (7,), (4, 3, 3, 3), (1,), (33, 2)]

# name of the class, its options: each row is run in two groups, the second with another rate
OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "maximize": True}),
    ("RMSprop", {"lr": 0.01}),
    ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.9, "centered": True}),
    ("RMSprop", {"lr": 0.01, "momentum": 0.5, "maximize": True}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Adagrad", {"lr": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adam", {"lr": 0.01, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "amsgrad": True}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.3, "maximize": True}),
]


def name_of(case: Any) -> str:
    if isinstance(case, tuple) and len(case) == 2:
        return f"{case[0]}({', '.join(f'{k}={v}' for k, v in case[1].items())})"
    return str(case)


def values(seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def parameters(seed: int = 0) -> list[engine.nn.Parameter]:
    return [engine.nn.Parameter(engine.tensor(value)) for value in values(seed)]


def set_gradients(params: list[Any], step: int, missing: tuple[int, ...] = ()) -> None:
    for i, (param, value) in enumerate(zip(params, values(100 + step), strict=True)):
        param.grad = None if i in missing else engine.tensor(value)


def numpy_of(params: list[Any]) -> list[np.ndarray]:
    return [np.array(param.detach().numpy()) for param in params]


def grouped(params: list[Any], lr: float) -> list[dict[str, Any]]:
    return [{"params": params[:3]}, {"params": params[3:], "lr": 3 * lr}]


def missing_at(step: int) -> tuple[int, ...]:
    """Some parameters get their first gradients later, one pauses: their counts of updates differ."""
    return (0, 4) if step < 2 else (1,) if step == 5 else ()


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name_of)
def test_agrees_with_torch(case: tuple[str, dict[str, Any]]) -> None:
    torch = pytest.importorskip("torch")
    name, options = case
    params = parameters()
    theirs = [torch.nn.Parameter(torch.from_numpy(value)) for value in values()]
    optimizer = getattr(optim, name)(grouped(params, options["lr"]), **options)
    reference = getattr(torch.optim, name)(grouped(theirs, options["lr"]), **options)
    for step in range(STEPS):
        set_gradients(params, step, missing_at(step))
        for i, (param, value) in enumerate(zip(theirs, values(100 + step), strict=True)):
            param.grad = None if i in missing_at(step) else torch.from_numpy(value)
        optimizer.step()
        reference.step()
        for ours, other in zip(numpy_of(params), theirs, strict=True):
            np.testing.assert_allclose(ours, other.detach().numpy(), rtol=2e-5, atol=2e-6, err_msg=f"step {step}")
    reference_state = reference.state_dict()["state"]
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            other = reference_state[index][key]
            if isinstance(value, engine.Tensor):
                np.testing.assert_allclose(value.numpy(), other.numpy(), rtol=2e-5, atol=2e-6, err_msg=key)
            else:
                assert value == float(other), key


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adagrad", "Adam", "AdamW"])
def test_defaults_are_those_of_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    ours = getattr(optim, name)(parameters()).defaults
    theirs = getattr(torch.optim, name)([torch.nn.Parameter(torch.zeros(1))]).defaults
    for key in ours:
        if key not in ("l1", "decoupled_weight_decay"):
            assert ours[key] == theirs[key], key


@pytest.mark.parametrize("case", OPTIMIZERS, ids=name_of)
def test_state_dict_continues_the_run(case: tuple[str, dict[str, Any]]) -> None:
    name, options = case
    params = parameters()
    optimizer = getattr(optim, name)(grouped(params, options["lr"]), **options)
    for step in range(4):
        set_gradients(params, step, missing_at(step))
        optimizer.step()
    saved = optimizer.state_dict()
    json.dumps(saved, default=lambda value: value.tolist())  # tensors and plain values only
    saved = copy.deepcopy(saved)
    continued = [engine.nn.Parameter(param.detach().clone()) for param in params]
    other = getattr(optim, name)(grouped(continued, 1.0), lr=1.0)
    other.load_state_dict(saved)
    for step in range(4, 8):
        set_gradients(params, step, missing_at(step))
        set_gradients(continued, step, missing_at(step))
        optimizer.step()
        other.step()
    for a, b in zip(numpy_of(params), numpy_of(continued), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [g["lr"] for g in other.param_groups] == [g["lr"] for g in optimizer.param_groups]


def test_state_dict_survives_json_keys() -> None:
    params = parameters()
    optimizer = optim.Adam(params, lr=0.01)
    set_gradients(params, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    saved["state"] = {str(key): value for key, value in saved["state"].items()}
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)
    set_gradients(params, 1)
    optimizer.step()
    assert optimizer.state[params[0]]["step"] == 2


def test_load_state_dict_refuses_what_does_not_fit() -> None:
    params = parameters()
    optimizer = optim.SGD(params, momentum=0.9)
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict(optim.SGD(grouped(parameters(), 0.1)).state_dict())
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        optimizer.load_state_dict(optim.SGD(parameters()[:2]).state_dict())
    other = parameters()[::-1]
    source = optim.SGD(other, momentum=0.9)
    for param in other:
        param.grad = engine.ones(*param.shape)
    source.step()
    with pytest.raises(ValueError, match="size mismatch for momentum_buffer"):
        optimizer.load_state_dict(source.state_dict())


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adagrad", "Adam", "AdamW"])
def test_l1_penalty(name: str) -> None:
    """The penalty is the same as the sign of the parameter added to the gradient."""
    first, second = parameters(), parameters()
    with_penalty = getattr(optim, name)(first, lr=0.01, l1=0.3)
    plain = getattr(optim, name)(second, lr=0.01)
    for step in range(3):
        set_gradients(first, step)
        set_gradients(second, step)
        for param in second:
            param.grad = param.grad + 0.3 * param.detach().sign()
        with_penalty.step()
        plain.step()
    for a, b in zip(numpy_of(first), numpy_of(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_one_backend_call_per_group(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine import backend as B

    calls = []
    original = B.adam_step
    monkeypatch.setattr(B, "adam_step", lambda *args: (calls.append(len(args[0])), original(*args))[1])
    params = parameters()
    optimizer = optim.Adam(grouped(params, 0.1))
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
    assert calls == [3, 2] * 3


def test_updates_in_place() -> None:
    params = parameters()
    views = [param.detach().numpy() for param in params]
    before = numpy_of(params)
    set_gradients(params, 0)
    optim.SGD(params, lr=0.5).step()
    for view, old, gradient in zip(views, before, values(100), strict=True):
        np.testing.assert_allclose(view, old - 0.5 * gradient, rtol=1e-6)


def test_gradient_of_another_memory_order() -> None:
    """A gradient that is a view (transposed, expanded) updates as its values say."""
    weight = engine.nn.Parameter(engine.ones(3, 5))
    weight.grad = engine.arange(15).to("float32").reshape(5, 3).permute(1, 0)
    optim.SGD([weight], lr=1.0).step()
    np.testing.assert_allclose(weight.detach().numpy(), 1 - np.arange(15).reshape(5, 3).T)
    weight.grad = engine.ones(1, 1).expand(3, 5)
    optim.Adam([weight], lr=1.0).step()
    np.testing.assert_allclose(weight.detach().numpy(), -np.arange(15).reshape(5, 3).T, atol=1e-5)


def test_zero_grad() -> None:
    params = parameters()
    optimizer = optim.SGD(params)
    set_gradients(params, 0, missing=(1,))
    optimizer.zero_grad(set_to_none=False)
    assert params[1].grad is None
    assert all(float(param.grad.abs().sum()) == 0 for i, param in enumerate(params) if i != 1)
    optimizer.zero_grad()
    assert all(param.grad is None for param in params)
    optimizer.step()  # nothing to do


def test_closure() -> None:
    weight = engine.nn.Parameter(engine.tensor([2.0]))
    optimizer = optim.SGD([weight], lr=0.25)

    def closure() -> engine.Tensor:
        optimizer.zero_grad()
        loss = (weight * weight).sum()
        loss.backward()
        return loss

    with engine.no_grad():
        assert optimizer.step(closure).item() == 4.0
    assert weight.item() == 1.0


def test_add_param_group() -> None:
    params = parameters()
    optimizer = optim.SGD(params[:2], lr=0.1, momentum=0.5)
    optimizer.add_param_group({"params": params[2:], "lr": 0.01})
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 3]
    assert optimizer.param_groups[1]["momentum"] == 0.5
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": params[:1]})
    assert "Parameter Group 1" in repr(optimizer)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SGD", {"lr": -1.0}),
        ("SGD", {"momentum": -0.1}),
        ("SGD", {"nesterov": True}),
        ("SGD", {"l1": -1.0}),
        ("RMSprop", {"alpha": -0.1}),
        ("Adagrad", {"lr_decay": -0.1}),
        ("Adam", {"betas": (1.0, 0.9)}),
        ("Adam", {"eps": math.nan}),
        ("AdamW", {"weight_decay": -0.1}),
    ],
)
def test_bad_options(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=name):
        getattr(optim, name)(parameters(), **options)


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.SGD([])
    with pytest.raises(TypeError, match="iterable of Tensors or dicts"):
        optim.SGD(parameters()[0])
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        optim.SGD([np.zeros(3)])
    with pytest.raises(TypeError, match="ordered collections"):
        optim.SGD([{"params": set(parameters())}])
    with pytest.raises(ValueError, match="non-leaf"):
        optim.SGD([parameters()[0] * 2])
    weight = parameters()[0]
    with pytest.raises(ValueError, match="more than one parameter group"):
        optim.SGD([weight, weight])


# ---- clipping


@pytest.mark.parametrize("norm_type", [2.0, 1.0, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_clip_grad_norm(norm_type: float, max_norm: float) -> None:
    torch = pytest.importorskip("torch")
    params = parameters()
    theirs = [torch.nn.Parameter(torch.from_numpy(value)) for value in values()]
    set_gradients(params, 0, missing=(2,))
    for i, (param, value) in enumerate(zip(theirs, values(100), strict=True)):
        param.grad = None if i == 2 else torch.from_numpy(value)
    norm = engine.nn.utils.clip_grad_norm_(iter(params), max_norm, norm_type)
    reference = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    assert norm.item() == pytest.approx(reference.item(), rel=1e-5)
    for param, other in zip(params, theirs, strict=True):
        if other.grad is not None:
            np.testing.assert_allclose(param.grad.numpy(), other.grad.numpy(), rtol=1e-5)


def test_clip_grad_norm_of_nothing_and_of_nan() -> None:
    weight = parameters()[0]
    assert engine.nn.utils.clip_grad_norm_([weight], 1.0).item() == 0.0
    weight.grad = engine.full((3, 5), math.nan)
    with pytest.raises(RuntimeError, match="non-finite"):
        engine.nn.utils.clip_grad_norm_(weight, 1.0, error_if_nonfinite=True)
    assert math.isnan(engine.nn.utils.clip_grad_norm_(weight, 1.0).item())


def test_clip_grad_value() -> None:
    params = parameters()
    set_gradients(params, 0, missing=(1,))
    engine.nn.utils.clip_grad_value_(params, 0.25)
    for i, value in enumerate(values(100)):
        if i != 1:
            np.testing.assert_array_equal(params[i].grad.numpy(), np.clip(value, -0.25, 0.25))


# ---- schedules: (name of the class, arguments); functions see the module, so that rows can nest schedules


def half(epoch: int) -> float:
    return 0.5**epoch


def linear_then_exponential(module: Any, optimizer: Any) -> Any:
    schedulers = [
        module.LinearLR(optimizer, start_factor=0.1, total_iters=4),
        module.CosineAnnealingLR(optimizer, T_max=6, eta_min=0.001),
        module.ExponentialLR(optimizer, gamma=0.9),
    ]
    return module.SequentialLR(optimizer, schedulers, milestones=[5, 12])


def sequences_of_all_kinds(module: Any, optimizer: Any) -> Any:
    schedulers = [
        module.ConstantLR(optimizer, factor=0.1, total_iters=2),
        module.StepLR(optimizer, step_size=2, gamma=0.5),
        module.MultiStepLR(optimizer, milestones=[1, 2], gamma=0.5),
        module.PolynomialLR(optimizer, total_iters=3, power=2.0),
        module.LambdaLR(optimizer, half),
        module.CosineAnnealingWarmRestarts(optimizer, T_0=3),
        module.LinearLR(optimizer, start_factor=0.5, total_iters=2),
        module.ConstantLR(optimizer, factor=0.1, total_iters=2),
    ]
    return module.SequentialLR(optimizer, schedulers, milestones=[3, 6, 9, 12, 15, 21, 25])


def chained(module: Any, optimizer: Any) -> Any:
    return module.ChainedScheduler(
        [module.ConstantLR(optimizer, factor=0.1, total_iters=2), module.ExponentialLR(optimizer, gamma=0.9)],
        optimizer=optimizer,
    )


SCHEDULES: list[tuple[Any, dict[str, Any]]] = [
    ("StepLR", {"step_size": 3}),
    ("StepLR", {"step_size": 2, "gamma": 0.7}),
    ("MultiStepLR", {"milestones": [8, 3, 3, 0], "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("CosineAnnealingLR", {"T_max": 10}),
    ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 9}),
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 3}),
    ("PolynomialLR", {"total_iters": 12, "power": 0.9}),
    ("PolynomialLR", {}),
    ("LambdaLR", {"lr_lambda": half}),
    ("LambdaLR", {"lr_lambda": [half, lambda epoch: 1 / (1 + epoch)]}),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.95}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30}),
    ("OneCycleLR", {"max_lr": [0.5, 0.2], "epochs": 5, "steps_per_epoch": 6, "anneal_strategy": "linear"}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "three_phase": True, "pct_start": 0.4, "div_factor": 10.0}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 30, "cycle_momentum": False, "final_div_factor": 100.0}),
    ("CosineAnnealingWarmRestarts", {"T_0": 4}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2, "eta_min": 0.001}),
    (linear_then_exponential, {}),
    (sequences_of_all_kinds, {}),
    (chained, {}),
]


def make_schedule(module: Any, optimizer: Any, case: tuple[Any, dict[str, Any]]) -> Any:
    build: Callable[..., Any] | str = case[0]
    if callable(build):
        return build(module, optimizer)
    return getattr(module, build)(optimizer, **case[1])


def rates(optimizer: Any) -> list[Any]:
    keys = ("lr", "momentum", "betas")
    return [value for group in optimizer.param_groups for key in keys if key in group for value in _flat(group[key])]


def _flat(value: Any) -> list[float]:
    return [float(v) for v in value] if isinstance(value, tuple) else [float(value)]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: name_of(case) if isinstance(case[0], str) else "")
def test_schedule_agrees_with_torch(case: tuple[Any, dict[str, Any]], kind: str) -> None:
    torch = pytest.importorskip("torch")
    options = {"momentum": 0.9} if kind == "SGD" else {}
    ours = getattr(optim, kind)(grouped(parameters(), 0.1), lr=0.1, **options)
    theirs = getattr(torch.optim, kind)(
        grouped([torch.nn.Parameter(torch.zeros(1)) for _ in SHAPES], 0.1), lr=0.1, **options
    )
    scheduler = make_schedule(lr_scheduler, ours, case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = make_schedule(torch.optim.lr_scheduler, theirs, case)
    for step in range(30):
        assert rates(ours) == pytest.approx(rates(theirs), rel=1e-12, abs=1e-15), f"after {step} steps"
        assert scheduler.get_last_lr() == pytest.approx(
            [float(lr) for lr in reference.get_last_lr()], rel=1e-12, abs=1e-15
        )
        ours.step()
        theirs.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference.step()
        scheduler.step()


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: name_of(case) if isinstance(case[0], str) else "")
def test_schedule_continues_from_its_state(case: tuple[Any, dict[str, Any]]) -> None:
    first = optim.SGD(grouped(parameters(), 0.1), lr=0.1, momentum=0.9)
    scheduler = make_schedule(lr_scheduler, first, case)
    for _ in range(7):
        first.step()
        scheduler.step()
    saved = json.loads(json.dumps(scheduler.state_dict()))
    second = optim.SGD(grouped(parameters(), 0.1), lr=0.1, momentum=0.9)
    other = make_schedule(lr_scheduler, second, case)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(saved)
    for _ in range(12):
        for optimizer, schedule in ((first, scheduler), (second, other)):
            optimizer.step()
            schedule.step()
        assert rates(first) == rates(second)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"patience": 2, "factor": 0.5, "cooldown": 2},
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "threshold": 0.05, "min_lr": [0.02, 0.001]},
        {"patience": 0, "eps": 0.03},
    ],
)
def test_reduce_on_plateau_agrees_with_torch(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    ours = optim.SGD(grouped(parameters(), 0.1), lr=0.1)
    theirs = torch.optim.SGD(grouped([torch.nn.Parameter(torch.zeros(1)) for _ in SHAPES], 0.1), lr=0.1)
    scheduler = lr_scheduler.ReduceLROnPlateau(ours, **options)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(theirs, **options)
    rng = np.random.default_rng(0)
    for step in range(40):
        metric = float(rng.integers(0, 4)) / 10 + 1 / (1 + step)
        scheduler.step(engine.tensor(metric, dtype="float32") if step % 2 else metric)
        reference.step(float(np.float32(metric)) if step % 2 else metric)
        assert scheduler.get_last_lr() == pytest.approx(reference.get_last_lr(), rel=1e-12)
    other = lr_scheduler.ReduceLROnPlateau(ours, **options)
    other.load_state_dict(json.loads(json.dumps(scheduler.state_dict())))
    assert other.state_dict() == scheduler.state_dict()


def test_warm_restarts_at_fractions_of_an_epoch() -> None:
    torch = pytest.importorskip("torch")
    for options in ({"T_0": 2}, {"T_0": 2, "T_mult": 2}):
        ours = optim.SGD(parameters(), lr=0.1)
        theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        scheduler = lr_scheduler.CosineAnnealingWarmRestarts(ours, **options)
        reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, **options)
        for i in range(40):
            scheduler.step(i / 4)
            reference.step(i / 4)
            assert rates(ours)[0] == pytest.approx(rates(theirs)[0], rel=1e-12)


def test_resume_by_last_epoch() -> None:
    torch = pytest.importorskip("torch")
    for name, options in (
        ("StepLR", {"step_size": 2}),
        ("MultiStepLR", {"milestones": [3]}),
        ("ExponentialLR", {"gamma": 0.5}),
        ("LinearLR", {}),
        ("PolynomialLR", {}),
        ("CosineAnnealingLR", {"T_max": 5}),
        ("ConstantLR", {}),
        ("LambdaLR", {"lr_lambda": half}),
    ):
        found = []
        for library, params in ((optim, parameters()), (torch.optim, [torch.nn.Parameter(torch.zeros(1))])):
            groups = [{"params": params, "lr": 0.05, "initial_lr": 0.1}]
            optimizer = library.SGD(groups, lr=0.1)
            scheduler = getattr(library.lr_scheduler, name)(optimizer, last_epoch=1, **options)
            line = [optimizer.param_groups[0]["lr"]]
            for _ in range(6):
                optimizer.step()
                scheduler.step()
                line.append(optimizer.param_groups[0]["lr"])
            found.append(line)
        assert found[0] == pytest.approx(found[1], rel=1e-12), name


def test_schedule_errors() -> None:
    optimizer = optim.SGD(parameters(), lr=0.1)
    with pytest.raises(TypeError, match="is not an Optimizer"):
        lr_scheduler.StepLR(object(), 3)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="initial_lr"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        lr_scheduler.ConstantLR(optimizer, factor=2.0)
    with pytest.raises(ValueError, match="total_steps OR"):
        lr_scheduler.OneCycleLR(optimizer, max_lr=0.1)
    with pytest.raises(ValueError, match="momentum or beta1"):
        lr_scheduler.OneCycleLR(optim.Adagrad(parameters()), max_lr=0.1, total_steps=3)
    with pytest.raises(ValueError, match="number of milestones"):
        lr_scheduler.SequentialLR(optimizer, [lr_scheduler.StepLR(optimizer, 3)], [3])
    cycle = lr_scheduler.OneCycleLR(optim.SGD(parameters(), momentum=0.9), max_lr=0.1, total_steps=2)
    cycle.optimizer.step()
    for _ in range(2):
        cycle.step()
    with pytest.raises(ValueError, match="Tried to step 3 times"):
        cycle.step()


def test_warns_when_the_schedule_goes_first() -> None:
    scheduler = lr_scheduler.StepLR(optim.SGD(parameters(), lr=0.1), 3)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        scheduler.step()
