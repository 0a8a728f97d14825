"""Tables from result files, as Markdown: nothing in the documents is typed by hand.

    python benchmarks/compare.py results/ops_resnet50.json              the engine beside its peers
    python benchmarks/compare.py results/before.json results/after.json     two runs of the engine

Two runs are two moments of a machine: their table shows, beside the ratio of times, the ratio of the shares of the FMA
peak (each of its own run), and marks rows whose threads stood in different states.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness

Row = dict[str, Any]


def load(path: str) -> dict[str, Any]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if content.get("benchmark") not in ("ops", "train", "load"):
        raise SystemExit(f"{path} is not a result of bench_ops, bench_train or bench_load")
    return dict(content)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def key_of(row: Row) -> tuple[Any, ...]:
    if "case" in row:
        return row["case"], row["malloc"]
    return row["network"], row["shape"], row["batch"], row["pass"]


def state_of(row: Row) -> str:
    return "/".join(sorted({limits["state"] for limits in row["limits"]})) if "limits" in row else row["state"]


def rate(figures: Row) -> str:
    if "images_per_s" in figures:
        return f"{figures['images_per_s']:,.0f} images/s"
    if "gflops" in figures:
        return f"{figures['gflops']:.0f} GFLOP/s, {figures['peak_share']:.0%}"
    if "peak_mib" in figures:
        return f"{figures['peak_mib']:,.0f} MiB at most"
    return f"{figures['gbytes_per_s']:.1f} GB/s"


def milliseconds(figures: Row) -> str:
    return f"{figures['median_ms']:.4g} ± {figures['spread']:.0%}"


def against_peers(content: dict[str, Any]) -> str:
    rows: list[Row] = content["results"]
    peers = list(dict.fromkeys(name for row in rows for name in row["timings"] if name != "engine"))
    head = [
        "what",
        "engine, ms",
        "rate",
        *(f"{peer}, ms" for peer in peers),
        *(f"x {peer}" for peer in peers),
        "threads",
    ]
    body = []
    for row in rows:
        timings = row["timings"]
        times = [milliseconds(timings[peer]) if peer in timings else "" for peer in peers]
        ratios = [f"{timings[peer]['engine_is_faster']:.2f}" if peer in timings else "" for peer in peers]
        ours = timings["engine"]
        body.append([label(row), milliseconds(ours), rate(ours), *times, *ratios, state_of(row)])
    text = table(head, body)
    for peer in peers:
        ratios_ = [row["timings"][peer]["engine_is_faster"] for row in rows if peer in row["timings"]]
        text += f"\n\nGeometric mean over {len(ratios_)} rows: {harness.geometric_mean(ratios_):.2f} x {peer}."
    return text


def label(row: Row) -> str:
    if "case" in row:
        return f"{row['case']}, {row['malloc']} malloc"
    return f"{row['network']}: {row['shape']}, batch {row['batch']}, {row['pass']}"


def against_earlier(earlier: dict[str, Any], later: dict[str, Any]) -> str:
    before = {key_of(row): row for row in earlier["results"]}
    body, ratios = [], []
    for row in later["results"]:
        old = before.get(key_of(row))
        if old is None:
            continue
        a, b = old["timings"]["engine"], row["timings"]["engine"]
        faster = a["median_ms"] / b["median_ms"]
        ratios.append(faster)
        share = f"{b['peak_share'] / a['peak_share']:.2f}" if "peak_share" in a and "peak_share" in b else ""
        states = state_of(old) if state_of(old) == state_of(row) else f"{state_of(old)} → {state_of(row)} (!)"
        body.append([label(row), milliseconds(a), milliseconds(b), f"{faster:.2f}", share, states])
    if not body:
        raise SystemExit("the two files have no row in common")
    text = table(["what", "before, ms", "after, ms", "x faster", "x share of peak", "threads"], body)
    return text + f"\n\nGeometric mean over {len(ratios)} rows: {harness.geometric_mean(ratios):.2f} x faster."


def describe(content: dict[str, Any]) -> str:
    machine, software = content["machine"], content["software"]
    versions = ", ".join(f"{name} {software[name]}" for name in ("engine", "torch", "numpy") if name in software)
    state = "" if content["complete"] else " **Interrupted run.**"
    threads, isa = content["settings"]["threads"], software.get("engine_isa", "?")
    return (
        f"{machine['cpu']}, {threads} threads, ISA {isa}; {versions}; "
        f"commit {software.get('commit') or '?'}, {content['date']}.{state} Median ± distance of the quartiles."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="one result file, or an earlier and a later one")
    args = parser.parse_args()
    if len(args.files) > 2:
        parser.error("expected one file or two")
    contents = [load(path) for path in args.files]
    for content in contents:
        print(describe(content) + "\n")
    print(against_peers(contents[0]) if len(contents) == 1 else against_earlier(*contents))


if __name__ == "__main__":
    main()
