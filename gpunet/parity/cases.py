"""The cases of a parity run: every verb that computes, in the shapes that break kernels, with its right answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import activations, costs, optimizers
from gpunet.activations import Activation
from gpunet.backends import Array, Backend
from gpunet.costs import Cost
from gpunet.optimizers import Penalty
from gpunet.parity import reference
from gpunet.parity.reference import Bounded

Values = npt.NDArray[Any]

_SEED = 2

#: (n, m): neurons and examples, around a warp's 32, a block's 256 and beyond.
ELEMENTWISE = ((1, 1), (1, 127), (31, 3), (32, 10), (33, 127), (257, 1), (257, 10), (1000, 3))
#: The same for functions whose kernels differ from others in one expression.
FEW = ((1, 1), (33, 127), (257, 10))
#: (n, k, m): the product of (n, k) and (k, m).
PRODUCTS = ((1, 1, 1), (31, 33, 3), (33, 32, 10), (32, 257, 127), (257, 31, 1), (10, 1000, 10), (1000, 33, 3))
#: (j, k, m): an outer product (j, k) for each of m examples.
OUTER_BATCH = ((1, 1, 1), (31, 33, 3), (32, 257, 10), (33, 10, 127), (257, 1, 10), (10, 1000, 3))
#: (rows, columns, terms) of a layer's product, around tiles of 16, 32 and 64 (the biases are one more column) and the
#: 32 terms that a tile brings in at a time.
LAYERS = (
    (1, 1, 1),
    (16, 16, 32),
    (17, 15, 33),
    (31, 33, 65),
    (33, 3, 257),
    (64, 63, 31),
    (10, 1000, 3),
    (1000, 4, 10),
    (257, 65, 31),
)
#: The same on the way forward, where few outputs have a block each, which takes 4 examples and shares out 256 terms.
FORWARD_LAYERS = (
    (1, 1, 1),
    (17, 15, 33),
    (31, 5, 255),
    (33, 3, 257),
    (3, 257, 32),
    (257, 4, 10),
    (129, 128, 33),
    (257, 65, 31),
)
#: Of whole layers, where one such function stands for all: a block an output forward, tiles backward.
FEW_LAYERS = ((33, 3, 257), (17, 15, 33))
#: (p, n_weights): parameters, and how many of them are weights; around a block and the 8192 that NumPy takes at once.
UPDATES = ((1, 1), (1, 0), (31, 30), (257, 256), (1000, 0), (8193, 8192), (20011, 9001))


def _softstep(z: Array, xp: Any) -> Array:
    return 0.5 + 0.5 * z / (1 + xp.abs(z))


def _softstep_prime(z: Array, xp: Any) -> Array:
    return 0.5 / ((1 + xp.abs(z)) * (1 + xp.abs(z)))


#: Activations of a user's own, with values in (0, 1), which every cost takes: as CuPy functions, and as one kernel.
SOFTSTEP = Activation("softstep", _softstep, _softstep_prime)
SOFTSTEP_KERNEL = Activation(
    "softstep with kernel",
    _softstep,
    _softstep_prime,
    cuda=(
        "REAL(0.5) + REAL(0.5) * z / (REAL(1) + fabs(z))",
        "REAL(0.5) / ((REAL(1) + fabs(z)) * (REAL(1) + fabs(z)))",
    ),
)
#: A cost of a user's own, through the general BP1.
QUARTIC = Cost(
    "quartic",
    lambda a, y, xp: 0.25 * xp.sum((a - y) * (a - y) * (a - y) * (a - y), axis=0),
    lambda a, y, xp: (a - y) * (a - y) * (a - y),
)
ACTIVATIONS: dict[str, Activation] = {
    **activations.BUILT_IN,
    "leaky_relu": activations.LeakyReLU(0.2),  # constants that are not the usual ones
    "custom": SOFTSTEP,
    "custom with kernel": SOFTSTEP_KERNEL,
    "mixed": activations.mixed("tanh", {0: SOFTSTEP}),
}
#: In the shapes of FEW, and in whole layers by gelu alone; the others are those whose kernels and ways differ.
ONE_EXPRESSION = ("leaky_relu", "elu", "gelu", "silu", "softplus", "hard_sigmoid", "exp")
THOROUGH = tuple(name for name in ACTIVATIONS if name not in ONE_EXPRESSION)
COSTS: dict[str, Cost] = {
    **costs.BUILT_IN,
    "huber": costs.Huber(0.3),
    "quantile": costs.Quantile(0.9),
    "floored cross-entropy": costs.CrossEntropy(reference.FLOOR),
    "floored log-likelihood": costs.LogLikelihood(reference.FLOOR),
    "custom": QUARTIC,
}
#: The outputs that each cost is tried with: its own, and what goes another way or has another kind of f'.
OUTPUTS = {
    "quadratic": (*THOROUGH, "gelu"),
    "cross-entropy": ("sigmoid", "custom"),
    "log-likelihood": ("softmax", "custom"),
    "huber": ("linear", "gelu"),
    "absolute": ("linear", "hard_sigmoid"),
    "quantile": ("linear", "softplus"),
    "poisson": ("exp", "custom"),
    "hinge": ("linear", "custom with kernel"),
    "floored cross-entropy": ("sigmoid", "custom with kernel"),
    "floored log-likelihood": ("softmax", "custom"),
    "custom": ("sigmoid", "relu", "softmax", "custom", "mixed"),
}
#: How far z goes where f is not bounded: one huge output would drown the others' cost.
LARGEST_Z = {**dict.fromkeys(("relu", "leaky_relu", "elu", "gelu", "silu", "softplus", "linear"), 20.0), "exp": 3.0}
#: alpha and beta: a gradient, a step of gradient descent, both factors at work.
FACTORS = {"gradient": (1.0, 0.0), "step": (-0.03, 1.0), "alpha and beta": (0.7, -2.0)}
#: alpha, and beta of biases and weights: as above, with L2, and where only one of the two may read what was there.
LAYER_FACTORS = {
    "gradient": (1.0, 0.0, 0.0),
    "step": (-0.03, 1.0, 1.0),
    "step with L2": (-0.03, 1.0, 0.75),
    "new biases": (0.7, 0.0, -2.0),
    "new weights": (0.7, -2.0, 0.0),
}
#: The learning rate and the penalties of an optimizer's step.
ETA, PENALTY = 0.1, Penalty(l2=0.3, l1=0.05, decay=0.02)
#: The largest entry and norm that are left of a gradient.
CLIPPED: dict[str, tuple[float | None, float | None]] = {
    "values": (0.8, None),
    "norm": (None, 0.9),
    "both": (0.8, 0.9),
    "neither is reached": (1e6, 1e6),
}
#: Entries of which one is the largest, of which several are, and among which there are NaN.
ENTRIES = ("distinct", "equal", "NaN")
#: Whether the rows are bytes, and the factor.
SOURCES = {
    "own dtype": (False, 1.0),
    "own dtype, scaled": (False, 0.3),
    "uint8": (True, 1.0),
    "uint8 / 256": (True, 1 / 256),
    "uint8 / 255": (True, 1 / 255),
}


class Caller:
    """A backend, and how the algorithm hands it arrays: a batch as columns, weights as rows.

    Every output lies in a buffer with something behind it that must stay, and holds NaN at first, so that what a verb
    does not write shows.
    """

    def __init__(self, ops: Backend, dtype: str) -> None:
        self.ops = ops
        self.dtype = dtype
        self._guards: list[Array] = []

    def rows(self, x: Values) -> Array:
        """Return a copy of x on the device, row after row."""
        return self.ops.asarray(x.copy(order="C"))

    def columns(self, x: Values) -> Array:
        """Return a copy of x on the device, column after column."""
        return self.rows(x.T).T

    def output(self, x: Values) -> Array:
        """Return a copy of x on the device to be written to, row after row."""
        guard = np.full((1, *x.shape[1:]), _guard(x.dtype), dtype=x.dtype)
        buffer = self.rows(np.concatenate([x, guard]))
        self._guards.append(buffer[x.shape[0] :, ...])
        return buffer[: x.shape[0], ...]

    def output_columns(self, x: Values) -> Array:
        """Return a copy of x on the device to be written to, column after column."""
        return self.output(x.T).T

    def blank(self, *shape: int) -> Array:
        """Return NaN of that shape to be written to, row after row."""
        return self.output(np.full(shape, np.nan, dtype=self.dtype))

    def blank_columns(self, n: int, m: int) -> Array:
        """Return NaN of shape (n, m) to be written to, column after column."""
        return self.blank(m, n).T

    def run(self, verb: Callable[[Caller], Mapping[str, Array]]) -> dict[str, Values]:
        """Return what `verb` computes, in the host's memory."""
        self._guards.clear()
        with self.ops.active():
            results = {part: np.array(self.ops.to_numpy(x)) for part, x in verb(self).items()}
            intact = all(_is_intact(np.asarray(self.ops.to_numpy(guard))) for guard in self._guards)
        if not intact:
            raise ArithmeticError("wrote behind the end of its output")
        return results


