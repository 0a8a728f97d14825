"""Whole inferences, engine beside PyTorch, ONNX Runtime and OpenVINO, in float32.

    python benchmarks/bench_infer.py --output benchmarks/results/infer.json
    python benchmarks/bench_infer.py --only resnet50-1 --peers torch openvino --malloc default

The engine and PyTorch run the model as written, in evaluation without gradients, PyTorch in both memory formats of
which the better one counts. ONNX Runtime and OpenVINO optimise the exported graph ahead; who has not installed them
(`pip install onnx onnxruntime openvino`) gets the table without them. Each runs in a process of its own; they take
turns in alternating order, and their outputs on the same images are compared before the clock starts.
"""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import contenders
import harness
import networks
import numpy as np

NAMES = ("engine", "torch", "torch_nchw", "onnxruntime", "openvino")
BATCHES = (1, 16)
TOLERANCE = 1e-3  # of the largest logit
SHOWN = 16  # logits that are compared, of the first and of the last image


def engine_call(case: str, threads: int) -> Callable[[], Any]:
    import engine
    from engine import backend

    network, batch = networks.parse_case(case)
    backend.set_num_threads(threads)
    model = networks.engine_model(network).eval()
    x = engine.from_numpy(networks.batch_of(network, batch)[0]).contiguous()

    def call() -> Any:
        with engine.no_grad():
            return model(x)

    return call


def torch_call(case: str, threads: int, channels_last: bool) -> Callable[[], Any]:
    import torch

    network, batch = networks.parse_case(case)
    torch.set_num_threads(threads)
    model = networks.torch_model(network).eval()
    x = torch.from_numpy(networks.batch_of(network, batch)[0])
    if channels_last:
        x, model = x.contiguous(memory_format=torch.channels_last), model.to(memory_format=torch.channels_last)

    def call() -> Any:
        with torch.inference_mode():
            return model(x)

    return call


def onnxruntime_call(case: str, threads: int) -> Callable[[], Any]:
    import onnxruntime

    network, batch = networks.parse_case(case)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported(network), options, providers=["CPUExecutionProvider"])
    inputs = {"x": networks.batch_of(network, batch)[0]}
    return lambda: session.run(None, inputs)[0]


def openvino_call(case: str, threads: int) -> Callable[[], Any]:
    import openvino

    network, batch = networks.parse_case(case)
    core = openvino.Core()
    model = core.read_model(exported(network))
    model.reshape([batch, *networks.NETWORKS[network].shape])
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    x = networks.batch_of(network, batch)[0]
    return lambda: request.infer([x])[0]


def onnx_path(network: str) -> Path:
    return Path(tempfile.gettempdir()) / "engine-benchmarks" / f"{network}.onnx"


def export(network: str) -> None:
    """Writes the ONNX file of a network, once for all runs."""
    import torch

    path = onnx_path(network)
    path.parent.mkdir(exist_ok=True)
    model = networks.torch_model(network).eval()
    unfinished = path.with_suffix(".tmp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            torch.zeros(1, *networks.NETWORKS[network].shape),
            str(unfinished),
            dynamo=False,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    unfinished.replace(path)


def exported(network: str) -> str:
    """The ONNX file, as the referee has left it: a worker's memory is not to hold the exporter's."""
    return str(onnx_path(network))


CALLS: dict[str, Callable[[str, int], Callable[[], Any]]] = {
    "engine": engine_call,
    "torch": lambda case, threads: torch_call(case, threads, True),
    "torch_nchw": lambda case, threads: torch_call(case, threads, False),
    "onnxruntime": onnxruntime_call,
    "openvino": openvino_call,
}


def logits_of(output: Any) -> list[float]:
    """Some logits of the first and of the last image, and the largest of all."""
    values = np.asarray(output.numpy() if hasattr(output, "numpy") else output)
    return [*values[0, :SHOWN].tolist(), *values[-1, :SHOWN].tolist(), float(np.abs(values).max())]


def worker(name: str, case: str, threads: int) -> None:
    if name.startswith("torch"):
        networks.import_torchvision()
    else:
        __import__(name)
    imported = contenders.memory_mib("VmRSS")
    call = CALLS[name](case, threads)
    contenders.forget_peak()
    first = {"values": logits_of(call())}
    contenders.serve(call, first, imported, threads if name == "engine" else 0)


def main() -> None:
    cases = "<network> with all batches, or <network>-<batch>"
    parser = contenders.arguments(__doc__, NAMES, list(networks.NETWORKS), cases)
    parser.add_argument("--batch", nargs="+", type=int, default=list(BATCHES))
    args = contenders.parse(parser)
    if args.worker:
        worker(args.worker, args.only[0], args.threads)
        return
    harness.ensure_environment(args.threads)
    check = partial(contenders.same_values, tolerance=TOLERANCE)
    peers = [peer for peer in args.peers if importlib.util.find_spec(peer.removesuffix("_nchw")) is not None]
    report = harness.Report("infer", {"threads": args.threads, "malloc": harness.MALLOC})
    for case in args.only:
        network, own_batch = networks.parse_case(case)
        if {"onnxruntime", "openvino"} & set(peers) and not onnx_path(network).exists():
            export(network)
        for batch in [own_batch] if "-" in case else args.batch:
            for malloc in args.malloc:
                row = contenders.compete(["engine", *peers], f"{network}-{batch}", malloc, args, check)
                report.add(row | {"batch": batch}, args.output)
                print(contenders.line(row), flush=True)


if __name__ == "__main__":
    main()
