"""Show the pretrained weights of a model: files, accuracy, preprocessing, licence, and whether they are here."""

from __future__ import annotations

import argparse

HELP = "show the pretrained weights of a model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the model."""
    parser.add_argument("name", metavar="NAME", help="a model, or one of its weights: ResNet50_Weights.IMAGENET1K_V2")


def run(arguments: argparse.Namespace) -> int:
    """Prints one paragraph per file."""
    from engine.io import hub
    from engine.models import _weights

    if "." in arguments.name or arguments.name.endswith("_Weights"):
        chosen = _weights.get_weight(arguments.name if "." in arguments.name else f"{arguments.name}.DEFAULT")
        enum = type(chosen)
        members = [chosen] if "." in arguments.name else list(enum)
    else:
        enum = _weights.get_model_weights(arguments.name)
        members = list(enum)
    default = enum["DEFAULT"]
    for number, member in enumerate(members):
        entry, meta, preset = member.value, member.meta, member.transforms()
        accuracy = meta["_metrics"]["ImageNet-1K"]
        classes = meta["categories"]
        here = hub.find(entry.file, entry.sha256)
        facts = {
            "file": entry.url,
            "sha256": f"{entry.sha256}...",
            "size": f"{meta['_file_size']:.1f} MiB, {meta['num_params']:,} parameters",
            "work": f"{meta['_ops']:g} G multiply-adds per image",
            "accuracy": f"{accuracy['acc@1']:.3f} % top-1, {accuracy['acc@5']:.3f} % top-5 on ImageNet-1K",
            "output": f"{len(classes)} classes: {', '.join(classes[:3])}, ..." if classes else "",
            "input": f"shorter side to {preset.resize_size} ({preset.interpolation}), centre {preset.crop_size} x "
            f"{preset.crop_size}, mean {preset.mean}, std {preset.std}; at least {meta['min_size'][0]} pixels",
            "recipe": meta["recipe"],
            "licence": meta["license"] + (" (NOT for commercial use)" if entry.non_commercial else ""),
            "on disk": str(here) if here else "no: downloaded at first use",
        }
        if classes is None:
            facts["accuracy"] = facts["output"] = "none: only the features were trained"
        print(("\n" if number else "") + f"{member}{' (the default)' if member is default else ''}")
        for name, fact in facts.items():
            print(f"  {name:<9} {fact}")
    return 0
