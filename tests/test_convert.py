"""Weights from container to container, Keras' Xception, and the commands that show models and weights."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

import engine
from engine import backend as B, nn
from engine.cli import main
from engine.io import FileFormatError, convert_weights, load_weights, read_weights, save_weights, write_weights
from engine.io.mapped_file import release
from engine.io.weights_file import load_into


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def arrays(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: np.array(value.numpy()) for name, value in model.state_dict().items()}


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert sorted(a) == sorted(b)
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# ---- models to files and back


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "model.safetensors", "MODEL.PTH"])
def test_a_model_comes_back(tmp_path: Path, name: str) -> None:
    model = small_net()
    model(engine.randn(2, 3, 3, 3))  # moves the running statistics
    save_weights(model, tmp_path / name)
    other = small_net()
    assert repr(load_weights(other, tmp_path / name)) == "<All keys matched successfully>"
    assert_same(arrays(model), arrays(other))
    assert os.listdir(tmp_path) == [name]
    engine.save_weights(model, tmp_path / name)  # also under the shorter names, and over an existing file
    engine.load_weights(other, tmp_path / name)


def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = small_net()
    save_weights(model, tmp_path / "model.pth")
    state = torch.load(tmp_path / "model.pth", weights_only=True)
    assert_same(arrays(model), {name: value.numpy() for name, value in state.items()})
    assert state._metadata["1"] == {"version": 2}
    assert state._metadata[""] == state._metadata["0"] == {"version": 1}
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    theirs.load_state_dict(state)
    for legacy in (False, True):
        torch.save(theirs.state_dict(), tmp_path / "theirs.pth", _use_new_zipfile_serialization=not legacy)
        other = small_net()
        load_weights(other, tmp_path / "theirs.pth")
        assert_same(arrays(model), arrays(other))


def test_versions_survive_safetensors(tmp_path: Path) -> None:
    state: OrderedDict[str, np.ndarray] = OrderedDict(weight=np.ones(2, np.float32))
    vars(state)["_metadata"] = OrderedDict({"": {"version": 1}, "bn": {"version": 2}})
    write_weights(state, tmp_path / "a.safetensors")
    convert_weights(tmp_path / "a.safetensors", tmp_path / "b.pth")
    assert vars(read_weights(tmp_path / "b.pth"))["_metadata"] == {"": {"version": 1}, "bn": {"version": 2}}
    for text in ("[]", "{", '{"a": 1, "b": {"version": "x"}}', "[" * 10000):
        engine.io.save_file({"weight": np.ones(2, np.float32)}, tmp_path / "c.safetensors", {"torch_versions": text})
        assert not vars(read_weights(tmp_path / "c.safetensors"))["_metadata"]


def test_what_does_not_fit_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = small_net()
    before = arrays(model)
    state = arrays(small_net())
    cases = {
        "Missing key": {name: value for name, value in state.items() if name != "3.bias"},
        "Unexpected key": {**state, "extra": np.zeros(1, np.float32)},
        "size mismatch for 3.weight": {**state, "3.weight": np.zeros((3, 4), np.float32)},
    }
    for words, wrong in cases.items():
        write_weights(wrong, tmp_path / "wrong.pth")
        with pytest.raises(RuntimeError, match=words):
            load_weights(model, tmp_path / "wrong.pth")
        assert_same(before, arrays(model))
        if "size" in words:
            with pytest.raises(RuntimeError, match=words):
                load_weights(model, tmp_path / "wrong.pth", strict=False)
        else:
            result = load_weights(model, tmp_path / "wrong.pth", strict=False)
            assert (result.missing_keys, result.unexpected_keys) in ((["3.bias"], []), ([], ["extra"]))
            load_into(model, dict(before))


def test_loading_copies_in_pieces_and_empties_the_dict(monkeypatch) -> None:
    monkeypatch.setattr(engine.io.weights_file, "_CHUNK", 1000)
    model = nn.Sequential(nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.Linear(100, 30))
    random = np.random.default_rng(0)
    state = {}
    for name, value in arrays(model).items():
        values = random.standard_normal(value.shape) if value.dtype == np.float32 else np.int64(7).reshape(value.shape)
        state[name] = values.astype(np.float64 if name.startswith("0") else value.dtype)
    expected = {name: value.astype(arrays(model)[name].dtype) for name, value in state.items()}
    load_into(model, state)
    assert state == {}
    assert_same(expected, arrays(model))


def test_old_files_without_batch_counters(tmp_path: Path) -> None:
    state = arrays(small_net())
    del state["1.num_batches_tracked"]
    write_weights(state, tmp_path / "old.pth")
    model = small_net()
    assert load_weights(model, tmp_path / "old.pth") == ([], [])
    assert int(arrays(model)["1.num_batches_tracked"]) == 0


def test_a_prepared_weight_is_not_used_after_loading(tmp_path: Path) -> None:
    """Kernels may keep packed copies of weights; writing must reach them."""
    model = nn.Conv2d(16, 32, 3)
    x = engine.randn(1, 16, 8, 8)
    with engine.no_grad():
        model(x)
        save_weights(nn.Conv2d(16, 32, 3), tmp_path / "other.pth")
        load_weights(model, tmp_path / "other.pth")
        after = model(x).numpy()
        fresh = nn.Conv2d(16, 32, 3)
        load_weights(fresh, tmp_path / "other.pth")
        np.testing.assert_array_equal(after, fresh(x).numpy())


# ---- files to files


def test_convert_keeps_names_types_and_bits(tmp_path: Path) -> None:
    state = {
        "a.weight": np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32),
        "a.half": np.array([1.5, np.nan, np.inf], np.float16),
        "a.count": np.array(3),
        "a.empty": np.zeros((0, 4), np.float32),
        "b": np.array([True, False]),
    }
    write_weights(state, tmp_path / "1.pth")
    for source, target in (("1.pth", "2.safetensors"), ("2.safetensors", "3.pt"), ("3.pt", "4.pth")):
        assert run("convert", tmp_path / source, tmp_path / target) == 0
        assert_same(state, read_weights(tmp_path / target, upcast=False))
    assert read_weights(tmp_path / "4.pth")["a.half"].dtype == np.float32


@pytest.mark.parametrize("legacy", [False, True])
def test_convert_from_torch(tmp_path: Path, legacy: bool, capsys) -> None:
    torch = pytest.importorskip("torch")
    state = {"module.w": torch.randn(3, 4).t(), "module.b": torch.randn(4).bfloat16(), "module.n": torch.tensor(5)}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    assert run("convert", tmp_path / "a.pth", tmp_path / "b.safetensors") == 0
    assert re.search(r"b\.safetensors: 3 arrays, 0\.0 MiB", capsys.readouterr().out)
    assert_same(
        {name.removeprefix("module."): value.float().numpy() for name, value in state.items() if value.ndim},
        {name: value for name, value in read_weights(tmp_path / "b.safetensors").items() if value.ndim},
    )
    pytest.importorskip("safetensors")
    from safetensors.torch import load_file

    assert torch.equal(load_file(tmp_path / "b.safetensors")["w"], state["module.w"])


def test_convert_says_what_is_wrong(tmp_path: Path, capsys) -> None:
    good = tmp_path / "good.pth"
    write_weights({"a": np.zeros(2, np.float32)}, good)
    (tmp_path / "bad.pth").write_bytes(b"not weights at all")
    (tmp_path / "empty.pth").write_bytes(b"")
    cases = [
        ((tmp_path / "none.pth", tmp_path / "x.pth"), "none.pth"),
        ((tmp_path / "bad.pth", tmp_path / "x.pth"), "bad.pth: "),
        ((tmp_path / "empty.pth", tmp_path / "x.pth"), "empty.pth: "),
        ((good, tmp_path / "x.onnx"), "x.onnx: weights are written as .safetensors, .pth or .pt, not as '.onnx'"),
        ((good, tmp_path / "x"), "not as 'nothing'"),
        ((good, tmp_path / "none" / "x.pth"), "none/x.pth"),
        ((good, good), "good.pth exists: choose another name, or give --force"),
    ]
    for arguments, words in cases:
        assert run("convert", *arguments) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert sorted(os.listdir(tmp_path)) == ["bad.pth", "empty.pth", "good.pth"]
    assert run("convert", good, good, "--force") == 0
    assert list(read_weights(good)) == ["a"]


def test_nothing_is_executed(tmp_path: Path, capsys) -> None:
    (tmp_path / "evil.pth").write_bytes(
        bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."
    )
    assert run("convert", tmp_path / "evil.pth", tmp_path / "x.pth") == 1
    assert "posix.system" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()


# ---- Keras


def conv(random: np.random.Generator, *shape: int) -> np.ndarray:
    return (random.standard_normal(shape) / np.sqrt(np.prod(shape[:3]))).astype(np.float32)


def keras_xception(seed: int = 0) -> OrderedDict[str, list[tuple[str, np.ndarray]]]:
    """Xception's layers as Keras lists them: in the order of building, arrays in Keras' order and axes."""
    random = np.random.default_rng(seed)
    layers: OrderedDict[str, list[tuple[str, np.ndarray]]] = OrderedDict(input_1=[])

    def norm(name: str, channels: int) -> None:
        values = {
            "gamma": random.uniform(0.5, 1.5, channels),
            "beta": random.standard_normal(channels) / 10,
            "moving_mean": random.standard_normal(channels) / 10,
            "moving_variance": random.uniform(0.5, 1.5, channels),
        }
        layers[name] = [(key, value.astype(np.float32)) for key, value in values.items()]

    def sepconv(name: str, channels: int, outputs: int) -> None:
        depthwise, pointwise = conv(random, 3, 3, channels, 1), conv(random, 1, 1, channels, outputs)
        layers[name] = [("depthwise_kernel", depthwise), ("pointwise_kernel", pointwise)]
        norm(f"{name}_bn", outputs)

    def shortcut(number: int, channels: int, outputs: int) -> None:
        suffix = f"_{number}" if number else ""
        layers[f"conv2d{suffix}"] = [("kernel", conv(random, 1, 1, channels, outputs))]
        norm(f"batch_normalization{suffix}", outputs)

    layers["block1_conv1"] = [("kernel", conv(random, 3, 3, 3, 32))]
    norm("block1_conv1_bn", 32)
    layers["block1_conv1_act"] = []
    layers["block1_conv2"] = [("kernel", conv(random, 3, 3, 32, 64))]
    norm("block1_conv2_bn", 64)
    for block, (channels, outputs) in enumerate([(64, 128), (128, 256), (256, 728)], start=2):
        shortcut(block - 2, channels, outputs)
        sepconv(f"block{block}_sepconv1", channels, outputs)
        sepconv(f"block{block}_sepconv2", outputs, outputs)
        layers[f"block{block}_pool"] = []
    for block in range(5, 13):
        for number in (1, 2, 3):
            sepconv(f"block{block}_sepconv{number}", 728, 728)
    shortcut(3, 728, 1024)
    sepconv("block13_sepconv1", 728, 728)
    sepconv("block13_sepconv2", 728, 1024)
    sepconv("block14_sepconv1", 1024, 1536)
    sepconv("block14_sepconv2", 1536, 2048)
    layers["avg_pool"] = []
    layers["predictions"] = [
        ("kernel", conv(random, 1, 1, 2048, 1000)[0, 0]),
        ("bias", random.standard_normal(1000).astype(np.float32)),
    ]
    return layers


def write_keras(path: Path, layers: OrderedDict[str, list[tuple[str, np.ndarray]]], style: str = "keras2") -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        top = file.create_group("model_weights") if style == "whole model" else file
        top.attrs["layer_names"] = [name.encode() for name in layers]
        top.attrs["backend"] = b"tensorflow"
        for name, weights in layers.items():
            group = top.create_group(name)
            names = [f"{name}_{key}" if style == "keras1" else f"{name}/{key}:0" for key, _ in weights]
            group.attrs["weight_names"] = [text.encode() for text in names]
            for text, (_, value) in zip(names, weights, strict=True):
                group.create_dataset(text, data=value)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("keras") / "xception_weights_tf_dim_ordering_tf_kernels.h5"
    write_keras(path, keras_xception())
    return path


def keras_forward(layers: OrderedDict[str, list[tuple[str, np.ndarray]]], x: np.ndarray) -> np.ndarray:
    """Keras' Xception on (N, C, H, W) in Keras' arithmetic: kernels (H, W, I, O), 0.001 in the batch norms."""
    import engine.nn.functional as F

    def convolve(x, kernel, groups=1, **options):
        if groups > 1:
            weight = kernel.transpose(2, 3, 0, 1)
        else:
            weight = kernel.transpose(3, 2, 0, 1)
        return F.conv2d(x, engine.from_numpy(np.ascontiguousarray(weight)), groups=groups, **options)

    def norm(x, name):
        gamma, beta, mean, variance = (value[None, :, None, None] for _, value in layers[name])
        scale = gamma / np.sqrt(variance + np.float32(1e-3))
        return x * engine.from_numpy(scale) + engine.from_numpy(beta - mean * scale)

    def sepconv(x, name):
        (_, depthwise), (_, pointwise) = layers[name]
        x = convolve(x, depthwise, groups=depthwise.shape[2], padding=1)
        return norm(convolve(x, pointwise), f"{name}_bn")

    y = engine.from_numpy(x)
    y = F.relu(norm(convolve(y, layers["block1_conv1"][0][1], stride=2), "block1_conv1_bn"))
    y = F.relu(norm(convolve(y, layers["block1_conv2"][0][1]), "block1_conv2_bn"))
    for number, block in enumerate([2, 3, 4]):
        suffix = f"_{number}" if number else ""
        kernel = layers[f"conv2d{suffix}"][0][1]
        shortcut = norm(convolve(y, kernel, stride=2), f"batch_normalization{suffix}")
        y = sepconv(y if block == 2 else F.relu(y), f"block{block}_sepconv1")
        y = sepconv(F.relu(y), f"block{block}_sepconv2")
        y = F.max_pool2d(y, 3, 2, 1) + shortcut
    for block in range(5, 13):
        shortcut = y
        for number in (1, 2, 3):
            y = sepconv(F.relu(y), f"block{block}_sepconv{number}")
        y = y + shortcut
    shortcut = norm(convolve(y, layers["conv2d_3"][0][1], stride=2), "batch_normalization_3")
    y = sepconv(F.relu(sepconv(F.relu(y), "block13_sepconv1")), "block13_sepconv2")
    y = F.max_pool2d(y, 3, 2, 1) + shortcut
    y = F.relu(sepconv(y, "block14_sepconv1"))
    y = F.relu(sepconv(y, "block14_sepconv2")).mean((2, 3))
    (_, kernel), (_, bias) = layers["predictions"]
    return y.numpy() @ kernel + bias


def test_keras_xception_computes_the_same(keras_file: Path) -> None:
    model = engine.models.get_model("xception", weights=keras_file)
    model.eval()
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 67, 67)).astype(np.float32)
    with engine.no_grad():
        ours = model(engine.from_numpy(x)).numpy()
        theirs = keras_forward(keras_xception(), x)
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_keras_styles_and_heads(keras_file: Path, tmp_path: Path) -> None:
    expected = read_weights(keras_file)
    assert "fc.weight" in expected
    assert expected["conv1.weight"].shape == (32, 3, 3, 3)
    assert expected["block1.rep.0.conv1.weight"].shape == (64, 1, 3, 3)
    for style in ("keras1", "whole model"):
        write_keras(tmp_path / "other.h5", keras_xception(), style)
        assert_same(expected, read_weights(tmp_path / "other.h5"))
    layers = keras_xception()
    del layers["predictions"]
    write_keras(tmp_path / "notop.h5", layers)
    assert sorted(set(expected) - set(read_weights(tmp_path / "notop.h5"))) == ["fc.bias", "fc.weight"]
    assert run("convert", keras_file, tmp_path / "xception.safetensors") == 0
    assert_same(expected, read_weights(tmp_path / "xception.safetensors"))


def test_keras_files_of_something_else(keras_file: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "wrong.h5"

    def wrong(change, words: str) -> None:
        layers = keras_xception()
        change(layers)
        write_keras(path, layers)
        with pytest.raises(FileFormatError, match=rf"wrong\.h5: .*{words}"):
            read_weights(path)

    def put(name: str, *shapes: tuple[int, ...]):
        def change(layers) -> None:
            layers[name] = [(f"w{i}", np.zeros(shape, np.float32)) for i, shape in enumerate(shapes)]

        return change

    wrong(put("dense", (5, 5)), "layer 'dense' is none of Xception's")
    wrong(put("block3_conv1", (3, 3, 2, 2)), "block3_conv1' is none")
    wrong(put("block15_sepconv1", (3, 3, 2, 1), (1, 1, 2, 2)), "block15_sepconv1' is none")
    wrong(put("block2_sepconv3", (3, 3, 2, 1), (1, 1, 2, 2)), "block2_sepconv3' is none")
    wrong(put("block2_sepconv1", (3, 3, 64, 2), (1, 1, 128, 128)), "depth multiplier")
    wrong(put("block2_sepconv1", (3, 3, 64)), "arrays of ranks")

    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(FileFormatError, match="without Keras' list of layers"):
        read_weights(path)
    write_keras(path, keras_xception())
    with h5py.File(path, "a") as file:  # links that leave the file, a huge array, a text
        dataset = "block1_conv1/block1_conv1/kernel:0"
        del file[dataset]
        file[dataset] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(FileFormatError, match="there is no"):
        read_weights(path)
    for value in (h5py.SoftLink("/block1_conv2"), "text", np.zeros(3, np.int64)):
        with h5py.File(path, "a") as file:
            del file[dataset]
            file[dataset] = value
        with pytest.raises(FileFormatError, match=r"there is no|which no weight of Xception is|no array"):
            read_weights(path)
    with h5py.File(path, "a") as file:
        del file[dataset]
        file.create_dataset(dataset, (1 << 14, 1 << 14), "f4", chunks=(1 << 10, 1 << 10), compression="gzip")
    with pytest.raises(FileFormatError, match="which no weight of Xception is"):
        read_weights(path)
    content = keras_file.read_bytes()
    for size in (0, 8, 100, 5000, len(content) // 2, len(content) - 1000):
        path.write_bytes(content[:size])
        with pytest.raises(FileFormatError, match=r"wrong\.h5: "):
            read_weights(path)


def test_without_h5py_the_extra_is_named(keras_file: Path, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r'pip install "engine\[keras\]"'):
        read_weights(keras_file)


# ---- commands that show


def test_list_of_models(capsys) -> None:
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(engine.models.list_models())
    assert run("models", "resnet*", "vgg16") == 0
    out = capsys.readouterr().out
    assert re.search(r"^resnet50 +25,557,032 +80\.86  IMAGENET1K_V1, IMAGENET1K_V2\*$", out, re.M)
    assert "vgg16 " in out
    assert "alexnet" not in out
    assert run("models", "no*such") == 1
    assert "no model matches no*such" in capsys.readouterr().err


def test_facts_about_weights(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path))
    assert run("weights", "regnet_y_16gf") == 0
    out = capsys.readouterr().out
    assert out.count("NOT for commercial use") == 2
    assert "RegNet_Y_16GF_Weights.IMAGENET1K_V2 (the default)" in out
    assert "downloaded at first use" in out
    assert run("weights", "VGG16_Weights.IMAGENET1K_FEATURES") == 0
    assert "only the features" in capsys.readouterr().out
    assert run("weights", "ResNet50_Weights") == 0
    assert capsys.readouterr().out.count("sha256") == 2
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18-f37072fd.pth").write_bytes(b"")
    assert run("weights", "resnet18") == 0
    assert str(tmp_path / "weights") in capsys.readouterr().out
    assert run("weights", "lenet5") == 1
    assert "no pretrained weights" in capsys.readouterr().err


def test_summary_of_a_model(capsys) -> None:
    assert run("summary", "lenet5") == 0
    assert "61,706" in capsys.readouterr().out
    assert run("summary", "squeezenet1_1", "--input-size", "2x3x64x64", "--num-classes", 7, "--depth", 1) == 0
    assert "2x3x64x64" in capsys.readouterr().out
    assert run("summary", "squeezenet1_1", "--input-size", "64", "--depth", 1) == 0
    assert "1x3x64x64" in capsys.readouterr().out
    assert run("summary", "resnet5O") == 1
    assert "resnet50" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("summary", "lenet5", "--input-size", "3x")


def test_release_of_what_is_not_mapped() -> None:
    release(np.zeros(3))
    assert B.to_numpy(engine.zeros(1).data)[0] == 0
