"""Xception: Inception taken to its end, every convolution separable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine import functional as F, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import init_conv_fan_out
from engine.tensor import Tensor

__all__ = ["SeparableConv2d", "Xception", "xception"]

# Blocks 1 to 12: (inputs, outputs, separable convolutions, stride, ReLU first, widened at the first convolution)
BLOCKS = (
    (64, 128, 2, 2, False, True),
    (128, 256, 2, 2, True, True),
    (256, 728, 2, 2, True, True),
    *8 * ((728, 728, 3, 1, True, True),),
    (728, 1024, 2, 2, True, False),
)


class SeparableConv2d(nn.Module):
    """A depthwise convolution, then a 1x1 convolution, without anything between them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: height and width of the depthwise kernel.
        stride: step of the depthwise kernel, in pixels.
        padding: pixels added on each side.

    Shape:
        Input (N, in_channels, H, W), output (N, out_channels, OH, OW) as of Conv2d.

    Example:
        >>> import engine
        >>> SeparableConv2d(4, 8)(engine.zeros(1, 4, 6, 6)).shape
        (1, 8, 6, 6)

    Follows Chollet, https://arxiv.org/abs/1610.02357.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1, padding: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=False)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.conv1(x))


class _SamePool(nn.MaxPool2d):
    """3x3 maxima at stride 2 with TensorFlow's "same" padding: an even size is padded at its end only."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, input: Tensor) -> Any:
        height, width = input.shape[2:]
        return F.max_pool2d(input, 3, 2, (height % 2, width % 2), ceil_mode=True)


class _Block(nn.Module):
    """Separable convolutions beside a shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        count: int,
        stride: int,
        relu_first: bool,
        widened_first: bool,
        eps: float,
        tensorflow: bool,
    ) -> None:
        super().__init__()
        self.skip = self.skipbn = None
        if inputs != outputs or stride != 1:
            self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(outputs, eps)
        layers: list[nn.Module] = []
        for i in range(count):
            source = inputs if i == 0 or not widened_first else outputs
            target = outputs if i == count - 1 or widened_first else inputs
            layers += [nn.ReLU(), SeparableConv2d(source, target), nn.BatchNorm2d(target, eps)]
        if stride != 1:
            layers.append(_SamePool() if tensorflow else nn.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*layers[0 if relu_first else 1 :])

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.skip is None or self.skipbn is None else nn.run((self.skip, self.skipbn), x)
        return nn.run((self.rep,), x, residual=shortcut)


class Xception(Model):
    """Xception under the names of Cadene's and timm's (`legacy_xception`) weights.

    Args:
        num_classes: number of outputs.
        in_chans: channels of the input.
        drop_rate: probability of dropout in front of the last layer.
        tensorflow: whether norms (eps 0.001) and poolings (padding) are those of the original, for weights of Keras.

    Shape:
        Input (N, in_chans, H, W), 299 by design, normalised to [-1, 1]; output (N, num_classes).

    Example:
        >>> import engine
        >>> with engine.models.skip_init():
        ...     model = engine.models.xception(num_classes=2)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows Chollet, https://arxiv.org/abs/1610.02357, and timm's legacy_xception.
    """

    head_names = ("fc",)
    image_size = 299

    def __init__(
        self, num_classes: int = 1000, in_chans: int = 3, drop_rate: float = 0.0, tensorflow: bool = False
    ) -> None:
        super().__init__(num_classes)
        eps = 0.001 if tensorflow else 1e-5
        self.conv1 = nn.Conv2d(in_chans, 32, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(32, eps)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64, eps)
        for i, block in enumerate(BLOCKS, 1):
            self.add_module(f"block{i}", _Block(*block, eps, tensorflow))
        self.conv3 = SeparableConv2d(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536, eps)
        self.conv4 = SeparableConv2d(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048, eps)
        self.relu = nn.ReLU()
        self.dropout = nn.Dropout(drop_rate)
        self.fc = nn.Linear(2048, num_classes)
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        init_conv_fan_out(module)

    def forward_features(self, x: Tensor) -> Tensor:
        x = nn.run((self.conv1, self.bn1, self.relu, self.conv2, self.bn2, self.relu), x)
        for i in range(1, len(BLOCKS) + 1):
            x = getattr(self, f"block{i}")(x)
        return nn.run((self.conv3, self.bn3, self.relu, self.conv4, self.bn4, self.relu), x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(x.mean((2, 3))))

    def group_names(self) -> list[list[str]]:
        return [
            ["conv1", "bn1", "conv2", "bn2"],
            ["block1", "block2", "block3"],
            [f"block{i}" for i in range(4, 12)],
            ["block12", "conv3", "bn3", "conv4", "bn4"],
            ["fc"],
        ]

    def convert_state_dict(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes last_linear for fc, and 1x1 convolutions that are stored as matrices, as in Cadene's first files."""
        converted = {}
        for key, value in state_dict.items():
            if key.endswith(".pointwise.weight") and len(value.shape) == 2:
                value = value.reshape(*value.shape, 1, 1)
            converted[key.replace("last_linear.", "fc.")] = value
        return converted


@register_model()
def xception(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Xception:
    """Builds Xception (22.9 M parameters, 16.7 GFLOP at 299)."""
    return build("xception", Xception, weights, progress, **kwargs)
