"""Draws the pictures of `plots/` from the result files.

    python benchmarks/plot.py

Per layer of `ops_conv15.json`: the share of the FMA peak, each pass and batch a panel. Of `train.json`, `infer.json`:
how many times faster than PyTorch's better format, per network. Of `bandwidth.json`: the share of what bare loops
reach.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import harness
import matplotlib
import shapes
from peers import PASSES

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "engine"  # the same picture is the same file
matplotlib.rcParams["svg.fonttype"] = "none"
from matplotlib import pyplot as plt  # noqa: E402

FOLDER = Path(__file__).parent / "plots"
Row = dict[str, Any]


def read(name: str) -> list[Row]:
    path = harness.RESULTS / name
    return list(json.loads(path.read_text(encoding="utf-8"))["results"]) if path.exists() else []


def save(figure: Any, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / name, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    print(FOLDER / name)


def short(shape: str) -> str:
    """A line of a shape file as the study writes it: channels in and out, size, kernel, stride."""
    numbers = dict(re.findall(r"([a-z]+)(\d+)", shape.removeprefix("conv ")))
    return f"{numbers['ic']}→{numbers['oc']}, {numbers['h']}², {numbers['k']}×{numbers['k']}" + (
        f" /{numbers['s']}" if "s" in numbers else ""
    )


def shares_of_peak(rows: list[Row], isa: str) -> None:
    """Bars of the engine's share of the peak, and marks of the peers', of one instruction set."""
    rows = [row for row in rows if row["isa"] == isa]
    panels = sorted({(row["pass"], row["batch"]) for row in rows}, key=lambda key: (PASSES.index(key[0]), key[1]))
    if not rows:
        return
    figure, axes = plt.subplots(len(panels), 1, figsize=(9, 2 * len(panels)), sharex=True, squeeze=False)
    keys = [layer.shape_key for layer in shapes.load("conv15")]
    for axis, (which, batch) in zip(axes[:, 0], panels, strict=True):
        for row in rows:
            if (row["pass"], row["batch"]) != (which, batch):
                continue
            at = keys.index(row["shape"])
            colour = "#4477aa" if row["algorithm"].startswith("winograd") else "#66ccee"
            axis.bar(at, 100 * row["timings"]["engine"]["peak_share"], color=colour, width=0.7)
            for peer, mark in (("engine_direct", "_"), ("torch", "x"), ("torch_packed", "+")):
                if peer in row["timings"]:
                    axis.plot(at, 100 * row["timings"][peer]["peak_share"], mark, color="black", markersize=6)
        axis.axhline(100, color="grey", linewidth=0.8)
        axis.set_ylabel("% of the FMA peak")
        axis.set_title(f"{which}, batch {batch}", fontsize=9)
    axes[-1, 0].set_xticks(range(len(keys)), [short(key) for key in keys], rotation=60, ha="right", fontsize=8)
    figure.tight_layout(rect=(0, 0, 1, 0.97))
    figure.suptitle(f"{isa}; dark: Winograd's form; – engine, direct   x torch   + oneDNN, weights packed", fontsize=9)
    save(figure, f"share_of_peak_{isa}.svg")


def ratios(rows: list[Row], name: str, title: str) -> None:
    """Bars of how many times faster the engine is than PyTorch's better format, by network and malloc."""
    rows = [row for row in rows if "engine_is_faster" in row]
    if not rows:
        return
    mallocs = list(dict.fromkeys(row["malloc"] for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.32 * len(cases)))
    height = 0.8 / len(mallocs)
    for i, malloc in enumerate(mallocs):
        values = {row["case"]: row["engine_is_faster"] for row in rows if row["malloc"] == malloc}
        places = [cases.index(case) + i * height for case in values]
        bars = axis.barh(places, list(values.values()), height=height, label=f"{malloc} malloc")
        axis.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_yticks([at + 0.4 - height / 2 for at in range(len(cases))], cases, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("times as fast as PyTorch in its better memory format")
    axis.set_title(title, fontsize=9)
    axis.legend(fontsize=8, loc="lower right")
    save(figure, name)


def shares_of_bandwidth(rows: list[Row]) -> None:
    """Bars of the engine's share of what bare loops of the same mix of reads and writes reach."""
    if not rows:
        return
    figure, axis = plt.subplots(figsize=(9, 0.9 + 0.22 * len(rows)))
    bars = axis.barh(range(len(rows)), [100 * row["share"] for row in rows], color="#4477aa", height=0.7)
    axis.bar_label(bars, fmt="%.0f", fontsize=7, padding=2)
    axis.axvline(100, color="grey", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("% of the bandwidth of bare loops in the same run")
    save(figure, "bandwidth.svg")


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    layers = read("ops_conv15.json")
    for isa in sorted({row["isa"] for row in layers}):
        shares_of_peak(layers, isa)
    ratios(read("train.json"), "train.svg", "Training step")
    shares_of_bandwidth(read("bandwidth.json"))
    ratios(read("infer.json"), "infer.svg", "Inference, eager")


if __name__ == "__main__":
    main()
