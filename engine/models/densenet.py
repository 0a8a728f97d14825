"""DenseNet: every layer sees the outputs of all layers before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from engine import functional as F, init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import RELU, zero_bias
from engine.tensor import Tensor

__all__ = ["DenseNet", "densenet121", "densenet161", "densenet169", "densenet201"]


class _DenseLayer(nn.Chain):
    """Norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution: growth_rate new channels of all the old ones."""

    def __init__(self, channels: int, growth_rate: int, bn_size: int, drop_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, bn_size * growth_rate, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(bn_size * growth_rate)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(bn_size * growth_rate, growth_rate, 3, padding=1, bias=False)
        self.drop_rate = drop_rate

    def steps(self) -> tuple[nn.Module, ...]:
        steps = (self.norm1, self.relu1, self.conv1, self.norm2, self.relu2, self.conv2)
        return (*steps, nn.Dropout(self.drop_rate).train(self.training)) if self.drop_rate > 0 else steps


class _DenseBlock(nn.Module):
    """Layers named denselayer1, denselayer2, ..., whose outputs are collected."""

    def __init__(self, depth: int, channels: int, growth_rate: int, bn_size: int, drop_rate: float) -> None:
        super().__init__()
        for i in range(depth):
            self.add_module(
                f"denselayer{i + 1}", _DenseLayer(channels + i * growth_rate, growth_rate, bn_size, drop_rate)
            )
        self._channels = channels + depth * growth_rate

    def forward(self, x: Tensor) -> Tensor:
        features = nn.Concatenation(self._channels)
        features.add([], x)
        for layer in self.children():
            features.add([layer], features.tensor())
        return features.tensor()


def _transition(channels: int) -> nn.Sequential:
    """Between two blocks: half the channels, half the height and width."""
    return nn.Sequential(
        {
            "norm": nn.BatchNorm2d(channels),
            "relu": nn.ReLU(),
            "conv": nn.Conv2d(channels, channels // 2, 1, bias=False),
            "pool": nn.AvgPool2d(2, 2),
        }
    )


class DenseNet(Model):
    """A stem, four dense blocks with transitions between them, one fully connected layer.

    Args:
        growth_rate: channels that each layer adds.
        block_config: number of layers of the blocks.
        num_init_features: channels of the stem.
        bn_size: channels inside a layer, in multiples of growth_rate.
        drop_rate: probability of dropout behind each layer.
        num_classes: number of outputs.
        memory_efficient: accepted for torchvision's sake.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 29 (224 by design); output (N, num_classes).

    Example:
        >>> import engine
        >>> model = engine.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=2)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.DenseNet; Huang et al., https://arxiv.org/abs/1608.06993.
    """

    head_names = ("classifier",)

    def __init__(
        self,
        growth_rate: int = 32,
        block_config: Sequence[int] = (6, 12, 24, 16),
        num_init_features: int = 64,
        bn_size: int = 4,
        drop_rate: float = 0,
        num_classes: int = 1000,
        memory_efficient: bool = False,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        channels = num_init_features
        layers: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(in_chans, channels, 7, 2, 3, bias=False),
            "norm0": nn.BatchNorm2d(channels),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, 2, 1),
        }
        for i, depth in enumerate(block_config, 1):
            layers[f"denseblock{i}"] = _DenseBlock(depth, channels, growth_rate, bn_size, drop_rate)
            channels += depth * growth_rate
            if i < len(block_config):
                layers[f"transition{i}"] = _transition(channels)
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(channels, num_classes)
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            zero_bias(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return nn.run((self.features,), x, activation=RELU)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))

    def group_names(self) -> list[list[str]]:
        groups: list[list[str]] = [[]]
        for name, _ in self.features.named_children():
            if name.startswith("denseblock"):
                groups.append([])
            groups[-1].append(f"features.{name}")
        return [*groups, ["classifier"]]

    def convert_state_dict(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes the names of files from before PyTorch 0.4, norm.1 and so on, for norm1."""
        dotted = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.")
        return {dotted.sub(r"\1\2.", key): value for key, value in state_dict.items()}


@register_model()
def densenet121(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> DenseNet:
    """Builds DenseNet-121 (8.0 M parameters, 5.7 GFLOP at 224)."""
    sizes = {"growth_rate": 32, "block_config": (6, 12, 24, 16), "num_init_features": 64}
    return build("densenet121", DenseNet, weights, progress, **sizes, **kwargs)


@register_model()
def densenet161(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> DenseNet:
    """Builds DenseNet-161 (28.7 M parameters, 15.5 GFLOP at 224)."""
    sizes = {"growth_rate": 48, "block_config": (6, 12, 36, 24), "num_init_features": 96}
    return build("densenet161", DenseNet, weights, progress, **sizes, **kwargs)


@register_model()
def densenet169(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> DenseNet:
    """Builds DenseNet-169 (14.1 M parameters, 6.7 GFLOP at 224)."""
    sizes = {"growth_rate": 32, "block_config": (6, 12, 32, 32), "num_init_features": 64}
    return build("densenet169", DenseNet, weights, progress, **sizes, **kwargs)


@register_model()
def densenet201(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> DenseNet:
    """Builds DenseNet-201 (20.0 M parameters, 8.6 GFLOP at 224)."""
    sizes = {"growth_rate": 32, "block_config": (6, 12, 48, 32), "num_init_features": 64}
    return build("densenet201", DenseNet, weights, progress, **sizes, **kwargs)
