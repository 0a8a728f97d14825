"""Module: registration, traversal, hooks, state; containers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import engine
from engine import nn


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(engine.ones(1))
        self.register_buffer("mask", engine.ones(channels), persistent=False)

    def forward(self, x: engine.Tensor) -> engine.Tensor:
        return self.bn(self.conv(x)).relu() * self.scale


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.Sequential(Block(4), Block(4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: engine.Tensor) -> engine.Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


BLOCK = ["scale", "conv.weight", "conv.bias", "bn.weight", "bn.bias"]
BUFFERS = ["bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]


def test_traversal() -> None:
    net = Net()
    expected = ["stem.weight", "stem.bias"]
    expected += [f"blocks.{i}.{name}" for i in range(2) for name in BLOCK]
    expected += ["head.weight", "head.bias"]
    assert [name for name, _ in net.named_parameters()] == expected
    assert next(net.named_parameters(prefix="net", recurse=True))[0] == "net.stem.weight"
    assert [name for name, _ in net.blocks[0].named_parameters(recurse=False)] == ["scale"]
    assert [name for name, _ in net.blocks[0].named_buffers()] == ["mask", *BUFFERS]
    assert [name for name, _ in net.named_children()] == ["stem", "blocks", "head"]
    assert [name for name, _ in net.blocks[1].named_modules(prefix="b")] == ["b", "b.conv", "b.bn"]
    assert len(list(net.modules())) == 1 + 1 + 1 + 2 * 3 + 1
    assert len(list(net.parameters())) == len(expected)
    assert len(list(net.buffers())) == 8


def test_state_dict_matches_torch() -> None:
    torch = pytest.importorskip("torch")

    class TorchBlock(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(4, 4, 3)
            self.bn = torch.nn.BatchNorm2d(4)
            self.scale = torch.nn.Parameter(torch.ones(1))
            self.register_buffer("mask", torch.ones(4), persistent=False)

    ours, theirs = Block(4), TorchBlock()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert list(ours.state_dict(prefix="b.")) == list(theirs.state_dict(prefix="b."))
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])  # torch's CPU tensors are arrays, too
    for key, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[key].numpy(), value.numpy())


def test_shared_modules_and_parameters_count_once() -> None:
    linear = nn.Linear(3, 3)
    net = nn.Sequential(linear, linear)
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in net.named_parameters(remove_duplicate=False)] == [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
    ]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert net.load_state_dict(net.state_dict()) == ([], [])
    twin = copy.deepcopy(net)
    assert twin[0] is twin[1]
    other = nn.Linear(3, 3)
    other.weight = linear.weight
    assert len(list(nn.Sequential(linear, other).parameters())) == 3
    net(engine.ones(1, 3)).sum().backward()


def test_attributes() -> None:
    module = nn.Module()
    module.weight = nn.Parameter(engine.ones(2))
    module.child = nn.Identity()
    module.register_buffer("mean", engine.zeros(2))
    assert list(module._parameters) == ["weight"] and list(module._modules) == ["child"]
    assert {"weight", "child", "mean"} <= set(dir(module))
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter 'weight'"):
        module.weight = 3
    with pytest.raises(TypeError, match="cannot assign 'int' as child module 'child'"):
        module.child = 3
    with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'mean'"):
        module.mean = 3
    module.weight = None
    assert module.weight is None and list(module.parameters()) == []
    module.mean = engine.ones(3)
    assert module.state_dict()["mean"].shape == (3,)
    module.mean = nn.Parameter(engine.zeros(1))  # a parameter takes the buffer's place
    assert list(module._buffers) == [] and "mean" in module._parameters
    del module.mean, module.child
    with pytest.raises(AttributeError, match="'Module' object has no attribute 'mean'"):
        _ = module.mean
    module.plain = 3
    module.plain = nn.Identity()  # and a module that of a plain attribute
    assert isinstance(module.plain, nn.Identity) and "plain" in module._modules


def test_registration_errors() -> None:
    module = nn.Module()
    for register, value in (
        (module.register_parameter, nn.Parameter(engine.ones(1))),
        (module.register_buffer, engine.ones(1)),
        (module.add_module, nn.Identity()),
    ):
        with pytest.raises(KeyError, match="contain"):
            register("a.b", value)
        with pytest.raises(KeyError, match="empty string"):
            register("", value)
        with pytest.raises(KeyError, match="already exists"):
            register("training", value)
        with pytest.raises(TypeError):
            register("name", 3)
    with pytest.raises(TypeError):
        module.register_parameter("name", engine.ones(1))

    class Early(nn.Module):
        def __init__(self) -> None:
            self.child = nn.Identity()

    with pytest.raises(AttributeError, match=r"before Module\.__init__"):
        Early()
    with pytest.raises(NotImplementedError, match="missing the required"):
        nn.Module()(1)


def test_lookup() -> None:
    net = Net()
    assert net.get_submodule("blocks.1.conv") is net.blocks[1].conv
    assert net.get_submodule("") is net
    assert net.get_parameter("blocks.0.scale") is net.blocks[0].scale
    assert net.get_buffer("blocks.0.bn.running_var") is net.blocks[0].bn.running_var
    with pytest.raises(AttributeError, match="has no attribute `2`"):
        net.get_submodule("blocks.2")
    with pytest.raises(AttributeError, match=r"not an nn\.Module"):
        net.get_submodule("stem.weight")
    with pytest.raises(AttributeError, match=r"not an nn\.Parameter"):
        net.get_parameter("stem.nothing")


def test_load_state_dict_reports_like_torch() -> None:
    layer = nn.Linear(3, 2)
    state = layer.state_dict()
    before = layer.weight.detach().numpy().copy()
    wrong = {"weight": engine.zeros(2, 4), "extra": engine.zeros(1)}
    with pytest.raises(RuntimeError) as error:
        layer.load_state_dict(wrong)
    text = str(error.value)
    assert text.startswith("Error(s) in loading state_dict for Linear:\n\t")
    assert 'Missing key(s) in state_dict: "bias". ' in text
    assert 'Unexpected key(s) in state_dict: "extra". ' in text
    assert "size mismatch for weight: copying a param with shape (2, 4) from checkpoint" in text
    assert "the shape in current model is (2, 3)." in text
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        layer.load_state_dict(wrong, strict=False)
    assert layer.load_state_dict({"bias": engine.ones(2), "extra": state["bias"]}, strict=False) == (
        ["weight"],
        ["extra"],
    )
    np.testing.assert_array_equal(layer.weight.detach().numpy(), before)
    np.testing.assert_array_equal(layer.bias.detach().numpy(), 1)
    with pytest.raises(TypeError, match="dict-like"):
        layer.load_state_dict([state["bias"]])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match='parameter named "bias"'):
        layer.load_state_dict({"bias": "text"}, strict=False)


def test_failed_load_changes_nothing() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    before = {key: value.numpy().copy() for key, value in net.state_dict().items()}
    state = {key: engine.zeros(*value.shape) for key, value in net.state_dict().items()}
    state["1.bias"] = engine.zeros(3)
    with pytest.raises(RuntimeError):
        net.load_state_dict(state)
    assert all(np.array_equal(value.numpy(), before[key]) for key, value in net.state_dict().items())


def test_load_keeps_memory_and_takes_numpy() -> None:
    layer = nn.Conv2d(2, 3, 3)
    view = layer.weight.detach().numpy()
    array = np.random.default_rng(0).standard_normal((3, 2, 3, 3))  # float64, row-major
    readonly = np.zeros(3, np.float32)
    readonly.flags.writeable = False
    layer.load_state_dict({"weight": array, "bias": readonly})
    np.testing.assert_array_equal(view, array.astype(np.float32))
    assert layer.weight.requires_grad and layer.weight.is_contiguous()
    bn = nn.BatchNorm2d(2)
    bn.load_state_dict({**bn.state_dict(), "num_batches_tracked": np.array([7])})
    assert bn.num_batches_tracked.item() == 7 and bn.num_batches_tracked.shape == ()


def test_load_can_assign() -> None:
    layer, values = nn.BatchNorm2d(2), nn.BatchNorm2d(2).state_dict()
    layer.weight.requires_grad_(False)
    layer.load_state_dict(values, assign=True)
    engine.init.constant_(values["weight"], 3.0)
    engine.init.constant_(values["running_mean"], 4.0)
    assert layer.weight.tolist() == [3.0, 3.0] and layer.running_mean.tolist() == [4.0, 4.0]
    assert isinstance(layer.weight, nn.Parameter) and not layer.weight.requires_grad and layer.bias.requires_grad


def test_registries_write_through() -> None:
    """The dictionaries that PyTorch's users reach for are views of the attributes."""
    net = nn.Sequential(nn.Linear(2, 2))
    net._modules["0"] = nn.Identity()
    assert isinstance(net[0], nn.Identity) and list(net.parameters()) == []
    layer = nn.Linear(2, 2)
    layer._parameters["weight"] = nn.Parameter(engine.zeros(2, 2))
    assert float(layer.weight.detach().sum()) == 0 and len(list(layer.parameters())) == 2
    del layer._parameters["weight"]
    assert not hasattr(layer, "weight") and "weight" not in layer._parameters
    layer.weight = engine.ones(2, 2)  # now a plain attribute
    assert list(layer.state_dict()) == ["bias"]
    with pytest.raises(KeyError):
        layer._buffers["weight"]


