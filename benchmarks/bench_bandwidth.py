"""What is not a convolution beside the bandwidth of memory.

    python benchmarks/bench_bandwidth.py --output benchmarks/results/bandwidth.json
    python benchmarks/bench_bandwidth.py --only pool --megabytes 64

Normalisation, pooling, elementwise ops and optimizer steps do little with each number: memory decides how fast they can
be. Each op works on arrays taken in turn, and so is the memory it writes to, so that none is met warm; every byte that
has to be read or written counts once, and an op that must see the batch's statistics first reads its input twice. The
share is that of bare loops which read and write as many arrays as the op does, pass by pass, in turn with it in the
same run with the same threads: the fastest of ordinary and non-temporal stores, with and without prefetching.
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, NamedTuple

import harness

Call = Callable[[], object]


class Pass(NamedTuple):
    reads: int  # arrays
    writes: int
    share: float = 1.0  # of their elements
    in_place: bool = False  # what is written is what was read


class Op(NamedTuple):
    name: str
    passes: tuple[Pass, ...]
    make: Callable[[Any, Any], Call]  # from a supplier of full-size arrays and the backend

    @property
    def arrays(self) -> float:
        return sum((one.reads + one.writes) * one.share for one in self.passes)


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


STATISTICS, MAP, JOIN = Pass(1, 0), Pass(1, 1), Pass(2, 1)
QUARTER, HALF = (Pass(1, 1, 0.25), Pass(1, 0, 0.75)), (Pass(1, 1, 0.5), Pass(1, 0, 0.5))
OPS = (
    Op("batch norm, training, relu", (STATISTICS, MAP), batch_norm(True, False, "relu")),
    Op("batch norm, training, residual, relu", (STATISTICS, JOIN), batch_norm(True, True, "relu")),
    Op("batch norm, training, silu", (STATISTICS, MAP), batch_norm(True, False, "silu")),
    Op("batch norm, evaluation, relu", (MAP,), batch_norm(False, False, "relu")),
    Op("batch norm, evaluation, residual, relu", (JOIN,), batch_norm(False, True, "relu")),
    Op("batch norm backward, relu", (Pass(2, 0), JOIN), batch_norm_backward(False, "relu")),
    Op("batch norm backward, residual, relu", (Pass(3, 1), JOIN), batch_norm_backward(True, "relu")),
    Op("batch norm backward, silu", (Pass(2, 0), JOIN), batch_norm_backward(False, "silu")),
    Op("max pool 2x2", HALF, max_pool(2, 2, 0)),
    Op("max pool 2x2 backward", (Pass(1, 1, 0.5), Pass(0, 1, 0.5)), max_pool_backward(2, 2, 0)),
    Op("max pool 3x3 stride 2", HALF, max_pool(3, 2, 1)),
    Op("max pool 3x3 stride 2 backward", (Pass(1, 1, 0.5), Pass(0, 1, 0.5)), max_pool_backward(3, 2, 1)),
    Op("average pool 2x2", QUARTER, lambda fresh, b: lambda: b.avg_pool2d(fresh(), (2, 2), (2, 2))),
    Op("average pool 2x2 backward", (Pass(1, 1, 0.25), Pass(0, 1, 0.75)), avg_pool_backward),
    Op("global average pool", (STATISTICS,), lambda fresh, b: lambda: b.adaptive_avg_pool2d(fresh(), (1, 1))),
    Op("channel scale", (MAP,), scale),
    Op("channel scale backward", (JOIN,), scale_backward),
    Op("relu", (MAP,), lambda fresh, b: lambda: b.unary("relu", fresh())),
    Op("relu backward", (JOIN,), lambda fresh, b: lambda: b.unary_backward("relu", fresh(), None, fresh())),
    Op("silu", (MAP,), lambda fresh, b: lambda: b.unary("silu", fresh())),
    Op("silu backward", (JOIN,), lambda fresh, b: lambda: b.unary_backward("silu", fresh(), fresh(), None)),
    Op("add", (JOIN,), lambda fresh, b: lambda: b.binary("add", fresh(), fresh())),
    Op("add in place", (Pass(2, 1, in_place=True),), lambda fresh, b: lambda: b.binary_("add", fresh(), fresh())),
    Op("sum", (STATISTICS,), lambda fresh, b: lambda: b.reduce("sum", fresh(), None, False)),
    Op("copy", (MAP,), lambda fresh, b: lambda: b.copy_(fresh(), fresh())),
    Op("concat of two", (MAP, MAP), lambda fresh, b: lambda: b.concat([fresh(), fresh()], 1)),
    Op("sgd with momentum", (Pass(3, 2, in_place=True),), sgd),
    Op("adam", (Pass(4, 3, in_place=True),), adam),
)


class Arrays:
    """Full-size arrays in turn, together far larger than the caches."""

    def __init__(self, b: Any, shape: tuple[int, ...], total_bytes: int) -> None:
        self.shape = shape
        self.size = shape[0] * shape[1] * shape[2] * shape[3]
        self.bytes = 4 * self.size
        self.count = max(4, total_bytes // self.bytes)
        self._turn = cycle([b.normal(shape, 0.0, 1.0, 1, i) for i in range(self.count)])

    def __call__(self) -> Any:
        return next(self._turn)


def shape_of(megabytes: float, channels: int) -> tuple[int, int, int, int]:
    """(8, channels, side, side) of about this size, the side even."""
    side = int((megabytes * 2**20 / 4 / 8 / channels) ** 0.5) // 2 * 2
    return 8, channels, max(2, side), max(2, side)


def keeping(call: Call, count: int) -> Call:
    """The call, whose last `count` results stay alive: the next one goes to memory not written to for long."""
    kept: deque[object] = deque(maxlen=count)
    return lambda: kept.append(call())


def bare(op: Op, fresh: Arrays, b: Any, past_caches: bool, fetch_ahead: int) -> Call:
    """What the op reads and writes, and nothing else."""

    def call() -> list[Any]:
        results: list[Any] = []
        for reads, writes, share, in_place in op.passes:
            sources = [fresh() for _ in range(reads)]
            written = sources[:writes] if in_place else [b.empty(fresh.shape) for _ in range(writes)]
            b.stream_pass(sources, written, int(share * fresh.size), past_caches, fetch_ahead)
            if not in_place:
                results += written
        return results

    return call


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from engine import backend as b

    b.set_num_threads(args.threads)
    fresh = Arrays(b, shape_of(args.megabytes, args.channels), args.total_megabytes << 20)
    for op in OPS:
        if args.only not in op.name:
            continue
        limits = harness.measure_limits(args.threads)
        calls = {"engine": op.make(fresh, b)} | {
            f"bare{', non-temporal' * past}{', prefetched' * (ahead > 0)}": bare(op, fresh, b, past, ahead)
            for past in (False, True)[: 1 + any(one.writes for one in op.passes)]
            for ahead in (0, 512)
        }
        kept = {name: keeping(call, fresh.count // len(calls)) for name, call in calls.items()}
        timings = harness.interleave(kept, rounds=args.rounds, sample_s=args.sample_ms * 1e-3)
        ours = timings.pop("engine")
        method = min(timings, key=lambda name: timings[name].median)
        limit = timings[method]
        yield {
            "name": op.name,
            "shape": "x".join(map(str, fresh.shape)),
            "bytes": int(op.arrays * fresh.bytes),
            **limits.as_json(),
            "method": method,
            "timings": {
                name: timing.as_json()
                | {"gbytes_per_s": harness.significant(op.arrays * fresh.bytes / timing.median * 1e-9, 4)}
                for name, timing in (("engine", ours), ("bare", limit))
            },
            "share": harness.significant(harness.ratio(limit, ours), 3),
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
        ours, limit = row["timings"]["engine"], row["timings"]["bare"]
        print(
            f"{row['name']:40}{ours['median_ms']:9.3f} ms {ours['gbytes_per_s']:7.1f} GB/s {row['share']:5.0%} of "
            f"{limit['gbytes_per_s']:.1f} GB/s ({row['method']})  {row['state']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
