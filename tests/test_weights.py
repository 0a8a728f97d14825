"""The table of pretrained weights, how weights are named, and the transforms that belong to them."""

from __future__ import annotations

import copy
import json
import lzma
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from torchvision_models import import_torchvision, needs_torchvision

import engine
from engine import models
from engine.data import ImageClassification
from engine.models import _weights

PACKAGE = Path(engine.__file__).parent
TABLE = json.loads((PACKAGE / "models" / "weights.json").read_text())
ENTRIES = [entry for name in _weights.table() for entry in models.get_model_weights(name)]


# ---- the table


def test_the_table_is_complete() -> None:
    assert len(TABLE) == 69
    assert len(ENTRIES) == 99  # torchvision's 98 and Xception's
    assert len({row["model"] for row in TABLE}) == len({row["enum"] for row in TABLE}) == len(TABLE)


def test_every_model_of_the_table_exists_and_names_fit() -> None:
    missing = sorted({row["model"] for row in TABLE} - set(models.list_models()))
    assert not missing
    for row in TABLE:
        assert row["enum"].removesuffix("_Weights").lower().replace("_", "") == row["model"].replace("_", "")


def test_files_come_by_https_and_carry_their_hash() -> None:
    names = [entry.value.file for entry in ENTRIES]
    assert len(set(names)) == len(names)
    for entry in ENTRIES:
        assert entry.url.startswith("https://")
        assert re.fullmatch("[0-9a-f]{8,}", entry.value.sha256), entry.url
        assert entry.url.endswith(f"-{entry.value.sha256}.pth")
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", entry.value.file)
        assert not entry.value.is_local


def test_facts_are_plausible() -> None:
    for entry in ENTRIES:
        meta = entry.meta
        accuracy = meta["_metrics"]["ImageNet-1K"]
        if meta["categories"] is None:
            assert entry is models.VGG16_Weights.IMAGENET1K_FEATURES
            assert math.isnan(accuracy["acc@1"])
        else:
            assert 50 < accuracy["acc@1"] < accuracy["acc@5"] < 100
        half = "wide_resnet" in entry.url and entry.name.endswith("V1")  # stored in 16 bits
        bytes_per_parameter = meta["_file_size"] * 2**20 / meta["num_params"]
        extra = 2.1 if "googlenet" in entry.url else 1.05  # auxiliary heads, which num_params leaves out
        assert (2 if half else 4) <= bytes_per_parameter < (2 if half else 4) * extra, entry
        assert entry.value.num_classes == 1000
        assert meta["min_size"][0] <= entry.transforms().crop_size <= 600
        assert meta["recipe"].startswith("https://")


def test_categories_are_those_of_imagenet() -> None:
    names = models.ResNet50_Weights.DEFAULT.meta["categories"]
    assert len(names) == 1000
    assert all(name and name == name.strip() for name in names)
    assert names[0] == "tench"
    assert names[999] == "toilet tissue"
    assert models.ResNet18_Weights.DEFAULT.meta["categories"] is names


def test_licences() -> None:
    restricted = {str(entry) for entry in ENTRIES if entry.value.non_commercial}
    assert len(restricted) == 6
    assert all(re.fullmatch(r"RegNet_Y_\d+GF_Weights\.IMAGENET1K_SWAG_(E2E|LINEAR)_V1", name) for name in restricted)
    assert {entry.meta["license"] for entry in ENTRIES} == {"BSD-3-Clause", "CC-BY-NC-4.0", "Apache-2.0"}


def test_the_table_agrees_with_the_recorded_models() -> None:
    recorded = json.loads(lzma.decompress((Path(__file__).parent / "golden" / "models.json.xz").read_bytes()))
    assert set(recorded) == {row["model"] for row in TABLE} - {"xception"}
    for row in TABLE:
        if row["model"] not in ("xception", "googlenet"):  # that number is without the auxiliary heads
            assert row["params"] == recorded[row["model"]]["parameters"], row["model"]


@needs_torchvision
def test_the_table_agrees_with_torchvision() -> None:
    theirs = import_torchvision()[1].models
    for row in TABLE:
        if row["model"] == "xception":
            continue
        expected, ours = theirs.get_model_weights(row["model"]), models.get_model_weights(row["model"])
        assert expected.__name__ == ours.__name__
        assert list(expected.__members__) == list(ours.__members__)
        for name, their in expected.__members__.items():
            our = ours[name]
            assert (str(our), our.name, our.url) == (str(their), their.name, their.url)
            for key in ("categories", "num_params", "recipe", "_ops", "_file_size"):
                assert our.meta[key] == their.meta[key], key
            assert tuple(their.meta["min_size"]) == our.meta["min_size"]
            np.testing.assert_equal(our.meta["_metrics"], their.meta["_metrics"])
            a, b = our.transforms(), their.transforms()
            assert ([a.crop_size], [a.resize_size]) == (b.crop_size, b.resize_size)
            assert (a.interpolation, list(a.mean), list(a.std)) == (b.interpolation.value, [*b.mean], [*b.std])


