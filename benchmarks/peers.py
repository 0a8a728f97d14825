"""The same layer on the engine and on each peer.

Every runner turns (layer, batch, pass) into a call without arguments that computes it once, or says with None that it
has no such operation. Inputs are the same numbers for all; they lie in each runner's own best format before the clock
starts. Passes: `forward`, `backward_data` (of batch norm: all its gradients) and `backward_weight`.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
from shapes import Layer

PASSES = ("forward", "backward_data", "backward_weight")
Call = Callable[[], Any]
Convolution = Callable[[Any], Any]  # of an input, with the weight of one layer


class Problem:
    """The numbers of one layer at one batch size, made on demand and the same for every runner."""

    def __init__(self, layer: Layer, batch: int) -> None:
        self.layer, self.batch = layer, batch
        self.random = np.random.default_rng(0)
        if layer.kind == "linear":
            self.x_shape: tuple[int, ...] = (batch, layer.ic)
            self.y_shape: tuple[int, ...] = (batch, layer.oc)
            self.w_shape: tuple[int, ...] = (layer.oc, layer.ic)
        else:
            self.x_shape = (batch, layer.ic, layer.h, layer.w)
            self.y_shape = (batch, layer.oc, layer.oh, layer.ow)
            self.w_shape = (layer.oc, layer.ic // layer.groups, *layer.kernel)
        self.x, self.dy = self.normal(self.x_shape), self.normal(self.y_shape)
        scale = float(np.prod(self.w_shape[1:])) ** -0.5
        self.w = self.normal(self.w_shape) * np.float32(scale) if layer.has_weight else None
        self.scale, self.shift = self.normal((layer.oc,)), self.normal((layer.oc,))

    def normal(self, shape: tuple[int, ...]) -> np.ndarray:
        return self.random.standard_normal(shape, dtype=np.float32)


class Engine:
    """The backend functions, without tape and layers: what a layer costs, not what Python adds."""

    name = "engine"

    @staticmethod
    def available() -> bool:
        return importlib.util.find_spec("engine") is not None

    def __init__(self, threads: int) -> None:
        from engine import backend

        self.backend = backend
        backend.set_num_threads(threads)

    def array(self, values: np.ndarray | None) -> Any:
        """A copy in the engine's own layout."""
        return None if values is None else self.backend.copy(self.backend.contiguous(self.backend.from_numpy(values)))

    def algorithm(self, problem: Problem, which: str) -> str:
        """What a convolution is computed with, or nothing for another layer."""
        layer = problem.layer
        if layer.kind != "conv":
            return ""
        (top, left) = layer.padding
        geometry = (layer.stride, (top, top, left, left), layer.dilation, layer.groups)
        choices = self.backend.conv2d_algorithms(problem.x_shape, problem.w_shape, *geometry, direction=which)
        return next(name for name, declined in choices if not declined)

    def to_numpy(self, result: Any) -> np.ndarray:
        return np.asarray(self.backend.to_numpy(result[0] if isinstance(result, tuple | list) else result))

    def convolution(self, problem: Problem) -> Convolution:
        layer, w, convolve = problem.layer, self.array(problem.w), self.backend.conv2d
        (top, left) = layer.padding
        geometry = (layer.stride, (top, top, left, left), layer.dilation, layer.groups)
        return lambda x: convolve(x, w, None, *geometry)

    def prepare(self, problem: Problem, which: str) -> Call | None:
        b, layer = self.backend, problem.layer
        x, w, dy = self.array(problem.x), self.array(problem.w), self.array(problem.dy)
        (top, left) = layer.padding
        four = (top, top, left, left)
        if layer.kind == "conv":
            geometry = (layer.stride, four, layer.dilation, layer.groups)
            if which == "forward":
                return functools.partial(self.convolution(problem), x)
            if which == "backward_data":
                return lambda: b.conv2d_backward_data(dy, w, problem.x_shape, *geometry)
            return lambda: b.conv2d_backward_weight(dy, x, problem.w_shape, *geometry, False)
        if layer.kind == "linear":
            if which == "forward":
                return lambda: b.linear(x, w, None)
            if which == "backward_data":
                return lambda: b.linear_backward_data(dy, w)
            return lambda: b.linear_backward_weight(dy, x, False)
        if which == "backward_weight":
            return None
        if layer.kind == "maxpool":
            one = (1, 1)
            if which == "forward":
                return lambda: b.max_pool2d(x, layer.kernel, layer.stride, layer.padding, one, False)
            indices = b.max_pool2d(x, layer.kernel, layer.stride, layer.padding, one, False)[1]
            return lambda: b.max_pool2d_backward(dy, indices, problem.x_shape)
        if layer.kind == "avgpool":
            window = (layer.kernel, layer.stride, layer.padding, False, True, 0)
            if which == "forward":
                return lambda: b.avg_pool2d(x, *window)
            return lambda: b.avg_pool2d_backward(dy, problem.x_shape, *window)
        scale, shift = self.array(problem.scale), self.array(problem.shift)
        if which == "forward":
            return lambda: b.batch_norm(x, scale, shift, None, None, True, 0.1, 1e-5)
        _, mean, invstd, _ = b.batch_norm(x, scale, shift, None, None, True, 0.1, 1e-5)
        return lambda: b.batch_norm_backward(dy, x, scale, mean, invstd, True)


