"""Every Winograd form in every direction: against float64, on all instruction sets, for any number of threads.

``python tests/test_winograd.py`` prints the table of errors of csrc/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from op_cases import FORMS

from engine import backend as B

# Largest error of a result as a share of the largest result, for normally distributed operands: output, gradient of
# the input, gradient of the weight. What csrc/README.md documents.
BOUNDS = {
    "direct": (2.5e-6, 1.5e-6, 1.5e-6),
    "winograd": (5e-6, 4e-6, 6e-6),
    "winograd_2x2": (1.5e-6, 1.5e-6, 2e-6),
    "winograd_5x5": (4e-6, 4e-6, 1e-5),
    "winograd_1x3": (2e-6, 2e-6, 2.5e-6),
    "winograd_3x1": (2e-6, 2e-6, 2.5e-6),
    "winograd_1x7": (1e-5, 1e-5, 1e-5),
    "winograd_7x1": (1e-5, 1e-5, 1e-5),
}
SHAPE, OUTPUTS = (2, 256, 15, 18), 40  # of the documented errors


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    isa, threads = B.isa(), B.num_threads()
    yield
    B.set_algorithm("conv2d", "")
    B.set_num_threads(threads)
    B.set_isa(isa)


def array(values: np.ndarray) -> B.Array:
    return B.copy(B.contiguous(B.from_numpy(values.astype(np.float32))))


def taps_of(name: str) -> tuple[int, int]:
    return (3, 3) if name == "direct" else (FORMS[name][0][1], FORMS[name][1][1])


class Problem:
    """Operands of a stride-1 convolution; padding is (top, bottom, left, right)."""

    def __init__(self, name: str, shape: tuple[int, ...], outputs: int, padding: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self.name, self.padding = name, padding
        self.x = rng.standard_normal(shape).astype(np.float32)
        self.w = rng.standard_normal((outputs, shape[1], *taps_of(name))).astype(np.float32)
        out = [
            size + low + high - r + 1
            for size, low, high, r in zip(shape[2:], padding[::2], padding[1::2], taps_of(name), strict=True)
        ]
        self.dy = rng.standard_normal((shape[0], outputs, *out)).astype(np.float32)

    def results(self, algorithm: str, isa: str, threads: int) -> list[np.ndarray]:
        """Output, gradient of the input, gradient of the weight, gradient of the bias."""
        B.set_isa(isa)
        B.set_num_threads(threads)
        B.set_algorithm("conv2d", algorithm)
        x, w, dy = array(self.x), array(self.w), array(self.dy)
        geometry = ((1, 1), self.padding, (1, 1), 1)
        y = B.conv2d(x, w, None, *geometry)
        dx = B.conv2d_backward_data(dy, w, self.x.shape, *geometry)
        dw, db = B.conv2d_backward_weight(dy, x, self.w.shape, *geometry, True)
        return [np.array(B.to_numpy(a)) for a in (y, dx, dw, db)]

    def exact(self) -> list[np.ndarray]:
        x, w, dy = (a.astype(np.float64) for a in (self.x, self.w, self.dy))
        top, bottom, left, right = self.padding
        padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, w.shape[2:], axis=(2, 3))
        y = np.einsum("nchwij,ocij->nohw", windows, w, optimize=True)
        dw = np.einsum("nchwij,nohw->ocij", windows, dy, optimize=True)
        wide = np.zeros_like(padded)
        for i in range(w.shape[2]):
            for j in range(w.shape[3]):
                wide[:, :, i : i + dy.shape[2], j : j + dy.shape[3]] += np.einsum("nohw,oc->nchw", dy, w[:, :, i, j])
        dx = wide[:, :, top : top + x.shape[2], left : left + x.shape[3]]
        return [y, dx, dw, dy.sum((0, 2, 3))]


def errors(results: list[np.ndarray], exact: list[np.ndarray]) -> list[float]:
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(results, exact, strict=True)]


def documented(name: str) -> Problem:
    kh, kw = taps_of(name)
    return Problem(name, SHAPE, OUTPUTS, (kh // 2, kh // 2, kw // 2, kw // 2))


@pytest.mark.parametrize("name", BOUNDS)
def test_errors_stay_below_the_documented_ones(name: str) -> None:
    problem = documented(name)
    exact = problem.exact()
    for isa in B.available_isas():
        found = errors(problem.results(name, isa, 2), exact)[:3]
        assert all(error <= bound for error, bound in zip(found, BOUNDS[name], strict=True)), (isa, found)


@pytest.mark.parametrize("name", FORMS)
def test_odd_shapes_paddings_and_threads(name: str) -> None:
    kh, kw = taps_of(name)
    shapes = [((1, 16, 7, 9), 17), ((3, 33, 10, 13), 20), ((1, 70, 21, 8), 40), ((1, 200, 8, 7), 300)]
    for pad, (shape, outputs) in enumerate(shapes * 2):
        if pad >= max(kh, kw):
            break
        ph, pw = min(pad, kh - 1), min(pad, kw - 1)
        problem = Problem(name, shape, outputs, (ph, max(0, ph - 1), pw, max(0, pw - 1)))
        exact = problem.exact()
        for isa in B.available_isas():
            one, two, three = (problem.results(name, isa, threads) for threads in (1, 2, 3))
            assert [a.tobytes() for a in one] == [a.tobytes() for a in two] == [a.tobytes() for a in three]
            assert max(errors(one, exact)[:3]) <= 2e-5, (isa, shape, problem.padding)
            assert errors(one, exact)[3] <= 2e-6


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_reaches_only_the_pixels_of_the_definition(name: str, bad: float) -> None:
    problem = Problem(name, (1, 16, 9, 10), 16, (0, 0, 0, 0))
    problem.x[0, 3, 4, 5] = bad
    problem.dy[0, 2, 1, 1] = bad
    for isa in B.available_isas():
        direct, winograd = problem.results("direct", isa, 2), problem.results(name, isa, 2)
        assert not np.isfinite(direct[0]).all() and np.isfinite(direct[0]).any()
        for a, b in zip(direct, winograd, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_choice_follows_the_estimates() -> None:
    """Large maps take the large tiles, small maps the small ones, and what Winograd cannot gain on is direct."""

    def taken(n: int, channels: int, size: int, kernel: tuple[int, int], direction: str = "forward") -> str:
        padding = (kernel[0] // 2,) * 2 + (kernel[1] // 2,) * 2
        shapes = (n, channels, size, size), (channels, channels, *kernel)
        (name, reason), *_ = B.conv2d_algorithms(*shapes, (1, 1), padding, (1, 1), 1, direction)
        assert reason == ""
        return name

    # Where there are matrix tiles, they compete too.
    B.set_isa([isa for isa in B.available_isas() if isa != "amx"][-1])
    for direction in ("forward", "backward_data", "backward_weight"):
        assert taken(16, 128, 28, (3, 3), direction) == "winograd"
        assert taken(16, 192, 17, (1, 7), direction) == "winograd_1x7"
        assert taken(16, 192, 17, (7, 1), direction) == "winograd_7x1"
        assert taken(16, 384, 8, (1, 3), direction) == "winograd_1x3"
        assert taken(16, 64, 28, (5, 5), direction) == "winograd_5x5"
        assert taken(16, 64, 28, (1, 1), direction) == ("im2col" if direction == "backward_weight" else "direct")
    assert taken(1, 512, 7, (3, 3), "backward_weight") == "im2col"
    assert taken(1, 512, 7, (3, 3)) == "winograd_2x2"
    assert taken(1, 512, 2, (3, 3)) == "direct"


if __name__ == "__main__":
    for name in BOUNDS:
        problem = documented(name)
        exact = problem.exact()
        worst = np.max([errors(problem.results(name, isa, 2), exact)[:3] for isa in B.available_isas()], axis=0)
        print(f"| {name} | " + " | ".join(f"{error:.1e}" for error in worst) + " |")
