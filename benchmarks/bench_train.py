"""Whole training steps, engine beside PyTorch.

    python benchmarks/bench_train.py --output benchmarks/results/train.json
    python benchmarks/bench_train.py --case lenet5-64 --rounds 5 --seconds 0.2

A step is forward, cross-entropy, backward and SGD with momentum on one resident batch. The engine and both memory
formats of PyTorch run each in a process of its own (as their users do) and take turns: in every round each process
warms up and then times steps for `--seconds`, in alternating order. PyTorch's better format counts. Everything is
done with the malloc of every user and again with a tuned one. All start from the same weights, and their losses
after the first steps are compared, so that they provably do the same work.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np

CONTENDERS = ("engine", "torch", "torch_nchw")
CHECKED_STEPS = 5


# --------------------------------------------------------------------------------------- networks, for either framework


def lenet5(nn: Any) -> Any:
    """LeNet-5 (LeCun et al. 1998) on 1x32x32 with ReLU and max pooling."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def cnn6(nn: Any) -> Any:
    """Six 3x3 convolutions with batch norm on 3x32x32: two each of 64, 128 and 256 channels."""
    layers, channels = [], 3
    for width in (64, 128, 256):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4096, 10))


NETWORKS: dict[str, tuple[Callable[[Any], Any], tuple[int, int, int]]] = {
    "lenet5": (lenet5, (1, 32, 32)),
    "cnn6": (cnn6, (3, 32, 32)),
}
CASES = ("lenet5-64", "lenet5-256", "cnn6-64")


# -------------------------------------------------------------------------------------------------------- one contender


