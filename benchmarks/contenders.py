"""Contenders that run each in a process of its own, as their users run them, and take turns.

A benchmark script is both sides: started by a person it is the referee, which starts one worker per contender and
gives each the word in alternating order; started with `--worker` it builds its call and serves rounds over standard
input and output, one JSON line each.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harness
import numpy as np

SLOW_S = 0.5  # a call as long as this is its own warm-up
CLEARLY_SLOWER = 1.15  # of two formats of one framework, the slower one stops after `KEPT_ROUNDS`
KEPT_ROUNDS = 2
FORMATS = ("torch", "torch_nchw")


# ----------------------------------------------------------------------------------------------------------- the worker


def memory_mib(field: str) -> float:
    """VmRSS, the memory of this process now, or VmHWM, its largest since the last `forget_peak`."""
    for line in harness.read("/proc/self/status").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no line {field}")


def forget_peak() -> None:
    """Gives back what building has left, and lets VmHWM start from here."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def serve(call: Callable[[], object], first: dict[str, Any], imported_mib: float, threads: int = 0) -> None:
    """Answers each line of standard input, the seconds to time, with the figures of that round.

    Args:
        call: what is timed.
        first: what is told before the first round.
        imported_mib: memory of the process after its imports; the peak beyond it is the call's.
        threads: measures the machine's limits with the engine after every round, unless 0.
    """
    seconds_of_call = timed(call)
    print(json.dumps(first), flush=True)
    for request in sys.stdin:
        seconds = float(request)
        if seconds_of_call < SLOW_S:
            harness.warm_up(call)
        samples: list[float] = []
        while sum(samples) < seconds:
            samples.append(timed(call))
        seconds_of_call = harness.Timing(samples).median
        reply: dict[str, Any] = {"seconds": seconds_of_call, "calls": len(samples)}
        reply["memory_mib"] = memory_mib("VmHWM") - imported_mib
        if threads:
            reply["limits"] = harness.measure_limits(threads).as_json()
        print(json.dumps(reply), flush=True)


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# ---------------------------------------------------------------------------------------------------------- the referee


class Contender:
    """A worker process and the figures it has returned."""

    def __init__(self, name: str, case: str, threads: int, malloc: str) -> None:
        self.name, self.case = name, case
        command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--worker", name, "--only", case]
        command += ["--threads", str(threads)]
        variables = harness.environment(threads, malloc)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        self.timing = harness.Timing()
        self.memory_mib = 0.0
        self.limits: list[dict[str, Any]] = []
        self.first: dict[str, Any] = {}

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}: see its message above")
        return dict(json.loads(text))

    def round(self, seconds: float) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        figures = self.reply()
        self.timing.samples.append(figures["seconds"])
        self.memory_mib = figures["memory_mib"]
        if "limits" in figures:
            self.limits.append(figures["limits"])
        time.sleep(0.02)  # its worker threads stop spinning before the next contender starts

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=30)


def compete(
    names: list[str],
    case: str,
    malloc: str,
    args: argparse.Namespace,
    check: Callable[[list[Contender]], None],
) -> dict[str, Any]:
    """One row of results: every contender's time and memory, the first one's being the engine's.

    Of two formats of PyTorch the clearly slower one stops early. `check` sees what the workers told first and raises
    when they do not do the same work.
    """
    running: list[Contender] = []
    started = time.perf_counter()
    try:
        for name in names:  # one after the other: what one does while it starts must not disturb another's warm-up
            running.append(Contender(name, case, args.threads, malloc))
            running[-1].first = running[-1].reply()
        check(running)
        order = list(running)
        for finished in range(args.rounds):
            if finished >= args.least_rounds and time.perf_counter() - started > args.budget:
                break
            for contender in order:
                contender.round(args.seconds)
            order.reverse()
            if finished + 1 == KEPT_ROUNDS:
                order = without_slower_format(order)
    finally:
        for contender in running:
            contender.close()
    ours, others = running[0], running[1:]
    row: dict[str, Any] = {"case": case, "malloc": malloc, "limits": ours.limits, "timings": {}}
    for contender in running:
        figures = contender.timing.as_json(keep_samples=True)
        row["timings"][contender.name] = figures | {"memory_mib": round(contender.memory_mib, 1)}
    for peer in others:
        row["timings"][peer.name]["engine_is_faster"] = harness.significant(harness.ratio(peer.timing, ours.timing), 4)
    formats = [peer for peer in others if peer.name in FORMATS]
    if formats:
        better = min(formats, key=lambda peer: peer.timing.median)
        row["better_torch"] = better.name
        row["engine_is_faster"] = row["timings"][better.name]["engine_is_faster"]
        row["memory_of_torch"] = harness.significant(ours.memory_mib / better.memory_mib, 3)
    return row


