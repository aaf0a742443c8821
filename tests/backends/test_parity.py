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

from gpunet import activations, costs, optimizers, parity
from gpunet.activations import Activation, LeakyReLU, Tanh
from gpunet.backends import cupy as cupy_backend
from gpunet.backends import cupy_kernels
from gpunet.backends.base import Backend
from gpunet.backends.numpy import NumPyBackend
from gpunet.errors import DeviceError, InputError
from gpunet.parity import cases, comparison, reference, trainings, verbs

#: An error that no rounding explains: in float32 what the tolerances are made to find, in float64 as far above u.
SMALL = {"float32": 1e-4, "float64": 1e-11}
HOUSEKEEPING = {
    "active", "asarray", "to_numpy", "is_native", "empty", "new_total", "copy", "capture", "stage", "holds",
    "threads", "compiled",
}  # fmt: skip
VERBS = {name for name, value in vars(Backend).items() if inspect.isfunction(value) and name[0] != "_"} - HOUSEKEEPING
#: By verb, those that the NumPy backend makes of it: what is wrong in the one shows in the others.
PARTS = {
    "matmul": {"layer_forward", "layer_backward"},
    "activate": {"layer_forward"},
    "hadamard_prime": {"layer_backward"},
    "sum_batch": {"layer_gradient"},
    "outer_sum": {"layer_gradient"},
}
#: Adding up, in any order, keeps far below the bound of a long sum.
PLAIN_SUMS = {"matmul", "outer_sum", "clip", "add_squares"}
EXACT = {"count_right"}


#: Faults of functions that whole layers are not tried with.
ALONE = ("leaky_relu", "elu", "silu")


def shown_by(verb, fault=""):
    """The verbs in which an error of this one shows."""
    return {verb} | (set() if fault.startswith(ALONE) else PARTS.get(verb, set()))


@functools.cache
def references(dtype):
    """The small cases; what they expect is computed once for all tests."""
    return [dataclasses.replace(c, expected=functools.cache(c.expected)) for c in cases.cases(dtype, large=False)]


@functools.cache
def calibration(name, dtype, steps):
    task = next(task for task in trainings.tasks(steps) if task.name == name)
    return CALIBRATE(task, dtype)


CALIBRATE = trainings.calibrate


@pytest.fixture(autouse=True)
def _remembered(monkeypatch):
    monkeypatch.setattr(comparison, "cases", lambda dtype, large: references(dtype))
    for module in (comparison, trainings):
        monkeypatch.setattr(module, "calibrate", lambda task, dtype: calibration(task.name, dtype, len(task.batches)))


@functools.cache
def _right(run, dtype):
    return cases.Caller(NumPyBackend(), dtype).run(run)


class Recording(NumPyBackend):
    """Notes which verbs are called."""

    def __getattribute__(self, name):
        if name in VERBS:
            vars(self).setdefault("called", set()).add(name)
        return super().__getattribute__(name)


@functools.cache
def called(run, dtype):
    """The verbs that a case calls."""
    ops = Recording()
    cases.Caller(ops, dtype).run(run)
    return ops.called


@functools.cache
def right_row(case):
    return COMPARE_CASE(case, NumPyBackend(), NumPyBackend())


COMPARE_CASE = comparison.compare_case


@pytest.fixture
def _right_results_are_remembered(monkeypatch):
    """What NumPy's own backend computes for a case is the same in every comparison with a broken one.

    And so is what a broken one computes where the broken verb is not called.
    """

    class Remembering(cases.Caller):
        def run(self, verb):
            return _right(verb, self.dtype) if type(self.ops) is NumPyBackend else super().run(verb)

    def compare_case(case, device, against):
        if device.broken_verb in called(case.run, case.dtype):
            return COMPARE_CASE(case, device, against)
        return right_row(case)

    monkeypatch.setattr(verbs, "Caller", Remembering)
    monkeypatch.setattr(comparison, "compare_case", compare_case)


def compare(device, against="cpu", **options):
    return parity.compare(device, against, **{"large": False, "steps": 0, **options})


# -- Sound backends agree --------------------------------------------------------------------------------------