def initial_state(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The same He-scaled weights for every framework; vectors keep their framework's own start (0 and 1)."""
    random = np.random.default_rng(0)
    state = {}
    for name, shape in sorted(shapes.items()):
        if len(shape) > 1:
            scale = np.float32((2.0 / np.prod(shape[1:])) ** 0.5)
            state[name] = random.standard_normal(shape, dtype=np.float32) * scale
        elif name.endswith("bias"):
            state[name] = np.zeros(shape, np.float32)
    return state


def batch_of(shape: tuple[int, int, int], batch: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    return random.standard_normal((batch, *shape), dtype=np.float32), random.integers(0, 10, batch)


def engine_step(case: str, threads: int) -> Callable[[], Any]:
    import engine
    from engine import backend, nn, optim

    build, shape, batch = case_parts(case)
    backend.set_num_threads(threads)
    model = build(nn)
    start = initial_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    state = dict(model.state_dict())
    state.update({name: engine.from_numpy(value) for name, value in start.items()})
    model.load_state_dict(state)
    x, y = batch_of(shape, batch)
    return training_step(model, nn, optim, engine.from_numpy(x).contiguous(), engine.from_numpy(y))


def torch_step(case: str, threads: int, channels_last: bool) -> Callable[[], Any]:
    import torch

    build, shape, batch = case_parts(case)
    torch.set_num_threads(threads)
    model = build(torch.nn)
    start = initial_state({name: tuple(value.shape) for name, value in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in start.items()}, strict=False)
    numbers, y = batch_of(shape, batch)
    x = torch.from_numpy(numbers)
    if channels_last:
        x, model = x.contiguous(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
    return training_step(model, torch.nn, torch.optim, x, torch.from_numpy(y))


def training_step(model: Any, nn: Any, optim: Any, x: Any, y: Any) -> Callable[[], Any]:
    """The step itself: the same lines for both frameworks."""
    loss_of = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def case_parts(case: str) -> tuple[Callable[[Any], Any], tuple[int, int, int], int]:
    network, _, batch = case.rpartition("-")
    if network not in NETWORKS or not batch.isdigit():
        raise ValueError(f"expected <network>-<batch> with a network of {sorted(NETWORKS)}, got {case!r}")
    return (*NETWORKS[network], int(batch))


def worker(contender: str, case: str, threads: int) -> None:
    """Serves rounds over standard input and output, one JSON line each."""
    if contender == "engine":
        step = engine_step(case, threads)
    else:
        step = torch_step(case, threads, channels_last=contender == "torch")
    losses = [float(step().item()) for _ in range(CHECKED_STEPS)]
    harness.warm_up(step)
    reply: dict[str, Any] = {"losses": losses, "malloc": harness.malloc_setting()}
    print(json.dumps(reply), flush=True)
    for request in sys.stdin:
        seconds = float(request)
        harness.warm_up(step)
        samples = []
        start = before = time.perf_counter()
        while before - start < seconds or len(samples) < 3:
            step()
            now = time.perf_counter()
            samples.append(now - before)
            before = now
        reply = {"steps": len(samples), "step_s": statistics.median(samples), "mean_s": statistics.fmean(samples)}
        reply["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if contender == "engine":
            reply["limits"] = harness.measure_limits(threads).as_json()
        print(json.dumps(reply), flush=True)


class Contender:
    """A worker process and the figures it has returned."""

    def __init__(self, name: str, case: str, threads: int, malloc: str) -> None:
        self.name = name
        command = [sys.executable, str(Path(__file__).resolve()), "--worker", name, "--case", case]
        command += ["--threads", str(threads), "--malloc", malloc]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=harness.environment(threads, malloc)
        )
        self.timing = harness.Timing()
        self.peak_memory_mib = 0.0
        self.limits: list[dict[str, Any]] = []
        self.first = self.reply()

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
        self.timing.samples.append(figures["step_s"])
        self.peak_memory_mib = figures["peak_memory_mib"]
        if "limits" in figures:
            self.limits.append(figures["limits"])
        time.sleep(0.02)  # its worker threads stop spinning before the next contender starts

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait(timeout=30)


# ------------------------------------------------------------------------------------------------------------- one case


def measure(case: str, malloc: str, args: argparse.Namespace, contenders: list[str]) -> dict[str, Any]:
    running: list[Contender] = []
    try:
        for name in contenders:
            running.append(Contender(name, case, args.threads, malloc))
        check_losses(case, running)
        order = list(running)
        for _ in range(args.rounds):
            for contender in order:
                contender.round(args.seconds)
            order.reverse()
    finally:
        for contender in running:
            contender.close()
    batch = case_parts(case)[2]
    ours = running[0]
    row: dict[str, Any] = {
        "case": case,
        "batch": batch,
        "malloc": malloc,
        "malloc_setting": ours.first["malloc"],
        "limits": ours.limits,
        "timings": {},
    }
    for contender in running:
        row["timings"][contender.name] = {
            **contender.timing.as_json(keep_samples=True),
            "images_per_s": harness.significant(batch / contender.timing.median, 4),
            "peak_memory_mib": round(contender.peak_memory_mib, 1),
            "first_losses": contender.first["losses"],
        }
    peers = running[1:]
    for peer in peers:
        row["timings"][peer.name]["engine_is_faster"] = harness.significant(harness.ratio(peer.timing, ours.timing), 4)
    if peers:
        better = min(peers, key=lambda peer: peer.timing.median)
        row["better_peer"] = better.name
        row["engine_is_faster"] = row["timings"][better.name]["engine_is_faster"]
    return row


def check_losses(case: str, running: list[Contender]) -> None:
    """Stops the benchmark when the contenders do not train alike."""
    ours = running[0]
    for peer in running[1:]:
        for step, (a, b) in enumerate(zip(ours.first["losses"], peer.first["losses"], strict=True)):
            if not abs(a - b) <= 1e-3 * max(abs(a), abs(b)):
                raise SystemExit(
                    f"{case}: loss {step} of {ours.name} is {a}, of {peer.name} {b}: not the same training"
                )


def line(row: dict[str, Any]) -> str:
    parts = [
        f"{name} {figures['median_ms']:.3f} ms (spread {figures['spread']:.0%}, {figures['peak_memory_mib']:.0f} MiB)"
        for name, figures in row["timings"].items()
    ]
    verdict = (
        f"engine is {row['engine_is_faster']:.2f}x as fast as {row['better_peer']}" if "better_peer" in row else ""
    )
    states = sorted({limits["state"] for limits in row["limits"]})
    return f"{row['case']:12} malloc {row['malloc']:8} " + "  ".join([*parts, verdict, "/".join(states)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", default=list(CASES), help="<network>-<batch>, default: %(default)s")
    parser.add_argument("--malloc", nargs="+", choices=sorted(harness.MALLOC), default=["default", "tuned"])
    parser.add_argument("--peers", nargs="*", choices=CONTENDERS[1:], default=list(CONTENDERS[1:]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.5, help="timed seconds of each contender in each round")
    parser.add_argument("--output", help="JSON file, rewritten after every case")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.worker:
        worker(args.worker, args.case[0], args.threads)
        return
    harness.ensure_environment(args.threads)
    settings = {"rounds": args.rounds, "seconds": args.seconds, "threads": args.threads, "peers": args.peers}
    report = harness.Report("train", settings)
    for case in args.case:
        case_parts(case)
        for malloc in args.malloc:
            row = measure(case, malloc, args, ["engine", *args.peers])
            report.results.append(row)
            print(line(row), flush=True)
            if args.output:
                report.save(args.output)
    report.complete = True
    if args.output:
        report.save(args.output)


if __name__ == "__main__":
    main()