def same_values(running: list[Contender], tolerance: float) -> None:
    """Stops the benchmark when the contenders do not compute the same.

    Args:
        running: whose first words have "values": some of the results, and last the largest of all.
        tolerance: the largest difference, in shares of the largest value.
    """
    ours, *others = (np.array(contender.first["values"]) for contender in running)
    for peer, theirs in zip(running[1:], others, strict=True):
        error = float(np.abs(ours - theirs).max() / theirs[-1])
        if not error <= tolerance:
            raise SystemExit(f"engine and {peer.name} disagree on {peer.case}: {error:.1e} of the largest value")


def same_losses(running: list[Contender], tolerances: Sequence[float]) -> None:
    """Stops the benchmark when the contenders do not train alike.

    Args:
        running: whose first words have "losses", of the first steps.
        tolerances: of each step, in shares of the larger loss.
    """
    ours, *others = running
    for peer in others:
        pairs = zip(ours.first["losses"], peer.first["losses"], tolerances, strict=True)
        for step, (a, b, tolerance) in enumerate(pairs):
            if not abs(a - b) <= tolerance * max(abs(a), abs(b)):
                raise SystemExit(f"loss {step} of {ours.name} is {a}, of {peer.name} {b}: not the same training")


def without_slower_format(running: list[Contender]) -> list[Contender]:
    formats = [contender for contender in running if contender.name in FORMATS]
    if len(formats) < 2:
        return running
    best = min(contender.timing.median for contender in formats)
    return [c for c in running if c not in formats or c.timing.median <= CLEARLY_SLOWER * best]


def line(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {figures['median_ms']:.4g} ms ±{figures['spread']:.0%}"
        + (f" {figures['memory_mib']:.0f} MiB" if "memory_mib" in figures else "")
        + (f" {figures['engine_is_faster']:.2f}x" if "engine_is_faster" in figures else "")
        for name, figures in row["timings"].items()
    ]
    states = "/".join(sorted({limits["state"] for limits in row["limits"]}))
    return f"{row['case']:18} {row['malloc']:8}" + "  ".join([*parts, states])


def arguments(
    description: str | None, names: tuple[str, ...], cases: Sequence[str], case: str = "<network> or <network>-<batch>"
) -> argparse.ArgumentParser:
    """The options that all benchmarks with contenders share; `parse` reads them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(cases), help=case)
    parser.add_argument("--malloc", nargs="+", choices=sorted(harness.MALLOC), default=["default", "tuned"])
    parser.add_argument("--peers", nargs="*", choices=names[1:], default=list(names[1:]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11, help="at most; of one contender a round has one sample")
    parser.add_argument("--least-rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=45, help="seconds of a row, start included, before it ends")
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of each contender in each round")
    parser.add_argument("--quick", action="store_true", help="few samples, for a first look")
    parser.add_argument("--output", help="JSON file; its rows of the same name are replaced, the others kept")
    parser.add_argument("--worker", choices=names, help=argparse.SUPPRESS)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.least_rounds, args.budget, args.seconds = 4, 2, 15, 0.2
    return args
