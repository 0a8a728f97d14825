"""The models: names, keys and shapes against a golden file; fine-tuning; weights of other forms; the summary.

What needs torch and torchvision is in test_models_torchvision.py.
"""

from __future__ import annotations

import inspect
import itertools
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engine
from engine import models, nn
from engine.models._registry import adapt_input_conv, from_state

GOLDEN: dict[str, Any] = json.loads(
    lzma.decompress(Path(__file__).with_name("golden").joinpath("models.json.xz").read_bytes())
)
BY_SIZE = sorted(GOLDEN, key=lambda name: (GOLDEN[name]["parameters"], name))

# One small model per family: (constructor arguments, size of the image).
FAMILIES: dict[str, tuple[dict[str, Any], int]] = {
    "alexnet": ({}, 64),
    "convnext_tiny": ({}, 32),
    "densenet121": ({}, 32),
    "efficientnet_b0": ({}, 32),
    "googlenet": ({}, 32),
    "inception_v3": ({"aux_logits": False}, 75),
    "lenet5": ({}, 32),
    "mnasnet0_5": ({}, 32),
    "mobilenet_v2": ({}, 32),
    "mobilenet_v3_small": ({}, 32),
    "regnet_y_400mf": ({}, 32),
    "resnet18": ({}, 32),
    "resnet20": ({}, 16),
    "shufflenet_v2_x0_5": ({}, 32),
    "squeezenet1_1": ({}, 32),
    "vgg11_bn": ({}, 32),
    "xception": ({}, 32),
}


def empty_model(name: str, **config: Any) -> Any:
    """A model whose values are nobody's business."""
    with models.skip_init():
        return models.get_model(name, **config)


def keys_and_shapes(model: Any) -> list[list[Any]]:
    return [[key, list(value.shape)] for key, value in model.state_dict().items()]


def arrays(model: Any) -> dict[str, np.ndarray]:
    """A copy of a model's state."""
    return {key: np.array(value.numpy()) for key, value in model.state_dict().items()}


def trainable(model: Any) -> list[str]:
    return [name for name, p in model.named_parameters() if p.requires_grad]


# --------------------------------------------------------------------------------------------------------------------
# The list
# --------------------------------------------------------------------------------------------------------------------


def test_the_list_is_that_of_torchvision_and_two_more() -> None:
    assert len(GOLDEN) == 68
    assert models.list_models() == sorted(
        [*GOLDEN, "lenet5", "resnet20", "resnet32", "resnet44", "resnet56", "xception"]
    )


def test_list_filters_by_patterns() -> None:
    assert models.list_models("vgg1?") == ["vgg11", "vgg13", "vgg16", "vgg19"]
    assert models.list_models(["VGG11*", "alex*"], exclude="*_bn") == ["alexnet", "vgg11"]
    assert models.list_models(exclude=["*"]) == []


def test_names_are_found_in_any_case_and_others_are_refused_with_advice() -> None:
    assert models.get_model_builder("ResNet50") is models.resnet50
    with pytest.raises(ValueError, match=r"Unknown model resnet51: did you mean .*resnet50"):
        models.get_model("resnet51")
    with pytest.raises(ValueError, match="already registered"):
        models.register_model()(models.resnet50)


@pytest.mark.parametrize("name", models.list_models())
def test_builders_have_one_signature_and_a_documentation(name: str) -> None:
    builder = models.get_model_builder(name)
    assert builder is getattr(models, name) and builder.__name__ == name
    signature = inspect.signature(builder)
    assert list(signature.parameters) == ["weights", "progress", "kwargs"]
    assert signature.parameters["weights"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "Args:" in (builder.__doc__ or "") and "Raises:" in (builder.__doc__ or "")


# --------------------------------------------------------------------------------------------------------------------
# Keys, shapes, groups
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BY_SIZE)
def test_keys_shapes_order_and_parameters_are_torchvisions(name: str) -> None:
    model = empty_model(name)
    assert keys_and_shapes(model) == GOLDEN[name]["state_dict"]
    assert sum(p.numel() for p in model.parameters()) == GOLDEN[name]["parameters"]


