"""Inception v3: branches whose large kernels are taken apart into small and one-dimensional ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from engine import functional as F, init, nn
from engine.models._model import Model
from engine.models._registry import build, register_model
from engine.models.blocks import BasicConv2d, imagenet_to_inception
from engine.tensor import Tensor

__all__ = ["Inception3", "InceptionOutputs", "inception_v3"]

Kernel = int | tuple[int, int]
# One convolution: name, output channels, kernel, stride; padding keeps the size at stride 1, and is none at stride 2.
Convolution = tuple[str, int, Kernel, int]
# A branch is a chain; a tuple of convolutions at its end stands for several outputs of the same input.
Chain = Sequence[Convolution | tuple[Convolution, ...]]


# Not in the module tree, as in torchvision.
MAX_POOL = nn.MaxPool2d(3, 2)


class InceptionOutputs(NamedTuple):
    """What Inception v3 with an auxiliary classifier returns in training."""

    logits: Tensor
    aux_logits: Tensor | None


def _one(name: str, channels: int, kernel: Kernel = 1, stride: int = 1) -> Convolution:
    return (name, channels, kernel, stride)


class InceptionModule(nn.Module):
    """Chains of convolutions side by side, and a pooling, average of 3x3 at stride 1 or maximum at stride 2.

    Args:
        inputs: channels of the input.
        chains: the branches but for the pooling.
        pool: channels of the 1x1 convolution behind the average pooling; 0 pools the maximum instead, at stride 2.

    Shape:
        Input (N, inputs, H, W); output (N, sum of the branches, H, W), at stride 2 half as high and wide.
    """

    def __init__(self, inputs: int, chains: Sequence[Chain], pool: int = 0) -> None:
        super().__init__()
        self._chains: list[list[tuple[str, ...]]] = []
        self._channels = pool or inputs
        for chain in chains:
            channels = inputs
            names: list[tuple[str, ...]] = []
            for step in chain:
                together: tuple[Any, ...] = step if isinstance(step[0], tuple) else (step,)
                for name, outputs, kernel, stride in together:
                    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
                    padding = (0, 0) if stride == 2 else (height // 2, width // 2)
                    self.add_module(
                        name, BasicConv2d(channels, outputs, (height, width), stride=stride, padding=padding)
                    )
                channels = together[-1][1]
                names.append(tuple(item[0] for item in together))
            self._channels += sum(item[1] for item in together)
            self._chains.append(names)
        if pool:
            self.branch_pool = BasicConv2d(inputs, pool, 1)
        self._averages = pool > 0

    def forward(self, x: Tensor) -> Tensor:
        together = nn.Concatenation(self._channels)
        for *inner, ends in self._chains:
            y = x
            for (name,) in inner:
                y = getattr(self, name)(y)
            for name in ends:
                together.add([getattr(self, name)], y)
        if self._averages:
            together.add([self.branch_pool], F.avg_pool2d(x, 3, 1, 1))
        else:
            together.add([MAX_POOL], x)
        return together.tensor()


def _module_a(inputs: int, pool: int) -> InceptionModule:
    """35x35: 1x1, 5x5, two 3x3."""
    five = [_one("branch5x5_1", 48), _one("branch5x5_2", 64, 5)]
    three = [_one("branch3x3dbl_1", 64), _one("branch3x3dbl_2", 96, 3), _one("branch3x3dbl_3", 96, 3)]
    return InceptionModule(inputs, [[_one("branch1x1", 64)], five, three], pool)


def _module_b(inputs: int) -> InceptionModule:
    """From 35x35 to 17x17."""
    three = [_one("branch3x3dbl_1", 64), _one("branch3x3dbl_2", 96, 3), _one("branch3x3dbl_3", 96, 3, 2)]
    return InceptionModule(inputs, [[_one("branch3x3", 384, 3, 2)], three])


def _module_c(inputs: int, width: int) -> InceptionModule:
    """17x17: 7x7 kernels as rows and columns."""
    row, column = (1, 7), (7, 1)
    once = [_one("branch7x7_1", width), _one("branch7x7_2", width, row), _one("branch7x7_3", 192, column)]
    sizes: list[tuple[int, Kernel]] = [(width, 1), (width, column), (width, row), (width, column), (192, row)]
    twice = [_one(f"branch7x7dbl_{i}", channels, kernel) for i, (channels, kernel) in enumerate(sizes, 1)]
    return InceptionModule(inputs, [[_one("branch1x1", 192)], once, twice], 192)


def _module_d(inputs: int) -> InceptionModule:
    """From 17x17 to 8x8."""
    three = [_one("branch3x3_1", 192), _one("branch3x3_2", 320, 3, 2)]
    seven = [_one("branch7x7x3_1", 192), _one("branch7x7x3_2", 192, (1, 7)), _one("branch7x7x3_3", 192, (7, 1))]
    return InceptionModule(inputs, [three, [*seven, _one("branch7x7x3_4", 192, 3, 2)]])


def _module_e(inputs: int) -> InceptionModule:
    """8x8: 3x3 kernels as a row and a column side by side."""
    row, column = (1, 3), (3, 1)
    once: Chain = [_one("branch3x3_1", 384), (_one("branch3x3_2a", 384, row), _one("branch3x3_2b", 384, column))]
    twice: Chain = [
        _one("branch3x3dbl_1", 448),
        _one("branch3x3dbl_2", 384, 3),
        (_one("branch3x3dbl_3a", 384, row), _one("branch3x3dbl_3b", 384, column)),
    ]
    return InceptionModule(inputs, [[_one("branch1x1", 320)], once, twice], 192)


class InceptionAux(nn.Module):
    """A classifier on the 17x17 features, which brings gradients to the lower layers in training."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(inputs, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(self.conv0(F.avg_pool2d(x, 5, 3)))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Inception3(Model):
    """Inception v3.

    Args:
        num_classes: number of outputs.
        aux_logits: whether it has the auxiliary classifier that helps training.
        transform_input: whether it takes images normalised as usual (mean 0.485, ...; standard deviation 0.229, ...)
            and normalises them to [-1, 1] itself, as the published weights want; None: if there are three channels.
        init_weights: whether the authors' initialisation replaces that of the layers.
        dropout: probability in front of the last layer.
        in_chans: channels of the input.

    Shape:
        Input (N, in_chans, H, W), H and W at least 75 (299 by design; about that in training with aux_logits); output
        (N, num_classes), in training with aux_logits an InceptionOutputs of two such tensors.

    Raises:
        ValueError: transform_input with other than three channels.

    Example:
        >>> import engine
        >>> with engine.models.skip_init():
        ...     model = engine.models.inception_v3(num_classes=2, aux_logits=False)
        >>> model(engine.zeros(2, 3, 75, 75)).shape
        (2, 2)

    Follows torchvision.models.Inception3; Szegedy et al., https://arxiv.org/abs/1512.00567.
    """

    head_names = ("fc", "AuxLogits.fc")
    auxiliary_names = ("AuxLogits",)
    image_size = 299

    def __init__(
        self,
        num_classes: int = 1000,
        aux_logits: bool = True,
        transform_input: bool | None = False,
        init_weights: bool = True,
        dropout: float = 0.5,
        in_chans: int = 3,
    ) -> None:
        super().__init__(num_classes)
        if transform_input and in_chans != 3:
            raise ValueError(f"[Inception3] transform_input needs 3 channels, got in_chans={in_chans}")
        self.aux_logits = aux_logits
        self.transform_input = in_chans == 3 if transform_input is None else transform_input
        self.Conv2d_1a_3x3 = BasicConv2d(in_chans, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = _module_a(192, 32)
        self.Mixed_5c = _module_a(256, 64)
        self.Mixed_5d = _module_a(288, 64)
        self.Mixed_6a = _module_b(288)
        self.Mixed_6b = _module_c(768, 128)
        self.Mixed_6c = _module_c(768, 160)
        self.Mixed_6d = _module_c(768, 160)
        self.Mixed_6e = _module_c(768, 192)
        self.AuxLogits = InceptionAux(768, num_classes) if aux_logits else None
        self.Mixed_7a = _module_d(768)
        self.Mixed_7b = _module_e(1280)
        self.Mixed_7c = _module_e(2048)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)
        if init_weights:
            self.initialize()

    @staticmethod
    def init_module(module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.trunc_normal_(module.weight, 0.0, 0.1, -2, 2)

    def init_head(self, name: str, head: nn.Module) -> None:
        init.trunc_normal_(head.weight, 0.0, 0.1 if name == "fc" else 0.001, -2, 2)

    def _body(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The last features and those that the auxiliary classifier sees."""
        if self.transform_input:
            x = imagenet_to_inception(x)
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle))), middle

    def forward_features(self, x: Tensor) -> Tensor:
        return self._body(x)[0]

    def forward_head(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.avgpool(x)).flatten(1))

    def forward(self, x: Tensor) -> Tensor | InceptionOutputs:
        features, middle = self._body(x)
        logits = self.forward_head(features)
        if not (self.training and self.aux_logits) or self.AuxLogits is None:
            return logits
        return InceptionOutputs(logits, self.AuxLogits(middle))

    def group_names(self) -> list[list[str]]:
        return [
            ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"],
            ["Conv2d_3b_1x1", "Conv2d_4a_3x3"],
            ["Mixed_5b", "Mixed_5c", "Mixed_5d"],
            ["Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"],
            ["Mixed_7a", "Mixed_7b", "Mixed_7c"],
            ["AuxLogits", "fc"],
        ]


@register_model()
def inception_v3(*, weights: Any = None, progress: bool = True, **kwargs: Any) -> Inception3:
    """Builds Inception v3 (23.8 M parameters, 27.2 M with the auxiliary classifier; 11.4 GFLOP at 299).

    With weights, transform_input is on unless in_chans says otherwise.
    """
    if weights is not None:
        kwargs.setdefault("transform_input", None)
    return build("inception_v3", Inception3, weights, progress, **kwargs)
