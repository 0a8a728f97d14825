"""MobileNet V3: found by search, with squeeze-and-excitation and hard-swish."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from engine import nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.models.blocks import (
    ConvNormActivation,
    SqueezeExcitation,
    init_conv_fan_out,
    init_linear_normal,
    make_divisible,
)
from engine.tensor import Tensor

__all__ = ["MobileNetV3", "mobilenet_v3_large", "mobilenet_v3_small"]


class Row(NamedTuple):
    """One block: channels in, kernel, channels inside, channels out, squeeze-and-excitation, hard-swish, stride."""

    inputs: int
    kernel: int
    inside: int
    outputs: int
    excites: bool
    swishes: bool
    stride: int


# The rows that the paper's tables 1 and 2 give; the last three rows are the tail.
ARCHITECTURES: dict[str, tuple[int, list[Row]]] = {
    "large": (
        1280,
        [
            Row(16, 3, 16, 16, False, False, 1),
            Row(16, 3, 64, 24, False, False, 2),
            Row(24, 3, 72, 24, False, False, 1),
            Row(24, 5, 72, 40, True, False, 2),
            Row(40, 5, 120, 40, True, False, 1),
            Row(40, 5, 120, 40, True, False, 1),
            Row(40, 3, 240, 80, False, True, 2),
            Row(80, 3, 200, 80, False, True, 1),
            Row(80, 3, 184, 80, False, True, 1),
            Row(80, 3, 184, 80, False, True, 1),
            Row(80, 3, 480, 112, True, True, 1),
            Row(112, 3, 672, 112, True, True, 1),
            Row(112, 5, 672, 160, True, True, 2),
            Row(160, 5, 960, 160, True, True, 1),
            Row(160, 5, 960, 160, True, True, 1),
        ],
    ),
    "small": (
        1024,
        [
            Row(16, 3, 16, 16, True, False, 2),
            Row(16, 3, 72, 24, False, False, 2),
            Row(24, 3, 88, 24, False, False, 1),
            Row(24, 5, 96, 40, True, True, 2),
            Row(40, 5, 240, 40, True, True, 1),
            Row(40, 5, 240, 40, True, True, 1),
            Row(40, 5, 120, 48, True, True, 1),
            Row(48, 5, 144, 48, True, True, 1),
            Row(48, 5, 288, 96, True, True, 2),
            Row(96, 5, 576, 96, True, True, 1),
            Row(96, 5, 576, 96, True, True, 1),
        ],
    ),
}
TAIL = 3
NORM = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)


class _Block(nn.Module):
    """Expand, depthwise, squeeze-and-excite, project; a shortcut if it fits."""

    def __init__(self, row: Row, dilation: int) -> None:
        super().__init__()
        activation = nn.Hardswish if row.swishes else nn.ReLU
        inside = row.inside
        layers: list[nn.Module] = []
        if inside != row.inputs:
            layers.append(ConvNormActivation(row.inputs, inside, 1, norm_layer=NORM, activation_layer=activation))
        layers.append(
            ConvNormActivation(
                inside,
                inside,
                row.kernel,
                1 if dilation > 1 else row.stride,
                groups=inside,
                norm_layer=NORM,
                activation_layer=activation,
                dilation=dilation,
            )
        )
        if row.excites:
            layers.append(SqueezeExcitation(inside, make_divisible(inside // 4, 8), scale_activation=nn.Hardsigmoid))
        layers.append(ConvNormActivation(inside, row.outputs, 1, norm_layer=NORM, activation_layer=None))
        self.block = nn.Sequential(*layers)
        self.use_res_connect = row.stride == 1 and row.inputs == row.outputs

    def forward(self, input: Tensor) -> Tensor:
        return nn.run((self.block,), input, residual=input if self.use_res_connect else None)


class MobileNetV3(Model):
    """MobileNet V3.

    Args:
        arch: "large" or "small".
        width_mult: factor of all widths.
        reduced_tail: halves the channels of the last stage, for dense prediction.
        dilated: keeps the last stage's resolution and widens its kernels instead.
        num_classes: number of outputs.
        dropout: probability in front of the last layer.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Raises:
        ValueError: arch is unknown.

    Example:
        >>> import engine
        >>> model = engine.models.mobilenet_v3_small(num_classes=2, width_mult=0.5)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.MobileNetV3; Howard et al., https://arxiv.org/abs/1905.02244.
    """

    head_names = ("classifier.3",)

    def __init__(
        self,
        arch: str,
        width_mult: float = 1.0,
        reduced_tail: bool = False,
        dilated: bool = False,
        num_classes: int = 1000,
        dropout: float = 0.2,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if arch not in ARCHITECTURES:
            raise ValueError(f"Unsupported model type {arch}: {' or '.join(ARCHITECTURES)} expected")
        last_channel, rows = ARCHITECTURES[arch]
        divider = 2 if reduced_tail else 1

        def wide(channels: float) -> int:
            return make_divisible(channels * width_mult, 8)

        tail = len(rows) - TAIL
        layers: list[nn.Module] = [
            ConvNormActivation(in_chans, wide(rows[0].inputs), 3, 2, norm_layer=NORM, activation_layer=nn.Hardswish)
        ]
        self._cuts = [0, 1]
        for i, row in enumerate(rows):
            if row.stride == 2 and i:
                self._cuts.append(i + 1)
            # The tail begins with the outputs of its first block.
            inputs, inside = row.inputs // (divider if i > tail else 1), row.inside // (divider if i > tail else 1)
            outputs = row.outputs // (divider if i >= tail else 1)
            scaled = row._replace(inputs=wide(inputs), inside=wide(inside), outputs=wide(outputs))
            layers.append(_Block(scaled, 2 if dilated and i >= tail else 1))
        channels = wide(rows[-1].outputs // divider)
        layers.append(ConvNormActivation(channels, 6 * channels, 1, norm_layer=NORM, activation_layer=nn.Hardswish))
        self._cuts.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        hidden = wide(last_channel // divider)
        self.classifier = nn.Sequential(
            nn.Linear(6 * channels, hidden), nn.Hardswish(), nn.Dropout(dropout), nn.Linear(hidden, num_classes)
        )
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if not init_conv_fan_out(module):
            init_linear_normal(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        body = [children_of("features", a, b) for a, b in pairwise(self._cuts)]
        return [*body, ["classifier.0"], ["classifier.3"]]


@register_model()
def mobilenet_v3_large(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MobileNetV3:
    """Builds MobileNet V3 large (5.5 M parameters, 0.4 GFLOP at 224)."""
    return build("mobilenet_v3_large", MobileNetV3, weights, progress, arch="large", **kwargs)


@register_model()
def mobilenet_v3_small(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MobileNetV3:
    """Builds MobileNet V3 small (2.5 M parameters, 0.1 GFLOP at 224)."""
    return build("mobilenet_v3_small", MobileNetV3, weights, progress, arch="small", **kwargs)
