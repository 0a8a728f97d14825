"""ResNet and its relatives ResNeXt and Wide ResNet: blocks that learn what to add to their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from engine import init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import init_conv_fan_out
from engine.tensor import Tensor

__all__ = [
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "resnet101",
    "resnet152",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext101_32x8d",
    "resnext101_64x4d",
    "resnext50_32x4d",
    "wide_resnet101_2",
    "wide_resnet50_2",
]

Norm = Callable[[int], nn.Module]


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Without bias, since a norm follows, and padded so that stride alone changes the size."""
    return nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups, bias=False)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut.

    Args:
        inplanes: channels of the input.
        planes: channels of the output.
        stride: step of the first convolution, in pixels.
        downsample: what the shortcut does when its size changes; None passes the input on.
        groups: must be 1.
        base_width: must be 64.
        dilation: must be 1.
        norm_layer: called with the number of channels.

    Shape:
        Input (N, inplanes, H, W), output (N, planes, H / stride, W / stride).

    Example:
        >>> import engine
        >>> BasicBlock(8, 8)(engine.zeros(1, 8, 6, 6)).shape
        (1, 8, 6, 6)

    Follows torchvision.models.resnet.BasicBlock; He et al., https://arxiv.org/abs/1512.03385.
    """

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if groups != 1 or base_width != 64:
            raise ValueError("BasicBlock only supports groups=1 and base_width=64")
        if dilation > 1:
            raise NotImplementedError("Dilation > 1 not supported in BasicBlock")
        self.conv1 = _conv(inplanes, planes, 3, stride)
        self.bn1 = norm_layer(planes)
        self.relu = nn.ReLU()
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = norm_layer(planes)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        body = (self.conv1, self.bn1, self.relu, self.conv2, self.bn2)
        return nn.run(body, x, residual=shortcut, activation=self.relu)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, beside a shortcut.

    The stride is that of the 3x3 convolution, which makes it "ResNet v1.5".

    Args:
        inplanes: channels of the input.
        planes: a quarter of the channels of the output.
        stride: step of the 3x3 convolution, in pixels.
        downsample: what the shortcut does when its size changes; None passes the input on.
        groups: of the 3x3 convolution.
        base_width: channels per group of the 3x3 convolution at 64 planes.
        dilation: of the 3x3 convolution.
        norm_layer: called with the number of channels.

    Shape:
        Input (N, inplanes, H, W), output (N, 4 planes, H / stride, W / stride).

    Example:
        >>> import engine
        >>> Bottleneck(16, 4)(engine.zeros(1, 16, 6, 6)).shape
        (1, 16, 6, 6)

    Follows torchvision.models.resnet.Bottleneck; He et al., https://arxiv.org/abs/1512.03385.
    """

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        groups: int = 1,
        base_width: int = 64,
        dilation: int = 1,
        norm_layer: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        width = int(planes * (base_width / 64)) * groups
        self.conv1 = _conv(inplanes, width, 1)
        self.bn1 = norm_layer(width)
        self.conv2 = _conv(width, width, 3, stride, groups, dilation)
        self.bn2 = norm_layer(width)
        self.conv3 = _conv(width, planes * self.expansion, 1)
        self.bn3 = norm_layer(planes * self.expansion)
        self.relu = nn.ReLU()
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        body = (self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu, self.conv3, self.bn3)
        return nn.run(body, x, residual=shortcut, activation=self.relu)


