"""The CuPy backend: one CUDA device. The only file that knows CuPy, which it imports when a device is opened."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.backends.base import Array
from gpunet.backends.in_place import InPlaceBackend
from gpunet.errors import DeviceError, InputError
from gpunet.kernels import cuda_source

INSTALL_HINT = "pip install 'gpunet[cuda13]' (or 'gpunet[cuda12]' for an older driver)"


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
