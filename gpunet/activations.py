"""Activation functions f and their derivatives f'.

Every formula is written once, against an Array API namespace `xp`, so that NumPy, CuPy, PyTorch and the
rest compute the same thing. The `*_into` forms are the same formulas for namespaces whose functions take
`out=` (NumPy, CuPy); they allocate nothing. `cuda` has them once more as CUDA C++ expressions, which the kernels in
`kernels/cuda/` are compiled with. `docs/functions.md` lists them all.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from gpunet import checks
from gpunet.errors import InputError

Array = Any
Namespace = Any
#: ``scratch(i)`` is the i-th array to work in, of the shape, dtype and layout of those that a verb is handed.
Scratch = Callable[[int], Array]


class Activation:
    """An elementwise activation, a = f(z).

    Parameters
    ----------
    name : str
        The name under which a saved model refers to it.
    function : callable
        ``function(z, xp)`` returns f(z), an array of z's shape. `xp` is the namespace of the array
        (``numpy``, ``cupy``, ...): written with ``xp.exp``, ``xp.where`` and operators, it runs everywhere.
    derivative : callable
        ``derivative(z, xp)`` returns f'(z), an array of z's shape.
    derivative_of : {"z", "a"}
        What `derivative` is handed: the weighted input z, or the activation a = f(z). From `a`, z need not
        be kept.
    cuda : (str, str), optional
        f as a CUDA C++ expression in ``z``, and f' as one in ``z`` or ``a`` (see `derivative_of`), of type ``REAL``.
        With them the activation is one kernel on a GPU; without, it runs there as CuPy functions.

    Examples
    --------
    >>> softsign = Activation(
    ...     "softsign",
    ...     lambda z, xp: z / (1 + xp.abs(z)),
    ...     lambda z, xp: 1 / (1 + xp.abs(z)) ** 2,
    ... )
    """

    elementwise = True
    #: Least and largest value that it can take; None: not known.
    range: tuple[float, float] | None = None

    def __init__(
        self,
        name: str,
        function: Callable[[Array, Namespace], Array],
        derivative: Callable[[Array, Namespace], Array],
        *,
        derivative_of: Literal["z", "a"] = "z",
        cuda: tuple[str, str] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise InputError(f"an activation's name must be a non-empty string, got {name!r}.")
        if not is_built_in(self) and name in (*BUILT_IN, Mixed.name):
            raise InputError(f"{name!r} is the name of a built-in activation; give yours another.")
        for role, given in (("function", function), ("derivative", derivative)):
            checks.function(given, 2, f"the {role} of activation {name!r}", "lambda z, xp: xp.tanh(z)")
        self.name = name
        self.derivative_of = checks.one_of(derivative_of, ("z", "a"), "derivative_of")
        if cuda is not None and not (len(cuda) == 2 and all(isinstance(e, str) and "\n" not in e for e in cuda)):
            raise InputError(
                f"cuda of activation {name!r} must be two expressions such as ('z * z', 'REAL(2) * z'), got {cuda!r}."
            )
        self.cuda = cuda
        self._function = function
        self._derivative = derivative

    def __repr__(self) -> str:
        constants = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items())
        return f"<Activation {self.name}{f'({constants})' if constants else ''}>"

    @property
    def parameters(self) -> dict[str, float]:
        """The constants of a built-in activation that has some, by name; a model file keeps them."""
        return {}

    @property
    def needs_z(self) -> bool:
        """Whether f' is computed from z, so that z must be kept."""
        return self.derivative_of == "z"

    def apply(self, z: Array, xp: Namespace) -> Array:
        """Return f(z)."""
        return self._same_shape(self._function(z, xp), z, "function")

    def pull_back(self, g: Array, z: Array, a: Array, xp: Namespace) -> Array:
        """Return the Hadamard product of g with f'(z), as in BP1 and BP2."""
        s = z if self.needs_z else a
        return g * self._same_shape(self._derivative(s, xp), s, "derivative")

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        """Write f(z) into `out`, which may be z itself."""
        out[...] = self.apply(z, xp)

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        """Write the product of g with f'(z) into `out`, which may be g itself."""
        out[...] = self.pull_back(g, z, a, xp)

    def _same_shape(self, value: Array, like: Array, role: str) -> Array:
        if getattr(value, "shape", None) != like.shape or value.dtype != like.dtype:
            got = f"shape {tuple(value.shape)}, {value.dtype}" if hasattr(value, "shape") else repr(value)
            raise InputError(
                f"the {role} of activation {self.name!r} must return an array of its argument's shape and "
                f"dtype (shape {tuple(like.shape)}, {like.dtype}), got {got}; xp.astype(value, z.dtype) converts."
            )
        return value


