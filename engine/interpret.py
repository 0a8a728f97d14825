"""What a network looks at: activations, first filters, Grad-CAM and saliency.

Everything here receives the model as an argument, runs it in evaluation mode, and leaves it as it was: modes, gradients
and hooks included. Results are NumPy arrays; `engine.plots` draws them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from engine import functional as F
from engine.autograd import enable_grad, no_grad
from engine.tensor import Tensor, from_numpy, tensor

__all__ = ["activations", "first_filters", "grad_cam", "saliency"]


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode, and parameters that collect no gradient; both as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in wanted:
        parameter.requires_grad = False
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad = True
        for module, training in modes:
            module.training = training


def _images(name: str, inputs: Any) -> Tensor:
    """A batch of images as a tensor without history."""
    if isinstance(inputs, Tensor):
        images = inputs.detach()
    else:
        images = from_numpy(np.ascontiguousarray(inputs, np.float32))
    if len(images.shape) != 4 or 0 in images.shape:
        raise ValueError(f"[{name}] expected images of shape (N, C, H, W), got shape {images.shape}")
    return images


def _classes(name: str, outputs: Any, targets: Any) -> np.ndarray:
    """The class to explain for each sample: the given one or the likeliest."""
    if not isinstance(outputs, Tensor) or len(outputs.shape) != 2:
        got = outputs.shape if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"[{name}] expected a model whose outputs are (N, classes), got {got}")
    count, size = outputs.shape
    if targets is None:
        return outputs.detach().numpy().argmax(axis=1).astype(np.int64)
    chosen = np.asarray(targets.detach().numpy() if hasattr(targets, "detach") else targets)
    if chosen.dtype.kind not in "iu" or chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != count):
        raise ValueError(f"[{name}] expected targets to be a class number, or one per image ({count}), got {targets!r}")
    if chosen.size and (chosen.min() < 0 or chosen.max() >= size):
        raise ValueError(f"[{name}] expected targets in 0..{size - 1}, got {chosen.min()} to {chosen.max()}")
    return np.broadcast_to(chosen, (count,)).astype(np.int64)


def _backward(name: str, outputs: Any, targets: Any) -> None:
    """Sends the gradient of each sample's class score back; samples do not mix, since norms are in evaluation mode."""
    chosen = _classes(name, outputs, targets)
    outputs.gather(1, tensor(chosen[:, None])).sum().backward()


def _unit(maps: np.ndarray) -> np.ndarray:
    """Each map scaled so that its highest value is 1; a map of zeros stays."""
    highest = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(highest > 0, highest, 1.0)


