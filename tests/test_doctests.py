"""Every example in a docstring runs and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import warnings
from pathlib import Path

import pytest

import engine

MODULES = sorted(
    {"engine"}
    | {
        info.name
        for info in pkgutil.walk_packages(engine.__path__, "engine.")
        if not info.name.startswith("engine.cuda") and info.name.rpartition(".")[2] not in ("__main__", "_C")
    }
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)  # examples that save files leave nothing behind
    engine.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f"{result.failed} of {result.attempted} examples fail"


def test_examples_are_found() -> None:
    """Walking must not silently find nothing."""
    finder = doctest.DocTestFinder()
    found = sum(
        bool(test.examples)
        for name in ("engine.functional", "engine.tensor", "engine.nn.conv")
        for test in finder.find(importlib.import_module(name))
    )
    assert found > 20
