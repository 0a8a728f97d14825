"""Tables from result files, as Markdown: nothing in the documents is typed by hand.

    python benchmarks/compare.py results/ops_resnet50.json              the engine beside its peers
    python benchmarks/compare.py results/before.json results/after.json     two runs of the engine
    python benchmarks/compare.py --readme                                   draws what both READMEs say anew

Two runs are two moments of a machine: their table shows, beside the ratio of times, the ratio of the shares of the FMA
peak (each of its own run); rows whose threads stood in different states, or were disturbed, are not compared.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness

Row = dict[str, Any]
MARKED = re.compile(r"(<!-- (results/\w+\.json) -->).*?(<!-- end -->)", re.DOTALL)
SPEED = re.compile(r"(<!-- speed -->).*?(<!-- end -->)")
BENCHMARKS = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def load(path: str | Path) -> dict[str, Any]:
    content = json.loads(Path(path).read_text(encoding="utf-8"))
    if content.get("benchmark") not in BENCHMARKS:
        raise SystemExit(f"{path} is not a result of {', '.join(f'bench_{name}' for name in BENCHMARKS)}")
    return dict(content)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def state_of(row: Row) -> str:
    return "/".join(sorted({limits["state"] for limits in row["limits"]})) if "limits" in row else row["state"]


def rate(figures: Row, row: Row) -> str:
    if "gflops" in figures:
        return f"{figures['gflops']:.0f} GFLOP/s, {figures['peak_share']:.0%}"
    if "memory_mib" in figures:
        return f"{row['batch'] / figures['median_ms'] * 1e3:,.0f} images/s, {figures['memory_mib']:,.0f} MiB"
    if "images_per_second" in figures:
        return f"{figures['images_per_second']:,.0f} images/s"
    if "peak_mib" in figures:
        return f"{figures['peak_mib']:,.0f} MiB at most"
    return f"{figures['gbytes_per_s']:.1f} GB/s"


def milliseconds(figures: Row) -> str:
    return f"{figures['median_ms']:.4g} ± {figures['spread']:.0%}"


def with_memory(figures: Row) -> str:
    return milliseconds(figures) + (f", {figures['memory_mib']:,.0f} MiB" if "memory_mib" in figures else "")


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
        for timing in timings.values():
            timing.setdefault("engine_is_faster", timing["median_ms"] / timings["engine"]["median_ms"])
        times = [with_memory(timings[peer]) if peer in timings else "" for peer in peers]
        ratios = [f"{timings[peer]['engine_is_faster']:.2f}" if peer in timings else "" for peer in peers]
        ours = timings["engine"]
        body.append([label(row), milliseconds(ours), rate(ours, row), *times, *ratios, state_of(row)])
    text = table(head, body)
    for peer in peers:
        ratios_ = [row["timings"][peer]["engine_is_faster"] for row in rows if peer in row["timings"]]
        text += f"\n\nGeometric mean over {len(ratios_)} rows: {harness.geometric_mean(ratios_):.2f} x {peer}."
    return text


def label(row: Row) -> str:
    if "case" in row:
        return f"{row['case']}, {row['malloc']} malloc" if "malloc" in row else str(row["case"])
    if "network" not in row:
        return str(row["name"])
    algorithm = f", {row['algorithm']}" if row.get("algorithm") else ""
    isa = f", {row['isa']}" if "isa" in row else ""
    return f"{row['network']}: {row['shape']}, batch {row['batch']}, {row['pass']}{algorithm}{isa}"


def against_earlier(earlier: dict[str, Any], later: dict[str, Any]) -> str:
    before = {harness.key_of(row): row for row in earlier["results"]}
    body, ratios, refused = [], [], []
    for row in later["results"]:
        old = before.get(harness.key_of(row))
        if old is None:
            continue
        if {state_of(old), state_of(row)} not in ({"near"}, {"far"}, {"one thread"}):
            refused.append(f"{label(row)}: {state_of(old)} before, {state_of(row)} after")
            continue
        a, b = old["timings"]["engine"], row["timings"]["engine"]
        faster = a["median_ms"] / b["median_ms"]
        ratios.append(faster)
        share = f"{b['peak_share'] / a['peak_share']:.2f}" if "peak_share" in a and "peak_share" in b else ""
        body.append([label(row), milliseconds(a), milliseconds(b), f"{faster:.2f}", share, state_of(row)])
    text = "".join(f"Not compared, the threads stood differently: {line}\n" for line in refused)
    if not body:
        raise SystemExit(f"{text}the two files have no row that can be compared")
    text += table(["what", "before, ms", "after, ms", "x faster", "x share of peak", "threads"], body)
    return text + f"\n\nGeometric mean over {len(ratios)} rows: {harness.geometric_mean(ratios):.2f} x faster."


def pauses_and_neighbours(content: dict[str, Any]) -> str:
    """The tables of bench_latency, whose figures are of another kind."""
    pauses, neighbours = [], []
    for row in content["results"]:
        for name, figures in row["timings"].items():
            if "extra_ms" in figures:
                cells = [figures[key] for key in ("warm_ms", "median_ms", "extra_ms", "extra_ms_of_90_percent")]
                pauses.append([f"{row['case']}, {name}", *(f"{cell:.3f}" for cell in cells), state_of(row)])
            else:
                cells = [figures[key] for key in ("without_engine_ms", "alone_ms", "median_ms", "slower")]
                neighbours.append([f"{name} product", *(f"{cell:.3f}" for cell in cells), state_of(row)])
    head = ["what", "warm, ms", "after the pause, ms", "more, ms", "more in nine of ten, ms", "threads"]
    other = ["what", "before the engine came, ms", "alone, ms", "right behind the engine, ms", "x slower", "threads"]
    return table(head, pauses) + "\n\n" + table(other, neighbours)


def where_time_goes(content: dict[str, Any]) -> str:
    """The table of bench_profile: the share of the step of each kind of work, of the convolutions that of the peak."""
    kinds = list(dict.fromkeys(kind for row in content["results"] for kind in row["kinds"]))
    body = []
    for row in content["results"]:
        cells = [row["case"], f"{row['step_ms']:.4g}"]
        for kind in kinds:
            figures = row["kinds"].get(kind)
            peak = f" ({figures['peak_share']:.0%} of peak)" if figures and "peak_share" in figures else ""
            cells.append(f"{figures['share']:.0%}{peak}" if figures else "")
        body.append([*cells, state_of(row)])
    return table(["what", "ms", *kinds, "threads"], body)


def beside_bare_loops(content: dict[str, Any]) -> str:
    """The table of bench_bandwidth: each op beside loops that read and write as much and do nothing else."""
    body = []
    for row in content["results"]:
        ours, bare = row["timings"]["engine"], row["timings"]["bare"]
        cells = [f"{figures['gbytes_per_s']:.1f}" for figures in (ours, bare)]
        body.append([row["name"], milliseconds(ours), milliseconds(bare), *cells, f"{row['share']:.0%}", state_of(row)])
    return table(["what", "engine, ms", "bare loop, ms", "GB/s", "bare loop, GB/s", "share", "threads"], body)


def describe(content: dict[str, Any]) -> str:
    machine, software = content["machine"], content["software"]
    versions = ", ".join(f"{name} {software[name]}" for name in ("engine", "torch", "numpy") if name in software)
    commits = ", ".join(dict.fromkeys(row.get("commit", software.get("commit", "")) for row in content["results"]))
    threads, isa = content["settings"]["threads"], software.get("engine_isa", "?")
    return (
        f"{machine['cpu']}, {threads} threads, ISA {isa}; {versions}; "
        f"commit {commits or '?'}, {content['date']}. Median ± distance of the quartiles."
    )


def tables(content: dict[str, Any]) -> str:
    draw = {
        "latency": pauses_and_neighbours,
        "profile": where_time_goes,
        "bandwidth": beside_bare_loops,
    }.get(content["benchmark"], against_peers)
    return f"{describe(content)}\n\n{draw(content)}\n"


def speed(content: dict[str, Any]) -> str:
    """A sentence about the results of bench_train: PyTorch in its faster memory format beside the engine."""
    rows: list[Row] = content["results"]
    every = [row["engine_is_faster"] for row in rows]
    lenet = sorted(row["engine_is_faster"] for row in rows if row["case"] == "lenet5-64")
    networks = len({row["case"] for row in rows})
    return (
        f"Training steps of {networks} networks on {content['settings']['threads']} cores are {min(every):.2f} to "
        f"{max(every):.2f} times as fast as PyTorch's, {harness.geometric_mean(every):.2f} in the geometric mean; "
        f"LeNet-5's (batch 64) {lenet[0]:.2f} to {lenet[-1]:.2f} times."
    )


def rewrite_readme() -> None:
    """Puts between each pair of marks the tables of the file that the first one names, and the sentence about speed."""
    here = Path(__file__).parent
    for readme in (here / "README.md", here.parent / "README.md"):
        old = readme.read_text(encoding="utf-8")
        new = MARKED.sub(lambda match: f"{match[1]}\n\n{tables(load(here / match[2]))}\n{match[3]}", old)
        new = SPEED.sub(lambda match: f"{match[1]}{speed(load(here / 'results/train.json'))}{match[2]}", new)
        readme.write_text(new, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="one result file, or an earlier and a later one")
    parser.add_argument("--readme", action="store_true", help="draws what both READMEs say anew")
    args = parser.parse_args()
    if args.readme:
        rewrite_readme()
        return
    if len(args.files) not in (1, 2):
        parser.error("expected one file or two")
    contents = [load(path) for path in args.files]
    if len(contents) == 1:
        print(tables(contents[0]))
        return
    for content in contents:
        print(describe(content) + "\n")
    print(against_earlier(*contents))


if __name__ == "__main__":
    main()
