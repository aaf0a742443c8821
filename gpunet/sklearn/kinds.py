"""Which library a user's arrays are of: what comes in on a GPU is trained there, and what goes out is of its kind."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from sklearn import get_config

from gpunet.backends import Backend
from gpunet.errors import InputError, one_line

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
        """Return an array of NumPy, or of CuPy on this kind's GPU, as one of this kind; text stays NumPy's."""
        like = self._like
        if type(values) is type(like) or values.dtype.kind not in "biuf":
            return values
        library = sys.modules[type(like).__module__.partition(".")[0]]
        namespace = like.__array_namespace__() if hasattr(like, "__array_namespace__") else library
        if is_on_gpu(values):
            return namespace.from_dlpack(values)  # shares its memory, and waits for what is still written there
        if hasattr(library, "as_tensor"):  # PyTorch
            return library.as_tensor(values, device=like.device)
        if hasattr(library, "cuda"):  # CuPy
            with like.device:
                return library.asarray(values)
        return namespace.asarray(values, device=like.device)


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
    """Return an array on the backend's GPU as one of its library, without a copy.

    Raises
    ------
    InputError
        If its library knows no such numbers, as CuPy knows no bfloat16.
    """
    if ops.is_native(X):
        return X
    try:
        return ops.xp.from_dlpack(X.detach() if hasattr(X, "detach") else X)
    except (BufferError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{type(X).__module__}'s array of dtype {X.dtype} on {X.device} can not be handed to "
            f"{ops.name}: {one_line(error)}. Give float32 or float64."
        ) from error


def _is_foreign(x: Any) -> bool:
    return hasattr(x, "__dlpack_device__") and hasattr(x, "ndim") and not isinstance(x, np.ndarray | np.generic)
