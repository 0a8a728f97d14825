"""Pretrained weights: which there are, what is known about them, and how they become a state dict.

The list is `weights.json`, one row per model and one line per file; the enum classes (`ResNet50_Weights`, ...) are made
of it at their first use. In the table, files and recipes are relative to the two addresses below, what is left out
has the usual value (`_PRESET`, `_LICENSE`), and `features_only` marks files whose classifier was never trained.
"""

from __future__ import annotations

import functools
import json
import os
import re
import urllib.parse
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from engine.data.transforms import ImageClassification

__all__ = ["Weights", "WeightsEnum", "fetch", "get_model_weights", "get_weight", "resolve"]

_FILES = "https://download.pytorch.org/models/"
_RECIPES = "https://github.com/pytorch/vision/"
_LICENSE = "BSD-3-Clause"
_PRESET = ("crop", "resize", "interpolation", "mean", "std")
_HASH = re.compile(r"-([0-9a-f]{8,64})\.[a-z]+$")


@dataclass(eq=False)
class Weights:
    """One file of weights and what is known about it; equal only to itself.

    Attributes:
        name: "ResNet50_Weights.IMAGENET1K_V2", or the path of a local file.
        url: where the file comes from; a local file's path.
        transforms: makes the transform that the weights were evaluated with.
        meta: facts by torchvision's names: categories, num_params, min_size, recipe, license, and `_metrics`, `_ops`
            (GFLOPs of one image), `_file_size` (MiB). Empty for a local file.

    Example:
        >>> entry = get_weight("ResNet50_Weights.IMAGENET1K_V2").value
        >>> entry.file, entry.sha256, entry.num_classes
        ('resnet50-11ad3fa6.pth', '11ad3fa6', 1000)
    """

    name: str
    url: str
    transforms: Callable[..., ImageClassification] | None
    meta: dict[str, Any]

    @property
    def is_local(self) -> bool:
        """Whether this is a file of the user's own, about which nothing is known."""
        return self.transforms is None

    @property
    def file(self) -> str:
        """The file's name, which is its name in the cache, too."""
        return os.path.basename(self.url)

    @property
    def sha256(self) -> str:
        """The first digits of the file's SHA-256, which its name carries; empty for a local file."""
        found = None if self.is_local else _HASH.search(self.file)
        return found[1] if found else ""

    @property
    def num_classes(self) -> int | None:
        """How many classes the head tells apart; None for a local file."""
        return None if self.is_local else len(_categories())

    @property
    def non_commercial(self) -> bool:
        """Whether the licence forbids commercial use."""
        return "-NC" in self.meta.get("license", "")

    def __repr__(self) -> str:
        return f"Weights({self.name!r}, {self.url!r})"


class WeightsEnum(Enum):
    """Base class of the weights of one model; a member's value is a `Weights`. `DEFAULT` names the best member.

    Example:
        >>> from engine.models import ResNet50_Weights
        >>> ResNet50_Weights.DEFAULT
        <ResNet50_Weights.IMAGENET1K_V2>
        >>> ResNet50_Weights.DEFAULT.transforms()
        ImageClassification(crop_size=224, resize_size=232, interpolation='bilinear', mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225))

    Follows torchvision.models.WeightsEnum.
    """

    value: Weights

    @classmethod
    def verify(cls, obj: Any) -> Any:
        """Checks that something is one of these weights, or names one, and returns the member; None stays None.

        Args:
            obj: a member, its name, or None.

        Raises:
            TypeError: it is a member of another class.
            KeyError: there is no member of this name.
        """
        if isinstance(obj, str):
            return cls[obj.removeprefix(cls.__name__ + ".")]
        if obj is not None and not isinstance(obj, cls):
            raise TypeError(f"Invalid Weight class provided; expected {cls.__name__} but received {_kind(obj)}.")
        return obj

    @property
    def url(self) -> str:
        """Where the file comes from."""
        return self.value.url

    @property
    def transforms(self) -> Callable[..., ImageClassification]:
        """Makes the transform that the weights were evaluated with: call it."""
        assert self.value.transforms is not None
        return self.value.transforms

    @property
    def meta(self) -> dict[str, Any]:
        """Facts about the weights: see `Weights`."""
        return self.value.meta

    def get_state_dict(self, progress: bool = True, check_hash: bool = True) -> Mapping[str, np.ndarray]:
        """Downloads the file, unless it is here already, and returns its arrays by name.

        Args:
            progress: show a progress bar.
            check_hash: accepted for torchvision's sake; the hash is always checked.

        Raises:
            HubError: the file cannot be had.
        """
        return fetch(self, progress)

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return get_weight, (str(self),)


