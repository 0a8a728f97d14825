"""What importing costs: ratios to NumPy alone in interleaved runs, resident memory, files."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import engine

RUNS = 7
ENV = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=ENV, timeout=60, check=False)
    elapsed = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return elapsed


def medians(*commands: tuple[str, ...]) -> list[float]:
    """Median times of the commands, which take turns so that a slow moment hits all."""
    for command in commands:
        seconds(*command)
    times = [[seconds(*command) for command in commands] for _ in range(RUNS)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def test_import_takes_at_most_twice_what_numpy_takes() -> None:
    empty, numpy, both = medians(("-c", "pass"), ("-c", "import numpy"), ("-c", "import engine"))
    assert both - empty <= 2.0 * (numpy - empty), f"numpy {numpy - empty:.3f} s, engine with it {both - empty:.3f} s"


def test_help_is_as_quick_as_an_import_of_numpy() -> None:
    """The command line imports what it needs when it needs it."""
    numpy, answer = medians(("-c", "import numpy"), ("-m", "engine", "--help"))
    assert answer <= 2.0 * numpy, f"numpy {numpy:.3f} s, --help {answer:.3f} s"


def test_import_loads_nothing_optional() -> None:
    script = (
        "import sys, engine; print([m for m in ('torch', 'matplotlib', 'PIL', 'tqdm', 'scipy', 'sklearn', 'numba', "
        "'multiprocessing', 'asyncio', 'unittest', 'http', 'urllib.request', 'ssl') if m in sys.modules])"
    )
    alone = "import sys, numpy; " + script[len("import sys, engine; ") :]
    results = [
        subprocess.run([sys.executable, "-c", s], capture_output=True, text=True, env=ENV, check=True).stdout
        for s in (alone, script)
    ]
    assert results[0] == results[1], f"engine brings {results[1]}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_after_import() -> None:
    script = "import engine; print([l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENV, check=True).stdout
    assert int(out) / 1024 <= 45, f"{int(out) / 1024:.1f} MiB"


def test_installed_size() -> None:
    """The package folder, bytecode aside. (The wheel is weighed where it is built.)"""
    package = Path(engine.__file__).parent
    files = [p for p in package.rglob("*") if p.is_file() and p.suffix not in (".pyc", ".c", ".cpp")]
    megabytes = sum(p.stat().st_size for p in files) / 1e6
    assert megabytes <= 15, f"{megabytes:.1f} MB"
