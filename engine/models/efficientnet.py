"""EfficientNet and EfficientNet V2: one architecture, scaled in depth, width and resolution together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from engine import init, nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.models.blocks import ConvNormActivation, SqueezeExcitation, init_conv_fan_out, make_divisible, zero_bias
from engine.tensor import Tensor

__all__ = [
    "EfficientNet",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_l",
    "efficientnet_v2_m",
    "efficientnet_v2_s",
]

Norm = Callable[[int], nn.Module]


class Stage(NamedTuple):
    """Some blocks of one kind: expansion, kernel, stride of the first, channels in and out, number of blocks.

    A fused block expands by the 3x3 convolution itself, without depthwise convolution and squeeze-and-excitation.
    """

    expansion: int
    kernel: int
    stride: int
    inputs: int
    outputs: int
    blocks: int
    fused: bool = False


B0 = (
    Stage(1, 3, 1, 32, 16, 1),
    Stage(6, 3, 2, 16, 24, 2),
    Stage(6, 5, 2, 24, 40, 2),
    Stage(6, 3, 2, 40, 80, 3),
    Stage(6, 5, 1, 80, 112, 3),
    Stage(6, 5, 2, 112, 192, 4),
    Stage(6, 3, 1, 192, 320, 1),
)
V2 = {
    "s": (
        Stage(1, 3, 1, 24, 24, 2, True),
        Stage(4, 3, 2, 24, 48, 4, True),
        Stage(4, 3, 2, 48, 64, 4, True),
        Stage(4, 3, 2, 64, 128, 6),
        Stage(6, 3, 1, 128, 160, 9),
        Stage(6, 3, 2, 160, 256, 15),
    ),
    "m": (
        Stage(1, 3, 1, 24, 24, 3, True),
        Stage(4, 3, 2, 24, 48, 5, True),
        Stage(4, 3, 2, 48, 80, 5, True),
        Stage(4, 3, 2, 80, 160, 7),
        Stage(6, 3, 1, 160, 176, 14),
        Stage(6, 3, 2, 176, 304, 18),
        Stage(6, 3, 1, 304, 512, 5),
    ),
    "l": (
        Stage(1, 3, 1, 32, 32, 4, True),
        Stage(4, 3, 2, 32, 64, 7, True),
        Stage(4, 3, 2, 64, 96, 7, True),
        Stage(4, 3, 2, 96, 192, 10),
        Stage(6, 3, 1, 192, 224, 19),
        Stage(6, 3, 2, 224, 384, 25),
        Stage(6, 3, 1, 384, 640, 7),
    ),
}


def _scaled(width: float, depth: float) -> tuple[Stage, ...]:
    """The stages of B0 with other widths and depths."""
    return tuple(
        stage._replace(
            inputs=make_divisible(stage.inputs * width),
            outputs=make_divisible(stage.outputs * width),
            blocks=math.ceil(stage.blocks * depth),
        )
        for stage in B0
    )


class _Block(nn.Module):
    """Expansion, depthwise convolution, squeeze-and-excitation, projection; a shortcut if it fits."""

    def __init__(self, stage: Stage, first: bool, drop: float, norm: Norm) -> None:
        super().__init__()
        inputs, stride = (stage.inputs, stage.stride) if first else (stage.outputs, 1)
        outputs, kernel = stage.outputs, stage.kernel
        inside = make_divisible(inputs * stage.expansion)
        conv = partial(ConvNormActivation, norm_layer=norm, activation_layer=nn.SiLU)
        project = partial(ConvNormActivation, kernel_size=1, norm_layer=norm, activation_layer=None)
        layers: list[nn.Module] = []
        if stage.fused:
            if inside == inputs:
                layers.append(conv(inputs, outputs, kernel, stride))
            else:
                layers += [conv(inputs, inside, kernel, stride), project(inside, outputs)]
        else:
            if inside != inputs:
                layers.append(conv(inputs, inside, 1))
            layers += [
                conv(inside, inside, kernel, stride, groups=inside),
                SqueezeExcitation(inside, max(1, inputs // 4), nn.SiLU),
                project(inside, outputs),
            ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = nn.StochasticDepth(drop, "row")
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, input: Tensor) -> Tensor:
        if not self.use_res_connect:
            return self.block(input)
        return nn.run((self.block, self.stochastic_depth), input, residual=input)


class EfficientNet(Model):
    """EfficientNet, version 1 or 2.

    Args:
        stages: what its stages are made of.
        dropout: probability in front of the last layer.
        stochastic_depth_prob: probability of the last block to be skipped in training; that of the others grows
            linearly up to it.
        num_classes: number of outputs.
        norm_layer: called with the number of channels.
        last_channel: channels before pooling; by default four times those of the last stage.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 (B0) to 600 (B7) by design; output (N, num_classes).

    Raises:
        ValueError: there are no stages.

    Example:
        >>> import engine
        >>> stages = [Stage(1, 3, 2, 8, 8, 1), Stage(4, 3, 2, 8, 16, 2)]
        >>> engine.models.EfficientNet(stages, dropout=0.2, num_classes=2)(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.EfficientNet; Tan and Le, https://arxiv.org/abs/1905.11946 and
    https://arxiv.org/abs/2104.00298.
    """

    head_names = ("classifier.1",)

    def __init__(
        self,
        stages: Sequence[Stage],
        dropout: float,
        stochastic_depth_prob: float = 0.2,
        num_classes: int = 1000,
        norm_layer: Norm | None = None,
        last_channel: int | None = None,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if not stages:
            raise ValueError("[EfficientNet] expected at least one stage, got none")
        norm = norm_layer or nn.BatchNorm2d
        conv = partial(ConvNormActivation, norm_layer=norm, activation_layer=nn.SiLU)
        layers: list[nn.Module] = [conv(in_chans, stages[0].inputs, 3, 2)]
        total, done = sum(stage.blocks for stage in stages), 0
        for stage in stages:
            blocks = []
            for i in range(stage.blocks):
                blocks.append(_Block(stage, i == 0, stochastic_depth_prob * done / total, norm))
                done += 1
            layers.append(nn.Sequential(*blocks))
        channels = stages[-1].outputs
        last = 4 * channels if last_channel is None else last_channel
        layers.append(conv(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if not init_conv_fan_out(module) and isinstance(module, nn.Linear):
            bound = 1.0 / math.sqrt(module.out_features)
            init.uniform_(module.weight, -bound, bound)
            zero_bias(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        last = len(self.features) - 1
        stages = [[f"features.{i}"] for i in range(1, last)]
        stages[-1].append(f"features.{last}")
        return [children_of("features", 0, 1), *stages, ["classifier"]]


# Width, depth, dropout, norm; the resolution is in the weights' transform.
SCALES: dict[str, tuple[float, float, float]] = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}
DROPOUTS_V2 = {"s": 0.2, "m": 0.3, "l": 0.4}


def _version_1(size: str, weights: Any, progress: bool, kwargs: dict[str, Any]) -> EfficientNet:
    width, depth, dropout = SCALES[size]
    if size in ("b5", "b6", "b7"):
        kwargs.setdefault("norm_layer", partial(nn.BatchNorm2d, eps=0.001, momentum=0.01))
    kwargs.setdefault("dropout", dropout)
    return build(f"efficientnet_{size}", EfficientNet, weights, progress, stages=_scaled(width, depth), **kwargs)


def _version_2(size: str, weights: Any, progress: bool, kwargs: dict[str, Any]) -> EfficientNet:
    kwargs.setdefault("norm_layer", partial(nn.BatchNorm2d, eps=0.001))
    kwargs.setdefault("dropout", DROPOUTS_V2[size])
    kwargs.setdefault("last_channel", 1280)
    return build(f"efficientnet_v2_{size}", EfficientNet, weights, progress, stages=V2[size], **kwargs)


@register_model()
def efficientnet_b0(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B0 (5.3 M parameters, 0.8 GFLOP at 224)."""
    return _version_1("b0", weights, progress, kwargs)


@register_model()
def efficientnet_b1(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B1 (7.8 M parameters, 1.4 GFLOP at 240)."""
    return _version_1("b1", weights, progress, kwargs)


@register_model()
def efficientnet_b2(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B2 (9.1 M parameters, 2.2 GFLOP at 288)."""
    return _version_1("b2", weights, progress, kwargs)


@register_model()
def efficientnet_b3(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B3 (12.2 M parameters, 3.7 GFLOP at 300)."""
    return _version_1("b3", weights, progress, kwargs)


@register_model()
def efficientnet_b4(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B4 (19.3 M parameters, 8.8 GFLOP at 380)."""
    return _version_1("b4", weights, progress, kwargs)


@register_model()
def efficientnet_b5(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B5 (30.4 M parameters, 20.5 GFLOP at 456)."""
    return _version_1("b5", weights, progress, kwargs)


@register_model()
def efficientnet_b6(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B6 (43.0 M parameters, 38.1 GFLOP at 528)."""
    return _version_1("b6", weights, progress, kwargs)


@register_model()
def efficientnet_b7(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNet-B7 (66.3 M parameters, 75.5 GFLOP at 600)."""
    return _version_1("b7", weights, progress, kwargs)


@register_model()
def efficientnet_v2_s(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNetV2-S (21.5 M parameters, 16.7 GFLOP at 384)."""
    return _version_2("s", weights, progress, kwargs)


@register_model()
def efficientnet_v2_m(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNetV2-M (54.1 M parameters, 49.2 GFLOP at 480)."""
    return _version_2("m", weights, progress, kwargs)


@register_model()
def efficientnet_v2_l(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> EfficientNet:
    """Builds EfficientNetV2-L (118.5 M parameters, 112.2 GFLOP at 480)."""
    return _version_2("l", weights, progress, kwargs)
