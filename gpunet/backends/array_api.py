"""The generic backend: every verb in terms of the Array API standard alone."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.activations import Activation
from gpunet.backends.base import Array, Backend
from gpunet.costs import Cost
from gpunet.errors import DeviceError, InputError
from gpunet.optimizers import Optimizer, Penalty


class ArrayAPIBackend(Backend):
    """Any library with an Array API namespace whose arrays can be written to.

    Parameters
    ----------
    namespace : module
        ``array_api_strict``, ``torch``, ... A library that does not follow the standard by itself, such as
        PyTorch, is taken through `array-api-compat`.
    device : optional
        A device of that library; by default its own default.

    Raises
    ------
    InputError
        If `namespace` is no Array API namespace or its arrays are immutable.
    """

    def __init__(self, namespace: Any, device: Any = None) -> None:
        self.xp = _standard_namespace(namespace)
        try:
            probe = self.xp.zeros(2, dtype=self.xp.float32, device=device)
        except Exception as error:
            raise DeviceError(f"{namespace.__name__} can not use device {device!r}: {error}") from error
        try:
            probe[...] = 1.0
        except TypeError as error:
            raise InputError(
                f"the arrays of {namespace.__name__} can not be written to ({error}); gpunet updates weights in "
                "place. Use NumPy, CuPy, PyTorch or another library with mutable arrays."
            ) from error
        self._arguments = (namespace.__name__, device)
        self._array_type = type(probe)
        self._xp_device = probe.device
        self.device = str(probe.device)
        self.name = f"{namespace.__name__} on {self.device}"

    def __reduce__(self) -> Any:
        return _remake, self._arguments  # a module can not be pickled, its name can

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        if self.is_native(x):
            if x.device != self._xp_device:
                raise InputError(
                    f"got an array on {x.device}, but the network lives on {self.device}; copy it there first."
                )
            if getattr(x, "requires_grad", False):
                raise InputError("got a tensor that requires a gradient; pass tensor.detach().")
        else:
            x = np.ascontiguousarray(x, dtype=dtype)
            if not x.flags.writeable:
                x = x.copy()
        wanted = None if dtype is None else getattr(self.xp, str(np.dtype(dtype)))
        return self.xp.asarray(x, dtype=wanted, device=self._xp_device)

    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        try:
            return np.asarray(np.from_dlpack(x, device="cpu"))
        except (BufferError, RuntimeError, TypeError, ValueError, AttributeError):
            return np.asarray(np.from_dlpack(_on_cpu(x)))

    def is_native(self, x: Any) -> bool:
        return isinstance(x, self._array_type)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=self._xp_device)

    def copy(self, x: Array, out: Array) -> Array:
        out[...] = x
        return out

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        out[...] = self.xp.matmul(a, b)
        return out

    def activate(self, z: Array, b: Array, activation: Activation, out: Array) -> Array:
        z += b
        out[...] = activation.apply(z, self.xp)
        return out

    def output_error(
        self,
        cost: Cost,
        activation: Activation,
        z: Array,
        a: Array,
        y: Array,
        out: Array,
        total: Array | None = None,
    ) -> Array:
        out[...] = cost.output_error(activation, z, a, y, self.xp)
        if total is not None:
            total += self.xp.sum(cost.value(a, y, self.xp), dtype=total.dtype)
        return out

    def hadamard_prime(self, g: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        out[...] = activation.pull_back(g, z, a, self.xp)
        return out

    def sum_batch(self, delta: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        return self._accumulate(self.xp.sum(delta, axis=1, keepdims=True), out, alpha, beta)

    def outer_sum(self, delta: Array, a: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        return self._accumulate(self.xp.matmul(delta, a.T), out, alpha, beta)

    def outer_batch(self, delta: Array, a: Array, out: Array) -> Array:
        out[...] = delta.T[:, :, None] * a.T[:, None, :]
        return out

    def gather(self, x: Array, index: Array, out: Array, scale: float = 1.0) -> Array:
        rows = self.xp.astype(self.xp.take(x, index, axis=0), out.dtype)
        out[...] = (rows if scale == 1.0 else rows * scale).T
        return out

    def update(
        self, optimizer: Optimizer, w: Array, nabla: Array, states: Array, c: Array, penalty: Penalty, n_weights: int
    ) -> Array:
        weights, xp = w[:n_weights], self.xp
        if penalty.l2 or penalty.l1:
            nabla[:n_weights] += penalty.l2 * weights + penalty.l1 * xp.sign(weights)
        if penalty.decay:
            w[:n_weights] = weights - penalty.decay * weights
        rows = [states[i, :] for i in range(optimizer.states)]
        w[...], *new = optimizer.update(w, nabla, rows, c, self.xp)
        for row, value in zip(rows, new, strict=True):
            row[...] = value
        return w

    def hadamard(self, x: Array, y: Array, out: Array) -> Array:
        out[...] = x * y
        return out

    def weigh(
        self, cost: Cost, a: Array, y: Array, weights: Array, delta: Array, total: Array | None = None
    ) -> Array:
        xp = self.xp
        if total is not None:
            total[:1] += xp.sum(cost.value(a, y, xp) * weights[0, :], dtype=total.dtype)
        whole = xp.sum(weights)
        delta *= weights * (delta.shape[1] / xp.where(whole > 0, whole, xp.ones_like(whole)))
        return delta

    def clip(self, nabla: Array, most_value: float | None, most_norm: float | None) -> Array:
        xp = self.xp
        if most_value is not None:
            nabla[...] = xp.clip(nabla, -most_value, most_value)
        if most_norm is not None:
            factor = most_norm / (xp.sqrt(xp.sum(nabla * nabla)) + 1e-6)
            nabla *= xp.where(factor < 1, factor, xp.ones_like(factor))
        return nabla

    def add_squares(self, w: Array, total: Array, factor: float = 1.0) -> Array:
        total[:1] += factor * self.xp.sum(w * w, dtype=total.dtype)
        return total

    def limit_norms(self, w: Array, most: float) -> Array:
        xp = self.xp
        norms = xp.sqrt(xp.sum(w * w, axis=1, keepdims=True))
        w *= xp.where(norms > most, most / xp.where(norms > most, norms, xp.ones_like(norms)), xp.ones_like(norms))
        return w

    def count_right(self, a: Array, classes: Array, total: Array) -> Array:
        xp = self.xp
        found = xp.astype(a[0, :] > 0.5, xp.int64) if a.shape[0] == 1 else xp.argmax(a, axis=0)
        total += xp.sum(xp.astype(found == classes, xp.int64))
        return total

    @staticmethod
    def _accumulate(value: Array, out: Array, alpha: float, beta: float) -> Array:
        # beta = 0 must not read `out`: fresh memory may hold NaN, and 0 * NaN is NaN.
        out[...] = value * alpha if beta == 0.0 else value * alpha + out * beta
        return out


def _standard_namespace(namespace: Any) -> Any:
    if hasattr(namespace, "__array_namespace_info__"):
        return namespace
    try:
        import array_api_compat
    except ImportError:
        raise InputError(
            f"{getattr(namespace, '__name__', namespace)!s} is not an Array API namespace by itself; "
            "pip install 'gpunet[array-api]' lets gpunet use PyTorch and others through array-api-compat."
        ) from None
    try:
        return array_api_compat.array_namespace(namespace.empty(0))
    except (TypeError, AttributeError):
        raise InputError(
            f"{namespace!r} is not an array library that gpunet can use; pass 'cpu', 'cuda', or an Array API "
            "namespace such as array_api_strict or torch."
        ) from None


def _remake(namespace: str, device: Any) -> ArrayAPIBackend:
    return ArrayAPIBackend(importlib.import_module(namespace), device)


def _on_cpu(x: Array) -> Array:
    """Return `x` on its library's CPU device."""
    if hasattr(x, "to_device"):
        return x.to_device(x.__array_namespace__().__array_namespace_info__().default_device())
    import array_api_compat

    return array_api_compat.to_device(x, "cpu")
