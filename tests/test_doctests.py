"""Every example in a docstring runs and shows what it says."""

from __future__ import annotations

import doctest
import importlib
import warnings
from pathlib import Path

import pytest

import engine

PACKAGE = Path(engine.__file__).parent
MODULES = sorted(
    ".".join(("engine", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and "cuda" not in path.parts
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
        for name in ("engine.functional._activation", "engine.tensor", "engine.nn.conv")
        for test in finder.find(importlib.import_module(name))
    )
    assert found > 20