def test_keys_of_xception_are_cadenes() -> None:
    def norm(name: str, width: int) -> list[list[Any]]:
        parts = [[f"{name}.{part}", [width]] for part in ("weight", "bias", "running_mean", "running_var")]
        return [*parts, [f"{name}.num_batches_tracked", []]]

    def separable(name: str, inputs: int, outputs: int) -> list[list[Any]]:
        return [[f"{name}.conv1.weight", [inputs, 1, 3, 3]], [f"{name}.pointwise.weight", [outputs, inputs, 1, 1]]]

    want: list[list[Any]] = [["conv1.weight", [32, 3, 3, 3]], *norm("bn1", 32)]
    want += [["conv2.weight", [64, 32, 3, 3]], *norm("bn2", 64)]
    widths = {1: (64, 128, 128), 2: (128, 256, 256), 3: (256, 728, 728), 12: (728, 728, 1024)}
    for block in range(1, 13):
        channels = widths.get(block, (728, 728, 728, 728))
        if block in widths:
            want.append([f"block{block}.skip.weight", [channels[-1], channels[0], 1, 1]])
            want += norm(f"block{block}.skipbn", channels[-1])
        first = 0 if block == 1 else 1
        for i, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            want += separable(f"block{block}.rep.{first + 3 * i}", inputs, outputs)
            want += norm(f"block{block}.rep.{first + 3 * i + 1}", outputs)
    want += [*separable("conv3", 1024, 1536), *norm("bn3", 1536), *separable("conv4", 1536, 2048), *norm("bn4", 2048)]
    want += [["fc.weight", [1000, 2048]], ["fc.bias", [1000]]]
    model = empty_model("xception")
    assert keys_and_shapes(model) == want
    assert sum(p.numel() for p in model.parameters()) == 22_855_952


@pytest.mark.parametrize("name", models.list_models())
def test_layer_groups_hold_every_parameter_once_from_stem_to_head(name: str) -> None:
    model = empty_model(name)
    groups = model.layer_groups()
    assert 4 <= len(groups) <= 10
    parameters = [[p for module in group for p in module.parameters()] for group in groups]
    assert all(parameters)
    assert sorted(id(p) for group in parameters for p in group) == sorted(id(p) for p in model.parameters())
    assert any(p is model.first_conv()[1].weight for p in parameters[0])
    head = model.get_classifier()
    assert head.weight.shape[0] == model.num_classes
    assert any(p is head.weight for p in parameters[-1])
    # The order of the body is that of registration; auxiliary classifiers come with the head.
    order = {id(p): i for i, p in enumerate(model.parameters())}
    firsts = [min(order[id(p)] for p in group) for group in parameters[:-1]]
    assert firsts == sorted(firsts)


# --------------------------------------------------------------------------------------------------------------------
# One model per family, run
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_heads_features_and_channels(name: str) -> None:
    config, size = FAMILIES[name]
    model = models.get_model(name, num_classes=3, in_chans=2, **config).eval()
    x = engine.randn(2, 2, size, size)
    with engine.no_grad():
        features = model.forward_features(x)
        y = model(x)
        assert y.shape == (2, 3) and features.ndim == 4
        assert np.array_equal(model.forward_head(features).numpy(), y.numpy())
        assert np.isfinite(y.numpy()).all() and np.ptp(y.numpy()) > 0

        before = dict(model.named_parameters())
        model.reset_classifier(5)
        assert model(x).shape == (2, 5) and model.num_classes == 5
        assert model.get_classifier().weight.shape[0] == 5 and not model.get_classifier().training
        after = dict(model.named_parameters())
        heads = tuple(f"{head}." for head in model.head_names)
        assert list(after) == list(before)
        assert all((after[k] is before[k]) != k.startswith(heads) for k in before)
        assert np.std(model.get_classifier().weight.detach().numpy()) > 0

        model.reset_classifier(0)
        assert isinstance(model.get_classifier(), nn.Identity) and model(x).ndim == 2
        model.reset_classifier(4)
        assert model(x).shape == (2, 4)
    with pytest.raises(ValueError, match="num_classes"):
        model.reset_classifier(-1)


def test_no_classes_at_construction_is_a_model_without_head() -> None:
    model = models.squeezenet1_1(num_classes=0)
    assert model(engine.zeros(1, 3, 32, 32)).shape == (1, 512)
    with pytest.raises(ValueError, match="num_classes"):
        models.SqueezeNet("1_1", num_classes=-1)


