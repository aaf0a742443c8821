"""`gpunet.parity`: sound backends agree, and a backend with any one verb a little wrong does not."""

import ast
import dataclasses
import functools
import inspect
import json
import math
from pathlib import Path

import numpy as np
import pytest

from gpunet import activations, costs, parity, parity_cases, parity_reference
from gpunet.activations import Tanh
from gpunet.backends.base import Backend
from gpunet.backends.numpy import NumPyBackend
from gpunet.errors import DeviceError, InputError

#: An error that no rounding explains: in float32 what the tolerances are made to find, in float64 as far above u.
SMALL = {"float32": 1e-4, "float64": 1e-11}
HOUSEKEEPING = {"active", "threads", "asarray", "to_numpy", "is_native", "empty", "new_total", "copy"}
VERBS = {name for name, value in vars(Backend).items() if inspect.isfunction(value) and name[0] != "_"} - HOUSEKEEPING


@functools.cache
def references(dtype):
    """The small cases; what they expect is computed once for all tests."""
    return [
        dataclasses.replace(c, expected=functools.cache(c.expected)) for c in parity_cases.cases(dtype, large=False)
    ]


@functools.cache
def calibration(name, dtype, steps):
    task = next(task for task in parity.tasks(steps) if task.name == name)
    return CALIBRATE(task, dtype)


CALIBRATE = parity.calibrate


@pytest.fixture(autouse=True)
def _remembered(monkeypatch):
    monkeypatch.setattr(parity, "cases", lambda dtype, large: references(dtype))
    monkeypatch.setattr(parity, "calibrate", lambda task, dtype: calibration(task.name, dtype, len(task.batches)))


def compare(device, against="cpu", **options):
    return parity.compare(device, against, **{"large": False, "steps": 0, **options})


# -- Sound backends agree --------------------------------------------------------------------------------------


def test_every_backend_agrees_with_numpy(other_backend):
    report = compare(other_backend, steps=30)
    assert report.passed, str(report)
    assert (report.device, report.against) == (other_backend.name, "numpy on cpu")
    assert {(row.verb, row.dtype) for row in report.rows} == {(v, d) for v in VERBS for d in parity.DTYPES}
    assert {len(training.error) for training in report.trainings} == {30}


@pytest.mark.gpu
def test_the_real_device_agrees_on_large_inputs(monkeypatch):
    monkeypatch.undo()
    report = parity.compare("cuda")
    assert report.passed, str(report)


def test_numpy_against_itself_does_not_differ_at_all():
    report = compare("cpu", steps=5)
    assert report
    assert all(row.difference == 0 and row.ulp == row.ulp_against for row in report.rows)
    assert all(training.difference == [0.0] * 5 for training in report.trainings)


def test_both_results_are_close_to_the_reference_and_not_by_the_same_mistake():
    """The tolerances are not so wide that nothing comes near them."""
    rows = compare("cpu").rows
    for verb in VERBS - {"matmul", "outer_sum"}:  # a long sum stays far below its bound
        assert max(row.error for row in rows if row.verb == verb) > 0.3, verb
    assert max(row.error for row in rows if row.verb in ("matmul", "outer_sum")) > 0.05


class FourSlots(NumPyBackend):
    """A backend whose total of the cost is spread over slots, of which each call fills another."""

    total_slots = 4
    calls = 0

    def output_error(self, cost, activation, z, a, y, out, total=None):
        type(self).calls += 1
        slot = self.calls % 4
        part = None if total is None else total[slot : slot + 1]
        return super().output_error(cost, activation, z, a, y, out, part)


def test_the_sum_of_the_slots_is_the_cost():
    assert compare(FourSlots()).passed


# -- A backend with one verb broken does not -------------------------------------------------------------------


def broken(verb, change):
    """A NumPy backend whose `verb` is `change`, which is handed the right one first."""

    class Broken(NumPyBackend):
        pass

    def method(self, *args, **kwargs):
        return change(functools.partial(getattr(NumPyBackend, verb), self), *args, **kwargs)

    setattr(Broken, verb, method)
    ops = Broken()
    ops.name = "broken"
    return ops


def scaled(factor):
    """Whatever the verb writes is too large by this factor."""

    def change(right, *args, out, **kwargs):
        right(*args, out=out, **kwargs)
        out *= out.dtype.type(factor)
        return out

    return change


