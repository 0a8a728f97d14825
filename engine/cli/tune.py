"""Search hyperparameters with Optuna: many short trainings, the hopeless ones ended early.

The study is a file: the same command goes on with it, also after Ctrl-C, and several processes may work on one."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

from engine.cli.arguments import integer, number, set_threads

HELP = "search hyperparameters"
_SPACE = ("lr=1e-4..1e-1:log", "weight_decay=1e-6..1e-2:log", "label_smoothing=0..0.2")
_PRUNERS = ("median", "halving", "hyperband", "none")


class Range(NamedTuple):
    """What is searched: an option between two numbers, or out of some values."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool
    values: tuple[str, ...]


def search_range(text: str) -> Range:
    """Reads NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C."""
    name, separator, what = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    fault = argparse.ArgumentTypeError(f"expected NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C, got {text!r}")
    if not separator or not name or not what:
        raise fault
    if ".." not in what:
        return Range(name, 0.0, 0.0, False, False, tuple(value.strip() for value in what.split(",")))
    bounds, _, scale = what.partition(":")
    low, _, high = bounds.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        raise fault from None
    log = scale == "log"
    if scale not in ("", "log") or not ends[0] < ends[1] or log and ends[0] <= 0:
        raise fault
    whole = not any(sign in low + high for sign in ".e") and not log
    return Range(name, *ends, log, whole, ())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a training, and those of the search."""
    from engine.cli.options import add_training

    add_training(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=integer(1), default=20, metavar="N", help="trainings to add to the study")
    group.add_argument(
        "--search", type=search_range, nargs="+", default=[search_range(text) for text in _SPACE], metavar="RANGE",
        help=f"options to vary: NAME=LOW..HIGH, NAME=LOW..HIGH:log or NAME=A,B,C (default: {' '.join(_SPACE)})",
    )  # fmt: skip
    group.add_argument("--study", metavar="FILE", help="the study's file (default: study.journal in the directory)")
    group.add_argument("--pruner", choices=_PRUNERS, default="median", help="what ends a hopeless trial")
    group.add_argument(
        "--timeout", type=number(0, open_low=True), metavar="S", help="seconds after which no trial begins"
    )


def run(arguments: argparse.Namespace) -> int:
    """Searches, and writes the best options as a configuration for engine train."""
    import os

    from engine.cli import tasks, training

    optuna = _optuna()
    set_threads(arguments.threads)
    options = {action.dest: action for action in arguments.parser._actions}
    for wanted in arguments.search:
        if wanted.name not in options or options[wanted.name].nargs == 0:
            arguments.parser.error(f"--search: there is no option --{wanted.name.replace('_', '-')} to vary")
    arguments.model = arguments.model or "lenet5"
    directory = arguments.output_dir or os.path.join("runs", f"tune-{arguments.model}")
    os.makedirs(directory, exist_ok=True)
    file = arguments.study or os.path.join(directory, "study.journal")
    direction = "maximize" if arguments.monitor == "val_accuracy" else "minimize"
    study = optuna.create_study(
        study_name="engine",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(file)),
        pruner=_pruner(optuna, arguments),
        direction=direction,
        load_if_exists=True,
    )
    if study.direction.name.lower() != direction:
        raise ValueError(
            f"{file}: this study is to {study.direction.name.lower()}, not to {direction} {arguments.monitor}"
        )
    # With the seed alone a study that goes on would try again what it began with.
    study.sampler = optuna.samplers.TPESampler(seed=arguments.seed + len(study.trials))
    if study.trials:
        print(f"{file}: goes on after {len(study.trials)} trials")
    tasks.write_json(directory, "args.json", _plain(arguments))

    def objective(trial: Any) -> float:
        return _trial(optuna, trial, arguments, options)

    def report(study: Any, trial: Any) -> None:
        value = "" if trial.value is None else f"{arguments.monitor} {trial.value:.4f}  "
        settings = "  ".join(f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
                             for name, value in trial.params.items())  # fmt: skip
        print(f"trial {trial.number:>3}  {trial.state.name.lower():<8}  {value}{settings}", flush=True)

    # What a trial cannot do anything about ends the search; a loss that is not finite ends the trial.
    study.optimize(objective, n_trials=arguments.trials, timeout=arguments.timeout, callbacks=[report])
    complete = [trial for trial in study.trials if trial.value is not None and trial.state.name == "COMPLETE"]
    if not complete:
        raise RuntimeError("no trial was completed: widen --search, or take smaller learning rates")
    best = study.best_trial
    found = {**training.plain(arguments), **_converted(best.params, options)}
    keep = {name: value for name, value in found.items() if value is not None and name in _train_options()}
    keep.pop("output_dir", None)
    tasks.write_json(directory, "best.json", keep)
    print(f"\nbest of {len(study.trials)} trials: number {best.number}, {arguments.monitor} {best.value:.4f}")
    print("  ".join(f"{name}={value}" for name, value in best.params.items()))
    print(f"next: engine train --config {os.path.join(directory, 'best.json')}")
    return 0


def _optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ImportError as error:
        raise ImportError('engine tune needs Optuna: pip install "engine[tune]"') from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _pruner(optuna: Any, arguments: argparse.Namespace) -> Any:
    if arguments.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
    if arguments.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner()
    if arguments.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(max_resource=arguments.epochs)
    return optuna.pruners.NopPruner()


def _trial(optuna: Any, trial: Any, arguments: argparse.Namespace, options: dict[str, Any]) -> float:
    """One training with options of its own; returns the best value of the number that is watched."""
    from engine.callbacks import Callback
    from engine.cli import training
    from engine.train import NonFiniteLossError, Trainer

    chosen = {}
    for wanted in arguments.search:
        if wanted.values:
            chosen[wanted.name] = trial.suggest_categorical(wanted.name, list(wanted.values))
        elif wanted.whole:
            chosen[wanted.name] = trial.suggest_int(wanted.name, int(wanted.low), int(wanted.high))
        else:
            chosen[wanted.name] = trial.suggest_float(wanted.name, wanted.low, wanted.high, log=wanted.log)
    settings = argparse.Namespace(**{**vars(arguments), **_converted(chosen, options)})

    class Pruning(Callback):
        """Tells the study about every epoch, and ends what it calls hopeless."""

        order = 30

        def after_epoch(self, trainer: Trainer) -> None:
            trial.report(trainer.row[arguments.monitor], trainer.epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    made = training.setup(settings)
    trained = training.trainer(settings, made, None, [Pruning()])
    try:
        history = trained.fit(made.train, made.val, epochs=settings.epochs)
    except NonFiniteLossError as error:
        raise optuna.TrialPruned(str(error)) from error
    pick = max if arguments.monitor == "val_accuracy" else min
    return float(pick(row[arguments.monitor] for row in history))


def _converted(chosen: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Values as the options' own types make them of words; those with several values get a list of one."""
    found = {}
    for name, value in chosen.items():
        kind = options[name].type or str
        converted = kind(str(value))
        if options[name].choices is not None and converted not in options[name].choices:
            raise ValueError(f"--search {name}: {converted!r} is none of {', '.join(map(str, options[name].choices))}")
        found[name] = [converted] if options[name].nargs is not None else converted
    return found


def _train_options() -> set[str]:
    from engine.cli import make_parser
    from engine.cli.config import dests

    parser = make_parser("train")
    return dests(parser._subparsers._group_actions[0].choices["train"])  # type: ignore[union-attr, index]


def _plain(arguments: argparse.Namespace) -> dict[str, Any]:
    from engine.cli import training

    found = training.plain(arguments)
    found["search"] = [_written(wanted) for wanted in arguments.search]
    return found


def _written(wanted: Range) -> str:
    if wanted.values:
        return f"{wanted.name}={','.join(wanted.values)}"
    low, high = (int(wanted.low), int(wanted.high)) if wanted.whole else (wanted.low, wanted.high)
    return f"{wanted.name}={low}..{high}{':log' if wanted.log else ''}"
