"""What the commands share: data as a checkpoint describes them, models by name, tests and reports."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data import ArrayDataset, DataLoader, Dataset, Preprocessing, Subset

SPLITS = ("train", "val", "test")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LARGEST = 1 << 30  # bytes of resized images to hold in memory
# In the middle of training one kind of network has further outputs, which neither a plain loss nor a test knows.
_WITHOUT_AUXILIARY = {"googlenet": {"aux_logits": False}, "inception_v3": {"aux_logits": False}}


# --- data ------------------------------------------------------------------------------------------------------------


@dataclass
class Splits:
    """A data set in its parts.

    Attributes:
        parts: train, val and test as data sets of (image, class number) with `labels`.
        classes: their names.
        description: what a checkpoint needs to find the same parts again.
        stored: whether the images are in memory and of one size; otherwise they are files of any size.
    """

    parts: dict[str, Any]
    classes: list[str]
    description: dict[str, Any]
    stored: bool

    @property
    def channels(self) -> int | None:
        """Channels of images in memory."""
        return int(self.parts["train"].dataset.arrays[0].shape[3]) if self.stored else None

    def part(self, name: str) -> Any:
        """Returns "train", "val", "test" or "all" as a dataset."""
        if name != "all":
            return self.parts[name]
        from engine.data import ConcatDataset

        return ConcatDataset([self.parts[part] for part in SPLITS])


def open_data(path: str, fractions: Sequence[float], seed: int, channels: int = 3, duplicates: str = "raise") -> Splits:
    """Finds a data set, of whatever kind, and its parts.

    Args:
        path: "digits", a file, or a folder.
        fractions: shares of training, validation and test, where the data do not come in parts.
        seed: decides which samples go where.
        channels: 1 or 3, for image files.
        duplicates: see `sources.parted`.
    """
    from engine.cli import sources

    found = sources.find(path, channels)
    parts = sources.parted(found, fractions, seed, duplicates)
    description = {
        "path": path if path == "digits" else os.path.abspath(path),
        "fractions": list(fractions),
        "seed": seed,
        "channels": channels,
        "duplicates": duplicates,
        "samples": sum(len(part) for part in parts.values()),
        "sha256": sources.digest(parts, path),
    }
    return Splits(parts, list(found.classes), description, found.stored)


def reopen_data(description: dict[str, Any], path: str | None = None, exactly: bool = True) -> Splits:
    """Finds the data that a checkpoint was made with.

    Args:
        description: the checkpoint's.
        path: where they are now; None for where they were.
        exactly: whether other data are refused.
    """
    if not description:
        raise ValueError("the checkpoint does not say which data it was made with: it was not made by engine train")
    where = path or description["path"]
    # Where duplicates were refused there are none in the same data: they need not be searched again.
    together = description.get("duplicates") == "together"
    splits = open_data(
        where,
        tuple(description["fractions"]),
        description["seed"],
        description.get("channels", 3),
        "together" if together else "allow",
    )
    if exactly and splits.description["sha256"] != description["sha256"]:
        raise ValueError(
            f"{where}: not the data that the checkpoint was made with ({splits.description['samples']} samples here, "
            f"{description['samples']} there, or other content): its test part would not be the same"
        )
    return splits


def prepare(splits: Splits, preprocessing: Preprocessing) -> None:
    """Brings images in memory to the size and the channels of the model; of files the loaders' transforms take care."""
    if not splits.stored:
        return
    done: dict[int, Any] = {}
    for name, part in splits.parts.items():
        whole = part.dataset
        if id(whole) not in done:
            lazy = len(whole) * preprocessing.size[0] * preprocessing.size[1] * preprocessing.channels > _LARGEST
            done[id(whole)] = Resized(whole, preprocessing) if lazy else _resized(whole, preprocessing)
        splits.parts[name] = Subset(done[id(whole)], part.indices)


def _resized(whole: ArrayDataset, preprocessing: Preprocessing) -> ArrayDataset:
    images = with_channels(whole.arrays[0], preprocessing.channels)
    return ArrayDataset(preprocessing.resize(images), whole.labels, classes=whole.classes)


