"""LeNet-5, the first convolutional network in wide use: it read cheques."""

from __future__ import annotations

from typing import Any

from engine import nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.tensor import Tensor

__all__ = ["LeNet5", "lenet5"]


class LeNet5(Model):
    """LeNet-5 with ReLU and max pooling, where 1998 had tanh and averages: 61,706 parameters for ten digits.

    Args:
        num_classes: number of outputs.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, 32, 32), output (N, num_classes): logits.

    Example:
        >>> import engine
        >>> model = engine.models.LeNet5()
        >>> model(engine.zeros(2, 1, 32, 32)).shape
        (2, 10)
        >>> sum(p.numel() for p in model.parameters())
        61706

    Follows LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.
    """

    head_names = ("classifier.4",)
    image_size = 32

    def __init__(self, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__(num_classes)
        self.features = nn.Sequential(
            nn.Conv2d(in_chans, 6, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, num_classes),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        return self.features(x)

    def forward_head(self, x: Tensor) -> Tensor:
        return self.classifier(x.flatten(1))

    def group_names(self) -> list[list[str]]:
        return [["features.0"], ["features.3"], ["classifier.0", "classifier.2"], ["classifier.4"]]


@register_model()
def lenet5(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> LeNet5:
    """Builds LeNet-5 (61,706 parameters, 0.8 MFLOP at 32)."""
    return build("lenet5", LeNet5, weights, progress, **kwargs)