def summed(alpha=1.0, beta=1.0):
    """The factors of an accumulating verb are wrong."""

    def change(right, *args, out, **kwargs):
        factors = kwargs.get("alpha", 1.0), kwargs.get("beta", 0.0)
        return right(*args, out=out, alpha=factors[0] * alpha, beta=factors[1] * beta)

    return change


def short(x):
    """A batch without its last example, or whole if that is its only one."""
    return x[:, :-1] if x.shape[1] > 1 else x


def stale_z(right, z, b, f, out):
    return right(z if out is z else z.copy(order="K"), b, f, out=out)


def sigmoid_049(right, z, b, f, out):
    right(z, b, f, out=out)
    if f.name == "sigmoid":
        out -= out.dtype.type(0.01)
    return out


def one_nan(right, *args, out, **kwargs):
    right(*args, out=out, **kwargs)
    out[-1, -1] = np.nan
    return out


def beyond(right, *args, out, **kwargs):
    right(*args, out=out, **kwargs)
    n, m = out.shape
    np.lib.stride_tricks.as_strided(out, (n, m + 1), out.strides)[0, m] = 0  # the first number behind the end
    return out


def raises(right, *args, **kwargs):
    raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")


def without_prime(right, cost, f, z, a, y, out, total=None):
    right(cost, f, z, a, y, out=out, total=total)
    if (cost.name, f.name) == ("quadratic", "sigmoid"):
        out[...] = a - y
    return out


def total_overwritten(right, *args, out, total=None):
    if total is not None:
        total[...] = 0
    return right(*args, out=out, total=total)


def total_of_fewer(right, cost, f, z, a, y, out, total=None):
    right(cost, f, z, a, y, out=out)
    if total is not None:
        right(cost, f, short(z), short(a), short(y), out=np.empty_like(short(a)), total=total)
    return out


def total_scaled(right, *args, out, total=None):
    if total is None:
        return right(*args, out=out)
    before = total.copy()
    right(*args, out=out, total=total)
    total[...] = before + (total - before) * (1 + 1e-4)
    return out


def tanh_prime_of_a(right, g, f, z, a, out):
    if isinstance(f, Tanh):
        out[...] = g * (1 - a)
        return out
    return right(g, f, z, a, out=out)


def softmax_prime_diagonal(right, g, f, z, a, out):
    if f.name == "softmax":
        out[...] = g * a * (1 - a)
        return out
    return right(g, f, z, a, out=out)


def tensor_float_32(x):
    """x with the 10 bits after the point that tensor cores keep of a float32."""
    if x.dtype != np.float32:
        return x
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.round(fraction * 2**11) / 2**11, exponent).astype(x.dtype)


