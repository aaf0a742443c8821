"""Which library a user's arrays are of: what comes in on a GPU is trained there, and what goes out is of its kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn import get_config

from gpunet import backends
from gpunet.backends import Backend
from gpunet.errors import DeviceError

#: DLPack's numbers for a CUDA GPU's memory, and for its managed memory.
_CUDA = (2, 13)


class Kind:
    """An array library and a device, those of the array `like`."""

    def __init__(self, like: Any) -> None:
        self._like = like[:0, ...]
        device, number = like.__dlpack_device__()
        self.is_cuda = int(device) in _CUDA
        self.device = f"cuda:{int(number)}" if self.is_cuda else "cpu"

    def of(self, values: Any) -> Any:
        """Return an array of NumPy or CuPy as one of this kind; text stays NumPy's."""
        like = self._like
        if type(values) is type(like) or values.dtype.kind not in "biuf":
            return values
        library = sys.modules[type(like).__module__.partition(".")[0]]
        if hasattr(library, "as_tensor"):  # PyTorch
            return library.as_tensor(values, device=like.device)
        if hasattr(like, "__array_namespace__"):
            return like.__array_namespace__().asarray(values, device=like.device)
        with like.device:
            return library.asarray(values)


def of(X: Any) -> Kind | None:
    """Return the kind of X where what is computed from it is to be of its kind; None: NumPy's.

    That is for arrays on a GPU, and for those of other libraries in the host's memory while scikit-learn's
    `array_api_dispatch` is on.
    """
    if not _is_foreign(X):
        return None
    return Kind(X) if is_on_gpu(X) or get_config()["array_api_dispatch"] else None


def is_on_gpu(x: Any) -> bool:
    """Whether x is an array on a CUDA GPU."""
    return _is_foreign(x) and int(x.__dlpack_device__()[0]) in _CUDA


def to_host(x: Any) -> Any:
    """Return an array of another library as NumPy's; what is none as it is."""
    if not _is_foreign(x):
        return x
    if hasattr(x, "detach"):  # a PyTorch tensor
        return x.detach().cpu().numpy()
    if hasattr(x, "get"):  # a CuPy array
        return x.get()
    return np.from_dlpack(x)


def to_gpu(X: Any, ops: Backend) -> Any:
    """Return an array on the backend's GPU as one of its library, without a copy."""
    if ops.is_native(X):
        return X
    return ops.xp.from_dlpack(X.detach() if hasattr(X, "detach") else X)


def backend(device: Any, kind: Kind | None) -> Backend:
    """Return the backend that trains: the one of the arrays' GPU, or else of `device`.

    Raises
    ------
    DeviceError
        If the arrays are on a GPU and another device is asked for.
    """
    if kind is None or not kind.is_cuda:
        return backends.select(device)
    if device not in ("auto", "cuda", kind.device):
        raise DeviceError(f"X is on {kind.device}, but device={device!r}; move X, or pass device='auto'.")
    return backends.select(kind.device)


def _is_foreign(x: Any) -> bool:
    return hasattr(x, "__dlpack_device__") and hasattr(x, "ndim") and not isinstance(x, np.ndarray | np.generic)
