"""ResNets for images of about 32 x 32 pixels: without the big stem, with 16 to 64 channels."""

from __future__ import annotations

from typing import Any

from engine import nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import init_conv_fan_out
from engine.models.resnet import BasicBlock
from engine.tensor import Tensor

__all__ = ["SmallResNet", "resnet20", "resnet32", "resnet44", "resnet56"]


class SmallResNet(Model):
    """Three stages of equally many blocks, with 16, 32 and 64 channels; a shortcut that changes size is a convolution.

    Args:
        blocks: per stage; the network has 6 blocks + 2 layers with weights.
        num_classes: number of outputs.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), made for 32 x 32, output (N, num_classes): logits.

    Example:
        >>> import engine
        >>> model = engine.models.resnet20()
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 10)
        >>> sum(p.numel() for p in model.parameters())
        272474

    Follows He et al., https://arxiv.org/abs/1512.03385, section 4.2, with projections for shortcuts (their option B).
    """

    head_names = ("fc",)
    image_size = 32

    def __init__(self, blocks: int, num_classes: int = 10, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        self.conv1 = nn.Conv2d(in_chans, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        channels = 16
        for stage in range(3):
            planes = 16 << stage
            layers: list[nn.Module] = []
            for _ in range(blocks):
                stride, shortcut = 1, None
                if channels != planes:
                    stride = 2
                    shortcut = nn.Sequential(nn.Conv2d(channels, planes, 1, 2, bias=False), nn.BatchNorm2d(planes))
                layers.append(BasicBlock(channels, planes, stride, shortcut))
                channels = planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        init_conv_fan_out(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(nn.run((self.conv1, self.bn1, self.relu), x))))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        return [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["fc"]]


@register_model()
def resnet20(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SmallResNet:
    """Builds ResNet-20 for small images (0.27 M parameters, 82 MFLOP at 32)."""
    return build("resnet20", SmallResNet, weights, progress, blocks=3, **kwargs)


@register_model()
def resnet32(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SmallResNet:
    """Builds ResNet-32 for small images (0.47 M parameters, 139 MFLOP at 32)."""
    return build("resnet32", SmallResNet, weights, progress, blocks=5, **kwargs)


@register_model()
def resnet44(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SmallResNet:
    """Builds ResNet-44 for small images (0.66 M parameters, 195 MFLOP at 32)."""
    return build("resnet44", SmallResNet, weights, progress, blocks=7, **kwargs)


@register_model()
def resnet56(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> SmallResNet:
    """Builds ResNet-56 for small images (0.86 M parameters, 252 MFLOP at 32)."""
    return build("resnet56", SmallResNet, weights, progress, blocks=9, **kwargs)
