"""Settings for all tests: what a test switches is switched back after it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
if not any((ROOT / "engine").glob("_C.*.so")):  # a clone that was not built must not hide the installed package
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

# Tests share the machine: a thread that waits for one that has no processor should sleep soon. GNU's OpenMP reads this
# once, when it is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import engine  # noqa: E402
from engine import backend as B  # noqa: E402

# Child processes import the very engine under test, be it installed, editable or built in place.
os.environ["PYTHONPATH"] = str(Path(engine.__file__).resolve().parents[1])

# A suite started in the background has Ctrl-C ignored, and its children too: the tests of interruption press it.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "suite",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
# pytest --hypothesis-profile=explore tests/test_properties.py: new examples in every run, and many.
settings.register_profile("explore", settings.get_profile("suite"), max_examples=1500, derandomize=False)
settings.load_profile("suite")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests skipped in any case, a line each, to the file ENGINE_SKIPPED_TESTS names: `pytest @FILE` runs just them."""
    if path := os.environ.get("ENGINE_SKIPPED_TESTS"):
        skipped = {report.nodeid.split("[")[0] for report in terminalreporter.stats.get("skipped", [])}
        Path(path).write_text("".join(f"{name}\n" for name in sorted(skipped)))


@pytest.fixture(autouse=True, scope="session")
def _away_from_the_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An unbuilt source tree in the working directory would be imported by child processes first."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("working_directory"))
    yield
    os.chdir(before)


@pytest.fixture(params=B.available_isas())
def isa(request: pytest.FixtureRequest) -> str:
    """The test runs once on every instruction set; `_defaults` switches back."""
    B.set_isa(request.param)
    return str(request.param)


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    isa, threads = B.isa(), B.num_threads()
    engine.manual_seed(0)
    yield
    if B.isa() != isa:
        B.set_isa(isa)
    if B.num_threads() != threads:
        B.set_num_threads(threads)
