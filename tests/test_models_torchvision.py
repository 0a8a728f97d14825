"""Every model agrees with torchvision: logits, gradients, initial values; Xception with a reference assembled here.

Images are 64x64, but for Inception v3 (75x75 for logits, 107x107 for gradients); see SIZES. Numbers are random, batch
norm statistics are those of a batch.
"""

from __future__ import annotations

import gc
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_models import BY_SIZE, GOLDEN
from torchvision_models import AVAILABLE, calibrate, import_torchvision, reference, values

import engine
from engine import models, nn
from engine.io.torch_file import load_state_dict_file, release
from engine.models._registry import load_weights

if not AVAILABLE:
    pytest.skip("torch and torchvision are not installed", allow_module_level=True)

torch, torchvision = import_torchvision()

SIZES = dict.fromkeys(BY_SIZE, 64) | {"inception_v3": 75}
LOGITS = 1e-3  # relative to the largest one


def image(batch: int, size: int) -> np.ndarray:
    return 10 * values("image", (batch, 3, size, size), 5)


def free_memory() -> int:
    """Bytes that could be had without swapping; unknown is plenty."""
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(found.group(1)) * 1024 if found else 1 << 62


def loaded(name: str, state: dict[str, np.ndarray], **config: Any) -> Any:
    with models.skip_init():
        model = models.get_model(name, **config)
    assert load_weights(model, state) == []
    return model


def through_files(theirs: Any, folder: Path) -> dict[str, np.ndarray]:
    """The state dict as our reader finds it in torch's zip file, after comparison with its legacy file."""
    paths = {form: folder / f"{form}.pth" for form in ("zip", "legacy")}
    for form, path in paths.items():
        torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    state, legacy = (load_state_dict_file(path) for path in paths.values())
    assert list(state) == list(legacy) == list(theirs.state_dict())
    for key in list(legacy):
        assert np.array_equal(state[key], legacy.pop(key)), key
        release(state[key])
    for path in paths.values():
        path.unlink()  # mapped memory outlives the name
    return state


@pytest.mark.parametrize("name", BY_SIZE)
def test_logits(name: str, tmp_path: Path) -> None:
    needed = 16 * GOLDEN[name]["parameters"]  # theirs, ours, and ours packed for the kernels
    if needed > free_memory():
        pytest.skip(f"needs {needed >> 30} GiB of free memory")
    x = image(2 if name == "inception_v3" else 1, SIZES[name])  # its last stage is one pixel
    theirs, state = reference(name)
    calibrate(theirs, torch.from_numpy(x))
    with torch.no_grad():
        want = theirs(torch.from_numpy(x)).numpy()
    state.clear()
    state = through_files(theirs, tmp_path)
    del theirs
    ours = loaded(name, state).eval()
    state.clear()
    with engine.no_grad():
        got = ours(engine.tensor(x)).numpy()
    del ours
    gc.collect()
    engine.empty_cache()
    assert want.std() > 0.1
    assert np.abs(got - want).max() <= LOGITS * np.abs(want).max()


# --------------------------------------------------------------------------------------------------------------------
# Training: (size, bound of a gradient's error relative to its norm). In float32 a few of the millions of ReLU inputs
# next to zero, and maxima next to each other, fall on the other side; behind batch norms of a few values each of them
# shows, in torch's own difference between float32 and float64 as much as here. Networks without such norms, or with
# smooth activations, have the strict bound.
# --------------------------------------------------------------------------------------------------------------------

STRICT, WITH_KINKS = 2e-3, 0.15
TRAINED = {
    "alexnet": (64, STRICT),
    "convnext_tiny": (64, STRICT),
    "densenet121": (64, WITH_KINKS),
    "efficientnet_b0": (64, STRICT),
    "efficientnet_v2_s": (64, STRICT),
    "googlenet": (64, WITH_KINKS),
    "inception_v3": (107, WITH_KINKS),
    "mnasnet0_5": (64, WITH_KINKS),
    "mobilenet_v2": (64, WITH_KINKS),
    "mobilenet_v3_small": (64, WITH_KINKS),
    "regnet_y_400mf": (64, WITH_KINKS),
    "resnet18": (64, WITH_KINKS),
    "resnet50": (64, WITH_KINKS),
    "shufflenet_v2_x0_5": (64, WITH_KINKS),
    "squeezenet1_1": (64, STRICT),
    "vgg11": (32, STRICT),
}
LABELS = np.array([1, 2, 0, 5])


