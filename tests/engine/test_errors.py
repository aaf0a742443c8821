"""What does not fit is an error that says so, and never a crash."""

import sys

import numpy as np
import pytest
from engine.problems import Problem

import gpunet
from gpunet import activations, costs, optimizers
from gpunet.backends import compiled
from gpunet.backends.compiled import CompiledEngine, why_not_compiled, why_unsupported
from gpunet.errors import DeviceError, InputError

SIGMOID = activations.get("sigmoid")
QUADRATIC = costs.get("quadratic")


@pytest.fixture
def problem():
    return Problem([6, 4, 3], ["sigmoid", "sigmoid"])


@pytest.fixture
def engine(problem):
    engine = problem.engine("float32")
    engine.load(problem.arrays[0].astype(np.float32))
    return engine


def misaligned(x):
    """Return a copy one byte off."""
    memory = np.empty(x.nbytes + 1, np.uint8)
    start = 1 - memory.ctypes.data % 2  # at an odd address
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


def read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], "quadratic", "float32"), "at least two layers"),
        (([3], [], "quadratic", "float32"), "at least two layers"),
        (([3, 0], ["sigmoid"], "quadratic", "float32"), "positive"),
        (([3, -1], ["sigmoid"], "quadratic", "float32"), "positive"),
        (([3, 2**31], ["sigmoid"], "quadratic", "float32"), r"below 2\*\*31"),
        (([3, 2**80], ["sigmoid"], "quadratic", "float32"), "int"),
        (([3, 2.5], ["sigmoid"], "quadratic", "float32"), "float"),
        (([3, 2, 1], ["sigmoid"], "quadratic", "float32"), "one for each layer"),
        (([3, 2], ["sigmoid"], "quadratic", "float16"), "float16"),
        (([3, 2], ["relu"], "cross-entropy", "float32"), "sigmoid outputs"),
        (([3, 2], ["sigmoid"], "log-likelihood", "float32"), "softmax outputs"),
        (([3, 2], ["sigmoid"], "quadratic", "float32", "mmx"), "unknown instruction set 'mmx'; known: "),
        (([3, 2], ["softsign"], "quadratic", "float32"), "unknown activation 'softsign'; known: sigmoid"),
        (([3, 2], [b"tanh"], "quadratic", "float32"), "an activation must be a string"),
        (([3, 2], ["sigmoid"], "cross-entropy", "float32", None, -0.1), "floor must be at least 0 and below 1"),
        (([3, 2], ["sigmoid"], "cross-entropy", "float32", None, 1.0), "floor must be at least 0 and below 1"),
        (
            ([3, 2], ["sigmoid"], "cross-entropy", "float32", None, float("nan")),
            "floor must be at least 0 and below 1",
        ),
        (([3, 2], ["sigmoid"], "quadratic", "float32", None, 0.0, [0.1, 0.1]), "no share for the output layer"),
        (([3, 2], ["sigmoid"], "quadratic", "float32", None, 0.0, [1.0]), "at least 0 and below 1"),
        (([3, 2], ["sigmoid"], "quadratic", "float32", None, 0.0, [-0.1]), "at least 0 and below 1"),
        (([3, 2], ["sigmoid"], "quadratic", "float32", None, 0.0, [float("nan")]), "at least 0 and below 1"),
        (([3, 2], ["sigmoid"], "quadratic", "float32", None, 0.0, 0.1), "dropout must be a sequence"),
        (([3, 2], ["sigmoid"], "absolute", "float32"), "unknown cost 'absolute'; known: quadratic"),
    ],
)
def test_networks_that_make_no_engine(arguments, message):
    with pytest.raises(InputError, match=message):
        CompiledEngine(*arguments)


def test_a_network_larger_than_memory():
    most = 2**31 - 1
    engine = CompiledEngine([most, most], ["sigmoid"], "quadratic", "float64")
    with pytest.raises(InputError, match="shape"):
        engine.load(np.zeros(3))
    with pytest.raises(MemoryError):  # the number of its parameters alone would not fit into 63 bits
        CompiledEngine([most] * 4, ["sigmoid"] * 3, "quadratic", "float64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:-1], r"parameters must have shape \(43, \), got \(42, \)"),
        (lambda x: x.reshape(43, 1), "shape"),
        (lambda x: x.astype(np.float64), "dtype float32"),
        (lambda x: x.astype(">f4"), "dtype float32"),
        (lambda x: np.repeat(x, 2)[::2], "C-contiguous"),
        (misaligned, "parameters must be aligned, as a copy of it is"),
        (lambda x: "no array", "C-contiguous"),
        (lambda x: None, "C-contiguous"),
    ],
)
def test_parameters_that_do_not_fit(problem, engine, change, message):
    flat = problem.arrays[0].astype(np.float32)
    for move in (engine.load, engine.store):
        with pytest.raises(InputError, match=message):
            move(change(flat))
    with pytest.raises(InputError, match=message.replace("parameters", "a state")):
        engine.load(flat, [change(flat)])


