"""One row per layer and way to use it: test_layers.py runs the whole contract on each.

`make` takes a module like engine.nn or torch.nn, so that one expression builds both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["CASES", "LayerCase"]


@dataclass(frozen=True)
class LayerCase:
    """A layer, its input and the shape of its output.

    Attributes:
        id: name of the class, and of the variant behind a colon.
        make: builds the layer from the namespace of a library.
        input: shape of the input.
        output: shape of the output.
        values: how the input is drawn: "normal", "probabilities" or "log_probabilities".
        target: for losses, the shape of the target.
        targets: how the target is drawn: like values, or "classes" (0 to 4), "labels" (0 and 1).
        random: training draws random numbers, so only evaluation can agree with torch.
        in_torch: torch.nn has the class.
    """

    id: str
    make: Callable[[Any], Any]
    input: tuple[int, ...]
    output: tuple[int, ...]
    values: str = "normal"
    target: tuple[int, ...] | None = None
    targets: str = "normal"
    random: bool = False
    in_torch: bool = True

    @property
    def name(self) -> str:
        """Name of the class."""
        return self.id.partition(":")[0]

    def arrays(self, seed: int = 0) -> tuple[np.ndarray, ...]:
        """The input and, for losses, the target."""
        rng = np.random.default_rng(seed)
        arrays = [_draw(rng, self.values, self.input)]
        if self.target is not None:
            arrays.append(_draw(rng, self.targets, self.target))
        return tuple(arrays)


def _draw(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "classes":
        return rng.integers(0, 5, shape)
    if kind == "labels":
        return rng.integers(0, 2, shape).astype(np.float32)
    if kind == "normal":
        return (2 * rng.standard_normal(shape)).astype(np.float32)
    positive = rng.uniform(0.05, 0.95, shape)
    if kind == "probabilities":
        return positive.astype(np.float32)
    normalised = positive / positive.sum(1, keepdims=True)
    return (np.log(normalised) if kind == "log_probabilities" else normalised).astype(np.float32)


def _same(id: str, make: Callable[[Any], Any], shape: tuple[int, ...] = (2, 3, 5, 4), **options: Any) -> LayerCase:
    return LayerCase(id, make, shape, shape, **options)


def _loss(id: str, make: Callable[[Any], Any], **options: Any) -> LayerCase:
    settings: dict[str, Any] = {"input": (4, 5), "target": (4, 5), "output": (), **options}
    return LayerCase(id, make, **settings)


def _weight(nn: Any, values: list[float]) -> Any:
    """A constant tensor of the library that `nn` belongs to."""
    import importlib

    return importlib.import_module(nn.__name__.partition(".")[0]).tensor(values)


CASES = [
    # convolutions
    LayerCase("Conv2d", lambda nn: nn.Conv2d(3, 8, 3), (2, 3, 7, 6), (2, 8, 5, 4)),
    LayerCase("Conv2d:stride", lambda nn: nn.Conv2d(4, 5, (3, 2), (2, 1), (1, 0)), (2, 4, 7, 6), (2, 5, 4, 5)),
    LayerCase("Conv2d:same", lambda nn: nn.Conv2d(3, 4, 4, padding="same", dilation=2), (2, 3, 7, 6), (2, 4, 7, 6)),
    LayerCase("Conv2d:valid", lambda nn: nn.Conv2d(3, 4, 3, padding="valid"), (2, 3, 7, 6), (2, 4, 5, 4)),
    LayerCase(
        "Conv2d:groups",
        lambda nn: nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2, bias=False),
        (2, 6, 7, 6),
        (2, 4, 7, 6),
    ),
    LayerCase("Conv2d:depthwise", lambda nn: nn.Conv2d(16, 16, 3, 1, 1, groups=16), (2, 16, 5, 5), (2, 16, 5, 5)),
    LayerCase("Conv2d:pointwise", lambda nn: nn.Conv2d(17, 9, 1), (2, 17, 5, 5), (2, 9, 5, 5)),
    LayerCase(
        "Conv2d:reflect",
        lambda nn: nn.Conv2d(3, 4, 3, padding=(2, 1), padding_mode="reflect"),
        (2, 3, 5, 4),
        (2, 4, 7, 4),
    ),
    LayerCase(
        "Conv2d:replicate",
        lambda nn: nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"),
        (2, 3, 5, 4),
        (2, 4, 5, 4),
    ),
    LayerCase(
        "Conv2d:circular",
        lambda nn: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="circular"),
        (2, 3, 5, 4),
        (2, 4, 5, 6),
    ),
    LayerCase(
        "Conv2d:reflect_same",
        lambda nn: nn.Conv2d(3, 4, 4, padding="same", padding_mode="reflect"),
        (2, 3, 5, 4),
        (2, 4, 5, 4),
    ),
    LayerCase("ConvTranspose2d", lambda nn: nn.ConvTranspose2d(4, 6, 3), (2, 4, 5, 4), (2, 6, 7, 6)),
    LayerCase(
        "ConvTranspose2d:stride",
        lambda nn: nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2),
        (2, 4, 5, 4),
        (2, 6, 10, 8),
    ),
    LayerCase(
        "ConvTranspose2d:dilation",
        lambda nn: nn.ConvTranspose2d(4, 6, (2, 3), bias=False, dilation=2),
        (2, 4, 5, 4),
        (2, 6, 7, 8),
    ),
    # fully connected
    LayerCase("Linear", lambda nn: nn.Linear(6, 4), (3, 6), (3, 4)),
    LayerCase("Linear:rank3", lambda nn: nn.Linear(6, 4, bias=False), (3, 2, 6), (3, 2, 4)),
    _same("Identity", lambda nn: nn.Identity(3, unused=True)),
    # pooling
    LayerCase("MaxPool2d", lambda nn: nn.MaxPool2d(2), (2, 3, 7, 6), (2, 3, 3, 3)),
    LayerCase("MaxPool2d:ceil", lambda nn: nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 3, 8, 6), (2, 3, 5, 4)),
    LayerCase(
        "MaxPool2d:dilation", lambda nn: nn.MaxPool2d((3, 2), (2, 1), (1, 0), (2, 1)), (2, 3, 8, 6), (2, 3, 3, 5)
    ),
    LayerCase("AvgPool2d", lambda nn: nn.AvgPool2d(2), (2, 3, 7, 6), (2, 3, 3, 3)),
    LayerCase(
        "AvgPool2d:padding",
        lambda nn: nn.AvgPool2d((3, 2), 2, 1, ceil_mode=True, count_include_pad=False),
        (2, 3, 8, 6),
        (2, 3, 5, 4),
    ),
    LayerCase("AvgPool2d:divisor", lambda nn: nn.AvgPool2d(2, divisor_override=3), (2, 3, 6, 6), (2, 3, 3, 3)),
    LayerCase("AdaptiveAvgPool2d", lambda nn: nn.AdaptiveAvgPool2d((3, None)), (2, 3, 7, 5), (2, 3, 3, 5)),
    LayerCase("AdaptiveAvgPool2d:global", lambda nn: nn.AdaptiveAvgPool2d(1), (2, 3, 7, 5), (2, 3, 1, 1)),
    LayerCase("AdaptiveMaxPool2d", lambda nn: nn.AdaptiveMaxPool2d((3, 2)), (2, 3, 7, 5), (2, 3, 3, 2)),
    # normalisation
    _same("BatchNorm1d", lambda nn: nn.BatchNorm1d(6), (5, 6)),
    _same("BatchNorm1d:rank3", lambda nn: nn.BatchNorm1d(6, momentum=0.3), (5, 6, 4)),
    _same("BatchNorm2d", lambda nn: nn.BatchNorm2d(3)),
    _same("BatchNorm2d:plain", lambda nn: nn.BatchNorm2d(3, eps=1e-3, affine=False, track_running_stats=False)),
    _same("BatchNorm2d:cumulative", lambda nn: nn.BatchNorm2d(3, momentum=None)),
    _same("LayerNorm", lambda nn: nn.LayerNorm(6), (3, 2, 6)),
    _same("LayerNorm:image", lambda nn: nn.LayerNorm([3, 5, 4])),
    _same("LayerNorm:plain", lambda nn: nn.LayerNorm((5, 4), elementwise_affine=False)),
    _same("LayerNorm:no_bias", lambda nn: nn.LayerNorm(4, bias=False)),
    _same("GroupNorm", lambda nn: nn.GroupNorm(2, 6), (2, 6, 5, 4)),
    _same("GroupNorm:plain", lambda nn: nn.GroupNorm(3, 6, affine=False), (2, 6, 5, 4)),
    _same("InstanceNorm2d", lambda nn: nn.InstanceNorm2d(3)),
    _same("InstanceNorm2d:one_image", lambda nn: nn.InstanceNorm2d(3), (3, 5, 4)),
    _same("InstanceNorm2d:tracked", lambda nn: nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
    _same("LocalResponseNorm", lambda nn: nn.LocalResponseNorm(3, alpha=0.1, k=2.0), (2, 6, 5, 4)),
    # activations
    _same("ELU", lambda nn: nn.ELU(0.7)),
    _same("GELU", lambda nn: nn.GELU()),
    _same("GELU:tanh", lambda nn: nn.GELU("tanh")),
    _same("Hardsigmoid", lambda nn: nn.Hardsigmoid()),
    _same("Hardswish", lambda nn: nn.Hardswish(inplace=True)),
    _same("Hardtanh", lambda nn: nn.Hardtanh(-0.5, 1.5)),
    _same("LeakyReLU", lambda nn: nn.LeakyReLU(0.2)),
    _same("LogSigmoid", lambda nn: nn.LogSigmoid()),
    _same("LogSoftmax", lambda nn: nn.LogSoftmax(dim=-1), (3, 6)),
    _same("Mish", lambda nn: nn.Mish()),
    _same("PReLU", lambda nn: nn.PReLU()),
    _same("PReLU:channels", lambda nn: nn.PReLU(3, init=0.1)),
    _same("ReLU", lambda nn: nn.ReLU()),
    _same("ReLU:inplace", lambda nn: nn.ReLU(inplace=True)),
    _same("ReLU6", lambda nn: nn.ReLU6()),
    _same("SELU", lambda nn: nn.SELU()),
    _same("SiLU", lambda nn: nn.SiLU()),
    _same("Sigmoid", lambda nn: nn.Sigmoid()),
    _same("Softmax", lambda nn: nn.Softmax(dim=1)),
    _same("Softplus", lambda nn: nn.Softplus(2.0, 1.0)),
    _same("Softsign", lambda nn: nn.Softsign()),
    _same("Tanh", lambda nn: nn.Tanh()),
    # dropout
    _same("Dropout", lambda nn: nn.Dropout(0.3), random=True),
    _same("Dropout2d", lambda nn: nn.Dropout2d(0.3, inplace=True), random=True),
    _same("StochasticDepth", lambda nn: nn.StochasticDepth(0.3, "row"), random=True, in_torch=False),
    _same("StochasticDepth:batch", lambda nn: nn.StochasticDepth(0.3, "batch"), random=True, in_torch=False),
    # shape
    LayerCase("Flatten", lambda nn: nn.Flatten(), (2, 3, 5, 4), (2, 60)),
    LayerCase("Flatten:range", lambda nn: nn.Flatten(1, 2), (2, 3, 5, 4), (2, 15, 4)),
    LayerCase("Unflatten", lambda nn: nn.Unflatten(1, (2, -1, 2)), (2, 12), (2, 2, 3, 2)),
    LayerCase("PixelShuffle", lambda nn: nn.PixelShuffle(2), (2, 12, 3, 2), (2, 3, 6, 4)),
    LayerCase("PixelUnshuffle", lambda nn: nn.PixelUnshuffle(2), (2, 3, 6, 4), (2, 12, 3, 2)),
    _same("ChannelShuffle", lambda nn: nn.ChannelShuffle(3), (2, 6, 5, 4)),
    LayerCase("Upsample", lambda nn: nn.Upsample(scale_factor=2), (2, 3, 5, 4), (2, 3, 10, 8)),
    LayerCase("Upsample:size", lambda nn: nn.Upsample((7, 3), mode="bilinear"), (2, 3, 5, 4), (2, 3, 7, 3)),
    LayerCase(
        "Upsample:corners",
        lambda nn: nn.Upsample(scale_factor=(1.5, 2.3), mode="bicubic", align_corners=True),
        (2, 3, 5, 4),
        (2, 3, 7, 9),
    ),
    # padding
    LayerCase("ZeroPad2d", lambda nn: nn.ZeroPad2d((1, 0, 2, 3)), (2, 3, 5, 4), (2, 3, 10, 5)),
    LayerCase("ConstantPad2d", lambda nn: nn.ConstantPad2d(1, 2.5), (2, 3, 5, 4), (2, 3, 7, 6)),
    LayerCase("ReflectionPad2d", lambda nn: nn.ReflectionPad2d((1, 2, 3, 0)), (2, 3, 5, 4), (2, 3, 8, 7)),
    LayerCase("ReplicationPad2d", lambda nn: nn.ReplicationPad2d(2), (2, 3, 5, 4), (2, 3, 9, 8)),
    LayerCase("CircularPad2d", lambda nn: nn.CircularPad2d((1, 2, 3, 0)), (2, 3, 5, 4), (2, 3, 8, 7)),
    # containers
    LayerCase(
        "Sequential",
        lambda nn: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(24, 2)),
        (2, 3, 5, 4),
        (2, 2),
    ),
    # losses
    _loss("MSELoss", lambda nn: nn.MSELoss()),
    _loss("MSELoss:none", lambda nn: nn.MSELoss(reduction="none"), output=(4, 5)),
    _loss("L1Loss", lambda nn: nn.L1Loss(reduction="sum")),
    _loss("SmoothL1Loss", lambda nn: nn.SmoothL1Loss(beta=0.5)),
    _loss("HuberLoss", lambda nn: nn.HuberLoss(delta=0.7)),
    _loss("CrossEntropyLoss", lambda nn: nn.CrossEntropyLoss(), target=(4,), targets="classes"),
    _loss(
        "CrossEntropyLoss:options",
        lambda nn: nn.CrossEntropyLoss(_weight(nn, [0.5, 2.0, 1.0, 1.5, 0.1]), ignore_index=2, label_smoothing=0.1),
        target=(4,),
        targets="classes",
    ),
    _loss("CrossEntropyLoss:soft", lambda nn: nn.CrossEntropyLoss(label_smoothing=0.2), targets="normalised"),
    _loss(
        "CrossEntropyLoss:image",
        lambda nn: nn.CrossEntropyLoss(reduction="none"),
        input=(2, 5, 3, 4),
        target=(2, 3, 4),
        targets="classes",
        output=(2, 3, 4),
    ),
    _loss("NLLLoss", lambda nn: nn.NLLLoss(), values="log_probabilities", target=(4,), targets="classes"),
    _loss(
        "NLLLoss:weight",
        lambda nn: nn.NLLLoss(_weight(nn, [0.5, 2.0, 1.0, 1.5, 0.1]), reduction="sum"),
        values="log_probabilities",
        target=(4,),
        targets="classes",
    ),
    _loss("BCELoss", lambda nn: nn.BCELoss(), values="probabilities", targets="labels"),
    _loss("BCEWithLogitsLoss", lambda nn: nn.BCEWithLogitsLoss(), targets="labels"),
    _loss(
        "BCEWithLogitsLoss:weights",
        lambda nn: nn.BCEWithLogitsLoss(
            _weight(nn, [0.5, 2.0, 1.0, 1.5, 0.1]), pos_weight=_weight(nn, [1.0, 3.0, 1.0, 0.2, 1.0])
        ),
        targets="labels",
    ),
    _loss(
        "KLDivLoss", lambda nn: nn.KLDivLoss(reduction="batchmean"), values="log_probabilities", targets="normalised"
    ),
    _loss(
        "KLDivLoss:log",
        lambda nn: nn.KLDivLoss(reduction="sum", log_target=True),
        values="log_probabilities",
        targets="log_probabilities",
    ),
    _loss("FocalLoss", lambda nn: nn.FocalLoss(), targets="labels", in_torch=False),
]
