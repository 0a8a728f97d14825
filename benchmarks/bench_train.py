"""Whole training steps, engine beside PyTorch.

    python benchmarks/bench_train.py --output benchmarks/results/train.json
    python benchmarks/bench_train.py --only resnet18 lenet5-256 --malloc default --quick

A step is forward, cross-entropy, backward and SGD with momentum on one resident batch. The engine and both memory
formats of PyTorch run each in a process of its own (as their users do) and take turns in alternating order; PyTorch's
better format counts. Everything is done with the malloc of every user and again with a tuned one. All start from the
same weights, and their losses after the first steps are compared, so that they provably do the same work. The memory
is the largest of the process during its steps less that after its imports.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import contenders
import harness
import networks

NAMES = ("engine", "torch", "torch_nchw")
# Loss before any step and after each of two. From step to step rounding grows: after two, the losses of Inception v3
# in PyTorch's own two memory formats lie three per cent apart.
LOSS_TOLERANCES = (1e-4, 1e-2, 5e-2)
AUXILIARY_WEIGHT = 0.4  # of Inception's second classifier, as in its paper and in torchvision's reference


def engine_step(case: str, threads: int) -> tuple[Callable[[], Any], Any]:
    import engine
    from engine import backend, nn, optim

    network, batch = networks.parse_case(case)
    backend.set_num_threads(threads)
    model = networks.engine_model(network)
    x, y = networks.batch_of(network, batch)
    return training_step(model, nn, optim, engine.from_numpy(x).contiguous(), engine.from_numpy(y)), model


def torch_step(case: str, threads: int, channels_last: bool) -> tuple[Callable[[], Any], Any]:
    import torch

    network, batch = networks.parse_case(case)
    torch.set_num_threads(threads)
    model = networks.torch_model(network)
    numbers, y = networks.batch_of(network, batch)
    x = torch.from_numpy(numbers)
    if channels_last:
        x, model = x.contiguous(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)
    return training_step(model, torch.nn, torch.optim, x, torch.from_numpy(y)), model


def training_step(model: Any, nn: Any, optim: Any, x: Any, y: Any) -> Callable[[], Any]:
    """The step itself: the same lines for both frameworks."""
    loss_of = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model.train()

    def step() -> Any:
        optimizer.zero_grad()
        output = model(x)
        if hasattr(output, "aux_logits"):
            loss = loss_of(output.logits, y) + AUXILIARY_WEIGHT * loss_of(output.aux_logits, y)
        else:
            loss = loss_of(output, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def worker(name: str, case: str, threads: int) -> None:
    if name == "engine":
        import engine  # noqa: F401
    else:
        networks.import_torchvision()
    imported = contenders.memory_mib("VmRSS")
    if name == "engine":
        step, model = engine_step(case, threads)
    else:
        step, model = torch_step(case, threads, channels_last=name == "torch")
    contenders.forget_peak()
    networks.set_random_layers(model, active=False)
    losses = [float(step().item()) for _ in LOSS_TOLERANCES]
    networks.set_random_layers(model, active=True)
    contenders.serve(step, {"losses": losses}, imported, threads if name == "engine" else 0)


def main() -> None:
    args = contenders.parse(contenders.arguments(__doc__, NAMES, list(networks.NETWORKS)))
    if args.worker:
        worker(args.worker, args.only[0], args.threads)
        return
    harness.ensure_environment(args.threads)
    check = partial(contenders.same_losses, tolerances=LOSS_TOLERANCES)
    report = harness.Report("train", {"threads": args.threads, "malloc": harness.MALLOC})
    for case in args.only:
        network, batch = networks.parse_case(case)
        for malloc in args.malloc:
            row = contenders.compete(["engine", *args.peers], f"{network}-{batch}", malloc, args, check)
            report.add(row | {"batch": batch}, args.output)
            print(contenders.line(row), flush=True)


if __name__ == "__main__":
    main()
