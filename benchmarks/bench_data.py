"""Images from files to a model's inputs: the engine's loader beside torchvision's pipeline, one thread each.

    python benchmarks/bench_data.py --output benchmarks/results/data.json
    python benchmarks/bench_data.py --images 8 --rounds 3 --skip-training

Every contender reads the same JPEG files of 500 x 375 pixels from the system's cache and makes batches of 224 x 224:
decode, RandomResizedCrop(224), RandomHorizontalFlip, bytes to floats, normalise, stack. One call is one pass over
the files in the loop's own thread (num_workers=0), calls are interleaved:

* engine: `DataLoader(ImageFolder(...), transform=Compose([...]))`, JPEG decoding by simplejpeg;
* engine_pillow: the same with Pillow's decoder;
* torchvision: `torch.utils.data.DataLoader` over torchvision's `ImageFolder` with Pillow, transforms v2 on Pillow
  images: RandomResizedCrop(224, antialias=True), RandomHorizontalFlip, ToImage, ToDtype(float32, scale=True),
  Normalize; `torch.set_num_threads(1)`.

The pixels are synthetic: each channel has the power spectrum of photographs (1 / frequency) and shares most of its
values with the others; two JPEG qualities give files of about 65 and 110 kB, the larger as ImageNet's are on
average. "stages_ms_per_image" tells where the engine's time goes.

The last row trains ResNet-18 with batch norm and SGD on such files with two workers: the share of a step that the loop
waits for its batch, as the loader counts it.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUALITIES = {"65 kB": 70, "110 kB": 90}
HEIGHT, WIDTH, SIZE = 375, 500, 224


def photograph(seed: int) -> np.ndarray:
    """Colours with the spectrum of photographs, (375, 500, 3) uint8."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(WIDTH)[None], np.fft.fftfreq(HEIGHT)[:, None]
    frequency = np.sqrt(across**2 + down**2)
    frequency[0, 0] = 1
    fields = []
    for _ in range(3):
        field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(HEIGHT, WIDTH))) / frequency, s=(HEIGHT, WIDTH))
        fields.append(field / field.std())
    light = fields[0] * 50 + 120
    return np.clip(np.stack([light, light + 8 * fields[1], light + 8 * fields[2]], axis=2), 0, 255).astype(np.uint8)


def make_files(root: Path, count: int, quality: int) -> float:
    """Writes `count` files in folders of two classes; returns their mean size in kB."""
    from PIL import Image

    sizes = []
    for number in range(count):
        folder = root / ("a", "b")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{number:03}.jpg"
        Image.fromarray(photograph(number)).save(path, quality=quality)
        sizes.append(path.stat().st_size)
    return float(np.mean(sizes)) / 1000


# ---------------------------------------------------------------------------------------------------------- contenders


def engine_pass(root: Path, batch: int, pillow: bool) -> Callable[[], int]:
    from engine.data import (
        Compose,
        DataLoader,
        ImageFolder,
        Normalize,
        RandomHorizontalFlip,
        RandomResizedCrop,
        decode,
    )

    decoder = (lambda: None) if pillow else decode._simplejpeg
    if not pillow and decoder() is None:
        raise SystemExit("bench_data: needs simplejpeg: pip install simplejpeg")
    steps = Compose([RandomResizedCrop(SIZE), RandomHorizontalFlip(), Normalize(MEAN, STD)])
    loader = DataLoader(ImageFolder(root), batch, shuffle=True, transform=steps)
    original = decode._simplejpeg

    def run() -> int:
        decode._simplejpeg = decoder  # type: ignore[assignment]
        try:
            return sum(len(labels) for _, labels in loader)
        finally:
            decode._simplejpeg = original

    return run


@functools.cache
def torchvision_library() -> Any:
    """What torchvision's extension would define; beside a torch built for CPUs the import asks for these two."""
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def torchvision_pass(root: Path, batch: int) -> Callable[[], int]:
    import torch

    torchvision_library()
    torch.set_num_threads(1)
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    loader = torch.utils.data.DataLoader(ImageFolder(str(root), steps), batch, shuffle=True)

    def run() -> int:
        return sum(len(labels) for _, labels in loader)

    return run


def compare(root: Path, label: str, size_kb: float, images: int, args: argparse.Namespace) -> dict[str, Any]:
    calls = {
        "engine": engine_pass(root, args.batch, pillow=False),
        "engine_pillow": engine_pass(root, args.batch, pillow=True),
        "torchvision": torchvision_pass(root, args.batch),
    }
    for name, call in calls.items():
        assert call() == images, name
    timings = harness.interleave(calls, args.rounds, sample_s=0.05)
    figures = {}
    for name, timing in timings.items():
        figures[name] = timing.as_json() | {"images_per_second": harness.significant(images / timing.median, 4)}
        if name != "engine":
            figures[name]["engine_is_faster"] = harness.significant(harness.ratio(timing, timings["engine"]), 3)
        if name != "torchvision":
            faster = harness.ratio(timings["torchvision"], timing)
            figures[name]["times_torchvision"] = harness.significant(faster, 3)
    return {
        "case": f"500x375 JPEG of {label}",
        "file_kb": harness.significant(size_kb, 3),
        "images": images,
        "timings": figures,
        "limits": [harness.measure_limits(1).as_json()],
    }


