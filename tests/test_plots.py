"""Every plot is drawn, in the formats it promises, and says what is wrong with what it is given."""

from __future__ import annotations

import sys
from io import BytesIO

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import engine
from engine import plots

GENERATOR = np.random.default_rng(0)
COUNT, CLASSES = 60, ("ant", "bee", "a cat with a very long name indeed")
TARGETS = GENERATOR.integers(0, 3, COUNT)
PROBABILITIES = GENERATOR.dirichlet(np.ones(3), COUNT) * 0.5 + 0.5 * np.eye(3)[TARGETS]
IMAGES = GENERATOR.integers(0, 256, (COUNT, 9, 7, 3), np.uint8)
GUESSES = GENERATOR.integers(0, 3, COUNT)

DRAWN = {
    "roc_one": lambda path: plots.roc_curves(TARGETS == 1, PROBABILITIES[:, 1], path),
    "roc_all": lambda path: plots.roc_curves(TARGETS, PROBABILITIES, path, CLASSES),
    "roc_many": lambda path: plots.roc_curves(np.arange(40) % 20, GENERATOR.random((40, 20)), path),
    "roc_absent": lambda path: plots.roc_curves([0, 0, 1], np.eye(3), path),
    "pr_one": lambda path: plots.precision_recall_curves(TARGETS == 1, PROBABILITIES[:, 1], path),
    "pr_all": lambda path: plots.precision_recall_curves(TARGETS, PROBABILITIES, path, CLASSES),
    "reliability": lambda path: plots.reliability_diagram(TARGETS, PROBABILITIES, path),
    "reliability_one": lambda path: plots.reliability_diagram(TARGETS == 1, PROBABILITIES[:, 1], path, bins=5),
    "grid": lambda path: plots.image_grid(IMAGES[:11], path, [f"number {i}" for i in range(11)], columns=4),
    "grid_one": lambda path: plots.image_grid(IMAGES[:1, ..., 0], path),
    "losses": lambda path: plots.top_losses(IMAGES, TARGETS, PROBABILITIES, path, CLASSES),
    "confused": lambda path: plots.most_confused(IMAGES, TARGETS, GUESSES, path, CLASSES),
    "filters": lambda path: plots.filters(GENERATOR.normal(size=(10, 3, 5, 5)), path),
    "filters_grey": lambda path: plots.filters(engine.randn(4, 2, 3, 3), path),
    "maps": lambda path: plots.feature_maps(GENERATOR.normal(size=(80, 6, 6)), path),
    "maps_zero": lambda path: plots.feature_maps(np.zeros((2, 6, 6)), path),
    "heat": lambda path: plots.heat_maps(IMAGES[:4], GENERATOR.random((4, 9, 7)), path, list("abcd")),
}


@pytest.mark.parametrize("name", DRAWN)
def test_plots_are_written(name: str, tmp_path) -> None:
    image = pytest.importorskip("PIL.Image")
    DRAWN[name](tmp_path / "plot.png")
    with image.open(BytesIO((tmp_path / "plot.png").read_bytes())) as picture:
        picture.load()
        assert min(picture.size) >= 60
        low, high = picture.convert("L").getextrema()
        assert low < 200 < high, "nothing was drawn"


def test_the_ending_chooses_the_format(tmp_path) -> None:
    DRAWN["roc_all"](tmp_path / "plot.svg")
    DRAWN["reliability"](tmp_path / "plot.pdf")
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()
    assert (tmp_path / "plot.pdf").read_bytes().startswith(b"%PDF")


def test_the_worst_come_first(tmp_path) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    worst = plots.top_losses(IMAGES[:3], [1, 1, 0], probabilities, tmp_path / "a.png", count=2)
    assert worst.tolist() == [0, 2]
    rows = plots.most_confused(IMAGES[:4], [0, 0, 1, 1], [1, 1, 0, 1], tmp_path / "b.png")
    assert rows == [(0, 1, 2), (1, 0, 1)]


@pytest.mark.parametrize(
    "images",
    [
        IMAGES[:2],
        IMAGES[:2, ..., :1],
        IMAGES[:2, ..., 0],
        IMAGES[:2].transpose(0, 3, 1, 2),
        IMAGES[:2].transpose(0, 3, 1, 2).astype(np.float32) / 255,
        engine.tensor(IMAGES[:2].transpose(0, 3, 1, 2).astype(np.float32) / 255),
    ],
)
def test_images_of_every_layout_are_understood(images) -> None:
    pictures = plots._pictures("image_grid", images)
    assert pictures.shape == (2, 9, 7, 3)
    want = IMAGES[:2] / np.float32(255)
    if np.asarray(images).size < want.size:
        want = np.repeat(want[..., :1], 3, axis=3)
    np.testing.assert_allclose(pictures, want, atol=1e-6)


def test_normalised_images_are_spread_over_their_range() -> None:
    pictures = plots._pictures("image_grid", np.stack([np.full((3, 4, 4), -2.0), IMAGES[0, :4, :4].transpose(2, 0, 1)]))
    assert pictures[0].max() == 0
    assert (pictures[1].min(), pictures[1].max()) == (0, 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda path: plots.roc_curves([0, 1], [0.1], path), r"\(N,\)"),
        (lambda path: plots.roc_curves([1, 1], [0.1, 0.2], path), "found none"),
        (lambda path: plots.roc_curves(TARGETS, PROBABILITIES, path, ("one",)), "3 names"),
        (lambda path: plots.precision_recall_curves([0, 0], [0.1, 0.2], path), "found none"),
        (lambda path: plots.reliability_diagram([], np.zeros((0, 2)), path), "at least one sample"),
        (lambda path: plots.reliability_diagram([0], [1.5], path), r"\[0, 1\]"),
        (lambda path: plots.image_grid(np.zeros((0, 4, 4)), path), "got 0"),
        (lambda path: plots.image_grid(np.zeros((2, 4, 4)), path, ["one"]), "2 and 1"),
        (lambda path: plots.image_grid(np.zeros((2, 4, 4, 5)), path), "1 or 3"),
        (lambda path: plots.top_losses(IMAGES[:2], TARGETS, PROBABILITIES, path), "one image per target"),
        (lambda path: plots.top_losses(IMAGES, TARGETS, PROBABILITIES[:, 0], path), r"\(N, C\)"),
        (lambda path: plots.most_confused(IMAGES, TARGETS, TARGETS, path), "wrong prediction"),
        (lambda path: plots.most_confused(IMAGES[:1], TARGETS, GUESSES, path), "one image per target"),
        (lambda path: plots.filters(np.zeros((2, 2)), path), "kh, kw"),
        (lambda path: plots.feature_maps(np.zeros((1, 2, 3, 3)), path), "one image"),
        (lambda path: plots.heat_maps(IMAGES[:2], np.zeros((2, 3, 3)), path), "a map for each"),
        (lambda path: plots.heat_maps(IMAGES[:2], np.zeros((2, 9, 7)), path, ["a"]), "2 titles"),
    ],
)
def test_wrong_arguments_say_what_was_expected(call, words: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=words):
        call(tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["roc_all", "reliability", "grid", "confused", "heat"])
def test_without_matplotlib_the_extra_is_named(name: str, tmp_path, monkeypatch) -> None:
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"engine\[train\]"):
        DRAWN[name](tmp_path / "plot.png")
