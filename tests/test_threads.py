"""Threads: they change how long a step takes and nothing else; none starts by itself; a fork survives them."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import numpy as np
import op_cases
import pytest
from execution import ISAS, THREADS, bits, forward_backward, fresh, output_of, running, tensors
from op_cases import Case, conv, fixed, normal

import engine
from engine import nn

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def network() -> nn.Module:
    """One of each kind of layer that splits work or draws random numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 20, 3, padding=1),
        nn.BatchNorm2d(20),
        nn.ReLU(),
        nn.Conv2d(20, 20, 3, stride=2, padding=1, groups=20),
        nn.GroupNorm(4, 20),
        nn.SiLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.2),
        nn.Conv2d(20, 33, 1),
        nn.Dropout2d(0.1),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(33 * 9, 10),
    )


def ten_steps(optimizer: str) -> list[bytes]:
    """Losses, outputs, gradients, parameters and running statistics of ten steps, as bytes."""
    engine.manual_seed(1)
    rng = np.random.default_rng(2)
    model = network()
    make = {"sgd": engine.optim.SGD, "adam": engine.optim.Adam}[optimizer]
    step = make(model.parameters(), lr=0.05, **({"momentum": 0.9} if optimizer == "sgd" else {}))
    found = []
    for _ in range(10):
        x = engine.tensor(rng.standard_normal((16, 3, 24, 24)).astype(np.float32))
        target = engine.tensor(rng.integers(0, 10, 16))
        output = model(x)
        loss = engine.functional.cross_entropy(output, target)
        step.zero_grad()
        loss.backward()
        found.append(output.detach().numpy().tobytes() + loss.detach().numpy().tobytes())
        found.append(b"".join(p.grad.numpy().tobytes() for p in model.parameters()))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        step.step()
    found.append(b"".join(value.numpy().tobytes() for value in model.state_dict().values()))
    return found


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ten_training_steps_are_bit_identical(optimizer: str) -> None:
    for isa in ISAS:
        seen = {}
        for threads in THREADS:
            with running(isa, threads):
                seen[threads] = ten_steps(optimizer)
        for threads in THREADS[1:]:
            differ = [i for i, (a, b) in enumerate(zip(seen[1], seen[threads], strict=True)) if a != b]
            assert not differ, f"{threads} threads differ from 1 first in result {differ[0]} on {isa}"


