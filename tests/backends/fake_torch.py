"""A strict stand-in for PyTorch's tensors on a GPU, for machines without one: what gpunet may do with them, no more.

Memory goes to the stand-in for CuPy and comes back by DLPack, without a copy, as on a card.
"""

import sys
import types

import numpy as np
from backends import fake_cupy


class _Dtype:
    """PyTorch's dtypes have no name, but are written with one."""

    def __init__(self, name):
        self._name = name

    def __repr__(self):
        return f"torch.{self._name}"


class _Device:
    def __init__(self, index):
        self.type, self.index = "cuda", index

    def __repr__(self):
        return f"device(type='cuda', index={self.index})"

    def __str__(self):
        return f"cuda:{self.index}"


class Tensor:
    """Numbers on a GPU, or, after `cpu`, in the host's memory."""

    __module__ = "torch"
    __array_ufunc__ = None

    def __init__(self, values, index=0, requires_grad=False, dtype=None):
        self._values, self._index, self.requires_grad = values, index, requires_grad
        self.dtype = _Dtype(dtype or values.dtype.name)

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    T = property(lambda self: Tensor(self._values.T, self._index, self.requires_grad))
    device = property(lambda self: "cpu" if self._index is None else _Device(self._index))

    def __len__(self):
        return len(self._values)

    def __getitem__(self, key):
        assert all(isinstance(k, (slice, int, type(...))) for k in (key if isinstance(key, tuple) else (key,)))
        return Tensor(self._values[key], self._index, self.requires_grad)

    def detach(self):
        return Tensor(self._values, self._index, dtype=self.dtype._name)

    def cpu(self):
        return Tensor(self._values.copy(), None, self.requires_grad)

    def numpy(self):
        if self._index is not None:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")
        if self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead."
            )
        return self._values

    __array__ = numpy

    def __dlpack_device__(self):
        return (1, 0) if self._index is None else (2, self._index)

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if self.dtype._name == "bfloat16":
            raise BufferError("CuPy does not know bfloat16")
        return fake_cupy.Capsule(self._values, self._index)


def on_gpu(x, requires_grad=False, dtype=None):
    """Return an array of NumPy on the stand-in's first GPU."""
    return Tensor(np.array(x), 0, requires_grad, dtype)


def as_tensor(data, dtype=None, device=None):
    assert isinstance(data, np.ndarray), "an array on a GPU comes by from_dlpack, which waits for it"
    return Tensor(data.copy(), device.index)


def from_dlpack(ext_tensor):
    capsule = ext_tensor.__dlpack__(stream=1)
    return Tensor(capsule.values, capsule.device_id)


def install(monkeypatch):
    """Make `torch` in sys.modules the stand-in until the test is over; return it."""
    torch = types.ModuleType("torch")
    vars(torch).update(Tensor=Tensor, as_tensor=as_tensor, from_dlpack=from_dlpack)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch
