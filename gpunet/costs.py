"""Cost functions C, their gradients dC/da, and the output error of BP1.

A batch is a matrix whose columns are examples, (n, m); the cost of a batch is the sum over its columns.
`docs/functions.md` lists them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

from gpunet import checks
from gpunet.activations import BUILT_IN as ACTIVATIONS
from gpunet.activations import (
    Activation,
    Array,
    Exp,
    Mixed,
    Namespace,
    Scratch,
    Sigmoid,
    Softmax,
    at_least,
    at_most,
)
from gpunet.errors import InputError

#: Where a batch's cost is added, if somebody wants it.
Total = Array | None
#: So many numbers OpenBLAS multiplies and adds in the calling thread; more it spreads over all it has.
_LONGEST_DOT = 10_000


class Cost:
    """A cost function C(a, y).

    Parameters
    ----------
    name : str
        The name under which a saved model refers to it.
    value : callable
        ``value(a, y, xp)`` returns the cost of each example, shape (m,), from the output activations a and
        the wanted ones y, both (n, m). `xp` is the arrays' namespace (``numpy``, ``cupy``, ...).
    gradient : callable
        ``gradient(a, y, xp)`` returns dC/da, shape (n, m).

    Examples
    --------
    >>> quartic = Cost(
    ...     "quartic",
    ...     lambda a, y, xp: xp.sum((a - y) ** 4, axis=0),
    ...     lambda a, y, xp: 4 * (a - y) ** 3,
    ... )
    """

    #: The cost of one output as a CUDA C++ expression in a and y, if it is a sum over outputs and has one.
    cuda: str | None = None
    #: Names of the built-in output activations it is meant for, the usual one first; None: all.
    outputs: tuple[str, ...] | None = None
    #: What it is for; None: the targets decide.
    task: Literal["classification", "regression"] | None = None
    #: How many outputs it needs.
    least_outputs = 1
    #: Least and largest target that it takes.
    target_range: tuple[float, float] = (-math.inf, math.inf)
    #: What its logarithms take smaller numbers for; 0: the smallest normal number of their dtype.
    floor = 0.0

    def __init__(
        self,
        name: str,
        value: Callable[[Array, Array, Namespace], Array],
        gradient: Callable[[Array, Array, Namespace], Array],
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"a cost's name must be a non-empty string, got {name!r}.")
        if type(self) is Cost and name in BUILT_IN:
            raise InputError(f"{name!r} is the name of a built-in cost; give yours another.")
        checks.function(value, 3, f"the value of cost {name!r}", "lambda a, y, xp: xp.sum((a - y)**2, axis=0)")
        checks.function(gradient, 3, f"the gradient of cost {name!r}", "lambda a, y, xp: 2 * (a - y)")
        self.name = name
        self._value = value
        self._gradient = gradient

    def __repr__(self) -> str:
        constants = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"<Cost {self.name}{f'({constants})' if constants else ''}>"

    @property
    def parameters(self) -> dict[str, float]:
        """The constants of a built-in cost that has some, by name; a model file keeps them."""
        return {}

    def value(self, a: Array, y: Array, xp: Namespace) -> Array:
        """Return the cost of each example, shape (m,)."""
        return self._checked(self._value(a, y, xp), (a.shape[1],), a.dtype, "value")

    def gradient(self, a: Array, y: Array, xp: Namespace) -> Array:
        """Return dC/da, shape (n, m)."""
        return self._checked(self._gradient(a, y, xp), a.shape, a.dtype, "gradient")

    def output_error(self, activation: Activation, z: Array, a: Array, y: Array, xp: Namespace) -> Array:
        """Return delta^L = dC/da * f'(z), BP1."""
        return activation.pull_back(self.gradient(a, y, xp), z, a, xp)

    def output_error_into(
        self,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Total,
        scratch: Scratch,
        xp: Namespace,
    ) -> None:
        """Write BP1 into `out` and add the batch's cost to `total`, where `xp` has functions with `out=`."""
        out[...] = self.output_error(activation, z, a, y, xp)
        self._add_to(total, a, y, xp)

    def _add_to(self, total: Total, a: Array, y: Array, xp: Namespace) -> None:
        if total is not None:
            total += xp.sum(self.value(a, y, xp), dtype=total.dtype)

    def cuda_delta(self, activation: Activation) -> str | None:
        """Return BP1 of one output as a CUDA C++ expression in a, y and F_PRIME(s), or None if there is none."""
        return None

    def check_output(self, activation: Activation) -> None:
        """Refuse a built-in output activation whose values this cost is not meant for."""
        parts = activation.parts if isinstance(activation, Mixed) else (activation,)
        built_in = [part.name for part in parts if part.name in ACTIVATIONS]
        if self.outputs is None or set(built_in) <= set(self.outputs):
            return
        unbound = [cost for cost in BUILT_IN.values() if cost.task is None]
        fitting = [cost.name for cost in unbound if activation.name in (cost.outputs or ())]
        raise InputError(
            f"the {self.name} cost is for {' or '.join(self.outputs)} outputs, not {activation.name}: pass "
            f"output_activation={self.outputs[0]!r}, or cost={(fitting or ['quadratic'])[0]!r}."
        )

    def _checked(self, result: Array, shape: tuple[int, ...], dtype: Any, role: str) -> Array:
        if getattr(result, "shape", None) != shape or result.dtype != dtype:
            got = f"shape {tuple(result.shape)}, {result.dtype}" if hasattr(result, "shape") else repr(result)
            raise InputError(
                f"the {role} of cost {self.name!r} must return an array of shape {tuple(shape)} and dtype {dtype}, "
                f"got {got}."
            )
        return result


