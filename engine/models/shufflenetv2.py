"""ShuffleNet V2: half of the channels pass each block untouched, then the halves are interleaved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import functional as F, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.tensor import Tensor

__all__ = [
    "ShuffleNetV2",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x1_5",
    "shufflenet_v2_x2_0",
]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


def _pointwise(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]


class InvertedResidual(nn.Module):
    """Two branches side by side; at stride 1 the first is the untouched half of the input.

    Args:
        inp: channels of the input.
        oup: channels of the output.
        stride: 1, or 2 to halve height and width.

    Shape:
        Input (N, inp, H, W), output (N, oup, H / stride, W / stride).

    Raises:
        ValueError: stride is not 1 or 2, or inp is not oup at stride 1.

    Example:
        >>> import engine
        >>> InvertedResidual(8, 8, 1)(engine.zeros(1, 8, 5, 5)).shape
        (1, 8, 5, 5)

    Follows torchvision.models.shufflenetv2.InvertedResidual; Ma et al., https://arxiv.org/abs/1807.11164.
    """

    def __init__(self, inp: int, oup: int, stride: int) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        half = oup // 2
        if stride == 1 and inp != 2 * half:
            raise ValueError(f"at stride 1 the output has as many channels as the input, an even number: {inp}, {oup}")
        self.stride = stride
        self.branch1 = nn.Sequential(*(_depthwise(inp, stride) + _pointwise(inp, half) if stride > 1 else []))
        entry = _pointwise(inp if stride > 1 else half, half)
        self.branch2 = nn.Sequential(*entry, *_depthwise(half, stride), *_pointwise(half, half))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            passed, changed = x.chunk(2, 1)
            return F.interleave([passed, self.branch2(changed)])
        return F.interleave([self.branch1(x), self.branch2(x)])


class ShuffleNetV2(Model):
    """ShuffleNet V2.

    Args:
        stages_repeats: number of blocks of the three stages.
        stages_out_channels: channels of the stem, the three stages and the last convolution.
        num_classes: number of outputs.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Raises:
        ValueError: there are not three numbers of blocks and five of channels.

    Example:
        >>> import engine
        >>> engine.models.shufflenet_v2_x0_5(num_classes=2)(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.ShuffleNetV2; Ma et al., https://arxiv.org/abs/1807.11164.
    """

    head_names = ("fc",)

    def __init__(
        self,
        stages_repeats: Sequence[int],
        stages_out_channels: Sequence[int],
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if len(stages_repeats) != 3:
            raise ValueError("expected stages_repeats as list of 3 positive ints")
        if len(stages_out_channels) != 5:
            raise ValueError("expected stages_out_channels as list of 5 positive ints")
        channels = stages_out_channels[0]
        self.conv1 = nn.Sequential(
            nn.Conv2d(in_chans, channels, 3, 2, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        for stage, (count, outputs) in enumerate(zip(stages_repeats, stages_out_channels[1:]), 2):
            blocks = [InvertedResidual(channels, outputs, 2)]
            blocks += [InvertedResidual(outputs, outputs, 1) for _ in range(count - 1)]
            self.add_module(f"stage{stage}", nn.Sequential(*blocks))
            channels = outputs
        last = stages_out_channels[-1]
        self.conv5 = nn.Sequential(*_pointwise(channels, last))
        self.fc = nn.Linear(last, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.stage2(self.maxpool(self.conv1(x)))
        return self.conv5(self.stage4(self.stage3(x)))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))

    def group_names(self) -> list[list[str]]:
        return [["conv1"], ["stage2"], ["stage3"], ["stage4", "conv5"], ["fc"]]


def _shufflenet(name: str, widths: Sequence[int], weights: Any, progress: bool, kwargs: Any) -> ShuffleNetV2:
    return build(name, ShuffleNetV2, weights, progress, stages_repeats=(4, 8, 4), stages_out_channels=widths, **kwargs)


@register_model()
def shufflenet_v2_x0_5(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ShuffleNetV2:
    """Builds ShuffleNet V2 x0.5 (1.4 M parameters, 0.08 GFLOP at 224)."""
    return _shufflenet("shufflenet_v2_x0_5", (24, 48, 96, 192, 1024), weights, progress, kwargs)


@register_model()
def shufflenet_v2_x1_0(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ShuffleNetV2:
    """Builds ShuffleNet V2 x1.0 (2.3 M parameters, 0.3 GFLOP at 224)."""
    return _shufflenet("shufflenet_v2_x1_0", (24, 116, 232, 464, 1024), weights, progress, kwargs)


@register_model()
def shufflenet_v2_x1_5(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ShuffleNetV2:
    """Builds ShuffleNet V2 x1.5 (3.5 M parameters, 0.6 GFLOP at 224)."""
    return _shufflenet("shufflenet_v2_x1_5", (24, 176, 352, 704, 1024), weights, progress, kwargs)


@register_model()
def shufflenet_v2_x2_0(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ShuffleNetV2:
    """Builds ShuffleNet V2 x2.0 (7.4 M parameters, 1.2 GFLOP at 224)."""
    return _shufflenet("shufflenet_v2_x2_0", (24, 244, 488, 976, 2048), weights, progress, kwargs)
