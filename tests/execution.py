"""Where a test runs: the instruction sets, thread counts and algorithms of this machine, one after another."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import op_cases
import oracle
from op_cases import Case, Reference

import engine
from engine import backend as B

THREADS = (1, 2, 3)
ISAS: tuple[str, ...] = tuple(B.available_isas())


@contextmanager
def running(isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    """With another instruction set or number of threads for a while."""
    before = B.isa(), B.num_threads()
    try:
        if isa is not None:
            B.set_isa(isa)
        if threads is not None:
            B.set_num_threads(threads)
        yield
    finally:
        B.set_isa(before[0])
        B.set_num_threads(before[1])


@contextmanager
def choosing(algorithm: str) -> Iterator[None]:
    """With one convolution algorithm instead of the first that accepts; "" leaves the choice to the engine."""
    B.set_algorithm("conv2d", algorithm)
    try:
        yield
    finally:
        B.set_algorithm("conv2d", "")


def tensors(case: Case, arrays: list[np.ndarray | None]) -> list[Any]:
    return [
        None if a is None or s is None else engine.tensor(a, requires_grad=s.grad and a.dtype == np.float32)
        for s, a in zip(case.inputs, arrays, strict=True)
    ]


def forward_backward(case: Case, dy: np.ndarray, inputs: list[Any]) -> dict[str, np.ndarray]:
    """Every result of the case in engine, under the names of ``Reference.named``."""
    y, *extra = op_cases.call(engine, engine.functional, case, inputs)
    results = {"y": np.array(y.detach().numpy())}
    results.update({f"extra {i}": np.array(e.detach().numpy()) for i, e in enumerate(extra)})
    if y.requires_grad:
        y.backward(engine.tensor(dy))
    for i, t in enumerate(inputs):
        if t is not None and t.requires_grad and t.grad is not None:
            results[f"gradient of input {i}"] = np.array(t.grad.numpy())
    return results


def opinions(case: Case) -> dict[str, dict[str, str]]:
    """For each result that a convolution algorithm computes: every algorithm and why it declines ("" if it accepts)."""
    if case.op not in ("conv2d", "conv_transpose2d"):
        return {}
    args, (x, w) = case.args, case.inputs[:2]
    assert x is not None and w is not None
    stride, dilation = oracle.pair(args.get("stride", 1)), oracle.pair(args.get("dilation", 1))
    rows, cols = oracle.border(args.get("padding", 0), w.shape[2:], dilation)
    results = {"forward": "y", "backward_data": "gradient of input 0", "backward_weight": "gradient of input 1"}
    x_shape = x.shape
    if case.op == "conv_transpose2d":  # forward and the gradient of the input change places
        results["forward"], results["backward_data"] = results["backward_data"], results["forward"]
        x_shape = case.reference().y.shape
    geometry = (x_shape, w.shape, stride, (*rows, *cols), dilation, args.get("groups", 1))
    return {result: dict(B.conv2d_algorithms(*geometry, direction)) for direction, result in results.items()}


def taken(case: Case, forced: str = "") -> dict[str, str]:
    """Result -> algorithm: the forced one where it exists, else the first that accepts."""
    return {
        result: forced if forced in reasons else next(name for name, reason in reasons.items() if not reason)
        for result, reasons in opinions(case).items()
    }


def check(results: dict[str, np.ndarray], ref: Reference, where: str, algorithm: str = "") -> None:
    """Every result of the reference is there, has its shape and lies within its tolerance."""
    for name, want, tolerance in ref.named(taken(ref.case, algorithm)):
        assert name in results or not want.size or not np.any(want), f"{name} is missing {where}"
        if name not in results:
            continue
        got = results[name]
        assert got.shape == want.shape, f"{name} has shape {got.shape}, expected {want.shape}, {where}"
        if want.dtype.kind in "iub":
            assert got.dtype.kind in "iub" and np.array_equal(got, want), f"{name} differs {where}:\n{got}\n{want}"
            continue
        assert got.dtype == np.float32, f"{name} has dtype {got.dtype} {where}"
        error = np.abs(got.astype(np.float64) - want)
        allowed = np.broadcast_to(tolerance, want.shape)
        wrong = ~(error <= allowed)
        if wrong.any():
            at = np.unravel_index(np.argmax(np.where(wrong, error / np.maximum(allowed, 1e-300), 0)), want.shape)
            at = tuple(int(i) for i in at)
            raise AssertionError(
                f"{name}{list(at)} is {got[at]:.9g}, expected {want[at]:.9g}: error {error[at]:.3g}, allowed "
                f"{allowed[at]:.3g}; {wrong.sum()} of {wrong.size} wrong {where}"
            )


def bits(results: dict[str, np.ndarray]) -> dict[str, bytes]:
    """For comparison to the last bit, where NaN equals NaN and 0 differs from -0."""
    return {name: value.tobytes() for name, value in results.items()}


def fresh(*command: str, timeout: float = 60, **env: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter, away from the source tree, that imports the engine under test; one BLAS thread, no settings of
    the engine but those given."""
    unset = {k: v for k, v in os.environ.items() if not k.startswith(("ENGINE_", "OMP_"))}
    path = str(Path(engine.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd="/",
        env={**unset, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **env},
        check=False,
    )


def output_of(script: str, timeout: float = 60, **env: str) -> str:
    """What a script prints in a new interpreter."""
    done = fresh("-c", textwrap.dedent(script), timeout=timeout, **env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()
