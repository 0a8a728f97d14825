"""What importing costs: ratios to NumPy alone in interleaved runs, resident memory, files."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from execution import fresh, output_of

import engine

RUNS = 9
Timer = Callable[..., float]


@pytest.fixture(scope="module")
def seconds(tmp_path_factory: pytest.TempPathFactory) -> Timer:
    """Times one run of the interpreter; bytecode is kept, as in an installed package, whatever the environment says."""
    cache = str(tmp_path_factory.mktemp("bytecode"))

    def run(*command: str) -> float:
        start = time.perf_counter()
        done = fresh(*command, PYTHONPYCACHEPREFIX=cache, PYTHONDONTWRITEBYTECODE="")
        elapsed = time.perf_counter() - start
        assert done.returncode == 0, done.stderr
        return elapsed

    return run


def medians(seconds: Timer, *commands: tuple[str, ...]) -> list[float]:
    """Median times of the commands, which take turns so that a slow moment hits all."""
    for command in commands:
        seconds(*command)
    times = [[seconds(*command) for command in commands] for _ in range(RUNS)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def test_import_takes_at_most_twice_what_numpy_takes(seconds: Timer) -> None:
    empty, numpy, both = medians(seconds, ("-c", "pass"), ("-c", "import numpy"), ("-c", "import engine"))
    assert both - empty <= 2.0 * (numpy - empty), f"numpy {numpy - empty:.3f} s, engine with it {both - empty:.3f} s"


def test_help_is_as_quick_as_an_import_of_numpy(seconds: Timer) -> None:
    """The command line imports what it needs when it needs it."""
    numpy, answer = medians(seconds, ("-c", "import numpy"), ("-m", "engine", "--help"))
    assert answer <= 1.7 * numpy, f"numpy {numpy:.3f} s, --help {answer:.3f} s"


OPTIONAL = ("torch", "matplotlib", "PIL", "tqdm", "scipy", "sklearn", "numba", "multiprocessing", "asyncio", "unittest")
HEAVY = ("http", "urllib.request", "ssl", "concurrent.futures")


def test_import_loads_nothing_optional() -> None:
    ask = f"print([m for m in {OPTIONAL + HEAVY!r} if m in sys.modules])"
    alone, both = output_of(f"import sys, numpy; {ask}"), output_of(f"import sys, engine; {ask}")
    assert alone == both, f"engine brings {both}"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_after_import() -> None:
    ask = "print([l for l in open('/proc/self/status') if l.startswith('VmRSS')][0].split()[1])"
    megabytes = int(output_of(f"import engine; {ask}")) / 1024
    assert megabytes <= 45, f"{megabytes:.1f} MiB"


def test_installed_size() -> None:
    """The package folder, bytecode aside. (The wheel is weighed where it is built.)"""
    package = Path(engine.__file__).parent
    files = [p for p in package.rglob("*") if p.is_file() and p.suffix not in (".pyc", ".c", ".cpp")]
    megabytes = sum(p.stat().st_size for p in files) / 1e6
    assert megabytes <= 15, f"{megabytes:.1f} MB"