def test_read_only_output(problem, engine):
    with pytest.raises(InputError, match="writable"):
        engine.store(read_only(problem.arrays[0].astype(np.float32)))


def test_states_that_do_not_fit(problem, engine):
    flat = problem.arrays[0].astype(np.float32)
    with pytest.raises(InputError, match="0, 1 or 2"):
        engine.load(flat, [flat, flat, flat])
    with pytest.raises(InputError, match="sequence"):
        engine.load(flat, 3)
    with pytest.raises(InputError, match="0 arrays"):
        engine.store(flat, [flat.copy()])
    engine.load(flat, [flat])
    with pytest.raises(InputError, match="1 arrays"):
        engine.store(flat, [])


def test_nothing_is_trained_before_load(problem):
    engine, (flat, X, Y, order) = problem.engine(), problem.arrays
    with pytest.raises(RuntimeError, match="load"):
        engine.steps(X, Y, order, 10, "sgd", (0.1,))
    with pytest.raises(RuntimeError, match="load"):
        engine.store(flat)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": lambda x: x[:, :-1].copy()}, r"X must have shape \(any, 6, \)"),
        ({"X": lambda x: x[:, :-1]}, "X must be a C-contiguous"),
        ({"X": lambda x: x.T.copy().T}, "X must be a C-contiguous"),
        ({"X": lambda x: x.astype(np.float64)}, "X must be of dtype"),
        ({"X": lambda x: x.astype(np.int8)}, "X must be of dtype"),
        ({"X": lambda x: x.astype(np.float16)}, "X must be of dtype"),
        ({"X": lambda x: x.astype(bool)}, "X must be of dtype"),
        ({"X": lambda x: x.tolist()}, "X must be a C-contiguous"),
        ({"X": lambda x: x[0].copy()}, "X must have shape"),
        ({"X": lambda x: misaligned(x.astype(np.float32))}, "X must be aligned"),
        ({"Y": lambda y: misaligned(y.astype(np.float32))}, "Y must be aligned"),
        ({"order": misaligned}, "order must be aligned"),
        ({"Y": lambda y: y[:-1].copy()}, r"Y must have shape \(64, 3, \), got \(63, 3, \)"),
        ({"Y": lambda y: y[:, :2].copy()}, "Y must have shape"),
        ({"Y": lambda y: y.astype(np.int64)}, "Y must be of dtype"),
        ({"order": lambda o: o.astype(np.int32)}, "order must be of dtype int64"),
        ({"order": lambda o: o.astype(np.uint64)}, "order must be of dtype int64"),
        ({"order": lambda o: o[::2]}, "order must be a C-contiguous"),
        ({"order": lambda o: np.array([3, 64])}, r"order\[1\] is 64, not a row of the 64"),
        ({"order": lambda o: np.array([3, -1])}, r"order\[1\] is -1"),
        ({"order": lambda o: np.array([2**62])}, "not a row"),
        ({"order": lambda o: o.reshape(-1, 3)}, "order must have shape"),
        ({"batch_size": lambda m: 0}, "batch_size must be at least 1"),
        ({"batch_size": lambda m: 2**70}, "int"),
        ({"batch_size": lambda m: 2.5}, "float"),
        ({"rule": lambda r: "sdg"}, "unknown rule 'sdg'; known: sgd, momentum"),
        ({"rule": lambda r: "momentum", "coefficients": lambda c: (0.1, 0.9)}, "rule momentum needs 1 states"),
        ({"coefficients": lambda c: ()}, "takes 1 coefficients, got 0"),
        ({"coefficients": lambda c: (0.1, 0.2)}, "takes 1 coefficients, got 2"),
        ({"coefficients": lambda c: ("a",)}, "real number"),
        ({"coefficients": lambda c: 0.1}, "sequence"),
        ({"penalty": lambda p: 0.1}, "penalty must be a sequence"),
        ({"penalty": lambda p: (0.1, 0.2)}, r"penalty must be \(l2, l1, decay\), got 2"),
        ({"penalty": lambda p: (0.1, 0.2, "a")}, "real number"),
        ({"sums": lambda s: ("a", 0.0)}, "real number"),
        ({"sums": lambda s: (1.0,)}, "2"),
        ({"sums": lambda s: 1.0}, "sequence"),
        ({"alpha": lambda alpha: "a"}, "real number"),
        ({"weights": lambda s: s.astype(np.float64)}, "weights must be of dtype the engine's"),
        ({"weights": lambda s: s[:-1].copy()}, r"weights must have shape \(64, 1, \), got \(63, 1, \)"),
        ({"weights": lambda s: s[:, 0]}, "weights must have shape"),
        ({"weights": lambda s: np.repeat(s, 2, axis=0)[::2]}, "weights must be a C-contiguous"),
        ({"weights": misaligned}, "weights must be aligned"),
        ({"weights": lambda s: 1.0}, "weights must be a C-contiguous"),
        (
            {"rule": lambda r: "adam", "coefficients": lambda c: (0.1, 0.9, 0.999, 1e-8, 0)},
            "takes 6 coefficients, got 5",
        ),
        ({"threads": lambda n: 0}, "threads must be 1 to"),
        ({"threads": lambda n: 10**6}, "threads must be 1 to"),
    ],
)
def test_steps_that_do_not_fit(problem, engine, change, message):
    flat, X, Y, order = problem.arrays
    given = {
        "X": X,
        "Y": Y,
        "order": order,
        "batch_size": 10,
        "rule": "sgd",
        "coefficients": (0.1,),
        "penalty": (0.1, 0.0, 0.0),
        "threads": 1,
        "sums": (0.0, 0.0),
        "alpha": 0.0,
        "weights": np.ones((64, 1), np.float32),
    }
    for name, make in change.items():
        given[name] = make(given[name])
    with pytest.raises(InputError, match=message):
        engine.steps(**given)
    unchanged = np.empty(flat.size, np.float32)
    engine.store(unchanged)
    np.testing.assert_array_equal(unchanged, flat.astype(np.float32))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda u: None, "dropout takes 10 numbers for each row of order, in uniform"),
        (lambda u: u[:-1], r"uniform must have shape \(690, \), got \(689, \)"),
        (lambda u: u.reshape(69, 10), "uniform must have shape"),
        (lambda u: u.astype(np.float64), "uniform must be of dtype float32"),
        (lambda u: np.repeat(u, 2)[::2], "uniform must be a C-contiguous"),
        (misaligned, "uniform must be aligned"),
    ],
)
def test_random_numbers_that_do_not_fit(change, message):
    problem = Problem([6, 4, 3], ["sigmoid", "sigmoid"], dropout=(0.2, 0.5))
    flat, X, Y, order = problem.arrays
    engine = problem.engine()
    engine.load(flat)
    with pytest.raises(InputError, match=message):
        engine.steps(X, Y, order, 10, "sgd", (0.1,), uniform=change(problem.uniform))
    unchanged = np.empty_like(flat)
    engine.store(unchanged)
    np.testing.assert_array_equal(unchanged, flat)