def test_every_backend_agrees_with_numpy(other_backend):
    report = compare(other_backend, steps=8)
    assert report.passed, str(report)
    assert (report.device, report.against) == (other_backend.name, "numpy on cpu")
    assert {(row.verb, row.dtype) for row in report.rows} == {(v, d) for v in VERBS for d in parity.DTYPES}
    assert {len(training.error) for training in report.trainings} == {8}


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
    for verb in VERBS - PLAIN_SUMS - EXACT:
        assert max(row.error for row in rows if row.verb == verb) > 0.25, verb
    assert max(row.error for row in rows if row.verb in PLAIN_SUMS) > 0.05
    assert {row.error for row in rows if row.verb in EXACT} == {0.0}


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
    ops.name, ops.broken_verb = "broken", verb
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


def summed_in_a_layer(alpha=1.0, beta_b=1.0, beta_w=1.0):
    """The factors of a layer's gradient are wrong."""

    def change(right, delta, a, nabla_b, nabla_w, **kwargs):
        wrong = {"alpha": alpha, "beta_b": beta_b, "beta_w": beta_w}
        right(delta, a, nabla_b, nabla_w, **{name: kwargs[name] * factor for name, factor in wrong.items()})

    return change


def updated(factor):
    """The new parameters are too large by this factor."""

    def change(right, optimizer, w, *args):
        right(optimizer, w, *args)
        w *= w.dtype.type(factor)
        return w

    return change


def off_by(factor, verb):
    """That verb with a relative error."""
    if verb == "update":
        return updated(factor)
    if verb == "add_squares":
        return lambda right, w, total, share=1.0: right(w, total, share * factor)
    return summed_in_a_layer(alpha=factor) if verb == "layer_gradient" else scaled(factor)


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


# One constant of one function.

GELU_0447 = Activation(
    "gelu with 0.0447",
    lambda z, xp: 0.5 * z * (1 + xp.tanh(0.7978845608 * (z + 0.0447 * xp.clip(z, -10, 10) ** 3))),
    activations.get("gelu").derivative,
)


def other_activation(name, wrong):
    """Hands the verb another activation in the place of one."""

    def change(right, *args, out):
        return right(*(wrong if getattr(f, "name", None) == name else f for f in args), out=out)

    return change


def other_cost(name, wrong):
    def change(right, cost, *args, **kwargs):
        return right(wrong if cost.name == name else cost, *args, **kwargs)

    return change


# A whole layer.


def terms_after_the_first_tile(right, w, a, *args, **kwargs):
    return right(w[:, :32], a[:32], *args, **kwargs)


def rows_after_the_first_tile(right, *args, out, **kwargs):
    right(*args, out=out, **kwargs)
    out[16:] = 0
    return out


def z_without_bias(right, w, a, b, f, z, out):
    right(w, a, b, f, z=z, out=out)
    if z is not out:
        z -= b
    return out


def a_in_z_too(right, w, a, b, f, z, out):
    right(w, a, b, f, z=z, out=out)
    z[...] = out
    return out


def softmax_left_out(right, w, a, b, f, z, out):
    return right(w, a, b, activations.get("linear") if f.name == "softmax" else f, z=z, out=out)


def without_last_neuron(right, w, delta, *args, **kwargs):
    """The sum over the following layer's neurons has one too few, or all if that is its only one."""
    return right(short(w.T).T, short(delta.T).T, *args, **kwargs)


def prime_of_the_next(right, w, delta, f, z, a, out):
    z, a = (np.asfortranarray(np.roll(v, 1, axis=1)) for v in (z, a))
    return right(w, delta, f, z, a, out=out)


def betas_swapped(right, *args, beta_b, beta_w, **kwargs):
    right(*args, beta_b=beta_w, beta_w=beta_b, **kwargs)


def beta_with_decay_for_both(right, *args, beta_b, beta_w, **kwargs):
    right(*args, beta_b=beta_w, beta_w=beta_w, **kwargs)


def biases_without_alpha(right, delta, a, nabla_b, nabla_w, alpha, beta_b, beta_w):
    before = nabla_b.copy()
    right(delta, a, nabla_b, nabla_w, alpha=alpha, beta_b=beta_b, beta_w=beta_w)
    right(delta, a, before, nabla_w.copy(), alpha=1.0, beta_b=beta_b, beta_w=beta_w)
    nabla_b[...] = before


def biases_not_written(right, delta, a, nabla_b, nabla_w, **kwargs):
    right(delta, a, nabla_b.copy(), nabla_w, **kwargs)


