"""Fair timing: what every benchmark of this folder shares.

The rules, each learnt from a wrong figure:

* compare only what ran interleaved in one run, in alternating order (A B, B A, ...), so that drift cancels;
* medians of many samples, and their spread beside them; never the minimum, never one sample;
* warm up at least 150 ms: caches, page faults, sleeping worker threads, a clock that rises;
* equal thread counts, `OPENBLAS_NUM_THREADS=1` (the pool of NumPy's OpenBLAS keeps a core busy after its last call);
* the FMA peak is measured in the same run, next to the figure whose share of it is quoted;
* the cache-line ping-pong time between the threads stands beside every figure: a virtual machine's two cores are at
  times near (below 100 ns) and at times far, and figures compare only within one state; above 1000 ns others
  compute on the same cores, and the figure is worth nothing;
* torch is measured with the malloc of every user ("default") and with that of a careful one ("tuned").
"""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NEAR_NS, FAR_NS = 100.0, 1000.0
WARM_UP_S = 0.15

# glibc keeps freed memory instead of giving it back to the system, so that a training step meets no page faults.
MALLOC = {
    "default": {},
    "tuned": {"MALLOC_MMAP_THRESHOLD_": str(1 << 34), "MALLOC_TRIM_THRESHOLD_": str(1 << 34)},
}
MALLOC_NAMES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_ARENA_MAX", "LD_PRELOAD")


# --------------------------------------------------------------------------------------------------------------- timing


@dataclass
class Timing:
    """Seconds per call: the median of the samples, their quartiles, and the samples themselves."""

    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        if len(self.samples) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.samples, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """Distance of the quartiles as a share of the median."""
        low, high = self.quartiles
        return (high - low) / self.median

    def as_json(self, keep_samples: bool = False) -> dict[str, Any]:
        low, high = self.quartiles
        figures: dict[str, Any] = {
            "median_ms": significant(self.median * 1e3),
            "q1_ms": significant(low * 1e3),
            "q3_ms": significant(high * 1e3),
            "spread": significant(self.spread, 3),
            "count": len(self.samples),
        }
        if keep_samples:
            figures["samples_ms"] = [significant(sample * 1e3) for sample in self.samples]
        return figures


def significant(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}")


def warm_up(call: Callable[[], object], seconds: float = WARM_UP_S) -> float:
    """Calls for at least `seconds` and at least twice; returns the seconds of one warm call."""
    call()
    count, start = 0, time.perf_counter()
    while True:
        call()
        count += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return elapsed / count


def interleave(calls: dict[str, Callable[[], object]], rounds: int = 15, sample_s: float = 0.01) -> dict[str, Timing]:
    """Times several calls in turn.

    Args:
        calls: What to time, by name. Each does the same work.
        rounds: Samples of each call.
        sample_s: A sample repeats its call until about this many seconds have passed.
    """
    repeats = {name: max(1, round(sample_s / warm_up(call))) for name, call in calls.items()}
    timings = {name: Timing() for name in calls}
    order = list(calls)
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order:
                call, repeat = calls[name], range(repeats[name])
                call()  # whatever ran before has left its own data in the caches
                start = time.perf_counter()
                for _ in repeat:
                    call()
                timings[name].samples.append((time.perf_counter() - start) / len(repeat))
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    return timings


def ratio(slower: Timing, faster: Timing) -> float:
    """How many times faster the second is: the median of the ratios of neighbouring samples.

    One may have stopped early: what counts is the rounds that both have.
    """
    return statistics.median(a / b for a, b in zip(slower.samples, faster.samples, strict=False))


def geometric_mean(values: Sequence[float]) -> float:
    return statistics.geometric_mean(values) if values else float("nan")


# ------------------------------------------------------------------------------------------------------ limits, machine


@dataclass
class Limits:
    """What the machine gave at the moment of a figure."""

    peak_gflops: float
    ping_pong_ns: float

    @property
    def state(self) -> str:
        """near or far: the two states of two cores; busy: others compute here, the figure is worth nothing."""
        if self.ping_pong_ns < 0:
            return "one thread"
        if not 0 < self.ping_pong_ns < FAR_NS:
            return "busy"
        return "near" if self.ping_pong_ns < NEAR_NS else "far"

    def as_json(self) -> dict[str, Any]:
        return {
            "peak_gflops": significant(self.peak_gflops, 4),
            "ping_pong_ns": significant(self.ping_pong_ns, 3),
            "state": self.state,
        }


def measure_limits(threads: int) -> Limits:
    """The FMA peak of `threads` threads on the ISA in use, and the ping-pong time of a cache line between two.

    The core's measurement answers 0 when the partner was not scheduled in time.
    """
    from engine import _C

    return Limits(float(_C.measure_peak(threads)), float(_C.measure_ping_pong()) if threads > 1 else -1.0)


