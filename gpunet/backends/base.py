"""The verbs of a backend: all that the algorithm and its training ask of an array library.

A batch is a matrix whose columns are examples, (n, m), as in the book. Users hand in rows, (m, n); the
transpose of a C-ordered batch of rows is that matrix, without a copy, and BLAS takes it as it is.

Every verb that computes writes into `out` and returns it, so that a training step allocates nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.activations import Activation
from gpunet.backends.compiled import CompiledEngine
from gpunet.costs import Cost
from gpunet.errors import DeviceError
from gpunet.optimizers import Optimizer, Penalty

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
    #: Whether `capture` is worth a try.
    replays = False

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

    @abstractmethod
    def update(
        self, optimizer: Optimizer, w: Array, nabla: Array, states: Array, c: Array, penalty: Penalty, n_weights: int
    ) -> Array:
        """Let `optimizer` change the parameters w, (p,), and its `states`, (k, p), in place; nabla may change too.

        The gradient is nabla, (p,); the penalty is for the first `n_weights` parameters. `c` is an array of the
        optimizer's coefficients in w's dtype.
        """

    @abstractmethod
    def hadamard(self, x: Array, y: Array, out: Array) -> Array:
        """Out = x * y, entry by entry; `out` may be x."""

    @abstractmethod
    def weigh(
        self, cost: Cost, a: Array, y: Array, weights: Array, delta: Array, total: Array | None = None
    ) -> Array:
        """Multiply each column of delta, (n, m), with the example's share: m times its weight over the sum of all.

        weights are (1, m). With `total` (see `new_total`), the sum of weight * cost is added to it. Where all weights
        are 0, so are the shares.
        """

    @abstractmethod
    def clip(self, nabla: Array, most_value: float | None, most_norm: float | None) -> Array:
        """Limit a gradient, (p,), in place: each entry to +-most_value, then its Euclidean norm to most_norm.

        As PyTorch's `clip_grad_norm_`, the factor is most_norm / (norm + 1e-6) where that is below 1.
        """

    @abstractmethod
    def add_squares(self, w: Array, total: Array, factor: float = 1.0) -> Array:
        """Add factor * the sum of w's squares, w of shape (p,), to total (see `new_total`)."""

    @abstractmethod
    def limit_norms(self, w: Array, most: float) -> Array:
        """Shrink, in place, each row of w, (n_l, n_{l-1}), whose Euclidean norm is above `most` to that norm."""

    @abstractmethod
    def count_right(self, a: Array, classes: Array, total: Array) -> Array:
        """Add to total, (1,) int64, how many columns of a, (n, m), have their largest entry at `classes`, (m,) int64.

        Of equal entries the first is the largest, and NaN is larger than all. With a single row, class 1 is an entry
        above 1/2 and class 0 any other.
        """

    # -- Verbs that are made of the others. A backend may do each in one pass. -------------------------------------

    def layer_forward(self, w: Array, a: Array, b: Array, activation: Activation, z: Array, out: Array) -> Array:
        """Z = w a, then out = f(z + b) as `activate`: equation (25)."""
        self.matmul(w, a, out=z)
        return self.activate(z, b, activation, out=out)

    def layer_backward(self, w: Array, delta: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        """Out = w^T delta * f'(z): BP2. w and delta are those of the following layer."""
        self.matmul(w.T, delta, out=out)
        return self.hadamard_prime(out, activation, z, a, out=out)

    def layer_gradient(
        self,
        delta: Array,
        a: Array,
        nabla_b: Array,
        nabla_w: Array,
        alpha: float = 1.0,
        beta_b: float = 0.0,
        beta_w: float = 0.0,
    ) -> None:
        """Accumulate BP3 and BP4, as `sum_batch` and `outer_sum` do, into a layer's nabla_b and nabla_w."""
        self.sum_batch(delta, out=nabla_b, alpha=alpha, beta=beta_b)  # BP3
        self.outer_sum(delta, a, out=nabla_w, alpha=alpha, beta=beta_w)  # BP4

    # -- How a training runs on this backend -----------------------------------------------------------------------

    def capture(self, run: Callable[[], None]) -> Callable[[], None] | None:
        """Return a function that does what `run` does by one launch, if the device can replay it; else None.

        `run` calls verbs on arrays that stay where they are. It has run before, so that all it needs is there.
        """
        return None

    def compiled(
        self,
        sizes: Sequence[int],
        activations: Sequence[Activation],
        cost: Cost,
        dtype: str,
        optimizer: Optimizer,
        dropout: Sequence[float] = (),
    ) -> CompiledEngine:
        """Return a compiled loop over the steps of a training of this network.

        Raises
        ------
        DeviceError
            If there is none for it; the message tells the reason.
        """
        raise DeviceError(f"the compiled engine is for NumPy on the CPU, not for {self.name}")

    def stage(self, rows: int, columns: int, dtype: str) -> Stage:
        """Return a buffer through which so many rows at a time reach the device."""
        return Stage(self, rows, columns, dtype)

    def holds(self, nbytes: int) -> bool:
        """Whether so many bytes of data can lie on the device beside what a training needs."""
        return True


class Stage:
    """A buffer in the host's memory from which rows are sent to the device, again and again.

    Attributes
    ----------
    host : array, shape (rows, columns)
        To be filled after `wait`.
    """

    def __init__(self, ops: Backend, rows: int, columns: int, dtype: str) -> None:
        self._ops = ops
        self.host = np.empty((rows, columns), dtype=dtype)

    def wait(self) -> None:
        """Wait until `host` may be filled anew."""

    def send(self, m: int) -> Array:
        """Return an array on the device whose first m rows are those of `host`, for verbs called from now on."""
        return self._ops.asarray(self.host[:m])

    def release(self) -> None:
        """Say that no verb from now on reads what the last `send` returned."""
