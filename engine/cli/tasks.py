"""What the commands share: data as a checkpoint describes them, models by name, the report."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data import ArrayDataset, Preprocessing, Subset, load_dataset, stratified_split

SPLITS = ("train", "val", "test")


@dataclass
class Splits:
    """A data set brought to the model's size, and the sample numbers of its parts."""

    data: ArrayDataset
    parts: dict[str, np.ndarray]
    description: dict[str, Any]

    def part(self, name: str) -> Any:
        """Returns "train", "val", "test" or "all" as a dataset."""
        return self.data if name == "all" else Subset(self.data, self.parts[name])


def open_data(path: str, fractions: tuple[float, float, float], seed: int) -> Splits:
    """Loads a data set and splits it; the description is what a checkpoint needs to do so again."""
    data = load_dataset(path)
    parts = stratified_split(data.labels, fractions, seed)
    description = {
        "path": path if path == "digits" else os.path.abspath(path),
        "fractions": list(fractions),
        "seed": seed,
        "samples": len(data),
        "sha256": _digest(data),
    }
    return Splits(data, dict(zip(SPLITS, parts, strict=True)), description)


def reopen_data(description: dict[str, Any], path: str | None = None) -> Splits:
    """Loads the data that a checkpoint was made with, from another place when `path` is given."""
    if not description:
        raise ValueError("the checkpoint does not say which data it was made with: it was not made by engine train")
    splits = open_data(path or description["path"], tuple(description["fractions"]), description["seed"])
    if splits.description["sha256"] != description["sha256"]:
        raise ValueError(
            f"{path or description['path']}: not the data that the checkpoint was made with ({len(splits.data)} "
            f"samples here, {description['samples']} there, or other content): its test part would not be the same"
        )
    return splits


def _digest(data: ArrayDataset) -> str:
    digest = hashlib.sha256()
    for array in data.arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def prepare(splits: Splits, preprocessing: Preprocessing) -> None:
    """Brings the images to the size and the channels of the model."""
    images = with_channels(splits.data.arrays[0], preprocessing.channels)
    splits.data = ArrayDataset(preprocessing.resize(images), splits.data.labels, classes=splits.data.classes)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Repeats grey for models that take colour; refuses to guess the other way."""
    if images.shape[3] == channels:
        return images
    if images.shape[3] != 1:
        raise ValueError(f"the images have {images.shape[3]} channels, but the model takes {channels}")
    return np.repeat(images, channels, axis=3)


def make_model(name: str, arguments: dict[str, Any]) -> Any:
    """Builds a model of the registry."""
    from engine import models

    return models.get_model(name, **arguments)


def input_channels(model: Any) -> int:
    """How many channels a model takes: its first convolution tells."""
    for parameter in model.parameters():
        if len(parameter.shape) == 4:
            return int(parameter.shape[1])
    raise ValueError("the model has no convolution: it takes no images")


def report(evaluation: Any, classes: list[str]) -> tuple[str, dict[str, Any]]:
    """Returns what an evaluation shows, as text and as JSON can hold it."""
    from engine.metrics import ConfusionMatrix, classification_report

    matrix = ConfusionMatrix(len(classes))
    matrix.update(evaluation.targets, evaluation.predictions)
    right = int(np.trace(matrix.counts))
    numbers: dict[str, Any] = {
        "samples": evaluation.samples,
        "loss": evaluation.loss,
        "accuracy": matrix.accuracy,
        "confusion_matrix": matrix.counts.tolist(),
    }
    for average in ("micro", "macro", "weighted"):
        scores = matrix.scores(average)
        numbers[average] = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
    macro = numbers["macro"]
    text = (
        f"accuracy {100 * matrix.accuracy:.2f} % ({right} of {evaluation.samples})  loss {evaluation.loss:.4f}\n"
        f"macro averages: precision {macro['precision']:.4f}  recall {macro['recall']:.4f}  F1 {macro['f1']:.4f}\n\n"
        f"{classification_report(matrix.counts, classes)}"
    )
    return text, numbers
