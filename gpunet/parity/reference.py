"""What each verb has to compute, in plain NumPy of wider precision, and how far rounding may carry it off.

It imports nothing of gpunet: a mistake there can not be repeated here. `docs/parity.md` explains the bounds.
Two books are cited: Higham is N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002;
Higham and Mary is "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41 (2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[Any]

#: The largest error of a library's tanh, exp, log, expm1 and log1p in units of the last place. Measured in float32:
#: NumPy 1.4, 2.5, 3.5, 2.4 and 2.0, PyTorch at most 1.0; CUDA's are still to be measured.
FUNCTION_ULPS = 4
#: How many standard deviations of a random walk the rounding errors of a sum may reach.
_WALK = 8.0
#: Above so many products extended precision, which no BLAS computes, takes too long.
_CHEAP = 50_000_000


def unit_roundoff(dtype: Any) -> float:
    """Return u, half the distance from 1 to the next number: one operation errs by at most u relatively."""
    return float(np.finfo(dtype).eps) / 2


def wider(dtype: Any) -> Any:
    """Return the type to compute a reference for `dtype` in; where long double is double, that is float64."""
    return np.float64 if np.dtype(dtype) == np.float32 else np.longdouble


def gamma(k: int, u: float) -> float:
    """Return the relative error bound of a sum or product of k roundings.

    The smaller of the bound that always holds, gamma_k = k u / (1 - k u) (Higham, section 3.1), and the one of a
    random walk, exp(8 sqrt(k) u + k u^2 / (1 - u)) - 1 (Higham and Mary, with lambda = 8: broken with a
    probability below 2 k exp(-32)). Both hold for every order of summation and with fused multiply-add.
    """
    always = k * u / (1 - k * u) if k * u < 1 else math.inf
    return min(always, math.expm1(_WALK * math.sqrt(k) * u + k * u * u / (1 - u)))


def size(x: Values) -> Values:
    """Return |x| for a bound, which needs no more than float64."""
    return np.abs(x).astype(np.float64)


class Bounded:
    """A result in wider precision and a bound on the error of computing it with unit roundoff u.

    Running error analysis (Higham, section 3.3): every operation hands on the errors of its operands, times its
    derivatives, and adds u times the size of its result. A difference of two near numbers thus keeps the errors of
    the two: cancellation needs no rule of its own.
    """

    __slots__ = ("error", "u", "value")

    def __init__(self, value: Values, error: Any, u: float) -> None:
        self.value = value
        self.error = error
        self.u = u

    def __getitem__(self, key: Any) -> Bounded:
        return Bounded(self.value[key], self.error[key], self.u)

    def __neg__(self) -> Bounded:
        return Bounded(-self.value, self.error, self.u)

    def __add__(self, other: Any) -> Bounded:
        x, y = self, self._operand(other)
        return self._rounded(x.value + y.value, x.error + y.error)

    def __sub__(self, other: Any) -> Bounded:
        return self + -self._operand(other)

    def __rsub__(self, other: Any) -> Bounded:
        return self._operand(other) - self

    def __mul__(self, other: Any) -> Bounded:
        x, y = self, self._operand(other)
        error = size(x.value) * y.error + size(y.value) * x.error + x.error * y.error
        return self._rounded(x.value * y.value, error)

    def __truediv__(self, other: Any) -> Bounded:
        x, y = self, self._operand(other)
        value = x.value / y.value
        return self._rounded(value, (x.error + size(value) * y.error) / (size(y.value) - y.error))

    def __rtruediv__(self, other: Any) -> Bounded:
        return self._operand(other) / self

    def __pow__(self, t: int) -> Bounded:
        return self.apply(lambda x: x**t, lambda x: t * x ** (t - 1))

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Bounded:
        """Return the sum, in whatever order: k terms are k - 1 additions."""
        total = np.sum(self.value, axis=axis, keepdims=keepdims)
        count = self.value.size if axis is None else self.value.shape[axis]
        error = np.sum(self.error, axis=axis, keepdims=keepdims)
        terms = np.sum(size(self.value) + self.error, axis=axis, keepdims=keepdims)
        return Bounded(total, error + gamma(count - 1, self.u) * terms, self.u)

    def max(self) -> Bounded:
        """Return the largest entry of each column: picked, not computed."""
        return Bounded(self.value.max(axis=0, keepdims=True), np.max(self.error, axis=0, keepdims=True), self.u)

    def abs(self) -> Bounded:
        """Return |x|."""
        return Bounded(np.abs(self.value), self.error, self.u)

    def sqrt(self) -> Bounded:
        """Return the root, rounded correctly as IEEE 754 has it.

        |sqrt(x') - sqrt(x)| = |x' - x| / (sqrt(x') + sqrt(x)).
        """
        value = np.sqrt(self.value)
        least = size(value) + np.sqrt(np.maximum(size(self.value) - self.error, 0))
        least = np.maximum(least, np.sqrt(self.error))  # it is never more than sqrt(|x' - x|) either
        return self._rounded(value, np.divide(self.error, least, out=np.zeros_like(least), where=least > 0))

    def at_least(self, least: float) -> Bounded:
        """Return max(x, least)."""
        return Bounded(np.maximum(self.value, least), self.error, self.u)

    def at_most(self, most: float) -> Bounded:
        """Return min(x, most)."""
        return Bounded(np.minimum(self.value, most), self.error, self.u)

    def where(self, chosen: Values, other: Bounded) -> Bounded:
        """Return what of this is chosen, and the rest of the other."""
        return Bounded(np.where(chosen, self.value, other.value), np.where(chosen, self.error, other.error), self.u)

    def number(self, x: float) -> Bounded:
        """Return a constant, rounded to the same dtype."""
        return Bounded(np.asarray(x).astype(self.value.dtype), np.asarray(self.u * abs(x)), self.u)

    def apply(self, function: Callable[..., Any], slope: Callable[[Values], Any]) -> Bounded:
        """Return f(x) by a library of FUNCTION_ULPS; `slope` is |f'|."""
        value = function(self.value)
        # A unit in the last place of x is at most 2 u |x|.
        return Bounded(value, size(slope(self.value)) * self.error + 2 * FUNCTION_ULPS * self.u * size(value), self.u)

    def tolerance(self, dtype: Any) -> Values:
        """Return how far a result in `dtype` may lie from the value.

        The bound; the part of it that the reference itself may err by; and the smallest normal number, below which a
        device may flush to zero.
        """
        of_reference = unit_roundoff(self.value.dtype) / self.u
        bound: Values = self.error * (1 + of_reference) + float(np.finfo(dtype).smallest_normal)
        return bound

    def _operand(self, other: Any) -> Bounded:
        return other if isinstance(other, Bounded) else Bounded(np.asarray(other), np.zeros(()), self.u)

    def _rounded(self, value: Values, error: Any) -> Bounded:
        return Bounded(value, error + self.u * (size(value) + error), self.u)


def exact(x: Values, dtype: Any) -> Bounded:
    """Return what a computation in `dtype` is given: free of error if it has that dtype, else rounded to it."""
    value, u = x.astype(wider(dtype)), unit_roundoff(dtype)
    held = x.dtype == dtype or x.dtype.kind in "iu"
    return Bounded(value, np.zeros(x.shape) if held else u * size(value), u)


def stacked(first: Bounded, rest: Bounded) -> Bounded:
    """Return the rows of both."""
    return Bounded(np.concatenate([first.value, rest.value]), np.concatenate([first.error, rest.error]), first.u)


# -- Sums ------------------------------------------------------------------------------------------------------


def accumulated(a: Values, b: Values, alpha: float = 1.0, beta: float = 0.0, before: Values | None = None) -> Bounded:
    """Return alpha * a b + beta * before: a sum of k products and of what was there.

    Nothing is assumed about where alpha is multiplied in or when `before` is added. Each term meets at most k + 3
    roundings: alpha's own, two products, k additions; factors of 1 round nothing.
    """
    u, k = unit_roundoff(a.dtype), a.shape[1]
    wide = wider(a.dtype) if a.shape[0] * k * b.shape[1] <= _CHEAP else np.float64
    value = alpha * (a.astype(wide) @ b.astype(wide))
    terms = abs(alpha) * (size(a) @ size(b))
    roundings = k + (0 if alpha == 1.0 and beta in (0.0, 1.0) else 2)
    if before is not None and beta != 0.0:
        roundings += 1
        value = value + beta * before.astype(wide)
        terms = terms + abs(beta) * size(before)
    return Bounded(value, gamma(roundings, u) * terms, u)


def gathered(x: Values, index: Values, scale: float, dtype: Any) -> Bounded:
    """Return the columns scale * x[index]; the factor and the product are rounded, a factor of 1 is not."""
    rows = exact(x[index].T, dtype)
    return rows if scale == 1.0 else rows * exact(np.array(scale, dtype=np.longdouble), dtype)


# -- Activations: f, and the product with f' -------------------------------------------------------------------


def sigmoid(z: Bounded) -> Bounded:
    """Return 1 / (1 + exp(-z)).

    Its error relative to itself is 1 - a times that of exp(-z), and a rounding each of the sum and the quotient.
    Where exp(-z) overflows it is 0, and so it is where a device flushes it.
    """
    with np.errstate(over="ignore"):
        a = 1 / (1 + np.exp(-z.value))
    relative = (1 - a) * (z.error + 2 * FUNCTION_ULPS * z.u) + 2 * z.u
    flushed = float(np.finfo(np.float32 if z.u > 1e-10 else np.float64).smallest_normal)
    return Bounded(a, size(a) * relative + flushed, z.u)


def softmax(z: Bounded) -> Bounded:
    """Return exp(z_j) / sum_k exp(z_k)."""
    e = (z - z.max()).apply(np.exp, np.exp)
    return e / e.sum(axis=0, keepdims=True)


def _tanh(z: Bounded) -> Bounded:
    return z.apply(np.tanh, lambda x: 1 - np.tanh(x) ** 2)


def _softstep(z: Bounded) -> Bounded:
    return z / (z.abs() + 1) * 0.5 + 0.5


def _softstep_prime(z: Bounded) -> Bounded:
    one_plus = z.abs() + 1
    return Bounded(np.full(z.value.shape, 0.5, z.value.dtype), np.zeros(z.value.shape), z.u) / (one_plus * one_plus)


def _where_positive(g: Bounded, a: Bounded) -> Bounded:
    return g.where(a.value > 0, g.number(0.0))


def _exp(z: Bounded) -> Bounded:
    return z.apply(np.exp, np.exp)


def _expm1(z: Bounded) -> Bounded:
    return z.apply(np.expm1, np.exp)


#: The slope of leaky_relu for negative z.
_ALPHA = 0.2


def _gelu_parts(z: Bounded) -> tuple[Bounded, Bounded, Bounded]:
    """Return z up to where the tanh is 1, the share (1 + tanh) / 2, and sqrt(2/pi)."""
    w, scale = z.at_most(10.0).at_least(-10.0), z.number(math.sqrt(2 / math.pi))
    return w, _tanh(scale * (w + z.number(0.044715) * (w * w * w))) * 0.5 + 0.5, scale


def _gelu(z: Bounded) -> Bounded:
    return z * _gelu_parts(z)[1]


def _gelu_prime(z: Bounded) -> Bounded:
    w, s, scale = _gelu_parts(z)
    return s + s * (1 - s) * (scale * 2 * (w + z.number(3 * 0.044715) * (w * w * w)))


def _silu_prime(z: Bounded) -> Bounded:
    s = sigmoid(z)
    return s + z * s * (1 - s)


def _softplus(z: Bounded) -> Bounded:
    return z.at_least(0.0) + _exp(-z.abs()).apply(np.log1p, lambda e: 1 / (1 + e))


def _hard_sigmoid_back(g: Bounded, a: Bounded) -> Bounded:
    inside = (a.value > 0) & (a.value < 1)
    return (g * g.number(1 / 6)).where(inside, g.number(0.0))


#: f(z) by name; "custom" is 1/2 + 1/2 z / (1 + |z|), and "mixed" has it as its first neuron and tanh for the rest.
ACTIVATIONS: dict[str, Callable[[Bounded], Bounded]] = {
    "sigmoid": sigmoid,
    "tanh": _tanh,
    "relu": lambda z: z.at_least(0.0),
    "leaky_relu": lambda z: z.where(z.value > 0, z * z.number(_ALPHA)),
    "elu": lambda z: z.where(z.value > 0, _expm1(z.at_most(0.0))),
    "gelu": _gelu,
    "silu": lambda z: z * sigmoid(z),
    "softplus": _softplus,
    "hard_sigmoid": lambda z: (z / 6 + 0.5).at_most(1.0).at_least(0.0),
    "exp": lambda z: _exp(z.at_most(80.0)),
    "linear": lambda z: z,
    "softmax": softmax,
    "custom": _softstep,
    "custom with kernel": _softstep,
    "mixed": lambda z: stacked(_softstep(z[:1]), _tanh(z[1:])),
}

#: The product of g with f' by name, from z or a as the activation has it.
PULL_BACKS: dict[str, Callable[[Bounded, Bounded, Bounded], Bounded]] = {
    "sigmoid": lambda g, z, a: g * (a * (1 - a)),
    "tanh": lambda g, z, a: g * (1 - a * a),
    "relu": lambda g, z, a: _where_positive(g, a),
    "leaky_relu": lambda g, z, a: g.where(a.value > 0, g * g.number(_ALPHA)),
    "elu": lambda g, z, a: g * (a.at_most(0.0) + 1),
    "gelu": lambda g, z, a: g * _gelu_prime(z),
    "silu": lambda g, z, a: g * _silu_prime(z),
    "softplus": lambda g, z, a: g * -_expm1(-a),
    "hard_sigmoid": lambda g, z, a: _hard_sigmoid_back(g, a),
    "exp": lambda g, z, a: g * a,
    "linear": lambda g, z, a: g,
    "softmax": lambda g, z, a: a * (g - (g * a).sum(axis=0, keepdims=True)),
    "custom": lambda g, z, a: g * _softstep_prime(z),
    "custom with kernel": lambda g, z, a: g * _softstep_prime(z),
    "mixed": lambda g, z, a: stacked(g[:1] * _softstep_prime(z[:1]), g[1:] * (1 - a[1:] * a[1:])),
}


# -- Costs -----------------------------------------------------------------------------------------------------


def _log(x: Bounded, tiny: float) -> Bounded:
    return x.at_least(tiny).apply(np.log, lambda v: 1 / v)


def _cross_entropy(a: Bounded, y: Bounded, tiny: float) -> Bounded:
    return -(y * _log(a, tiny) + (1 - y) * _log(1 - a, tiny))


def _quartic(d: Bounded) -> Bounded:
    return d * d * (d * d) * 0.25


#: The delta of the Huber cost and the q of the quantile cost.
_DELTA, _Q = 0.3, 0.9
#: What the logarithms of the costs with a floor take smaller numbers for.
FLOOR = 2.0**-7


def _huber_slope(a: Bounded, y: Bounded) -> Bounded:
    d, most = a - y, a.number(_DELTA)
    return most.where(d.value > _DELTA, (-most).where(d.value < -_DELTA, d))


def _huber(a: Bounded, y: Bounded) -> Bounded:
    near = _huber_slope(a, y)
    return near * (a - y - near * 0.5)


def _sign(a: Bounded, y: Bounded) -> Bounded:
    """Return whether a is above y or below: 1 or -1, which no rounding changes."""
    return Bounded(np.sign(a.value - y.value), np.zeros(a.value.shape), a.u)


def _quantile_slope(a: Bounded, y: Bounded) -> Bounded:
    return _sign(a, y) * 0.5 + a.number(0.5 - _Q)


def _margin(a: Bounded, y: Bounded) -> Bounded:
    return 1 - (y * 2 - 1) * a


def _hinge_slope(a: Bounded, y: Bounded) -> Bounded:
    """Return dC/da for y of 0 and 1, with which the margin's sign is exact."""
    return (1 - y * 2) * Bounded((_margin(a, y).value > 0).astype(a.value.dtype), np.zeros(a.value.shape), a.u)


#: The cost of every output neuron and example; "custom" is 1/4 (a - y)^4. Logarithms and quotients keep `tiny` away
#: from 0.
COSTS: dict[str, Callable[[Bounded, Bounded, float], Bounded]] = {
    "quadratic": lambda a, y, tiny: (a - y) * (a - y) * 0.5,
    "cross-entropy": _cross_entropy,
    "log-likelihood": lambda a, y, tiny: -(y * _log(a, tiny)),
    "huber": lambda a, y, tiny: _huber(a, y),
    "absolute": lambda a, y, tiny: (a - y).abs(),
    "quantile": lambda a, y, tiny: (a - y) * _quantile_slope(a, y),
    "poisson": lambda a, y, tiny: y * (_log(y, tiny) - _log(a, tiny)) - y + a,
    "floored cross-entropy": lambda a, y, tiny: _cross_entropy(a, y, FLOOR),
    "floored log-likelihood": lambda a, y, tiny: -(y * _log(a, FLOOR)),
    "hinge": lambda a, y, tiny: _margin(a, y).at_least(0.0),
    "custom": lambda a, y, tiny: _quartic(a - y),
}

#: dC/da.
GRADIENTS: dict[str, Callable[[Bounded, Bounded, float], Bounded]] = {
    "quadratic": lambda a, y, tiny: a - y,
    "cross-entropy": lambda a, y, tiny: (a - y) / (a * (1 - a)).at_least(tiny),
    "log-likelihood": lambda a, y, tiny: -y / a.at_least(tiny),
    "huber": lambda a, y, tiny: _huber_slope(a, y),
    "absolute": lambda a, y, tiny: _sign(a, y),
    "quantile": lambda a, y, tiny: _quantile_slope(a, y),
    "poisson": lambda a, y, tiny: 1 - y / a.at_least(tiny),
    "floored cross-entropy": lambda a, y, tiny: (a - y) / (a * (1 - a)).at_least(tiny),
    "floored log-likelihood": lambda a, y, tiny: -y / a.at_least(tiny),
    "hinge": lambda a, y, tiny: _hinge_slope(a, y),
    "custom": lambda a, y, tiny: (a - y) * (a - y) * (a - y),
}

#: BP1 of the pairs of cost and output activation whose f' cancels.
MATCHED: dict[tuple[str, str], Callable[[Bounded, Bounded], Bounded]] = {
    ("cross-entropy", "sigmoid"): lambda a, y: a - y,
    ("log-likelihood", "softmax"): lambda a, y: a * y.sum(axis=0, keepdims=True) - y,
    ("poisson", "exp"): lambda a, y: a - y,
    ("floored cross-entropy", "sigmoid"): lambda a, y: a - y,
    ("floored log-likelihood", "softmax"): lambda a, y: a * y.sum(axis=0, keepdims=True) - y,
}


def output_error(cost: str, activation: str, z: Values, a: Values, y: Values) -> tuple[Bounded, Bounded]:
    """Return BP1, and the cost of the batch as an array of one entry."""
    dtype, tiny = a.dtype, float(np.finfo(a.dtype).smallest_normal)
    bounded_z, bounded_a, bounded_y = (exact(v, dtype) for v in (z, a, y))
    total = COSTS[cost](bounded_a, bounded_y, tiny).sum()
    matched = MATCHED.get((cost, activation))
    if matched is not None:
        delta = matched(bounded_a, bounded_y)
    else:
        slope = GRADIENTS[cost](bounded_a, bounded_y, tiny)
        delta = PULL_BACKS[activation](slope, bounded_z, bounded_a)
    return delta, Bounded(np.reshape(total.value, 1), np.reshape(total.error, 1), total.u)


# -- Whole layers ----------------------------------------------------------------------------------------------


def layer_forward(activation: str, w: Values, a: Values, b: Values) -> tuple[Bounded, Bounded]:
    """Return z = w a + b, where the bias is a term like any other, whenever it is added, and f(z)."""
    z = accumulated(w, a, 1.0, 1.0, b)
    return z, ACTIVATIONS[activation](z)


def layer_backward(activation: str, w: Values, delta: Values, z: Values, a: Values) -> Bounded:
    """Return the product of w^T delta with f'."""
    exact_z, exact_a = (exact(v, a.dtype) for v in (z, a))
    return PULL_BACKS[activation](accumulated(w.T, delta), exact_z, exact_a)


# -- Optimizers ------------------------------------------------------------------------------------------------

#: So many numbers each remembers of a parameter.
STATES = {"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adamw": 2, "rmsprop": 1, "adagrad": 1}

Stepped = tuple[Any, list[Any]]


def constants(eta: float, t: int, number: Callable[[float], Any], sqrt: Callable[[Any], Any]) -> dict[str, Any]:
    """Return what the optimizers multiply with in step t, from 1; `number` decides how it is computed."""
    mu, beta1, beta2, rho = (number(x) for x in (0.9, 0.9, 0.999, 0.99))
    return {
        "eta": number(eta),
        "mu": mu,
        "1 - beta1": 1 - beta1,
        "beta2": beta2,
        "1 - beta2": 1 - beta2,
        "eta / (1 - beta1^t)": number(eta) / (1 - beta1**t),
        "1 / sqrt(1 - beta2^t)": 1 / sqrt(1 - beta2**t),
        "rho": rho,
        "1 - rho": 1 - rho,
        "epsilon": number(1e-8),
        "epsilon of Adagrad": number(1e-10),
    }


def _sgd(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    return w - g * c["eta"], []


def _momentum(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    velocity = v[0] * c["mu"] - g * c["eta"]
    return w + velocity, [velocity]


def _nesterov(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    velocity = v[0] * c["mu"] - g * c["eta"]
    return w + (velocity * c["mu"] - g * c["eta"]), [velocity]


def _adam(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    mean = v[0] + (g - v[0]) * c["1 - beta1"]
    square = v[1] * c["beta2"] + g * g * c["1 - beta2"]
    root = sqrt(square) * c["1 / sqrt(1 - beta2^t)"] + c["epsilon"]
    return w - mean * c["eta / (1 - beta1^t)"] / root, [mean, square]


def _rmsprop(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    square = v[0] * c["rho"] + g * g * c["1 - rho"]
    return w - g * c["eta"] / (sqrt(square) + c["epsilon"]), [square]


def _adagrad(w: Any, g: Any, v: list[Any], c: dict[str, Any], sqrt: Callable[[Any], Any]) -> Stepped:
    square = v[0] + g * g
    return w - g * c["eta"] / (sqrt(square) + c["epsilon of Adagrad"]), [square]


#: One step by name: the new w and v from w, the gradient g, v and the constants. In gpunet's forms: Adam's average by
#: a difference, its corrections in two factors, epsilon outside the roots.
OPTIMIZERS: dict[str, Callable[..., Stepped]] = {
    "sgd": _sgd,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "adam": _adam,
    "adamw": _adam,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
}


def updated(
    optimizer: str,
    eta: float,
    w: Values,
    gradients: Sequence[Values],
    l2: float,
    l1: float,
    decay: float,
    n_weights: int,
) -> tuple[Bounded, list[Bounded]]:
    """Return w and v after a step for each of the gradients, v being 0 at first.

    For the first n_weights, l2 w + l1 sign(w) is added to the gradient, and the share `decay` taken from w. The
    constants are computed in float64 on the host, whatever the dtype is that they are then rounded to.
    """
    dtype = w.dtype
    is_weight = np.arange(len(w)) < n_weights
    factor, size_of_l1, share = (exact(np.where(is_weight, x, 0.0), dtype) for x in (l2, l1, decay))
    now, v = exact(w, dtype), [exact(np.zeros_like(w), dtype) for _ in range(STATES[optimizer])]
    for t, gradient in enumerate(gradients, start=1):
        on_host = constants(eta, t, lambda x: exact(np.array(x), "float64"), Bounded.sqrt)
        c = {name: _brought_to(dtype, x) for name, x in on_host.items()}
        g = exact(gradient, dtype)
        penalised = g + (now * factor + size_of_l1 * np.sign(now.value))
        # Where there is no penalty nothing is added, and nothing rounded.
        g = Bounded(penalised.value, np.where(is_weight, penalised.error, g.error), g.u)
        decayed = now - now * share
        now = Bounded(decayed.value, np.where(is_weight, decayed.error, now.error), now.u)
        now, v = OPTIMIZERS[optimizer](now, g, v, c, Bounded.sqrt)
    return now, v


def _brought_to(dtype: Any, x: Bounded) -> Bounded:
    """Return a number of the host's as `dtype` holds it."""
    u = unit_roundoff(dtype)
    return Bounded(x.value.astype(wider(dtype)), x.error + (u * size(x.value) if u > x.u else 0.0), u)


# -- What a training may do to a gradient besides ---------------------------------------------------------------


def clipped(nabla: Values, most_value: float | None, most_norm: float | None) -> Bounded:
    """Return a gradient whose entries, and then whose norm, are limited."""
    g = exact(nabla, nabla.dtype)
    if most_value is not None:
        most = np.asarray(most_value).astype(g.value.dtype)
        u = np.where(np.abs(g.value) > most, g.u * size(most), 0.0)  # the limit is rounded to the dtype
        g = Bounded(np.clip(g.value, -most, most), u, g.u)
    if most_norm is not None:
        factor = exact(np.asarray(most_norm, dtype=np.longdouble), nabla.dtype) / ((g * g).sum().sqrt() + 1e-6)
        if float(factor.value) < 1:
            g = g * factor
    return g


def squares(w: Values, factor: float) -> Bounded:
    """Return factor times the sum of w's squares, as an array of one entry."""
    x = exact(w, w.dtype)
    return (x * x).sum(axis=0, keepdims=True) * factor


def limited(w: Values, most: float) -> Bounded:
    """Return rows that are longer than `most` at that length, and the others as they are."""
    x = exact(w, w.dtype)
    norms = (x * x).sum(axis=1, keepdims=True).sqrt()
    is_long = norms.value > most
    shrunk = x * (exact(np.asarray(most, dtype=np.longdouble), w.dtype) / norms.at_least(most))
    return Bounded(np.where(is_long, shrunk.value, x.value), np.where(is_long, shrunk.error, x.error), x.u)


def weighed(delta: Values, weights: Values) -> Bounded:
    """Return each column of delta times m times its weight over the sum of all weights, (1, m); 0 if that is 0."""
    d, s = exact(delta, delta.dtype), exact(weights, delta.dtype)
    whole = s.sum()
    if not whole.value > 0:
        return d * 0.0
    return d * (s * (float(delta.shape[1]) / whole))


# -- Counting --------------------------------------------------------------------------------------------------


def right(a: Values, classes: Values) -> int:
    """Return in how many columns the largest entry is that of its class: the first NaN, else the first largest."""
    if len(a) == 1:
        return int(np.sum((a[0] > 0.5) == (classes == 1)))
    count = 0
    for column, label in zip(a.T, classes, strict=True):
        candidates = np.flatnonzero(np.isnan(column))
        if not len(candidates):
            candidates = np.flatnonzero(column == column.max())
        count += int(candidates[0] == label)
    return count


def counted(count: int) -> Bounded:
    """Return a whole number with less than 1/2 of tolerance: whatever is not that number is off."""
    return Bounded(np.array([float(count)]), np.array([0.2]), unit_roundoff("float64"))


# -- Training --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A training: a network, its initial parameters, data and mini-batches."""

    name: str
    sizes: Sequence[int]
    activations: Sequence[str]
    cost: str
    eta: float
    input_scale: float
    X: Values
    Y: Values
    weights: Sequence[Values]
    biases: Sequence[Values]
    batches: Sequence[Values]
    optimizer: str = "sgd"
    l2: float = 0.0


@dataclass(frozen=True)
class Disturbance:
    """A way of rounding that a sound library may have: any order of summation, functions off by some units.

    Attributes
    ----------
    rng : numpy.random.Generator
        Draws the order of every sum and the errors of the functions.
    ulps : (float, float)
        Between these, in units in the last place, lies the error of each activation: (4, 4) is a library that errs
        the same way always.
    """

    rng: np.random.Generator
    ulps: tuple[float, float]

    def product(self, a: Values, b: Values) -> Values:
        """Return the matrix product, its terms in another order."""
        order = self.rng.permutation(a.shape[1])
        product: Values = a[:, order] @ b[order]
        return product

    def activation(self, a: Values) -> Values:
        """Return activations that are off."""
        eps = float(np.finfo(a.dtype).eps)
        disturbed: Values = a * (1 + eps * self.rng.uniform(*self.ulps, a.shape)).astype(a.dtype)
        return disturbed


def disturbances(seed: int) -> list[Disturbance]:
    """Return functions that err upwards, downwards, and at random, each with sums in random order."""
    most = float(FUNCTION_ULPS)
    ranges = ((most, most), (-most, -most), (-most, most), (-most, most))
    return [Disturbance(np.random.default_rng((seed, i)), ulps) for i, ulps in enumerate(ranges)]


def _shifted_exp(z: Values) -> Values:
    return np.asarray(np.exp(z - z.max(axis=0)))


def _plain_share(z: Values) -> Values:
    return np.asarray(0.5 * np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * (z * z * z))) + 0.5)


def _plain_gelu_prime(z: Values) -> Values:
    s = _plain_share(z)
    return np.asarray(s + s * (1 - s) * (2 * math.sqrt(2 / math.pi) * (z + 3 * 0.044715 * (z * z * z))))


_PLAIN: dict[str, Callable[[Values], Values]] = {
    "sigmoid": lambda z: 0.5 * np.tanh(0.5 * z) + 0.5,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: z * _plain_share(z),
    "exp": np.exp,
    "linear": lambda z: z,
    "softmax": lambda z: _shifted_exp(z) / _shifted_exp(z).sum(axis=0),
}
#: f' from z and a.
_PLAIN_PRIME: dict[str, Callable[[Values, Values], Values]] = {
    "sigmoid": lambda z, a: a * (1 - a),
    "tanh": lambda z, a: 1 - a * a,
    "relu": lambda z, a: (a > 0).astype(a.dtype),
    "gelu": lambda z, a: _plain_gelu_prime(z),
    "linear": lambda z, a: np.ones_like(a),
}


def train(task: Task, dtype: Any, disturbance: Disturbance | None = None) -> Iterator[list[Values]]:
    """Train in `dtype` and give after each step b^1, w^1, b^2, w^2, ...

    The four equations in matrix form, without a backend.
    """
    product = disturbance.product if disturbance else np.matmul
    distort = disturbance.activation if disturbance else np.asarray
    w, b = ([v.astype(dtype) for v in values] for values in (task.weights, task.biases))
    scale = np.asarray(task.input_scale).astype(dtype)
    descent = _Descent(task, dtype)
    for batch in task.batches:
        y = task.Y[batch].T.astype(dtype)
        a, z = [task.X[batch].T.astype(dtype) * scale], []
        for w_l, b_l, name in zip(w, b, task.activations, strict=True):
            z.append(product(w_l, a[-1]) + b_l)
            a.append(distort(_PLAIN[name](z[-1])))
        delta = a[-1] - y
        if (task.cost, task.activations[-1]) not in MATCHED:
            delta = delta * _PLAIN_PRIME[task.activations[-1]](z[-1], a[-1])
        nabla_b: list[Values] = []
        nabla_w: list[Values] = []
        for l in range(len(w) - 1, -1, -1):
            nabla_b.insert(0, delta.sum(axis=1, keepdims=True))
            nabla_w.insert(0, product(delta, a[l].T))
            if l:
                delta = product(w[l].T, delta) * _PLAIN_PRIME[task.activations[l - 1]](z[l - 1], a[l])
        b, w = descent.step(b, nabla_b, w, nabla_w, len(batch))
        yield [v for pair in zip(b, w, strict=True) for v in pair]


class _Descent:
    """The steps of a training in `dtype`: equations (93) and (94) for plain gradient descent, else an optimizer's."""

    def __init__(self, task: Task, dtype: Any) -> None:
        self._task, self._dtype = task, dtype
        self._penalty = task.l2 / len(task.X)
        self._states: list[list[Any]] = [
            [np.zeros(v.shape, dtype)] * STATES.get(task.optimizer, 0) for v in (*task.biases, *task.weights)
        ]
        self._t = 0

    def step(
        self, b: list[Values], nabla_b: list[Values], w: list[Values], nabla_w: list[Values], m: int
    ) -> tuple[list[Values], list[Values]]:
        """Return the new b and w; the gradients are sums over m examples."""
        self._t += 1
        task, number = self._task, self._number
        if task.optimizer == "sgd":
            rate, kept = number(task.eta / m), number(1 - task.eta * self._penalty)
            new_b = [v - rate * g for v, g in zip(b, nabla_b, strict=True)]
            return new_b, [kept * v - rate * g for v, g in zip(w, nabla_w, strict=True)]
        on_host = constants(task.eta, self._t, np.promote_types(self._dtype, np.float64).type, np.sqrt)
        c = {name: x.astype(self._dtype) for name, x in on_host.items()}
        share, penalty = number(1 / m), number(self._penalty)
        gradients = [share * g for g in nabla_b]
        gradients += [share * g + penalty * v for v, g in zip(w, nabla_w, strict=True)]
        now = [*b, *w]
        for i, g in enumerate(gradients):
            now[i], self._states[i] = OPTIMIZERS[task.optimizer](now[i], g, self._states[i], c, np.sqrt)
        return now[: len(b)], now[len(b) :]

    def _number(self, x: float) -> Any:
        return np.asarray(x).astype(self._dtype)


def deviation(parameters: Sequence[Values], reference: Sequence[Values]) -> float:
    """Return the largest ||p - r|| / ||r|| over the weights and biases of all layers; infinite for NaN."""
    wide = [(p.astype(r.dtype), r) for p, r in zip(parameters, reference, strict=True)]
    with np.errstate(over="ignore", invalid="ignore"):  # a broken backend may have diverged
        largest = float(np.max([np.sqrt(np.sum((p - r) ** 2) / np.sum(r**2)) for p, r in wide]))  # NaN is largest
    return largest if math.isfinite(largest) else math.inf