def biases_of_fewer(right, delta, a, nabla_b, nabla_w, **kwargs):
    before = nabla_b.copy()
    right(delta, a, nabla_b, nabla_w, **kwargs)
    right(short(delta), short(a), before, nabla_w.copy(), **kwargs)
    nabla_b[...] = before


def last_input_not_written(right, delta, a, nabla_b, nabla_w, **kwargs):
    before = nabla_w[:, -1].copy()
    right(delta, a, nabla_b, nabla_w, **kwargs)
    nabla_w[:, -1] = before


def reads_what_beta_0_forbids(right, delta, a, nabla_b, nabla_w, **kwargs):
    before = nabla_w.copy()
    right(delta, a, nabla_b, nabla_w, **kwargs)
    nabla_w += 0 * before


# An optimizer's step.


def other_optimizer(name, taken):
    def change(right, optimizer, *args):
        return right(optimizers.get(taken if optimizer.name == name else optimizer.name), *args)

    return change


def other_penalty(penalty=lambda p: p._asdict(), n_weights=lambda n, size: n):
    def change(right, optimizer, w, nabla, states, c, p, n):
        return right(optimizer, w, nabla, states, c, p._replace(**penalty(p)), n_weights(n, w.size))

    return change


def other_coefficient(name, i, factor):
    """One number of one optimizer is wrong: its learning rate, an average's share, an epsilon."""

    def change(right, optimizer, w, nabla, states, c, *penalty):
        if optimizer.name == name:
            c = c.copy()
            c[i] *= c.dtype.type(factor)
        return right(optimizer, w, nabla, states, c, *penalty)

    return change


def adam_uncorrected(right, optimizer, w, nabla, states, c, *penalty):
    if optimizer.name == "adam":
        c = c.copy()
        c[4] = 1
    return right(optimizer, w, nabla, states, c, *penalty)


def epsilon_in_the_root(right, optimizer, w, nabla, states, c, *penalty):
    before = w.copy()
    right(optimizer, w, nabla, states, c, *penalty)
    if optimizer.name == "adam":
        w[...] = before - c[0] * states[0] / np.sqrt(states[1] * c[4] ** 2 + c[5] ** 2)
    return w


def forgets(right, optimizer, w, nabla, states, *args):
    states[...] = 0
    return right(optimizer, w, nabla, states, *args)


def last_state_not_written(right, optimizer, w, nabla, states, *args):
    before = states[-1].copy()
    right(optimizer, w, nabla, states, *args)
    states[-1] = before
    return w


def first_piece_alone(right, optimizer, w, nabla, states, c, penalty, n_weights):
    right(optimizer, w[:8192], nabla[:8192], states[:, :8192], c, penalty, min(n_weights, 8192))
    return w


def parameter_behind_the_end(right, optimizer, w, *args):
    right(optimizer, w, *args)
    np.lib.stride_tricks.as_strided(w, (w.size + 1,), w.strides)[-1] = 0
    return w


# Counting.


def last_of_equals(right, a, classes, total):
    return right(a[::-1], len(a) - 1 - classes, total) if len(a) > 1 else right(a, classes, total)


def nan_is_smallest(right, a, classes, total):
    return right(np.where(np.isnan(a), -np.inf, a), classes, total)


def half_is_class_1(right, a, classes, total):
    return right(np.where(a == 0.5, 0.75, a) if len(a) == 1 else a, classes, total)


def squares_overwritten(right, w, total, factor=1.0):
    total[...] = 0.0
    return right(w, total, factor)


def sum_of_sizes(right, w, total, factor=1.0):
    total[0] += factor * np.abs(w).sum()
    return total


def count_overwritten(right, a, classes, total):
    total[...] = 0
    return right(a, classes, total)


def one_too_many(right, a, classes, total):
    right(a, classes, total)
    total += 1
    return total


def count_of_fewer(right, a, classes, total):
    return right(short(a), classes[: short(a).shape[1]], total)


