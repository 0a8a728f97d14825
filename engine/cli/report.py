"""Write the report of a run again: one HTML file with results, curves, mistakes and settings, for any browser."""

from __future__ import annotations

import argparse

from engine.cli.arguments import add_threads, set_threads

HELP = "write the HTML report of a run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options."""
    parser.add_argument("run_directory", metavar="RUN", help="the directory of a run")
    parser.add_argument("--output", metavar="FILE", help="the file to write (default: report.html in the directory)")
    parser.add_argument("--data-path", metavar="PATH", help="where the data are now (default: where they were)")
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the report and says where it is."""
    import os

    from engine.cli import tasks

    set_threads(arguments.threads)
    wanted = ("args.json", "history.jsonl", "results.json", "predictions.npz", "best.safetensors")
    missing = [name for name in wanted if not os.path.exists(os.path.join(arguments.run_directory, name))]
    if missing:
        raise FileNotFoundError(
            f"{arguments.run_directory}: not the directory of a finished run: no {', '.join(missing)} in it"
        )
    print(tasks.write_run_report(arguments.run_directory, arguments.output, arguments.data_path))
    return 0
