"""Layers of real networks, engine beside its peers.

    python benchmarks/bench_ops.py resnet50 --batch 1 16 --output benchmarks/results/ops_resnet50.json
    python benchmarks/bench_ops.py vgg16 --kind conv --pass forward --peers torch torch_nchw torch_packed
    python benchmarks/bench_ops.py conv15 --peers engine_direct torch torch_packed --isa avx2 --only h56 --quick

Each distinct shape of a network is measured once; `count` says how often the network runs it. The engine and its peers
run in one process, interleaved, on the same numbers, and their results are compared before the clock starts.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import harness
import numpy as np
import peers
import shapes


def check_agreement(name: str, ours: np.ndarray, theirs: np.ndarray, layer: shapes.Layer) -> None:
    """Stops the benchmark when the two did not compute the same thing."""
    error = float(np.max(np.abs(ours - theirs))) / (float(np.max(np.abs(theirs))) or 1.0)
    if ours.shape != theirs.shape or not error < 1e-3:
        raise SystemExit(f"engine and {name} disagree on {layer.shape_key}: relative error {error:.1e}")


def measure(
    layer: shapes.Layer, batch: int, which: str, runners: dict[str, Any], args: argparse.Namespace
) -> dict | None:
    """One row of the results, or None where no peer or not the engine knows the pass."""
    from engine import backend

    problem = peers.Problem(layer, batch)
    calls = {name: runner.prepare(problem, which) for name, runner in runners.items()}
    calls = {name: call for name, call in calls.items() if call is not None}
    if "engine" not in calls:
        return None
    results = {name: runners[name].to_numpy(call()) for name, call in calls.items()}
    for name in calls:
        if not name.startswith("engine"):
            check_agreement(name, results["engine"], results[name], layer)
    del results
    limits = harness.measure_limits(args.threads)
    timings = harness.interleave(calls, rounds=args.rounds, sample_s=args.sample_ms * 1e-3)
    row: dict[str, Any] = {
        "name": layer.name,
        "shape": layer.shape_key,
        "batch": batch,
        "pass": which,
        "flops": layer.flops(batch),
        "bytes": layer.bytes(batch),
        "isa": backend.isa(),
        "algorithm": runners["engine"].algorithm(problem, which),
        "malloc": args.malloc,
        **limits.as_json(),
        "timings": {},
    }
    for name, timing in timings.items():
        figures = timing.as_json()
        if layer.has_weight:
            rate = layer.flops(batch) / timing.median * 1e-9
            figures["gflops"] = harness.significant(rate, 4)
            figures["peak_share"] = harness.significant(rate / limits.peak_gflops, 3)
        else:
            figures["gbytes_per_s"] = harness.significant(layer.bytes(batch) / timing.median * 1e-9, 4)
        if name != "engine":
            figures["engine_is_faster"] = harness.significant(harness.ratio(timing, timings["engine"]), 4)
        row["timings"][name] = figures
    return row


def line(row: dict[str, Any]) -> str:
    ours = row["timings"]["engine"]
    rate = (
        f"{ours['gflops']:8.1f} GFLOP/s {ours['peak_share']:4.0%}"
        if "gflops" in ours
        else (f"{ours['gbytes_per_s']:8.1f} GB/s        ")
    )
    against = "  ".join(
        f"{name} {figures['engine_is_faster']:.2f}x" for name, figures in row["timings"].items() if name != "engine"
    )
    what = f"{row['shape']:40} b{row['batch']:<4}{row['pass']:16}"
    return f"{what}{row['algorithm']:10}{ours['median_ms']:9.4f} ms {rate}  {against}  {row['state']}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", choices=shapes.networks(), metavar="network", help="shape files to run")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--pass", dest="passes", nargs="+", choices=peers.PASSES, default=list(peers.PASSES))
    parser.add_argument("--kind", nargs="+", choices=sorted(shapes.KEYS), default=sorted(shapes.KEYS))
    parser.add_argument("--only", help="only layers whose name or shape contains this text")
    parser.add_argument("--peers", nargs="*", choices=[n for n in peers.RUNNERS if n != "engine"], default=["torch"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sample-ms", type=float, default=10.0)
    parser.add_argument("--malloc", choices=sorted(harness.MALLOC), default="default")
    parser.add_argument("--isa", default="", help="one below the processor's own, for the engine and for PyTorch")
    parser.add_argument("--quick", action="store_true", help="few samples, for a first look")
    parser.add_argument("--output", help="JSON file; its rows of the same name are replaced, the others kept")
    args = parser.parse_args()
    if args.quick:
        args.rounds = 5
    return args


def main() -> None:
    args = arguments()
    harness.ensure_environment(args.threads, args.malloc, args.isa)
    # torch first: its OpenMP run-time is then the one both use, as in a program that imports both.
    names = [name for name in [*args.peers, "engine"] if peers.RUNNERS[name].available()]
    for missing in {*args.peers, "engine"} - set(names):
        print(f"{missing} is not installed here", file=sys.stderr)
    if "engine" not in names:
        raise SystemExit("install the engine first: pip install .")
    runners = {name: peers.RUNNERS[name](args.threads) for name in names}
    runners = {"engine": runners.pop("engine"), **runners}
    settings = {"threads": args.threads, "rounds": args.rounds, "sample_ms": args.sample_ms, "malloc": harness.MALLOC}
    report = harness.Report("ops", settings)
    for network in args.networks:
        for layer, count in shapes.distinct(shapes.load(network)):
            if layer.kind not in args.kind or (args.only and args.only not in f"{layer.name} {layer.shape_key}"):
                continue
            for batch in args.batch:
                for which in args.passes:
                    row = measure(layer, batch, which, runners, args)
                    if row is None:
                        continue
                    report.add({"network": network, "count": count, **row}, args.output)
                    print(line(row), flush=True)
    for peer in args.peers:
        ratios = [row["timings"][peer]["engine_is_faster"] for row in report.results if peer in row["timings"]]
        if ratios:
            mean = harness.geometric_mean(ratios)
            print(f"geometric mean over {len(ratios)} rows: engine is {mean:.2f}x as fast as {peer}")


if __name__ == "__main__":
    main()
