"""LeNet-5, the first convolutional network in wide use: it read cheques."""

from __future__ import annotations

from typing import Any

from engine import nn
from engine.models._registry import register_model
from engine.tensor import Tensor

__all__ = ["LeNet5", "lenet5"]


class LeNet5(nn.Module):
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

    def __init__(self, num_classes: int = 10, in_chans: int = 1) -> None:
        super().__init__()
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

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


@register_model()
def lenet5(**kwargs: Any) -> LeNet5:
    """Builds LeNet-5.

    Args:
        kwargs: arguments of LeNet5.

    Example:
        >>> import engine
        >>> engine.models.lenet5(in_chans=3).features[0]
        Conv2d(3, 6, kernel_size=(5, 5), stride=(1, 1))
    """
    return LeNet5(**kwargs)