def _guard(dtype: npt.DTypeLike) -> float:
    return math.nan if np.dtype(dtype).kind == "f" else -1


def _is_intact(guard: Values) -> bool:
    return np.array_equal(guard, np.full_like(guard, _guard(guard.dtype)), equal_nan=True)


@dataclass(frozen=True)
class Case:
    """A verb, its inputs, and what it has to give."""

    verb: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    #: Calls the verb; its results by their names.
    run: Callable[[Caller], Mapping[str, Array]]
    expected: Callable[[], Mapping[str, Bounded]]


def cases(dtype: str, large: bool = True) -> Iterator[Case]:
    """Yield the cases of every verb, from a fixed seed."""
    draw = Draw(dtype)
    for inputs in (SMALL, LARGE) if large else (SMALL,):
        for verb, tried in inputs.items():
            for shape, name in tried:
                yield _CASES[verb](draw, name, *shape)


def output_pairs() -> list[str]:
    """Return the costs with output activations, such as "quadratic, tanh"."""
    return [f"{name}, {output}" for name, outputs in OUTPUTS.items() for output in outputs]


class Draw:
    """Random inputs: standard normal numbers with exact zeros among them."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(_SEED)

    def normal(self, *shape: int) -> Values:
        """Return normal numbers, one in 16 of them 0; a single one is not 0, which would hide factors."""
        x = self.rng.standard_normal(shape)
        if x.size > 1:
            x[self.rng.random(shape) < 1 / 16] = 0.0
        return x.astype(self.dtype)

    def factors(self, n: int, k: int, m: int) -> tuple[Values, Values]:
        """Return matrices (n, k) and (k, m) whose product has an entry without cancellation, the first."""
        a, b = self.normal(n, k), self.normal(k, m)
        a[0], b[:, 0] = np.abs(a[0]) + 0.5, np.abs(b[:, 0]) + 0.5
        return a, b

    def weighted_input(self, n: int, m: int, largest: float = 1000.0) -> Values:
        """Return z, one in 32 of them far in saturation, where exp would overflow."""
        z = self.normal(n, m)
        saturated = self.rng.random((n, m)) < 1 / 32
        z[saturated] = self.rng.choice([-largest, -90.0, -20.0, 20.0, 90.0, largest], saturated.sum())
        return z.clip(-largest, largest)

    def activation(self, name: str, z: Values) -> Values:
        """Return a = f(z) as the dtype has it."""
        a: Values = reference.ACTIVATIONS[name](reference.exact(z, self.dtype)).value
        return a.astype(self.dtype)

    def targets(self, n: int, m: int) -> Values:
        """Return y in [0, 1], half of them 0 or 1."""
        y = self.rng.random((n, m))
        return np.where(self.rng.random((n, m)) < 0.5, y, y.round()).astype(self.dtype)


def _matmul(draw: Draw, name: str, n: int, k: int, m: int) -> Case:
    w, a = draw.factors(n, k, m)

    def run(on: Caller) -> dict[str, Array]:
        left = on.rows(w) if name == "w a" else on.rows(w.T).T
        return {"product": on.ops.matmul(left, on.columns(a), out=on.blank_columns(n, m))}

    def expected() -> dict[str, Bounded]:
        return {"product": reference.accumulated(w, a)}

    return Case("matmul", name, (n, k, m), draw.dtype, run, expected)


def _activate(draw: Draw, name: str, n: int, m: int) -> Case:
    z, b, f = draw.weighted_input(n, m), draw.normal(n, 1), ACTIVATIONS[name]

    def run(on: Caller) -> dict[str, Array]:
        sum_of, both = on.output_columns(z), on.output_columns(z)
        a = on.ops.activate(sum_of, on.rows(b), f, out=on.blank_columns(n, m))
        return {"a": a, "z": sum_of, "a in place of z": on.ops.activate(both, on.rows(b), f, out=both)}

    def expected() -> dict[str, Bounded]:
        sum_of = reference.exact(z, draw.dtype) + reference.exact(b, draw.dtype)
        a = reference.ACTIVATIONS[name](sum_of)
        return {"a": a, "z": sum_of, "a in place of z": a}

    return Case("activate", name, (n, m), draw.dtype, run, expected)


def _hadamard_prime(draw: Draw, name: str, n: int, m: int) -> Case:
    g, z, f = draw.normal(n, m), draw.weighted_input(n, m), ACTIVATIONS[name]
    a = draw.activation(name, z)

    def run(on: Caller) -> dict[str, Array]:
        device_a = on.columns(a)
        device_z = on.columns(z) if f.needs_z else device_a  # as in a workspace
        delta = on.ops.hadamard_prime(on.columns(g), f, device_z, device_a, out=on.blank_columns(n, m))
        both = on.output_columns(g)
        return {"delta": delta, "delta in place of g": on.ops.hadamard_prime(both, f, device_z, device_a, out=both)}

    def expected() -> dict[str, Bounded]:
        exact = (reference.exact(v, draw.dtype) for v in (g, z, a))
        delta = reference.PULL_BACKS[name](*exact)
        return {"delta": delta, "delta in place of g": delta}

    return Case("hadamard_prime", name, (n, m), draw.dtype, run, expected)


def _output_error(draw: Draw, pair: str, n: int, m: int) -> Case:
    cost, name = pair.split(", ")
    f = ACTIVATIONS[name]
    z = draw.weighted_input(n, m, LARGEST_Z.get(name, 1000.0))
    a, y = draw.activation(name, z), draw.targets(n, m)
    if COSTS[cost].task == "classification":
        y = y.round()

    def run(on: Caller) -> dict[str, Array]:
        device_a, device_y, total = on.columns(a), on.columns(y), on.ops.new_total()
        device_z = on.columns(z) if f.needs_z else device_a
        for _ in range(2):  # the cost is added to what was there
            out = on.blank_columns(n, m)
            delta = on.ops.output_error(COSTS[cost], f, device_z, device_a, device_y, out=out, total=total)
        out = on.blank_columns(n, m)
        untold = on.ops.output_error(COSTS[cost], f, device_z, device_a, device_y, out=out)
        xp = on.ops.xp
        return {"delta": delta, "delta without total": untold, "total": xp.reshape(xp.sum(total), (1,))}

    def expected() -> dict[str, Bounded]:
        delta, total = reference.output_error(cost, name, z, a, y)
        return {"delta": delta, "delta without total": delta, "total": total * 2}

    return Case("output_error", pair, (n, m), draw.dtype, run, expected)


def _sum_batch(draw: Draw, name: str, n: int, m: int) -> Case:
    alpha, beta = FACTORS[name]
    delta, before = draw.normal(n, m), draw.normal(n, 1)
    delta[0] = np.abs(delta[0]) + 0.5  # a sum without cancellation

    def run(on: Caller) -> dict[str, Array]:
        out = on.output(before) if beta else on.blank(n, 1)
        return {"sum": on.ops.sum_batch(on.columns(delta), out=out, alpha=alpha, beta=beta)}

    def expected() -> dict[str, Bounded]:
        ones = np.ones((m, 1), dtype=draw.dtype)
        return {"sum": reference.accumulated(delta, ones, alpha, beta, before)}

    return Case("sum_batch", name, (n, m), draw.dtype, run, expected)


def _outer_sum(draw: Draw, name: str, j: int, m: int, k: int) -> Case:
    alpha, beta = FACTORS[name]
    delta, a_transposed = draw.factors(j, m, k)
    before = draw.normal(j, k)

    def run(on: Caller) -> dict[str, Array]:
        out = on.output(before) if beta else on.blank(j, k)
        a = on.rows(a_transposed).T
        return {"sum": on.ops.outer_sum(on.columns(delta), a, out=out, alpha=alpha, beta=beta)}

    def expected() -> dict[str, Bounded]:
        return {"sum": reference.accumulated(delta, a_transposed, alpha, beta, before)}

    return Case("outer_sum", name, (j, m, k), draw.dtype, run, expected)


def _outer_batch(draw: Draw, name: str, j: int, k: int, m: int) -> Case:
    delta, a = draw.normal(j, m), draw.normal(k, m)

    def run(on: Caller) -> dict[str, Array]:
        return {"products": on.ops.outer_batch(on.columns(delta), on.columns(a), out=on.blank(m, j, k))}

    def expected() -> dict[str, Bounded]:
        columns, rows = (reference.exact(v, draw.dtype) for v in (delta.T[:, :, None], a.T[:, None, :]))
        return {"products": columns * rows}

    return Case("outer_batch", name, (j, k, m), draw.dtype, run, expected)


def _gather(draw: Draw, name: str, n: int, m: int) -> Case:
    pixels, scale = SOURCES[name]
    x = draw.rng.integers(0, 256, (300, n), dtype=np.uint8) if pixels else draw.normal(300, n)
    index = draw.rng.integers(0, 300, m)  # some rows twice, most not at all

    def run(on: Caller) -> dict[str, Array]:
        out = on.blank_columns(n, m)
        return {"columns": on.ops.gather(on.rows(x), on.rows(index), out=out, scale=scale)}

    def expected() -> dict[str, Bounded]:
        return {"columns": reference.gathered(x, index, scale, draw.dtype)}

    return Case("gather", name, (n, m), draw.dtype, run, expected)


def _layer_forward(draw: Draw, name: str, n: int, m: int, k: int) -> Case:
    w, a = draw.factors(n, k, m)
    w, b, f = (w / np.sqrt(k)).astype(draw.dtype), draw.normal(n, 1), ACTIVATIONS[name]

    def run(on: Caller) -> dict[str, Array]:
        device_w, device_a, device_b = on.rows(w), on.columns(a), on.rows(b)
        z, out, both = (on.blank_columns(n, m) for _ in range(3))
        return {
            "a": on.ops.layer_forward(device_w, device_a, device_b, f, z=z, out=out),
            "z": z,
            "a in place of z": on.ops.layer_forward(device_w, device_a, device_b, f, z=both, out=both),
        }

    def expected() -> dict[str, Bounded]:
        z, out = reference.layer_forward(name, w, a, b)
        return {"a": out, "z": z, "a in place of z": out}

    return Case("layer_forward", name, (n, k, m), draw.dtype, run, expected)


def _layer_backward(draw: Draw, name: str, k: int, m: int, n: int) -> Case:
    w_transposed, delta = draw.factors(k, n, m)
    w, z, f = w_transposed.T, draw.weighted_input(k, m), ACTIVATIONS[name]
    a = draw.activation(name, z)

    def run(on: Caller) -> dict[str, Array]:
        device_a = on.columns(a)
        device_z = on.columns(z) if f.needs_z else device_a  # as in a workspace
        out = on.blank_columns(k, m)
        return {"delta": on.ops.layer_backward(on.rows(w), on.columns(delta), f, device_z, device_a, out=out)}

    def expected() -> dict[str, Bounded]:
        return {"delta": reference.layer_backward(name, w, delta, z, a)}

    return Case("layer_backward", name, (n, k, m), draw.dtype, run, expected)


def _layer_gradient(draw: Draw, name: str, j: int, k: int, m: int) -> Case:
    alpha, beta_b, beta_w = LAYER_FACTORS[name]
    delta, a_transposed = draw.factors(j, m, k)
    before_b, before_w = draw.normal(j, 1), draw.normal(j, k)

    def run(on: Caller) -> dict[str, Array]:
        nabla_b = on.output(before_b) if beta_b else on.blank(j, 1)
        nabla_w = on.output(before_w) if beta_w else on.blank(j, k)
        device_delta, device_a = on.columns(delta), on.rows(a_transposed).T
        on.ops.layer_gradient(device_delta, device_a, nabla_b, nabla_w, alpha=alpha, beta_b=beta_b, beta_w=beta_w)
        return {"nabla_b": nabla_b, "nabla_w": nabla_w}

    def expected() -> dict[str, Bounded]:
        ones = np.ones((m, 1), dtype=draw.dtype)
        return {
            "nabla_b": reference.accumulated(delta, ones, alpha, beta_b, before_b),
            "nabla_w": reference.accumulated(delta, a_transposed, alpha, beta_w, before_w),
        }

    return Case("layer_gradient", name, (j, k, m), draw.dtype, run, expected)


def _update(draw: Draw, name: str, p: int, n_weights: int) -> Case:
    optimizer = optimizers.BUILT_IN[name]
    w = draw.normal(p)
    # Some gradients are as small as the epsilons below the fraction lines.
    sizes = np.where(draw.rng.random(p) < 1 / 4, 10 ** draw.rng.uniform(-10, 0, p), 1.0)
    gradients = [(draw.normal(p) * sizes).astype(draw.dtype) for _ in range(2)]
    # At first v is 0 and the sign of what the penalty leaves of a gradient decides: it must not nearly cancel it.
    gradients[0] = np.copysign(gradients[0], w)

    def run(on: Caller) -> dict[str, Array]:
        device_w, states = on.output(w), on.output(np.zeros((optimizer.states, p), dtype=draw.dtype))
        c = on.rows(optimizer.coefficients(ETA, np.array([1, 2])).astype(draw.dtype))
        for t, gradient in enumerate(gradients):
            nabla = on.output(gradient)
            on.ops.update(optimizer, device_w, nabla, states, c[t, ...], PENALTY, n_weights)
        return {"w": device_w, **{f"v{i}": states[i, ...] for i in range(optimizer.states)}}

    def expected() -> dict[str, Bounded]:
        new, v = reference.updated(name, ETA, w, gradients, *PENALTY, n_weights)
        return {"w": new, **{f"v{i}": state for i, state in enumerate(v)}}

    return Case("update", name, (p, n_weights), draw.dtype, run, expected)


def _count_right(draw: Draw, name: str, n: int, m: int) -> Case:
    a = draw.normal(n, m)
    if name != "distinct":  # 1/2 is what a single output is compared with
        values = [-math.inf, -1.0, -0.0, 0.0, 0.5, 2.0]
        a = draw.rng.choice(values, (n, m)).astype(draw.dtype)
    if name == "NaN":
        a[draw.rng.random((n, m)) < max(1 / 16, 2 / n)] = np.nan
    winners = a.argmax(axis=0) if n > 1 else (a[0] > 0.5).astype(np.int64)
    classes = np.where(draw.rng.random(m) < 7 / 8, winners, draw.rng.integers(0, max(n, 2), m))

    def run(on: Caller) -> dict[str, Array]:
        total = on.output(np.array([5]))
        for _ in range(2):  # it is added to what was there
            on.ops.count_right(on.columns(a), on.rows(classes), total)
        return {"total": total}

    def expected() -> dict[str, Bounded]:
        return {"total": reference.counted(5 + 2 * reference.right(a, classes))}

    return Case("count_right", name, (n, m), draw.dtype, run, expected)


def _hadamard(draw: Draw, name: str, n: int, m: int) -> Case:
    x, y = draw.normal(n, m), draw.normal(n, m)

    def run(on: Caller) -> dict[str, Array]:
        if name == "in place":
            out = on.output_columns(x)
            return {"out": on.ops.hadamard(out, on.columns(y), out=out)}
        return {"out": on.ops.hadamard(on.columns(x), on.columns(y), out=on.blank_columns(n, m))}

    def expected() -> dict[str, Bounded]:
        return {"out": reference.exact(x, draw.dtype) * reference.exact(y, draw.dtype)}

    return Case("hadamard", name, (n, m), draw.dtype, run, expected)


def _weigh(draw: Draw, name: str, n: int, m: int) -> Case:
    a, y, delta = (draw.normal(n, m) for _ in range(3))
    weights = np.abs(draw.normal(1, m)) if name == "weights" else np.zeros((1, m), dtype=draw.dtype)
    before = np.linspace(1, 2, 1)

    def run(on: Caller) -> dict[str, Array]:
        out, total = on.output_columns(delta), on.output(before)
        on.ops.weigh(costs.BUILT_IN["quadratic"], on.columns(a), on.columns(y), on.columns(weights), out, total)
        return {"delta": out, "total": total}

    def expected() -> dict[str, Bounded]:
        x, t, s = (reference.exact(v, draw.dtype) for v in (a, y, weights))
        each = ((x - t) * (x - t)).sum(axis=0) * 0.5
        total = (each * s[0]).sum(keepdims=True) + 1.0
        return {"delta": reference.weighed(delta, weights), "total": total}

    return Case("weigh", name, (n, m), draw.dtype, run, expected)


def _clip(draw: Draw, name: str, p: int) -> Case:
    nabla = draw.normal(p)
    most_value, most_norm = CLIPPED[name]

    def run(on: Caller) -> dict[str, Array]:
        return {"nabla": on.ops.clip(on.output(nabla), most_value, most_norm)}

    return Case(
        "clip", name, (p,), draw.dtype, run, lambda: {"nabla": reference.clipped(nabla, most_value, most_norm)}
    )


def _add_squares(draw: Draw, name: str, p: int) -> Case:
    w, factor = draw.normal(p), 1.0 if name == "once" else 0.3

    def run(on: Caller) -> dict[str, Array]:
        xp, device_w, total = on.ops.xp, on.rows(w), on.ops.new_total()
        for _ in range(2):  # it is added to what was there
            on.ops.add_squares(device_w, total, factor)
        return {"total": xp.reshape(xp.sum(total), (1,))}

    return Case("add_squares", name, (p,), draw.dtype, run, lambda: {"total": reference.squares(w, factor) * 2})


def _limit_norms(draw: Draw, name: str, n: int, m: int) -> Case:
    # Rows far from the limit, so that no rounding decides on which side of it they are.
    w = draw.normal(n, m)
    w *= np.where(np.arange(n) % 2, 3.0, 0.25)[:, None].astype(draw.dtype) / np.maximum(
        np.linalg.norm(w, axis=1, keepdims=True), 0.1
    ).astype(draw.dtype)
    most = 0.7 if name == "some" else 100.0

    def run(on: Caller) -> dict[str, Array]:
        return {"w": on.ops.limit_norms(on.output(w), most)}

    return Case("limit_norms", name, (n, m), draw.dtype, run, lambda: {"w": reference.limited(w, most)})


_CASES: dict[str, Callable[..., Case]] = {
    "matmul": _matmul,
    "activate": _activate,
    "output_error": _output_error,
    "hadamard_prime": _hadamard_prime,
    "sum_batch": _sum_batch,
    "outer_sum": _outer_sum,
    "outer_batch": _outer_batch,
    "gather": _gather,
    "layer_forward": _layer_forward,
    "layer_backward": _layer_backward,
    "layer_gradient": _layer_gradient,
    "update": _update,
    "count_right": _count_right,
    "hadamard": _hadamard,
    "weigh": _weigh,
    "clip": _clip,
    "add_squares": _add_squares,
    "limit_norms": _limit_norms,
}

#: By verb, the shapes and what they are tried with.
Inputs = dict[str, list[tuple[tuple[int, ...], str]]]


def _shapes_of(pair: str) -> tuple[tuple[int, int], ...]:
    cost = pair.partition(", ")[0]
    return ELEMENTWISE if cost in ("quadratic", "cross-entropy", "log-likelihood", "custom") else FEW


SMALL: Inputs = {
    "matmul": list(product(PRODUCTS, ("w a", "w^T delta"))),
    "activate": [*product(ELEMENTWISE, THOROUGH), *product(FEW, ONE_EXPRESSION)],
    "output_error": [(shape, pair) for pair in output_pairs() for shape in _shapes_of(pair)],
    "hadamard_prime": [*product(ELEMENTWISE, THOROUGH), *product(FEW, ONE_EXPRESSION)],
    "sum_batch": list(product(ELEMENTWISE, FACTORS)),
    "outer_sum": list(product(PRODUCTS, FACTORS)),
    "outer_batch": list(product(OUTER_BATCH, ("per example",))),
    "gather": list(product(ELEMENTWISE, SOURCES)),
    "layer_forward": [*product(FORWARD_LAYERS, THOROUGH), *product(FEW_LAYERS, ("gelu",))],
    "layer_backward": [*product(LAYERS, THOROUGH), *product(FEW_LAYERS, ("gelu",))],
    "layer_gradient": list(product(LAYERS, LAYER_FACTORS)),
    "update": list(product(UPDATES, reference.OPTIMIZERS)),
    "count_right": list(product(ELEMENTWISE, ENTRIES)),
    "hadamard": list(product(ELEMENTWISE, ("in place", "out of place"))),
    "weigh": list(product(ELEMENTWISE, ("weights", "none counts"))),
    "clip": list(product([(p,) for p, _ in UPDATES], CLIPPED)),
    "add_squares": list(product([(p,) for p, _ in UPDATES], ("once", "with a factor"))),
    "limit_norms": list(product(ELEMENTWISE, ("some", "none"))),
}

# A grid has at most 4096 blocks, which take 1024 elements, 256 parameters or 8 columns each, or 1024 blocks where a
# cost is added up: here every loop strides. The formulas are those of the small shapes: one of a kind will do.
_ELEMENTS, _COLUMNS = (4099, 1031), (33, 32801)
#: Tiles of 32 x 32, of 64 x 64, and a product for the library's BLAS.
LARGE_LAYERS = ((1031, 257, 65), (2049, 600, 33), (1025, 257, 2048))

LARGE: Inputs = {
    "matmul": [((1025, 2048, 257), "w a"), ((1025, 2048, 257), "w^T delta")],
    "activate": [(_ELEMENTS, "sigmoid"), (_COLUMNS, "softmax")],
    "output_error": [(_COLUMNS, "quadratic, sigmoid"), (_COLUMNS, "log-likelihood, softmax")],
    "hadamard_prime": [(_ELEMENTS, "sigmoid"), (_COLUMNS, "softmax")],
    "sum_batch": [(_ELEMENTS, "step")],
    "outer_sum": [((1025, 2048, 257), "step")],
    "outer_batch": [((513, 127, 100), "per example")],
    "gather": [(_ELEMENTS, "own dtype, scaled"), (_ELEMENTS, "uint8 / 256")],
    "layer_forward": list(product(LARGE_LAYERS, ("sigmoid", "softmax"))),
    "layer_backward": list(product(LARGE_LAYERS, ("sigmoid", "softmax"))),
    "layer_gradient": list(product(LARGE_LAYERS, ("step with L2", "new weights"))),
    "update": [((1_100_003, 1_000_001), "momentum"), ((1_100_003, 1_000_001), "adam")],
    "count_right": [((10, 32801), "distinct"), ((10, 32801), "NaN")],
    "hadamard": [(_ELEMENTS, "in place")],
    "weigh": [(_COLUMNS, "weights")],
    "clip": [((1_100_003,), "both")],
    "add_squares": [((1_100_003,), "with a factor")],
    "limit_norms": [(_ELEMENTS, "some")],
}