def test_state_dict_shares_memory() -> None:
    layer = nn.Linear(2, 2)
    state = layer.state_dict()
    engine.init.ones_(layer.weight)
    assert (state["weight"].numpy() == 1).all() and not state["weight"].requires_grad
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight


def test_modes_and_freezing() -> None:
    net = Net()
    net.eval()
    net.blocks.train()
    assert not net.training and net.blocks[0].bn.training
    with pytest.raises(ValueError, match="boolean"):
        net.train(1)  # type: ignore[arg-type]
    assert net.requires_grad_(False) is net
    assert not any(param.requires_grad for param in net.parameters())
    net.head.requires_grad_()
    net.train()(engine.ones(2, 1, 8, 8)).sum().backward()
    assert net.head.weight.grad is not None and net.stem.weight.grad is None
    net.zero_grad(set_to_none=False)
    assert float(net.head.weight.grad.abs().sum()) == 0
    names: list[str] = []
    assert net.apply(lambda module: names.append(type(module).__name__)) is net
    assert names[0] == "Conv2d" and names[-1] == "Net"


def test_to_accepts_what_is_there() -> None:
    net = Net()
    assert net.to("cpu") is net.to(engine.float32) is net.to(dtype="float32", memory_format="channels_last") is net
    assert net.cpu() is net.float() is net
    with pytest.raises(RuntimeError, match="expected device 'cpu'"):
        net.to("cuda")


