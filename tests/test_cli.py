"""The command line: the main job end to end, what it leaves behind, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest

from engine import backend
from engine.cli import main
from engine.data import decode


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Nothing here depends on the number of threads, and one is quickest for small steps on a busy machine."""
    backend.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A short run on the digits."""
    directory = tmp_path_factory.mktemp("cli") / "run"
    threads = backend.num_threads()
    assert run("train", "--epochs", 6, "--threads", 1, "--output", directory) == 0
    backend.set_num_threads(threads)
    return directory


def test_train_leaves_everything_behind(trained) -> None:
    names = set(os.listdir(trained))
    assert {
        "args.json",
        "best.safetensors",
        "last.safetensors",
        "history.csv",
        "history.jsonl",
        "results.json",
    } <= names
    assert not [name for name in names if name.endswith(".tmp")]
    arguments = json.loads((trained / "args.json").read_text())
    assert arguments["epochs"] == 6
    assert arguments["lr"] > 0
    results = json.loads((trained / "results.json").read_text())
    assert results["accuracy"] > 0.9
    assert results["samples"] == np.sum(results["confusion_matrix"])
    assert len((trained / "history.jsonl").read_text().splitlines()) == 6


def test_train_draws_when_matplotlib_is_there(trained) -> None:
    pytest.importorskip("matplotlib")
    assert (trained / "curves.png").stat().st_size > 5000
    assert (trained / "confusion_matrix.png").stat().st_size > 5000


def test_train_without_matplotlib_says_so(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run("train", "--epochs", 1, "--output", tmp_path / "run") == 0
    assert 'no plots: plots need matplotlib: pip install "engine[train]"' in capsys.readouterr().out
    assert "curves.png" not in os.listdir(tmp_path / "run")


@pytest.mark.parametrize("target", ["", "best.safetensors"])
def test_evaluate_reproduces_the_test_accuracy(trained, capsys, target: str) -> None:
    assert run("evaluate", trained / target) == 0
    results = json.loads((trained / "results.json").read_text())
    found = re.search(r"test accuracy ([\d.]+) % \((\d+) of (\d+)\)", capsys.readouterr().out)
    assert found is not None
    assert int(found[2]) == round(results["accuracy"] * results["samples"])
    assert int(found[3]) == results["samples"]


def test_evaluate_other_parts(trained, capsys) -> None:
    assert run("evaluate", trained, "--split", "all") == 0
    assert "of 1797)" in capsys.readouterr().out


def digit_file(path, index: int, size: int = 8, paper: bool = False):
    Image = pytest.importorskip("PIL.Image")
    from engine.data import digits

    pixels = digits().arrays[0][index, :, :, 0]
    image = Image.fromarray(255 - pixels if paper else pixels)
    image.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return path


def test_predict_names_digits(trained, tmp_path, capsys) -> None:
    files = [
        digit_file(tmp_path / "0.png", 0),
        digit_file(tmp_path / "1.png", 1, 100),
        digit_file(tmp_path / "6.jpg", 6, 64, paper=True),
    ]
    assert run("predict", trained, *files, "--topk", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, file in zip(lines, files, strict=True):
        assert re.fullmatch(re.escape(f"{file}: {file.stem}  (") + r"\d [\d.]+ %, \d [\d.]+ %\)", line)
    inverted = digit_file(tmp_path / "inv.png", 0, paper=True)
    assert run("predict", trained, "--invert", inverted) == 0
    assert capsys.readouterr().out.startswith(f"{inverted}: 0")
    assert run("predict", trained, "--no-invert", files[0]) == 0


def test_predict_answers_for_the_good_and_names_the_bad(trained, tmp_path, capsys) -> None:
    good = digit_file(tmp_path / "good.png", 3)
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:60])
    assert run("predict", trained, cut, good, tmp_path / "none.png") == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{good}: 3")
    errors = captured.err.splitlines()
    assert len(errors) == 2
    assert str(cut) in errors[0]
    assert f"{tmp_path / 'none.png'}: no such file" in errors[1]


def test_predict_without_pillow_names_the_extra(trained, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "a.png").write_bytes(b"never decoded")
    monkeypatch.setitem(sys.modules, "PIL", None)
    decode._pillow.cache_clear()
    assert run("predict", trained, tmp_path / "a.png") == 1
    assert 'pip install "engine[train]"' in capsys.readouterr().err


def test_bad_checkpoints_are_one_line(trained, tmp_path, capsys) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((trained / "best.safetensors").read_bytes()[:-100])
    for path in (cut, tmp_path / "none", tmp_path):
        assert run("evaluate", path) == 1
        error = capsys.readouterr().err
        assert error.startswith("engine evaluate: error: ")
        assert str(path) in error
        assert error.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path, capsys) -> None:
    assert run("evaluate", tmp_path / "none", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_earlier_run_is_not_overwritten(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run("train", "--epochs", 1, "--label-smoothing", 0) == 0
    assert sorted(os.listdir("runs")) == ["lenet5-digits", "lenet5-digits-2"]
    assert "holds an earlier run: writing to" in capsys.readouterr().out


def test_train_is_reproducible_and_takes_all_options(tmp_path, capsys) -> None:
    options = "--epochs 2 -b 32 --lr 0.02 --opt sgd --momentum 0.8 --wd 1e-4 --lr-scheduler step --label-smoothing 0 "
    options += "--patience 1 --seed 7 --threads 1 --model lenet5 --data-path digits"
    losses = []
    for workers in (0, 2):
        output = tmp_path / f"run{workers}"
        assert run("train", *options.split(), "--workers", workers, "--output", output) == 0
        rows = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
        losses.append([(row["train_loss"], row["val_loss"]) for row in rows])
    assert losses[0] == losses[1]


def test_own_images(tmp_path, capsys) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = generator.integers(0, 100, (60, 20, 20), dtype=np.uint8)
    images[labels == 1, 5:15, 5:15] += 150
    path = tmp_path / "squares.npz"
    np.savez(path, images=images, labels=labels, class_names=["noise", "square"])
    assert run("train", "--data-path", path, "--epochs", 5, "-b", 8, "--output", tmp_path / "run") == 0
    assert "square" in capsys.readouterr().out
    assert run("evaluate", tmp_path / "run") == 0
    images[0] = 0
    np.savez(path, images=images, labels=labels, class_names=["noise", "square"])
    assert run("evaluate", tmp_path / "run") == 1
    assert "not the data that the checkpoint was made with" in capsys.readouterr().err
    np.savez(path, images=images, labels=labels[:-1])
    assert run("train", "--data-path", path, "--output", tmp_path / "none") == 1
    assert "every image needs exactly one label" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_nan_loss_is_one_line_and_keeps_what_was_saved(tmp_path, capsys) -> None:
    output = tmp_path / "run"
    assert run("train", "--opt", "sgd", "--lr", "1e20", "--epochs", 3, "--output", output) == 3
    error = capsys.readouterr().err
    assert error.startswith("engine train: error: [Trainer] the loss is ")
    assert error.count("\n") == 1
    assert "args.json" in os.listdir(output)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["fly"], "unknown command 'fly'"),
        (["trian"], "did you mean train?"),
        (["train", "--epochs", "0"], "at least 1"),
        (["train", "--epochs", "many"], "'many'"),
        (["train", "--lr", "0"], "above 0"),
        (["train", "--label-smoothing", "1"], "below 1"),
        (["train", "--opt", "magic"], "invalid choice"),
        (["train", "--no-such-flag"], "unrecognized"),
        (["train", "--epoch", "3"], "did you mean --epochs"),
        (["train", "--learning_rate_min=0"], "unrecognized"),
        (["train", "--label_smoothing", "0"], "did you mean --label-smoothing"),
        (["finetune"], "--data-path"),
        (["tune", "--search", "lr"], "expected NAME=LOW..HIGH"),
        (["tune", "--search", "lr=2..1"], "expected NAME=LOW..HIGH"),
        (["train", "--hflip", "2"], "from 0 to 1"),
        (["predict", "x"], "IMAGE"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "no_such_model"], "no_such_model"),
        (["--data-path", "/no/such.npz"], "/no/such.npz: no such file"),
        (["--val-fraction", "0.5", "--test-fraction", "0.5"], "leave nothing to train on"),
    ],
)
def test_failures_are_exit_code_1_with_one_line(arguments: list[str], words: str, capsys, tmp_path) -> None:
    assert run("train", *arguments, "--output", tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_interrupt_is_exit_code_130(tmp_path, monkeypatch, capsys) -> None:
    from engine.train import Trainer

    def interrupted(self):
        if self.epoch == 2:
            raise KeyboardInterrupt
        self.optimizer.step()

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert run("train", "--epochs", 5, "--output", tmp_path / "run") == 130
    captured = capsys.readouterr()
    assert "interrupted after 2 whole epochs" in captured.out
    assert "interrupted" in captured.err
    monkeypatch.undo()
    assert run("evaluate", tmp_path / "run" / "last.safetensors") == 0


def test_info(capsys) -> None:
    import engine

    assert run("info") == 0
    text = capsys.readouterr().out
    assert re.search(r"^engine +\d", text)
    assert engine.backend.isa() in text
    assert "threads" in text


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "engine", *arguments], capture_output=True, text=True)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    plain = min(_seconds("-c", "import numpy") for _ in range(3))
    help_ = min(_seconds("-m", "engine", "--help") for _ in range(3))
    assert help_ < 2 * plain + 0.1  # where importing NumPy takes 0.05 s, this is the 0.15 s to stay below
    code = (
        "import sys\nfrom engine.cli import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'matplotlib', 'PIL', 'tqdm', 'engine.train', 'engine.plots', 'engine.data'} & set(sys.modules)\n"
        "print('heavy:', sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    assert "--label-smoothing" in done.stdout


def _seconds(*arguments: str) -> float:
    """Processor time, which other work on the machine lengthens less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_the_process_itself() -> None:
    assert command("--version").stdout.startswith("engine ")
    assert "predict" in command("--help").stdout
    assert command("evaluate", "/no/such").returncode == 1
    assert command().returncode == 2


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in errors
