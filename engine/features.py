"""Features: what the frozen body of a model makes of a data set, computed once and kept on disk.

While only the head is trained, the body is a fixed function and, without random augmentation, so are its outputs. The
head then trains on stored vectors, thousands of times faster than on images.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np

from engine._version import __version__
from engine.autograd import no_grad
from engine.tensor import Tensor

__all__ = ["Tail", "compute_features", "is_deterministic", "load_or_compute", "split_tail"]

_FORMAT = "engine-features"


class _Reached(Exception):
    """Ends a forward pass where the tail begins."""


class Tail:
    """The end of a model, from the first layer that is trained to the output.

    Attributes:
        modules: called one after the other; `flatten` says whether the output is flattened after them.
    """

    def __init__(self, model: Any, modules: list[Any], flatten: bool) -> None:
        self.model = model
        self.modules = modules
        self.flatten = flatten

    def __call__(self, features: Tensor) -> Tensor:
        for module in self.modules:
            features = module(features)
        return features.flatten(1) if self.flatten else features

    def features_of(self, images: Tensor) -> Tensor:
        """Returns the input of the tail; the model must be in evaluation mode.

        Args:
            images: a batch of the model's inputs.
        """
        reached: list[Tensor] = []

        def hold(module: Any, args: tuple[Any, ...]) -> None:
            reached.append(args[0])
            raise _Reached

        handle = self.modules[0].register_forward_pre_hook(hold, prepend=True)
        try:
            with no_grad():
                self.model(images)
        except _Reached:
            pass
        finally:
            handle.remove()
        return reached[0]


def split_tail(model: Any, images: Tensor) -> Tail | None:
    """Finds the tail of a model whose last layer group is trained and whose other groups are frozen.

    Args:
        model: an `engine.models.Model`, in evaluation mode.
        images: a small batch to run it on.

    Returns:
        The tail, or None where the model's end is not one path through its last layer group.
    """
    *frozen_groups, last_group = model.layer_groups()
    frozen = {id(m) for group in frozen_groups for top in group for m in top.modules()}
    within = {id(m) for top in last_group for m in top.modules()}
    calls: list[tuple[Any, Any, Any]] = []

    def note(module: Any, args: tuple[Any, ...], output: Any) -> None:
        calls.append((module, args[0], output))

    free = [m for m in model.modules() if id(m) not in frozen | within and _is_dropout(m)]
    handles = [module.register_forward_hook(note) for module in [*last_group, *free]]
    try:
        with no_grad():
            output = model(images)
    finally:
        for handle in handles:
            handle.remove()
    tops = [call for call in calls if id(call[0]) in within]
    if len(tops) != 1:
        return None
    head, start, result = tops[0]
    before = [module for module, _, made in calls if module is not head and made is start]
    flatten = result is not output
    if flatten and (result.flatten(1).shape != output.shape or not _equal(result.flatten(1), output)):
        return None
    return Tail(model, [*before, head], flatten)


def _is_dropout(module: Any) -> bool:
    return type(module).__name__.startswith("Dropout")


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool(np.array_equal(a.numpy(), b.numpy(), equal_nan=True))


def is_deterministic(loader: Any) -> bool:
    """Whether a loader makes the same tensors of the same samples every time, as far as its transforms tell.

    Args:
        loader: an `engine.data.DataLoader`.
    """
    if getattr(loader, "collate_fn", None) is not None or getattr(loader, "batch_transform", None) is not None:
        return False
    return all(getattr(transform, "deterministic", False) for transform in _transforms(loader))


def _transforms(source: Any) -> list[Any]:
    """The transforms of a loader or data set and of what it draws from."""
    found = [getattr(source, name, None) for name in ("transform", "target_transform")]
    found = [transform for transform in found if transform is not None]
    if hasattr(source, "dataset"):
        found += _transforms(source.dataset)
    for part in getattr(source, "datasets", ()):
        found += _transforms(part)
    return found


def compute_features(tail: Tail, loader: Any) -> tuple[np.ndarray, np.ndarray]:
    """Runs the body over a loader's samples, in the data set's order.

    Args:
        tail: the model's end.
        loader: its data set, transform and batch size are used.

    Returns:
        Features and targets, one row per sample.
    """
    from engine.data import DataLoader

    ordered = DataLoader(
        loader.dataset,
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        transform=loader.transform,
        seed=loader.seed,
    )
    model = tail.model
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    features: np.ndarray | None = None
    targets: np.ndarray | None = None
    at = 0
    try:
        for images, labels in ordered:
            part, some = tail.features_of(images).numpy(), labels.numpy()
            if features is None or targets is None:
                features = np.empty((len(loader.dataset), *part.shape[1:]), np.float32)
                targets = np.empty((len(loader.dataset), *some.shape[1:]), some.dtype)
            features[at : at + len(part)], targets[at : at + len(part)] = part, some
            at += len(part)
    finally:
        for module, training in modes:
            module.training = training
    if features is None or targets is None:
        raise ValueError("[compute_features] expected at least one sample, got none: is the data set empty?")
    return features, targets


def load_or_compute(tail: Tail, loader: Any, folder: str | os.PathLike[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """Returns features and targets from the folder's file, or computes them and writes it.

    The file's name is a digest of all that the features depend on: the weights and structure of the body, the content
    of the data set, the transform, and this engine's version. A file that is damaged, which its own checksum tells, is
    computed anew.

    Args:
        tail: the model's end.
        loader: a deterministic loader.
        folder: where the files are; made when missing. None keeps nothing.
    """
    if folder is None:
        return compute_features(tail, loader)
    from engine.io.errors import FileFormatError
    from engine.io.safetensors import load_file, read_metadata, save_file

    key = _key(tail, loader)
    path = os.path.join(os.fspath(folder), f"features-{key[:32]}.safetensors")
    try:
        metadata, tensors = read_metadata(path), load_file(path, mmap=False)
        content = tensors["features"], tensors["targets"]
        if (metadata.get("format"), metadata.get("key")) == (_FORMAT, key) and metadata["sha256"] == _digest(content):
            return content
    except (OSError, FileFormatError, KeyError):
        pass  # none yet, or damaged
    content = compute_features(tail, loader)
    os.makedirs(folder, exist_ok=True)
    save_file(
        {"features": content[0], "targets": content[1]},
        path,
        {"format": _FORMAT, "key": key, "sha256": _digest(content)},
    )
    return content


def _digest(arrays: tuple[np.ndarray, ...]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _key(tail: Tail, loader: Any) -> str:
    from engine.data.fingerprint import fingerprint

    own = {id(p) for module in tail.modules for p in (*module.parameters(), *module.buffers())}
    digest = hashlib.sha256(f"{__version__}\n{tail.model!r}\n{fingerprint(loader.dataset)}\n".encode())
    digest.update("\n".join(repr(transform) for transform in _transforms(loader)).encode())
    for name, value in (*tail.model.named_parameters(), *tail.model.named_buffers()):
        if id(value) not in own:
            array = value.detach().numpy()
            digest.update(f"\n{name}{array.dtype.str}{array.shape}".encode())
            if array.ndim == 4:  # as it lies in memory
                array = array.transpose(0, 2, 3, 1)
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def feature_loader(loader: Any, features: np.ndarray, targets: np.ndarray) -> Any:
    """Returns a loader that gives the features of the samples that `loader` would give, in the same batches.

    Args:
        loader: the loader of the images.
        features: one row per sample.
        targets: one row per sample.
    """
    from engine.data import ArrayDataset, DataLoader

    return DataLoader(
        ArrayDataset(features, targets),
        batch_size=loader.batch_size,
        sampler=loader.sampler,
        drop_last=loader.drop_last,
        seed=loader.seed,
    )