def test_repr() -> None:
    assert repr(nn.Sequential(nn.Linear(1, 2), nn.Sequential(nn.ReLU()))) == (
        "Sequential(\n"
        "  (0): Linear(in_features=1, out_features=2, bias=True)\n"
        "  (1): Sequential(\n"
        "    (0): ReLU()\n"
        "  )\n"
        ")"
    )


# ---- hooks


def test_forward_hooks() -> None:
    layer = nn.Identity()
    seen: list[Any] = []
    handles = [
        layer.register_forward_pre_hook(lambda module, args: seen.append("pre")),
        layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,)),
        layer.register_forward_pre_hook(lambda module, args: seen.append("first"), prepend=True),
        layer.register_forward_hook(lambda module, args, output: seen.append((args[0].item(), output.item()))),
        layer.register_forward_hook(lambda module, args, output: output * 10),
    ]
    assert layer(engine.tensor(1.0)).item() == 20
    assert seen == ["first", "pre", (2.0, 2.0)]
    for handle in handles:
        handle.remove()
        handle.remove()
    assert layer(engine.tensor(1.0)).item() == 1

    class Add(nn.Module):
        def forward(self, x: engine.Tensor, *, to: float) -> engine.Tensor:
            return x + to

    add = Add()
    add.register_forward_pre_hook(lambda module, args, kwargs: (args, {"to": kwargs["to"] * 2}), with_kwargs=True)
    add.register_forward_hook(lambda module, args, kwargs, output: seen.append(kwargs), with_kwargs=True)
    assert add(engine.tensor(1.0), to=3.0).item() == 7
    assert seen[-1] == {"to": 6.0}


class TwoInTwoOut(nn.Module):
    def forward(self, a: Any, b: Any) -> Any:
        return a * b, a + b


def run_backward_hooks(library: Any, module: Any, replace: bool) -> list[Any]:
    """Gradients that a full backward hook sees, and those of the inputs afterwards."""
    seen: list[Any] = []

    def hook(_: Any, grad_input: Any, grad_output: Any) -> Any:
        seen.append([[None if g is None else g.tolist() for g in grads] for grads in (grad_input, grad_output)])
        return tuple(None if g is None else g * 2 for g in grad_input) if replace else None

    handle = module.register_full_backward_hook(hook)
    a = library.tensor([1.0, 2.0], requires_grad=True)
    b = library.tensor([3.0, 4.0], requires_grad=True)
    first, second = module(a, b)
    (first.sum() * 2 + second.sum() * 3).backward()
    seen.append([a.grad.tolist(), b.grad.tolist()])
    a.grad = None
    first, second = module(a, b.detach())
    first.sum().backward()
    seen.append(a.grad.tolist())
    module(a.detach(), b.detach())
    handle.remove()
    module(a, b)[0].sum().backward()
    return seen


