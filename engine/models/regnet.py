"""RegNet: networks whose widths follow a quantised straight line."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import Any, NamedTuple

from engine import init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import ConvNormActivation, SqueezeExcitation, init_linear_normal, make_divisible
from engine.tensor import Tensor

__all__ = [
    "Design",
    "RegNet",
    "regnet_x_16gf",
    "regnet_x_1_6gf",
    "regnet_x_32gf",
    "regnet_x_3_2gf",
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_x_8gf",
    "regnet_y_128gf",
    "regnet_y_16gf",
    "regnet_y_1_6gf",
    "regnet_y_32gf",
    "regnet_y_3_2gf",
    "regnet_y_400mf",
    "regnet_y_800mf",
    "regnet_y_8gf",
]

Norm = Callable[[int], nn.Module]
STEM = 32  # channels


class Design(NamedTuple):
    """Block i is about initial + slope * i channels wide, rounded to initial * multiplier^k.

    Args:
        depth: number of blocks.
        initial: width of the line at the first block.
        slope: how it grows.
        multiplier: ratio of neighbouring widths.
        group_width: channels per group of the 3x3 convolutions.
        se_ratio: channels inside the squeeze-and-excitation, as a share of the block's input; None for none.
    """

    depth: int
    initial: int
    slope: float
    multiplier: float
    group_width: int
    se_ratio: float | None = None

    def stages(self) -> list[tuple[int, int, int]]:
        """Returns (width, blocks, group width) of each stage.

        Example:
            >>> Design(16, 48, 27.89, 2.09, 8).stages()
            [(48, 1, 8), (104, 3, 8), (208, 6, 8), (440, 6, 8)]
        """
        widths = []
        for i in range(self.depth):
            power = round(math.log((self.initial + self.slope * i) / self.initial) / math.log(self.multiplier))
            widths.append(8 * round(self.initial * self.multiplier**power / 8))
        stages = []
        for width, blocks in groupby(widths):
            group = min(self.group_width, width)
            stages.append((make_divisible(width, group), len(list(blocks)), group))
        return stages


DESIGNS = {
    "y_400mf": Design(16, 48, 27.89, 2.09, 8, 0.25),
    "y_800mf": Design(14, 56, 38.84, 2.4, 16, 0.25),
    "y_1_6gf": Design(27, 48, 20.71, 2.65, 24, 0.25),
    "y_3_2gf": Design(21, 80, 42.63, 2.66, 24, 0.25),
    "y_8gf": Design(17, 192, 76.82, 2.19, 56, 0.25),
    "y_16gf": Design(18, 200, 106.23, 2.48, 112, 0.25),
    "y_32gf": Design(20, 232, 115.89, 2.53, 232, 0.25),
    "y_128gf": Design(27, 456, 160.83, 2.52, 264, 0.25),
    "x_400mf": Design(22, 24, 24.48, 2.54, 16),
    "x_800mf": Design(16, 56, 35.73, 2.28, 16),
    "x_1_6gf": Design(18, 80, 34.01, 2.25, 24),
    "x_3_2gf": Design(25, 88, 26.31, 2.25, 48),
    "x_8gf": Design(23, 80, 49.56, 2.88, 120),
    "x_16gf": Design(22, 216, 55.59, 2.1, 128),
    "x_32gf": Design(23, 320, 69.86, 2.0, 168),
}


class _Block(nn.Module):
    """1x1, grouped 3x3, squeeze-and-excitation, 1x1, beside a shortcut that projects when its size changes."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, group_width: int, se_ratio: float | None, norm: Norm
    ) -> None:
        super().__init__()
        self.proj = None
        if inputs != outputs or stride != 1:
            self.proj = ConvNormActivation(inputs, outputs, 1, stride, norm_layer=norm, activation_layer=None)
        layers: dict[str, nn.Module] = {
            "a": ConvNormActivation(inputs, outputs, 1, norm_layer=norm),
            "b": ConvNormActivation(outputs, outputs, 3, stride, groups=outputs // group_width, norm_layer=norm),
        }
        if se_ratio:
            layers["se"] = SqueezeExcitation(outputs, round(se_ratio * inputs))
        layers["c"] = ConvNormActivation(outputs, outputs, 1, norm_layer=norm, activation_layer=None)
        self.f = nn.Sequential(layers)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.proj is None else self.proj(x)
        return nn.run((self.f,), x, residual=shortcut, activation=self.activation)


class RegNet(Model):
    """RegNet X, or Y when its design has squeeze-and-excitation.

    Args:
        design: the numbers from which widths and depths follow.
        num_classes: number of outputs.
        norm_layer: called with the number of channels.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Example:
        >>> import engine
        >>> model = engine.models.RegNet(Design(4, 16, 16.0, 2.0, 8), num_classes=2)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.RegNet; Radosavovic et al., https://arxiv.org/abs/2003.13678.
    """

    head_names = ("fc",)

    def __init__(
        self, design: Design, num_classes: int = 1000, norm_layer: Norm | None = None, in_chans: int = 3
    ) -> None:
        super().__init__(num_classes)
        norm = norm_layer or nn.BatchNorm2d
        self.stem = ConvNormActivation(in_chans, STEM, 3, 2, norm_layer=norm)
        stages: dict[str, nn.Module] = {}
        channels = STEM
        for i, (width, depth, group_width) in enumerate(design.stages(), 1):
            blocks: dict[str, nn.Module] = {}
            for j in range(depth):
                stride = 2 if j == 0 else 1
                blocks[f"block{i}-{j}"] = _Block(channels, width, stride, group_width, design.se_ratio, norm)
                channels = width
            stages[f"block{i}"] = nn.Sequential(blocks)
        self.trunk_output = nn.Sequential(stages)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        else:
            init_linear_normal(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.trunk_output(self.stem(x))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        stages = [[f"trunk_output.{name}"] for name, _ in self.trunk_output.named_children()]
        return [["stem"], *stages, ["fc"]]


def _regnet(size: str, weights: Any, progress: bool, kwargs: Any) -> RegNet:
    return build(f"regnet_{size}", RegNet, weights, progress, design=DESIGNS[size], **kwargs)


@register_model()
def regnet_y_400mf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 400 MF (4.3 M parameters, 0.8 GFLOP at 224)."""
    return _regnet("y_400mf", weights, progress, kwargs)


@register_model()
def regnet_y_800mf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 800 MF (6.4 M parameters, 1.7 GFLOP at 224)."""
    return _regnet("y_800mf", weights, progress, kwargs)


@register_model()
def regnet_y_1_6gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 1.6 GF (11.2 M parameters, 3.2 GFLOP at 224)."""
    return _regnet("y_1_6gf", weights, progress, kwargs)


@register_model()
def regnet_y_3_2gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 3.2 GF (19.4 M parameters, 6.4 GFLOP at 224)."""
    return _regnet("y_3_2gf", weights, progress, kwargs)


@register_model()
def regnet_y_8gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 8 GF (39.4 M parameters, 16.9 GFLOP at 224)."""
    return _regnet("y_8gf", weights, progress, kwargs)


@register_model()
def regnet_y_16gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 16 GF (83.6 M parameters, 31.8 GFLOP at 224)."""
    return _regnet("y_16gf", weights, progress, kwargs)


@register_model()
def regnet_y_32gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 32 GF (145.0 M parameters, 64.6 GFLOP at 224)."""
    return _regnet("y_32gf", weights, progress, kwargs)


@register_model()
def regnet_y_128gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-Y 128 GF (644.8 M parameters, 255.0 GFLOP at 224)."""
    return _regnet("y_128gf", weights, progress, kwargs)


@register_model()
def regnet_x_400mf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 400 MF (5.5 M parameters, 0.8 GFLOP at 224)."""
    return _regnet("x_400mf", weights, progress, kwargs)


@register_model()
def regnet_x_800mf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 800 MF (7.3 M parameters, 1.6 GFLOP at 224)."""
    return _regnet("x_800mf", weights, progress, kwargs)


@register_model()
def regnet_x_1_6gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 1.6 GF (9.2 M parameters, 3.2 GFLOP at 224)."""
    return _regnet("x_1_6gf", weights, progress, kwargs)


@register_model()
def regnet_x_3_2gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 3.2 GF (15.3 M parameters, 6.4 GFLOP at 224)."""
    return _regnet("x_3_2gf", weights, progress, kwargs)


@register_model()
def regnet_x_8gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 8 GF (39.6 M parameters, 16.0 GFLOP at 224)."""
    return _regnet("x_8gf", weights, progress, kwargs)


@register_model()
def regnet_x_16gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 16 GF (54.3 M parameters, 31.9 GFLOP at 224)."""
    return _regnet("x_16gf", weights, progress, kwargs)


@register_model()
def regnet_x_32gf(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> RegNet:
    """Builds RegNet-X 32 GF (107.8 M parameters, 63.5 GFLOP at 224)."""
    return _regnet("x_32gf", weights, progress, kwargs)
