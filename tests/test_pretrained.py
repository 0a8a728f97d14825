"""The whole way of pretrained weights: a server, a download, a model with another head, training, saving, reloading."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback import Server, serving
from torchvision_models import import_torchvision, needs_torchvision

import engine
from engine import models
from engine.io import HubError, hub, read_weights, torch_file
from engine.models._weights import Weights


@pytest.fixture(scope="module")
def original() -> models.Model:
    """A network with weights that another program could have trained."""
    engine.manual_seed(1)
    model = models.squeezenet1_1()
    model.eval()
    return model


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ENGINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("ENGINE_HUB_LOOPBACK", "1")
    monkeypatch.delenv("ENGINE_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "_PAUSE", 0.0)
    with serving() as state:
        yield state


def published(server: Server, model: models.Model, folder: Path, extension: str = "pth") -> Weights:
    """Puts a model's weights on the server; returns an entry like those of the table."""
    path = folder / f"published.{extension}"
    engine.save_weights(model, path)
    url, _ = server.add("squeezenet1_1", path.read_bytes())
    known = models.SqueezeNet1_1_Weights.DEFAULT
    return Weights("SqueezeNet1_1_Weights.TEST", url, known.transforms, dict(known.meta))


def images(count: int, size: int = 65) -> engine.Tensor:
    preset = models.SqueezeNet1_1_Weights.DEFAULT.transforms.func(crop_size=size, resize_size=size)
    return preset(np.random.default_rng(0).integers(0, 256, (count, 80, 70, 3), dtype=np.uint8))


def test_from_the_server_to_a_trained_model_and_back(server: Server, original: models.Model, tmp_path: Path) -> None:
    entry = published(server, original, tmp_path)
    x, y = images(4), engine.tensor([0, 6, 3, 3])

    # As it is: the same outputs.
    same = models.squeezenet1_1(weights=entry, progress=False)
    same.eval()
    with engine.no_grad():
        expected = original(x).numpy()
        np.testing.assert_array_equal(same(x).numpy(), expected)
    assert os.listdir(tmp_path / "home" / "weights") == [entry.file]

    # With another head: a warning, the body from the file, which is not downloaded again.
    with pytest.warns(UserWarning, match=r"classifier\.1\.weight"):
        model = models.squeezenet1_1(weights=entry, num_classes=7, progress=False)
    assert len(server.requests) == 1
    for (name, ours), theirs in zip(model.named_parameters(), original.parameters(), strict=True):
        if name.startswith("features."):
            np.testing.assert_array_equal(ours.detach().numpy(), theirs.detach().numpy(), err_msg=name)
    model.eval()  # one step without dropout, so that it can be compared
    optimizer = engine.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    loss = engine.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    with engine.no_grad():
        after = model(x).numpy()
        assert engine.nn.functional.cross_entropy(model(x), y).item() < loss.item()
    assert after.shape == (4, 7)

    # Saved and reloaded: by path, in every container, without a word about classes.
    for name in ("tuned.pth", "tuned.safetensors"):
        engine.save_weights(model, tmp_path / name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for again in (
                models.squeezenet1_1(weights=tmp_path / name),
                models.get_model("squeezenet1_1", weights=str(tmp_path / name), num_classes=7),
            ):
                again.eval()
                with engine.no_grad():
                    np.testing.assert_array_equal(again(x).numpy(), after)


def test_torch_takes_the_tuned_model(server: Server, original: models.Model, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "tuned.pth"
    engine.save_weights(original, path)
    state = torch.load(path, weights_only=True)
    own = original.state_dict()
    assert list(state) == list(own)
    for name, value in state.items():
        assert value.dtype == torch.float32
        assert value.numpy().tobytes() == np.ascontiguousarray(own[name].numpy()).tobytes()  # bit for bit
    # And one that torch wrote, in each of its containers, comes back.
    for legacy in (False, True):
        torch.save(state, path, _use_new_zipfile_serialization=not legacy)
        again = models.squeezenet1_1(weights=path)
        for name, value in again.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), own[name].numpy())


@needs_torchvision
@pytest.mark.parametrize("name", ["resnet18", "mnasnet0_5", "shufflenet_v2_x0_5", "regnet_y_400mf"])
def test_torchvision_takes_the_weights_and_gives_them_back(name: str, tmp_path: Path) -> None:
    """Its classes look at the versions in the file: of batch norms, and of MNASNet's layout."""
    torch, torchvision = import_torchvision()
    model = models.get_model(name)
    engine.save_weights(model, tmp_path / "ours.pth")
    theirs = torchvision.models.get_model(name)
    theirs.load_state_dict(torch.load(tmp_path / "ours.pth", weights_only=True))
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    again = models.get_model(name, weights=tmp_path / "theirs.pth")
    for (key, value), expected in zip(again.state_dict().items(), model.state_dict().values(), strict=True):
        np.testing.assert_array_equal(value.numpy(), expected.numpy(), err_msg=key)


def test_grey_images(server: Server, original: models.Model, tmp_path: Path) -> None:
    entry = published(server, original, tmp_path)
    model = models.squeezenet1_1(weights=entry, in_chans=1, progress=False)
    model.eval()
    grey = images(2)[:, :1]
    with engine.no_grad():
        ours = model(grey).numpy()
        theirs = original(engine.cat([grey, grey, grey], 1)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


def test_half_precision_and_wrapped_names(server: Server, original: models.Model, tmp_path: Path) -> None:
    halves = {f"module.{key}": value.numpy().astype(np.float16) for key, value in original.state_dict().items()}
    torch_file.save({"epoch": 90, "state_dict": halves}, tmp_path / "half.pth")
    url, _ = server.add("half", (tmp_path / "half.pth").read_bytes())
    known = models.SqueezeNet1_1_Weights.DEFAULT
    entry = Weights("SqueezeNet1_1_Weights.HALF", url, known.transforms, dict(known.meta))
    model = models.squeezenet1_1(weights=entry, progress=False)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), halves[f"module.{key}"].astype(np.float32))


def test_a_damaged_download_is_neither_kept_nor_loaded(server: Server, original: models.Model, tmp_path: Path) -> None:
    entry = published(server, original, tmp_path)
    content = server.files[f"/{entry.file}"]
    server.files[f"/{entry.file}"] = content[:1000] + bytes([content[1000] ^ 1]) + content[1001:]
    with pytest.raises(HubError, match="has the SHA-256"):
        models.squeezenet1_1(weights=entry, progress=False)
    assert os.listdir(tmp_path / "home" / "weights") == []
    server.files[f"/{entry.file}"] = content
    models.squeezenet1_1(weights=entry, progress=False)


def test_weights_of_another_model(server: Server, original: models.Model, tmp_path: Path) -> None:
    engine.save_weights(original, tmp_path / "squeezenet.pth")
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict"):
        models.resnet18(weights=tmp_path / "squeezenet.pth")
    with pytest.raises(TypeError, match="expected ResNet18_Weights but received SqueezeNet1_1_Weights"):
        models.resnet18(weights=models.SqueezeNet1_1_Weights.DEFAULT)
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        models.resnet18(weights="none.pth")


def test_what_torch_has_downloaded_is_used(server: Server, original: models.Model, tmp_path: Path, monkeypatch) -> None:
    entry = published(server, original, tmp_path)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / entry.file).write_bytes(server.files[f"/{entry.file}"])
    monkeypatch.setenv("ENGINE_OFFLINE", "1")
    models.squeezenet1_1(weights=entry)
    assert not server.requests
    assert list(read_weights(folder / entry.file)) == list(original.state_dict())