def activations(model: Any, inputs: Any, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns what layers put out for a batch.

    Args:
        model: an `engine.nn.Module`.
        inputs: images (N, C, H, W), normalised as the model expects.
        layers: dotted names as in `named_modules`. A layer that runs several times shows its last output.

    Returns:
        An array by name, in the order asked for.

    Raises:
        AttributeError: there is no layer of a name.
        ValueError: when a layer did not run, or put out something else than a tensor.

    Example:
        >>> import engine
        >>> model = engine.models.lenet5()
        >>> maps = activations(model, engine.zeros(1, 1, 32, 32), ["features.0", "features.3"])
        >>> {name: array.shape for name, array in maps.items()}
        {'features.0': (1, 6, 28, 28), 'features.3': (1, 16, 10, 10)}
    """
    images = _images("activations", inputs)
    modules = {name: model.get_submodule(name) for name in layers}
    found: dict[str, Any] = {}
    handles = []
    try:
        for name, module in modules.items():

            def keep(module: Any, args: Any, output: Any, name: str = name) -> None:
                found[name] = output

            handles.append(module.register_forward_hook(keep))
        with _undisturbed(model), no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    for name in modules:
        if not isinstance(found.get(name), Tensor):
            what = f"put out {type(found[name]).__name__}" if name in found else "did not run"
            raise ValueError(f'[activations] expected layer "{name}" to put out a tensor, but it {what}')
    return {name: np.array(found[name].detach().numpy()) for name in modules}


def first_filters(model: Any) -> np.ndarray:
    """Returns the weights (O, I, kh, kw) of the first convolution, which look at pixels and so can be looked at.

    Args:
        model: an `engine.nn.Module`.

    Raises:
        ValueError: when no parameter has four dimensions.

    Example:
        >>> import engine
        >>> first_filters(engine.models.lenet5()).shape
        (6, 1, 5, 5)
    """
    for _, parameter in model.named_parameters():
        if len(parameter.shape) == 4:
            return np.array(parameter.detach().numpy())
    raise ValueError("[first_filters] expected a model with a convolution, but no parameter has four dimensions")


def grad_cam(model: Any, inputs: Any, targets: Any = None, layer: str | None = None) -> np.ndarray:
    """Shows which regions speak for a class: feature maps weighted by the mean gradient of the class score.

    Args:
        model: an `engine.nn.Module` with outputs (N, classes).
        inputs: images (N, C, H, W), normalised as the model expects.
        targets: the class to explain, one for all or one per image; None takes the one each image is given.
        layer: dotted name of the layer whose feature maps are taken; None takes those before the head, which models of
            `engine.models` have. Of a layer that runs several times the last run counts.

    Shape:
        Input (N, C, H, W), result (N, H, W).

    Returns:
        float32 maps of 0 to 1, resized to the images; 0 all over where nothing speaks for the class.

    Raises:
        AttributeError: there is no such layer.
        ValueError: when the layer puts out no feature maps, the score does not depend on it, or it has to be named.

    Example:
        >>> import engine
        >>> heat = grad_cam(engine.models.lenet5(), engine.rand(2, 1, 32, 32))
        >>> heat.shape, bool(heat.min() >= 0 and heat.max() <= 1)
        ((2, 32, 32), True)

    Follows Selvaraju et al., https://arxiv.org/abs/1610.02391.
    """
    images = _images("grad_cam", inputs)
    with _undisturbed(model):
        if layer is None:
            maps = _before_head(model, images, targets)
        else:
            maps = _at_layer(model, images, targets, layer)
    if maps.grad is None:
        raise ValueError(f"[grad_cam] expected the class score to depend on the maps of {layer or 'the body'}")
    weights = maps.grad.numpy().mean(axis=(2, 3), keepdims=True)
    heat = np.maximum((weights * maps.detach().numpy()).sum(axis=1, keepdims=True), 0).astype(np.float32)
    if heat.shape[2:] != images.shape[2:]:
        heat = F.interpolate(from_numpy(heat), size=images.shape[2:], mode="bilinear", align_corners=False).numpy()
    return _unit(heat[:, 0])


def _before_head(model: Any, images: Tensor, targets: Any) -> Tensor:
    if not hasattr(model, "forward_features") or not hasattr(model, "forward_head"):
        names = [name for name, module in model.named_modules() if name and not list(module.children())]
        raise ValueError(
            f"[grad_cam] expected layer, since {type(model).__name__} has no forward_features and forward_head: name "
            f"the last one with feature maps, out of {', '.join(names)}"
        )
    with no_grad():
        maps = model.forward_features(images)
    maps = _as_leaf("forward_features", maps)
    with enable_grad():
        _backward("grad_cam", model.forward_head(maps), targets)
    return maps


def _at_layer(model: Any, images: Tensor, targets: Any, layer: str) -> Tensor:
    """The tape starts at the layer's output, so that nothing below it is recorded or gone back through."""
    seen: list[Tensor] = []

    def cut(module: Any, args: Any, output: Any) -> Tensor:
        seen.append(_as_leaf(layer, output))
        return seen[-1]

    handle = model.get_submodule(layer).register_forward_hook(cut)
    try:
        with enable_grad():
            outputs = model(images)
            if not seen:
                raise ValueError(f'[grad_cam] expected layer "{layer}" to run, but it did not')
            _backward("grad_cam", outputs, targets)
    finally:
        handle.remove()
    return seen[-1]


def _as_leaf(layer: str, maps: Any) -> Tensor:
    if not isinstance(maps, Tensor) or len(maps.shape) != 4:
        got = f"shape {maps.shape}" if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(f'[grad_cam] expected feature maps (N, C, H, W) from layer "{layer}", got {got}')
    return maps.detach().requires_grad_()


def saliency(
    model: Any, inputs: Any, targets: Any = None, samples: int = 1, noise: float = 0.15, seed: int = 0
) -> np.ndarray:
    """Shows which pixels a class score reacts to: the size of its gradient, the largest over the channels.

    Args:
        model: an `engine.nn.Module` with outputs (N, classes).
        inputs: images (N, C, H, W), normalised as the model expects.
        targets: the class to explain, one for all or one per image; None takes the one each image is given.
        samples: more than 1 averages the gradients' sizes over so many noisy copies, for a calmer picture.
        noise: standard deviation of that noise, as a share of each image's range.
        seed: of that noise.

    Shape:
        Input (N, C, H, W), result (N, H, W).

    Returns:
        float32 maps of 0 to 1.

    Raises:
        ValueError: for wrong shapes or targets, or less than one sample.

    Example:
        >>> import engine
        >>> saliency(engine.models.lenet5(), engine.rand(2, 1, 32, 32), targets=3).shape
        (2, 32, 32)

    Follows Simonyan et al., https://arxiv.org/abs/1312.6034; with noise Smilkov et al.,
    https://arxiv.org/abs/1706.03825.
    """
    if samples < 1:
        raise ValueError(f"[saliency] expected at least one sample, got {samples}")
    images = _images("saliency", inputs)
    pixels = images.numpy()
    spread = noise * (pixels.max(axis=(1, 2, 3), keepdims=True) - pixels.min(axis=(1, 2, 3), keepdims=True))
    generator = np.random.default_rng(seed)
    total = np.zeros((len(pixels), *pixels.shape[2:]), np.float64)
    with _undisturbed(model):
        if targets is None:
            with no_grad():
                targets = _classes("saliency", model(images), None)
        for _ in range(samples):
            noisy = pixels + spread * generator.standard_normal(pixels.shape) if samples > 1 else pixels
            leaf = tensor(noisy.astype(np.float32)).requires_grad_()
            with enable_grad():
                _backward("saliency", model(leaf), targets)
            if leaf.grad is None:
                raise ValueError("[saliency] expected the class score to depend on the image")
            total += np.abs(leaf.grad.numpy()).max(axis=1)
    return _unit(total / samples).astype(np.float32)
