"""Result files: rows that replace their predecessors, comparisons that are refused, networks that are equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import compare
import harness
import networks
import numpy as np
import pytest

import engine

SETTINGS = {"threads": 2}


def row(case: str, milliseconds: float, state: str = "near") -> dict[str, Any]:
    figures = {"median_ms": milliseconds, "spread": 0.01, "memory_mib": 1.0}
    return {"case": case, "malloc": "default", "batch": 1, "limits": [{"state": state}], "timings": {"engine": figures}}


def test_a_row_replaces_the_one_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    for case, milliseconds in (("a-1", 1.0), ("b-1", 2.0), ("a-1", 3.0)):
        harness.Report("train", SETTINGS).add(row(case, milliseconds), path)
    rows = json.loads(path.read_text())["results"]
    assert [(r["case"], r["timings"]["engine"]["median_ms"]) for r in rows] == [("a-1", 3.0), ("b-1", 2.0)]
    with pytest.raises(SystemExit, match="results of the benchmark 'train', not 'infer'"):
        harness.Report("infer", SETTINGS).add(row("a-1", 1.0), path)


def test_rows_of_different_states_are_not_compared(tmp_path: Path) -> None:
    paths = tmp_path / "before.json", tmp_path / "after.json"
    for path, states in zip(paths, (("near", "near", "busy"), ("near", "far", "busy")), strict=True):
        for case, state in zip("abc", states, strict=True):
            harness.Report("train", SETTINGS).add(row(f"{case}-1", 1.0, state), path)
    text = compare.against_earlier(*map(compare.load, paths))
    assert text.count("Not compared") == 2
    assert "| a-1, default malloc | 1 ± 1% | 1 ± 1% | 1.00 |" in text
    assert "over 1 rows" in text


@pytest.mark.parametrize("path", sorted(harness.RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_tables_of_the_committed_results(path: Path) -> None:
    content = compare.load(path)
    lines = compare.tables(content).splitlines()
    assert len([line for line in lines if line.startswith("| ")]) > len(content["results"])


@pytest.mark.parametrize("case", ["resnet50", "lenet5-256"])
def test_cases(case: str) -> None:
    assert networks.parse_case(case) in {("resnet50", 16), ("lenet5", 256)}


@pytest.mark.parametrize("case", ["resnet51", "resnet50-", "resnet50-b1"])
def test_unknown_cases_are_refused(case: str) -> None:
    with pytest.raises(ValueError, match="got"):
        networks.parse_case(case)


def test_dropout_returns_after_the_check() -> None:
    model = networks.engine_model("mobilenet_v2")
    dropout = model.classifier[0]
    networks.set_random_layers(model, active=False)
    assert dropout.p == 0.0
    networks.set_random_layers(model, active=True)
    assert dropout.p == 0.2


def test_both_frameworks_get_the_same_network() -> None:
    torch = pytest.importorskip("torch")
    numbers, _ = networks.batch_of("cnn6", 2)
    with engine.no_grad(), torch.no_grad():
        ours = networks.engine_model("cnn6").eval()(engine.from_numpy(numbers)).numpy()
        theirs = networks.torch_model("cnn6").eval()(torch.from_numpy(numbers)).numpy()
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max()
