"""The choice among convolution algorithms: the user's switch, and choices measured once and remembered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from execution import output_of

import engine
from engine import backend as B

# A problem that Winograd takes by default: x, w, stride, padding, dilation, groups.
SHAPES = (4, 32, 24, 24), (32, 32, 3, 3)
GEOMETRY = (1, 1), (1, 1, 1, 1), (1, 1), 1


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    yield
    engine.set_conv_algorithm("auto")
    B.set_autotune(False)
    B.set_tuned_choices({})
    B.set_algorithm("conv2d", "")
    B.set_split_products(None)


def operands() -> tuple[B.Array, B.Array, B.Array]:
    rng = np.random.default_rng(0)
    shapes = (*SHAPES, (SHAPES[0][0], SHAPES[1][0], *SHAPES[0][2:]))
    x, w, dy = (B.copy(B.from_numpy(rng.standard_normal(shape).astype(np.float32))) for shape in shapes)
    return x, w, dy


def results() -> dict[str, np.ndarray]:
    """Every direction of the problem."""
    x, w, dy = operands()
    return {
        "conv2d": B.to_numpy(B.conv2d(x, w, None, *GEOMETRY)),
        "conv2d_backward_data": B.to_numpy(B.conv2d_backward_data(dy, w, SHAPES[0], *GEOMETRY)),
        "conv2d_backward_weight": B.to_numpy(B.conv2d_backward_weight(dy, x, SHAPES[1], *GEOMETRY, False)[0]),
    }


def forced(name: str) -> dict[str, np.ndarray]:
    B.set_algorithm("conv2d", name)
    try:
        return results()
    finally:
        B.set_algorithm("conv2d", "")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    """The directions whose bits agree."""
    return {name for name in a if a[name].tobytes() == b[name].tobytes()}


EVERY = {"conv2d", "conv2d_backward_data", "conv2d_backward_weight"}


def test_direct_forbids_winograd_in_every_direction_and_auto_allows_it() -> None:
    B.set_split_products(False)  # where there are matrix tiles, direct may mean these
    winograd, direct = forced("winograd"), forced("direct")
    assert not same(winograd, direct), "the problem does not tell the algorithms apart"
    engine.set_conv_algorithm("direct")
    assert engine.get_conv_algorithm() == "direct"
    assert same(results(), direct) == EVERY
    for name in ("auto", ""):
        engine.set_conv_algorithm(name)
        assert engine.get_conv_algorithm() == "auto"
        assert same(results(), winograd)


def test_direct_on_matrix_tiles_is_a_plain_sum() -> None:
    x, w, _ = operands()
    B.set_split_products(True)
    B.set_algorithm("conv2d", "split")
    split = B.to_numpy(B.conv2d(x, w, None, *GEOMETRY)).tobytes()
    B.set_algorithm("conv2d", "")
    engine.set_conv_algorithm("direct")
    assert B.to_numpy(B.conv2d(x, w, None, *GEOMETRY)).tobytes() == split


def test_direct_keeps_the_algorithms_that_are_plain_sums() -> None:
    shapes = (2, 8, 9, 9), (8, 1, 3, 3)
    assert dict(B.conv2d_algorithms(*shapes, *GEOMETRY[:3], 8))["depthwise"] == ""
    x, w = (B.copy(B.from_numpy(np.random.default_rng(1).standard_normal(s).astype(np.float32))) for s in shapes)
    by_default = B.to_numpy(B.conv2d(x, w, None, *GEOMETRY[:3], 8)).tobytes()
    engine.set_conv_algorithm("direct")
    assert B.to_numpy(B.conv2d(x, w, None, *GEOMETRY[:3], 8)).tobytes() == by_default


def exact_forward() -> np.ndarray:
    x, w, _ = (B.to_numpy(a).astype(np.float64) for a in operands())
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w)


@pytest.mark.parametrize(("name", "limit"), [("direct", 3.3e-6), ("auto", 5e-6)])
def test_errors_stay_below_the_documented_ones(name: str, limit: float) -> None:
    engine.set_conv_algorithm(name)
    exact = exact_forward()
    assert np.abs(results()["conv2d"] - exact).max() <= limit * np.abs(exact).max()


@pytest.mark.parametrize("name", ["winograd", "fast", "Direct"])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=rf"\[set_conv_algorithm\] expected 'auto' or 'direct'.*got '{name}'"):
        engine.set_conv_algorithm(name)
    assert engine.get_conv_algorithm() == "auto"


def test_the_environment_decides_at_the_start() -> None:
    ask = "import engine; print(engine.get_conv_algorithm())"
    assert output_of(ask) == "auto"
    assert output_of(ask, ENGINE_CONV_ALGORITHM="direct") == "direct"
    wrong = "import engine\ntry:\n    engine.get_conv_algorithm()\nexcept ValueError as error:\n    print(error)"
    assert "ENGINE_CONV_ALGORITHM" in output_of(wrong, ENGINE_CONV_ALGORITHM="quick")


def test_a_problem_is_measured_once_and_the_choice_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    before = B.tuned_problems()
    with engine.autotune(path) as tuner:
        first = results()
        assert B.tuned_problems() == before + 3
        assert same(results(), first) == EVERY, "one choice, other bits"
        assert B.tuned_problems() == before + 3, "measured again"
        chosen = tuner.choices()
    assert len(chosen) == 3
    written = json.loads(path.read_text())
    assert written == {"version": 1, "choices": {B.cpu_model(): chosen}}
    B.set_tuned_choices({})
    with engine.autotune(path) as tuner:
        assert tuner.choices() == chosen
        assert same(results(), first) == EVERY
        assert B.tuned_problems() == before + 3, "the file was not believed"


@pytest.mark.parametrize("name", ["direct", "winograd", "reference"])
def test_a_remembered_choice_is_obeyed_whatever_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    with engine.autotune(path):
        results()
    data = json.loads(path.read_text())
    data["choices"] = {cpu: dict.fromkeys(known, name) for cpu, known in data["choices"].items()}
    path.write_text(json.dumps(data))
    expected = forced(name)
    with engine.autotune(path):
        assert same(results(), expected) == EVERY


def test_a_choice_that_may_not_be_taken_is_passed_over(tmp_path: Path) -> None:
    """An older file may name an algorithm that declines today, or that is gone."""
    path = tmp_path / "choices.json"
    by_default = results()
    with engine.autotune(path):
        results()
    for name in ("depthwise", "gone"):
        data = json.loads(path.read_text())
        data["choices"] = {cpu: dict.fromkeys(known, name) for cpu, known in data["choices"].items()}
        path.write_text(json.dumps(data))
        with engine.autotune(path):
            assert same(results(), by_default) == EVERY


def test_choices_depend_on_threads_instruction_set_and_policy(tmp_path: Path) -> None:
    before = B.tuned_problems()
    threads, isa = B.num_threads(), B.isa()
    with engine.autotune(tmp_path / "choices.json"):
        results()
        B.set_num_threads(threads + 1)
        results()
        B.set_num_threads(threads)
        if isa != "generic":
            B.set_isa("generic")
            results()
            B.set_isa(isa)
        direct = forced("direct")
        engine.set_conv_algorithm("direct")
        assert not same(results(), forced("winograd"))
        assert direct
        results()
        engine.set_conv_algorithm("auto")
        results()
    assert B.tuned_problems() == before + (12 if isa != "generic" else 9)


def test_choices_of_another_processor_are_kept_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    other = {"Another 6000": {"conv2d n1": "direct"}}
    path.write_text(json.dumps({"version": 1, "choices": other}))
    with engine.autotune(path) as tuner:
        assert tuner.choices() == {}
        results()
    written = json.loads(path.read_text())["choices"]
    assert written["Another 6000"] == other["Another 6000"]
    assert len(written[B.cpu_model()]) == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '{"version": 99, "choices": {}}', '{"version": 1, "choices": {"x": 3}}', "\x00\xff"]
)
def test_a_damaged_file_is_replaced_with_a_warning(text: str, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(text, encoding="latin-1")
    with pytest.warns(UserWarning, match=r"\[autotune\] expected .*choices\.json.*measured anew"):
        tuner = engine.autotune(path)
    results()
    with pytest.warns(UserWarning, match=r"\[autotune\]"):
        tuner.stop()
    assert len(json.loads(path.read_text())["choices"][B.cpu_model()]) == 3


def test_saving_keeps_what_another_process_added(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    with engine.autotune(path):
        results()
        path.write_text(json.dumps({"version": 1, "choices": {B.cpu_model(): {"conv2d elsewhere": "direct"}}}))
    written = json.loads(path.read_text())["choices"][B.cpu_model()]
    assert len(written) == 4 and written["conv2d elsewhere"] == "direct"


def test_the_environment_tunes_a_program_that_knows_nothing_of_it(tmp_path: Path) -> None:
    script = """
    import engine
    from engine import backend as B
    engine.nn.Conv2d(16, 16, 3, padding=1)(engine.ones(4, 16, 16, 16))
    print(B.tuned_problems())
    """
    path = tmp_path / "choices.json"
    assert output_of(script, ENGINE_AUTOTUNE=str(path)) == "1"
    assert output_of(script, ENGINE_AUTOTUNE=str(path)) == "0"
    assert output_of(script) == "0"
