"""The HTML report: what is on it, that it needs nothing else, and that a browser shows it."""

from __future__ import annotations

import re
import struct
import zlib
from html.parser import HTMLParser
from pathlib import Path

import browser
import numpy as np
import pytest

from engine.report import charts, write_report

GENERATOR = np.random.default_rng(0)
COUNT, CLASSES = 200, ("ant", "bee & <wasp>", "cat", "a dog with a very long name indeed")
TARGETS = GENERATOR.integers(0, 4, COUNT)
PROBABILITIES = GENERATOR.dirichlet(np.ones(4), COUNT) * 0.6 + 0.4 * np.eye(4)[TARGETS]
IMAGES = GENERATOR.integers(0, 256, (COUNT, 12, 9, 3), np.uint8)
HISTORY = [
    {"epoch": e, "lr": 0.1 * 0.5**e, "train_loss": 2 / e, "train_accuracy": 1 - 0.5 / e, "val_loss": 2.1 / e}
    for e in range(1, 9)
]
SECTIONS = [
    "Results",
    "Training",
    "Confusion matrix",
    "Classes",
    "Curves",
    "Worst mistakes",
    "Most confused",
    "First filters",
    "Configuration",
    "Environment",
]


def full(path: Path, **changes) -> Path:
    options = {
        "title": "A run <of> it",
        "history": HISTORY,
        "targets": TARGETS,
        "probabilities": PROBABILITIES,
        "classes": CLASSES,
        "images": IMAGES,
        "explain": lambda which: GENERATOR.random((len(which), 4, 3)),
        "filters": GENERATOR.normal(size=(8, 3, 5, 5)),
        "numbers": {"seconds": 1.5},
        "configuration": {"lr": 0.1, "path": '/data/"><script>alert(1)</script>', "scale": (0.08, 1.0), "none": None},
        "environment": {"python": "3.11"},
        "best_epoch": 7,
        "notes": ["A note & more."],
    }
    write_report(path, **{**options, **changes})
    return path


