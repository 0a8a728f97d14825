"""Import the weights of Keras' Xception from an HDF5 file, by way of h5py.

The file has one group per layer; its attribute `weight_names` lists the layer's arrays in Keras' order: kernel and
bias, depthwise and pointwise kernel, or gamma, beta, moving mean and moving variance. Older and newer versions of
Keras call groups and arrays differently, so only their order, their ranks and the names of the numbered blocks count:

* `block<i>_conv<j>`, `block<i>_sepconv<j>`, each with a batch norm `..._bn`, and `predictions`;
* four 1x1 convolutions on the shortcuts of blocks 2, 3, 4 and 13 and their batch norms, under automatic names, told
  apart by their numbers of channels.

Kernels are (H, W, I, O) there and (O, I, H, W) here; depthwise ones (H, W, C, 1) there and (C, 1, H, W) here.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np

from engine.io.errors import FileFormatError, short

__all__ = ["load_xception"]

_KERAS_EPS = 1e-3
_MAX_ELEMENTS = 1 << 24  # the largest array of Xception has 3 million
_MAX_TOTAL = 1 << 25  # all of them have 23 million
_SHORTCUTS = {128: "block1", 256: "block2", 728: "block3", 1024: "block12"}  # channels -> block here
_BLOCK_LAYER = re.compile(r"block(\d+)_(conv|sepconv)(\d+)(_bn)?")


class _Layer(NamedTuple):
    name: str
    arrays: list[np.ndarray]


def load_xception(path: str | os.PathLike[str], eps: float = 1e-5) -> OrderedDict[str, np.ndarray]:
    """Read Keras' weights of Xception into a state dict with the names of `engine.models.xception`.

    Keras' batch norms add 0.001 to the variance, those of the model here `eps`: the difference is added to the running
    variances, which makes the outputs equal. Between Keras' model and this one a difference remains in the pooling of
    even sizes, where Keras pads on one side only.

    Args:
        path: a file written by Keras' `save_weights` or `save` in HDF5, with or without the head ("notop").
        eps: of the batch norms of the model that the values are for.

    Returns:
        Arrays by name. Without the head, `fc.weight` and `fc.bias` are missing.

    Raises:
        FileFormatError: the file is damaged, or holds something else than weights of Xception.
        ImportError: h5py is not installed.
        OSError: there is no such file.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError('reading Keras\' weights needs h5py: pip install "engine[keras]"') from error

    name = os.fspath(path)
    with open(name, "rb"):  # the system's own words for what is wrong with the path
        pass
    try:
        with h5py.File(name, "r") as file:
            layers = _read_layers(h5py, file)
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error}") from None
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{name}: no valid HDF5 file: {' '.join(str(error).split())}") from None
    try:
        return _state_dict(layers, eps)
    except FileFormatError as error:
        raise FileFormatError(f"{name}: {error}") from None


# ---- from HDF5 to lists of arrays


def _read_layers(h5py: Any, file: Any) -> list[_Layer]:
    group = _child(h5py, file, "model_weights") if "model_weights" in file else file
    if "layer_names" not in group.attrs:
        raise FileFormatError(
            "an HDF5 file without Keras' list of layers: in Keras, write it by model.save_weights('name.h5'), which "
            "since Keras 3 has to be h5 without '.weights' before it, or by model.save('name.h5')"
        )
    layers: list[_Layer] = []
    total = 0
    for name in _texts(group.attrs["layer_names"]):
        layer = _child(h5py, group, name)
        arrays = []
        for text in _texts(layer.attrs.get("weight_names", [])):
            arrays.append(_read_array(h5py, layer, text))
            total += arrays[-1].size
            if total > _MAX_TOTAL:
                raise FileFormatError(f"more than {_MAX_TOTAL} numbers, so no Xception")
        if arrays:
            layers.append(_Layer(name, arrays))
    return layers


def _texts(value: Any) -> list[str]:
    return [text.decode("utf-8") if isinstance(text, bytes) else str(text) for text in np.asarray(value).reshape(-1)]


def _child(h5py: Any, group: Any, path: str) -> Any:
    """Walk down a path without leaving the file: soft and external links could lead anywhere."""
    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise FileFormatError(f"there is no {short(path)} in it")
        group = group[part]
    return group


def _read_array(h5py: Any, layer: Any, path: str) -> np.ndarray:
    data = _child(h5py, layer, path)
    if not isinstance(data, h5py.Dataset) or data.is_virtual or data.external:
        raise FileFormatError(f"{short(path)} is no array of this file")
    if data.dtype.kind != "f" or data.size is None or data.size > _MAX_ELEMENTS or not 1 <= data.ndim <= 4:
        raise FileFormatError(f"{short(path)} is {data.dtype} of shape {data.shape}, which no weight of Xception is")
    array: np.ndarray = data[()].astype(np.float32, copy=False)
    return array


# ---- from Keras' layers to names and axes here


def _state_dict(layers: list[_Layer], eps: float) -> OrderedDict[str, np.ndarray]:
    state: OrderedDict[str, np.ndarray] = OrderedDict()
    for layer in layers:
        place = _place(layer)
        norm = len(layer.arrays) == 4
        ranks = [array.ndim for array in layer.arrays]
        if norm and ranks == [1] * 4:
            gamma, beta, mean, variance = layer.arrays
            state[f"{place}.weight"], state[f"{place}.bias"] = gamma, beta
            state[f"{place}.running_mean"] = mean
            state[f"{place}.running_var"] = variance + np.float32(_KERAS_EPS - eps)
        elif ranks == [4]:
            state[f"{place}.weight"] = _kernel(layer.arrays[0])
        elif ranks == [4, 4]:
            depthwise, pointwise = layer.arrays
            if depthwise.shape[3] != 1:
                raise FileFormatError(f"layer {short(layer.name)} has a depth multiplier, which Xception has not")
            state[f"{place}.conv1.weight"] = np.ascontiguousarray(depthwise.transpose(2, 3, 0, 1))
            state[f"{place}.pointwise.weight"] = _kernel(pointwise)
        elif ranks == [2, 1]:
            state[f"{place}.weight"] = np.ascontiguousarray(layer.arrays[0].T)
            state[f"{place}.bias"] = layer.arrays[1]
        else:
            raise FileFormatError(f"layer {short(layer.name)} has arrays of ranks {ranks}, which none of Xception has")
    return state


def _kernel(kernel: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))


def _place(layer: _Layer) -> str:
    """Where a layer of Keras is in the model here."""
    if layer.name == "predictions":
        return "fc"
    found = _BLOCK_LAYER.fullmatch(layer.name)
    if found is None:
        shortcut = _SHORTCUTS.get(layer.arrays[-1].shape[-1])
        if shortcut is None or layer.name.startswith("block"):
            raise FileFormatError(f"layer {short(layer.name)} is none of Xception's")
        return f"{shortcut}.{'skipbn' if len(layer.arrays) == 4 else 'skip'}"
    block, kind, number, norm = int(found[1]), found[2], int(found[3]), bool(found[4])
    if (kind == "conv") != (block == 1) or not 1 <= block <= 14 or not 1 <= number <= (3 if 5 <= block <= 12 else 2):
        raise FileFormatError(f"layer {short(layer.name)} is none of Xception's")
    if block in (1, 14):  # before and after the blocks
        number += 0 if block == 1 else 2
        return f"{'bn' if norm else 'conv'}{number}"
    # In a block's list each convolution is followed by its batch norm and preceded by a ReLU, except at the start of
    # the first block.
    position = 3 * (number - 1) + (0 if block == 2 else 1)
    return f"block{block - 1}.rep.{position + norm}"