def largest_in_size(right, a, classes, total):
    return right(np.abs(a), classes, total)


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
    "leaky_relu's slope a little off": ("activate", other_activation("leaky_relu", LeakyReLU(0.2 * (1 + 1e-4)))),
    "gelu with 0.0447": ("activate", other_activation("gelu", GELU_0447)),
    "elu's f' is relu's": ("hadamard_prime", other_activation("elu", activations.get("relu"))),
    "leaky_relu's slope back a little off": (
        "hadamard_prime",
        other_activation("leaky_relu", LeakyReLU(0.2 * (1 + 1e-4))),
    ),
    "silu's f' is gelu's": ("hadamard_prime", other_activation("silu", activations.get("gelu"))),
    "huber's delta a little off": ("output_error", other_cost("huber", costs.Huber(0.3 * (1 + 1e-4)))),
    "quantile's q a little off": ("output_error", other_cost("quantile", costs.Quantile(0.9 * (1 + 1e-4)))),
    "hinge is the quadratic cost": ("output_error", other_cost("hinge", costs.get("quadratic"))),
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
    "layer without bias": ("layer_forward", lambda right, w, a, b, f, **kwargs: right(w, a, 0 * b, f, **kwargs)),
    "layer's z is not z + b": ("layer_forward", z_without_bias),
    "layer's z is a": ("layer_forward", a_in_z_too),
    "layer without softmax": ("layer_forward", softmax_left_out),
    "layer of the first 32 terms": ("layer_forward", terms_after_the_first_tile),
    "layer of the first 16 neurons": ("layer_forward", rows_after_the_first_tile),
    "layer behind its end": ("layer_forward", beyond),
    "a NaN in a layer": ("layer_forward", one_nan),
    "BP2 without f'": (
        "layer_backward",
        lambda right, w, delta, f, z, a, out: right(w, delta, activations.get("linear"), z, a, out=out),
    ),
    "BP2 of fewer neurons": ("layer_backward", without_last_neuron),
    "BP2 with another example's f'": ("layer_backward", prime_of_the_next),
    "BP2 of the first 16 neurons": ("layer_backward", rows_after_the_first_tile),
    "BP2 behind its end": ("layer_backward", beyond),
    "BP3 and BP4 with betas swapped": ("layer_gradient", betas_swapped),
    "BP3 with the decay of BP4": ("layer_gradient", beta_with_decay_for_both),
    "BP3 in a layer without alpha": ("layer_gradient", biases_without_alpha),
    "BP3 in a layer not written": ("layer_gradient", biases_not_written),
    "BP3 in a layer of fewer": ("layer_gradient", biases_of_fewer),
    "BP4 in a layer without its last input": ("layer_gradient", last_input_not_written),
    "BP4 in a layer adds NaN * 0": ("layer_gradient", reads_what_beta_0_forbids),
    "BP3 and BP4 in a layer without beta": ("layer_gradient", summed_in_a_layer(beta_b=0.0, beta_w=0.0)),
    "beta of the weights a little off": ("layer_gradient", summed_in_a_layer(beta_w=1 + 1e-4)),
    "beta of the biases a little off": ("layer_gradient", summed_in_a_layer(beta_b=1 + 1e-4)),
    "Nesterov as momentum": ("update", other_optimizer("nesterov", "momentum")),
    "momentum as Nesterov": ("update", other_optimizer("momentum", "nesterov")),
    "penalty forgotten": ("update", other_penalty(lambda p: {"l2": 0.0, "l1": 0.0})),
    "penalty a little off": ("update", other_penalty(lambda p: {"l2": p.l2 * (1 + 1e-4)})),
    "l1 a little off": ("update", other_penalty(lambda p: {"l1": p.l1 * (1 + 1e-4)})),
    "decay a little off": ("update", other_penalty(lambda p: {"decay": p.decay * (1 + 1e-4)})),
    "penalty on the biases too": ("update", other_penalty(n_weights=lambda n, size: size)),
    "penalty on one weight fewer": ("update", other_penalty(n_weights=lambda n, size: max(n - 1, 0))),
    "Adam without its correction": ("update", adam_uncorrected),
    "Adam with epsilon in the root": ("update", epsilon_in_the_root),
    "optimizer forgets": ("update", forgets),
    "optimizer does not remember": ("update", last_state_not_written),
    "only 8192 parameters": ("update", first_piece_alone),
    "parameter behind the end": ("update", parameter_behind_the_end),
    **{
        f"{name}'s c[{i}] a little off": ("update", other_coefficient(name, i, 1 + 1e-3))
        for name in reference.OPTIMIZERS
        for i in range(optimizers.BUILT_IN[name].coefficients(0.1, np.array([1])).shape[1])
    },
    "squares without factor": ("add_squares", lambda right, w, total, factor=1.0: right(w, total)),
    "squares of one fewer": ("add_squares", lambda right, w, total, factor=1.0: right(w[:-1], total, factor)),
    "squares not added": ("add_squares", squares_overwritten),
    "sizes for squares": ("add_squares", sum_of_sizes),
    "last of equal outputs": ("count_right", last_of_equals),
    "NaN is the smallest": ("count_right", nan_is_smallest),
    "1/2 counts as 1": ("count_right", half_is_class_1),
    "count not added": ("count_right", count_overwritten),
    "one too many": ("count_right", one_too_many),
    "count of fewer": ("count_right", count_of_fewer),
    "the largest in size": ("count_right", largest_in_size),
    **{f"{verb} raises": (verb, raises) for verb in sorted(VERBS)},
}