class ResNet(Model):
    """A stem, four stages of residual blocks, one fully connected layer.

    Args:
        block: BasicBlock or Bottleneck.
        layers: number of blocks of the four stages.
        num_classes: number of outputs.
        zero_init_residual: whether each block begins as its shortcut (the last norm's weight is zero).
        groups: of the 3x3 convolutions.
        width_per_group: channels per group in the first stage.
        replace_stride_with_dilation: for each of the last three stages, whether it keeps the resolution and widens its
            kernels instead.
        norm_layer: called with the number of channels.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Raises:
        ValueError: replace_stride_with_dilation has not three elements.

    Example:
        >>> import engine
        >>> model = engine.models.ResNet(BasicBlock, (1, 1, 1, 1), num_classes=2)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.ResNet; He et al., https://arxiv.org/abs/1512.03385; Xie et al.,
    https://arxiv.org/abs/1611.05431; Zagoruyko and Komodakis, https://arxiv.org/abs/1605.07146.
    """

    head_names = ("fc",)

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: Sequence[int],
        num_classes: int = 1000,
        zero_init_residual: bool = False,
        groups: int = 1,
        width_per_group: int = 64,
        replace_stride_with_dilation: Sequence[bool] | None = None,
        norm_layer: Norm | None = None,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        norm = norm_layer or nn.BatchNorm2d
        dilate = (False, False, False) if replace_stride_with_dilation is None else tuple(replace_stride_with_dilation)
        if len(dilate) != 3:
            raise ValueError(
                f"replace_stride_with_dilation should be None or a 3-element tuple, got {replace_stride_with_dilation}"
            )
        self.conv1 = nn.Conv2d(in_chans, 64, 7, 2, 3, bias=False)
        self.bn1 = norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, dilation = 64, 1
        for stage, (count, keep) in enumerate(zip(layers, (False, *dilate))):
            planes, stride, first_dilation = 64 << stage, 1 if stage == 0 else 2, dilation
            if keep:
                dilation, stride = dilation * stride, 1
            blocks: list[nn.Module] = []
            for i in range(count):
                step, outputs, shortcut = stride if i == 0 else 1, planes * block.expansion, None
                if step != 1 or channels != outputs:
                    shortcut = nn.Sequential(_conv(channels, outputs, 1, step), norm(outputs))
                spread = first_dilation if i == 0 else dilation
                blocks.append(block(channels, planes, step, shortcut, groups, width_per_group, spread, norm))
                channels = outputs
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(channels, num_classes)
        self.initialize()
        if zero_init_residual:
            for module in self.modules():
                if isinstance(module, (BasicBlock, Bottleneck)):
                    last: Any = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                    if getattr(last, "weight", None) is not None:
                        init.zeros_(last.weight)

    @staticmethod
    def init_module(module: nn.Module) -> None:
        init_conv_fan_out(module)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.maxpool(nn.run((self.conv1, self.bn1, self.relu), x))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        return [["conv1", "bn1"], ["layer1"], ["layer2"], ["layer3"], ["layer4"], ["fc"]]


def _resnet(
    name: str,
    block: type[BasicBlock] | type[Bottleneck],
    layers: Sequence[int],
    weights: Any,
    progress: bool,
    kwargs: Any,
    **fixed: Any,
) -> ResNet:
    return build(name, ResNet, weights, progress, block=block, layers=layers, **fixed, **kwargs)


@register_model()
def resnet18(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNet-18 (11.7 M parameters, 3.6 GFLOP at 224)."""
    return _resnet("resnet18", BasicBlock, (2, 2, 2, 2), weights, progress, kwargs)


@register_model()
def resnet34(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNet-34 (21.8 M parameters, 7.3 GFLOP at 224)."""
    return _resnet("resnet34", BasicBlock, (3, 4, 6, 3), weights, progress, kwargs)


@register_model()
def resnet50(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNet-50 (25.6 M parameters, 8.2 GFLOP at 224)."""
    return _resnet("resnet50", Bottleneck, (3, 4, 6, 3), weights, progress, kwargs)


@register_model()
def resnet101(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNet-101 (44.5 M parameters, 15.6 GFLOP at 224)."""
    return _resnet("resnet101", Bottleneck, (3, 4, 23, 3), weights, progress, kwargs)


@register_model()
def resnet152(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNet-152 (60.2 M parameters, 23.0 GFLOP at 224)."""
    return _resnet("resnet152", Bottleneck, (3, 8, 36, 3), weights, progress, kwargs)


@register_model()
def resnext50_32x4d(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNeXt-50 32x4d (25.0 M parameters, 8.5 GFLOP at 224)."""
    return _resnet("resnext50_32x4d", Bottleneck, (3, 4, 6, 3), weights, progress, kwargs, groups=32, width_per_group=4)


@register_model()
def resnext101_32x8d(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNeXt-101 32x8d (88.8 M parameters, 32.8 GFLOP at 224)."""
    return _resnet(
        "resnext101_32x8d", Bottleneck, (3, 4, 23, 3), weights, progress, kwargs, groups=32, width_per_group=8
    )


@register_model()
def resnext101_64x4d(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds ResNeXt-101 64x4d (83.5 M parameters, 30.9 GFLOP at 224)."""
    return _resnet(
        "resnext101_64x4d", Bottleneck, (3, 4, 23, 3), weights, progress, kwargs, groups=64, width_per_group=4
    )


@register_model()
def wide_resnet50_2(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds Wide ResNet-50-2 (68.9 M parameters, 22.8 GFLOP at 224)."""
    return _resnet("wide_resnet50_2", Bottleneck, (3, 4, 6, 3), weights, progress, kwargs, width_per_group=128)


@register_model()
def wide_resnet101_2(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> ResNet:
    """Builds Wide ResNet-101-2 (126.9 M parameters, 45.5 GFLOP at 224)."""
    return _resnet("wide_resnet101_2", Bottleneck, (3, 4, 23, 3), weights, progress, kwargs, width_per_group=128)
