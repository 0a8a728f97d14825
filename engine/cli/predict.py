"""Name what is on images, with probabilities: of files, folders, or patterns such as "photos/**/*.jpg"."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from engine.cli.arguments import add_threads, integer, set_threads

HELP = "name what is on images"
_FORMATS = ("text", "csv", "json", "jsonl")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a checkpoint file, or a run's directory for its best")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="image files, folders of them, or quoted patterns")
    parser.add_argument("--topk", type=integer(1), default=3, metavar="K", help="classes to show per image")
    parser.add_argument(
        "--format", choices=_FORMATS, help="of the answer (default: by the ending of --output, or text)"
    )
    parser.add_argument("--output", metavar="FILE", help="write the answer to this file")
    parser.add_argument("-b", "--batch-size", type=integer(1), default=64, metavar="N", help="images per step")
    parser.add_argument(
        "--invert",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="exchange dark and bright first; by default digits are inverted when the border is bright, as on paper",
    )
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Predicts batch by batch; unreadable images are reported, the others still answered."""
    from engine.cli import tasks

    set_threads(arguments.threads)
    checkpoint, model, preprocessing = tasks.open_checkpoint(arguments.checkpoint)
    ending = (arguments.output or "").rpartition(".")[2]
    form = arguments.format or (ending if ending in _FORMATS else "text")
    files = list(_files(arguments.images))
    failures: list[str] = []
    answers = _answers(arguments, model, preprocessing, checkpoint.class_names, files, failures)
    if arguments.output:
        tasks.write("", arguments.output, "".join(_written(form, answers, arguments.topk)))
    else:
        for text in _written(form, answers, arguments.topk):
            sys.stdout.write(text)
    if len(failures) == len(files) and len(files) > 1:
        print(f"engine predict: error: none of the {len(files)} images could be read", file=sys.stderr)
    return 1 if failures else 0


def _files(wanted: Sequence[str]) -> Iterator[str]:
    """The files that are meant, each folder's and pattern's in alphabetical order."""
    import glob
    import os

    from engine.cli.sources import images_below

    for word in wanted:
        if os.path.isdir(word):
            found = images_below(word)
            if not found:
                raise ValueError(f"{word}: no images in this folder")
            yield from found
        elif not os.path.exists(word) and glob.has_magic(word):
            found = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
            if not found:
                raise ValueError(f"{word}: no file matches")
            yield from found
        else:
            yield word


def _answers(
    arguments: argparse.Namespace,
    model: Any,
    preprocessing: Any,
    names: Sequence[str],
    files: Sequence[str],
    failures: list[str],
) -> Iterator[dict[str, Any]]:
    """One answer per readable image: the file, and the likeliest classes with their probabilities."""
    import numpy as np

    from engine.autograd import no_grad
    from engine.data import ImageError
    from engine.functional import softmax
    from engine.tensor import from_numpy

    normalize = preprocessing.normalize()
    for start in range(0, len(files), arguments.batch_size):
        good, images = [], []
        for path in files[start : start + arguments.batch_size]:
            try:
                images.append(preprocessing.load(path, arguments.invert))
                good.append(path)
            except ImageError as error:
                print(f"engine predict: error: {' '.join(str(error).split())}", file=sys.stderr)
                failures.append(path)
        if not good:
            continue
        with no_grad():
            shares = softmax(model(from_numpy(normalize(np.stack(images)))), 1).numpy()
        for path, row in zip(good, shares):
            best = np.argsort(-row, kind="stable")[: arguments.topk].tolist()
            classes = [{"class": names[k], "index": k, "probability": float(row[k])} for k in best]
            yield {"file": path, "predictions": classes}


def _written(form: str, answers: Iterator[dict[str, Any]], topk: int) -> Iterator[str]:
    if form == "json":
        yield json.dumps(list(answers), indent=2) + "\n"
    elif form == "jsonl":
        for answer in answers:
            yield json.dumps(answer) + "\n"
    elif form == "csv":
        yield _row(["file", *(f"{what}{k}" for k in range(1, topk + 1) for what in ("class", "probability"))])
        for answer in answers:
            cells = [(entry["class"], f"{entry['probability']:.6f}") for entry in answer["predictions"]]
            yield _row([answer["file"], *(cell for pair in cells for cell in pair)])
    else:
        for answer in answers:
            entries = answer["predictions"]
            shown = ", ".join(f"{entry['class']} {100 * entry['probability']:.2f} %" for entry in entries)
            yield f"{answer['file']}: {entries[0]['class']}  ({shown})\n"


def _row(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return str(text.getvalue())
