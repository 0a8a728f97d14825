"""ConvNeXt: a convolutional network with what transformers had found useful."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from engine import init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import ConvNormActivation, LayerNorm2d, from_tokens, to_tokens, zero_bias
from engine.tensor import Parameter, Tensor, full

__all__ = ["ConvNeXt", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"]

NORM = partial(LayerNorm2d, eps=1e-6)


class _ToTokens(nn.Module):
    """From (N, C, H, W) to (N, H * W, C), where a linear layer acts on each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return to_tokens(x)


class _Block(nn.Module):
    """7x7 depthwise convolution, norm, two linear layers per pixel, a learnt scale; beside a shortcut."""

    def __init__(self, channels: int, layer_scale: float, drop: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            _ToTokens(),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
        )
        self.layer_scale = Parameter(full((channels, 1, 1), layer_scale))
        self.stochastic_depth = nn.StochasticDepth(drop, "row")

    def forward(self, input: Tensor) -> Tensor:
        result = from_tokens(self.block(input), *input.shape[2:])
        return self.stochastic_depth(self.layer_scale * result) + input


class ConvNeXt(Model):
    """ConvNeXt.

    Args:
        widths: channels of the four stages.
        depths: number of blocks of the four stages.
        stochastic_depth_prob: probability of the last block to be skipped in training; that of the others grows
            linearly up to it.
        layer_scale: initial factor of each block.
        num_classes: number of outputs.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 32 (224 by design); output (N, num_classes).

    Example:
        >>> import engine
        >>> engine.models.ConvNeXt((8, 8, 16, 16), (1, 1, 1, 1), num_classes=2)(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.ConvNeXt; Liu et al., https://arxiv.org/abs/2201.03545.
    """

    head_names = ("classifier.2",)

    def __init__(
        self,
        widths: Sequence[int],
        depths: Sequence[int],
        stochastic_depth_prob: float = 0.0,
        layer_scale: float = 1e-6,
        num_classes: int = 1000,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if not widths or len(widths) != len(depths):
            raise ValueError(f"[ConvNeXt] expected as many widths as depths, got {widths} and {depths}")
        layers: list[nn.Module] = [
            ConvNormActivation(in_chans, widths[0], 4, 4, 0, norm_layer=NORM, activation_layer=None, bias=True)
        ]
        done, last = 0, max(sum(depths) - 1.0, 1.0)
        for i, (width, depth) in enumerate(zip(widths, depths)):
            if i:
                layers.append(nn.Sequential(NORM(widths[i - 1]), nn.Conv2d(widths[i - 1], width, 2, 2)))
            blocks = []
            for _ in range(depth):
                blocks.append(_Block(width, layer_scale, stochastic_depth_prob * done / last))
                done += 1
            layers.append(nn.Sequential(*blocks))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(NORM(widths[-1]), nn.Flatten(1), nn.Linear(widths[-1], num_classes))
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.trunc_normal_(module.weight, std=0.02)
            zero_bias(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(x))

    def group_names(self) -> list[list[str]]:
        stages = [[f"features.{i}", f"features.{i + 1}"] for i in range(0, len(self.features), 2)]
        return [*stages, ["classifier"]]


def _convnext(
    size: str, widths: Sequence[int], depths: Sequence[int], drop: float, weights: Any, progress: bool, kwargs: Any
) -> ConvNeXt:
    kwargs.setdefault("stochastic_depth_prob", drop)
    return build(f"convnext_{size}", ConvNeXt, weights, progress, widths=widths, depths=depths, **kwargs)


@register_model()
def convnext_tiny(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ConvNeXt:
    """Builds ConvNeXt tiny (28.6 M parameters, 8.9 GFLOP at 224)."""
    return _convnext("tiny", (96, 192, 384, 768), (3, 3, 9, 3), 0.1, weights, progress, kwargs)


@register_model()
def convnext_small(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ConvNeXt:
    """Builds ConvNeXt small (50.2 M parameters, 17.4 GFLOP at 224)."""
    return _convnext("small", (96, 192, 384, 768), (3, 3, 27, 3), 0.4, weights, progress, kwargs)


@register_model()
def convnext_base(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ConvNeXt:
    """Builds ConvNeXt base (88.6 M parameters, 30.7 GFLOP at 224)."""
    return _convnext("base", (128, 256, 512, 1024), (3, 3, 27, 3), 0.5, weights, progress, kwargs)


@register_model()
def convnext_large(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ConvNeXt:
    """Builds ConvNeXt large (197.8 M parameters, 68.7 GFLOP at 224)."""
    return _convnext("large", (192, 384, 768, 1536), (3, 3, 27, 3), 0.5, weights, progress, kwargs)
