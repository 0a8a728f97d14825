"""Fine-tuning the head of a frozen ResNet-50, engine beside PyTorch.

    python benchmarks/bench_finetune.py --output benchmarks/results/finetune.json
    python benchmarks/bench_finetune.py --only resnet50-32 --quick

What is timed is an epoch: all images (random, 224 x 224, in memory) pass through the frozen body in batches of 16, and
a new head of ten classes is trained by SGD with momentum. The engine does it with `engine.fine_tune`, once keeping the
features ("engine_cached": the first epoch, in which they are computed, is reported by itself) and once not ("engine");
PyTorch with the loop that one writes: body in evaluation mode under no_grad, head with gradients, in both memory
formats, of which the better one counts. All start from equal weights, take equal batches; their losses are compared.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from typing import Any

import contenders
import harness
import networks
import numpy as np

CONTENDERS = ("engine", "engine_cached", "torch", "torch_nchw")
BATCH, CLASSES, RATE, CHECKED_STEPS = 16, 10, 1e-7, 3


def data(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Images in channels-last memory behind NCHW axes, which is what all but "torch_nchw" work on."""
    network, count = networks.parse_case(case)
    images, labels = networks.batch_of(network, count)
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), labels % CLASSES


def engine_epoch(case: str, threads: int, cached: bool, losses: list[float]) -> Callable[[], None]:
    """One more epoch of a run of `fine_tune`, which waits in a thread between two calls."""
    import engine
    from engine import backend
    from engine.callbacks import Callback
    from engine.data import ArrayDataset, DataLoader

    backend.set_num_threads(threads)
    model = networks.engine_model(networks.parse_case(case)[0])
    model.reset_classifier(CLASSES)
    for parameter in model.get_classifier().parameters():
        engine.init.zeros_(parameter)
    loader = DataLoader(ArrayDataset(*data(case)), BATCH)
    go, done = threading.Semaphore(0), threading.Semaphore(0)

    class Turns(Callback):
        order = 99

        def before_epoch(self, trainer: Any) -> None:
            go.acquire()

        def after_loss(self, trainer: Any) -> None:
            if len(losses) < CHECKED_STEPS:
                losses.append(trainer.loss_value)

        def after_epoch(self, trainer: Any) -> None:
            done.release()

    def run() -> None:
        engine.fine_tune(
            model,
            loader,
            epochs=10**9,
            freeze_epochs=10**9,
            reset_head=False,
            optimizer="sgd",
            lr=RATE,
            weight_decay=0.0,
            label_smoothing=0.0,
            clip_norm=None,
            cache=cached,
            callbacks=[Turns()],
        )

    thread = threading.Thread(target=run, daemon=True)

    def epoch() -> None:
        if thread.ident is None:
            thread.start()
        go.release()
        done.acquire()

    return epoch


def torch_epoch(case: str, threads: int, channels_last: bool, losses: list[float]) -> Callable[[], None]:
    import torch

    torch.set_num_threads(threads)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    pixels, numbers = data(case)
    images, labels = torch.from_numpy(pixels).contiguous(memory_format=layout), torch.from_numpy(numbers)
    model = networks.torch_model(networks.parse_case(case)[0]).to(memory_format=layout).eval()
    head = torch.nn.Linear(model.fc.in_features, CLASSES)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    model.fc = torch.nn.Identity()
    loss_of = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(head.parameters(), lr=RATE, momentum=0.9)

    def epoch() -> None:
        for first in range(0, len(labels), BATCH):
            with torch.no_grad():
                features = model(images[first : first + BATCH])
            optimizer.zero_grad()
            loss = loss_of(head(features), labels[first : first + BATCH])
            if len(losses) < CHECKED_STEPS:
                losses.append(loss.item())
            loss.backward()
            optimizer.step()

    return epoch


def worker(args: argparse.Namespace) -> None:
    losses: list[float] = []
    ours = args.worker.startswith("engine")
    if ours:
        import engine  # noqa: F401

        imported = contenders.memory_mib("VmRSS")
        epoch = engine_epoch(args.only[0], args.threads, args.worker == "engine_cached", losses)
    else:
        import torch  # noqa: F401

        imported = contenders.memory_mib("VmRSS")
        epoch = torch_epoch(args.only[0], args.threads, args.worker == "torch", losses)
    start = time.perf_counter()
    epoch()
    first = {"first_epoch_s": time.perf_counter() - start, "losses": losses}
    contenders.serve(epoch, first, imported, args.threads if ours else 0)


def main() -> None:
    parser = contenders.arguments(__doc__, CONTENDERS, ["resnet50-64"], "<network>-<images>")
    parser.set_defaults(malloc=["default"], budget=60.0)
    args = contenders.parse(parser)
    if args.worker:
        worker(args)
        return
    harness.ensure_environment(args.threads)
    settings = {"batch": BATCH, "rounds": args.rounds, "seconds": args.seconds, "threads": args.threads}
    report = harness.Report("finetune", settings)
    for case in args.only:
        for malloc in args.malloc:
            firsts: dict[str, float] = {}

            def note(running: list[contenders.Contender], firsts: dict[str, float] = firsts) -> None:
                contenders.same_losses(running, [1e-3] * len(running[0].first["losses"]))
                firsts.update({c.name: harness.significant(c.first["first_epoch_s"] * 1e3) for c in running})

            row = contenders.compete(["engine", *args.peers], case, malloc, args, note)
            row["batch"] = networks.parse_case(case)[1]  # images of an epoch, for the rate
            for name, figures in row["timings"].items():
                figures["first_epoch_ms"] = firsts[name]
            if {"engine_cached", "better_torch"} <= {*row, *row["timings"]}:
                peer, cached = (row["timings"][name]["samples_ms"] for name in (row["better_torch"], "engine_cached"))
                ratios = [a / b for a, b in zip(peer, cached)]
                del row["timings"]["engine_cached"]["engine_is_faster"]  # the engine is no peer of itself
                row["cached_is_faster"] = harness.significant(float(np.median(ratios)), 4)
            report.add(row, args.output)
            print(contenders.line(row), flush=True)
            print(
                f"without kept features {row.get('engine_is_faster')}x, with them {row.get('cached_is_faster')}x as "
                f"fast as {row.get('better_torch')}; first epochs in ms: {firsts}",
                flush=True,
            )


if __name__ == "__main__":
    main()