def without_chance(model: Any, *kinds: type) -> Any:
    for module in model.modules():
        if isinstance(module, kinds):
            module.p = 0.0
    return model.train()


def check_gradients(theirs: Any, ours: Any, loss_theirs: Any, loss_ours: Any, bound: float) -> None:
    loss_theirs.backward()
    loss_ours.backward()
    want = {name: p.grad.numpy() for name, p in theirs.items()}
    got = {name: p.grad.numpy() for name, p in ours.items()}
    assert list(got) == list(want)
    assert abs(loss_ours.item() - loss_theirs.item()) <= 1e-4 * abs(loss_theirs.item())
    # A convolution's bias before a batch norm has no gradient but noise: the norm of the whole decides there.
    floor = 1e-3 * np.sqrt(sum(np.vdot(g, g) for g in want.values()) / len(want))
    errors = {name: np.linalg.norm(got[name] - g) / (np.linalg.norm(g) + floor) for name, g in want.items()}
    wrong = {name: float(error) for name, error in errors.items() if not error <= bound}
    assert not wrong


@pytest.mark.parametrize("name", TRAINED)
def test_loss_and_gradients(name: str) -> None:
    size, bound = TRAINED[name]
    config = {"num_classes": 10}
    config |= {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    theirs, state = reference(name, **config)
    ours = without_chance(loaded(name, state, **config), nn.Dropout, nn.StochasticDepth)
    theirs = without_chance(theirs, torch.nn.Dropout, torchvision.ops.StochasticDepth)
    x = image(len(LABELS), size)
    check_gradients(
        dict(theirs.named_parameters()),
        dict(ours.named_parameters()),
        torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(LABELS)),
        nn.functional.cross_entropy(ours(engine.tensor(x)), engine.tensor(LABELS)),
        bound,
    )
    buffers = dict(theirs.named_buffers())
    for key, value in ours.named_buffers():
        scale = np.abs(buffers[key].numpy()).max() + 1e-3
        assert np.abs(value.numpy() - buffers[key].numpy()).max() <= 1e-3 * scale, key


def test_auxiliary_classifiers() -> None:
    for name, shapes in (
        ("googlenet", {"aux1": (3, 512, 14, 14), "aux2": (3, 528, 14, 14)}),
        ("inception_v3", {"AuxLogits": (3, 768, 17, 17)}),
    ):
        theirs, state = reference(name, num_classes=10)
        ours = without_chance(loaded(name, state, num_classes=10), nn.Dropout)
        without_chance(theirs, torch.nn.Dropout)
        for part, shape in shapes.items():
            x = 10 * values("features", shape, 5)
            theirs_part, ours_part = getattr(theirs, part), getattr(ours, part)
            check_gradients(
                dict(theirs_part.named_parameters()),
                dict(ours_part.named_parameters()),
                theirs_part(torch.from_numpy(x)).square().mean(),
                ours_part(engine.tensor(x)).square().mean(),
                WITH_KINKS,
            )
    theirs, state = reference("googlenet", num_classes=10, transform_input=True)
    ours = without_chance(loaded("googlenet", state, num_classes=10, transform_input=True), nn.Dropout)
    without_chance(theirs, torch.nn.Dropout)
    x = image(4, 64)
    for got, want in zip(ours(engine.tensor(x)), theirs(torch.from_numpy(x)), strict=True):
        want = want.detach().numpy()
        assert np.abs(got.detach().numpy() - want).max() <= LOGITS * np.abs(want).max()


# --------------------------------------------------------------------------------------------------------------------
# Xception, in torch's functions, from the figure of the paper
# --------------------------------------------------------------------------------------------------------------------