# ---- enum classes and names


def test_enum_classes_are_made_at_first_use() -> None:
    code = (
        "import engine.models, sys; from engine.models import _weights\n"
        "assert not _weights._enum.cache_info().currsize\n"
        "assert not {'engine.io.hub', 'urllib.request', 'h5py'} & set(sys.modules)\n"
        "engine.models.ResNet50_Weights; assert _weights._enum.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_members_behave_as_in_torchvision() -> None:
    enum = models.ResNet50_Weights
    assert [member.name for member in enum] == ["IMAGENET1K_V1", "IMAGENET1K_V2"]
    assert enum.DEFAULT is enum.IMAGENET1K_V2
    assert str(enum.DEFAULT) == "ResNet50_Weights.IMAGENET1K_V2"
    assert issubclass(enum, models.WeightsEnum)
    assert enum is models.ResNet50_Weights
    assert "ResNet50_Weights" in dir(models)
    assert pickle.loads(pickle.dumps(enum.DEFAULT)) is enum.DEFAULT
    assert copy.deepcopy({"weights": enum.DEFAULT})["weights"] is enum.DEFAULT
    assert enum.verify("IMAGENET1K_V1") is enum.verify("ResNet50_Weights.IMAGENET1K_V1") is enum.IMAGENET1K_V1
    assert enum.verify(None) is None
    with pytest.raises(TypeError, match="expected ResNet50_Weights but received ResNet18_Weights"):
        enum.verify(models.ResNet18_Weights.DEFAULT)
    with pytest.raises(AttributeError, match="Nothing_Weights"):
        models.Nothing_Weights  # noqa: B018


def test_looking_up() -> None:
    assert models.get_model_weights("RegNet_Y_128GF") is models.RegNet_Y_128GF_Weights
    assert models.get_model_weights(models.get_model_builder("resnet18")) is models.ResNet18_Weights
    assert models.get_weight("VGG16_Weights.IMAGENET1K_FEATURES") is models.VGG16_Weights.IMAGENET1K_FEATURES
    with pytest.raises(ValueError, match="did you mean resnet50"):
        models.get_model_weights("resnet5O")
    with pytest.raises(ValueError, match="no pretrained weights for a model 'lenet5'"):
        models.get_model_weights("lenet5")
    for name, words in (
        ("ResNet50_Weights", "expected a class and a member"),
        ("ResNet50_Weights.", "expected a class and a member"),
        ("ResNet5O_Weights.DEFAULT", "did you mean ResNet50_Weights"),
        ("ResNet50_Weights.V3", "has no member 'V3': it has IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT"),
    ):
        with pytest.raises(ValueError, match=words):
            models.get_weight(name)


def test_resolve_accepts_all_that_people_write(tmp_path: Path) -> None:
    best = models.ResNet50_Weights.IMAGENET1K_V2
    for weights in ("DEFAULT", "IMAGENET1K_V2", "ResNet50_Weights.DEFAULT", best, best.value):
        assert _weights.resolve("resnet50", weights) is best.value
    path = tmp_path / "model.pth"
    path.write_bytes(b"")
    for weights in (path, str(path)):
        entry = _weights.resolve("resnet50", weights)
        assert entry is not None
        assert entry.is_local
        assert entry.url == str(path)
        assert entry.sha256 == ""
        assert entry.num_classes is None
    assert _weights.resolve("lenet5", path) is not None


def test_resolve_refuses_the_rest(tmp_path: Path) -> None:
    for weights in (models.ResNet18_Weights.DEFAULT, "ResNet18_Weights.DEFAULT"):
        with pytest.raises(TypeError, match="expected ResNet50_Weights but received ResNet18_Weights"):
            _weights.resolve("resnet50", weights)
        with pytest.raises(TypeError, match="lenet5 has no pretrained weights"):
            _weights.resolve("lenet5", weights)
    for weights in (None, True, 3, ["DEFAULT"], models.ResNet50_Weights):
        with pytest.raises(TypeError, match=r"\[resnet50\] expected weights to be a member of ResNet50_Weights"):
            _weights.resolve("resnet50", weights)
    for weights in (tmp_path / "none.pth", "none.pth", "folder/none", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            _weights.resolve("resnet50", weights)
    with pytest.raises(ValueError, match="no weights 'IMAGENET21K': the pretrained ones are IMAGENET1K_V1"):
        _weights.resolve("resnet50", "IMAGENET21K")
    with pytest.raises(ValueError, match="there are no pretrained ones"):
        _weights.resolve("lenet5", "DEFAULT")
    with pytest.raises(ValueError, match="has no member"):
        _weights.resolve("resnet50", "ResNet50_Weights.V3")


def test_a_restricted_licence_is_shown_when_weights_are_used(monkeypatch) -> None:
    monkeypatch.setenv("ENGINE_OFFLINE", "1")
    monkeypatch.setenv("ENGINE_HOME", "/nonexistent")
    monkeypatch.setenv("TORCH_HOME", "/nonexistent")
    with (
        pytest.warns(UserWarning, match=r"CC-BY-NC-4\.0, for non-commercial use only"),
        pytest.raises(engine.io.HubError, match="ENGINE_OFFLINE"),
    ):
        _weights.fetch(models.RegNet_Y_16GF_Weights.IMAGENET1K_SWAG_E2E_V1, progress=False)
    with pytest.raises(engine.io.HubError, match=r"resnet18-f37072fd\.pth"):
        models.ResNet18_Weights.DEFAULT.get_state_dict(progress=False)


# ---- transforms


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes with some noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / (7 + 5 * c) + seed) * np.cos(y / (11 + 3 * c)) for c in range(3)]
    noisy = 128 + 100 * np.stack(waves, axis=2) + random.normal(0, 15, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


SIZES = [(300, 400), (500, 333), (224, 224), (100, 150), (257, 256), (40, 260), (1, 1)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", SIZES)
def test_arrays_and_pillow_images_agree(size: tuple[int, int], interpolation: str) -> None:
    Image = pytest.importorskip("PIL.Image")
    preset = ImageClassification(crop_size=224, resize_size=232, interpolation=interpolation)
    pixels = picture(*size)
    ours, theirs = preset(pixels), preset(Image.fromarray(pixels))
    assert ours.shape == theirs.shape == (3, 224, 224)
    levels = np.abs(ours.numpy() - theirs.numpy()) * 255 * np.array(preset.std)[:, None, None]
    assert np.mean(levels > 1.01) < 1e-3
    if interpolation == "bilinear" or size[0] <= size[1]:  # newer versions of Pillow turn the order of axes round
        assert levels.max() <= 1.01


@needs_torchvision
@pytest.mark.parametrize("size", SIZES[:-1])
def test_transforms_agree_with_torchvision(size: tuple[int, int]) -> None:
    theirs = import_torchvision()[1].models
    Image = pytest.importorskip("PIL.Image")
    image = Image.fromarray(picture(*size))
    for name in ("ResNet50_Weights.DEFAULT", "EfficientNet_B3_Weights.DEFAULT", "VGG16_Weights.IMAGENET1K_FEATURES"):
        expected = theirs.get_weight(name).transforms()(image).numpy()
        np.testing.assert_allclose(models.get_weight(name).transforms()(image).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_batches_modes_and_loaders() -> None:
    preset = ImageClassification(crop_size=8, resize_size=10)
    batch = np.stack([picture(20, 30, seed) for seed in range(3)])
    result = preset(batch)
    assert result.shape == (3, 3, 8, 8)
    np.testing.assert_array_equal(result[1].numpy(), preset(batch[1]).numpy())
    np.testing.assert_array_equal(preset(batch[..., :1]).numpy(), preset(np.repeat(batch[..., :1], 3, 3)).numpy())
    loader = engine.data.DataLoader(engine.data.ArrayDataset(batch, np.arange(3)), 2, transform=preset)
    assert [images.shape for images, _ in loader] == [(2, 3, 8, 8), (1, 3, 8, 8)]
    grey = ImageClassification(crop_size=8, resize_size=10, mean=(0.5,), std=(0.5,))
    assert grey(batch[..., :1]).shape == (3, 1, 8, 8)
    Image = pytest.importorskip("PIL.Image")
    for mode in ("L", "P", "RGBA", "CMYK", "1"):
        assert preset(Image.fromarray(batch[0]).convert(mode)).shape == (3, 8, 8)
    assert grey(Image.fromarray(batch[0])).shape == (1, 8, 8)


def test_transforms_say_what_they_take() -> None:
    preset = ImageClassification(crop_size=8, resize_size=10)
    for wrong in (np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32), "picture.jpg", engine.zeros(3, 5, 5)):
        with pytest.raises(TypeError, match="expected a Pillow image or uint8"):
            preset(wrong)
    with pytest.raises(ValueError, match="with pixels"):
        preset(np.zeros((0, 5, 3), np.uint8))
    with pytest.raises(ValueError, match="channels"):
        preset(np.zeros((9, 9, 4), np.uint8))
    for options in ({"crop_size": 0}, {"crop_size": 8, "resize_size": 0}, {"crop_size": 8, "interpolation": "cubic"}):
        with pytest.raises(ValueError, match="expected sizes of at least 1"):
            ImageClassification(**options)
