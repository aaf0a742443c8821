"""The CuPy backend: one CUDA device. The only file that knows CuPy, which it imports when a device is opened."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.activations import BUILT_IN, Activation, Softmax
from gpunet.backends.base import Array, Stage
from gpunet.backends.cupy_kernels import (
    COST_BLOCKS,
    Kernels,
    Variant,
    launch_dots,
    launch_elements,
    launch_singly,
    launch_tiles,
    launch_warps,
    per_thread,
)
from gpunet.backends.cupy_stage import PinnedStage
from gpunet.backends.in_place import InPlaceBackend
from gpunet.costs import Cost, LogLikelihood
from gpunet.errors import DeviceError, InputError
from gpunet.kernels import cuda_source
from gpunet.optimizers import Optimizer, Penalty

logger = logging.getLogger("gpunet")

INSTALL_HINT = "pip install 'gpunet[cuda13]' (or 'gpunet[cuda12]' for an older driver)"


#: The kernels index with 32 bits, and their strides must not overflow.
_MOST_ELEMENTS = 2**30
#: Products of at most so many multiplications are our own kernels', larger ones cuBLAS's. A small product's time is
#: that of its launch, which a replayed step saves; cuBLAS can not be captured through CuPy. To be measured.
_OWN_PRODUCT = 2**27
#: Outputs of a layer up to which a block for each of them is better than tiles. To be measured.
_FEW_OUTPUTS = 2**14
#: A grid of tiles has no more rows: examples, or the neurons of a gradient.
_MOST_ROWS = 2**20
#: The share of the free memory that a training's data may take.
_SHARE_FOR_DATA = 0.8


class DeviceFullError(DeviceError):
    """The device has no free memory just now."""


class _NotReplayableError(RuntimeError):
    """Something in a step is not one of our own kernels."""


class CuPyBackend(InPlaceBackend):
    """CuPy on one CUDA device.

    Parameters
    ----------
    ordinal : int
        The device's number, as CUDA counts.

    Raises
    ------
    DeviceError
        If the device can not be used. The message tells the reason; `__cause__` is the original error.
    """

    total_slots = COST_BLOCKS
    replays = True

    def __init__(self, ordinal: int = 0) -> None:
        cupy = _import_cupy()
        try:
            _check_device_exists(cupy, ordinal)
            self._device = cupy.cuda.Device(ordinal)
            from cupy import cublas

            with self._device:
                _run_probe(cupy, cublas.gemm, f"cuda:{ordinal}")
                card = cupy.cuda.runtime.getDeviceProperties(ordinal)["name"].decode()
        except DeviceError:
            raise
        except Exception as error:  # half an installation, a missing library, a driver that gives up, ...
            raise DeviceError(f"CuPy is installed but does not work: {error}") from error
        super().__init__(cupy, f"cuda:{ordinal}")
        self.name = f"cupy on {self.device} ({card})"
        self._cublas_gemm = cublas.gemm
        self._kernels = Kernels(cupy)

    def __reduce__(self) -> Any:
        return CuPyBackend, (self._device.id,)

    def active(self) -> AbstractContextManager[Any]:
        return self._device  # type: ignore[no-any-return]

    def asarray(self, x: Any, dtype: Any = None) -> Array:
        if self.is_native(x) and x.device.id != self._device.id:
            raise InputError(
                f"got an array on cuda:{x.device.id}, but the network lives on {self.device}; copy it there "
                f"first, or choose device='cuda:{x.device.id}'."
            )
        return self.xp.ascontiguousarray(self.xp.asarray(x, dtype=dtype))

    def to_numpy(self, x: Array) -> npt.NDArray[Any]:
        self._not_replayable("the host reads numbers of the device")
        return self.xp.asnumpy(x)  # type: ignore[no-any-return]

    def take_rows(self, x: Array, index: Array, out: Array) -> Array:
        return self.xp.take(x, index, axis=0, out=out)

    def gemm(self, a: Array, b: Array, out: Array, alpha: float, beta: float) -> Array:
        self._not_replayable("its products are large enough for cuBLAS")
        # CuPy turns C-ordered operands into cuBLAS's transposes itself, and writes to either order in place.
        return self._cublas_gemm("N", "N", a, b, out=out, alpha=alpha, beta=beta)

    # The kernels take columns as the algorithm has them, (n, m) in Fortran order. Whatever else comes (another
    # order, an activation without CUDA expressions) goes the way of CuPy's own functions.

    def activate(self, z: Array, b: Array, activation: Activation, out: Array) -> Array:
        if not (self._has_kernel(activation) and self._are_columns(z, b, out)):
            return super().activate(z, b, activation, out)
        n, m = np.int32(z.shape[0]), np.int32(z.shape[1])
        if isinstance(activation, Softmax):
            launch_warps(self._kernels.get("softmax", z.dtype), z.shape[1], (z, b, out, n, m))
        else:
            kernel = self._kernels.get("activate", z.dtype, Variant(activation))
            launch_elements(kernel, z.size, (z, b, out, n, np.int32(z.size)))
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
        slots = self._kernels.no_total() if total is None else total
        s = z if activation.needs_z else a
        if not self._are_columns(a, y, s, out):
            pass
        elif isinstance(cost, LogLikelihood) and isinstance(activation, Softmax):
            kernel = self._kernels.get("softmax_error", a.dtype, Variant(cost=cost))
            sizes = np.int32(a.shape[0]), np.int32(a.shape[1])
            launch_warps(kernel, a.shape[1], (a, y, out, slots, *sizes), COST_BLOCKS)
            return out
        elif cost.cuda is not None and cost.cuda_delta(activation) is not None:
            kernel = self._kernels.get("output_error", a.dtype, Variant(activation, cost))
            launch_elements(kernel, a.size, (a, y, s, out, slots, np.int32(a.size)), COST_BLOCKS)
            return out
        self._not_replayable(f"cost {cost.name!r} has no kernel with activation {activation.name!r}")
        return super().output_error(cost, activation, z, a, y, out, None if total is None else total[:1])

    def hadamard_prime(self, g: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        s = z if activation.needs_z else a
        if not (self._has_kernel(activation) and self._are_columns(g, s, out)):
            return super().hadamard_prime(g, activation, z, a, out)
        if isinstance(activation, Softmax):
            kernel = self._kernels.get("softmax_prime", a.dtype)
            launch_warps(kernel, a.shape[1], (g, a, out, np.int32(a.shape[0]), np.int32(a.shape[1])))
        else:
            kernel = self._kernels.get("hadamard_prime", a.dtype, Variant(activation))
            launch_elements(kernel, a.size, (g, s, out, np.int32(a.size)))
        return out

    def outer_batch(self, delta: Array, a: Array, out: Array) -> Array:
        if not self._are_columns(delta, a) or not out.flags.c_contiguous or out.dtype != delta.dtype:
            return super().outer_batch(delta, a, out)
        J, K, rows = np.int32(delta.shape[0]), np.int32(a.shape[0]), np.int32(delta.size)
        launch_warps(self._kernels.get("outer_batch", out.dtype), delta.size, (delta, a, out, J, K, rows))
        return out

    def add_squares(self, w: Array, total: Array, factor: float = 1.0) -> Array:
        kernel = self._kernels.get("add_squares", w.dtype)
        launch_elements(kernel, w.size, (w, total, np.float64(factor), np.int64(w.size)), COST_BLOCKS)
        return total

    def gather(self, x: Array, index: Array, out: Array, scale: float = 1.0) -> Array:
        of_types = x.dtype in (out.dtype, np.uint8) and index.dtype == np.int64
        if not (of_types and self._are_columns(out) and x.flags.c_contiguous and index.flags.c_contiguous):
            self._not_replayable(f"inputs of dtype {x.dtype} have no kernel")
            return super().gather(x, index, out, scale)
        kernel = self._kernels.get("gather", out.dtype, Variant(source_dtype=x.dtype.name))
        arguments = (x, index, out, out.dtype.type(scale), np.int32(out.shape[0]), np.int32(out.size))
        launch_elements(kernel, out.size, arguments)
        return out

    def update(
        self, optimizer: Optimizer, w: Array, nabla: Array, states: Array, c: Array, penalty: Penalty, n_weights: int
    ) -> Array:
        kernel = self._kernels.get("update", w.dtype, Variant(optimizer=optimizer))
        numbers = *map(w.dtype.type, penalty), np.int64(n_weights), np.int64(w.size)
        launch_singly(kernel, w.size, (w, nabla, states, c, *numbers))
        return w

    # What follows has no kernel of its own.

    def hadamard(self, x: Array, y: Array, out: Array) -> Array:
        self._not_replayable("the masks of dropout come from the host")
        return super().hadamard(x, y, out)

    def weigh(
        self, cost: Cost, a: Array, y: Array, weights: Array, delta: Array, total: Array | None = None
    ) -> Array:
        self._not_replayable("weights of examples have no kernel")
        return super().weigh(cost, a, y, weights, delta, total)

    def clip(self, nabla: Array, most_value: float | None, most_norm: float | None) -> Array:
        self._not_replayable("clipping has no kernel")
        return super().clip(nabla, most_value, most_norm)

    def limit_norms(self, w: Array, most: float) -> Array:
        self._not_replayable("a limit of norms has no kernel")
        return super().limit_norms(w, most)

    def count_right(self, a: Array, classes: Array, total: Array) -> Array:
        if not self._are_columns(a):
            return super().count_right(a, classes, total)
        n, m = np.int32(a.shape[0]), np.int32(a.shape[1])
        launch_warps(self._kernels.get("count_right", a.dtype), a.shape[1], (a, classes, total, n, m))
        return total

    # A whole layer in one kernel, where its product is small enough for ours.

    def layer_forward(self, w: Array, a: Array, b: Array, activation: Activation, z: Array, out: Array) -> Array:
        if not (self._has_kernel(activation) and self._is_own_product(w, a, z, out)):
            return super().layer_forward(w, a, b, activation, z, out)
        softmax = isinstance(activation, Softmax)  # comes after the product, and adds the biases itself
        f = BUILT_IN["linear"] if softmax else activation
        (J, S), I = w.shape, a.shape[1]
        arguments = (w, a, b, z, z if softmax else out, np.int32(I), np.int32(J), np.int32(S))
        if I * J <= _FEW_OUTPUTS:
            kernel = self._kernels.get("layer_forward_dot", w.dtype, Variant(f, bias=not softmax))
            launch_dots(kernel, J, I, arguments)
        else:
            r = per_thread(I, J)
            kernel = self._kernels.get("layer_forward", w.dtype, Variant(f, per_thread=r, bias=not softmax))
            launch_tiles(kernel, I, J, r, arguments)
        return self.activate(z, b, activation, out) if softmax else out

    def layer_backward(self, w: Array, delta: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        v = z if activation.needs_z else a
        if not (self._has_kernel(activation) and self._is_own_product(w, delta, v, out)):
            return super().layer_backward(w, delta, activation, z, a, out)
        softmax = isinstance(activation, Softmax)
        (S, J), I = w.shape, delta.shape[1]
        r = per_thread(I, J)
        f = BUILT_IN["linear"] if softmax else activation
        kernel = self._kernels.get("layer_backward", w.dtype, Variant(f, per_thread=r))
        launch_tiles(kernel, I, J, r, (w, delta, v, out, np.int32(I), np.int32(J), np.int32(S)))
        return self.hadamard_prime(out, activation, z, a, out) if softmax else out

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
        if not self._is_own_product(nabla_w, delta, a):
            super().layer_gradient(delta, a, nabla_b, nabla_w, alpha, beta_b, beta_w)
            return
        I, J, S = delta.shape[0], a.shape[0] + 1, a.shape[1]
        r = per_thread(I, J)
        real = nabla_w.dtype.type
        numbers = real(alpha), real(beta_b), real(beta_w), np.int32(I), np.int32(J), np.int32(S)
        kernel = self._kernels.get("layer_gradient", nabla_w.dtype, Variant(per_thread=r))
        launch_tiles(kernel, I, J, r, (delta, a, nabla_b, nabla_w, *numbers))

    def _has_kernel(self, activation: Activation) -> bool:
        """Whether the activation can be part of a kernel."""
        if activation.cuda or isinstance(activation, Softmax):
            return True
        self._not_replayable(f"activation {activation.name!r} has no kernel")
        return False

    def _is_own_product(self, w: Array, *columns: Array) -> bool:
        """Whether a product with a matrix of w's shape is small, and all have the layout that the kernels take."""
        m = columns[0].shape[1]
        small = w.size * m <= _OWN_PRODUCT and max(m, w.shape[0]) <= _MOST_ROWS
        return small and w.flags.c_contiguous and w.dtype == columns[0].dtype and self._are_columns(*columns)

    # -- How a training runs ---------------------------------------------------------------------------------------

    def capture(self, run: Callable[[], None]) -> Callable[[], None] | None:
        stream = self.xp.cuda.Stream(non_blocking=True)  # it only records; the launches are on the current one
        self._memory.capturing = True
        try:
            with stream:
                stream.begin_capture()
                try:
                    run()
                finally:
                    graph = stream.end_capture()
        except RuntimeError as error:  # CUDA's errors and NotImplementedError among them
            logger.info("gpunet: steps are launched one by one, because %s", error)
            return None
        finally:
            self._memory.capturing = False
        return graph.launch  # type: ignore[no-any-return]

    def _not_replayable(self, reason: str) -> None:
        """Refuse, in a capture, what is not a kernel of our own: memory that CuPy takes would be gone at a replay."""
        if self._memory.capturing:
            raise _NotReplayableError(reason)

    def stage(self, rows: int, columns: int, dtype: str) -> Stage:
        return PinnedStage(self, rows, columns, dtype)

    def holds(self, nbytes: int) -> bool:
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return bool(nbytes <= _SHARE_FOR_DATA * (free + self.xp.get_default_memory_pool().free_bytes()))

    @staticmethod
    def _are_columns(*arrays: Array) -> bool:
        """Whether the kernels can take these: Fortran order, one type, few enough elements for 32-bit indices."""
        dtype = arrays[0].dtype
        return all(x.flags.f_contiguous and x.dtype == dtype and x.size <= _MOST_ELEMENTS for x in arrays)


