"""The same bits for every number of threads and every time; threads and forks end well."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from engine.problems import INSTRUCTION_SETS, NO_PENALTY, Problem

from gpunet.optimizers import Penalty

PENALTY = Penalty(l2=0.01, l1=0.002, decay=0.003)
PROBLEMS = [
    Problem([60, 30, 10], ["sigmoid", "sigmoid"], zeros=0.7, uint8=True),
    Problem([60, 100, 10], ["sigmoid", "softmax"], "log-likelihood", batch_size=3),
    Problem([33, 150, 140, 70], ["relu", "softmax", "sigmoid"], "cross-entropy", "momentum", batch_size=13),
    Problem([200, 300, 300, 130], ["tanh", "relu", "linear"], rule="adam", batch_size=50, penalty=PENALTY),
    Problem([5, 1], ["tanh"], batch_size=1, penalty=PENALTY),
    Problem([70, 90, 7], ["relu", "softmax"], "log-likelihood", "adam", batch_size=12, alpha=0.3, floor=1e-7),
    Problem(
        [70, 300, 260, 10],
        ["tanh", "softmax", "sigmoid"],
        batch_size=23,
        zeros=0.8,
        alpha=0.1,
        weighted=True,
        dropout=(0.2, 0.5, 0.4),
    ),
    Problem([150, 700, 260, 10], ["relu", "tanh", "sigmoid"], batch_size=97, examples=300),
]


def bits(result):
    parameters, states, sums = result
    return parameters.tobytes(), [s.tobytes() for s in states], sums


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: "-".join(map(str, p.sizes)))
def test_same_bits_for_every_number_of_threads(instruction_set, dtype, problem):
    one = bits(problem.train(dtype, instruction_set, threads=1))
    assert bits(problem.train(dtype, instruction_set, threads=1)) == one
    for threads in (2, 3, 8):
        assert bits(problem.train(dtype, instruction_set, threads=threads)) == one


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("rule", ["sgd", "momentum"])
@pytest.mark.parametrize("batch_size", [10, 128, 256, 300])
def test_same_bits_whether_or_not_zeros_are_skipped(instruction_set, dtype, rule, batch_size):
    """A call skips zeros if its rows have many, so how an epoch is cut into calls decides which mini-batches do."""
    problem = Problem(
        [70, 30, 10], ["sigmoid", "sigmoid"], rule=rule, batch_size=batch_size, examples=2000, zeros=0.97
    )
    flat, X, Y, _ = problem.arrays
    X[: 3 * batch_size] |= 1  # no zeros in the first three mini-batches
    rows = np.arange(4 * batch_size + 17)

    def train(*cuts):
        parameters, sums = flat.astype(dtype), (0.0, 0.0)
        states = [np.zeros_like(parameters)] * (rule == "momentum")
        engine = problem.engine(dtype, instruction_set)
        engine.load(parameters, states)
        for part in np.split(rows, cuts):
            sums = engine.steps(X, Y, part, batch_size, rule, problem.coefficients, NO_PENALTY, 1 / 256, sums=sums)
        engine.store(parameters, states)
        return parameters.tobytes(), states, sums

    dense, mixed = train(), train(3 * batch_size)
    assert mixed[0] == dense[0]
    np.testing.assert_array_equal(mixed[1], dense[1])
    assert mixed[2] == dense[2]


def test_the_number_of_threads_may_change_from_call_to_call():
    problem = PROBLEMS[0]
    flat, X, Y, order = problem.arrays
    engines = [problem.engine() for _ in range(2)]
    results = [flat.copy() for _ in engines]
    for engine, result, threads in zip(engines, results, [(1, 1, 1, 1), (3, 1, 2, 5)], strict=True):
        engine.load(result)
        for n in threads:
            engine.steps(X, Y, order, 10, "sgd", (0.5,), NO_PENALTY, 1 / 256, n)
        engine.store(result)
    assert results[0].tobytes() == results[1].tobytes()


def test_idle_threads_stay_out_of_calls_that_have_no_part_for_them():
    """Small calls, so that a thread without a part in one may wake when the next, larger one is being set up."""
    problem = Problem([6, 4, 3], ["sigmoid", "sigmoid"], batch_size=10)
    flat, X, Y, order = problem.arrays
    results = [flat.copy() for _ in range(2)]
    for result, several in zip(results, [(1, 1), (2, 8)], strict=True):
        engine = problem.engine()
        engine.load(result)
        for call in range(10000):
            engine.steps(X, Y, order[:20], 10, "sgd", (0.01,), NO_PENALTY, 1 / 256, several[call % 2])
        engine.store(result)
    assert results[0].tobytes() == results[1].tobytes()


WITHOUT_THREADS = """
import resource
from engine.problems import NO_PENALTY, Problem

