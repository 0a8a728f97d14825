"""Every backend function survives arguments that its caller got wrong: valid calls are recorded, then altered.

Each altered call must return or raise one of Python's ordinary exceptions. It runs in a process of its own, so that a
crash is a failing test with the call in its message, not the end of the run.
"""

from __future__ import annotations

import math
import random
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import op_cases
import pytest
from execution import fresh, tensors

import engine
from engine import backend as B, nn

EXPECTED = (ValueError, TypeError, IndexError, RuntimeError, OverflowError, MemoryError)
CALLS_PER_SEED = 5000
NOT_CALLED = {
    "set_num_threads",
    "limit_threads",
    "set_isa",
    "verbose",
    "measure_peak",
    "measure_ping_pong",
    "to_numpy",
    "from_dlpack",
}
NUMBERS = (0, -1, 1, 2, 3, 7, 2**40, 2**62, -(2**63), 2**63 - 1)
DTYPES = ("float32", "int64", "int32", "uint8", "bool")
Call = tuple[Any, ...]


def record() -> tuple[dict[str, Callable[..., Any]], dict[str, list[Call]]]:
    """The backend's functions and, for each, arguments of valid calls."""
    functions = {
        name: value
        for name, value in vars(B).items()
        if callable(value) and not isinstance(value, type) and not name.startswith("_") and name not in NOT_CALLED
    }
    calls: dict[str, list[Call]] = defaultdict(list)

    def recording(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not kwargs and len(calls[name]) < 30:
                calls[name].append(args)
            return function(*args, **kwargs)

        return call

    for name, function in functions.items():
        setattr(B, name, recording(name, function))
    small = [c for c in op_cases.CASES if sum(math.prod(s.shape) for s in c.inputs if s is not None) < 2000]
    for case in random.Random(0).sample(small, 400):
        y = op_cases.call(engine, engine.functional, case, tensors(case, case.arrays()))[0]
        if y.requires_grad:
            y.sum().backward()
    optim = engine.optim
    for make, options in (
        (optim.SGD, {"lr": 0.1, "momentum": 0.9}),
        (optim.Adam, {"amsgrad": True}),
        (optim.RMSprop, {"centered": True, "momentum": 0.5}),
        (optim.Adagrad, {}),
    ):
        model = nn.Sequential(nn.Linear(5, 7), nn.PReLU(7), nn.Dropout(0.5), nn.Linear(7, 2))
        step = make(model.parameters(), **options)
        model(engine.randn(3, 5)).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        nn.utils.clip_grad_value_(model.parameters(), 1.0)
        step.step()
    for name, function in functions.items():
        setattr(B, name, function)
    return functions, {name: calls[name] for name in sorted(calls)}


def altered_array(rnd: random.Random, rng: np.random.Generator, array: Any) -> Any:
    """Another shape, type or layout; extreme numbers; or no array at all."""
    shape, dtype = list(array.shape), str(array.dtype)
    kind = rnd.randrange(9)
    at = rnd.randrange(len(shape)) if shape else 0
    if kind == 0:
        return None
    if kind == 1:
        dtype = rnd.choice(DTYPES)
    elif kind == 2:
        shape.insert(rnd.randrange(len(shape) + 1), rnd.choice((0, 1, 2)))
    elif kind == 3 and shape:
        shape.pop(at)
    elif kind == 4 and shape:
        shape[at] = max(0, shape[at] + rnd.choice((-1, 1, 2)))
    elif kind == 5:
        rnd.shuffle(shape)
    elif kind == 6 and shape:
        shape[at] = 0
    if kind == 7 and dtype in ("int32", "int64"):
        info = np.iinfo(dtype)
        return B.from_numpy(rng.choice([info.min, info.max, -1, 0, 1, 100], shape).astype(dtype))
    values = rng.standard_normal([2 * n + 1 for n in shape]) * 3
    wide = values.astype(dtype) if dtype == "float32" else np.abs(values).astype(dtype)
    if kind == 8 and shape:
        return B.from_numpy(wide[tuple(slice(2 * n - 1 if n else None, None, -2) for n in shape)])
    return B.from_numpy(np.ascontiguousarray(wide[tuple(slice(0, n) for n in shape)]))


def altered(rnd: random.Random, rng: np.random.Generator, value: Any) -> Any:
    if isinstance(value, B.Array):
        return altered_array(rnd, rng, value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rnd.choice((*NUMBERS, value + 1, value - 1, 2 * value))
    if isinstance(value, float):
        return rnd.choice((0.0, -1.0, 1e-38, 1e38, math.nan, math.inf))
    if isinstance(value, str):
        return rnd.choice(("", "x", "relu", "add", "sum", "mean", "none", "reflect", "bilinear", "row", *DTYPES))
    if isinstance(value, (tuple, list)):
        items = list(value)
        if items and rnd.random() < 0.7:
            i = rnd.randrange(len(items))
            items[i] = altered(rnd, rng, items[i])
        elif items and rnd.random() < 0.5:
            items.pop()
        else:
            items.append(items[0] if items else 1)
        return type(value)(items)
    return rnd.choice((None, 1, B.full((3,), 1.0, "float32")))


def described(value: Any) -> str:
    if isinstance(value, B.Array):
        return f"Array{value.shape}{value.strides}{value.dtype}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(described, value))}]"
    return repr(value)


def survive(seed: int, log: Path) -> None:
    functions, calls = record()
    rnd, rng = random.Random(seed), np.random.default_rng(seed)
    names = list(calls)
    returned = 0
    with log.open("w") as file:
        for _ in range(CALLS_PER_SEED):
            name = rnd.choice(names)
            args = list(rnd.choice(calls[name]))
            for _ in range(rnd.choice((1, 1, 2))):
                if args:
                    i = rnd.randrange(len(args))
                    args[i] = altered(rnd, rng, args[i])
            file.seek(0)
            file.truncate()
            file.write(f"{name}({', '.join(map(described, args))})")
            file.flush()
            try:
                result = functions[name](*args)
                returned += 1
            except EXPECTED:
                continue
            for part in result if isinstance(result, tuple) else (result,):
                if isinstance(part, B.Array) and 0 < part.size < 10000:
                    assert np.array(B.to_numpy(part)).size == part.size
    assert len(names) > 50 and returned > CALLS_PER_SEED // 10
    print("alive")


@pytest.mark.parametrize("seed", [1, 2])
def test_altered_calls_raise_or_return(seed: int, tmp_path: Path) -> None:
    log = tmp_path / "last_call.txt"
    done = fresh("-W", "ignore", __file__, str(seed), str(log), timeout=150, GOMP_SPINCOUNT="1000")
    last = log.read_text() if log.exists() else "(none)"
    assert done.returncode == 0, f"exit code {done.returncode} after {last[:1000]}\n{done.stderr[-2000:]}"
    assert done.stdout.strip().endswith("alive")


if __name__ == "__main__":
    survive(int(sys.argv[1]), Path(sys.argv[2]))
