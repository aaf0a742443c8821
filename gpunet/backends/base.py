"""The verbs of a backend: all that the algorithm asks of an array library.

A batch is a matrix whose columns are examples, (n, m), as in the book. Users hand in rows, (m, n); the
transpose of a C-ordered batch of rows is that matrix, without a copy, and BLAS takes it as it is.

Every verb that computes writes into `out` and returns it, so that a training step allocates nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.activations import Activation
from gpunet.costs import Cost

#: An array of the backend's own library.
Array = Any


class Backend(ABC):
    """One array library on one device."""

    #: What `show_config` and a training's history call it, such as "numpy on cpu".
    name: str
    #: The device as a user names it: "cpu", "cuda:0", ...
    device: str
    #: The Array API namespace of its arrays.
    xp: Any
    #: Into how many numbers `output_error` may spread the cost that it adds up.
    total_slots = 1

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def active(self) -> AbstractContextManager[Any]:
        """Return the context in which the verbs are called: it makes the device the current one."""
        return nullcontext()

    @property
    def most_threads(self) -> int:
        """How many of the CPU's threads may share a step; 1 where it is not for gpunet to say."""
        return 1

    def threads(self, count: int) -> AbstractContextManager[Any]:
        """Return a context in which the verbs are spread over so many of the CPU's threads."""
        return nullcontext()

    @abstractmethod
    def asarray(self, x: Any, dtype: Any = None) -> Array:
        """Return host data `x` (or an array of this backend) as a C-ordered array on the device.

        With `to_numpy`, the only place where data crosses between host and device.
        """

    @abstractmethod
    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        """Return the array in the host's memory; it may share memory with `x`."""

    @abstractmethod
    def is_native(self, x: Any) -> bool:
        """Whether `x` is already an array of this backend's library."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Return an uninitialised C-ordered array on the device."""

    def new_total(self) -> Array:
        """Return `total_slots` float64 zeros, whose sum `output_error` adds costs to."""
        return self.asarray(np.zeros(self.total_slots))

    @abstractmethod
    def copy(self, x: Array, out: Array) -> Array:
        """Out = x."""

    @abstractmethod
    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        """Out = a b, the matrix product."""

    @abstractmethod
    def activate(self, z: Array, b: Array, activation: Activation, out: Array) -> Array:
        """Out = f(z + b), equation (25); z becomes z + b unless `out` is z.

        z and out are (n, m), b is (n, 1) and belongs to every column.
        """

    @abstractmethod
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
        """Out = dC/da * f'(z), BP1. With `total` (see `new_total`), the batch's cost is added to it."""

    @abstractmethod
    def hadamard_prime(self, g: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        """Out = g * f'(z), the Hadamard product of BP2; `out` may be g."""

    @abstractmethod
    def sum_batch(self, delta: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        """Out = alpha * (sum of delta's columns) + beta * out, BP3 over a batch; (n, m) -> (n, 1)."""

    @abstractmethod
    def outer_sum(self, delta: Array, a: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        """Out = alpha * delta a^T + beta * out, BP4 summed over a batch; (j, m), (k, m) -> (j, k)."""

    @abstractmethod
    def outer_batch(self, delta: Array, a: Array, out: Array) -> Array:
        """out[i] = the outer product of column i of delta with column i of a, BP4 per example; (m, j, k)."""

    @abstractmethod
    def gather(self, x: Array, index: Array, out: Array, scale: float = 1.0) -> Array:
        """Column i of out = scale * row index[i] of x; x is (N, n) in its own dtype, out is (n, m).

        `index` is an integer array of the backend whose entries are all in range.
        """
