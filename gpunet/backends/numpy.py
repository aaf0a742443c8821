"""The NumPy backend: matrix products and updates by SciPy's BLAS, in place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg.blas import dgemm, sgemm

from gpunet.activations import Activation
from gpunet.backends import blas, compiled
from gpunet.backends.base import Array
from gpunet.backends.compiled import CompiledEngine
from gpunet.backends.in_place import InPlaceBackend
from gpunet.costs import Cost
from gpunet.errors import DeviceError, InputError
from gpunet.optimizers import Optimizer

_GEMM = {np.dtype(np.float32): sgemm, np.dtype(np.float64): dgemm}


class NumPyBackend(InPlaceBackend):
    """NumPy on the CPU."""

    def __init__(self) -> None:
        super().__init__(np, "cpu")

    def __reduce__(self) -> Any:
        return NumPyBackend, ()

    @property
    def most_threads(self) -> int:
        return blas.scipy_pool().most_threads()

    def threads(self, count: int) -> AbstractContextManager[Any]:
        return blas.scipy_pool().limit(count)

    def compiled(
        self,
        sizes: Sequence[int],
        activations: Sequence[Activation],
        cost: Cost,
        dtype: str,
        optimizer: Optimizer,
        dropout: Sequence[float] = (),
    ) -> CompiledEngine:
        reason = compiled.why_not_compiled() or compiled.why_unsupported(activations, cost, optimizer)
        if reason is not None:
            raise DeviceError(f"{reason}.")
        return CompiledEngine(
            sizes, [f.name for f in activations], cost.name, dtype, floor=cost.floor, dropout=dropout
        )

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        try:
            array = np.ascontiguousarray(x, dtype=dtype)
        except TypeError as error:  # a CuPy array, or a tensor on a GPU
            raise InputError(
                f"got a {type(x).__module__}.{type(x).__name__}, which is not in the CPU's memory ({error}); "
                "move it there first, or choose its device with device=."
            ) from error
        return array if array.flags.aligned else array.copy()  # compiled code relies on it

    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        return np.asarray(x)

    def take_rows(self, x: Array, index: Array, out: Array) -> Array:
        # mode="clip" takes straight into `out`; "raise" would take into a copy of it first.
        return x.take(index, 0, out, "clip")

    def gemm(self, a: Array, b: Array, out: Array, alpha: float, beta: float) -> Array:
        if out.flags.f_contiguous:
            c = out
        else:  # BLAS writes column by column: compute the transpose, out^T = b^T a^T
            c, a, b = out.T, b.T, a.T
        transpose_a, transpose_b = not a.flags.f_contiguous, not b.flags.f_contiguous
        result = _GEMM[c.dtype](
            alpha,
            a.T if transpose_a else a,
            b.T if transpose_b else b,
            beta,
            c,
            transpose_a,
            transpose_b,
            True,  # overwrite c; by position, as keywords would double the cost of a small call
        )
        if result is not c:  # the layout was none that BLAS can write to
            c[...] = result
        return out