def machine() -> dict[str, Any]:
    """Processor, caches, memory, system and compiler, as far as they can be found out."""
    processor: dict[str, str] = {}
    for line in read("/proc/cpuinfo").split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        processor[key.strip()] = value.strip()
    flags = set(processor.get("flags", processor.get("Features", "")).split())
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (read(index / name) for name in ("level", "type", "size"))
        caches[f"L{level}{'d' if kind == 'Data' else 'i' if kind == 'Instruction' else ''}"] = size
    memory = next((line.split()[1] for line in read("/proc/meminfo").splitlines() if line.startswith("MemTotal")), "0")
    return {
        "cpu": processor.get("model name") or platform.processor() or platform.machine(),
        "family_model_stepping": "/".join(processor.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cores_allowed": len(os.sched_getaffinity(0)),
        "virtual": "hypervisor" in flags,
        "simd": sorted(f for f in flags if f in {"avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "asimd", "sve"}),
        "caches": caches,
        "memory_gib": round(int(memory) / 2**20, 1),
        "huge_pages": read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "governor": read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "load_average_at_start": os.getloadavg()[0],
    }


def software() -> dict[str, Any]:
    """Versions of what is compared, the build of the engine, and the commit of this checkout."""
    from importlib.metadata import PackageNotFoundError, version

    versions: dict[str, Any] = {}
    for package in ("numpy", "torch", "onnxruntime", "openvino"):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    with contextlib.suppress(ImportError):
        import engine
        from engine import backend

        versions["engine"] = engine.__version__
        versions["engine_isa"] = backend.isa()
        versions["engine_build"] = backend.build_info()
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    described = subprocess.run(git, capture_output=True, text=True, check=False)
    versions["commit"] = described.stdout.strip() if described.returncode == 0 else ""
    return versions


def malloc_setting() -> dict[str, Any]:
    """The variables that steer glibc's malloc, and whether freed memory really stays with the process."""
    return {
        "variables": {name: os.environ[name] for name in MALLOC_NAMES if name in os.environ},
        "keeps_freed_memory": keeps_freed_memory(),
    }


def keeps_freed_memory(size: int = 64 << 20) -> bool | None:
    """Whether the second use of a freed block of this size meets page faults; None where it cannot be told."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    faults = 0
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = libc.malloc(size)
        if not block:
            return None
        ctypes.memset(block, 1, size)
        libc.free(block)
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return faults < 16


def read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


# ---------------------------------------------------------------------------------------------------------- environment


def environment(threads: int, malloc: str = "default", isa: str = "") -> dict[str, str]:
    """The variables of a measured process; nothing that binds threads, which is each framework's own affair.

    An ISA below the processor's own holds for the engine and for PyTorch with its oneDNN alike.
    """
    variables = {name: value for name, value in os.environ.items() if name not in MALLOC_NAMES or name == "LD_PRELOAD"}
    for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "OMP_WAIT_POLICY", "KMP_AFFINITY"):
        variables.pop(name, None)
    variables.update(OMP_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS="1")
    variables.update(MALLOC[malloc])
    if isa:
        variables.update(ENGINE_ISA=isa, ONEDNN_MAX_CPU_ISA=isa.upper(), ATEN_CPU_CAPABILITY=isa)
    return variables


def ensure_environment(threads: int, malloc: str = "default", isa: str = "") -> None:
    """Starts this script again when its environment is not the one to measure in: libraries read it when they load."""
    wanted = environment(threads, malloc, isa)
    if dict(os.environ) != wanted:
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)


# -------------------------------------------------------------------------------------------------------------- results


# What tells two rows of one benchmark apart.
KEYS = ("case", "network", "name", "shape", "batch", "pass", "malloc", "isa")


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in KEYS)


@dataclass
class Report:
    """The results of one benchmark, with all that is needed to read them later."""

    benchmark: str
    settings: dict[str, Any]
    machine: dict[str, Any] = field(default_factory=machine)
    software: dict[str, Any] = field(default_factory=software)
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    )
    results: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: dict[str, Any], path: str | Path | None = None) -> None:
        """Adds a row and, given a file, saves it there."""
        self.results.append(row)
        if path is not None:
            self.save(path)

    def save(self, path: str | Path) -> None:
        """Puts each row into the file, in the place of the one of the same name; the others there stay.

        So a long benchmark can be run in pieces, and each row says when and of which commit it is.
        """
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        if Path(path).exists():
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            for what, kept, new in (
                ("benchmark", stored["benchmark"], self.benchmark),
                ("processor", stored["machine"]["cpu"], self.machine["cpu"]),
            ):
                if kept != new:
                    raise SystemExit(f"{path} holds results of the {what} {kept!r}, not {new!r}: choose another file")
            rows = {key_of(row): row for row in stored["results"]}
        origin = {"date": self.date, "commit": self.software["commit"]}
        rows |= {key_of(row): row | origin for row in self.results}
        write_json(path, asdict(self) | {"results": list(rows.values())})


def write_json(path: str | Path, content: Any) -> None:
    """Writes the whole file or leaves the old one: a benchmark may be interrupted, and a disk may be full."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
