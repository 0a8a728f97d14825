"""What bad input gets: a Python exception of the right type that names the op, what came, what was expected and what to
do; never a crash, never a wrong number. Bad layouts are not errors: they give correct results."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from execution import output_of

import engine
from engine import backend as B, functional as F

HUGE = 2**40


def t(*shape: int, requires_grad: bool = False) -> Any:
    return engine.ones(*shape, requires_grad=requires_grad)


def labels(*values: int) -> Any:
    return engine.tensor(list(values))


# (what is wrong, the call, exception, what the message must mention besides the op, "expected" and "got")
Kind = type[Exception] | tuple[type[Exception], ...]
Row = tuple[str, Callable[[], Any], Kind, tuple[str, ...]]

SHAPES: list[Row] = [
    ("conv2d rank 2", lambda: F.conv2d(t(8, 8), t(4, 3, 3, 3)), ValueError, ("(8, 8)",)),
    ("conv2d rank 5", lambda: F.conv2d(t(1, 1, 3, 8, 8), t(4, 3, 3, 3)), ValueError, ("(1, 1, 3, 8, 8)",)),
    ("conv2d weight rank", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 27)), ValueError, ("(4, 27)",)),
    ("conv2d without channels", lambda: F.conv2d(t(1, 0, 8, 8), t(4, 0, 3, 3)), ValueError, ("(4, 0, 3, 3)",)),
    (
        "conv2d channels",
        lambda: F.conv2d(t(8, 32, 56, 56), t(16, 64, 3, 3)),
        ValueError,
        ("64", "(8, 32, 56, 56)", "in_channels=32"),
    ),
    ("conv2d bias", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), t(5)), ValueError, ("(4,)", "(5,)")),
    ("conv2d bias rank", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), t(1, 4)), ValueError, ("(4,)", "(1, 4)")),
    ("conv2d kernel too large", lambda: F.conv2d(t(1, 3, 4, 8), t(4, 3, 5, 5)), ValueError, ("5", "4", "padding")),
    (
        "conv2d dilated kernel too large",
        lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), dilation=5),
        ValueError,
        ("11", "8"),
    ),
    ("conv2d stride 0", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), stride=0), ValueError, ("stride", "0")),
    ("conv2d stride -1", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), stride=(1, -1)), ValueError, ("stride", "-1")),
    (
        "conv2d stride of three",
        lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), stride=(1, 1, 1)),
        ValueError,
        ("stride",),
    ),
    ("conv2d padding -1", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), padding=-1), ValueError, ("padding", "-1")),
    (
        "conv2d padding name",
        lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), padding="full"),
        ValueError,
        ("same", "valid", "full"),
    ),
    (
        "conv2d same with stride",
        lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), padding="same", stride=2),
        ValueError,
        ("same", "stride"),
    ),
    ("conv2d dilation 0", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), dilation=0), ValueError, ("dilation", "0")),
    ("conv2d groups 0", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 3, 3, 3), groups=0), ValueError, ("groups", "0")),
    ("conv2d groups divide input", lambda: F.conv2d(t(1, 3, 8, 8), t(4, 1, 3, 3), groups=2), ValueError, ("groups=2",)),
    (
        "conv2d groups divide output",
        lambda: F.conv2d(t(1, 4, 8, 8), t(3, 2, 3, 3), groups=2),
        ValueError,
        ("groups=2",),
    ),
    ("conv2d no outputs", lambda: F.conv2d(t(1, 3, 8, 8), t(0, 3, 3, 3)), ValueError, ("(0, 3, 3, 3)",)),
    (
        "conv_transpose2d channels",
        lambda: F.conv_transpose2d(t(1, 3, 8, 8), t(4, 3, 3, 3)),
        ValueError,
        ("(1, 3, 8, 8)", "4"),
    ),
    (
        "conv_transpose2d output_padding",
        lambda: F.conv_transpose2d(t(1, 3, 8, 8), t(3, 4, 3, 3), stride=2, output_padding=2),
        ValueError,
        ("output_padding", "2"),
    ),
    ("conv_transpose2d rank", lambda: F.conv_transpose2d(t(8, 8), t(3, 4, 3, 3)), ValueError, ("(8, 8)",)),
    (
        "conv_transpose2d empty output",
        lambda: F.conv_transpose2d(t(1, 3, 1, 1), t(3, 4, 3, 3), padding=2),
        ValueError,
        ("padding",),
    ),
    ("linear features", lambda: F.linear(t(4, 10), t(5, 12)), ValueError, ("12", "(4, 10)")),
    ("linear bias", lambda: F.linear(t(4, 12), t(5, 12), t(6)), ValueError, ("(5,)", "(6,)")),
    ("matmul sizes", lambda: t(2, 3) @ t(4, 5), ValueError, ("(2, 3)", "(4, 5)")),
    ("matmul batches", lambda: t(2, 2, 3) @ t(3, 3, 4), ValueError, ("(2, 2, 3)", "(3, 3, 4)")),
    ("max_pool2d rank", lambda: F.max_pool2d(t(3, 8), 2), ValueError, ("(3, 8)",)),
    ("max_pool2d window", lambda: F.max_pool2d(t(1, 3, 4, 4), 5), ValueError, ("5", "4")),
    ("max_pool2d padding", lambda: F.max_pool2d(t(1, 3, 8, 8), 3, padding=2), ValueError, ("padding", "2", "3")),
    ("max_pool2d stride 0", lambda: F.max_pool2d(t(1, 3, 8, 8), 2, stride=0), ValueError, ("stride", "0")),
    ("max_pool2d kernel 0", lambda: F.max_pool2d(t(1, 3, 8, 8), 0), ValueError, ("kernel", "0")),
    ("avg_pool2d window", lambda: F.avg_pool2d(t(1, 3, 4, 4), 5), ValueError, ("5", "4")),
    ("avg_pool2d divisor", lambda: F.avg_pool2d(t(1, 3, 4, 4), 2, divisor_override=0), ValueError, ("divisor",)),
    ("avg_pool2d zero-size plane", lambda: F.avg_pool2d(t(1, 3, 0, 4), 2), ValueError, ("(1, 3, 0, 4)",)),
    ("adaptive_avg_pool2d size", lambda: F.adaptive_avg_pool2d(t(1, 3, 4, 4), (-1, 2)), ValueError, ("-1",)),
    ("adaptive_max_pool2d empty", lambda: F.adaptive_max_pool2d(t(1, 3, 0, 4), 2), ValueError, ("(1, 3, 0, 4)",)),
    ("batch_norm channels", lambda: F.batch_norm(t(2, 3, 4, 4), t(4), t(4)), ValueError, ("3", "4")),
    ("batch_norm weight", lambda: F.batch_norm(t(2, 3, 4, 4), t(3), t(3), t(5), t(5)), ValueError, ("3", "5")),
    (
        "batch_norm one value",
        lambda: F.batch_norm(t(1, 3, 1, 1), t(3), t(3), training=True),
        ValueError,
        ("(1, 3, 1, 1)",),
    ),
    ("batch_norm no statistics", lambda: F.batch_norm(t(2, 3, 4, 4), None, None), ValueError, ("running",)),
    ("layer_norm shape", lambda: F.layer_norm(t(2, 3, 4), (5,)), ValueError, ("(2, 3, 4)", "5")),
    ("group_norm groups", lambda: F.group_norm(t(2, 6, 4, 4), 4), ValueError, ("6", "4")),
    ("local_response_norm size", lambda: F.local_response_norm(t(1, 3, 4, 4), 0), ValueError, ("size", "0")),
    ("softmax dim", lambda: F.softmax(t(2, 3), 2), IndexError, ("2",)),
    ("prelu weights", lambda: F.prelu(t(2, 3, 4, 4), t(4)), ValueError, ("3", "4")),
    ("add shapes", lambda: t(2, 3) + t(2, 4), ValueError, ("(2, 3)", "(2, 4)")),
    ("cat shapes", lambda: engine.cat([t(2, 3), t(2, 4)], 0), ValueError, ("(2, 4)",)),
    ("cat of nothing", lambda: engine.cat([], 0), ValueError, ()),
    ("stack shapes", lambda: engine.stack([t(2, 3), t(2, 4)]), ValueError, ("(2, 3)", "(2, 4)")),
    ("split sizes", lambda: engine.split(t(5, 2), [2, 2], 0), ValueError, ("5",)),
    ("reshape size", lambda: t(2, 3).reshape(4, 2), ValueError, ("(4, 2)", "6")),
    ("permute axes", lambda: t(2, 3).permute(0, 0), ValueError, ("(0, 0)",)),
    ("expand", lambda: t(2, 3).expand(4, 3), ValueError, ("(2, 3)", "(4, 3)")),
    ("pad reflect too wide", lambda: F.pad(t(1, 1, 3, 3), (3, 0, 0, 0), mode="reflect"), ValueError, ("3",)),
    ("pad mode", lambda: F.pad(t(1, 1, 3, 3), (1, 1, 1, 1), mode="mirror"), ValueError, ("mirror", "reflect")),
    ("pad everything away", lambda: F.pad(t(1, 1, 3, 3), (-2, -2, 0, 0)), ValueError, ("-2",)),
    ("interpolate nothing", lambda: F.interpolate(t(1, 1, 4, 4)), ValueError, ("size", "scale_factor")),
    ("interpolate size 0", lambda: F.interpolate(t(1, 1, 4, 4), size=(0, 2)), ValueError, ("0",)),
    (
        "interpolate mode",
        lambda: F.interpolate(t(1, 1, 4, 4), size=2, mode="cubist"),
        ValueError,
        ("cubist", "bicubic"),
    ),
    (
        "interpolate antialias nearest",
        lambda: F.interpolate(t(1, 1, 4, 4), size=2, mode="nearest", antialias=True),
        ValueError,
        ("antialias",),
    ),
    ("sum axis", lambda: t(2, 3).sum(2), IndexError, ("2",)),
    ("amax of nothing", lambda: t(0, 3).amax(0), (ValueError, IndexError), ("(0, 3)",)),
    ("mse_loss shapes", lambda: F.mse_loss(t(2, 3), t(2, 4)), ValueError, ("(2, 3)", "(2, 4)")),
    ("reduction name", lambda: F.mse_loss(t(2, 3), t(2, 3), reduction="average"), ValueError, ("average", "mean")),
    ("dropout p", lambda: F.dropout(t(2, 3), 1.5), ValueError, ("1.5",)),
    ("gather index rank", lambda: engine.gather(t(2, 3), 1, labels(0, 1)), ValueError, ("(2,)",)),
]

VALUES: list[Row] = [
    ("label too large", lambda: F.cross_entropy(t(2, 3), labels(0, 3)), IndexError, ("3", "0")),
    ("label negative", lambda: F.cross_entropy(t(2, 3), labels(0, -1)), IndexError, ("-1",)),
    ("nll label", lambda: F.nll_loss(t(2, 3), labels(5, 1)), IndexError, ("5",)),
    ("labels count", lambda: F.cross_entropy(t(2, 3), labels(0, 1, 2)), ValueError, ("2", "3")),
    (
        "NaN labels",
        lambda: F.cross_entropy(t(2, 3), engine.tensor([0.0, float("nan")])),
        TypeError,
        ("float32", "int64"),
    ),
    ("float labels", lambda: F.cross_entropy(t(2, 3), engine.tensor([0.0, 1.0])), TypeError, ("float32", "int64")),
    ("class weights", lambda: F.cross_entropy(t(2, 3), labels(0, 1), weight=t(4)), ValueError, ("3", "4")),
    (
        "label smoothing",
        lambda: F.cross_entropy(t(2, 3), labels(0, 1), label_smoothing=1.5),
        ValueError,
        ("label_smoothing", "1.5"),
    ),
    ("index too large", lambda: t(2, 3)[2], IndexError, ("2",)),
    ("index too negative", lambda: t(2, 3)[0, -4], IndexError, ("-4",)),
    ("too many indices", lambda: t(2, 3)[0, 0, 0], IndexError, ("3", "2")),
    ("index_select", lambda: engine.index_select(t(2, 3), 1, labels(0, 3)), IndexError, ("3",)),
    ("gather", lambda: engine.gather(t(2, 3), 1, engine.tensor([[0], [-7]])), IndexError, ("-7",)),
    ("BCE beyond 1", lambda: F.binary_cross_entropy(engine.tensor([1.5]), engine.tensor([1.0])), ValueError, ()),
]

TYPES: list[Row] = [
    (
        "conv2d int input",
        lambda: F.conv2d(engine.ones(1, 3, 8, 8, dtype="int64"), t(4, 3, 3, 3)),
        TypeError,
        ("int64",),
    ),
    ("linear int weight", lambda: F.linear(t(2, 3), engine.ones(4, 3, dtype="int32")), TypeError, ("int32",)),
    ("conv2d of ndarray", lambda: F.conv2d(np.ones((1, 3, 8, 8)), t(4, 3, 3, 3)), TypeError, ("Tensor",)),
    ("conv2d of None", lambda: F.conv2d(None, t(4, 3, 3, 3)), TypeError, ()),
    (
        "grad of integers",
        lambda: engine.ones(2, dtype="int64", requires_grad=True),
        (TypeError, RuntimeError),
        ("int64",),
    ),
    ("float64 array", lambda: engine.from_numpy(np.ones(3)), TypeError, ("float64", "float32")),
    ("float16 array", lambda: engine.from_numpy(np.ones(3, np.float16)), TypeError, ("float16", "float32")),
    ("complex array", lambda: engine.from_numpy(np.ones(3, np.complex64)), TypeError, ("complex64",)),
    ("big-endian array", lambda: engine.from_numpy(np.ones(3, ">f4")), TypeError, (">f4", "byte order")),
    ("object array", lambda: engine.from_numpy(np.array([1, "a"], dtype=object)), TypeError, ("object",)),
    ("string array", lambda: engine.from_numpy(np.array(["a"])), TypeError, ("<U1",)),
    ("datetime array", lambda: engine.from_numpy(np.array(["2020-01-01"], "M8[D]")), TypeError, ("datetime64",)),
    ("list to from_numpy", lambda: engine.from_numpy([1.0, 2.0]), TypeError, ()),
    ("add string", lambda: t(2) + "a", TypeError, ()),
    ("nine axes", lambda: engine.from_numpy(np.ones((1,) * 9, np.float32)), ValueError, ("8", "9")),
]

MEMORY: list[Row] = [
    ("zeros 2^40", lambda: engine.zeros(HUGE), MemoryError, ()),
    ("zeros 2^20 x 2^20", lambda: engine.zeros(2**20, 2**20), MemoryError, ()),
    ("zeros beyond 63 bits", lambda: engine.zeros(HUGE, HUGE), MemoryError, ()),
    ("zeros of a negative size", lambda: engine.zeros(-1, 3), ValueError, ("-1",)),
    ("randn 2^40", lambda: engine.randn(HUGE), MemoryError, ()),
    ("arange 2^40", lambda: engine.arange(HUGE), MemoryError, ()),
    ("expand then add", lambda: t(1).expand(HUGE) + 1.0, MemoryError, ()),
    ("expand beyond 63 bits", lambda: t(1, 1).expand(HUGE, HUGE) * 2.0, MemoryError, ()),
    ("outer product", lambda: t(2**20, 1) * t(1, 2**20), MemoryError, ()),
    ("matmul", lambda: t(2**20, 1) @ t(1, 2**20), MemoryError, ()),
    ("pad 2^40", lambda: F.pad(t(1, 1, 2, 2), (HUGE, 0, 0, 0)), (MemoryError, ValueError), ()),
    (
        "interpolate 2^40",
        lambda: F.interpolate(t(1, 1, 2, 2), size=(2**20, 2**20)),
        (MemoryError, ValueError),
        (),
    ),
    (
        "conv2d padding 2^40",
        lambda: F.conv2d(t(1, 1, 4, 4), t(1, 1, 3, 3), padding=HUGE),
        (MemoryError, ValueError),
        (),
    ),
    (
        "conv2d padding 2^20",
        lambda: F.conv2d(t(1, 1, 4, 4), t(1, 1, 3, 3), padding=2**20),
        (MemoryError, ValueError),
        (),
    ),
    (
        "conv2d stride 2^62",
        lambda: F.conv2d(t(1, 1, 4, 4), t(1, 1, 3, 3), stride=2**62, padding=2**62),
        ValueError,
        (),
    ),
    ("conv2d dilation 2^62", lambda: F.conv2d(t(1, 1, 4, 4), t(1, 1, 3, 3), dilation=2**62), ValueError, ()),
    (
        "conv2d stride beyond 64 bits",
        lambda: F.conv2d(t(1, 1, 4, 4), t(1, 1, 3, 3), stride=2**70),
        (ValueError, TypeError, OverflowError),
        (),
    ),
    ("max_pool2d kernel 2^62", lambda: F.max_pool2d(t(1, 1, 4, 4), 2**62), ValueError, ()),
    ("adaptive_avg_pool2d 2^40", lambda: F.adaptive_avg_pool2d(t(1, 1, 4, 4), 2**40), (MemoryError, ValueError), ()),
    ("set_num_threads 0", lambda: B.set_num_threads(0), ValueError, ("0",)),
    ("limit_threads -1", lambda: B.limit_threads(-1), ValueError, ("-1",)),
    ("set_num_threads 2^20", lambda: B.set_num_threads(2**20), ValueError, (str(2**20),)),
    ("set_isa", lambda: B.set_isa("sse9"), ValueError, ("sse9", "generic")),
]

LAYERS: list[Row] = [
    (
        "Conv2d input",
        lambda: engine.nn.Conv2d(64, 8, 3)(t(8, 32, 56, 56)),
        ValueError,
        ("64", "(8, 32, 56, 56)", "in_channels=32"),
    ),
    ("Conv2d groups", lambda: engine.nn.Conv2d(3, 8, 3, groups=2), ValueError, ("groups", "3", "2")),
    ("Linear input", lambda: engine.nn.Linear(10, 2)(t(4, 11)), ValueError, ("10", "(4, 11)")),
    ("BatchNorm2d rank", lambda: engine.nn.BatchNorm2d(3)(t(2, 3)), ValueError, ("(2, 3)",)),
    (
        "state dict shape",
        lambda: engine.nn.Linear(2, 3).load_state_dict({"weight": t(3, 5), "bias": t(3)}),
        RuntimeError,
        ("weight", "(3, 5)", "(3, 2)"),
    ),
    (
        "state dict keys",
        lambda: engine.nn.Linear(2, 3).load_state_dict({"weight": t(3, 2), "extra": t(3)}),
        RuntimeError,
        ("bias", "extra"),
    ),
    ("SGD rate", lambda: engine.optim.SGD([engine.nn.Parameter(t(2))], lr=-1.0), ValueError, ("lr", "-1")),
    ("SGD nothing", lambda: engine.optim.SGD([], lr=0.1), ValueError, ("empty",)),
    (
        "Adam betas",
        lambda: engine.optim.Adam([engine.nn.Parameter(t(2))], betas=(1.0, 0.9)),
        ValueError,
        ("beta", "1.0"),
    ),
    ("backward of no graph", lambda: t(1).backward(), RuntimeError, ("requires_grad",)),
    ("backward of a vector", lambda: (t(2, requires_grad=True) * 2.0).backward(), RuntimeError, ("scalar", "(2,)")),
]

ROWS = SHAPES + VALUES + TYPES + MEMORY + LAYERS


@pytest.mark.parametrize(("call", "exception", "mentions"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_bad_input_gets_a_clear_exception(call: Callable[[], Any], exception: Kind, mentions: tuple[str, ...]) -> None:
    with pytest.raises(exception) as caught:
        call()
    message = str(caught.value)
    assert len(message) > 15, message
    for text in mentions:
        assert text in message, f"{text!r} is not in {message!r}"


SPOKEN = SHAPES + VALUES


@pytest.mark.parametrize("row", SPOKEN, ids=[r[0] for r in SPOKEN])
def test_messages_say_the_op_what_was_expected_and_what_came(row: Row) -> None:
    with pytest.raises(row[2]) as caught:
        row[1]()
    message = str(caught.value)
    assert re.match(r"\[[\w.]+\] ", message), f"no op in front: {message!r}"
    assert re.search(r"expected|does not|do not|must|cannot|out of", message), f"nothing expected: {message!r}"


def test_nothing_is_left_behind_by_errors() -> None:
    """After every error above a step still trains, and no memory is held."""
    for row in ROWS:
        with pytest.raises(row[2]):
            row[1]()
    x, w = t(2, 3, 8, 8), t(4, 3, 3, 3, requires_grad=True)
    F.conv2d(x, w).sum().backward()
    assert w.grad is not None and w.grad.shape == w.shape
    np.testing.assert_allclose(w.grad.numpy(), 2 * 36.0)


def test_bad_input_does_not_crash_a_fresh_process() -> None:
    """The same calls from a clean interpreter: a crash here would not take the test run with it."""
    script = """
        import numpy as np, engine
        from engine import functional as F, backend as B
        x, w = engine.ones(1, 3, 8, 8), engine.ones(3, 3, 3, 3)
        bad = [
            lambda: F.conv2d(x, engine.ones(4, 3, 9, 9)),
            lambda: F.conv2d(x, engine.ones(4, 2, 3, 3)),
            lambda: engine.zeros(2**40),
            lambda: engine.zeros(2**62, 2**62),
            lambda: B.slice(x.data, [0, 0, 0, 0], [9, 9, 9, 9], [1, 1, 1, 1]),
            lambda: B.index_select(x.data, 1, engine.tensor([2**60]).data),
            lambda: B.gather(x.data, 7, engine.tensor([0]).data),
            lambda: B.max_pool2d_backward(x.data, engine.ones(1, 3, 8, 8, dtype="int32").data, (1, 3, 1, 1)),
            lambda: B.conv2d_backward_data(x.data, w.data, (1, 3, 99, 99), (1, 1), (0,) * 4, (1, 1), 1),
            lambda: B.sgd_step([x.data], [engine.ones(3).data], [], 0.1, 0, 0, 0, False, True, 0, False),
            lambda: B.permute(x.data, (9, 9, 9, 9)),
            lambda: B.reduce("sum", x.data, (7,), False),
            lambda: B.unary("no such op", x.data),
            lambda: B.batch_norm(x.data, engine.ones(1).data, None, None, None, True, 0.1, 1e-5),
            lambda: B.from_dlpack(3),
            lambda: np.asarray(x.data).__setitem__((99, 0, 0, 0), 1),
        ]
        for i, call in enumerate(bad):
            try:
                call()
            except Exception:
                continue
            raise SystemExit(f"call {i} raised nothing")
        print("alive")
    """
    assert output_of(script, timeout=120) == "alive"


# --------------------------------------------------------------------------------------------------------------------
# Unusual layouts are correct input
# --------------------------------------------------------------------------------------------------------------------


def views() -> dict[str, np.ndarray]:
    base = np.arange(2 * 6 * 8 * 10, dtype=np.float32).reshape(2, 6, 8, 10)
    return {
        "row-major": base,
        "column-major": np.asfortranarray(base),
        "channels-last": np.ascontiguousarray(base.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
        "negative strides": base[::-1, ::-1, ::-1, ::-1],
        "one negative stride": base[:, :, :, ::-1],
        "steps": base[:, ::2, 1::3, ::4],
        "transposed": base.transpose(3, 1, 0, 2),
        "broadcast": np.broadcast_to(base[:, :1, :1], (2, 5, 4, 10)),
        "empty": base[:, :0],
        "one pixel": base[1:2, 2:3, 3:4, 4:5],
    }


@pytest.mark.parametrize("name", list(views()))
def test_any_layout_gives_correct_results(name: str) -> None:
    array = views()[name]
    given = engine.from_numpy(array)
    np.testing.assert_array_equal(given.numpy(), array)
    np.testing.assert_array_equal((given * 2.0).numpy(), array * 2)
    np.testing.assert_allclose(given.sum((2, 3)).numpy(), array.sum((2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(given.reshape(-1).numpy(), array.reshape(-1))
    np.testing.assert_array_equal(given.permute(2, 0, 3, 1).numpy(), array.transpose(2, 0, 3, 1))
    np.testing.assert_array_equal(np.asarray(given), array)
    np.testing.assert_array_equal(engine.tensor(array).numpy(), array)
    if array.size:
        w = engine.ones(3, array.shape[1], 1, 1)
        want = np.repeat(array.sum(1, keepdims=True), 3, axis=1)
        np.testing.assert_allclose(F.conv2d(given, w).numpy(), want, rtol=1e-6)


def test_read_only_arrays_are_copied_and_stay_as_they_were() -> None:
    array = np.arange(6, dtype=np.float32)
    array.setflags(write=False)
    x = engine.from_numpy(array)
    with engine.no_grad():
        x += 1.0
    np.testing.assert_array_equal(array, np.arange(6))
    np.testing.assert_array_equal(x.numpy(), np.arange(6) + 1)


def test_from_numpy_shares_memory_both_ways() -> None:
    array = np.zeros(4, dtype=np.float32)
    x = engine.from_numpy(array)
    array[1] = 5
    assert x[1].item() == 5.0
    x.numpy()[2] = 7
    assert array[2] == 7


def test_memory_outlives_its_first_owner() -> None:
    x = engine.from_numpy(np.full(100000, 3, dtype=np.float32))
    seen = (x * 1.0).numpy()
    kept = engine.ones(100000).numpy()
    del x
    engine.zeros(100000)
    assert (seen == 3).all() and (kept == 1).all()


def test_unaligned_arrays_are_read_correctly() -> None:
    raw = np.zeros(4 * 7 + 1, dtype=np.uint8)
    array = raw[1:].view(np.float32)
    array[:] = np.arange(7)
    np.testing.assert_array_equal((engine.from_numpy(array) + 0.0).numpy(), np.arange(7))


def test_conversion_of_other_dtypes_is_asked_for_or_exact() -> None:
    """engine.tensor converts what from_numpy refuses to share; the values are the nearest float32."""
    for dtype in ("float64", "float16", ">f4", ">f8"):
        array = np.array([1.0, 0.1, -3.5]).astype(dtype)
        x = engine.tensor(array)
        assert x.dtype == engine.float32
        np.testing.assert_array_equal(x.numpy(), array.astype(np.float32))
    for dtype in ("int8", "int16", "uint16", ">i4", ">i8"):
        array = np.array([1, 2, 100]).astype(dtype)
        np.testing.assert_array_equal(engine.tensor(array).numpy(), [1, 2, 100])