def test_auxiliary_classifiers_answer_in_training_only() -> None:
    model = models.googlenet(num_classes=4, dropout=0.0, dropout_aux=0.0)
    x = engine.randn(2, 3, 32, 32)
    outputs = model(x)
    assert outputs._fields == ("logits", "aux_logits2", "aux_logits1")
    assert [o.shape for o in outputs] == [(2, 4)] * 3
    assert model.eval()(x).shape == (2, 4)
    model.train().reset_classifier(6)
    assert [o.shape for o in model(x)] == [(2, 6)] * 3
    assert type(models.googlenet(num_classes=2, aux_logits=False)(x)) is engine.Tensor

    inception = empty_model("inception_v3", num_classes=2)
    for p in inception.parameters():
        nn.init.zeros_(p)
    inception.reset_classifier(3)
    assert inception.AuxLogits(engine.zeros(2, 768, 17, 17)).shape == (2, 3)


def test_transform_input_undoes_the_usual_normalisation() -> None:
    model = models.googlenet(num_classes=2, aux_logits=False).eval()
    image = engine.rand(1, 3, 32, 32)
    mean, std = (engine.tensor(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with engine.no_grad():
        plain = model((image - 0.5) / 0.5)
        model.transform_input = True
        same = model((image - mean) / std)
    assert np.allclose(same.numpy(), plain.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="3 channels"):
        models.googlenet(num_classes=2, transform_input=True, in_chans=1)


def test_tensorflows_pooling_pads_even_sizes_at_the_end() -> None:
    from engine.models.xception import _SamePool

    x = np.arange(48, dtype=np.float32).reshape(1, 1, 6, 8)
    for height, width in ((6, 8), (5, 8), (6, 7), (5, 7)):
        part = np.ascontiguousarray(x[:, :, :height, :width])
        pads = [((n % 2), 1) for n in (height, width)]
        padded = np.pad(part[0, 0], pads, constant_values=-np.inf)
        want = [
            [padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range((width + 1) // 2)]
            for i in range((height + 1) // 2)
        ]
        assert np.array_equal(_SamePool()(engine.tensor(part)).numpy()[0, 0], want)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=1 and base_width=64"):
        models.resnet18(groups=2)
    with pytest.raises(ValueError, match="3-element"):
        models.resnet50(replace_stride_with_dilation=(True,))
    with pytest.raises(TypeError, match="width_per_group"):
        models.wide_resnet50_2(width_per_group=64)
    with pytest.raises(TypeError, match="number_of_classes"):
        models.resnet18(number_of_classes=3)
    with pytest.raises(ValueError, match="SqueezeNet version"):
        models.SqueezeNet("2_0")


def test_dilation_keeps_the_resolution() -> None:
    model = empty_model("resnet50", num_classes=2, replace_stride_with_dilation=(False, True, True)).eval()
    for p in model.parameters():
        nn.init.zeros_(p)
    assert model.forward_features(engine.zeros(1, 3, 64, 64)).shape == (1, 2048, 8, 8)


# --------------------------------------------------------------------------------------------------------------------
# Freezing
# --------------------------------------------------------------------------------------------------------------------


def test_freeze_says_what_learns() -> None:
    model = models.resnet18(num_classes=2)
    assert trainable(model.freeze()) == ["fc.weight", "fc.bias"]
    assert all(n.startswith(("layer4", "fc")) for n in trainable(model.freeze(-2)))
    assert all(n.startswith(("layer4", "fc")) for n in trainable(model.freeze("layer3.1.conv2")))
    assert len(trainable(model.freeze(2))) > len(trainable(model.freeze(3)))
    assert trainable(model.freeze(len(model.layer_groups()))) == []
    assert len(trainable(model.unfreeze())) == len(list(model.parameters()))
    with pytest.raises(ValueError, match="up_to"):
        model.freeze(7)
    with pytest.raises(ValueError, match="no parameters"):
        model.freeze("relu")
    with pytest.raises(AttributeError):
        model.freeze("layer9")


def test_frozen_batch_norms_survive_train() -> None:
    model = models.mobilenet_v3_small(num_classes=2, dropout=0.0).freeze(3)
    x = engine.randn(4, 3, 32, 32)
    wrapped = nn.Sequential(model)  # whatever stands around it
    optimizer = engine.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    before = arrays(model)
    for switch in (model.train, wrapped.train, model.features.train):
        switch()
        loss = nn.functional.cross_entropy(wrapped(x), engine.tensor([0, 1, 0, 1]))
        loss.backward()
        optimizer.step()
    after = arrays(model)
    frozen = {id(m) for group in model.layer_groups()[:3] for m in group}
    names = {name for name, m in model.named_modules() if id(m) in frozen}
    inside = {k for k in before if any(k.startswith(f"{name}.") for name in names)}
    assert len(inside) > 50
    assert all(np.array_equal(before[k], after[k]) for k in inside)
    assert not any(np.array_equal(before[k], after[k]) for k in set(before) - inside if "running_mean" in k)
    assert model.training and not model.features[1].block[0][1].training and model.features[-1][1].training
    assert all(p.grad is None for name, p in model.named_parameters() if name in inside)

    model.unfreeze()
    assert model.features[1].block[0][1].training
    model(x)
    assert not np.array_equal(arrays(model)["features.0.1.running_mean"], after["features.0.1.running_mean"])


def test_frozen_stays_frozen_in_copies_and_eval() -> None:
    import copy

    model = copy.deepcopy(models.resnet18(num_classes=2).freeze())
    model.train()
    assert model.training and not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    model.eval().unfreeze()
    assert not any(m.training for m in model.modules())


# --------------------------------------------------------------------------------------------------------------------
# Weights from elsewhere
# --------------------------------------------------------------------------------------------------------------------


def agree(a: Any, b: Any, x: Any) -> bool:
    with engine.no_grad():
        return np.allclose(a.eval()(x).numpy(), b.eval()(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_file_gives_the_model_its_classes_and_channels(tmp_path: Path) -> None:
    source = models.squeezenet1_1(num_classes=6, in_chans=2)
    path = tmp_path / "weights.safetensors"
    engine.io.save_file(arrays(source), path)
    model = models.squeezenet1_1(weights=path)
    assert model.num_classes == 6 and agree(model, source, engine.randn(1, 2, 32, 32))
    model = models.get_model("squeezenet1_1", weights=str(path), in_chans=2, num_classes=6)
    assert agree(model, source, engine.randn(1, 2, 32, 32))


def test_a_head_of_another_size_is_left_out_with_a_warning(tmp_path: Path) -> None:
    source = models.mobilenet_v3_small(num_classes=6)
    path = tmp_path / "weights.safetensors"
    engine.io.save_file(arrays(source), path)
    with pytest.warns(UserWarning, match=r"classifier\.3\.weight, classifier\.3\.bias: train these"):
        model = models.mobilenet_v3_small(weights=path, num_classes=4)
    new, old = arrays(model), arrays(source)
    assert all(np.array_equal(new[k], old[k]) for k in old if not k.startswith("classifier.3."))
    assert new["classifier.3.weight"].shape == (4, 1024)
    assert 0.005 < new["classifier.3.weight"].std() < 0.02 and not new["classifier.3.bias"].any()
    without = models.mobilenet_v3_small(weights=path, num_classes=0)
    assert isinstance(without.get_classifier(), nn.Identity)


def test_the_first_convolution_is_adapted() -> None:
    source = models.squeezenet1_1(num_classes=3).eval()
    state = arrays(source)
    grey = from_state(models.SqueezeNet, state, version="1_1", in_chans=1)
    x = engine.randn(1, 1, 32, 32)
    assert agree(grey, lambda_module(lambda x: source(engine.cat([x, x, x], 1))), x)
    many = from_state(models.SqueezeNet, state, version="1_1", in_chans=6).eval()
    x = engine.randn(1, 3, 32, 32)
    assert agree(lambda_module(lambda x: many(engine.cat([x, x], 1))), source, x)
    five = adapt_input_conv(5, state["features.0.weight"])
    assert np.array_equal(five[:, 4], state["features.0.weight"][:, 1] * np.float32(3 / 5))


def lambda_module(function: Any) -> Any:
    class Module(nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    return Module()


def test_models_have_memory_of_their_own() -> None:
    config: dict[str, Any] = {"version": "1_1"}
    state = arrays(models.squeezenet1_1(num_classes=3))
    for array in list(state.values())[::2]:
        array.flags.writeable = False
    first, second = (from_state(models.SqueezeNet, state, **config) for _ in range(2))
    want = {key: value.copy() for key, value in state.items()}
    for p in first.parameters():
        nn.init.zeros_(p)
    for loaded in (state, arrays(second)):
        assert all(np.array_equal(value, want[key]) for key, value in loaded.items())


def test_what_does_not_fit_is_an_error_in_torchs_words() -> None:
    state = arrays(models.squeezenet1_1(num_classes=3))

    def load(**changes: Any) -> None:
        from_state(models.SqueezeNet, {**state, **changes}, version="1_1")

    with pytest.raises(RuntimeError, match=r'Unexpected key\(s\) in state_dict: "extra"'):
        load(extra=np.zeros(1, np.float32))
    with pytest.raises(RuntimeError, match=r"size mismatch for features\.3\.squeeze\.bias"):
        load(**{"features.3.squeeze.bias": np.zeros(3, np.float32)})
    with pytest.raises(RuntimeError, match=r"size mismatch for features\.0\.weight"):
        load(**{"features.0.weight": np.zeros((64, 3, 5, 5), np.float32)})
    with pytest.raises(RuntimeError, match="size mismatch for classifier"):
        load(**{"classifier.1.weight": np.zeros((3, 100, 1, 1), np.float32)})
    del state["features.3.squeeze.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "features.3.squeeze.bias"'):
        load()


def test_old_files_of_densenet_and_files_without_counts() -> None:
    config: dict[str, Any] = {"growth_rate": 4, "block_config": (2, 1, 1, 1), "num_init_features": 8, "num_classes": 2}
    source = models.DenseNet(**config)
    old = {}
    for key, value in arrays(source).items():
        if not key.endswith("num_batches_tracked"):
            for part in ("norm1", "norm2", "conv1", "conv2"):
                key = key.replace(f".{part}.", f".{part[:-1]}.{part[-1]}.")
            old[key] = value
    assert "features.denseblock1.denselayer2.norm.1.weight" in old and "features.norm0.weight" in old
    x = engine.randn(1, 3, 32, 32)
    assert agree(from_state(models.DenseNet, old, **config), source, x)
    by_hand = models.DenseNet(**config)
    by_hand.load_state_dict({key: engine.tensor(value) for key, value in old.items()})
    assert agree(by_hand, source, x)
    assert int(by_hand.features.norm0.num_batches_tracked) == 0


def test_timms_names_of_vgg() -> None:
    model = empty_model("vgg11", num_classes=2)
    names = {"classifier.0": "pre_logits.fc1", "classifier.3": "pre_logits.fc2", "classifier.6": "head.fc"}
    timm: dict[str, np.ndarray] = {}
    for key, value in model.state_dict().items():
        layer, _, part = key.rpartition(".")
        shape = {"pre_logits.fc1.weight": (4096, 512, 7, 7), "pre_logits.fc2.weight": (4096, 4096, 1, 1)}
        new = f"{names.get(layer, layer)}.{part}"
        timm[new] = np.broadcast_to(np.float32(0), shape.get(new, value.shape))
    converted = model.convert_state_dict(timm)
    assert {k: v.shape for k, v in converted.items()} == {k: tuple(v.shape) for k, v in model.state_dict().items()}


def test_the_first_version_of_mnasnet_brings_its_stem() -> None:
    model = models.mnasnet0_5(num_classes=2)
    state = arrays(model)
    first = models.MNASNet(1.0, num_classes=2)
    for key, value in arrays(first).items():
        if key.startswith("layers.") and int(key.split(".")[1]) < 8:
            state[key] = value
    state["layers.8.0.layers.0.weight"] = np.ones((48, 16, 1, 1), np.float32)
    for i, width in ((1, 48), (4, 48)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"layers.8.0.layers.{i}.{part}"] = np.ones(width, np.float32)
    state["layers.8.0.layers.3.weight"] = np.ones((48, 1, 3, 3), np.float32)
    state["layers.8.0.layers.6.weight"] = np.ones((16, 48, 1, 1), np.float32)
    with pytest.warns(UserWarning, match="first version"):
        loaded = from_state(models.MNASNet, state, alpha=0.5)
    assert loaded.layers[0].weight.shape[0] == 32 and loaded.eval()(engine.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert np.array_equal(arrays(loaded)["layers.6.weight"], arrays(first)["layers.6.weight"])


def test_half_precision_and_matrices_become_what_the_model_has() -> None:
    source = models.squeezenet1_1(num_classes=3)
    half = {key: value.astype(np.float16) for key, value in arrays(source).items()}
    loaded = from_state(models.SqueezeNet, half, version="1_1")
    want = {key: value.astype(np.float16).astype(np.float32) for key, value in arrays(source).items()}
    assert all(np.array_equal(value, want[key]) for key, value in arrays(loaded).items())

    model = empty_model("xception", num_classes=2)
    flat = {
        key.replace("fc.", "last_linear."): np.broadcast_to(
            np.float32(0), value.shape[:2] if ".pointwise." in key else value.shape
        )
        for key, value in model.state_dict().items()
    }
    converted = model.convert_state_dict(flat)
    assert {k: v.shape for k, v in converted.items()} == {k: tuple(v.shape) for k, v in model.state_dict().items()}


def test_auxiliary_classifiers_need_not_be_in_the_file() -> None:
    with_aux = arrays(models.googlenet(num_classes=2))
    assert any(key.startswith("aux1.") for key in with_aux)
    plain = from_state(models.GoogLeNet, with_aux, aux_logits=False)
    without = arrays(plain)
    assert not any(key.startswith("aux") for key in without)
    with pytest.warns(UserWarning, match=r"aux1\.conv\.conv\.weight"):
        again = from_state(models.GoogLeNet, without, aux_logits=True)
    assert 0.005 < float(again.aux1.fc1.weight.std()) < 0.02
    with pytest.warns(UserWarning, match=r"fc\.weight, fc\.bias, aux1\.fc2\.weight, aux1\.fc2\.bias, aux2"):
        from_state(models.GoogLeNet, with_aux, num_classes=5)


def test_weights_change_the_defaults_of_the_inception_family(tmp_path: Path) -> None:
    path = tmp_path / "googlenet.safetensors"
    engine.io.save_file(arrays(models.googlenet(num_classes=2)), path)
    model = models.googlenet(weights=path)
    assert model.transform_input and not model.aux_logits and model.aux1 is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = models.googlenet(weights=path, aux_logits=True, in_chans=1)
    assert not model.transform_input and model.aux1 is not None
    engine.io.save_file(arrays(models.googlenet(num_classes=2, aux_logits=False, in_chans=1)), path)
    model = models.googlenet(weights=path)
    assert not model.transform_input and model.first_conv()[1].in_channels == 1


def test_skip_init_draws_nothing() -> None:
    state = engine.get_rng_state()
    with models.skip_init():
        models.resnet18()
        models.ResNet(models.resnet.BasicBlock, (1, 1, 1, 1))
    assert engine.get_rng_state() == state
    models.lenet5()
    assert engine.get_rng_state() != state


def test_seeds_make_models_equal() -> None:
    engine.manual_seed(3)
    first = arrays(models.squeezenet1_1(num_classes=2))
    engine.manual_seed(3)
    second = arrays(models.squeezenet1_1(num_classes=2))
    assert all(np.array_equal(first[k], second[k]) for k in first)


# --------------------------------------------------------------------------------------------------------------------
# Summary
# --------------------------------------------------------------------------------------------------------------------


def test_summary_of_resnet50_is_what_everybody_says() -> None:
    summary = models.resnet50().summary()
    assert summary.input_size == (1, 3, 224, 224)
    assert summary.parameters == summary.trainable == 25_557_032
    assert abs(summary.flops / 1e9 - 8.178) < 0.001  # torchvision states 4.089 G multiply-adds
    text = str(summary)
    assert "25,557,032" in text and "8.178 G" in text and "a multiply-add is two" in text
    rows = {row.name: row for row in summary.rows}
    assert rows["conv1"].output == (1, 64, 112, 112)
    assert rows["conv1"].flops == 2 * 64 * 112 * 112 * 3 * 7 * 7
    assert rows["conv1"].activations == 4 * 64 * 112 * 112
    assert rows["layer1.0"].parameters == 75_008
    assert sum(row.flops for row in summary.rows if row.leaf) == summary.flops


def test_summary_scales_with_the_batch_and_leaves_the_model_as_it_was() -> None:
    model = models.shufflenet_v2_x0_5(num_classes=2).freeze(2)
    before, hooks = arrays(model), [m._forward_hooks for m in model.modules()]
    modes = [m.training for m in model.modules()]
    one, two = model.summary((3, 32, 32)), model.summary((2, 3, 32, 32), depth=1)
    assert two.flops == 2 * one.flops and two.activations == 2 * one.activations
    assert one.trainable < one.parameters == two.parameters
    assert [m.training for m in model.modules()] == modes and not any(hooks)
    assert all(np.array_equal(value, before[key]) for key, value in arrays(model).items())
    assert len(str(two).splitlines()) < len(str(one).splitlines())