class Outline(HTMLParser):
    """Tags that stand open, headings, addresses."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.headings: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "poster")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes) -> None:
        self.tags.append(tag)

    def handle_data(self, data) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def outline(path: Path) -> Outline:
    parser = Outline()
    parser.feed(path.read_text(encoding="utf-8"))
    assert not parser.open
    return parser


def test_the_page_is_whole_and_loads_nothing(tmp_path) -> None:
    found = outline(full(tmp_path / "report.html"))
    assert found.headings == ["A run <of> it", *SECTIONS]
    assert all(address.startswith(("data:", "#")) for address in found.addresses)
    assert sum(address.startswith("data:image/png") for address in found.addresses) > 40
    assert "script" not in found.tags
    text = (tmp_path / "report.html").read_text()
    assert "url(" not in text and "@import" not in text
    assert "bee &amp; &lt;wasp&gt;" in text


def test_the_numbers_are_those_of_the_metrics(tmp_path) -> None:
    from engine import metrics

    text = full(tmp_path / "report.html").read_text()
    guesses = PROBABILITIES.argmax(1)
    assert f"{100 * np.mean(guesses == TARGETS):.2f} %" in text
    scores = metrics.precision_recall_f1(TARGETS, guesses, None)
    for name, values in (("precision", scores.precision), ("recall", scores.recall), ("f1", scores.f1)):
        for value in values:
            assert f">{value:.4f}</td>" in text, name
    counts = metrics.confusion_matrix(TARGETS, guesses, range(4))
    cells = re.findall(r'title="[^"]* as [^"]*: (\d+) \(', text)
    assert [int(cell) for cell in cells] == counts.ravel().tolist()
    worst = np.argsort(-metrics.sample_losses(TARGETS, PROBABILITIES), kind="stable")
    worst = worst[guesses[worst] != TARGETS[worst]][:24]
    assert [int(i) for i in re.findall(r"image (\d+), loss", text)] == worst.tolist()


def test_what_is_not_given_is_left_out(tmp_path) -> None:
    write_report(tmp_path / "a.html", title="Nothing")
    assert outline(tmp_path / "a.html").headings == ["Nothing"]
    found = outline(full(tmp_path / "b.html", images=None, filters=None, history=(), environment=None))
    assert found.headings[1:] == ["Results", "Confusion matrix", "Classes", "Curves", "Most confused", "Configuration"]
    perfect = full(tmp_path / "c.html", probabilities=np.eye(4)[TARGETS])
    assert "No mistake in the test." in perfect.read_text()
    many = 60
    targets = GENERATOR.integers(0, many, 300)
    full(
        tmp_path / "d.html",
        targets=targets,
        probabilities=GENERATOR.dirichlet(np.ones(many), 300),
        images=None,
        classes=None,
    )
    assert 'alt="confusion matrix"' in (tmp_path / "d.html").read_text()


def test_pictures_of_any_size_and_two_classes(tmp_path) -> None:
    images = [np.zeros((600 + i, 40 + i), np.uint8) for i in range(50)]
    targets = np.arange(50) % 2
    wrong = np.eye(2)[1 - targets] * 0.8 + 0.1
    options = {"targets": targets, "probabilities": wrong, "classes": ("a", "b"), "explain": None, "images": images}
    page = full(tmp_path / "report.html", **options)
    assert len(page.read_bytes()) < 300_000
    heights = [int(value) for value in re.findall(r'height="(\d+)" alt="image', page.read_text())]
    assert heights and max(heights) <= 320


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": None}, "targets"),
        ({"targets": TARGETS[:-1]}, "shapes"),
        ({"probabilities": PROBABILITIES[:, 0]}, r"\(N, C\)"),
        ({"classes": ("a",)}, "4 names"),
        ({"images": IMAGES[:3]}, "200 images, got 3"),
        ({"filters": np.zeros((2, 2))}, "kh, kw"),
    ],
)
def test_what_does_not_fit_is_refused(changes, words: str, tmp_path) -> None:
    with pytest.raises(ValueError, match=words):
        full(tmp_path / "report.html", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 2, 1), (4, 9, 3)])
def test_png_files_hold_the_image(shape: tuple[int, ...], tmp_path) -> None:
    image = GENERATOR.integers(0, 256, shape, np.uint8)
    data = charts.png(image)
    position, bodies = 8, {}
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        body = data[position + 8 : position + 8 + length]
        assert struct.unpack(">I", data[position + 8 + length : position + 12 + length])[0] == zlib.crc32(kind + body)
        bodies[kind] = body
        position += 12 + length
    assert struct.unpack(">II", bodies[b"IHDR"][:8]) == (shape[1], shape[0])
    rows = np.frombuffer(zlib.decompress(bodies[b"IDAT"]), np.uint8).reshape(shape[0], -1)
    np.testing.assert_array_equal(rows[:, 1:], image.reshape(shape[0], -1))
    PIL = pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_bytes(data)
    with PIL.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read).reshape(shape), image)


def test_png_takes_nothing_else() -> None:
    for wrong in (np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros((0, 2), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            charts.png(wrong)


def test_lines_keep_to_their_frame_and_leave_out_what_is_not_finite() -> None:
    x = np.arange(1000.0)
    text = charts.lines([charts.Line("a", x, np.where(x % 7 == 0, np.nan, x))], "x", "y")
    points = re.search(r'points="([^"]*)"', text)[1].split()
    assert 100 < len(points) <= 400
    places = np.array([point.split(",") for point in points], float)
    assert places.min() >= 0 and places[:, 0].max() <= 480 and places[:, 1].max() <= 310
    assert (np.diff(places[:, 0]) > 0).all() and (np.diff(places[:, 1]) < 0).all()
    assert "no finite value" in charts.lines([charts.Line("a", x[:1], np.array([np.nan]))], "x", "y")


needs_browser = pytest.mark.skipif(browser.BROWSER is None, reason="no chromium here")


@needs_browser
def test_a_browser_shows_it_without_a_complaint(tmp_path) -> None:
    page = full(tmp_path / "report.html")
    for width in (1200, 500):
        found = browser.examine(page, width)
        assert found["wrong"] == [] and found["console"] == [] and found["fetched"] == []
        assert found["sections"] == SECTIONS and found["dead"] == 0 and found["scripts"] == 0
        assert len(found["images"]) > 40 and min(min(sizes) for sizes in found["images"]) > 0
        assert len(found["charts"]) == 7 and min(min(sizes) for sizes in found["charts"]) > 100
        assert found["scrolls"] <= found["width"], "the page is wider than the window"


@needs_browser
def test_light_and_dark_can_both_be_read(tmp_path) -> None:
    pytest.importorskip("PIL.Image")
    page = full(tmp_path / "report.html")
    light, dark = (browser.photograph(page, dark).astype(float).mean(axis=2) for dark in (False, True))
    assert np.median(light) > 230 and light[:120].min() < 70, "dark text on light"
    assert np.median(dark) < 45 and dark[:120].max() > 200, "light text on dark"


@needs_browser
def test_the_browser_would_find_what_is_wrong(tmp_path) -> None:
    page = tmp_path / "bad.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:">'
    images = '<img src="data:image/png;base64,AAAA"><img src="http://127.0.0.1:9/a.png">'
    page.write_text(f'<html><head>{policy}</head><body>{images}<nav><a href="#none">x</a></nav></body></html>')
    found = browser.examine(page)
    assert any(text.startswith("fetch: http://127.0.0.1:9/a.png") for text in found["wrong"])
    assert any(text.startswith("error: data:") for text in found["wrong"])
    assert found["images"][0][:2] == [0, 0] and found["console"] and found["dead"] == 1
