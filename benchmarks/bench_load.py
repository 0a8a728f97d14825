"""Loading pretrained weights: time and peak memory, engine beside PyTorch.

    python benchmarks/bench_load.py --output benchmarks/results/load.json
    python benchmarks/bench_load.py --model resnet18 --rounds 3

The file is a zip .pth of the model's size. Every load is one process of its own, as users load once; the processes
take turns in alternating order, and the file is in the system's cache. The contenders:

* engine: `load_weights(model, path)` into a model that is there;
* engine_build: `resnet152(weights=path)`, building the model included;
* torch: `model.load_state_dict(torch.load(path, weights_only=True))` into a model that is there;
* torch_mmap: the same with `mmap=True`, which is not torch's default.

torch's model is a bare tree of modules with the same parameters and buffers, so that what torchvision's classes cost
does not count. Peak memory is what the system saw as the process's largest resident set; the memory after imports,
before the model is built, is subtracted. A sum over all parameters afterwards proves that all loaded the same.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np

CONTENDERS = ("engine", "engine_build", "torch", "torch_mmap")


# -------------------------------------------------------------------------------------------------------- one contender


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (the most since the process began) of this process."""
    for line in harness.read("/proc/self/status").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return math.nan


def engine_loader(model_name: str, path: str, build: bool) -> tuple[float, Callable[[], Any], Callable[[Any], float]]:
    """Memory after imports, the load to time, and the sum that proves it."""
    import engine
    from engine import models
    from engine.io.weights_file import load_weights

    imported = resident_mib("VmRSS")
    engine.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def total(model: Any) -> float:
        return sum(float(value.numpy().sum(dtype=np.float64)) for value in model.parameters_to_sum)

    class Loaded:
        def __init__(self, model: Any) -> None:
            self.parameters_to_sum = [parameter.detach() for parameter in model.parameters()]

    if build:
        return imported, lambda: Loaded(models.get_model(model_name, weights=path)), total
    with models.skip_init():
        model = models.get_model(model_name)

    def load() -> Any:
        load_weights(model, path)
        return Loaded(model)

    return imported, load, total


def torch_loader(model_name: str, path: str, mmap: bool) -> tuple[float, Callable[[], Any], Callable[[Any], float]]:
    """The same for PyTorch."""
    import torch

    imported = resident_mib("VmRSS")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    shapes = json.loads(Path(path + ".json").read_text(encoding="utf-8"))
    model = torch.nn.Module()
    for name, (shape, is_parameter) in shapes.items():
        place = model
        *parts, last = name.split(".")
        for part in parts:
            if part not in place._modules:
                place.add_module(part, torch.nn.Module())
            place = place._modules[part]
        if is_parameter:
            place.register_parameter(last, torch.nn.Parameter(torch.empty(shape)))
        else:
            dtype = torch.int64 if last == "num_batches_tracked" else torch.float32
            place.register_buffer(last, torch.empty(shape, dtype=dtype))

    def load() -> Any:
        model.load_state_dict(torch.load(path, weights_only=True, mmap=mmap))
        return model

    return imported, load, lambda model: sum(float(p.detach().double().sum()) for p in model.parameters())


def worker(contender: str, model_name: str, path: str) -> None:
    """Loads once and prints what it took; the peak is read before the sum, which is not part of loading."""
    if contender.startswith("engine"):
        imported, load, total = engine_loader(model_name, path, contender == "engine_build")
    else:
        imported, load, total = torch_loader(model_name, path, contender == "torch_mmap")
    begin = time.perf_counter()
    loaded = load()
    seconds = time.perf_counter() - begin
    peak = resident_mib("VmHWM")
    print(json.dumps({"seconds": seconds, "imported_mib": imported, "peak_mib": peak, "sum": total(loaded)}))


# ---------------------------------------------------------------------------------------------------------- the parent