LARGE = {
    "conv2d": conv((3, 40, 41, 43), (70, 40, 3, 3), padding=1),
    "conv2d strided": conv((2, 3, 97, 99), (33, 3, 7, 7), stride=2, padding=3),
    "conv2d 1x1": conv((2, 200, 19, 21), (130, 200, 1, 1)),
    "conv2d one image": conv((1, 64, 14, 14), (64, 64, 3, 3), padding=1),
    "conv2d depthwise": conv((3, 70, 40, 41), (70, 1, 5, 5), padding=2, groups=70),
    "conv2d groups": conv((2, 48, 30, 30), (60, 16, 3, 3), groups=3),
    "conv_transpose2d": conv((2, 40, 20, 21), (40, 33, 4, 4), op="conv_transpose2d", stride=2),
    "linear": Case("linear", (normal(130, 700), normal(300, 700), normal(300))),
    "linear one row": Case("linear", (normal(1, 3000), normal(700, 3000), normal(700))),
    "matmul deep": Case("matmul", (normal(7, 20000), normal(20000, 9))),
    "batch_norm": Case("batch_norm", (normal(9, 70, 40, 41), None, None, normal(70), normal(70)), {"training": True}),
    "batch_norm rows": Case("batch_norm", (normal(5000, 70), None, None, normal(70), normal(70)), {"training": True}),
    "layer_norm": Case("layer_norm", (normal(700, 300), normal(300), normal(300)), {"normalized_shape": (300,)}),
    "group_norm": Case("group_norm", (normal(5, 64, 40, 40), normal(64), normal(64)), {"num_groups": 8}),
    "max_pool2d": Case("max_pool2d", (normal(5, 70, 60, 60),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "avg_pool2d": Case("avg_pool2d", (normal(5, 70, 60, 60),), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "adaptive_avg_pool2d": Case("adaptive_avg_pool2d", (normal(5, 300, 30, 30),), {"output_size": 1}),
    "sum": Case("sum", (normal(1000, 1003),)),
    "sum rows": Case("sum", (normal(1000, 1003),), {"dim": 0}),
    "sum columns": Case("sum", (normal(1000, 1003),), {"dim": 1}),
    "mean channels": Case("mean", (normal(9, 70, 40, 41),), {"dim": (0, 2, 3)}),
    "softmax": Case("softmax", (normal(500, 1000),), {"dim": 1}),
    "cross_entropy": Case("cross_entropy", (normal(2000, 300), fixed("labels", 2000, limit=300), None)),
    "mse_loss": Case("mse_loss", (normal(1000, 1003), normal(1000, 1003))),
    "broadcast": Case("mul", (normal(9, 70, 40, 41), normal(1, 70, 1, 1))),
    "gelu": Case("gelu", (normal(9, 70, 40, 41),)),
    "prelu": Case("prelu", (normal(9, 70, 40, 41), normal(70))),
    "concat": Case("concat", (normal(9, 30, 40, 41), normal(9, 41, 40, 41)), {"dim": 1}),
    "permute": Case("permute", (normal(9, 70, 40, 41),), {"dims": (0, 2, 3, 1)}),
    "index_select": Case("index_select", (normal(500, 900),), {"dim": 0, "index": tuple(range(0, 500, 2)) * 3}),
    "interpolate": Case("interpolate", (normal(3, 70, 40, 41),), {"size": (75, 77), "mode": "bilinear"}),
    "local_response_norm": Case("local_response_norm", (normal(5, 64, 40, 40),), {"size": 5}),
}


@pytest.mark.parametrize("name", list(LARGE))
def test_large_ops_are_bit_identical(name: str) -> None:
    """Shapes that are split over threads: forward and backward to the last bit, also with more threads than cores."""
    case = LARGE[name]
    arrays = case.arrays()
    expected = None
    for threads in (1, 2, 3, 7):
        with running(threads=threads):
            inputs = tensors(case, arrays)
            y = op_cases.call(engine, engine.functional, case, inputs)[0]
            dy = np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
            found = bits(forward_backward(case, dy, inputs))
        expected = expected or found
        differ = [key for key in expected if expected[key] != found[key]]
        assert not differ, f"{differ} with {threads} threads"


def test_random_numbers_do_not_depend_on_threads_or_isa() -> None:
    def draw() -> bytes:
        engine.manual_seed(5)
        ones = engine.ones(40, 31, 18, 18)
        parts = [engine.rand(100001), engine.functional.dropout(ones, 0.3), engine.functional.dropout2d(ones, 0.3)]
        return b"".join(part.numpy().tobytes() for part in parts)

    seen = set()
    for isa in ISAS:
        for threads in THREADS:
            with running(isa, threads):
                seen.add(draw())
    assert len(seen) == 1


def test_import_starts_no_thread() -> None:
    count = output_of(
        """
        import os, numpy
        before = len(os.listdir("/proc/self/task"))
        import engine, engine.nn, engine.optim, engine.data
        x = engine.ones(2, 2)
        print(len(os.listdir("/proc/self/task")) - before)
        """
    )
    assert count == "0"


TRAIN = """
import numpy as np
import engine
from engine import backend as B, nn

def train(steps=3):
    engine.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 49, 10))
    optimizer = engine.optim.SGD(model.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        x = engine.tensor(rng.standard_normal((16, 3, 16, 16)).astype(np.float32))
        loss = engine.functional.cross_entropy(model(x), engine.tensor(rng.integers(0, 10, 16)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()
"""


def test_a_forked_child_trains_after_its_parent() -> None:
    """The OpenMP runtime does not survive a fork by itself; a child, its child and the parent all go on."""
    script = """
import os, signal, sys

B.set_num_threads(2)
first = train()

def in_child(job):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            job()
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0

def same():
    assert train() == first

def grandchild():
    same()
    in_child(same)
    same()

in_child(same)
in_child(grandchild)
in_child(same)
same()
print("ok")
"""
    # Python 3.12 warns of a fork in a process with threads, which is the point here.
    assert output_of("import warnings\nwarnings.simplefilter('ignore')\n" + TRAIN + script) == "ok"


def test_many_forked_children_train_at_once() -> None:
    script = """
import os, signal
B.set_num_threads(2)
first = train()
children = []
for _ in range(4):
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)
        B.set_num_threads(2)
        os._exit(0 if train() == first else 1)
    children.append(pid)
print([os.waitpid(pid, 0)[1] for pid in children])
"""
    assert output_of("import warnings\nwarnings.simplefilter('ignore')\n" + TRAIN + script) == "[0, 0, 0, 0]"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    script = tmp_path / "many.py"
    script.write_text(
        "import warnings\nwarnings.simplefilter('ignore')\n"
        + TRAIN
        + textwrap.dedent(
            f"""
            import multiprocessing

            def work(_):
                return train()

            if __name__ == "__main__":
                B.set_num_threads(2)
                first = train()
                with multiprocessing.get_context("{method}").Pool(2) as pool:
                    results = pool.map_async(work, range(3)).get(timeout=60)
                assert results == [first] * 3, (results, first)
                print("ok")
            """
        )
    )
    done = fresh(str(script), timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "ok"


def test_python_threads_train_side_by_side() -> None:
    """The GIL is released in the kernels: two Python threads at once, each with the result of one alone."""
    script = """
import threading
B.set_num_threads(2)
engine.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 196, 10))
x = engine.tensor(np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32))
y = engine.tensor(np.arange(8))

def gradients():
    loss = engine.functional.cross_entropy(model(x), y)
    weights = [p.detach().requires_grad_() for p in model.parameters()]
    out = engine.functional.conv2d(x, weights[0], weights[1]).relu().flatten(1)
    loss = engine.functional.cross_entropy(engine.functional.linear(out, weights[2], weights[3]), y)
    loss.backward()
    return b"".join(w.grad.numpy().tobytes() for w in weights)

alone = gradients()
results = []
def work():
    for _ in range(5):
        results.append(gradients() == alone)
workers = [threading.Thread(target=work) for _ in range(3)]
for w in workers: w.start()
for w in workers: w.join()
print(results.count(True), results.count(False))
"""
    assert output_of(TRAIN + script) == "15 0"


def test_a_loader_worker_computes_on_one_thread() -> None:
    """Ops of a data set start no further threads in workers; elsewhere they do, and the bits are the same."""
    script = """
import os
from engine.data import DataLoader, Dataset

B.set_num_threads(3)
running = lambda: len(os.listdir("/proc/self/task"))
before, seen = running(), set()
image = engine.tensor(np.random.default_rng(0).standard_normal((1, 16, 40, 40)).astype(np.float32))
weight = engine.tensor(np.random.default_rng(1).standard_normal((16, 16, 3, 3)).astype(np.float32))

class Filtered(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        result = engine.functional.conv2d(image * index, weight).numpy()
        seen.add((B.num_threads(), running() - before))
        return result, index

def batches(workers):
    return [images.numpy().tobytes() for images, _ in DataLoader(Filtered(), 2, num_workers=workers)]

beside = batches(2)
assert {threads for threads, _ in seen} == {1} and max(more for _, more in seen) <= 2, seen
seen.clear()
assert batches(0) == beside
assert all(threads == 3 and more >= 2 for threads, more in seen), seen  # a worker may not quite have ended
print("ok")
"""
    assert output_of(TRAIN + script) == "ok"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor")
def test_a_sleeping_worker_leaves_the_callers_processor_to_it_and_follows_its_affinity() -> None:
    script = """
import os, time

B.set_num_threads(2)
tasks = lambda: {int(task) for task in os.listdir("/proc/self/task")}
before = tasks()
train()
worker, = tasks() - before
time.sleep(0.1)
own, left = os.sched_getaffinity(0), os.sched_getaffinity(worker)
assert left < own and len(left) == len(own) - 1, (own, left)
train()  # wakes it, wherever this thread is by now
os.sched_setaffinity(0, {min(own)})
train()
time.sleep(0.1)
assert os.sched_getaffinity(worker) == {min(own)}, os.sched_getaffinity(worker)
print("ok")
"""
    assert output_of(TRAIN + script) == "ok"


ASK = "import engine; from engine import backend as B; print(B.num_threads())"


def test_number_of_threads_follows_environment_and_affinity() -> None:
    cpus = len(os.sched_getaffinity(0))
    assert 1 <= int(output_of(ASK)) <= cpus
    assert output_of(ASK, OMP_NUM_THREADS="3") == "3"
    assert output_of(ASK, ENGINE_NUM_THREADS="2", OMP_NUM_THREADS="3") == "2"
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert output_of(one + ASK) == "1"


@pytest.mark.parametrize("value", ["", "0", "-1", "many", "2,3", "99999999999999999999", "5000000"])
def test_nonsense_in_the_environment_is_survived(value: str) -> None:
    for name in ("ENGINE_NUM_THREADS", "OMP_NUM_THREADS"):
        threads = int(output_of(ASK, **{name: value}))
        assert 1 <= threads <= 4096, f"{name}={value} gives {threads} threads"


def test_the_instruction_set_follows_the_environment() -> None:
    ask = "from engine import backend as B; print(B.isa())"
    for isa in ISAS:
        assert output_of(ask, ENGINE_ISA=isa) == isa
    assert output_of(ask) == ISAS[-1] or output_of(ask) in ISAS


def test_an_unknown_instruction_set_in_the_environment_is_an_error_or_ignored_aloud() -> None:
    done = fresh("-c", "import engine; from engine import backend as B; print(B.isa())", ENGINE_ISA="sse9")
    assert "sse9" in done.stderr, "ENGINE_ISA=sse9 was ignored without a word"
    assert done.returncode in (0, 1)