def stages(root: Path, rounds: int) -> dict[str, float]:
    """Milliseconds per image of the engine's stages."""
    from engine.data import (
        Compose,
        Normalize,
        RandomHorizontalFlip,
        RandomResizedCrop,
        SampleRandom,
        decode,
        decode_image,
    )

    data = [path.read_bytes() for path in sorted(root.rglob("*.jpg"))[:16]]
    pixels = [decode_image(one) for one in data]
    steps = Compose([RandomResizedCrop(SIZE), RandomHorizontalFlip(), Normalize(MEAN, STD)])
    out = np.empty((SIZE, SIZE, 3), np.float32).transpose(2, 0, 1)
    Image = decode._pillow()

    def transform(single: bool) -> None:
        random = SampleRandom(0, 0, np.arange(len(pixels)))
        for place, image in enumerate(pixels):
            if single:
                steps.into(image, random.alone(place), out)
            else:
                for step in steps.transforms:
                    image = step(image, random.alone(place))

    calls: dict[str, Callable[[], object]] = {
        "decode, simplejpeg": lambda: [decode_image(one) for one in data],
        "decode, Pillow": lambda: [decode._decode_by_pillow(Image, one, 3, None) for one in data],
        "crop, resize, flip, normalise in one pass": lambda: transform(True),
        "crop, resize, flip, normalise one by one": lambda: transform(False),
    }
    timings = harness.interleave(calls, rounds, sample_s=0.02)
    return {name: harness.significant(timing.median * 1e3 / len(data), 3) for name, timing in timings.items()}


def waiting(root: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The share of a training step that is spent waiting for the loader."""
    import time

    import engine
    from engine import models, nn
    from engine.data import Compose, DataLoader, ImageFolder, Normalize, RandomHorizontalFlip, RandomResizedCrop

    engine.manual_seed(0)
    engine.set_num_threads(args.train_threads)
    model = models.resnet18(num_classes=2)
    model.train()
    optimizer = engine.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    loss_fn = nn.CrossEntropyLoss()
    steps = Compose([RandomResizedCrop(SIZE), RandomHorizontalFlip(), Normalize(MEAN, STD)])
    loader = DataLoader(ImageFolder(root), args.train_batch, shuffle=True, num_workers=2, transform=steps)
    shares, seconds = [], []
    for _ in range(args.epochs + 1):
        begin, count, waited_first, begin_first = time.perf_counter(), 0, 0.0, 0.0
        for images, labels in loader:
            if count == 0:  # nothing could be prepared ahead of it
                waited_first, begin_first = loader.wait_seconds, time.perf_counter()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            count += 1
        whole = time.perf_counter() - begin
        shares.append(
            (loader.wait_seconds / whole, (loader.wait_seconds - waited_first) / (begin + whole - begin_first))
        )
        seconds.append(whole / count)
    shares, seconds = shares[1:], seconds[1:]  # the first epoch warms up
    timing = harness.Timing(seconds)
    return {
        "case": f"resnet18 training, batch {args.train_batch}, 2 workers, {args.train_threads} kernel threads",
        "timings": {"engine": timing.as_json() | {"images_per_second": args.train_batch / timing.median}},
        "wait_share": harness.significant(float(np.median([first for first, _ in shares])), 3),
        "wait_share_after_first_batch": harness.significant(float(np.median([rest for _, rest in shares])), 3),
        "steps_per_epoch": len(loader),
        "limits": [harness.measure_limits(args.train_threads).as_json()],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--train-batch", type=int, default=16)
    parser.add_argument("--train-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--output")
    args = parser.parse_args()
    harness.ensure_environment(1)
    settings = {"images": args.images, "batch": args.batch, "rounds": args.rounds, "threads": 1, "num_workers": 0}
    report = harness.Report("data", settings)
    report.software.update(peers())
    with tempfile.TemporaryDirectory() as folder:
        for label, quality in QUALITIES.items():
            root = Path(folder, str(quality))
            size = make_files(root, args.images, quality)
            row = compare(root, label, size, args.images, args)
            row["stages_ms_per_image"] = stages(root, args.rounds)
            report.add(row, args.output)
            print(json.dumps(row))
        if not args.skip_training:
            report.add(waiting(root, args), args.output)
            print(json.dumps(report.results[-1]))


def peers() -> dict[str, Any]:
    from importlib.metadata import version

    from PIL import features

    versions: dict[str, Any] = {name: version(name) for name in ("pillow", "simplejpeg", "torchvision")}
    versions["pillow_libjpeg_turbo"] = features.version_feature("libjpeg_turbo")
    versions["torchvision_settings"] = "transforms.v2 on Pillow images, DataLoader(num_workers=0), one thread"
    return versions


if __name__ == "__main__":
    main()
