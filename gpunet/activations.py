"""Activation functions f and their derivatives f'.

Every formula is written once, against an Array API namespace `xp`, so that NumPy, CuPy, PyTorch and the
rest compute the same thing. The `*_into` forms are the same formulas for namespaces whose functions take
`out=` (NumPy, CuPy); they allocate nothing. `cuda` has them once more as CUDA C++ expressions, which the kernels in
`kernels/cuda/` are compiled with.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal

from gpunet import checks
from gpunet.errors import InputError

Array = Any
Namespace = Any


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
        if not isinstance(self, _BuiltIn) and name in (*BUILT_IN, Mixed.name):
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
        return f"<Activation {self.name}>"

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

    def apply_into(self, z: Array, out: Array, xp: Namespace) -> None:
        """Write f(z) into `out`, which may be z itself."""
        out[...] = self.apply(z, xp)

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Array, xp: Namespace) -> None:
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
    """A built-in elementwise activation: f' comes from a, and there are in-place forms."""

    cuda_function: str
    cuda_derivative: str

    def __init__(self) -> None:
        cuda = (self.cuda_function, self.cuda_derivative)
        super().__init__(type(self).__name__.lower(), self.function, self.derivative, derivative_of="a", cuda=cuda)

    def function(self, z: Array, xp: Namespace) -> Array:
        raise NotImplementedError

    def derivative(self, a: Array, xp: Namespace) -> Array:
        raise NotImplementedError

    def derivative_into(self, a: Array, out: Array, xp: Namespace) -> None:
        raise NotImplementedError

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Array, xp: Namespace) -> None:
        self.derivative_into(a, scratch, xp)
        xp.multiply(g, scratch, out=out)


class Sigmoid(_BuiltIn):
    """The logistic function 1 / (1 + exp(-z)), in the form that can not overflow."""

    range = (0.0, 1.0)
    cuda_function = "REAL(0.5) * tanh(REAL(0.5) * z) + REAL(0.5)"
    cuda_derivative = "a * (REAL(1) - a)"

    def function(self, z: Array, xp: Namespace) -> Array:
        return 0.5 * xp.tanh(0.5 * z) + 0.5

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return a * (1 - a)

    def apply_into(self, z: Array, out: Array, xp: Namespace) -> None:
        xp.multiply(z, 0.5, out=out)
        xp.tanh(out, out=out)
        xp.multiply(out, 0.5, out=out)
        xp.add(out, 0.5, out=out)

    def derivative_into(self, a: Array, out: Array, xp: Namespace) -> None:
        xp.subtract(1, a, out=out)
        xp.multiply(out, a, out=out)


class Tanh(_BuiltIn):
    """The hyperbolic tangent."""

    cuda_function = "tanh(z)"
    cuda_derivative = "REAL(1) - a * a"

    def function(self, z: Array, xp: Namespace) -> Array:
        return xp.tanh(z)

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return 1 - a * a

    def apply_into(self, z: Array, out: Array, xp: Namespace) -> None:
        xp.tanh(z, out=out)

    def derivative_into(self, a: Array, out: Array, xp: Namespace) -> None:
        xp.multiply(a, a, out=out)
        xp.subtract(1, out, out=out)


class ReLU(_BuiltIn):
    """The rectified linear unit max(0, z), with f'(0) = 0."""

    cuda_function = "z < REAL(0) ? REAL(0) : z"
    cuda_derivative = "a > REAL(0) ? REAL(1) : a"

    def function(self, z: Array, xp: Namespace) -> Array:
        return xp.where(z < 0, xp.zeros_like(z), z)  # lets NaN through, so that it is noticed

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return xp.sign(a)  # a = max(0, z), so its sign is 0 or 1

    def apply_into(self, z: Array, out: Array, xp: Namespace) -> None:
        xp.maximum(z, 0, out=out)

    def derivative_into(self, a: Array, out: Array, xp: Namespace) -> None:
        xp.sign(a, out=out)


class Linear(_BuiltIn):
    """The identity, a = z."""

    cuda_function = "z"
    cuda_derivative = "REAL(1)"

    def function(self, z: Array, xp: Namespace) -> Array:
        return z

    def derivative(self, a: Array, xp: Namespace) -> Array:
        return xp.ones_like(a)

    def apply_into(self, z: Array, out: Array, xp: Namespace) -> None:
        if out is not z:
            out[...] = z

    def pull_back_into(self, g: Array, z: Array, a: Array, out: Array, scratch: Array, xp: Namespace) -> None:
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
        for activation in (self.default, *self.neurons.values()):
            if not activation.elementwise or isinstance(activation, Mixed):
                raise InputError(
                    f"{activation.name} is computed over a whole layer and can not be one neuron's activation."
                )

    @property
    def needs_z(self) -> bool:
        return any(f.needs_z for f in (self.default, *self.neurons.values()))

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


BUILT_IN: dict[str, Activation] = {f.name: f for f in (Sigmoid(), Tanh(), ReLU(), Linear(), Softmax())}


def get(activation: str | Activation) -> Activation:
    """Return the activation of that name, or the one given."""
    if isinstance(activation, Activation):
        return activation
    return BUILT_IN[checks.one_of(activation, BUILT_IN, "activation")]


def to_json(activation: Activation) -> str | dict[str, Any]:
    """Return what a model file says of an activation."""
    if isinstance(activation, Mixed):
        neurons = {str(j): to_json(f) for j, f in activation.neurons.items()}
        return {"default": to_json(activation.default), "neurons": neurons}
    return activation.name


def from_json(spec: Any, custom: Mapping[str, Activation]) -> Activation:
    """Return the activation that `to_json` described; `custom` holds those that are not built in."""
    if isinstance(spec, str):
        return custom[spec] if spec in custom else get(spec)
    try:
        neurons = {_index(j): from_json(str(name), custom) for j, name in spec["neurons"].items()}
        return Mixed(from_json(str(spec["default"]), custom), neurons)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{spec!r:.80} does not describe an activation.") from error


def _index(text: str) -> int:
    """Return a neuron's index as a model file has it, or -1 for anything else."""
    number = int(text) if text.isdecimal() and len(text) < 10 else -1
    return number if str(number) == text else -1  # not 00, nor digits of other scripts