class _BuiltIn(Activation):
    """A built-in elementwise activation, with in-place forms."""

    name: str
    derivative_of: Literal["z", "a"] = "a"
    #: f and f' as CUDA C++ expressions.
    cuda: tuple[str, str]

    def __init__(self) -> None:
        super().__init__(self.name, self.function, self.derivative, derivative_of=self.derivative_of, cuda=self.cuda)

    def function(self, z: Array, xp: Namespace) -> Array:
        """Return f(z)."""
        raise NotImplementedError

    def derivative(self, s: Array, xp: Namespace) -> Array:
        """Return f' from s, which is z or a as `derivative_of` says."""
        raise NotImplementedError

    def derivative_into(self, s: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        """Write f' into `out`, which is scratch(0)."""
        raise NotImplementedError

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        prime = scratch(0)
        self.derivative_into(z if self.needs_z else a, prime, scratch, xp)
        xp.multiply(g, prime, out=out)


class Sigmoid(_BuiltIn):
    """The logistic function 1 / (1 + exp(-z)), to the last places also where it is near 0."""

    name = "sigmoid"
    range = (0.0, 1.0)
    cuda = ("REAL(1) / (REAL(1) + exp(-z))", "a * (REAL(1) - a)")

    def function(self, z: Array, xp: Namespace) -> Array:
        return _logistic(z, xp)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return a * (1 - a)

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        _logistic_into(z, out, xp)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.subtract(1, a, out=out)
        xp.multiply(out, a, out=out)


class Tanh(_BuiltIn):
    """The hyperbolic tangent."""

    name = "tanh"
    cuda = ("tanh(z)", "REAL(1) - a * a")

    def function(self, z: Array, xp: Namespace) -> Array:
        return xp.tanh(z)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return 1 - a * a

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.tanh(z, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.multiply(a, a, out=out)
        xp.subtract(1, out, out=out)


class ReLU(_BuiltIn):
    """The rectified linear unit max(0, z), with f'(0) = 0."""

    name = "relu"
    cuda = ("z < REAL(0) ? REAL(0) : z", "a > REAL(0) ? REAL(1) : a")

    def function(self, z: Array, xp: Namespace) -> Array:
        return _positive(z, xp)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return xp.sign(a)  # a = max(0, z), so its sign is 0 or 1

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.maximum(z, 0, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.sign(a, out=out)


class LeakyReLU(_BuiltIn):
    """max(z, alpha z), with f'(0) = alpha.

    Parameters
    ----------
    alpha : float, default 0.01
        The slope for negative z, between 0 and 1.
    """

    name = "leaky_relu"

    def __init__(self, alpha: float = 0.01) -> None:
        self.alpha = checks.between_0_and_1(alpha, "alpha of leaky_relu")
        slope = f"REAL({self.alpha!r})"
        # The second comparison lets NaN through.
        self.cuda = (
            f"z < REAL(0) ? {slope} * z : z",
            f"a > REAL(0) ? REAL(1) : a <= REAL(0) ? {slope} : a",
        )
        super().__init__()

    @property
    def parameters(self) -> dict[str, float]:
        return {"alpha": self.alpha}

    def function(self, z: Array, xp: Namespace) -> Array:
        return xp.where(z < 0, self.alpha * z, z)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return at_least(xp.sign(a), self.alpha, xp)  # a has the sign of z

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        leaked = scratch(0)
        xp.multiply(z, self.alpha, out=leaked)
        xp.maximum(z, leaked, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.sign(a, out=out)
        xp.maximum(out, self.alpha, out=out)


class ELU(_BuiltIn):
    """The exponential linear unit: z above 0, exp(z) - 1 below."""

    name = "elu"
    cuda = ("z < REAL(0) ? expm1(z) : z", "a < REAL(0) ? REAL(1) + a : a >= REAL(0) ? REAL(1) : a")

    def function(self, z: Array, xp: Namespace) -> Array:
        return _positive(z, xp) + xp.expm1(_negative(z, xp))

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return 1 + _negative(a, xp)  # exp(z) = 1 + a

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        below = scratch(0)
        xp.minimum(z, 0, out=below)
        xp.expm1(below, out=below)
        xp.maximum(z, 0, out=out)
        xp.add(out, below, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.minimum(a, 0, out=out)
        xp.add(out, 1, out=out)


#: Beyond so large a z, GELU's tanh is -1 or 1 in every dtype, and its cube could overflow.
_GELU_END = 10.0
#: The argument of GELU's tanh is _GELU_SCALE * (z + _GELU_CUBE * z**3).
_GELU_SCALE, _GELU_CUBE = math.sqrt(2 / math.pi), 0.044715
_GELU_CUDA_CLIPPED = (
    f"z < REAL({-_GELU_END!r}) ? REAL({-_GELU_END!r}) : z > REAL({_GELU_END!r}) ? REAL({_GELU_END!r}) : z"
)
_GELU_CUDA_SHARE = f"REAL(0.5) * tanh(REAL({_GELU_SCALE!r}) * (w + REAL({_GELU_CUBE!r}) * (w * w * w))) + REAL(0.5)"


class GELU(_BuiltIn):
    """The Gaussian error linear unit in its tanh form, z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))).

    It is what JAX calls "gelu" and PyTorch ``GELU(approximate="tanh")``. From z times the normal distribution
    function, which needs erf, it differs by less than 0.0005.
    """

    name = "gelu"
    derivative_of = "z"
    cuda = (
        "z * [](const REAL w) { return " + _GELU_CUDA_SHARE + "; }(" + _GELU_CUDA_CLIPPED + ")",
        "[](const REAL w) { const REAL s = " + _GELU_CUDA_SHARE + "; return s + s * (REAL(1) - s) * "
        f"(REAL({2 * _GELU_SCALE!r}) * (w + REAL({3 * _GELU_CUBE!r}) * (w * w * w))); }}({_GELU_CUDA_CLIPPED})",
    )

    def function(self, z: Array, xp: Namespace) -> Array:
        return z * self._share(self._clipped(z, xp), xp)

    def derivative(self, z: Array, xp: Namespace) -> Array:
        w = self._clipped(z, xp)  # where it is clipped, s (1 - s) is 0
        s = self._share(w, xp)
        return s + s * (1 - s) * (2 * _GELU_SCALE * (w + 3 * _GELU_CUBE * (w * w * w)))

    @staticmethod
    def _clipped(z: Array, xp: Namespace) -> Array:
        return at_least(at_most(z, _GELU_END, xp), -_GELU_END, xp)

    @staticmethod
    def _share(w: Array, xp: Namespace) -> Array:
        return 0.5 * xp.tanh(_GELU_SCALE * (w + _GELU_CUBE * (w * w * w))) + 0.5

    def _share_into(self, z: Array, w: Array, s: Array, xp: Namespace) -> None:
        """Write the clipped z into w and what of it is let through into s."""
        xp.minimum(z, _GELU_END, out=w)
        xp.maximum(w, -_GELU_END, out=w)
        xp.multiply(w, w, out=s)
        xp.multiply(s, w, out=s)
        xp.multiply(s, _GELU_CUBE, out=s)
        xp.add(s, w, out=s)
        xp.multiply(s, _GELU_SCALE, out=s)
        xp.tanh(s, out=s)
        xp.multiply(s, 0.5, out=s)
        xp.add(s, 0.5, out=s)

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        s = scratch(1)
        self._share_into(z, scratch(0), s, xp)
        xp.multiply(z, s, out=out)

    def derivative_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        s, slope = scratch(1), scratch(2)
        self._share_into(z, out, s, xp)
        xp.multiply(out, out, out=slope)
        xp.multiply(slope, out, out=slope)
        xp.multiply(slope, 3 * _GELU_CUBE, out=slope)
        xp.add(slope, out, out=slope)
        xp.multiply(slope, 2 * _GELU_SCALE, out=slope)
        xp.subtract(1, s, out=out)
        xp.multiply(out, s, out=out)
        xp.multiply(out, slope, out=out)
        xp.add(out, s, out=out)


class SiLU(_BuiltIn):
    """z times sigmoid(z), also known as swish."""

    name = "silu"
    derivative_of = "z"
    cuda = (
        "z / (REAL(1) + exp(-z))",
        "[](const REAL s, const REAL w) { return s + w * s * (REAL(1) - s); }(REAL(1) / (REAL(1) + exp(-z)), z)",
    )

    def function(self, z: Array, xp: Namespace) -> Array:
        return z * _logistic(z, xp)

    def derivative(self, z: Array, xp: Namespace) -> Array:
        s = _logistic(z, xp)
        return s + z * s * (1 - s)

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        s = scratch(0)
        _logistic_into(z, s, xp)
        xp.multiply(z, s, out=out)

    def derivative_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        s = scratch(1)
        _logistic_into(z, s, xp)
        xp.multiply(z, s, out=out)
        xp.subtract(1, s, out=scratch(2))
        xp.multiply(out, scratch(2), out=out)
        xp.add(out, s, out=out)


class Softplus(_BuiltIn):
    """ln(1 + exp(z)), in a form that can not overflow."""

    name = "softplus"
    cuda = ("(z < REAL(0) ? REAL(0) : z) + log1p(exp(-fabs(z)))", "-expm1(-a)")

    def function(self, z: Array, xp: Namespace) -> Array:
        return _positive(z, xp) + xp.log1p(xp.exp(-xp.abs(z)))

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return -xp.expm1(-a)  # sigmoid(z) = 1 - exp(-a)

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        bend = scratch(0)
        xp.abs(z, out=bend)
        xp.negative(bend, out=bend)
        xp.exp(bend, out=bend)
        xp.log1p(bend, out=bend)
        xp.maximum(z, 0, out=out)
        xp.add(out, bend, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.negative(a, out=out)
        xp.expm1(out, out=out)
        xp.negative(out, out=out)


class HardSigmoid(_BuiltIn):
    """z/6 + 1/2, kept between 0 and 1; f' is 0 where it is either."""

    name = "hard_sigmoid"
    range = (0.0, 1.0)
    cuda = (
        "z < REAL(-3) ? REAL(0) : z > REAL(3) ? REAL(1) : z / REAL(6) + REAL(0.5)",
        "a > REAL(0) && a < REAL(1) ? REAL(1) / REAL(6) : a * (REAL(1) - a)",
    )

    def function(self, z: Array, xp: Namespace) -> Array:
        return at_least(at_most(z / 6 + 0.5, 1.0, xp), 0.0, xp)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return xp.sign(a * (1 - a)) / 6

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.divide(z, 6, out=out)
        xp.add(out, 0.5, out=out)
        xp.minimum(out, 1, out=out)
        xp.maximum(out, 0, out=out)

    def derivative_into(self, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.subtract(1, a, out=out)
        xp.multiply(out, a, out=out)
        xp.sign(out, out=out)
        xp.divide(out, 6, out=out)


#: A float32 holds exp of it, with room for sums and products with weights.
_EXP_END = 80.0


class Exp(_BuiltIn):
    """exp(z), for rates and other numbers above 0; from z = 80 on it is exp(80), so that it can not overflow."""

    name = "exp"
    cuda = (f"exp(z > REAL({_EXP_END!r}) ? REAL({_EXP_END!r}) : z)", "a")

    def function(self, z: Array, xp: Namespace) -> Array:
        return xp.exp(at_most(z, _EXP_END, xp))

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return a

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.minimum(z, _EXP_END, out=out)
        xp.exp(out, out=out)

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        xp.multiply(g, a, out=out)


class Linear(_BuiltIn):
    """The identity, a = z."""

    name = "linear"
    cuda = ("z", "REAL(1)")

    def function(self, z: Array, xp: Namespace) -> Array:
        return z

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return xp.ones_like(a)

    def apply_into(self, z: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        if out is not z:
            out[...] = z

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Scratch, xp: Namespace) -> None:
        if out is not g:
            out[...] = g


class Softmax(Activation):
    """exp(z_j) / sum_k exp(z_k) over a layer; shifted by the largest z, so that it can not overflow."""

    elementwise = False
    needs_z = False
    range = (0.0, 1.0)
    cuda = None  # a layer's softmax has kernels of its own

    def __init__(self) -> None:
        self.name = "softmax"

    def apply(self, z: Array, xp: Namespace) -> Array:
        e = xp.exp(z - xp.max(z, axis=0, keepdims=True))
        return e / xp.sum(e, axis=0, keepdims=True)

    def pull_back(self, g: Array, z: Array, a: Array, xp: Namespace) -> Array:
        """Return the product of g with the Jacobian da_j/dz_k = a_j (1[j = k] - a_k)."""
        return a * (g - xp.sum(g * a, axis=0, keepdims=True))


class Mixed(Activation):
    """One activation for a whole layer but for some of its neurons.

    Parameters
    ----------
    default : str or Activation
        The activation of all neurons that `neurons` does not name.
    neurons : mapping of int to str or Activation
        Neuron's index in the layer -> its activation.
    """

    name = "mixed"
    cuda = None

    def __init__(self, default: str | Activation, neurons: Mapping[int, str | Activation]) -> None:
        self.default = get(default)
        if not isinstance(neurons, Mapping) or not neurons:
            raise InputError(
                "mixed() needs at least one neuron with an activation of its own, such as {0: 'tanh'}; "
                f"got {neurons!r}."
            )
        self.neurons: dict[int, Activation] = {}
        for neuron, activation in neurons.items():
            if isinstance(neuron, bool) or not isinstance(neuron, numbers.Integral) or neuron < 0:
                raise InputError(
                    f"mixed activation: a neuron is named by its index from 0 in its layer, got {neuron!r}."
                )
            self.neurons[int(neuron)] = get(activation)
        for activation in self.parts:
            if not activation.elementwise or isinstance(activation, Mixed):
                raise InputError(
                    f"{activation.name} is computed over a whole layer and can not be one neuron's activation."
                )

    @property
    def parts(self) -> tuple[Activation, ...]:
        """The activations that occur in it."""
        return self.default, *self.neurons.values()

    @property
    def needs_z(self) -> bool:
        return any(f.needs_z for f in self.parts)

    def apply(self, z: Array, xp: Namespace) -> Array:
        a = self.default.apply(z, xp) * 1  # a copy: linear gives back z itself
        for j, f in self.neurons.items():
            a[j : j + 1, :] = f.apply(z[j : j + 1, :], xp)
        return a

    def pull_back(self, g: Array, z: Array, a: Array, xp: Namespace) -> Array:
        out = self.default.pull_back(g, z, a, xp)
        for j, f in self.neurons.items():
            row = slice(j, j + 1)
            out[row, :] = f.pull_back(g[row, :], z[row, :], a[row, :], xp)
        return out


def mixed(default: str | Activation, neurons: Mapping[int, str | Activation]) -> Mixed:
    """Return an activation that is `default` in a whole layer but for some neurons.

    This is the setting of the chapter's exercise "Backpropagation with a single modified neuron".

    Examples
    --------
    >>> mixed("sigmoid", {3: "tanh"}).neurons
    {3: <Activation tanh>}
    """
    return Mixed(default, neurons)


def is_built_in(activation: Activation) -> bool:
    """Whether its name, and its constants, say all about it."""
    return isinstance(activation, _BuiltIn | Softmax)


def _logistic(z: Array, xp: Namespace) -> Array:
    with np.errstate(over="ignore"):  # 1 / (1 + infinity) is 0
        return 1 / (1 + xp.exp(-z))


def _logistic_into(z: Array, out: Array, xp: Namespace) -> None:
    xp.negative(z, out=out)
    with np.errstate(over="ignore"):
        xp.exp(out, out=out)
    xp.add(out, 1, out=out)
    xp.divide(1, out, out=out)


# These let NaN through, so that it is noticed.


def at_least(x: Array, least: float, xp: Namespace) -> Array:
    """Return max(x, least)."""
    return xp.where(x < least, xp.full_like(x, least), x)


def at_most(x: Array, most: float, xp: Namespace) -> Array:
    """Return min(x, most)."""
    return xp.where(x > most, xp.full_like(x, most), x)


def _positive(x: Array, xp: Namespace) -> Array:
    return xp.where(x < 0, xp.zeros_like(x), x)


def _negative(x: Array, xp: Namespace) -> Array:
    return xp.where(x > 0, xp.zeros_like(x), x)


BUILT_IN: dict[str, Activation] = {
    f.name: f
    for f in (
        Sigmoid(),
        Tanh(),
        ReLU(),
        LeakyReLU(),
        ELU(),
        GELU(),
        SiLU(),
        Softplus(),
        HardSigmoid(),
        Exp(),
        Linear(),
        Softmax(),
    )
}

#: Those that have constants of their own, by name.
_WITH_PARAMETERS: dict[str, Callable[..., Activation]] = {"leaky_relu": LeakyReLU}


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name, or the one given."""
    if isinstance(activation, Activation):
        return activation
    return BUILT_IN[checks.one_of(activation, BUILT_IN, "activation")]


def to_json(activation: Activation) -> str | dict[str, Any]:
    """Return what a model file says of an activation: its name, and its constants if they are not the usual ones."""
    if isinstance(activation, Mixed):
        neurons = {str(j): to_json(f) for j, f in activation.neurons.items()}
        return {"default": to_json(activation.default), "neurons": neurons}
    if is_built_in(activation) and activation.parameters != BUILT_IN[activation.name].parameters:
        return {"name": activation.name, **activation.parameters}
    return activation.name


def from_json(spec: Any, custom: Mapping[str, Activation]) -> Activation:
    """Return the activation that `to_json` described; `custom` holds those that are not built in."""
    try:
        if isinstance(spec, Mapping) and "neurons" in spec:
            neurons = {_index(j): _one_from_json(part, custom) for j, part in spec["neurons"].items()}
            return Mixed(_one_from_json(spec["default"], custom), neurons)
        return _one_from_json(spec, custom)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{spec!r:.80} does not describe an activation.") from error


def _one_from_json(spec: Any, custom: Mapping[str, Activation]) -> Activation:
    if isinstance(spec, str):
        return custom[spec] if spec in custom else get(spec)
    constants = {**spec}
    return _WITH_PARAMETERS[constants.pop("name")](**constants)


def _index(text: str) -> int:
    """Return a neuron's index as a model file has it, or -1 for anything else."""
    number = int(text) if text.isdecimal() and len(text) < 10 else -1
    return number if str(number) == text else -1  # not 00, nor digits of other scripts