@pytest.mark.usefixtures("_right_results_are_remembered")
@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_broken_verb_is_found_and_named(fault):
    verb, change = FAULTS[fault]
    report = compare(broken(verb, change), dtype="float32")
    assert not report
    assert {row.verb for row in report.failures} == shown_by(verb, fault)
    assert {row.off for row in report.failures} == {"device"}
    named = [f"broken: {row.verb} ({row.case}), {row.shape}, float32: " for row in report.failures]
    assert str(report).startswith(tuple(named))
    assert "DISAGREE" in report.verdict()


@pytest.mark.usefixtures("_right_results_are_remembered")
@pytest.mark.parametrize("dtype", parity.DTYPES)
@pytest.mark.parametrize("verb", sorted(VERBS - EXACT))
def test_a_small_error_is_found_in_every_shape(verb, dtype):
    report = compare(broken(verb, off_by(1 + SMALL[dtype], verb)), dtype=dtype)
    assert {row.verb for row in report.failures} == shown_by(verb)
    rows = [row for row in report.rows if row.verb == verb]
    assert {row.shape for row in rows if not row.passed} == {row.shape for row in rows}


@pytest.mark.usefixtures("_right_results_are_remembered")
@pytest.mark.parametrize("verb", ["matmul", "outer_sum", "sum_batch", "layer_gradient"])
def test_a_small_error_of_a_sum_is_found_in_every_case(verb):
    change = summed(alpha=1 + 1e-4) if verb in ("outer_sum", "sum_batch") else off_by(1 + 1e-4, verb)
    report = compare(broken(verb, change), dtype="float32")
    assert not [row for row in report.rows if row.verb == verb and row.passed]
    assert {row.verb for row in report.failures} == shown_by(verb)


@pytest.mark.parametrize("dtype", parity.DTYPES)
def test_a_wrong_count_is_found_in_every_case(dtype):
    report = compare(broken("count_right", one_too_many), dtype=dtype)
    assert all(row.passed == (row.verb != "count_right") for row in report.rows)


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

#: The trainings have no dropout, weights of examples, limits or sums of penalties; test_training.py has them.
TRAINED = sorted(VERBS - {"outer_batch", "count_right", "hadamard", "weigh", "clip", "limit_norms", "add_squares"})


def shows_in(task, verb):
    """Whether a training with that task calls the verb and is changed by a constant factor in its result."""
    if verb == "update":
        return task.optimizer != "sgd"
    # Adam divides a factor of the gradient out again; but for the weights' gradient, whose share in its sum with the
    # penalty changes.
    return (task.optimizer, verb) != ("adam", "sum_batch")


def compare_training(task, ops, against=None):
    wanted = trainings.calibrate(task, "float32")
    return trainings.compare_training(task, "float32", ops, against or NumPyBackend(), (False, False), wanted)


@pytest.mark.parametrize("verb", TRAINED)
def test_a_small_error_in_one_verb_fails_the_training(verb):
    change = summed(alpha=1 + 1e-4) if verb in ("sum_batch", "outer_sum") else off_by(1 + 1e-4, verb)
    ops, numpy = broken(verb, change), NumPyBackend()
    for task in trainings.tasks(100):
        training = compare_training(task, ops, numpy)
        if shows_in(task, verb):
            assert training.off == "device", task.name
            assert 1 <= training.first_step_off() <= 100
        else:
            assert training.passed
        assert training.worst(training.error_against) < 0.6


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize(
    "fault",
    ["penalty forgotten", "penalty on the biases too", "optimizer forgets", "optimizer does not remember"],
)
def test_a_wrong_optimizer_fails_its_training(name, fault):
    ops = broken(*FAULTS[fault])
    (task,) = (task for task in trainings.tasks(100) if task.optimizer == name)
    training = compare_training(task, ops)
    assert training.off == "device"


