"""What stands beside the arithmetic: the first call after a pause, and other libraries in the same process.

    python benchmarks/bench_latency.py --output benchmarks/results/latency.json
    python benchmarks/bench_latency.py --only neighbours --quick

pause: a small convolution and an inference of LeNet-5, called again and again and called after 50 ms without work, when
worker threads sleep; engine and PyTorch each in a process of its own. neighbours: a matrix product of NumPy and one of
PyTorch after a while without the engine, and in the milliseconds after the engine has computed in the same process,
where worker threads that still spin would slow it down.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_infer
import contenders
import harness
import peers
import shapes

PAUSE_S = 0.05
CASES = ("pause", "neighbours")
FRAMEWORKS = ("engine", "torch")
CONVOLUTION = "conv: conv ic64 oc64 h28 k3 p1"
PRODUCT = 512  # rows and columns of the matrices


def small_calls(name: str, threads: int) -> dict[str, Callable[[], Any]]:
    problem = peers.Problem(shapes.parse_line(CONVOLUTION), 1)
    convolution = peers.RUNNERS[name](threads).prepare(problem, "forward")
    assert convolution is not None
    return {"conv": convolution, "lenet5-1": bench_infer.CALLS[name]("lenet5-1", threads)}


def after_pauses(call: Callable[[], Any], count: int) -> dict[str, Any]:
    """Times of the calls after a pause, and of the calls behind them."""
    harness.warm_up(call)
    first, warm = harness.Timing(), harness.Timing()
    for _ in range(count):
        time.sleep(PAUSE_S)
        first.samples.append(contenders.timed(call))
        harness.warm_up(call, 0.005)
        warm.samples += [contenders.timed(call) for _ in range(5)]
    extra = harness.Timing([sample - warm.median for sample in first.samples])
    ordered = sorted(extra.samples)
    return {
        **first.as_json(),
        "warm_ms": harness.significant(warm.median * 1e3),
        "extra_ms": harness.significant(extra.median * 1e3),
        "extra_ms_of_90_percent": harness.significant(ordered[int(0.9 * (len(ordered) - 1))] * 1e3),
    }


def beside_engine(threads: int, count: int) -> dict[str, Any]:
    """Matrix products alone and right behind the engine's work, in turns in one process."""
    import numpy as np
    import torch

    torch.set_num_threads(threads)
    values = np.random.default_rng(0).standard_normal((PRODUCT, PRODUCT), dtype=np.float32)
    tensor = torch.from_numpy(values)
    products: dict[str, Callable[[], Any]] = {"numpy": lambda: values @ values, "torch": lambda: tensor @ tensor}
    before = {name: harness.Timing() for name in products}
    for name, product in products.items():  # before the engine is even imported
        harness.warm_up(product)
        before[name].samples = [contenders.timed(product) for _ in range(5 * count)]
    work = small_calls("engine", threads)["conv"]
    alone = {name: harness.Timing() for name in products}
    behind = {name: harness.Timing() for name in products}
    for _ in range(count):
        for name, product in products.items():
            time.sleep(PAUSE_S)
            harness.warm_up(product, 0.005)
            alone[name].samples += [contenders.timed(product) for _ in range(5)]
            harness.warm_up(work, 0.01)
            behind[name].samples += [contenders.timed(product) for _ in range(5)]
            time.sleep(PAUSE_S)  # the product's own threads are to be asleep before the next one
    return {
        name: {
            **behind[name].as_json(),
            "alone_ms": harness.significant(alone[name].median * 1e3),
            "without_engine_ms": harness.significant(before[name].median * 1e3),
            "slower": harness.significant(behind[name].median / alone[name].median, 4),
        }
        for name in products
    }


def worker(name: str, threads: int, count: int) -> None:
    if name == "neighbours":
        figures = beside_engine(threads, count)
    else:
        figures = {what: after_pauses(call, count) for what, call in small_calls(name, threads).items()}
    print(json.dumps({"figures": figures, "limits": harness.measure_limits(threads).as_json()}))


def ask(name: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", name, "--threads", str(args.threads)]
    variables = harness.environment(args.threads) | {"OPENBLAS_NUM_THREADS": str(args.threads)}
    command += ["--count", str(args.count)]
    answer = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(answer.stdout.splitlines()[-1]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--threads", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--count", type=int, default=60, help="pauses")
    parser.add_argument("--quick", action="store_true", help="few samples, for a first look")
    parser.add_argument("--output", help="JSON file; its rows of the same name are replaced, the others kept")
    parser.add_argument("--worker", choices=(*FRAMEWORKS, "neighbours"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.count = 15
    return args


def main() -> None:
    args = arguments()
    if args.worker:
        worker(args.worker, args.threads, args.count)
        return
    harness.ensure_environment(args.threads)
    report = harness.Report("latency", {"threads": args.threads, "pause_ms": PAUSE_S * 1e3, "product": PRODUCT})
    if "pause" in args.only:
        answers = {name: ask(name, args) for name in FRAMEWORKS}
        for what in ("conv", "lenet5-1"):
            timings = {name: answer["figures"][what] for name, answer in answers.items()}
            row = {"case": f"pause {what}", "limits": [answer["limits"] for answer in answers.values()]}
            report.add(row | {"timings": timings}, args.output)
            for name, figures in timings.items():
                print(
                    f"{what:10}{name:8} warm {figures['warm_ms']:.3f} ms, after {PAUSE_S * 1e3:.0f} ms without work "
                    f"{figures['median_ms']:.3f} ms: {figures['extra_ms']:.3f} ms more (nine in ten at most "
                    f"{figures['extra_ms_of_90_percent']:.3f})"
                )
    if "neighbours" in args.only:
        answer = ask("neighbours", args)
        report.add(
            {"case": "neighbours", "limits": [answer["limits"]], "timings": answer["figures"]},
            args.output,
        )
        for name, figures in answer["figures"].items():
            print(
                f"{name} product {figures['without_engine_ms']:.3f} ms before the engine came, "
                f"{figures['alone_ms']:.3f} ms alone, {figures['median_ms']:.3f} ms right behind it: "
                f"{figures['slower']:.2f}x"
            )


if __name__ == "__main__":
    main()
