"""Cost functions C, their gradients dC/da, and the output error of BP1.

A batch is a matrix whose columns are examples, (n, m); the cost of a batch is the sum over its columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunet import checks
from gpunet.activations import BUILT_IN as ACTIVATIONS
from gpunet.activations import Activation, Array, Namespace, Sigmoid, Softmax
from gpunet.errors import InputError

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
    >>> absolute = Cost(
    ...     "absolute",
    ...     lambda a, y, xp: xp.sum(xp.abs(a - y), axis=0),
    ...     lambda a, y, xp: xp.sign(a - y),
    ... )
    """

    #: The cost of one output as a CUDA C++ expression in a and y, if it is a sum over outputs and has one.
    cuda: str | None = None
    #: Names of the built-in output activations it is meant for; None: all.
    outputs: tuple[str, ...] | None = None

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
        return f"<Cost {self.name}>"

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
        total: Array | None,
        scratch: Array,
        xp: Namespace,
    ) -> None:
        """Write BP1 into `out` and add the batch's cost to `total`, where `xp` has functions with `out=`."""
        out[...] = self.output_error(activation, z, a, y, xp)
        self._add_to(total, a, y, xp)

    def _add_to(self, total: Array | None, a: Array, y: Array, xp: Namespace) -> None:
        if total is not None:
            total += xp.sum(self.value(a, y, xp), dtype=total.dtype)

    def cuda_delta(self, activation: Activation) -> str | None:
        """Return BP1 of one output as a CUDA C++ expression in a, y and F_PRIME(s), or None if there is none."""
        return None

    def check_output(self, activation: Activation) -> None:
        """Refuse a built-in output activation whose values this cost is not meant for."""
        if self.outputs is None or activation.name in self.outputs:
            return
        if activation.name in ACTIVATIONS or activation.name == "mixed":
            fitting = [name for name, cost in BUILT_IN.items() if activation.name in (cost.outputs or ())]
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
        total: Array | None,
        scratch: Array,
        xp: Namespace,
    ) -> None:
        xp.subtract(a, y, out=out)
        if total is not None:
            total += 0.5 * _sum_of_squares(out, scratch, xp)
        activation.pull_back_into(out, z, a, out, scratch, xp)


class CrossEntropy(Cost):
    """C = -sum_j y_j ln a_j + (1 - y_j) ln(1 - a_j), equation (63): each output a yes or no of its own."""

    outputs = ("sigmoid",)
    cuda = "-(y * log(a < TINY ? TINY : a) + (REAL(1) - y) * log(REAL(1) - a < TINY ? TINY : REAL(1) - a))"

    def __init__(self) -> None:
        super().__init__("cross-entropy", self._log_loss, self._slope)

    def _log_loss(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -xp.sum(y * _safe_log(a, xp) + (1 - y) * _safe_log(1 - a, xp), axis=0)

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
        total: Array | None,
        scratch: Array,
        xp: Namespace,
    ) -> None:
        if isinstance(activation, Sigmoid):
            xp.subtract(a, y, out=out)
            self._add_to(total, a, y, xp)
        else:
            super().output_error_into(activation, z, a, y, out, total, scratch, xp)


class LogLikelihood(Cost):
    """C = -sum_j y_j ln a_j, equation (80): what others call categorical cross-entropy."""

    outputs = ("softmax",)

    def __init__(self) -> None:
        super().__init__("log-likelihood", self._log_loss, self._slope)

    def _log_loss(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -xp.sum(y * _safe_log(a, xp), axis=0)

    def _slope(self, a: Array, y: Array, xp: Namespace) -> Array:
        return -y / _at_least_tiny(a, xp)

    def output_error(self, activation: Activation, z: Array, a: Array, y: Array, xp: Namespace) -> Array:
        if isinstance(activation, Softmax):
            return a * xp.sum(y, axis=0, keepdims=True) - y  # a - y where y sums to 1, as in equation (84)
        return super().output_error(activation, z, a, y, xp)


def _sum_of_squares(x: Array, scratch: Array, xp: Namespace) -> Any:
    """Return the sum of x * x; a dot product is fastest, but OpenBLAS spreads a long one over threads of its own."""
    rows = x.T
    return xp.vdot(rows, rows) if x.size <= _LONGEST_DOT else xp.sum(xp.multiply(x, x, out=scratch))


def _at_least_tiny(x: Array, xp: Namespace) -> Array:
    """Return x, kept away from 0 by the smallest normal number of its dtype."""
    tiny = float(xp.finfo(x.dtype).smallest_normal)
    return xp.where(x < tiny, xp.full_like(x, tiny), x)  # lets NaN through, so that it is noticed


def _safe_log(x: Array, xp: Namespace) -> Array:
    return xp.log(_at_least_tiny(x, xp))


BUILT_IN: dict[str, Cost] = {cost.name: cost for cost in (Quadratic(), CrossEntropy(), LogLikelihood())}


def get(cost: str | Cost | Any) -> Cost:
    """Return the cost of that name, or the one given."""
    if isinstance(cost, Cost):
        return cost
    return BUILT_IN[checks.one_of(cost, BUILT_IN, "cost")]