def test_a_forgotten_decay_fails_the_training_with_it():
    """L2 of plain gradient descent is a beta of the weights below 1."""

    def change(right, *args, alpha, beta_b, beta_w):
        right(*args, alpha=alpha, beta_b=beta_b, beta_w=beta_b)

    ops = broken("layer_gradient", change)
    for task in trainings.tasks(100):
        training = compare_training(task, ops)
        assert training.passed == (task.optimizer != "sgd" or task.l2 == 0)
    assert [task.optimizer for task in trainings.tasks(1) if task.l2] == ["sgd", "momentum", "adam"]


def test_the_tolerance_grows_with_the_steps_and_stays_small():
    for dtype, u in (("float32", 2**-24), ("float64", 2**-53)):
        for task in trainings.tasks(100):
            tolerance = trainings.calibrate(task, dtype).tolerance
            assert tolerance == sorted(tolerance)
            assert tolerance[0] < tolerance[-1] < 1000 * u


def test_the_trainings_learn():
    """A training whose gradient is about 0 would compare nothing."""
    for task in trainings.tasks(100):
        last = trainings.calibrate(task, "float64").right[-1]
        first = [v for pair in zip(task.biases, task.weights, strict=True) for v in pair]
        assert all(np.linalg.norm(v - v_0) > 0.02 * np.linalg.norm(v_0) for v, v_0 in zip(last, first, strict=True))


def test_no_relu_of_the_trainings_comes_near_its_corner():
    """There f' jumps, and a rounding could send two sound trainings apart."""
    task = next(task for task in trainings.tasks(100) if "relu" in task.activations)
    assert task.activations[1:] == ("linear",)
    right = trainings.calibrate(task, "float32")
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
    assert reference.gamma(10, u) == 10 * u / (1 - 10 * u)
    assert reference.gamma(10_000, u) == pytest.approx(8 * 100 * u, rel=1e-3)
    assert reference.gamma(0, u) == 0
    assert math.isfinite(reference.gamma(10**9, u))


def test_cancellation_is_judged_by_what_cancels():
    x, y = (reference.exact(np.array([v]), "float32") for v in (1.0, 1.0 + 2**-20))
    third = reference.exact(np.array([3.0], dtype="float32"), "float32")
    difference = (y / third) - (x / third)
    assert difference.error[0] > 0.9 * 2 * 2**-24 / 3
    assert difference.error[0] < 8 * 2**-24


def test_a_root_is_bounded_down_to_0():
    """|sqrt(x + e) - sqrt(x)| for every e within the error, also where x is below it."""
    for value, error in ((4.0, 1e-3), (1e-12, 1e-3), (0.0, 1e-6), (0.0, 0.0), (1e-3, 1e-3)):
        root = reference.Bounded(np.array([value]), np.array([error]), 2.0**-24).sqrt()
        shifted = np.maximum(value + error * np.linspace(-1, 1, 101), 0)
        assert np.abs(np.sqrt(shifted) - root.value).max() <= root.error[0]
    exact = reference.exact(np.array([2.0], dtype="float32"), "float32").sqrt()
    assert exact.error[0] == pytest.approx(2**-24 * math.sqrt(2))


def test_counting_by_the_definition():
    nan, inf = math.nan, math.inf
    a = np.array([[1, 2, nan, -inf, 0.0, 1], [2, 2, nan, -inf, -0.0, nan], [0, 2, 9, -inf, -1, inf]])
    for label, wanted in enumerate(([0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 0, 1], [0] * 6)):
        found = [reference.right(a[:, [i]], np.array([label])) for i in range(6)]
        assert found == wanted
    single = np.array([[0.5, 0.51, nan, 0.2, 0.7]])
    assert reference.right(single, np.array([0, 1, 0, 0, 1])) == 5
    assert reference.right(single, np.array([1, 0, 1, 1, 0])) == 0


def test_the_reference_imports_nothing_of_gpunet():
    tree = ast.parse(Path(reference.__file__).read_text(encoding="utf-8"))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert "numpy" in modules
    assert not [name for name in modules if name.startswith("gpunet")]