def torch_xception(state: dict[str, Any], x: Any, training: bool) -> Any:
    F = torch.nn.functional

    def conv(x: Any, name: str, **options: Any) -> Any:
        return F.conv2d(x, state[f"{name}.weight"], **options)

    def norm(x: Any, name: str) -> Any:
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts, training=training)

    def separable(x: Any, name: str) -> Any:
        return conv(conv(x, f"{name}.conv1", padding=1, groups=x.shape[1]), f"{name}.pointwise")

    x = F.relu(norm(conv(x, "conv1", stride=2), "bn1"))
    x = F.relu(norm(conv(x, "conv2"), "bn2"))
    for block in range(1, 13):
        shrinks = block in (1, 2, 3, 12)
        y, at = x, 0
        for _ in range(2 if shrinks else 3):
            if not (block == 1 and at == 0):
                y, at = F.relu(y), at + 1
            y = norm(separable(y, f"block{block}.rep.{at}"), f"block{block}.rep.{at + 1}")
            at += 2
        if shrinks:
            y = F.max_pool2d(y, 3, 2, 1)
            x = norm(conv(x, f"block{block}.skip", stride=2), f"block{block}.skipbn")
        x = x + y
    x = F.relu(norm(separable(x, "conv3"), "bn3"))
    x = F.relu(norm(separable(x, "conv4"), "bn4"))
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


def test_xception() -> None:
    with models.skip_init():
        ours = models.xception(num_classes=10)
    state = {key: values(key, tuple(v.shape), i) for i, (key, v) in enumerate(ours.state_dict().items())}
    load_weights(ours, state)
    theirs = {key: torch.from_numpy(value) for key, value in state.items()}
    x = image(4, 64)
    parameters = {key: theirs[key].requires_grad_() for key, _ in ours.named_parameters()}
    check_gradients(
        parameters,
        dict(ours.named_parameters()),
        torch.nn.functional.cross_entropy(
            torch_xception(theirs, torch.from_numpy(x), training=True), torch.from_numpy(LABELS)
        ),
        nn.functional.cross_entropy(ours.train()(engine.tensor(x)), engine.tensor(LABELS)),
        WITH_KINKS,
    )
    with torch.no_grad():
        for key in theirs:  # the statistics of the batch, as calibrate() does
            if key.endswith("running_var"):
                theirs[key].clamp_(min=0.3)
    load_weights(ours, {key: value.detach().numpy() for key, value in theirs.items()})
    with torch.no_grad():
        want = torch_xception(theirs, torch.from_numpy(x), training=False).numpy()
    with engine.no_grad():
        got = ours.eval()(engine.tensor(x)).numpy()
    assert np.abs(got - want).max() <= LOGITS * np.abs(want).max()


# --------------------------------------------------------------------------------------------------------------------
# Initial values
# --------------------------------------------------------------------------------------------------------------------

INITIALISED = (
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_y_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11",
)


@pytest.mark.parametrize("name", INITIALISED)
def test_initial_values_have_torchvisions_distributions(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the default of init_weights will change
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(name)
    ours = models.get_model(name)
    classifier = f"{ours.head_names[0]}.weight"
    ours_state = ours.state_dict()
    for key, value in theirs.state_dict().items():
        want, got = value.numpy().ravel()[: 1 << 20], ours_state[key].numpy().ravel()[: 1 << 20]
        if np.ptp(want) == 0:
            assert np.array_equal(want, got), key
            continue
        n = want.size
        spread = want.std()
        # The deviation of a sample's standard deviation is below sigma / sqrt(n) for all distributions in use.
        assert abs(got.std() / spread - 1) < 8 / np.sqrt(n), f"{key}: {got.std()} instead of {spread}"
        assert abs(got.mean() - want.mean()) < 8 * spread / np.sqrt(n), key
        if n > 5000:  # uniform or normal: 1.7 or 4 standard deviations to the largest one
            assert abs(np.abs(got).max() / np.abs(want).max() - 1) < 0.35, key
    before = ours_state[classifier].numpy().std()
    ours.reset_classifier(ours.num_classes)
    assert abs(ours.state_dict()[classifier].numpy().std() / before - 1) < 0.05
