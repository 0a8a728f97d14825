"""Search learning rate, optimizer and batch size with Optuna, then train with what was found.

Run:  python examples/hyperparameter_search.py [--trials 12] [--output-dir search]      (pip install "engine[tune]")

You see one line per trial; hopeless ones are pruned after an epoch or two. The study is kept in search/study.journal:
the same command goes on with it. At the end LeNet-5 is trained with the best settings and tested on digits.
"""

import argparse
import os

from engine.cli import main as engine_command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--output-dir", default="search")
    arguments = parser.parse_args()
    ranges = ["lr=1e-4..1e-1:log", "opt=adam,sgd,rmsprop", "batch_size=16..128"]
    common = ["--epochs", str(arguments.epochs), "--monitor", "val_accuracy"]
    words = ["tune", "--trials", str(arguments.trials), "--output-dir", arguments.output_dir, *common]
    code = engine_command([*words, "--search", *ranges])
    if code:
        return code
    best = os.path.join(arguments.output_dir, "best.json")
    return engine_command(["train", "--config", best, "--output-dir", os.path.join(arguments.output_dir, "best")])


if __name__ == "__main__":
    raise SystemExit(main())