def test_no_rows_cost_nothing(problem, engine):
    _, X, Y, order = problem.arrays
    assert engine.steps(X, Y, order[:0], 10, "sgd", (0.1,)) == (0.0, 0.0)
    assert engine.steps(X, Y, order[:0], 10, "sgd", (0.1,), sums=(1.5, 2.5), alpha=0.1) == (1.5, 2.5)


def test_a_batch_size_beyond_the_rows(problem):
    huge = Problem([6, 4, 3], ["sigmoid", "sigmoid"], batch_size=2**40)
    huge.check()


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "linear", "softmax"])
def test_built_in_activations_are_supported(name):
    assert why_unsupported([activations.get(name)], QUADRATIC, optimizers.get("adam")) is None


def test_what_is_not_supported_is_named():
    own = gpunet.Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)
    own_cost = gpunet.Cost("double", lambda a, y, xp: xp.sum((a - y) ** 2, axis=0), lambda a, y, xp: 2 * (a - y))
    sgd = optimizers.get("sgd")
    assert "'softsign'" in why_unsupported([own], QUADRATIC, sgd)
    assert "'mixed'" in why_unsupported([gpunet.mixed("tanh", {0: "relu"})], QUADRATIC, sgd)
    assert "'double'" in why_unsupported([SIGMOID], own_cost, sgd)
    for f in activations.BUILT_IN.values():  # those that came after the engine must not reach it
        assert (why_unsupported([f], QUADRATIC, sgd) is None) == (f.name in compiled.KNOWN_ACTIVATIONS)
    for cost in costs.BUILT_IN.values():
        assert (why_unsupported([SIGMOID], cost, sgd) is None) == (cost.name in compiled.KNOWN_COSTS)
    assert why_unsupported([SIGMOID], QUADRATIC, optimizers.get("adamw")) is None
    assert "'rmsprop'" in why_unsupported([SIGMOID], QUADRATIC, optimizers.get("rmsprop"))


def test_an_installation_without_the_engine_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpunet._engine", None)
    why_not_compiled.cache_clear()
    try:
        assert "GCC or Clang" in why_not_compiled()
        with pytest.raises(DeviceError, match="not there"):
            compiled.instruction_sets()
    finally:
        why_not_compiled.cache_clear()
