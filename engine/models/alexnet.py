"""AlexNet, which began the era of deep convolutional networks in 2012."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from engine import nn
from engine.models._model import Model, children_of
from engine.models._registry import build, register_model
from engine.tensor import Tensor

__all__ = ["AlexNet", "alexnet"]

# (channels, kernel, stride, padding, pooled afterwards)
CONVOLUTIONS = (
    (64, 11, 4, 2, True),
    (192, 5, 1, 2, True),
    (384, 3, 1, 1, False),
    (256, 3, 1, 1, False),
    (256, 3, 1, 1, True),
)


class AlexNet(Model):
    """AlexNet in its one-tower form.

    Args:
        num_classes: number of outputs.
        dropout: probability in front of the two hidden layers of the classifier.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 63 (224 by design); output (N, num_classes).

    Example:
        >>> import engine
        >>> with engine.models.skip_init():
        ...     model = engine.models.alexnet(num_classes=2)
        >>> model.features(engine.zeros(1, 3, 64, 64)).shape
        (1, 256, 1, 1)

    Follows torchvision.models.AlexNet; Krizhevsky, https://arxiv.org/abs/1404.5997.
    """

    head_names = ("classifier.6",)

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5, in_chans: int = 3) -> None:
        super().__init__(num_classes)
        layers: list[nn.Module] = []
        for channels, kernel, stride, padding, pooled in CONVOLUTIONS:
            layers += [nn.Conv2d(in_chans, channels, kernel, stride, padding), nn.ReLU()]
            in_chans = channels
            if pooled:
                layers.append(nn.MaxPool2d(3, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 6 * 6, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(x).flatten(1))

    def group_names(self) -> list[list[str]]:
        cuts = (0, 3, 6, 13)
        body = [children_of("features", a, b) for a, b in pairwise(cuts)]
        return [*body, children_of("classifier", 0, 6), ["classifier.6"]]


@register_model()
def alexnet(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> AlexNet:
    """Builds AlexNet (61.1 M parameters, 1.4 GFLOP at 224)."""
    return build("alexnet", AlexNet, weights, progress, **kwargs)
