"""Models, by class, by builder and by name."""

from __future__ import annotations

from typing import Any

from engine.models._registry import (
    get_model as get_model,
)
from engine.models._registry import (
    get_model_builder as get_model_builder,
)
from engine.models._registry import (
    list_models as list_models,
)
from engine.models._registry import (
    register_model as register_model,
)
from engine.models._weights import (
    Weights as Weights,
)
from engine.models._weights import (
    WeightsEnum as WeightsEnum,
)
from engine.models._weights import (
    get_model_weights as get_model_weights,
)
from engine.models._weights import (
    get_weight as get_weight,
)
from engine.models.lenet import LeNet5 as LeNet5
from engine.models.lenet import lenet5 as lenet5


def __getattr__(name: str) -> Any:
    """The enum classes of pretrained weights, made at their first use: ResNet50_Weights and so on."""
    from engine.models import _weights

    if name.endswith("_Weights"):
        return getattr(_weights, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    from engine.models import _weights

    return sorted({*globals(), *_weights.enum_names()})
