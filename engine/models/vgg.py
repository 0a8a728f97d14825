"""VGG: nothing but 3x3 convolutions, pooling and three fully connected layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine import nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.models.blocks import init_conv_fan_out, init_linear_normal
from engine.tensor import Tensor

__all__ = [
    "VGG",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
]

WIDTHS = (64, 128, 256, 512, 512)  # of the five stages, each of which ends with a pooling


class VGG(Model):
    """VGG with or without batch normalisation.

    Args:
        depths: number of convolutions of the five stages.
        batch_norm: whether each convolution is followed by a batch norm.
        num_classes: number of outputs.
        init_weights: whether the authors' initialisation replaces that of the layers.
        dropout: probability behind the two hidden layers of the classifier.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 32 (224 by design); output (N, num_classes).

    Example:
        >>> import engine
        >>> with engine.models.skip_init():
        ...     model = engine.models.vgg11(num_classes=2)
        >>> model.features(engine.zeros(1, 3, 32, 32)).shape
        (1, 512, 1, 1)

    Follows torchvision.models.VGG; Simonyan and Zisserman, https://arxiv.org/abs/1409.1556.
    """

    head_names = ("classifier.6",)

    def __init__(
        self,
        depths: Sequence[int],
        batch_norm: bool = False,
        num_classes: int = 1000,
        init_weights: bool = True,
        dropout: float = 0.5,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        layers: list[nn.Module] = []
        self._cuts = [0]
        for width, depth in zip(WIDTHS, depths):
            for _ in range(depth):
                layers.append(nn.Conv2d(in_chans, width, 3, padding=1))
                layers += [nn.BatchNorm2d(width), nn.ReLU()] if batch_norm else [nn.ReLU()]
                in_chans = width
            layers.append(nn.MaxPool2d(2))
            self._cuts.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, num_classes),
        )
        if init_weights:
            self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if not init_conv_fan_out(module):
            init_linear_normal(module)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        body = [children_of("features", a, b) for a, b in pairwise(self._cuts)]
        return [*body, children_of("classifier", 0, 6), ["classifier.6"]]

    def convert_state_dict(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Takes timm's names, where the hidden layers of the classifier are convolutions, for torchvision's."""
        names = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}
        if not any(key.startswith("pre_logits.") for key in state_dict):
            return state_dict
        converted: dict[str, Any] = {}
        for key, value in state_dict.items():
            layer, _, kind = key.rpartition(".")
            if layer in names and kind == "weight":
                value = value.reshape(value.shape[0], -1)
            converted[f"{names.get(layer, layer)}.{kind}"] = value
        return converted


def _vgg(name: str, depths: Sequence[int], batch_norm: bool, weights: Any, progress: bool, kwargs: Any) -> VGG:
    return build(name, VGG, weights, progress, depths=depths, batch_norm=batch_norm, **kwargs)


@register_model()
def vgg11(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-11 (132.9 M parameters, 15.2 GFLOP at 224)."""
    return _vgg("vgg11", (1, 1, 2, 2, 2), False, weights, progress, kwargs)


@register_model()
def vgg11_bn(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-11 with batch normalisation (132.9 M parameters, 15.2 GFLOP at 224)."""
    return _vgg("vgg11_bn", (1, 1, 2, 2, 2), True, weights, progress, kwargs)


@register_model()
def vgg13(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-13 (133.0 M parameters, 22.6 GFLOP at 224)."""
    return _vgg("vgg13", (2, 2, 2, 2, 2), False, weights, progress, kwargs)


@register_model()
def vgg13_bn(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-13 with batch normalisation (133.1 M parameters, 22.6 GFLOP at 224)."""
    return _vgg("vgg13_bn", (2, 2, 2, 2, 2), True, weights, progress, kwargs)


@register_model()
def vgg16(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-16 (138.4 M parameters, 30.9 GFLOP at 224)."""
    return _vgg("vgg16", (2, 2, 3, 3, 3), False, weights, progress, kwargs)


@register_model()
def vgg16_bn(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-16 with batch normalisation (138.4 M parameters, 30.9 GFLOP at 224)."""
    return _vgg("vgg16_bn", (2, 2, 3, 3, 3), True, weights, progress, kwargs)


@register_model()
def vgg19(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-19 (143.7 M parameters, 39.3 GFLOP at 224)."""
    return _vgg("vgg19", (2, 2, 4, 4, 4), False, weights, progress, kwargs)


@register_model()
def vgg19_bn(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> VGG:
    """Builds VGG-19 with batch normalisation (143.7 M parameters, 39.3 GFLOP at 224)."""
    return _vgg("vgg19_bn", (2, 2, 4, 4, 4), True, weights, progress, kwargs)
