"""MobileNet V2: depthwise convolutions between narrow, linear ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from engine import nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.models.blocks import ConvNormActivation, init_conv_fan_out, init_linear_normal, make_divisible
from engine.tensor import Tensor

__all__ = ["InvertedResidual", "MobileNetV2", "mobilenet_v2"]

# (expansion, channels, blocks, stride of the first)
SETTING = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class InvertedResidual(nn.Module):
    """1x1 convolution that expands, 3x3 depthwise convolution, 1x1 convolution that projects; a shortcut if it fits.

    Args:
        inp: channels of the input.
        oup: channels of the output.
        stride: step of the depthwise convolution, in pixels.
        expand_ratio: channels inside, in multiples of inp.
        norm_layer: called with the number of channels.

    Shape:
        Input (N, inp, H, W), output (N, oup, H / stride, W / stride).

    Raises:
        ValueError: stride is not 1 or 2.

    Example:
        >>> import engine
        >>> InvertedResidual(8, 8, 1, 6)(engine.zeros(1, 8, 5, 5)).shape
        (1, 8, 5, 5)

    Follows torchvision.models.mobilenetv2.InvertedResidual; Sandler et al., https://arxiv.org/abs/1801.04381.
    """

    def __init__(
        self,
        inp: int,
        oup: int,
        stride: int,
        expand_ratio: int,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        inside = round(inp * expand_ratio)
        self.use_res_connect = stride == 1 and inp == oup
        layers: list[nn.Module] = []
        if expand_ratio != 1:
            layers.append(ConvNormActivation(inp, inside, 1, norm_layer=norm_layer, activation_layer=nn.ReLU6))
        layers += [
            ConvNormActivation(
                inside, inside, 3, stride, groups=inside, norm_layer=norm_layer, activation_layer=nn.ReLU6
            ),
            nn.Conv2d(inside, oup, 1, bias=False),
            norm_layer(oup),
        ]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return nn.run((self.conv,), x, residual=x if self.use_res_connect else None)


class MobileNetV2(Model):
    """MobileNet V2.

    Args:
        num_classes: number of outputs.
        width_mult: factor of all widths.
        inverted_residual_setting: (expansion, channels, blocks, stride of the first block) of each stage.
        round_nearest: widths are multiples of this number.
        norm_layer: called with the number of channels.
        dropout: probability in front of the last layer.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Example:
        >>> import engine
        >>> model = engine.models.mobilenet_v2(num_classes=2, width_mult=0.25)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.MobileNetV2; Sandler et al., https://arxiv.org/abs/1801.04381.
    """

    head_names = ("classifier.1",)

    def __init__(
        self,
        num_classes: int = 1000,
        width_mult: float = 1.0,
        inverted_residual_setting: Sequence[Sequence[int]] | None = None,
        round_nearest: int = 8,
        norm_layer: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.2,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        norm = norm_layer or nn.BatchNorm2d
        setting = SETTING if inverted_residual_setting is None else inverted_residual_setting
        if not setting or any(len(row) != 4 for row in setting):
            raise ValueError(
                f"inverted_residual_setting should be non-empty or a 4-element list, got {inverted_residual_setting}"
            )
        channels = make_divisible(32 * width_mult, round_nearest)
        last = make_divisible(1280 * max(1.0, width_mult), round_nearest)
        layers: list[nn.Module] = [
            ConvNormActivation(in_chans, channels, 3, 2, norm_layer=norm, activation_layer=nn.ReLU6)
        ]
        self._cuts = [0, 1]
        for expansion, width, count, stride in setting:
            outputs = make_divisible(width * width_mult, round_nearest)
            for i in range(count):
                layers.append(InvertedResidual(channels, outputs, stride if i == 0 else 1, expansion, norm))
                channels = outputs
            self._cuts.append(len(layers))
        layers.append(ConvNormActivation(channels, last, 1, norm_layer=norm, activation_layer=nn.ReLU6))
        self._cuts[-1] += 1
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if not init_conv_fan_out(module):
            init_linear_normal(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))

    def group_names(self) -> list[list[str]]:
        return [*(children_of("features", a, b) for a, b in pairwise(self._cuts)), ["classifier"]]


@register_model()
def mobilenet_v2(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MobileNetV2:
    """Builds MobileNet V2 (3.5 M parameters, 0.6 GFLOP at 224)."""
    return build("mobilenet_v2", MobileNetV2, weights, progress, **kwargs)
