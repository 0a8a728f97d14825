"""MNASNet: found by a search that measured the latency on a phone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from engine import init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import make_divisible, zero_bias
from engine.tensor import Tensor

__all__ = ["MNASNet", "mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"]

MOMENTUM = 1 - 0.9997  # TensorFlow's decay as PyTorch's momentum
# (kernel, stride of the first block, expansion, channels, blocks)
STACKS = ((3, 2, 3, 24, 3), (5, 2, 3, 40, 3), (5, 2, 6, 80, 3), (3, 1, 6, 96, 2), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, momentum=MOMENTUM)


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; a shortcut if it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        self.apply_residual = inputs == outputs and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, inside, 1, bias=False),
            _norm(inside),
            nn.ReLU(),
            nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside, bias=False),
            _norm(inside),
            nn.ReLU(),
            nn.Conv2d(inside, outputs, 1, bias=False),
            _norm(outputs),
        )

    def forward(self, input: Tensor) -> Tensor:
        return nn.run((self.layers,), input, residual=input if self.apply_residual else None)


def _stem(in_chans: int, first: int, second: int) -> list[nn.Module]:
    """An ordinary and a separable convolution: layers 0 to 7."""
    return [
        nn.Conv2d(in_chans, first, 3, 2, 1, bias=False),
        _norm(first),
        nn.ReLU(),
        nn.Conv2d(first, first, 3, 1, 1, groups=first, bias=False),
        _norm(first),
        nn.ReLU(),
        nn.Conv2d(first, second, 1, bias=False),
        _norm(second),
    ]


def _stack(inputs: int, outputs: int, kernel: int, stride: int, expansion: int, blocks: int) -> nn.Sequential:
    steps = [_InvertedResidual(inputs, outputs, kernel, stride, expansion)]
    steps += [_InvertedResidual(outputs, outputs, kernel, 1, expansion) for _ in range(blocks - 1)]
    return nn.Sequential(*steps)


class MNASNet(Model):
    """MNASNet-B1.

    Args:
        alpha: factor of all widths.
        num_classes: number of outputs.
        dropout: probability in front of the last layer.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), 224 by design; output (N, num_classes).

    Raises:
        ValueError: alpha is not positive.

    Example:
        >>> import engine
        >>> engine.models.mnasnet0_5(num_classes=2)(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.MNASNet; Tan et al., https://arxiv.org/abs/1807.11626.
    """

    head_names = ("classifier.1",)
    #: Of the layout: saved files carry it, and torchvision reads them by it.
    _version = 2

    def __init__(self, alpha: float, num_classes: int = 1000, dropout: float = 0.2, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        if alpha <= 0:
            raise ValueError(f"alpha should be greater than 0.0 instead of {alpha}")
        self.alpha = alpha
        first, channels = make_divisible(32 * alpha), make_divisible(16 * alpha)
        layers = _stem(in_chans, first, channels)
        for kernel, stride, expansion, width, blocks in STACKS:
            outputs = make_divisible(width * alpha)
            layers.append(_stack(channels, outputs, kernel, stride, expansion, blocks))
            channels = outputs
        layers += [nn.Conv2d(channels, 1280, 1, bias=False), _norm(1280), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, mode="fan_out", nonlinearity="sigmoid")
            zero_bias(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layers(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(x.mean((2, 3)))

    def group_names(self) -> list[list[str]]:
        stem = [f"layers.{i}" for i in (0, 1, 3, 4, 6, 7)]
        stages = [[f"layers.{8 + i}"] for i in range(len(STACKS))]
        stages[-1] += ["layers.14", "layers.15"]
        return [stem, *stages, ["classifier"]]

    def convert_state_dict(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes the first version of the stem, 32 and 16 channels whatever alpha is, when the state dict has it."""
        stem, after = state_dict.get("layers.0.weight"), state_dict.get("layers.6.weight")
        is_first_version = stem is not None and after is not None and (stem.shape[0], after.shape[0]) == (32, 16)
        if is_first_version and self.layers[0].weight.shape[0] != 32:
            warnings.warn(
                "[MNASNet] these weights are of the first version, whose stem has 32 and 16 channels whatever alpha "
                "is: the stem is replaced by that one",
                stacklevel=3,
            )
            kernel, stride, expansion, width, blocks = STACKS[0]
            stack = _stack(16, make_divisible(width * self.alpha), kernel, stride, expansion, blocks)
            for i, layer in enumerate([*_stem(self.layers[0].in_channels, 32, 16), stack]):
                self.layers[i] = layer
            self._version = 1
            self.train(self.training)
        return state_dict


@register_model()
def mnasnet0_5(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MNASNet:
    """Builds MNASNet with widths times 0.5 (2.2 M parameters, 0.2 GFLOP at 224)."""
    return build("mnasnet0_5", MNASNet, weights, progress, alpha=0.5, **kwargs)


@register_model()
def mnasnet0_75(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MNASNet:
    """Builds MNASNet with widths times 0.75 (3.2 M parameters, 0.4 GFLOP at 224)."""
    return build("mnasnet0_75", MNASNet, weights, progress, alpha=0.75, **kwargs)


@register_model()
def mnasnet1_0(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MNASNet:
    """Builds MNASNet with widths times 1.0 (4.4 M parameters, 0.6 GFLOP at 224)."""
    return build("mnasnet1_0", MNASNet, weights, progress, alpha=1.0, **kwargs)


@register_model()
def mnasnet1_3(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> MNASNet:
    """Builds MNASNet with widths times 1.3 (6.3 M parameters, 1.1 GFLOP at 224)."""
    return build("mnasnet1_3", MNASNet, weights, progress, alpha=1.3, **kwargs)