class Resized(Dataset):
    """Images in memory that get a model's size and channels when asked for, since all at once would not fit.

    Args:
        whole: the images as they are.
        preprocessing: the model's.
    """

    def __init__(self, whole: ArrayDataset, preprocessing: Preprocessing) -> None:
        self.whole = whole
        self.preprocessing = preprocessing
        self.labels = whole.labels
        self.classes = whole.classes

    def __len__(self) -> int:
        return len(self.whole)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        image = with_channels(self.whole.arrays[0][index][None], self.preprocessing.channels)
        return self.preprocessing.resize(image)[0], int(self.labels[index])

    def fingerprint(self) -> str:
        """Returns what differs when the content does."""
        from engine.data.fingerprint import fingerprint

        return f"{fingerprint(self.whole)} as {self.preprocessing.to_dict()}"


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Repeats grey for models that take colour; refuses to guess the other way."""
    if images.shape[3] == channels:
        return images
    if images.shape[3] != 1:
        raise ValueError(
            f"the images have {images.shape[3]} channels, but the model takes {channels}: set --in-chans 3"
        )
    return np.repeat(images, channels, axis=3)


def evaluation_transform(splits: Splits, preprocessing: Preprocessing) -> Any:
    """From prepared images to a model's inputs."""
    return preprocessing.normalize() if splits.stored else preprocessing.transform()


# --- models ----------------------------------------------------------------------------------------------------------


def make_model(name: str, arguments: dict[str, Any]) -> Any:
    """Builds a model of the registry."""
    from engine import models

    with warnings.catch_warnings():  # that a head is new is said by the commands, where it matters
        warnings.filterwarnings("ignore", message=".*the weights have no values that fit")
        return models.get_model(name, **{**_WITHOUT_AUXILIARY.get(name.lower(), {}), **arguments})


def input_channels(model: Any) -> int:
    """How many channels a model takes: its first convolution tells."""
    for parameter in model.parameters():
        if len(parameter.shape) == 4:
            return int(parameter.shape[1])
    raise ValueError("the model has no convolution: it takes no images")


def is_checkpoint(path: str) -> bool:
    """Whether this is a run of the engine, or one of its files, rather than weights alone."""
    from engine.io import FileFormatError, read_metadata

    if os.path.isdir(path):
        return True
    if not path.endswith(".safetensors") or not os.path.exists(path):
        return False
    try:
        return read_metadata(path).get("format") == "engine-checkpoint"
    except FileFormatError:
        return False


def open_checkpoint(path: str) -> tuple[Any, Any, Preprocessing]:
    """Returns a checkpoint, its model in evaluation mode, and its preprocessing."""
    from engine import models
    from engine.io import CheckpointError, load_checkpoint

    checkpoint = load_checkpoint(path)
    if not checkpoint.model_name or not checkpoint.preprocessing:
        raise CheckpointError(f"{path}: does not say which model it is of: it was not made by engine train or finetune")
    with models.skip_init():
        model = make_model(checkpoint.model_name, checkpoint.model_args)
    checkpoint.restore(model=model)
    model.eval()
    return checkpoint, model, Preprocessing.from_dict(checkpoint.preprocessing)


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """What a model said about a part with known classes."""

    targets: np.ndarray
    probabilities: np.ndarray
    loss: float

    @property
    def predictions(self) -> np.ndarray:
        """The likeliest classes."""
        best: np.ndarray = self.probabilities.argmax(axis=1)
        return best


def test(trainer: Any, loader: DataLoader) -> Outcome:
    """Runs the model over a part in order."""
    from engine.functional import softmax
    from engine.tensor import from_numpy

    targets = np.asarray(loader.dataset.labels, np.int64)
    outputs = from_numpy(trainer.predict(loader))
    loss = float(trainer.loss(outputs, from_numpy(targets)).item())
    return Outcome(targets, softmax(outputs, 1).numpy(), loss)