def _kind(obj: object) -> str:
    return type(obj).__name__


# ---- the table


@functools.cache
def _categories() -> list[str]:
    """The names of the 1000 classes of ImageNet-1K, in the order of the outputs."""
    return Path(__file__).with_name("imagenet_categories.txt").read_text(encoding="utf-8").splitlines()


@functools.cache
def table() -> dict[str, dict[str, Any]]:
    """The rows of weights.json by model."""
    rows = json.loads(Path(__file__).with_name("weights.json").read_text(encoding="utf-8"))
    return {row["model"]: row for row in rows}


@functools.cache
def _models() -> dict[str, str]:
    """Which model an enum class belongs to."""
    return {row["enum"]: model for model, row in table().items()}


@functools.cache
def _enum(model: str) -> type[WeightsEnum]:
    row = table()[model]
    entries = {line["member"]: _entry(row, line) for line in row["weights"]}
    entries["DEFAULT"] = entries[row["default"]]
    # mypy takes the functional form for a call of a class without members.
    return WeightsEnum(row["enum"], list(entries.items()), module=__name__)  # type: ignore[call-arg, return-value]


def _entry(row: dict[str, Any], line: dict[str, Any]) -> Weights:
    from engine.data.transforms import ImageClassification

    names = {"crop": "crop_size", "resize": "resize_size"}
    options = {names.get(key, key): line[key] for key in _PRESET if key in line}
    nan = float("nan")
    meta = {
        "categories": None if line.get("features_only") else _categories(),
        "num_params": row["params"],
        "min_size": (row["min_size"], row["min_size"]),
        "recipe": urllib.parse.urljoin(_RECIPES, line["recipe"]),
        "license": line.get("license", _LICENSE),
        "_metrics": {"ImageNet-1K": {"acc@1": line.get("acc1", nan), "acc@5": line.get("acc5", nan)}},
        "_ops": line["gflops"],
        # Where nobody says, what the parameters take.
        "_file_size": line.get("mib", round(row["params"] * 4 / 2**20, 3)),
    }
    url = urllib.parse.urljoin(_FILES, line["file"])
    return Weights(f"{row['enum']}.{line['member']}", url, functools.partial(ImageClassification, **options), meta)