class Quadratic(Cost):
    """C = 1/2 ||a - y||^2, equation (27)."""

    cuda = "REAL(0.5) * (a - y) * (a - y)"

    def __init__(self) -> None:
        super().__init__("quadratic", self._half_square, self._difference)

    def _half_square(self, a: Array, y: Array, xp: Namespace) -> Array:
        return 0.5 * xp.sum((a - y) ** 2, axis=0)

    def _difference(self, a: Array, y: Array, xp: Namespace) -> Array:
        return a - y

    def cuda_delta(self, activation: Activation) -> str | None:
        return "(a - y) * F_PRIME(s)" if activation.cuda else None

    def output_error_into(
        self,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Total,
        scratch: Scratch,
        xp: Namespace,
    ) -> None:
        xp.subtract(a, y, out=out)
        if total is not None:
            total += 0.5 * _dot(out, out, scratch, xp)
        activation.pull_back_into(out, z, a, out, scratch, xp)


class _Logarithmic(Cost):
    """A cost of logarithms of probabilities, with a floor."""

    name: str

    def __init__(self, floor: float = 0.0) -> None:
        self.floor = checks.share(floor, f"floor of {self.name}")
        super().__init__(self.name, self._log_loss, self._slope)

    @property
    def parameters(self) -> dict[str, float]:
        return {"floor": self.floor} if self.floor else {}

    def _log_loss(self, a: Array, y: Array, xp: Namespace) -> Array:
        raise NotImplementedError

    def _slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        raise NotImplementedError


