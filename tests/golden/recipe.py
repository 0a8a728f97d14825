"""Two small trainings that torch and engine run from the same code: only the library passed in differs.

Weights and data come from a hash of their index, so nothing large is stored and nothing depends on a random generator.
"""

from __future__ import annotations

from typing import Any

import numpy as np

STEPS = 10
BATCH = 64


def noise(shape: tuple[int, ...], salt: int) -> np.ndarray:
    """Numbers in [-1, 1): SplitMix64 (Steele, Lea, Flood 2014) of the index and the salt."""
    with np.errstate(over="ignore"):
        z = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(salt) * np.uint64(1_000_003)
        z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) / 2**23 - 1).reshape(shape).astype(np.float32)


def lenet5(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def batch_norm_network(nn: Any) -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(96, 10),
    )


# name: network, image shape, optimizer
TRAININGS: dict[str, tuple[Any, tuple[int, int, int], Any]] = {
    "lenet5_sgd": (lenet5, (1, 28, 28), lambda optim, p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4)),
    "batch_norm_sgd": (
        batch_norm_network,
        (3, 16, 16),
        lambda optim, p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    ),
    "batch_norm_adam": (batch_norm_network, (3, 16, 16), lambda optim, p: optim.AdamW(p, lr=5e-3, weight_decay=0.01)),
}


def initial(name: str, shape: tuple[int, ...], salt: int) -> np.ndarray:
    """He et al. 2015 (arXiv 1502.01852), uniform; small biases; ones for normalisation."""
    if len(shape) == 1:
        return np.ones(shape, np.float32) if name.endswith("weight") else 0.05 * noise(shape, salt)
    return noise(shape, salt) * np.float32(np.sqrt(6 / np.prod(shape[1:])))


def batch(image: tuple[int, int, int], step: int) -> tuple[np.ndarray, np.ndarray]:
    """Each class is a fixed pattern; an image is its pattern plus noise."""
    labels = (np.arange(BATCH) * 7 + step * 3) % 10
    patterns = noise((10, *image), 77)
    return (0.7 * patterns[labels] + 0.5 * noise((BATCH, *image), 1000 + step)).astype(np.float32), labels


def losses(library: Any, functional: Any, name: str) -> list[float]:
    """The losses of ten training steps, then the loss of the eleventh batch in evaluation mode."""
    make, image, optimizer = TRAININGS[name]
    model = make(library.nn)
    state = {}
    for salt, (key, value) in enumerate(model.state_dict().items()):
        if "running" not in key and "num_batches" not in key:
            state[key] = library.tensor(initial(key, tuple(value.shape), salt))
    model.load_state_dict(state, strict=False)
    step = optimizer(library.optim, list(model.parameters()))
    found = []
    for i in range(STEPS + 1):
        if i == STEPS:
            model.eval()
        x, labels = batch(image, i)
        loss = functional.cross_entropy(model(library.tensor(x)), library.tensor(labels.astype(np.int64)))
        found.append(float(loss.item()))
        if i < STEPS:
            step.zero_grad()
            loss.backward()
            step.step()
    return found