def make_file(model_name: str, path: str) -> None:
    """Writes a zip .pth with random weights, and beside it the shapes that torch's tree is built from."""
    import engine
    from engine import models

    with models.skip_init():
        model = models.get_model(model_name)
    random = np.random.default_rng(0)
    parameters = {name for name, _ in model.named_parameters()}
    shapes = {}
    state: dict[str, np.ndarray] = {}
    for name, value in model.state_dict().items():
        shapes[name] = [list(value.shape), name in parameters]
        draws = random.standard_normal(value.shape, dtype=np.float32)
        state[name] = draws if name in parameters else np.ones(value.shape, value.numpy().dtype)
    engine.io.write_weights(state, path)
    Path(path + ".json").write_text(json.dumps(shapes), encoding="utf-8")


def run_once(contender: str, args: argparse.Namespace, path: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", contender, "--model", args.model, "--file", path]
    done = subprocess.run(command, env=harness.environment(args.threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{contender}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(args: argparse.Namespace, path: str) -> dict[str, Any]:
    contenders = [name for name in CONTENDERS if name.startswith("engine") or name in args.peers]
    timings = {name: harness.Timing() for name in contenders}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for name in contenders:
        run_once(name, args, path)  # brings files and libraries into the system's cache
    order = list(contenders)
    for _ in range(args.rounds):
        for name in order:
            runs[name].append(run_once(name, args, path))
            timings[name].samples.append(runs[name][-1]["seconds"])
        order.reverse()
    sums = [run["sum"] for name in contenders for run in runs[name]]
    if max(sums) - min(sums) > 1e-6 * max(map(abs, sums)) + 1e-3:
        raise SystemExit(f"the contenders did not load the same values: {sums}")

    size = os.path.getsize(path) / 2**20
    row: dict[str, Any] = {
        "case": f"{args.model}.pth",
        "malloc": "default",
        "file_mib": round(size, 1),
        "limits": [harness.measure_limits(args.threads).as_json()],
        "timings": {},
    }
    for name in contenders:
        imported = max(run["imported_mib"] for run in runs[name])
        peak = max(run["peak_mib"] for run in runs[name])
        row["timings"][name] = {
            **timings[name].as_json(keep_samples=True),
            "imported_mib": round(imported, 1),
            "peak_mib": round(peak, 1),
            "peak_without_import_by_file": harness.significant((peak - imported) / size, 4),
        }
    for name in contenders[1:]:
        faster = harness.ratio(timings[name], timings["engine"])
        row["timings"][name]["engine_is_faster"] = harness.significant(faster, 4)
    return row


def line(row: dict[str, Any]) -> str:
    parts = []
    for name, figures in row["timings"].items():
        text = f"  {name:13} {figures['median_ms']:8.1f} ms (spread {figures['spread']:.0%})"
        text += f"  peak {figures['peak_mib']:6.0f} MiB = import {figures['imported_mib']:.0f}"
        text += f" + {figures['peak_without_import_by_file']:.2f} x file"
        if "engine_is_faster" in figures:
            text += f"; engine is {figures['engine_is_faster']:.2f}x as fast"
        parts.append(text)
    states = "/".join(limits["state"] for limits in row["limits"])
    return "\n".join([f"{row['case']}, {row['file_mib']:.0f} MiB, {states}", *parts])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet152", help="default: %(default)s")
    parser.add_argument("--peers", nargs="*", choices=CONTENDERS[2:], default=list(CONTENDERS[2:]))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", help="JSON file to write")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.worker:
        worker(args.worker, args.model, args.file)
        return
    harness.ensure_environment(args.threads)
    settings = {"model": args.model, "rounds": args.rounds, "threads": args.threads, "peers": args.peers}
    report = harness.Report("load", settings)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, f"{args.model}.pth")
        make_file(args.model, path)
        row = measure(args, path)
    report.add(row, args.output)
    print(line(row))


if __name__ == "__main__":
    main()
