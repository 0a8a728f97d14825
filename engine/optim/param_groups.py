"""Parameter groups: which parameters decay, and which layers learn slower."""

from __future__ import annotations

from typing import Any

__all__ = ["param_groups"]


def param_groups(
    module: Any, lr: float, weight_decay: float = 0.0, *, layer_decay: float = 1.0, decay_1d: bool = False
) -> list[dict[str, Any]]:
    """Returns the parameters of a module in groups for an optimizer, from stem to head.

    Args:
        module: with `named_parameters`; for `layer_decay` also with `layer_groups`, as the models have.
        lr: learning rate of the head.
        weight_decay: of the parameters that decay.
        layer_decay: each layer group's learning rate is that of the group after it times this; 1 gives all the same.
        decay_1d: whether parameters with one axis (biases; weights of norms) decay, too.

    Returns:
        Dicts of params, lr, weight_decay, name. A frozen parameter is in its group, too: it has no gradient, so it is
        not updated before it is thawed.

    Raises:
        ValueError: layer_decay is not in (0, 1], or a parameter is in no layer group.

    Example:
        >>> import engine
        >>> model = engine.models.lenet5()
        >>> groups = param_groups(model, lr=0.1, weight_decay=1e-4, layer_decay=0.5)
        >>> [(group["name"], group["lr"], group["weight_decay"]) for group in groups[-2:]]
        [('group 3', 0.1, 0.0001), ('group 3, no decay', 0.1, 0.0)]
        >>> optimizer = engine.optim.SGD(groups)

    Reference: Howard and Ruder, https://arxiv.org/abs/1801.06146 (discriminative rates); Clark et al.,
    https://arxiv.org/abs/2003.10555 (their decay by layer).
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"[param_groups] expected layer_decay in (0, 1], got {layer_decay}")
    depth_of: dict[int, int] = {}
    depths = 1
    if hasattr(module, "layer_groups"):
        layers = module.layer_groups()
        depths = len(layers)
        depth_of = {id(p): depth for depth, group in enumerate(layers) for m in group for p in m.parameters()}
    elif layer_decay != 1:
        raise ValueError(
            f"[param_groups] layer_decay needs layer groups, which {type(module).__name__} has not: give it a method "
            "layer_groups, or pass layer_decay=1"
        )
    members: dict[tuple[int, bool], list[Any]] = {(d, decays): [] for d in range(depths) for decays in (True, False)}
    for name, param in module.named_parameters():
        depth = depth_of.get(id(param)) if depth_of else 0
        if depth is None:
            raise ValueError(f"[param_groups] parameter {name} is in no layer group of {type(module).__name__}")
        members[depth, decay_1d or param.ndim > 1].append(param)
    return [
        {
            "params": params,
            "lr": lr * layer_decay ** (depths - 1 - depth),
            "weight_decay": weight_decay if decays else 0.0,
            "name": f"group {depth}" if decays else f"group {depth}, no decay",
        }
        for (depth, decays), params in members.items()
        if params
    ]
