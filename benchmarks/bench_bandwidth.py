"""What is not a convolution beside the bandwidth of memory.

    python benchmarks/bench_bandwidth.py --output benchmarks/results/bandwidth.json
    python benchmarks/bench_bandwidth.py --only pool --megabytes 64

Normalisation, pooling, elementwise ops and optimizer steps do little with each number: memory decides how fast they can
be. Each op works on arrays much larger than the caches, taken in turn so that none is met warm, and every byte that has
to be read or written counts once; a pass that must see the batch's statistics first reads its input twice. The share is
that of the same run's streaming loops with the same threads: reading (for ops that only read) or a = b + s c.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import harness

Call = Callable[[], object]


class Op(NamedTuple):
    name: str
    passes: float  # arrays of full size that are read or written
    reads_only: bool
    make: Callable[[Any, Any], Call]  # from a supplier of full-size arrays and the backend


def batch_norm(training: bool, residual: bool, activation: str) -> Callable[[Any, Any], Call]:
    def make(fresh: Any, b: Any) -> Call:
        c = fresh.shape[1]
        weight, bias = b.full((c,), 1.0, "float32"), b.full((c,), 0.1, "float32")
        mean, var = b.full((c,), 0.0, "float32"), b.full((c,), 1.0, "float32")
        return lambda: b.batch_norm(
            fresh(), weight, bias, mean, var, training, 0.1, 1e-5, fresh() if residual else None, activation
        )

    return make


def batch_norm_backward(residual: bool, activation: str) -> Callable[[Any, Any], Call]:
    def make(fresh: Any, b: Any) -> Call:
        weight = b.full((fresh.shape[1],), 1.0, "float32")
        _, mean, invstd, shift = b.batch_norm(fresh(), weight, None, None, None, True, 0.1, 1e-5)
        return lambda: b.batch_norm_backward(
            fresh(), fresh(), weight, mean, invstd, True, shift, fresh() if residual else None, activation
        )

    return make


def max_pool(kernel: int, stride: int, padding: int) -> Callable[[Any, Any], Call]:
    return lambda fresh, b: lambda: b.max_pool2d(fresh(), (kernel,) * 2, (stride,) * 2, (padding,) * 2)


def max_pool_backward(kernel: int, stride: int, padding: int) -> Callable[[Any, Any], Call]:
    def make(fresh: Any, b: Any) -> Call:
        forward = max_pool(kernel, stride, padding)(fresh, b)
        kept = cycle([forward() for _ in range(fresh.count)])
        windows = (kernel,) * 2, (stride,) * 2, (padding,) * 2
        return lambda: b.max_pool2d_backward(*next(kept), fresh.shape, *windows)

    return make


def avg_pool_backward(fresh: Any, b: Any) -> Call:
    small = cycle([b.avg_pool2d(fresh(), (2, 2), (2, 2)) for _ in range(fresh.count)])
    return lambda: b.avg_pool2d_backward(next(small), fresh.shape, (2, 2), (2, 2))


def scale_backward(fresh: Any, b: Any) -> Call:
    factors = b.full((*fresh.shape[:2], 1, 1), 0.5, "float32")
    return lambda: b.channel_scale_backward(fresh(), fresh(), factors)


def scale(fresh: Any, b: Any) -> Call:
    factors = b.full((*fresh.shape[:2], 1, 1), 0.5, "float32")
    return lambda: b.binary("mul", fresh(), factors)


def sgd(fresh: Any, b: Any) -> Call:
    return lambda: b.sgd_step([fresh()], [fresh()], [fresh()], 1e-3, 0.9, 0.0, 1e-4, False, False, 0.0, False)


def adam(fresh: Any, b: Any) -> Call:
    squares = cycle([b.full(fresh.shape, 1.0, "float32") for _ in range(fresh.count)])
    return lambda: b.adam_step(
        [fresh()], [fresh()], [fresh()], [next(squares)], [], 1e-3, 0.9, 0.999, 1e-8, 0.0, 10, False, False, 0.0, False
    )


OPS = (
    Op("batch norm, training, relu", 3, False, batch_norm(True, False, "relu")),
    Op("batch norm, training, residual, relu", 4, False, batch_norm(True, True, "relu")),
    Op("batch norm, training, silu", 3, False, batch_norm(True, False, "silu")),
    Op("batch norm, evaluation, relu", 2, False, batch_norm(False, False, "relu")),
    Op("batch norm, evaluation, residual, relu", 3, False, batch_norm(False, True, "relu")),
    Op("batch norm backward, relu", 5, False, batch_norm_backward(False, "relu")),
    Op("batch norm backward, residual, relu", 7, False, batch_norm_backward(True, "relu")),
    Op("batch norm backward, silu", 5, False, batch_norm_backward(False, "silu")),
    Op("max pool 2x2", 1.5, False, max_pool(2, 2, 0)),
    Op("max pool 2x2 backward", 1.5, False, max_pool_backward(2, 2, 0)),
    Op("max pool 3x3 stride 2", 1.5, False, max_pool(3, 2, 1)),
    Op("max pool 3x3 stride 2 backward", 1.5, False, max_pool_backward(3, 2, 1)),
    Op("average pool 2x2", 1.25, False, lambda fresh, b: lambda: b.avg_pool2d(fresh(), (2, 2), (2, 2))),
    Op("average pool 2x2 backward", 1.25, False, avg_pool_backward),
    Op("global average pool", 1, True, lambda fresh, b: lambda: b.adaptive_avg_pool2d(fresh(), (1, 1))),
    Op("channel scale", 2, False, scale),
    Op("channel scale backward", 3, False, scale_backward),
    Op("relu", 2, False, lambda fresh, b: lambda: b.unary("relu", fresh())),
    Op("relu backward", 3, False, lambda fresh, b: lambda: b.unary_backward("relu", fresh(), None, fresh())),
    Op("silu", 2, False, lambda fresh, b: lambda: b.unary("silu", fresh())),
    Op("silu backward", 3, False, lambda fresh, b: lambda: b.unary_backward("silu", fresh(), fresh(), None)),
    Op("add", 3, False, lambda fresh, b: lambda: b.binary("add", fresh(), fresh())),
    Op("add in place", 3, False, lambda fresh, b: lambda: b.binary_("add", fresh(), fresh())),
    Op("sum", 1, True, lambda fresh, b: lambda: b.reduce("sum", fresh(), None, False)),
    Op("copy", 2, False, lambda fresh, b: lambda: b.copy_(fresh(), fresh())),
    Op("concat of two", 4, False, lambda fresh, b: lambda: b.concat([fresh(), fresh()], 1)),
    Op("sgd with momentum", 5, False, sgd),
    Op("adam", 7, False, adam),
)


class Arrays:
    """Full-size arrays in turn, together far larger than the caches."""

    def __init__(self, b: Any, shape: tuple[int, ...], total_bytes: int) -> None:
        self.shape = shape
        self.bytes = 4 * shape[0] * shape[1] * shape[2] * shape[3]
        self.count = max(4, total_bytes // self.bytes)
        self._turn = cycle([b.normal(shape, 0.0, 1.0, 1, i) for i in range(self.count)])

    def __call__(self) -> Any:
        return next(self._turn)


def shape_of(megabytes: float, channels: int) -> tuple[int, int, int, int]:
    """(8, channels, side, side) of about this size, the side even."""
    side = int((megabytes * 2**20 / 4 / 8 / channels) ** 0.5) // 2 * 2
    return 8, channels, max(2, side), max(2, side)


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from engine import backend as b

    b.set_num_threads(args.threads)
    shape = shape_of(args.megabytes, args.channels)
    fresh = Arrays(b, shape, args.total_megabytes << 20)
    references: dict[str, Call] = {
        kind: (lambda kind=kind: b.measure_bandwidth(kind, 3 * fresh.bytes)) for kind in ("read", "triad")
    }
    for op in OPS:
        if args.only not in op.name:
            continue
        limits = harness.measure_limits(args.threads)
        call = op.make(fresh, b)
        samples: dict[str, list[float]] = {kind: [] for kind in references}
        for _ in range(3):
            for kind, measure in references.items():
                samples[kind].append(float(measure()))  # type: ignore[arg-type]
        timing = harness.interleave({"op": call}, rounds=args.rounds, sample_s=args.sample_ms * 1e-3)["op"]
        for _ in range(3):
            for kind, measure in references.items():
                samples[kind].append(float(measure()))  # type: ignore[arg-type]
        rate = op.passes * fresh.bytes / timing.median * 1e-9
        limit = sorted(samples["read" if op.reads_only else "triad"])[3]
        yield {
            "name": op.name,
            "shape": "x".join(map(str, shape)),
            "bytes": int(op.passes * fresh.bytes),
            **limits.as_json(),
            **{f"{kind}_gbytes_per_s": harness.significant(sorted(values)[3], 4) for kind, values in samples.items()},
            "gbytes_per_s": harness.significant(rate, 4),
            "share": harness.significant(rate / limit, 3),
            "timings": {"engine": timing.as_json()},
        }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only ops whose name contains this text")
    parser.add_argument("--megabytes", type=float, default=48.0, help="size of one array")
    parser.add_argument("--total-megabytes", type=int, default=768, help="size of all arrays that are taken in turn")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--sample-ms", type=float, default=20.0)
    parser.add_argument("--output", help="JSON file, in which each row takes the place of the earlier one of its name")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    harness.ensure_environment(args.threads)
    settings = {key: value for key, value in vars(args).items() if key != "output"}
    report = harness.Report("bandwidth", settings)
    for row in rows(args):
        report.add(row, args.output)
        print(
            f"{row['name']:42}{row['timings']['engine']['median_ms']:9.3f} ms {row['gbytes_per_s']:7.1f} GB/s "
            f"{row['share']:5.0%}   (read {row['read_gbytes_per_s']:.1f}, triad {row['triad_gbytes_per_s']:.1f} GB/s)  "
            f"{row['state']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
