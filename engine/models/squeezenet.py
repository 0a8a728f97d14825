"""SqueezeNet: AlexNet's accuracy with a fiftieth of its parameters."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from engine import init, nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.models.blocks import zero_bias
from engine.tensor import Tensor

__all__ = ["Fire", "SqueezeNet", "squeezenet1_0", "squeezenet1_1"]

# (squeeze, expand) of each Fire module, None for a pooling; the first convolution's (channels, kernel).
VERSIONS: dict[str, tuple[tuple[int, int], list[tuple[int, int] | None]]] = {
    "1_0": (
        (96, 7),
        [None, (16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256)],
    ),
    "1_1": (
        (64, 3),
        [None, (16, 64), (16, 64), None, (32, 128), (32, 128), None, (48, 192), (48, 192), (64, 256), (64, 256)],
    ),
}


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then a 1x1 and a 3x3 convolution side by side that expand.

    Args:
        inplanes: channels of the input.
        squeeze_planes: channels inside.
        expand1x1_planes: channels of the 1x1 convolution.
        expand3x3_planes: channels of the 3x3 convolution.

    Shape:
        Input (N, inplanes, H, W), output (N, expand1x1_planes + expand3x3_planes, H, W).

    Example:
        >>> import engine
        >>> Fire(8, 2, 4, 4)(engine.zeros(1, 8, 5, 5)).shape
        (1, 8, 5, 5)

    Follows torchvision.models.squeezenet.Fire; Iandola et al., https://arxiv.org/abs/1602.07360.
    """

    def __init__(self, inplanes: int, squeeze_planes: int, expand1x1_planes: int, expand3x3_planes: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze_planes, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze_planes, expand1x1_planes, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze_planes, expand3x3_planes, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = nn.run((self.squeeze, self.squeeze_activation), x)
        together = nn.Concatenation(self.expand1x1.out_channels + self.expand3x3.out_channels)
        together.add((self.expand1x1, self.expand1x1_activation), x)
        together.add((self.expand3x3, self.expand3x3_activation), x)
        return together.tensor()


class SqueezeNet(Model):
    """Eight Fire modules and a convolution that classifies.

    Args:
        version: "1_0", or "1_1" with 2.4 times less computation.
        num_classes: number of outputs.
        dropout: probability in front of the last convolution.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 21 for version 1_0, 17 for 1_1 (224 by design); output
        (N, num_classes).

    Raises:
        ValueError: the version is unknown.

    Example:
        >>> import engine
        >>> engine.models.squeezenet1_1(num_classes=2)(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.SqueezeNet; Iandola et al., https://arxiv.org/abs/1602.07360.
    """

    head_names = ("classifier.1",)

    def __init__(self, version: str = "1_0", num_classes: int = 1000, dropout: float = 0.5, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        if version not in VERSIONS:
            raise ValueError(f"Unsupported SqueezeNet version {version}: 1_0 or 1_1 expected")
        (channels, kernel), modules = VERSIONS[version]
        layers: list[nn.Module] = [nn.Conv2d(in_chans, channels, kernel, stride=2), nn.ReLU()]
        for sizes in modules:
            if sizes is None:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            else:
                squeeze, expand = sizes
                layers.append(Fire(channels, squeeze, expand, expand))
                channels = 2 * expand
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Conv2d(channels, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1))
        )
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_uniform_(module.weight)
            zero_bias(module)

    def init_head(self, name: str, head: nn.Module) -> None:
        init.normal_(head.weight, 0.0, 0.01)
        zero_bias(head)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(x).flatten(1)

    def group_names(self) -> list[list[str]]:
        pools = [i for i, module in enumerate(self.features) if isinstance(module, nn.MaxPool2d)]
        cuts = [0, *(i + 1 for i in pools), len(self.features)]
        return [*(children_of("features", a, b) for a, b in pairwise(cuts)), ["classifier"]]


@register_model()
def squeezenet1_0(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SqueezeNet:
    """Builds SqueezeNet 1.0 (1.2 M parameters, 1.6 GFLOP at 224)."""
    return build("squeezenet1_0", SqueezeNet, weights, progress, version="1_0", **kwargs)


@register_model()
def squeezenet1_1(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SqueezeNet:
    """Builds SqueezeNet 1.1 (1.2 M parameters, 0.7 GFLOP at 224)."""
    return build("squeezenet1_1", SqueezeNet, weights, progress, version="1_1", **kwargs)