FAULTS = {
    "last term of the product": ("matmul", lambda right, a, b, out: right(short(a), b[: short(a).shape[1]], out=out)),
    "last column of the product": ("matmul", lambda right, a, b, out: (right(a, b[:, :-1], out=out[:, :-1]), out)[1]),
    "TF32": ("matmul", lambda right, a, b, out: right(tensor_float_32(a), tensor_float_32(b), out=out)),
    "no bias": ("activate", lambda right, z, b, f, out: right(z, 0 * b, f, out=out)),
    "0.49": ("activate", sigmoid_049),
    "z is not z + b": ("activate", stale_z),
    "last column not activated": (
        "activate",
        lambda right, z, b, f, out: (right(z[:, :-1], b, f, out=out[:, :-1] if out is not z else z[:, :-1]), out)[1],
    ),
    "a NaN": ("activate", one_nan),
    "behind the end": ("activate", beyond),
    "BP1 without f'": ("output_error", without_prime),
    "cost not added": ("output_error", total_overwritten),
    "cost without the last example": ("output_error", total_of_fewer),
    "cost too large": ("output_error", total_scaled),
    "1 - a for 1 - a^2": ("hadamard_prime", tanh_prime_of_a),
    "softmax as if elementwise": ("hadamard_prime", softmax_prime_diagonal),
    "BP3 without alpha": (
        "sum_batch",
        lambda right, delta, out, alpha=1.0, beta=0.0: right(delta, out=out, beta=beta),
    ),
    "BP3 without beta": ("sum_batch", summed(beta=0.0)),
    "BP3 of fewer": ("sum_batch", lambda right, delta, **kwargs: right(short(delta), **kwargs)),
    "BP4 without alpha": (
        "outer_sum",
        lambda right, delta, a, out, alpha=1.0, beta=0.0: right(delta, a, out=out, beta=beta),
    ),
    "BP4 without beta": ("outer_sum", summed(beta=0.0)),
    "BP4 of fewer": ("outer_sum", lambda right, delta, a, **kwargs: right(short(delta), short(a), **kwargs)),
    "alpha a little off": ("outer_sum", summed(alpha=1 + 1e-4)),
    "beta a little off": ("outer_sum", summed(beta=1 + 1e-4)),
    "examples in another order": (
        "outer_batch",
        lambda right, delta, a, out: right(delta, np.asfortranarray(a[:, ::-1]), out=out),
    ),
    "1/255 for 1/256": (
        "gather",
        lambda right, x, index, out, scale=1.0: right(
            x, index, out=out, scale=256 / 255 * scale if scale < 1 else 1.0
        ),
    ),
    "the row after": ("gather", lambda right, x, index, **kwargs: right(x, (index + 1) % len(x), **kwargs)),
    "no scale": ("gather", lambda right, x, index, out, scale=1.0: right(x, index, out=out)),
    **{f"{verb} raises": (verb, raises) for verb in sorted(VERBS)},
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_broken_verb_is_found_and_named(fault):
    verb, change = FAULTS[fault]
    report = compare(broken(verb, change), dtype="float32")
    assert not report
    assert {row.verb for row in report.failures} == {verb}
    assert {row.off for row in report.failures} == {"device"}
    named = [f"broken: {verb} ({row.case}), {row.shape}, float32: " for row in report.failures]
    assert str(report).startswith(tuple(named))
    assert "DISAGREE" in report.verdict()


@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_small_error_is_found_in_every_shape(verb, dtype):
    report = compare(broken(verb, scaled(1 + SMALL[dtype])), dtype=dtype)
    assert {row.verb for row in report.failures} == {verb}
    shapes = {row.shape for row in report.rows if row.verb == verb}
    assert {row.shape for row in report.failures} == shapes


@pytest.mark.parametrize("verb", ["matmul", "outer_sum", "sum_batch"])
def test_a_small_error_of_a_sum_is_found_in_every_case(verb):
    change = scaled(1 + 1e-4) if verb == "matmul" else summed(alpha=1 + 1e-4)
    report = compare(broken(verb, change), dtype="float32")
    assert all(row.passed == (row.verb != verb) for row in report.rows)


def test_the_report_says_which_of_the_two_is_off():
    ops = broken("matmul", scaled(1 + 1e-4))
    report = compare("cpu", ops, dtype="float32")
    assert {row.off for row in report.failures} == {"against"}
    assert str(report).startswith("broken: matmul")
    report = compare(ops, ops, dtype="float32")
    assert {row.off for row in report.failures} == {"both"}, "two backends that agree can both be wrong"
    assert str(report).startswith("broken and broken: matmul")
    assert all(row.difference == 0 for row in report.rows)


def test_a_device_that_fails_altogether_is_told_in_a_line_for_each_verb():
    class Dead(NumPyBackend):
        def asarray(self, x, dtype=None):
            raise RuntimeError("the device is gone")

    report = compare(Dead(), steps=2)
    assert len(report.failures) == len(report.rows) + len(report.trainings)
    assert "RuntimeError: the device is gone" in str(report)
    assert len(str(report).splitlines()) == 2 * len(VERBS) + len(report.trainings) + 1


# -- Trainings -------------------------------------------------------------------------------------------------

TRAINED = sorted(VERBS - {"outer_batch"})


@pytest.mark.parametrize("verb", TRAINED)
def test_a_small_error_in_one_verb_fails_the_training(verb):
    change = summed(alpha=1 + 1e-4) if verb in ("sum_batch", "outer_sum") else scaled(1 + 1e-4)
    ops, numpy = broken(verb, change), NumPyBackend()
    for task in parity.tasks(100):
        training = parity.compare_training(task, "float32", ops, numpy)
        assert training.off == "device", task.name
        assert 1 <= training.first_step_off() <= 100
        assert training.worst(training.error_against) < 0.6


def test_the_tolerance_grows_with_the_steps_and_stays_small():
    for dtype, u in (("float32", 2**-24), ("float64", 2**-53)):
        for task in parity.tasks(100):
            tolerance = parity.calibrate(task, dtype).tolerance
            assert tolerance == sorted(tolerance)
            assert tolerance[0] < tolerance[-1] < 1000 * u


def test_the_trainings_learn():
    """A training whose gradient is about 0 would compare nothing."""
    for task in parity.tasks(100):
        last = parity.calibrate(task, "float64").right[-1]
        first = [v for pair in zip(task.biases, task.weights, strict=True) for v in pair]
        assert all(np.linalg.norm(v - v_0) > 0.02 * np.linalg.norm(v_0) for v, v_0 in zip(last, first, strict=True))


def test_no_relu_of_the_trainings_comes_near_its_corner():
    """There f' jumps, and a rounding could send two sound trainings apart."""
    task = next(task for task in parity.tasks(100) if "relu" in task.activations)
    assert task.activations[1:] == ("linear",)
    right = parity.calibrate(task, "float32")
    b, w = task.biases[0], task.weights[0]
    nearest = math.inf
    for batch, (after_b, after_w, *_) in zip(task.batches, right.right, strict=True):
        nearest = min(nearest, np.abs(w @ task.X[batch].T + b).min())
        b, w = after_b, after_w
    sizes = np.linalg.norm(b) + np.linalg.norm(w) * np.linalg.norm(task.X, axis=1).max()
    assert nearest > right.tolerance[-1] * sizes


# -- The bounds ------------------------------------------------------------------------------------------------


def test_gamma_is_the_books_for_short_sums_and_a_random_walks_for_long_ones():
    u = 2.0**-24
    assert parity_reference.gamma(10, u) == 10 * u / (1 - 10 * u)
    assert parity_reference.gamma(10_000, u) == pytest.approx(8 * 100 * u, rel=1e-3)
    assert parity_reference.gamma(0, u) == 0
    assert math.isfinite(parity_reference.gamma(10**9, u))


def test_cancellation_is_judged_by_what_cancels():
    x, y = (parity_reference.exact(np.array([v]), "float32") for v in (1.0, 1.0 + 2**-20))
    third = parity_reference.exact(np.array([3.0], dtype="float32"), "float32")
    difference = (y / third) - (x / third)
    assert difference.error[0] > 0.9 * 2 * 2**-24 / 3
    assert difference.error[0] < 8 * 2**-24


def test_the_reference_imports_nothing_of_gpunet():
    tree = ast.parse(Path(parity_reference.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "numpy" in modules
    assert not [name for name in modules if name.startswith("gpunet")]


def test_everything_built_in_has_a_reference_and_a_case():
    names = set(parity_cases.ACTIVATIONS)
    assert names == set(parity_reference.ACTIVATIONS) == set(parity_reference.PULL_BACKS)
    assert names > set(activations.BUILT_IN)
    assert set(parity_cases.COSTS) == set(parity_reference.COSTS) == set(parity_reference.GRADIENTS)
    assert set(parity_cases.COSTS) > set(costs.BUILT_IN)
    rows = references("float32")
    assert {case.verb for case in rows} == VERBS
    for verb in ("activate", "hadamard_prime"):
        assert {case.name for case in rows if case.verb == verb} == names
    pairs = {tuple(case.name.split(", ")) for case in rows if case.verb == "output_error"}
    for name, cost in costs.BUILT_IN.items():
        assert {output for c, output in pairs if c == name} >= set(cost.outputs or names)


# -- What is asked and answered --------------------------------------------------------------------------------


def test_the_report_is_json_ready():
    report = compare(broken("activate", one_nan), dtype="float32", steps=3)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert len(told["rows"]) == len(report.rows)
    assert next(row for row in told["rows"] if not row["passed"])["error"] is None
    assert [len(training["tolerance"]) for training in told["trainings"]] == [3] * 4


def test_results_are_told_as_they_come():
    seen = []
    report = compare("cpu", dtype="float64", steps=2, on_result=seen.append)
    assert seen == [*report.rows, *report.trainings]


def test_auto_is_refused():
    with pytest.raises(InputError, match="would hide which device"):
        compare("auto")
    with pytest.raises(InputError, match="would hide which device"):
        compare("cpu", "auto")


def test_a_device_that_can_not_be_used_is_an_error(fake):
    fake.devices = 0
    with pytest.raises(DeviceError, match="CuPy sees no CUDA device"):
        compare("cuda")


def test_unknown_dtypes_are_refused():
    with pytest.raises(InputError, match="float16"):
        compare("cpu", dtype="float16")
