"""Where the time of a training step or of an inference goes: seconds by backend function and by shape.

    python benchmarks/bench_profile.py resnet50                     a training step with its usual batch
    python benchmarks/bench_profile.py resnet50-1 --infer --top 40  an inference of one image
    python benchmarks/bench_profile.py resnet50 --output benchmarks/results/profile.json

Every function of the backend is timed from outside, one step after another; what Python adds above it is the rest of
the step's own time.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import bench_train
import contenders
import harness

from engine import backend

Key = tuple[str, str]


def describe(name: str, args: tuple[Any, ...]) -> str:
    """The arguments that decide how long a call takes: shapes, names of operations, geometry."""
    words = []
    for value in args:
        if hasattr(value, "strides"):
            words.append("x".join(map(str, value.shape)) or "scalar")
        elif isinstance(value, list) and value and hasattr(value[0], "strides"):
            words.append(f"[{len(value)} arrays of {sum(array.size for array in value):,}]")
        elif isinstance(value, str):
            words.append(value)
        elif isinstance(value, tuple) and name.startswith("conv2d"):
            words.append(str(value).replace(" ", ""))
        elif isinstance(value, int) and not isinstance(value, bool) and name.startswith("conv2d") and value > 1:
            words.append(f"groups {value}")
    return " ".join(words)


def flops_of(name: str, args: tuple[Any, ...], result: Any) -> float:
    """Of a convolution, a multiply-add counting as two; 0 of everything else."""
    if not name.startswith("conv2d"):
        return 0.0
    n, _, oh, ow = result.shape if name == "conv2d" else args[0].shape
    oc, *taps = args[2] if name == "conv2d_backward_weight" else args[1].shape
    return 2.0 * n * oh * ow * oc * math.prod(taps)


# The kinds of work that the summary of a network tells apart: the first whose beginning a function's name has.
KINDS = {
    "input gradients": ("conv2d_backward_data",),
    "weight gradients": ("conv2d_backward_weight",),
    "convolutions": ("conv2d",),
    "linear": ("linear", "matmul"),
    "norms": ("batch_norm", "layer_norm", "group_norm", "local_response_norm"),
    "activations, sums": ("unary", "binary", "sum_to", "dropout", "reduce"),
    "pooling": ("max_pool", "avg_pool", "adaptive"),
    "copies": ("concat", "copy", "contiguous", "slice", "pad", "cast"),
    "update": ("sgd_step",),
}


def kind_of(name: str) -> str:
    return next((kind for kind, starts in KINDS.items() if name.startswith(starts)), "other")


class Profile:
    """Replaces every function of the backend by one that adds up its calls."""

    def __init__(self) -> None:
        self.seconds: dict[Key, float] = defaultdict(float)
        self.calls: dict[Key, int] = defaultdict(int)
        self.flops: dict[Key, float] = defaultdict(float)
        for name, function in list(vars(backend).items()):
            if callable(function) and not isinstance(function, type):
                setattr(backend, name, self.timed(name, function))

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            result = function(*args, **kwargs)
            elapsed = time.perf_counter() - start
            key = (name, describe(name, args))
            self.seconds[key] += elapsed
            self.calls[key] += 1
            self.flops[key] += flops_of(name, args, result)
            return result

        return call

    def clear(self) -> None:
        for figures in (self.seconds, self.calls, self.flops):
            figures.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", help="<network> or <network>-<batch>")
    parser.add_argument("--infer", action="store_true", help="evaluation instead of a training step")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--top", type=int, default=60, help="rows of the table by shape")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", help="JSON file for the summary; its row of the same name is replaced")
    args = parser.parse_args()
    harness.ensure_environment(args.threads)
    if args.infer:
        import bench_infer

        step: Callable[[], Any] = bench_infer.engine_call(args.case, args.threads)
    else:
        step, _ = bench_train.engine_step(args.case, args.threads)
    harness.warm_up(step)
    plain = statistics.median(contenders.timed(step) for _ in range(args.steps))
    profile = Profile()
    step()
    profile.clear()
    totals = [contenders.timed(step) for _ in range(args.steps)]
    limits = harness.measure_limits(args.threads)
    print(
        f"{args.case} {'inference' if args.infer else 'training step'}: {plain * 1e3:.2f} ms, profiled "
        f"{statistics.median(totals) * 1e3:.2f} ms; peak {limits.peak_gflops:.0f} GFLOP/s, {limits.state}"
    )
    by_name: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for (name, text), seconds in profile.seconds.items():
        operation = f"{name} {text.split()[0]}" if name in ("unary", "unary_backward", "binary") else name
        for i, value in enumerate((seconds, profile.calls[name, text], profile.flops[name, text])):
            by_name[operation][i] += value / args.steps
    whole = statistics.fmean(totals)
    summary: dict[str, dict[str, float]] = {}
    for name, (seconds, _, flops) in by_name.items():
        figures = summary.setdefault(kind_of(name), {"seconds": 0.0, "flops": 0.0})
        figures["seconds"] += seconds
        figures["flops"] += flops
    kinds = {
        kind: {"ms": harness.significant(figures["seconds"] * 1e3), "share": round(figures["seconds"] / whole, 4)}
        | ({"peak_share": rounded_peak(figures, limits.peak_gflops)} if figures["flops"] else {})
        for kind, figures in summary.items()
    }
    case = f"{args.case}, {'inference' if args.infer else 'training'}"
    row = {"case": case, "step_ms": harness.significant(plain * 1e3), "limits": [limits.as_json()], "kinds": kinds}
    harness.Report("profile", {"threads": args.threads, "steps": args.steps}).add(row, args.output)
    inside = sum(seconds for seconds, _, _ in by_name.values())
    print(f"{'outside the backend':44}{(whole - inside) * 1e3:9.2f} ms")
    print("\nby function                                        ms    calls  GFLOP/s  of peak")
    for name, (seconds, calls, flops) in sorted(by_name.items(), key=lambda item: -item[1][0]):
        print(f"{name:44}{seconds * 1e3:9.2f} {calls:8.0f}" + rate(flops, seconds, limits.peak_gflops))
    print("\nby shape                                           ms    calls  GFLOP/s  of peak")
    for key, seconds in sorted(profile.seconds.items(), key=lambda item: -item[1])[: args.top]:
        calls = profile.calls[key] / args.steps
        text = rate(profile.flops[key], seconds, limits.peak_gflops)
        print(f"{key[0]:24}{seconds / args.steps * 1e3:9.3f} ms x{calls:<4.0f}{text:18} {key[1]}")


def rounded_peak(figures: dict[str, float], peak: float) -> float:
    return harness.significant(figures["flops"] / figures["seconds"] * 1e-9 / peak, 3)


def rate(flops: float, seconds: float, peak: float) -> str:
    return f"{flops / seconds * 1e-9:9.0f} {flops / seconds * 1e-9 / peak:8.0%}" if flops else " " * 18


if __name__ == "__main__":
    main()
