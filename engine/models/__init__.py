"""Models, by class, by builder and by name."""

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
from engine.models.lenet import LeNet5 as LeNet5
from engine.models.lenet import lenet5 as lenet5
