"""What all models have beyond a module: a head that can be exchanged, layer groups, freezing, a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from engine import nn
from engine.nn.module import IncompatibleKeys
from engine.tensor import Tensor

if TYPE_CHECKING:
    from engine.models.summary import Summary

__all__ = ["Model"]

M = TypeVar("M", bound="Model")
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm2d)  # those with running statistics


class Model(nn.Module):
    """Base class of the models: an image in, one logit per class out.

    A subclass sets num_classes, builds its layers, calls `initialize`, and defines `forward_features`, `forward_head`,
    `layer_groups`, `head_names` and, if it has an initialisation of its own, `init_module`.

    Example:
        >>> import engine
        >>> model = engine.models.squeezenet1_1(num_classes=5)
        >>> model.forward_features(engine.zeros(1, 3, 64, 64)).shape
        (1, 512, 3, 3)
        >>> model.reset_classifier(2)
        >>> model(engine.zeros(1, 3, 64, 64)).shape
        (1, 2)
    """

    #: Dotted names of the layers whose outputs are classes, the main one first.
    head_names: ClassVar[tuple[str, ...]] = ()
    #: Parts that only serve training and that a file may or may not have.
    auxiliary_names: ClassVar[tuple[str, ...]] = ()
    #: Height and width that the model was designed for.
    image_size: ClassVar[int] = 224

    num_classes: int

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"[{type(self).__name__}] expected num_classes >= 1, got {num_classes}")
        self.num_classes = num_classes
        self._frozen = 0  # so many layer groups, from the stem
        self._head_inputs: dict[str, tuple[type, int]] = {}  # of heads that were taken away

    # ---- forward

    def forward_features(self, x: Tensor) -> Tensor:
        """Returns the last feature map, before pooling and classification.

        Args:
            x: images (N, in_chans, H, W).
        """
        raise NotImplementedError

    def forward_head(self, x: Tensor) -> Tensor:
        """Returns the logits of a feature map.

        Args:
            x: what `forward_features` returned.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Any:
        return self.forward_head(self.forward_features(x))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._frozen and self.training:  # train() of a part of this model may have switched frozen norms on
            self._hold_norms()
        return super().__call__(*args, **kwargs)

    # ---- initial values

    @staticmethod
    def init_module(module: nn.Module) -> None:
        """Draws the initial values of one layer; layers have those of torch.nn already."""

    def init_head(self, name: str, head: nn.Module) -> None:
        """Draws the initial values of a head.

        Args:
            name: one of `head_names`.
            head: the layer.
        """
        self.init_module(head)

    def initialize(self) -> None:
        """Draws the initial values of the whole model."""
        for module in self.modules():
            self.init_module(module)
        for name in self.head_names:
            if self._has(name):
                self.init_head(name, self.get_submodule(name))

    # ---- state

    def convert_state_dict(self, state_dict: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns a state dict under this model's names, when it has those of an older version or another library."""
        return state_dict

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> IncompatibleKeys:
        if isinstance(state_dict, Mapping):
            state_dict = self.convert_state_dict(state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    # ---- the head

    def get_classifier(self) -> nn.Module:
        """Returns the layer whose outputs are the classes (nn.Identity after `reset_classifier(0)`).

        Example:
            >>> import engine
            >>> engine.models.lenet5().get_classifier()
            Linear(in_features=84, out_features=10, bias=True)

        Follows timm.
        """
        return self.get_submodule(self.head_names[0])

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the head, those of auxiliary classifiers included, by a new one; optimizers must be made anew.

        Args:
            num_classes: number of outputs; 0 takes the head away, the model then returns the features before it.

        Raises:
            ValueError: num_classes is negative.

        Example:
            >>> import engine
            >>> model = engine.models.lenet5()
            >>> model.reset_classifier(3)
            >>> model(engine.zeros(2, 1, 32, 32)).shape
            (2, 3)
            >>> model.reset_classifier(0)
            >>> model(engine.zeros(2, 1, 32, 32)).shape
            (2, 84)

        Follows timm.
        """
        if num_classes < 0:
            raise ValueError(f"[{type(self).__name__}] expected num_classes >= 0, got {num_classes}")
        for name in self.head_names:
            if not self._has(name):  # an auxiliary classifier
                continue
            path, _, attribute = name.rpartition(".")
            parent = self.get_submodule(path)
            old = getattr(parent, attribute)
            if isinstance(old, nn.Linear):
                self._head_inputs[name] = (nn.Linear, old.in_features)
            elif isinstance(old, nn.Conv2d):
                self._head_inputs[name] = (nn.Conv2d, old.in_channels)
            elif name not in self._head_inputs:
                raise ValueError(f"[{type(self).__name__}] {name} is no layer with outputs: {old!r}")
            kind, inputs = self._head_inputs[name]
            head: nn.Module = nn.Identity()
            if num_classes:
                head = kind(inputs, num_classes, 1) if kind is nn.Conv2d else kind(inputs, num_classes)
                self.init_head(name, head)
            head.train(old.training)
            setattr(parent, attribute, head)
        self.num_classes = num_classes

    def first_conv(self) -> tuple[str, nn.Conv2d]:
        """Returns name and module of the convolution that sees the image."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                return name, module
        raise ValueError(f"[{type(self).__name__}] has no convolution")

    # ---- fine-tuning

    def layer_groups(self) -> list[list[nn.Module]]:
        """Returns the layers from stem to head in groups: for gradual unfreezing and learning rates that grow.

        Every parameter is in exactly one group; the last one is the head.

        Example:
            >>> import engine
            >>> model = engine.models.lenet5()
            >>> groups = model.layer_groups()
            >>> len(groups)
            4
            >>> rates = [
            ...     {"params": [p for m in group for p in m.parameters()], "lr": 0.1 * 0.5**depth}
            ...     for depth, group in enumerate(reversed(groups))
            ... ]
            >>> optimizer = engine.optim.SGD(rates, lr=0.1)

        Follows Howard and Ruder, https://arxiv.org/abs/1801.06146.
        """
        return [[self.get_submodule(name) for name in names if self._has(name)] for names in self.group_names()]

    def group_names(self) -> list[list[str]]:
        """Returns the dotted names of the modules in `layer_groups`; auxiliary ones may be missing."""
        raise NotImplementedError

    def _has(self, name: str) -> bool:
        module: Any = self
        for attribute in name.split("."):
            module = getattr(module, attribute, None)
        return isinstance(module, nn.Module)

    def freeze(self: M, up_to: int | str | None = None) -> M:
        """Fixes the first layer groups and leaves the others to be trained.

        A fixed parameter needs no gradient. A fixed batch norm normalises with its running statistics, which no longer
        change, and goes on doing so after `train()`.

        Args:
            up_to: number of groups (negative: counted from the end), or name of a module: all groups up to the one
                that holds it. All but the head by default.

        Returns:
            The model.

        Raises:
            ValueError: there are not so many groups.
            AttributeError: there is no such module.

        Example:
            >>> import engine
            >>> model = engine.models.lenet5().freeze()
            >>> [name for name, p in model.named_parameters() if p.requires_grad]
            ['classifier.4.weight', 'classifier.4.bias']
            >>> model = model.freeze(up_to="features.3")
            >>> [name for name, p in model.named_parameters() if not p.requires_grad]
            ['features.0.weight', 'features.0.bias', 'features.3.weight', 'features.3.bias']
        """
        groups = self.layer_groups()
        if up_to is None:
            count = len(groups) - 1
        elif isinstance(up_to, str):
            wanted = self.get_submodule(up_to)
            holding = [i for i, group in enumerate(groups) for m in group if _overlap(m, wanted)]
            if not holding:
                raise ValueError(f"[{type(self).__name__}] {up_to!r} has no parameters that could be frozen")
            count = max(holding) + 1
        else:
            count = up_to if up_to >= 0 else len(groups) + up_to
            if not 0 <= count <= len(groups):
                raise ValueError(
                    f"[{type(self).__name__}] expected up_to between {-len(groups)} and {len(groups)}, the number of "
                    f"layer groups, got {up_to}"
                )
        for i, group in enumerate(groups):
            for module in group:
                module.requires_grad_(i >= count)
                if i >= count:
                    _set_norms(module, self.training)
        self._frozen = count
        self._hold_norms()
        return self

    def unfreeze(self: M) -> M:
        """Makes all parameters and batch norms learn again.

        Example:
            >>> import engine
            >>> model = engine.models.lenet5().freeze().unfreeze()
            >>> all(p.requires_grad for p in model.parameters())
            True
        """
        return self.freeze(up_to=0)

    def train(self: M, mode: bool = True) -> M:
        """Sets training mode here and below, except for frozen batch norms.

        Args:
            mode: whether to train.
        """
        super().train(mode)
        self._hold_norms()
        return self

    def _hold_norms(self) -> None:
        if self._frozen:
            for group in self.layer_groups()[: self._frozen]:
                for module in group:
                    _set_norms(module, False)

    # ---- summary

    def summary(self, input_size: tuple[int, ...] | None = None, depth: int | None = None) -> Summary:
        """Returns a table of the layers: output shape, parameters, FLOPs, activation memory.

        Args:
            input_size: shape of the input, (N, C, H, W) or (C, H, W); one image of the size that the model was
                designed for by default.
            depth: how many levels of modules to show; all by default.

        Example:
            >>> import engine
            >>> engine.models.lenet5().summary().parameters
            61706
        """
        from engine.models.summary import summarize

        if input_size is None:
            channels = self.first_conv()[1].in_channels
            input_size = (1, channels, self.image_size, self.image_size)
        return summarize(self, input_size, depth)


def _overlap(a: nn.Module, b: nn.Module) -> bool:
    """Whether one module holds the other."""
    return any(m is b for m in a.modules()) or any(m is a for m in b.modules())


def _set_norms(module: nn.Module, training: bool) -> None:
    for inner in module.modules():
        if isinstance(inner, NORMS):
            inner.training = training


def children_of(parent: str, start: int, stop: int) -> list[str]:
    """Dotted names of the children start to stop - 1 of a sequence."""
    return [f"{parent}.{i}" for i in range(start, stop)]
