"""The CuPy backend: one CUDA device. The only file that knows CuPy, which it imports when a device is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.activations import Activation, Softmax
from gpunet.backends.base import Array
from gpunet.backends.cupy_kernels import COST_BLOCKS, Kernels, launch_elements, launch_warps
from gpunet.backends.in_place import InPlaceBackend
from gpunet.costs import Cost, LogLikelihood
from gpunet.errors import DeviceError, InputError
from gpunet.kernels import cuda_source

INSTALL_HINT = "pip install 'gpunet[cuda13]' (or 'gpunet[cuda12]' for an older driver)"


#: The kernels index with 32 bits, and their strides must not overflow.
_MOST_ELEMENTS = 2**30


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
        return self.xp.asnumpy(x)  # type: ignore[no-any-return]

    def take_rows(self, x: Array, index: Array, out: Array) -> Array:
        return self.xp.take(x, index, axis=0, out=out)

    def gemm(self, a: Array, b: Array, out: Array, alpha: float, beta: float) -> Array:
        # CuPy turns C-ordered operands into cuBLAS's transposes itself, and writes to either order in place.
        return self._cublas_gemm("N", "N", a, b, out=out, alpha=alpha, beta=beta)

    # The kernels take columns as the algorithm has them, (n, m) in Fortran order. Whatever else comes (another
    # order, an activation without CUDA expressions) goes the way of CuPy's own functions.

    def activate(self, z: Array, b: Array, activation: Activation, out: Array) -> Array:
        if not self._are_columns(z, b, out) or not (activation.cuda or isinstance(activation, Softmax)):
            return super().activate(z, b, activation, out)
        n, m = np.int32(z.shape[0]), np.int32(z.shape[1])
        if isinstance(activation, Softmax):
            launch_warps(self._kernels.get("softmax", z.dtype), z.shape[1], (z, b, out, n, m))
        else:
            kernel = self._kernels.get("activate", z.dtype, activation)
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
            kernel = self._kernels.get("softmax_error", a.dtype)
            sizes = np.int32(a.shape[0]), np.int32(a.shape[1])
            launch_warps(kernel, a.shape[1], (a, y, out, slots, *sizes), COST_BLOCKS)
            return out
        elif cost.cuda is not None and cost.cuda_delta(activation) is not None:
            kernel = self._kernels.get("output_error", a.dtype, activation, cost)
            launch_elements(kernel, a.size, (a, y, s, out, slots, np.int32(a.size)), COST_BLOCKS)
            return out
        return super().output_error(cost, activation, z, a, y, out, None if total is None else total[:1])

    def hadamard_prime(self, g: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        s = z if activation.needs_z else a
        if not self._are_columns(g, s, out) or not (activation.cuda or isinstance(activation, Softmax)):
            return super().hadamard_prime(g, activation, z, a, out)
        if isinstance(activation, Softmax):
            kernel = self._kernels.get("softmax_prime", a.dtype)
            launch_warps(kernel, a.shape[1], (g, a, out, np.int32(a.shape[0]), np.int32(a.shape[1])))
        else:
            kernel = self._kernels.get("hadamard_prime", a.dtype, activation)
            launch_elements(kernel, a.size, (g, s, out, np.int32(a.size)))
        return out

    def outer_batch(self, delta: Array, a: Array, out: Array) -> Array:
        if not self._are_columns(delta, a) or not out.flags.c_contiguous or out.dtype != delta.dtype:
            return super().outer_batch(delta, a, out)
        J, K, rows = np.int32(delta.shape[0]), np.int32(a.shape[0]), np.int32(delta.size)
        launch_warps(self._kernels.get("outer_batch", out.dtype), delta.size, (delta, a, out, J, K, rows))
        return out

    def gather(self, x: Array, index: Array, out: Array, scale: float = 1.0) -> Array:
        of_types = x.dtype in (out.dtype, np.uint8) and index.dtype == np.int64
        if not (of_types and self._are_columns(out) and x.flags.c_contiguous and index.flags.c_contiguous):
            return super().gather(x, index, out, scale)
        kernel = self._kernels.get("gather", out.dtype, source_dtype=x.dtype)
        arguments = (x, index, out, out.dtype.type(scale), np.int32(out.shape[0]), np.int32(out.size))
        launch_elements(kernel, out.size, arguments)
        return out

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


def _check_device_exists(cupy: Any, ordinal: int) -> None:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise DeviceError(f"no usable CUDA driver or device: {error}") from error
    if count == 0:
        raise DeviceError("CuPy sees no CUDA device; check nvidia-smi and CUDA_VISIBLE_DEVICES")
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
        raise DeviceError(f"{device} is there, but has no free memory: {error}") from error
    except Exception as error:  # driver and toolkit errors come as many types
        raise DeviceError(f"{device} is there, but a kernel does not run: {error}") from error
    if not all(
        np.array_equal(got, right) for got, right in zip(results, (3 * host, np.outer(host, 3 * host)), strict=True)
    ):
        raise DeviceError(f"{device} is there, but a test kernel gave a wrong result")