def summarize(outcome: Outcome, classes: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Returns what an outcome shows, as text and as JSON can hold it."""
    from engine.metrics import ConfusionMatrix, classification_report, top_k_accuracy

    matrix = ConfusionMatrix(len(classes))
    matrix.update(outcome.targets, outcome.predictions)
    right = int(np.trace(matrix.counts))
    count = len(outcome.targets)
    numbers: dict[str, Any] = {
        "samples": count,
        "loss": outcome.loss,
        "accuracy": matrix.accuracy,
        "balanced_accuracy": matrix.balanced_accuracy(),
        "confusion_matrix": matrix.counts.tolist(),
    }
    if len(classes) > 5:
        numbers["top5_accuracy"] = top_k_accuracy(outcome.targets, outcome.probabilities, 5)
    for average in ("micro", "macro", "weighted"):
        scores = matrix.scores(average)
        numbers[average] = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}
    macro = numbers["macro"]
    text = (
        f"accuracy {100 * matrix.accuracy:.2f} % ({right} of {count})  loss {outcome.loss:.4f}\n"
        f"macro averages: precision {macro['precision']:.4f}  recall {macro['recall']:.4f}  F1 {macro['f1']:.4f}\n\n"
    )
    report = classification_report(matrix.counts, classes)
    if len(classes) > 20:  # the matrix would be wider than any terminal; it is in the files
        report = report[: report.index("\n\n")]
    return text + report, numbers


def write(directory: str, name: str, content: str | bytes) -> None:
    """Writes a file of a run."""
    from engine.io.atomic_file import open_atomic

    with open_atomic(os.path.join(directory, name)) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(directory: str, name: str, content: Any) -> None:
    """Writes a file of a run as JSON."""
    write(directory, name, json.dumps(content, indent=2) + "\n")


def environment() -> dict[str, Any]:
    """Returns versions and hardware, a fact by its name."""
    import importlib.util
    import platform

    import engine
    from engine import backend
    from engine._version import __version__

    facts: dict[str, Any] = {
        "engine": __version__,
        "location": os.path.dirname(os.path.abspath(engine.__file__ or "")),
        "instruction set": f"{backend.isa()} (of {', '.join(backend.available_isas())})",
        "threads": backend.num_threads(),
        "processor": _processor(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "system": platform.platform(),
    }
    facts.update({f"build: {key}": value for key, value in backend.build_info().items()})
    extras = {"pillow": "PIL", "tqdm": "tqdm", "matplotlib": "matplotlib", "h5py": "h5py", "optuna": "optuna"}
    present = [name for name, module in extras.items() if importlib.util.find_spec(module)]
    facts["extras present"] = ", ".join(present) or "none"
    return facts


def _processor() -> str:
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Pictures:
    """The images of a part as the model sees them, before normalisation: what a report shows."""

    def __init__(self, splits: Splits, part: str, preprocessing: Preprocessing) -> None:
        self.part = splits.part(part)
        self.geometry = None if splits.stored else preprocessing.geometry()

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> np.ndarray:
        image = self.part[int(index)][0]
        return np.asarray(image if self.geometry is None else self.geometry(image))


def write_run_report(directory: str, path: str | None = None, data_path: str | None = None) -> str:
    """Writes the report of a run from the files in its directory and returns where it is.

    Args:
        directory: the run's.
        path: the file to write; report.html in the directory by default.
        data_path: where the data are now; None for where they were.
    """
    from engine import interpret
    from engine.report import write_report

    def read(name: str) -> Any:
        with open(os.path.join(directory, name), encoding="utf-8") as file:
            return [json.loads(line) for line in file] if name.endswith(".jsonl") else json.load(file)

    arguments, results, history = read("args.json"), read("results.json"), read("history.jsonl")
    with np.load(os.path.join(directory, "predictions.npz"), allow_pickle=False) as file:
        targets, probabilities = file["targets"], file["probabilities"]
    best = os.path.join(directory, "best.safetensors")
    checkpoint, model, preprocessing = open_checkpoint(best)
    notes = [f"The model of epoch {results['best_epoch']} of {results['epochs']}, on images not used for training."]
    if results.get("stop_reason"):
        notes.append(f"Training ended early: {results['stop_reason']}.")
    images, explain = None, None
    try:
        splits = reopen_data(checkpoint.data, data_path)
        prepare(splits, preprocessing)
        images = Pictures(splits, "test", preprocessing)
        if len(images) != len(targets):
            raise ValueError("the test part has another number of images now")
    except (OSError, ValueError) as error:
        images = None
        notes.append(f"Without pictures, since the data cannot be read again: {error}")
    else:
        pictures, normalize = images, preprocessing.normalize()

        def explain(which: np.ndarray) -> np.ndarray:
            inputs = normalize(np.stack([pictures[i] for i in which.tolist()]))
            return interpret.grad_cam(model, inputs, probabilities[which].argmax(axis=1))

    target = path or os.path.join(directory, "report.html")
    write_report(
        target,
        title=f"{checkpoint.model_name} on {os.path.basename(checkpoint.data['path'])}",
        history=history,
        targets=targets,
        probabilities=probabilities,
        classes=checkpoint.class_names,
        images=images,
        explain=explain,
        filters=interpret.first_filters(model),
        numbers={
            "parameters": sum(int(parameter.numel()) for parameter in model.parameters()),
            "epochs": results["epochs"],
            "training time": f"{results['seconds']:.1f} s",
            "images per second": f"{results['images_per_second']:,.0f}",
        },
        configuration=arguments,
        environment=read("environment.json"),
        best_epoch=results["best_epoch"],
        notes=notes,
    )
    return target


def write_predictions(directory: str, outcome: Outcome) -> None:
    """Keeps what the report and further analysis need."""
    import io

    content = io.BytesIO()
    np.savez_compressed(content, targets=outcome.targets, probabilities=outcome.probabilities)
    write(directory, "predictions.npz", content.getvalue())
