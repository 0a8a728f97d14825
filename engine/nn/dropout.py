"""Layers that leave out parts of their input at random while training.

The masks come from the counter-based generator: they depend on the seed and on how many draws came before, not on
the number of threads.
"""

from __future__ import annotations

from engine import functional as F
from engine.nn.module import Module
from engine.tensor import Tensor

__all__ = ["Dropout", "Dropout2d", "StochasticDepth"]


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"[{type(self).__name__}] dropout probability has to be between 0 and 1, but got {p}")
        self.p = p
        self.inplace = inplace

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout):
    """Sets elements to zero with probability p and scales the others by 1 / (1 - p), in training only.

    Args:
        p: probability of an element to be left out.
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (*), output the same.

    Raises:
        ValueError: p is not between 0 and 1.

    Example:
        >>> import engine
        >>> float(engine.nn.Dropout(0.2).eval()(engine.ones(20, 16)).sum())
        320.0

    Follows torch.nn.Dropout; Hinton et al., https://arxiv.org/abs/1207.0580.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)


class Dropout2d(_Dropout):
    """Sets whole channels to zero with probability p and scales the others by 1 / (1 - p), in training only.

    Args:
        p: probability of a channel to be left out.
        inplace: accepted for PyTorch's sake; the input is left as it is.

    Shape:
        Input (N, C, H, W), output the same.

    Raises:
        ValueError: p is not between 0 and 1.

    Example:
        >>> import engine
        >>> engine.nn.Dropout2d(0.2)(engine.zeros(20, 16, 32, 32)).shape
        (20, 16, 32, 32)

    Follows torch.nn.Dropout2d; Tompson et al., https://arxiv.org/abs/1411.4280.
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training)


class StochasticDepth(Module):
    """Drops a residual branch with probability p and scales it by 1 / (1 - p) otherwise, in training only.

    Args:
        p: probability of the branch to be left out.
        mode: "row" draws for each sample, "batch" once for all.

    Shape:
        Input (N, *), output the same.

    Raises:
        ValueError: p is not between 0 and 1, or mode is unknown.

    Example:
        >>> import engine
        >>> engine.nn.StochasticDepth(0.2, "row")(engine.zeros(8, 16, 4, 4)).shape
        (8, 16, 4, 4)

    Follows torchvision.ops.StochasticDepth; Huang et al., https://arxiv.org/abs/1603.09382.
    """

    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"[StochasticDepth] drop probability has to be between 0 and 1, but got {p}")
        if mode not in ("batch", "row"):
            raise ValueError(f"[StochasticDepth] mode has to be either 'batch' or 'row', but got {mode!r}")
        self.p = p
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        return F.stochastic_depth(input, self.p, self.mode, self.training)

    def __repr__(self) -> str:
        return f"{self._get_name()}(p={self.p}, mode={self.mode})"
