"""Building blocks that several families share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine import functional as F, init, nn
from engine.tensor import Tensor, tensor

__all__ = [
    "RELU",
    "BasicConv2d",
    "ConvNormActivation",
    "LayerNorm2d",
    "SqueezeExcitation",
    "from_tokens",
    "imagenet_to_inception",
    "init_conv_fan_out",
    "init_linear_normal",
    "make_divisible",
    "to_tokens",
    "zero_bias",
]

Factory = Callable[..., nn.Module]

# Where a family's module tree has no activation of its own.
RELU = nn.ReLU()


class ConvNormActivation(nn.Sequential):
    """Convolution, normalisation, activation: "0", "1" and "2" of a sequence, without those that are None.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: step of the kernel, in pixels.
        padding: pixels added on each side; by default as many as keep the size at stride 1.
        groups: independent convolutions.
        norm_layer: called with the number of channels; None for no normalisation.
        activation_layer: called without arguments; None for no activation.
        dilation: distance between the kernel's taps, in pixels.
        bias: whether the convolution has a bias; by default if nothing normalises.

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, OH, OW) as of Conv2d.

    Example:
        >>> import engine
        >>> block = ConvNormActivation(3, 8, stride=2)
        >>> block(engine.zeros(2, 3, 16, 16)).shape
        (2, 8, 8, 8)

    Follows torchvision.ops.Conv2dNormActivation.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm_layer: Factory | None = nn.BatchNorm2d,
        activation_layer: Factory | None = nn.ReLU,
        dilation: int = 1,
        bias: bool | None = None,
    ) -> None:
        if padding is None:
            padding = (kernel_size - 1) // 2 * dilation
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel_size,
                stride,
                padding,
                dilation,
                groups,
                bias=norm_layer is None if bias is None else bias,
            )
        ]
        if norm_layer is not None:
            layers.append(norm_layer(out_channels))
        if activation_layer is not None:
            layers.append(activation_layer())
        super().__init__(*layers)
        self.out_channels = out_channels


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor that a small network makes of the channels' means.

    Args:
        input_channels: channels of the input.
        squeeze_channels: channels inside.
        activation: called without arguments, behind the first layer.
        scale_activation: called without arguments, makes the factors.

    Shape:
        Input (N, input_channels, H, W), output the same.

    Example:
        >>> import engine
        >>> SqueezeExcitation(16, 4)(engine.zeros(2, 16, 5, 5)).shape
        (2, 16, 5, 5)

    Follows torchvision.ops.SqueezeExcitation; Hu et al., https://arxiv.org/abs/1709.01507.
    """

    def __init__(
        self,
        input_channels: int,
        squeeze_channels: int,
        activation: Factory = nn.ReLU,
        scale_activation: Factory = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def forward(self, input: Tensor) -> Tensor:
        scale = nn.run((self.avgpool, self.fc1, self.activation, self.fc2, self.scale_activation), input)
        return input * scale


def to_tokens(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H * W, C), without a copy: pixels are stored with their channels side by side."""
    n, c, h, w = x.shape
    return x.permute(0, 2, 3, 1).reshape(n, h * w, c)


def from_tokens(x: Tensor, height: int, width: int) -> Tensor:
    """(N, H * W, C) as (N, C, H, W), without a copy."""
    n, _, c = x.shape
    return x.reshape(n, height, width, c).permute(0, 3, 1, 2)


class LayerNorm2d(nn.LayerNorm):
    """Normalises the channels of each pixel.

    Args:
        num_channels: number of channels C.
        eps: added to the variance.

    Shape:
        Input (N, C, H, W), output the same.

    Example:
        >>> import engine
        >>> LayerNorm2d(4)(engine.zeros(2, 4, 3, 3)).shape
        (2, 4, 3, 3)

    Follows torchvision.models.convnext.LayerNorm2d; Liu et al., https://arxiv.org/abs/2201.03545.
    """

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps)

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[2:]
        tokens = F.layer_norm(to_tokens(input), self.normalized_shape, self.weight, self.bias, self.eps)
        return from_tokens(tokens, height, width)


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of divisor that is nearest to value, but never less than 90 % of it.

    Example:
        >>> make_divisible(12.9), make_divisible(19), make_divisible(3)
        (16, 24, 8)

    Follows Howard et al., https://arxiv.org/abs/1905.02244, and the code its authors published.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def init_conv_fan_out(module: nn.Module) -> bool:
    """The initialisation that most families share: He's for convolutions, 1 and 0 for norms.

    Args:
        module: any layer.

    Returns:
        Whether it was one of these.
    """
    if isinstance(module, nn.Conv2d):
        init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        zero_bias(module)
        return True
    return isinstance(module, (nn.BatchNorm2d, nn.GroupNorm))  # they begin with 1 and 0


def init_linear_normal(module: nn.Module, std: float = 0.01) -> None:
    """Draws the weight of a fully connected layer from N(0, std^2), without bias; leaves other layers."""
    if isinstance(module, nn.Linear):
        init.normal_(module.weight, 0.0, std)
        zero_bias(module)


def zero_bias(module: Any) -> None:
    """Sets the bias of a layer to zero, if it has one."""
    if module.bias is not None:
        init.zeros_(module.bias)


class BasicConv2d(nn.Chain):
    """The convolution of the Inception family: without bias, then a batch norm, then ReLU; attributes conv and bn.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the kernel.
        stride: step of the kernel, in pixels.
        padding: pixels added on each side, (height, width).

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, OH, OW) as of Conv2d.

    Example:
        >>> import engine
        >>> BasicConv2d(3, 8, 3)(engine.zeros(1, 3, 6, 6)).shape
        (1, 8, 4, 4)

    Follows torchvision.models.inception.BasicConv2d; Szegedy et al., https://arxiv.org/abs/1512.00567.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def steps(self) -> tuple[nn.Module, ...]:
        return self.conv, self.bn, RELU


def imagenet_to_inception(x: Tensor) -> Tensor:
    """Images normalised by ImageNet's means and deviations as images normalised to [-1, 1].

    Args:
        x: images (N, 3, H, W).

    Example:
        >>> import engine
        >>> black = (engine.zeros(3) - engine.tensor([0.485, 0.456, 0.406])) / engine.tensor([0.229, 0.224, 0.225])
        >>> imagenet_to_inception(black.reshape(1, 3, 1, 1)).flatten()
        tensor([-1., -1., -1.])
    """
    scale = tensor([0.229 / 0.5, 0.224 / 0.5, 0.225 / 0.5]).reshape(1, 3, 1, 1)
    shift = tensor([(0.485 - 0.5) / 0.5, (0.456 - 0.5) / 0.5, (0.406 - 0.5) / 0.5]).reshape(1, 3, 1, 1)
    return x * scale + shift