class EngineDirect(Engine):
    """The convolutions without Winograd's form, as `engine.set_conv_algorithm("direct")` makes them."""

    name = "engine_direct"

    def prepare(self, problem: Problem, which: str) -> Call | None:
        call = super().prepare(problem, which)
        if call is None or problem.layer.kind != "conv":
            return None
        return functools.partial(self.direct, call)

    def direct(self, call: Call) -> Any:
        self.backend.set_conv_policy("direct")
        try:
            return call()
        finally:
            self.backend.set_conv_policy("auto")


class Torch:
    """PyTorch eager in channels_last, its better format for convolutions; weights are reordered at each call."""

    name = "torch"
    channels_last = True

    @staticmethod
    def available() -> bool:
        return importlib.util.find_spec("torch") is not None

    def __init__(self, threads: int) -> None:
        import torch

        self.torch = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)

    def array(self, values: np.ndarray | None) -> Any:
        if values is None:
            return None
        tensor = self.torch.from_numpy(values).clone()
        if self.channels_last and values.ndim == 4:
            tensor = tensor.contiguous(memory_format=self.torch.channels_last)
        return tensor

    def to_numpy(self, result: Any) -> np.ndarray:
        if isinstance(result, tuple | list):
            result = next(part for part in result if part is not None)
        return np.asarray(result.numpy())

    def convolution(self, problem: Problem) -> Convolution:
        layer, w, convolve = problem.layer, self.array(problem.w), self.torch.nn.functional.conv2d
        geometry = (layer.stride, layer.padding, layer.dilation, layer.groups)
        return lambda x: convolve(x, w, None, *geometry)

    def prepare(self, problem: Problem, which: str) -> Call | None:
        torch, layer = self.torch, problem.layer
        aten, f = torch.ops.aten, torch.nn.functional
        x, w, dy = self.array(problem.x), self.array(problem.w), self.array(problem.dy)
        if layer.kind == "conv":
            geometry = (layer.stride, layer.padding, layer.dilation)
            if which == "forward":
                return functools.partial(self.convolution(problem), x)
            mask = [which == "backward_data", which == "backward_weight", False]
            return lambda: aten.convolution_backward(dy, x, w, None, *geometry, False, [0, 0], layer.groups, mask)
        if layer.kind == "linear":
            if which == "forward":
                return lambda: f.linear(x, w)
            if which == "backward_data":
                return lambda: dy.mm(w)
            return lambda: dy.t().mm(x)
        if which == "backward_weight":
            return None
        if layer.kind == "maxpool":
            window = (layer.kernel, layer.stride, layer.padding, (1, 1), False)
            if which == "forward":
                return lambda: aten.max_pool2d_with_indices(x, *window)
            indices = aten.max_pool2d_with_indices(x, *window)[1]
            return lambda: aten.max_pool2d_with_indices_backward(dy, x, *window, indices)
        if layer.kind == "avgpool":
            window = (layer.kernel, layer.stride, layer.padding, False, True, None)
            if which == "forward":
                return lambda: f.avg_pool2d(x, *window)
            return lambda: aten.avg_pool2d_backward(dy, x, *window)
        scale, shift = self.array(problem.scale), self.array(problem.shift)
        if which == "forward":
            return lambda: aten.native_batch_norm(x, scale, shift, None, None, True, 0.1, 1e-5)
        _, mean, invstd = aten.native_batch_norm(x, scale, shift, None, None, True, 0.1, 1e-5)
        masks = [True, True, True]
        return lambda: aten.native_batch_norm_backward(dy, x, scale, None, None, mean, invstd, True, 1e-5, masks)


class TorchNCHW(Torch):
    """PyTorch eager in its default memory format."""

    name = "torch_nchw"
    channels_last = False


class TorchPacked(Torch):
    """oneDNN through PyTorch with the weights packed ahead: the limit of eager PyTorch in inference."""

    name = "torch_packed"

    @staticmethod
    def available() -> bool:
        if not Torch.available():
            return False
        import torch

        return bool(torch.backends.mkldnn.is_available()) and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")

    def convolution(self, problem: Problem) -> Convolution:
        torch, layer = self.torch, problem.layer
        geometry = (list(layer.padding), list(layer.stride), list(layer.dilation), layer.groups)
        w = self.array(problem.w).to_mkldnn()
        packed = torch._C._nn.mkldnn_reorder_conv2d_weight(w, *geometry, list(problem.x_shape))
        convolve = torch.ops.mkldnn._convolution_pointwise
        return lambda x: convolve(x, packed, None, *geometry, "none", [], "")

    def prepare(self, problem: Problem, which: str) -> Call | None:
        if problem.layer.kind != "conv" or which != "forward":
            return None
        return super().prepare(problem, which)


RUNNERS: dict[str, type[Engine] | type[Torch]] = {
    runner.name: runner for runner in (Engine, EngineDirect, Torch, TorchNCHW, TorchPacked)
}
