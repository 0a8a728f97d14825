"""GoogLeNet (Inception v1): four branches of different kernels side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine import functional as F, init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import RELU, BasicConv2d, imagenet_to_inception
from engine.tensor import Tensor

__all__ = ["GoogLeNet", "GoogLeNetOutputs", "googlenet"]

# Channels: input; 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5; behind the pooling.
MODULES = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


class GoogLeNetOutputs(NamedTuple):
    """What GoogLeNet with auxiliary classifiers returns in training."""

    logits: Tensor
    aux_logits2: Tensor | None
    aux_logits1: Tensor | None


class Inception(nn.Module):
    """1x1, 3x3 and "5x5" (which is 3x3 here, as in the published weights) convolutions and a pooling, side by side."""

    def __init__(self, inputs: int, one: int, three_in: int, three: int, five_in: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(inputs, one, 1)
        self.branch2 = nn.Sequential(BasicConv2d(inputs, three_in, 1), BasicConv2d(three_in, three, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(inputs, five_in, 1), BasicConv2d(five_in, five, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), BasicConv2d(inputs, pool, 1))
        self._channels = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        together = nn.Concatenation(self._channels)
        for branch in (self.branch1, self.branch2, self.branch3, self.branch4):
            together.add([branch], x)
        return together.tensor()


class InceptionAux(nn.Module):
    """A classifier on features from half-way, which brings gradients to the lower layers in training."""

    def __init__(self, inputs: int, num_classes: int, dropout: float = 0.7) -> None:
        super().__init__()
        self.conv = BasicConv2d(inputs, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.adaptive_avg_pool2d(x, (4, 4))).flatten(1)
        return nn.run((self.fc1, RELU, self.dropout, self.fc2), x)


class GoogLeNet(Model):
    """GoogLeNet with batch normalisation.

    Args:
        num_classes: number of outputs.
        aux_logits: whether it has the two auxiliary classifiers that help training.
        transform_input: whether it takes images normalised as usual (mean 0.485, ...; standard deviation 0.229, ...)
            and normalises them to [-1, 1] itself, as the published weights want; None: if there are three channels.
        init_weights: whether the authors' initialisation replaces that of the layers.
        dropout: probability in front of the last layer.
        dropout_aux: probability in the auxiliary classifiers.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 15 (224 by design); output (N, num_classes), in training with
        aux_logits a GoogLeNetOutputs of three such tensors.

    Raises:
        ValueError: transform_input with other than three channels.

    Example:
        >>> import engine
        >>> model = engine.models.googlenet(num_classes=2, aux_logits=False)
        >>> model(engine.zeros(2, 3, 32, 32)).shape
        (2, 2)

    Follows torchvision.models.GoogLeNet; Szegedy et al., https://arxiv.org/abs/1409.4842.
    """

    head_names = ("fc", "aux1.fc2", "aux2.fc2")
    auxiliary_names = ("aux1", "aux2")

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool | None = False,
        init_weights: bool = True,
        dropout: float = 0.2,
        dropout_aux: float = 0.7,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if transform_input and in_chans != 3:
            raise ValueError(f"[GoogLeNet] transform_input needs 3 channels, got in_chans={in_chans}")
        self.aux_logits = aux_logits
        self.transform_input = in_chans == 3 if transform_input is None else transform_input
        self.conv1 = BasicConv2d(in_chans, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        for name, sizes in MODULES.items():
            if name == "4a":
                self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
            if name == "5a":
                self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
            self.add_module(f"inception{name}", Inception(*sizes))
        self.aux1 = InceptionAux(512, num_classes, dropout_aux) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes, dropout_aux) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        if init_weights:
            self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.trunc_normal_(module.weight, 0.0, 0.01, -2, 2)

    def _body(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The last features and those that the auxiliary classifiers see."""
        if self.transform_input:
            x = imagenet_to_inception(x)
        x = self.maxpool2(self.conv3(self.conv2(self.maxpool1(self.conv1(x)))))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = x = self.inception4a(x)
        second = x = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        return self.inception5b(self.inception5a(x)), first, second

    def forward_features(self, x: Tensor) -> Tensor:
        return self._body(x)[0]

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.avgpool(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor | GoogLeNetOutputs:
        features, first, second = self._body(x)
        logits = self.forward_head(features)
        if not (self.training and self.aux_logits) or self.aux1 is None or self.aux2 is None:
            return logits
        return GoogLeNetOutputs(logits, self.aux2(second), self.aux1(first))

    def group_names(self) -> list[list[str]]:
        stages = [[f"inception{name}" for name in MODULES if name[0] == stage] for stage in "345"]
        return [["conv1"], ["conv2", "conv3"], *stages, ["aux1", "aux2", "fc"]]


@register_model()
def googlenet(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> GoogLeNet:
    """Builds GoogLeNet (6.6 M parameters, 13.0 M with auxiliary classifiers; 3.0 GFLOP at 224).

    With weights, transform_input is on and there are no auxiliary classifiers unless asked for: the published ones are
    not trained.
    """
    if weights is not None:
        kwargs.setdefault("transform_input", None)
        kwargs.setdefault("aux_logits", False)
    return build("googlenet", GoogLeNet, weights, progress, **kwargs)