def __getattr__(name: str) -> type[WeightsEnum]:
    if name.endswith("_Weights") and name in _models():
        return _enum(_models()[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def enum_names() -> list[str]:
    """The names of all enum classes, in the order of the table."""
    return list(_models())


# ---- looking up


def get_model_weights(name: str | Callable[..., Any]) -> type[WeightsEnum]:
    """Returns the enum class of a model's pretrained weights.

    Args:
        name: name of the model, in any case, or the function that builds it.

    Raises:
        ValueError: there are no weights for this name.

    Example:
        >>> list(get_model_weights("resnet50"))
        [<ResNet50_Weights.IMAGENET1K_V1>, <ResNet50_Weights.IMAGENET1K_V2>]

    Follows torchvision.models.get_model_weights.
    """
    key = (name if isinstance(name, str) else name.__name__).lower()
    if key not in table():
        raise ValueError(f"there are no pretrained weights for a model {key!r}{_advice(key, list(table()))}")
    return _enum(key)


def get_weight(name: str) -> WeightsEnum:
    """Returns pretrained weights by their full name.

    Args:
        name: the enum class and its member, with a dot between them.

    Raises:
        ValueError: there are none of this name.

    Example:
        >>> get_weight("ResNet18_Weights.DEFAULT").url
        'https://download.pytorch.org/models/resnet18-f37072fd.pth'

    Follows torchvision.models.get_weight.
    """
    enum, dot, member = name.partition(".")
    if not dot or not member:
        raise ValueError(f"Invalid weight name {name!r}: expected a class and a member: ResNet50_Weights.IMAGENET1K_V2")
    if enum not in _models():
        raise ValueError(f"there are no weights {enum!r}{_advice(enum, list(_models()))}")
    members = _enum(_models()[enum])
    if member not in members.__members__:
        raise ValueError(f"{enum} has no member {member!r}: it has {', '.join(members.__members__)}")
    return members[member]


def _advice(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, n=3)
    return f": did you mean {' or '.join(close)}?" if close else ""


def resolve(name: str, weights: Any) -> Weights:
    """Finds out which weights of a model somebody means.

    Args:
        name: name of the model.
        weights: a member of the model's enum class; its name, with or without the class; "DEFAULT"; the path of a
            file with weights.

    Raises:
        TypeError: a member of another model's class, or something else altogether.
        ValueError: there are no such weights.
        FileNotFoundError: what looks like a path leads nowhere.

    Example:
        >>> resolve("resnet50", "DEFAULT")
        Weights('ResNet50_Weights.IMAGENET1K_V2', 'https://download.pytorch.org/models/resnet50-11ad3fa6.pth')
    """
    enum = _enum(name) if name in table() else None
    if isinstance(weights, WeightsEnum):
        return _of(name, enum, weights)
    if isinstance(weights, Weights):
        return weights
    if not isinstance(weights, str | os.PathLike):
        raise TypeError(
            f"[{name}] expected weights to be a member of {enum.__name__ if enum else 'WeightsEnum'}, its name or the "
            f"path of a file, got {_kind(weights)}"
        )
    if isinstance(weights, str):
        if enum is not None and weights in enum.__members__:
            return enum[weights].value
        if weights.partition(".")[0] in _models():
            return _of(name, enum, get_weight(weights))
    path = os.fspath(weights)
    if os.path.isfile(path):
        return Weights(path, path, None, {})
    if not isinstance(weights, str) or os.path.basename(path) != path or os.path.splitext(path)[1]:
        raise FileNotFoundError(f"[{name}] there is no file {path!r} with weights")
    known = f"the pretrained ones are {', '.join(enum.__members__)}" if enum else "there are no pretrained ones"
    raise ValueError(f"[{name}] there are no weights {path!r}: {known}; the path of a file is accepted, too")


def _of(name: str, enum: type[WeightsEnum] | None, member: WeightsEnum) -> Weights:
    if enum is None or not isinstance(member, enum):
        expected = f"expected {enum.__name__} but received" if enum else f"{name} has no pretrained weights, received"
        raise TypeError(f"Invalid Weight class provided; {expected} {_kind(member)}.")
    return member.value


def fetch(weights: Weights | WeightsEnum, progress: bool = True) -> Mapping[str, np.ndarray]:
    """Returns the arrays of a file of weights by name, as the file has them; a pretrained one is downloaded first.

    A pretrained file is looked for in this package's cache and in torch's. Float16 and bfloat16 become float32. The
    arrays may be views of the file mapped into memory.

    Args:
        weights: the entry, from `resolve`, or a member of an enum class.
        progress: show a progress bar while downloading.

    Raises:
        HubError: the file cannot be downloaded, stored or verified.
        FileFormatError: the file is damaged or holds no weights.
        OSError: a local file cannot be read.

    Warns:
        UserWarning: the licence forbids commercial use.
    """
    from engine.io import hub
    from engine.io.weights_file import read_weights

    entry = weights.value if isinstance(weights, WeightsEnum) else weights
    if entry.non_commercial:
        warnings.warn(
            f"{entry.name}: these weights are licensed {entry.meta['license']}, for non-commercial use only",
            UserWarning,
            stacklevel=2,
        )
    if entry.is_local:
        return read_weights(entry.url)
    return read_weights(
        hub.download(
            entry.url,
            entry.sha256,
            file=entry.file,
            # torch's files are never larger than announced by more than rounding.
            limit=int(entry.meta["_file_size"] * 2**20 * 1.05) + 2**20,
            progress=progress,
        )
    )
