"""The convolutions of a network one after the other, each with its own weights, engine beside PyTorch and oneDNN.

    python benchmarks/bench_chain.py --output benchmarks/results/chain.json
    python benchmarks/bench_chain.py --only resnet50-16 --malloc tuned --quick

A convolution that is called alone again and again finds its weights and its input in the caches; in a chain it finds
what a network leaves there, so these are the figures to trust. Each layer reads what the one before it has written;
where the network pools, adds or branches in between, a resident array of the right shape stands in. torch_packed is
oneDNN with the weights packed ahead, which eager PyTorch does at each call.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import contenders
import harness
import numpy as np
import peers
import shapes

NAMES = ("engine", "engine_direct", "torch", "torch_packed")
CASES = ("resnet50-1", "resnet50-16")
TOLERANCE = 1e-3
SHOWN = 32  # values of the last output that are compared


def parse_case(case: str) -> tuple[list[shapes.Layer], int]:
    network, _, batch = case.rpartition("-")
    if network not in shapes.networks() or not batch.isdigit():
        raise ValueError(f"expected <network>-<batch> with a network of {', '.join(shapes.networks())}, got {case!r}")
    return [layer for layer in shapes.load(network) if layer.kind == "conv"], int(batch)


def chain_call(name: str, case: str, threads: int) -> tuple[peers.Engine | peers.Torch, Callable[[], Any]]:
    runner = peers.RUNNERS[name](threads)
    layers, batch = parse_case(case)
    links: list[tuple[peers.Convolution, Any]] = []
    resident: dict[tuple[int, ...], Any] = {}
    before: tuple[int, ...] = ()
    for layer in layers:
        problem = peers.Problem(layer, batch)
        if problem.x_shape != before and problem.x_shape not in resident:
            resident[problem.x_shape] = runner.array(problem.x)
        stand_in = None if problem.x_shape == before else resident[problem.x_shape]
        links.append((runner.convolution(problem), stand_in))
        before = problem.y_shape

    def call() -> Any:
        y = None
        for convolve, stand_in in links:
            y = convolve(y if stand_in is None else stand_in)
        return y

    if name == "engine_direct":
        runner.backend.set_conv_policy("direct")  # for good: the process has nothing else to do
    return runner, call


def worker(name: str, case: str, threads: int) -> None:
    runner, call = chain_call(name, case, threads)
    result = runner.to_numpy(call())
    first = {"values": [*result.reshape(-1)[:SHOWN].tolist(), float(np.abs(result).max())]}
    contenders.serve(call, first, 0.0, threads if name == "engine" else 0)


def main() -> None:
    args = contenders.parse(contenders.arguments(__doc__, NAMES, CASES, "<shape file>-<batch>, default: %(default)s"))
    if args.worker:
        worker(args.worker, args.only[0], args.threads)
        return
    harness.ensure_environment(args.threads)
    check = partial(contenders.same_values, tolerance=TOLERANCE)
    report = harness.Report("chain", {"threads": args.threads, "malloc": harness.MALLOC})
    for case in args.only:
        layers, batch = parse_case(case)
        flops = sum(layer.flops(batch) for layer in layers)
        for malloc in args.malloc:
            row = contenders.compete(["engine", *args.peers], case, malloc, args, check)
            peak = statistics.median(limits["peak_gflops"] for limits in row["limits"])
            for figures in row["timings"].values():
                rate = flops / figures["median_ms"] * 1e-6
                figures |= {"gflops": harness.significant(rate, 4), "peak_share": harness.significant(rate / peak, 3)}
                del figures["memory_mib"]
            report.add(row | {"batch": batch, "flops": flops}, args.output)
            print(contenders.line(row), flush=True)


if __name__ == "__main__":
    main()