@pytest.mark.parametrize("replace", [False, True])
def test_full_backward_hooks_agree_with_torch(replace: bool) -> None:
    torch = pytest.importorskip("torch")

    class Theirs(torch.nn.Module):
        forward = TwoInTwoOut.forward

    assert run_backward_hooks(engine, TwoInTwoOut(), replace) == run_backward_hooks(torch, Theirs(), replace)


def test_full_backward_hook_of_a_first_layer() -> None:
    """Where no input needs a gradient the hook is called with None for it."""
    layer = nn.Linear(3, 2)
    seen: list[Any] = []
    layer.register_full_backward_hook(lambda module, grad_input, grad_output: seen.append((grad_input, grad_output)))
    layer(engine.ones(4, 3)).sum().backward()
    ((grad_input, grad_output),) = seen
    assert grad_input == (None,)
    assert grad_output[0].shape == (4, 2)
    assert layer.weight.grad is not None
    with engine.no_grad():
        layer(engine.ones(4, 3))
    assert len(seen) == 1


# ---- containers


def test_sequential() -> None:
    layers = [nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)]
    net = nn.Sequential(*layers)
    assert len(net) == 3 and list(net) == layers and net[-1] is layers[2]
    assert isinstance(net[1:], nn.Sequential)
    net[1] = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    del net[1]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    net.append(nn.ReLU()).insert(1, nn.Tanh())
    assert [type(module).__name__ for module in net] == ["Linear", "Tanh", "Linear", "ReLU"]
    net.extend(nn.Sequential(nn.Identity()))
    assert isinstance(net.pop(-1), nn.Identity) and len(net) == 4
    assert len(net + nn.Sequential(nn.ReLU())) == 5
    named = nn.Sequential({"first": nn.Linear(2, 2), "second": nn.ReLU()})
    assert list(named.state_dict()) == ["first.weight", "first.bias"] and named[0] is named.first
    assert list(dict(named[1:].named_children())) == ["second"]
    with pytest.raises(IndexError, match="out of range"):
        net[7]


def test_slices_keep_the_names_of_torch() -> None:
    torch = pytest.importorskip("torch")
    for library in (nn, torch.nn):
        net = library.Sequential(library.Linear(1, 1), library.ReLU(), library.Linear(1, 1))
        assert list(net[1:].state_dict()) == ["2.weight", "2.bias"]
        blocks = library.ModuleList(list(net))
        assert list(blocks[1:].state_dict()) == ["1.weight", "1.bias"]


def test_module_list() -> None:
    blocks = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    blocks.append(nn.ReLU())
    blocks.insert(0, nn.ReLU())
    assert len(blocks) == 5 and blocks[-1] is list(blocks)[4]
    blocks[0] = nn.Tanh()
    del blocks[1:3]
    assert [type(module).__name__ for module in blocks] == ["Tanh", "Linear", "ReLU"]
    blocks += [nn.Identity()]
    assert isinstance(blocks.pop(3), nn.Identity)
    assert list(blocks.state_dict()) == ["1.weight", "1.bias"]
    assert repr(nn.ModuleList()) == "ModuleList()"


def test_module_dict() -> None:
    modules = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1)})
    modules["act"] = nn.ReLU()
    modules.update([("act", nn.Tanh()), ("fc", nn.Linear(1, 1))])
    assert list(modules) == list(modules.keys()) == ["conv", "act", "fc"] and len(modules) == 3
    assert isinstance(modules["act"], nn.Tanh) and isinstance(modules.pop("act"), nn.Tanh)
    del modules["conv"]
    assert [name for name, _ in modules.items()] == ["fc"] and "fc" in modules
    modules.clear()
    assert len(list(modules.values())) == 0


def test_parameter_containers() -> None:
    values = nn.ParameterList([engine.ones(2, 3), nn.Parameter(engine.zeros(1))])
    values.append(engine.ones(4))
    values[0] = engine.zeros(2, 2)
    assert list(values.state_dict()) == ["0", "1", "2"] and values[-1].shape == (4,) and len(values) == 3
    assert len(values[1:]) == 2 and all(isinstance(value, nn.Parameter) for value in values)
    assert "(0): Parameter containing: [" in repr(values) and "of size 2x2]" in repr(values)
    table = nn.ParameterDict({"a": engine.ones(2)})
    table["b"] = engine.zeros(3)
    assert list(table.state_dict()) == ["a", "b"] and "a" in table and len(table) == 2
    assert table["b"].requires_grad and [key for key, _ in table.items()] == list(table.keys())
    del table["a"]
    assert [value.shape for value in table.values()] == [(3,)]