class CrossEntropy(_Logarithmic):
    """C = -sum_j y_j ln a_j + (1 - y_j) ln(1 - a_j), equation (63): each output a yes or no of its own.

    Parameters
    ----------
    floor : float, optional
        What the logarithms take smaller probabilities for, in the cost, not in its gradient; by default the smallest
        normal number of the dtype. scikit-learn takes the dtype's epsilon.
    """

    name = "cross-entropy"
    outputs = ("sigmoid",)
    cuda = "-(y * log(a < FLOOR ? FLOOR : a) + (REAL(1) - y) * log(REAL(1) - a < FLOOR ? FLOOR : REAL(1) - a))"

    def _log_loss(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -xp.sum(y * _safe_log(a, xp, self.floor) + (1 - y) * _safe_log(1 - a, xp, self.floor), axis=0)

    def _slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return (a - y) / _at_least_tiny(a * (1 - a), xp)

    def cuda_delta(self, activation: Activation) -> str | None:
        return "a - y" if isinstance(activation, Sigmoid) else None

    def output_error(self, activation: Activation, z: Array, a: Array, y: Array, xp: Namespace) -> Array:
        if isinstance(activation, Sigmoid):
            return a - y  # a (1 - a) cancels, equation (66): exact also where a is 0 or 1
        return super().output_error(activation, z, a, y, xp)

    def output_error_into(
        self,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Total,
        scratch: Scratch,
        xp: Namespace,
    ) -> None:
        if isinstance(activation, Sigmoid):
            xp.subtract(a, y, out=out)
            self._add_to(total, a, y, xp)
        else:
            super().output_error_into(activation, z, a, y, out, total, scratch, xp)


class LogLikelihood(_Logarithmic):
    """C = -sum_j y_j ln a_j, equation (80): what others call categorical cross-entropy.

    Parameters
    ----------
    floor : float, optional
        What the logarithms take smaller probabilities for, in the cost, not in its gradient; by default the smallest
        normal number of the dtype. scikit-learn takes the dtype's epsilon.
    """

    name = "log-likelihood"
    outputs = ("softmax",)

    def _log_loss(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -xp.sum(y * _safe_log(a, xp, self.floor), axis=0)

    def _slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -y / _at_least_tiny(a, xp)

    def output_error(self, activation: Activation, z: Array, a: Array, y: Array, xp: Namespace) -> Array:
        if isinstance(activation, Softmax):
            return a * xp.sum(y, axis=0, keepdims=True) - y  # a - y where y sums to 1, as in equation (84)
        return super().output_error(activation, z, a, y, xp)


#: Every elementwise activation that is built in, the usual one for numbers first.
_ELEMENTWISE = ("linear", *(name for name, f in ACTIVATIONS.items() if f.elementwise and name != "linear"))


class _PerOutput(Cost):
    """A built-in cost that is a sum over outputs, with constants, and kernels' expressions for all activations."""

    name: str
    #: dC/da of one output as a CUDA C++ expression in a and y.
    cuda_gradient: str

    def __init__(self) -> None:
        super().__init__(self.name, self._sum, self.slope)

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        """Return the cost of every output and example."""
        raise NotImplementedError

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        """Return dC/da."""
        raise NotImplementedError

    def slope_into(self, a: Array, y: Array, out: Array, total: Total, scratch: Scratch, xp: Namespace) -> None:
        """Write dC/da into `out`, and add the batch's cost to `total`."""
        raise NotImplementedError

    def _sum(self, a: Array, y: Array, xp: Namespace) -> Array:
        return xp.sum(self.each(a, y, xp), axis=0)

    def cuda_delta(self, activation: Activation) -> str | None:
        return f"({self.cuda_gradient}) * F_PRIME(s)" if activation.cuda else None

    def output_error_into(
        self,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Total,
        scratch: Scratch,
        xp: Namespace,
    ) -> None:
        self.slope_into(a, y, out, total, scratch, xp)
        activation.pull_back_into(out, z, a, out, scratch, xp)


class Huber(_PerOutput):
    """(a - y)^2 / 2 up to a distance of delta, and delta (|a - y| - delta / 2) beyond: Huber 1964.

    Parameters
    ----------
    delta : float, default 1.0
        The distance from which on an error counts linearly, in the targets' unit.
    """

    name = "huber"
    outputs = _ELEMENTWISE
    task = "regression"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = checks.positive_float(delta, "delta of huber")
        most = f"REAL({self.delta!r})"
        self.cuda = (
            f"fabs(a - y) <= {most} ? REAL(0.5) * (a - y) * (a - y) : {most} * (fabs(a - y) - REAL(0.5) * {most})"
        )
        self.cuda_gradient = f"a - y < -{most} ? -{most} : a - y > {most} ? {most} : a - y"
        super().__init__()

    @property
    def parameters(self) -> dict[str, float]:
        return {"delta": self.delta}

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        near = self.slope(a, y, xp)
        return near * (a - y - 0.5 * near)

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return at_least(at_most(a - y, self.delta, xp), -self.delta, xp)

    def slope_into(self, a: Array, y: Array, out: Array, total: Total, scratch: Scratch, xp: Namespace) -> None:
        xp.subtract(a, y, out=out)
        if total is not None:
            near, rest = scratch(0), scratch(1)
            xp.minimum(out, self.delta, out=near)
            xp.maximum(near, -self.delta, out=near)
            xp.multiply(near, -0.5, out=rest)
            xp.add(out, rest, out=rest)
            total += _dot(near, rest, scratch, xp)
        xp.minimum(out, self.delta, out=out)
        xp.maximum(out, -self.delta, out=out)


class Absolute(_PerOutput):
    """|a - y|, whose derivative is taken for 0 at 0."""

    name = "absolute"
    outputs = _ELEMENTWISE
    task = "regression"
    cuda = "fabs(a - y)"
    cuda_gradient = "a > y ? REAL(1) : a < y ? REAL(-1) : a - y"  # the last is 0, or NaN

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        return xp.abs(a - y)

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return xp.sign(a - y)

    def slope_into(self, a: Array, y: Array, out: Array, total: Total, scratch: Scratch, xp: Namespace) -> None:
        xp.subtract(a, y, out=out)
        if total is not None:
            total += xp.sum(xp.abs(out, out=scratch(0)))
        xp.sign(out, out=out)


class Quantile(_PerOutput):
    """q (y - a) where y is above a, and (1 - q) (a - y) where it is below: least at the q-quantile of y.

    The pinball loss of Koenker and Bassett 1978. Where a = y its derivative is taken for 1/2 - q.

    Parameters
    ----------
    q : float, default 0.5
        Which part of the targets is to lie below the output, between 0 and 1.
    """

    name = "quantile"
    outputs = _ELEMENTWISE
    task = "regression"

    def __init__(self, q: float = 0.5) -> None:
        self.q = checks.between_0_and_1(q, "q of quantile")
        above, below = f"REAL({1 - self.q!r})", f"REAL({-self.q!r})"
        self.cuda = f"(a > y ? {above} : {below}) * (a - y)"
        self.cuda_gradient = f"a > y ? {above} : a < y ? {below} : REAL({0.5 - self.q!r}) + (a - y)"
        super().__init__()

    @property
    def parameters(self) -> dict[str, float]:
        return {"q": self.q}

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        return (a - y) * self.slope(a, y, xp)

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return 0.5 * xp.sign(a - y) + (0.5 - self.q)

    def slope_into(self, a: Array, y: Array, out: Array, total: Total, scratch: Scratch, xp: Namespace) -> None:
        difference = scratch(0)
        xp.subtract(a, y, out=difference)
        xp.sign(difference, out=out)
        xp.multiply(out, 0.5, out=out)
        xp.add(out, 0.5 - self.q, out=out)
        if total is not None:
            total += _dot(difference, out, scratch, xp)


class Poisson(_PerOutput):
    """y ln(y / a) - y + a, for counts y and their expected number a, an exp output: half the Poisson deviance.

    It is 0 where a = y, and the negative log-likelihood of a Poisson distribution but for what no network changes.
    """

    name = "poisson"
    outputs = ("exp",)
    task = "regression"
    target_range = (0.0, math.inf)
    cuda = "y * (log(y < TINY ? TINY : y) - log(a < TINY ? TINY : a)) - y + a"

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        return y * (_safe_log(y, xp) - _safe_log(a, xp)) - y + a

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return 1 - y / _at_least_tiny(a, xp)

    def cuda_delta(self, activation: Activation) -> str | None:
        return "a - y" if isinstance(activation, Exp) else None

    def output_error(self, activation: Activation, z: Array, a: Array, y: Array, xp: Namespace) -> Array:
        if isinstance(activation, Exp):
            return a - y  # a cancels
        return super().output_error(activation, z, a, y, xp)

    def output_error_into(
        self,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Total,
        scratch: Scratch,
        xp: Namespace,
    ) -> None:
        if not isinstance(activation, Exp):
            Cost.output_error_into(self, activation, z, a, y, out, total, scratch, xp)
            return
        if total is not None:
            tiny, logarithm = float(xp.finfo(a.dtype).smallest_normal), scratch(0)
            xp.maximum(a, tiny, out=logarithm)
            xp.log(logarithm, out=logarithm)
            xp.maximum(y, tiny, out=out)
            xp.log(out, out=out)
            xp.subtract(out, logarithm, out=out)
            xp.multiply(out, y, out=out)
            xp.subtract(out, y, out=out)
            xp.add(out, a, out=out)
            total += xp.sum(out)
        xp.subtract(a, y, out=out)


class Hinge(_PerOutput):
    """max(0, 1 - t a) with t = 2y - 1, which is 1 for the right class and -1 for every other: one against the rest.

    Where 1 - t a = 0 its derivative is taken for 0. The class is that of the largest output, of at least two.
    """

    name = "hinge"
    outputs = ("linear",)
    task = "classification"
    least_outputs = 2
    target_range = (0.0, 1.0)
    _margin = "REAL(1) - (REAL(2) * y - REAL(1)) * a"
    cuda = f"{_margin} < REAL(0) ? REAL(0) : {_margin}"
    cuda_gradient = f"{_margin} > REAL(0) ? REAL(1) - REAL(2) * y : {_margin} <= REAL(0) ? REAL(0) : {_margin}"

    def each(self, a: Array, y: Array, xp: Namespace) -> Array:
        return at_least(1 - (2 * y - 1) * a, 0.0, xp)

    def slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return (1 - 2 * y) * xp.sign(self.each(a, y, xp))

    def slope_into(self, a: Array, y: Array, out: Array, total: Total, scratch: Scratch, xp: Namespace) -> None:
        minus_t = scratch(0)
        xp.multiply(y, -2, out=minus_t)
        xp.add(minus_t, 1, out=minus_t)
        xp.multiply(minus_t, a, out=out)
        xp.add(out, 1, out=out)
        xp.maximum(out, 0, out=out)
        if total is not None:
            total += xp.sum(out)
        xp.sign(out, out=out)
        xp.multiply(out, minus_t, out=out)


def _dot(x: Array, y: Array, scratch: Scratch, xp: Namespace) -> Any:
    """Return the sum of x * y, two arrays of one layout.

    A dot product is fastest, but OpenBLAS spreads a long one over threads of its own.
    """
    return xp.vdot(x.T, y.T) if x.size <= _LONGEST_DOT else xp.sum(xp.multiply(x, y, out=scratch(2)))


def _at_least_tiny(x: Array, xp: Namespace) -> Array:
    """Return x, kept away from 0 by the smallest normal number of its dtype."""
    return at_least(x, float(xp.finfo(x.dtype).smallest_normal), xp)


def _safe_log(x: Array, xp: Namespace, floor: float = 0.0) -> Array:
    return xp.log(at_least(x, floor, xp) if floor else _at_least_tiny(x, xp))


BUILT_IN: dict[str, Cost] = {
    cost.name: cost
    for cost in (
        Quadratic(),
        CrossEntropy(),
        LogLikelihood(),
        Huber(),
        Absolute(),
        Quantile(),
        Poisson(),
        Hinge(),
    )
}

#: Those that have constants of their own, by name.
_WITH_PARAMETERS: dict[str, Callable[..., Cost]] = {
    "cross-entropy": CrossEntropy,
    "log-likelihood": LogLikelihood,
    "huber": Huber,
    "quantile": Quantile,
}


def get(cost: str | Cost | Any) -> Cost:
    """Return the cost of that name, or the one given."""
    if isinstance(cost, Cost):
        return cost
    return BUILT_IN[checks.one_of(cost, BUILT_IN, "cost")]


def to_json(cost: Cost) -> str | dict[str, Any]:
    """Return what a model file says of a cost: its name, and its constants if they are not the usual ones."""
    built_in = BUILT_IN.get(cost.name)
    if built_in is not None and cost.parameters != built_in.parameters:
        return {"name": cost.name, **cost.parameters}
    return cost.name


def from_json(spec: Any, custom: Mapping[str, Cost]) -> Cost:
    """Return the cost that `to_json` described; `custom` holds those that are not built in."""
    if isinstance(spec, str):
        return custom[spec] if spec in custom else get(spec)
    try:
        constants = {**spec}
        return _WITH_PARAMETERS[constants.pop("name")](**constants)
    except (KeyError, TypeError) as error:
        raise InputError(f"{spec!r:.80} does not describe a cost.") from error
