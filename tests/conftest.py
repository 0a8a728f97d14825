"""Settings for all tests: what a test switches is switched back after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import engine
from engine import backend as B

settings.register_profile(
    "suite",
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    isa, threads = B.isa(), B.num_threads()
    engine.manual_seed(0)
    yield
    if B.isa() != isa:
        B.set_isa(isa)
    if B.num_threads() != threads:
        B.set_num_threads(threads)
