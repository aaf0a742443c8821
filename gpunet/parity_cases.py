"""The cases of a parity run: every verb that computes, in the shapes that break kernels, with its right answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import activations, costs
from gpunet import parity_reference as reference
from gpunet.activations import Activation
from gpunet.backends import Array, Backend
from gpunet.costs import Cost
from gpunet.parity_reference import Bounded

Values = npt.NDArray[Any]

_SEED = 2

#: (n, m): neurons and examples, around a warp's 32, a block's 256 and beyond.
ELEMENTWISE = ((1, 1), (1, 127), (31, 3), (32, 10), (33, 127), (257, 1), (257, 10), (1000, 3))
#: (n, k, m): the product of (n, k) and (k, m).
PRODUCTS = ((1, 1, 1), (31, 33, 3), (33, 32, 10), (32, 257, 127), (257, 31, 1), (10, 1000, 10), (1000, 33, 3))
#: (j, k, m): an outer product (j, k) for each of m examples.
OUTER_BATCH = ((1, 1, 1), (31, 33, 3), (32, 257, 10), (33, 10, 127), (257, 1, 10), (10, 1000, 3))
#: Enough for every block of a large device to have work.
LARGE_ELEMENTWISE = ((4099, 257),)
LARGE_OUTPUTS = ((1031, 257),)
LARGE_PRODUCTS = ((1025, 2048, 257),)
LARGE_OUTER_BATCH = ((513, 127, 100),)


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
    "custom": SOFTSTEP,
    "custom with kernel": SOFTSTEP_KERNEL,
    "mixed": activations.mixed("tanh", {0: SOFTSTEP}),
}
COSTS: dict[str, Cost] = {**costs.BUILT_IN, "custom": QUARTIC}
#: alpha and beta: a gradient, a step of gradient descent, both factors at work.
FACTORS = {"gradient": (1.0, 0.0), "step": (-0.03, 1.0), "alpha and beta": (0.7, -2.0)}
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
        guard = np.full((1, *x.shape[1:]), np.nan, dtype=x.dtype)
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
            intact = all(np.isnan(self.ops.to_numpy(guard)).all() for guard in self._guards)
        if not intact:
            raise ArithmeticError("wrote behind the end of its output")
        return results


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
    pairs = ELEMENTWISE + (LARGE_ELEMENTWISE if large else ())
    triples = PRODUCTS + (LARGE_PRODUCTS if large else ())
    for (n, k, m), name in product(triples, ("w a", "w^T delta")):
        yield _matmul(draw, name, n, k, m)
    for (n, m), name in product(pairs, ACTIVATIONS):
        yield _activate(draw, name, n, m)
        yield _hadamard_prime(draw, name, n, m)
    for (n, m), (cost, name) in product(ELEMENTWISE + (LARGE_OUTPUTS if large else ()), output_pairs()):
        yield _output_error(draw, cost, name, n, m)
    for (n, m), name in product(pairs, FACTORS):
        yield _sum_batch(draw, name, n, m)
    for (j, m, k), name in product(triples, FACTORS):
        yield _outer_sum(draw, name, j, m, k)
    for (n, m), name in product(pairs, SOURCES):
        yield _gather(draw, name, n, m)
    for j, k, m in OUTER_BATCH + (LARGE_OUTER_BATCH if large else ()):
        yield _outer_batch(draw, j, k, m)


def output_pairs() -> list[tuple[str, str]]:
    """Return each cost with each output activation that it takes."""
    return [
        (name, output)
        for name, cost in COSTS.items()
        for output in ACTIVATIONS
        if cost.outputs is None or output in (*cost.outputs, "custom")
    ]


class Draw:
    """Random inputs: standard normal numbers with exact zeros among them."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(_SEED)

    def normal(self, *shape: int) -> Values:
        """Return normal numbers, one in 16 of them 0."""
        x = self.rng.standard_normal(shape)
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


def _output_error(draw: Draw, cost: str, name: str, n: int, m: int) -> Case:
    f = ACTIVATIONS[name]
    bounded = name not in ("relu", "linear")
    z = draw.weighted_input(n, m, 1000.0 if bounded else 20.0)  # one huge output would drown the others' cost
    a, y = draw.activation(name, z), draw.targets(n, m)

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

    return Case("output_error", f"{cost}, {name}", (n, m), draw.dtype, run, expected)


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


def _outer_batch(draw: Draw, j: int, k: int, m: int) -> Case:
    delta, a = draw.normal(j, m), draw.normal(k, m)

    def run(on: Caller) -> dict[str, Array]:
        return {"products": on.ops.outer_batch(on.columns(delta), on.columns(a), out=on.blank(m, j, k))}

    def expected() -> dict[str, Bounded]:
        columns, rows = (reference.exact(v, draw.dtype) for v in (delta.T[:, :, None], a.T[:, None, :]))
        return {"products": columns * rows}

    return Case("outer_batch", "per example", (j, k, m), draw.dtype, run, expected)


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
