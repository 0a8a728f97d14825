"""Every example runs on small data, quickly, and shows what its docstring says."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here")


def run(name: str, monkeypatch, *arguments: str) -> object:
    """Runs a script in this process, which saves the start of another; returns what its main returns."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="example")["main"]()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch) -> None:
    """Examples write into the present folder."""
    monkeypatch.chdir(tmp_path)


def test_every_example_is_tested_and_says_how_to_run_it() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    text = Path(__file__).read_text()
    assert names == set(re.findall(r'run\("(\w+)"', text))
    for name in names:
        source = (EXAMPLES / f"{name}.py").read_text()
        assert f"Run:  python examples/{name}.py" in source
        assert "You see" in source or "You find" in source
        assert source.count("\n") < 130


def test_lenet_learns_digits(monkeypatch) -> None:
    assert run("lenet_digits", monkeypatch, "--epochs", "5") > 0.95


def test_own_training_loop(monkeypatch) -> None:
    assert run("own_training_loop", monkeypatch, "--epochs", "3") > 0.95


def test_grad_cam_draws(monkeypatch) -> None:
    pytest.importorskip("matplotlib")
    written = run("grad_cam", monkeypatch, "--epochs", "2", "--output", "pictures")
    assert [os.path.basename(path) for path in written] == [
        "feature_maps.png",
        "filters.png",
        "grad_cam.png",
        "saliency.png",
    ]
    assert min(os.path.getsize(path) for path in written) > 1000


def test_imbalance_is_made_up_for(monkeypatch) -> None:
    recall = run("imbalanced", monkeypatch, "--epochs", "6")
    assert min(recall[name] for name in recall if name != "plain") > recall["plain"] + 0.1


def test_cifar_files_are_read_and_learned(monkeypatch) -> None:
    assert run("resnet_cifar10", monkeypatch, "--epochs", "3") > 0.5


def test_a_folder_is_fine_tuned_on(monkeypatch, capsys) -> None:
    pytest.importorskip("PIL")
    assert run("finetune_folder", monkeypatch, "--epochs", "5", "--output-dir", "run") == 0
    assert "test accuracy" in capsys.readouterr().out
    assert os.path.getsize("run/report.html") > 10_000


def test_hyperparameters_are_searched(monkeypatch, capsys) -> None:
    pytest.importorskip("optuna")
    assert run("hyperparameter_search", monkeypatch, "--trials", "2", "--epochs", "1") == 0
    assert os.path.exists("search/best/results.json")