def _import_cupy() -> Any:
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise DeviceError(f"CuPy is not installed: {INSTALL_HINT}") from error
        raise DeviceError(f"CuPy is installed but can not be imported: {error}") from error
    except Exception as error:  # a broken install fails in any way: ImportError, OSError, RuntimeError, ...
        raise DeviceError(f"CuPy is installed but can not be imported: {error}") from error
    return cupy


#: Set in a process that was forked from one in which CUDA had been used.
_forked = threading.Event()


@functools.cache
def _watch_forks() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked.set)


def _check_device_exists(cupy: Any, ordinal: int) -> None:
    if _forked.is_set():
        raise DeviceError(
            "this process was forked from one that had used CUDA, which CUDA forbids; start processes by "
            "'forkserver' or 'spawn', or with joblib's 'loky'"
        )
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(f"no usable CUDA driver or device: {error}") from error
    if count == 0:
        raise DeviceError("CuPy sees no CUDA device; check nvidia-smi and CUDA_VISIBLE_DEVICES")
    _watch_forks()
    if ordinal >= count:
        raise DeviceError(f"there is no device cuda:{ordinal}: CuPy sees {count}, the last is cuda:{count - 1}")


def _run_probe(cupy: Any, gemm: Any, device: str) -> None:
    """Compile and run a real kernel and a matrix product: counting devices does not show that one works."""
    n = 33
    host = np.arange(n, dtype=np.float32)
    try:
        kernel = cupy.RawKernel(cuda_source("probe"), "probe")
        x, y = cupy.asarray(host), cupy.asarray(host)
        kernel((2,), (32,), (np.float32(2.0), x, y, np.int32(n)))
        product = gemm("N", "N", x[:, None], y[None, :], out=cupy.empty((n, n), dtype="float32"))
        results = cupy.asnumpy(y), cupy.asnumpy(product)
    except cupy.cuda.compiler.CompileException as error:
        raise DeviceError(f"{device} is there, but a kernel does not compile: {error}") from error
    except cupy.cuda.memory.OutOfMemoryError as error:
        raise DeviceFullError(f"{device} is there, but has no free memory: {error}") from error
    except Exception as error:  # driver and toolkit errors come as many types
        raise DeviceError(f"{device} is there, but a kernel does not run: {error}") from error
    if not all(
        np.array_equal(got, right) for got, right in zip(results, (3 * host, np.outer(host, 3 * host)), strict=True)
    ):
        raise DeviceError(f"{device} is there, but a test kernel gave a wrong result")