problem = Problem([60, 30, 10], ["sigmoid", "sigmoid"])
flat, X, Y, order = problem.arrays
engine = problem.engine()

def train(threads):
    result = flat.copy()
    engine.load(result)
    engine.steps(X, Y, order, 10, "sgd", (0.5,), NO_PENALTY, 1 / 256, threads)
    engine.store(result)
    return result.tobytes()

def count():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("Threads:"))

expected, before = train(1), count()
used = 1024 * next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
assert train(8) == expected
started = count() - before
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert train(8) == expected and count() - before == 7
print(started)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer needs memory of its own")
@pytest.mark.parametrize(("stacks", "started"), [(0.5, "0"), (2.5, "2")])
def test_threads_that_can_not_be_started_are_not_needed(stacks, started):
    """A limit on memory leaves room for the stacks of no thread, or of some."""
    program = WITHOUT_THREADS.replace("ROOM", f"int({stacks} * (8 << 20))")
    run = subprocess.run(
        ["bash", "-c", 'ulimit -s 8192 && exec "$@"', "-", sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.strip() == started, run.stderr


def test_engines_work_side_by_side():
    problem = PROBLEMS[3]
    expected = bits(problem.train("float32", threads=2))
    got = []
    workers = [
        threading.Thread(target=lambda: got.append(bits(problem.train("float32", threads=2)))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == [expected] * 3


def test_one_engine_serves_one_thread_at_a_time():
    problem = Problem([300, 300, 10], ["sigmoid", "sigmoid"], batch_size=10)
    flat, X, Y, _ = problem.arrays
    engine = problem.engine()
    engine.load(flat)
    long = np.zeros(30000, np.int64)
    started, refused = threading.Event(), []

    def train():
        started.set()
        engine.steps(X, Y, long, 10, "sgd", (0.01,), NO_PENALTY, 1 / 256)

    worker = threading.Thread(target=train)
    worker.start()
    started.wait()
    while worker.is_alive():
        try:
            engine.steps(X, Y, long[:10], 10, "sgd", (0.01,), NO_PENALTY, 1 / 256)
        except RuntimeError as error:
            refused.append(str(error))
            break
    worker.join()
    assert refused == ["this engine is at work in another thread"]
    engine.store(flat)
    assert np.isfinite(flat).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")  # of other libraries in this process, which do not like to be forked
def test_a_forked_child_trains_on():
    problem = PROBLEMS[0]
    flat, X, Y, order = problem.arrays

    def train(engine, threads):
        result = flat.copy()
        engine.load(result)
        engine.steps(X, Y, order, 10, "sgd", (0.5,), NO_PENALTY, 1 / 256, threads)
        engine.store(result)
        return result.tobytes()

    engine = problem.engine()
    expected = train(engine, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of a fork beside threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            same = train(engine, 3) == expected
            del engine
            status = 0 if same else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert train(engine, 3) == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore")
def test_a_child_forked_during_a_call_can_use_the_engine():
    problem = PROBLEMS[0]
    flat, X, Y, order = problem.arrays
    engine = problem.engine()
    engine.load(flat)
    long, begun = np.zeros(1_000_000, np.int64), threading.Event()

    def train_long():
        begun.set()
        engine.steps(X, Y, long, 10, "sgd", (0.01,), NO_PENALTY, 1 / 256, 2)

    worker = threading.Thread(target=train_long)
    worker.start()
    begun.wait()
    while True:  # until the call has begun
        try:
            engine.store(flat.copy())
        except RuntimeError:
            break
        assert worker.is_alive()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            result = flat.copy()
            engine.load(result)
            engine.steps(X, Y, order, 10, "sgd", (0.5,), NO_PENALTY, 1 / 256, 3)
            engine.store(result)
            status = 0 if np.isfinite(result).all() and (result != flat).any() else 2
        finally:
            os._exit(status)
    assert worker.is_alive()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    worker.join()