def test_everything_built_in_has_a_reference_and_a_case():
    names = set(cases.ACTIVATIONS)
    assert names == set(reference.ACTIVATIONS) == set(reference.PULL_BACKS)
    assert names > set(activations.BUILT_IN)
    assert set(cases.COSTS) == set(reference.COSTS) == set(reference.GRADIENTS)
    assert set(cases.COSTS) > set(costs.BUILT_IN)
    known = set(optimizers.BUILT_IN)
    assert set(reference.OPTIMIZERS) == set(reference.STATES) == known
    rows = references("float32")
    assert {case.verb for case in rows} == VERBS
    assert {case.name for case in rows if case.verb == "update"} == known
    for verb in ("activate", "hadamard_prime"):
        assert {case.name for case in rows if case.verb == verb} == names
    for verb in ("layer_forward", "layer_backward"):
        assert {case.name for case in rows if case.verb == verb} == {*cases.THOROUGH, "gelu"}
    pairs = {tuple(case.name.split(", ")) for case in rows if case.verb == "output_error"}
    for name, cost in costs.BUILT_IN.items():
        outputs = {output for c, output in pairs if c == name}
        assert (cost.outputs or ("sigmoid",))[0] in outputs
        assert len(outputs) >= 2, f"{name} needs an output with which f' does not cancel, or is another"


# -- Every path of the CUDA backend has a case --------------------------------------------------------------------


def every_shape(*verbs, name=None):
    """The shapes of these verbs' cases, small and large."""
    return [
        shape
        for inputs in (cases.SMALL, cases.LARGE)
        for verb in verbs
        for shape, of in inputs[verb]
        if name in (None, of)
    ]


def way(rows, columns, terms, few_outputs):
    """Which kernel computes that product."""
    if rows * columns * terms > cupy_backend._OWN_PRODUCT:
        return "BLAS"
    if rows * columns <= few_outputs:
        return "a block an output"
    return cupy_kernels.per_thread(rows, columns)


def test_products_of_every_kind_have_cases():
    for f in ("sigmoid", "softmax"):
        forward = {
            way(shape[1], shape[0], shape[2], cupy_backend._FEW_OUTPUTS)
            for shape in every_shape("layer_forward", name=f)
        }
        assert forward == {"BLAS", "a block an output", 1, 2, 4}
        assert {way(*shape, 0) for shape in every_shape("layer_backward", name=f)} == {"BLAS", 1, 2, 4}
    # Its product with the biases' column is judged without it.
    ways = {way(j, k + (j * k * m <= cupy_backend._OWN_PRODUCT), m, 0) for j, k, m in every_shape("layer_gradient")}
    assert ways == {"BLAS", 1, 2, 4}


def test_every_loop_strides():
    """A grid has a largest number of blocks, beyond which its threads take more than one turn."""
    elements = cupy_kernels.THREADS * cupy_kernels.EACH
    most, most_of_cost = cupy_kernels.MOST_BLOCKS, cupy_kernels.COST_BLOCKS
    for verb in ("activate", "hadamard_prime"):
        assert max(n * m for n, m in every_shape(verb, name="sigmoid")) > most * elements
        assert max(m for n, m in every_shape(verb, name="softmax")) > most * cupy_kernels.WARPS
    assert max(n * m for n, m in every_shape("gather")) > most * elements
    assert max(n * m for n, m in every_shape("output_error", name="quadratic, sigmoid")) > most_of_cost * elements
    columns = max(m for n, m in every_shape("output_error", name="log-likelihood, softmax"))
    assert columns > most_of_cost * cupy_kernels.WARPS
    assert max(j * m for j, k, m in every_shape("outer_batch")) > most * cupy_kernels.WARPS
    assert max(p for (p,) in every_shape("add_squares")) > most_of_cost * elements
    assert max(m for n, m in every_shape("count_right")) > most * cupy_kernels.WARPS
    assert max(p for p, n_weights in every_shape("update")) > most * cupy_kernels.THREADS


# -- What is asked and answered --------------------------------------------------------------------------------


def test_the_report_is_json_ready():
    report = compare(broken("activate", one_nan), dtype="float32", steps=3)
    told = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert told["passed"] is False
    assert len(told["rows"]) == len(report.rows)
    assert next(row for row in told["rows"] if not row["passed"])["error"] is None
    assert [len(training["tolerance"]) for training in told["trainings"]] == [3] * len(report.trainings)


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
