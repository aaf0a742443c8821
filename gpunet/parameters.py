"""All weights and biases of a network in one flat buffer, with a view for each layer."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks
from gpunet.backends import Array, Backend
from gpunet.errors import InputError


class Parameters:
    """A flat buffer on the device: w^1 ... w^L, then b^1 ... b^L, so that the weights are its head.

    Attributes
    ----------
    flat : array, shape (number of parameters,)
    n_weights : int
        How many of them are weights.
    weights, biases : list of arrays
        Views into `flat`, (n_l, n_{l-1}) and (n_l, 1) for l = 1 ... L.
    """

    def __init__(self, ops: Backend, sizes: Sequence[int], dtype: str) -> None:
        pairs = list(pairwise(sizes))
        count = sum(n * (k + 1) for k, n in pairs)
        if count > sys.maxsize // 8:
            raise MemoryError(f"{count:.3g} parameters")
        self.flat = ops.empty((count,), dtype)
        self.n_weights = sum(n * k for k, n in pairs)
        ends = list(accumulate([n * k for k, n in pairs] + [n for _, n in pairs], initial=0))
        views = [self.flat[start:stop] for start, stop in pairwise(ends)]
        shapes = [(n, k) for k, n in pairs] + [(n, 1) for _, n in pairs]
        arrays = [ops.xp.reshape(view, shape) for view, shape in zip(views, shapes, strict=True)]
        self.weights: list[Array] = arrays[: len(pairs)]
        self.biases: list[Array] = arrays[len(pairs) :]

    def pairs(self) -> list[tuple[Array, Array]]:
        """Return (biases, weights) of each layer, the order of the book's gradients."""
        return list(zip(self.biases, self.weights, strict=True))


class LayerArrays(Sequence[npt.NDArray[Any]]):
    """The weights, or the biases, of all layers as NumPy arrays; assigning to an entry sets it on the device.

    On the CPU an entry is the network's own memory. Elsewhere it is a read-only copy, so that a change that
    would not reach the device is an error and not lost.
    """

    def __init__(self, ops: Backend, arrays: Sequence[Array], dtype: str, what: str) -> None:
        self._ops = ops
        self._arrays = arrays
        self._dtype = dtype
        self._what = what

    def __len__(self) -> int:
        return len(self._arrays)

    def __getitem__(self, l: Any) -> Any:
        if isinstance(l, slice):
            return [self[i] for i in range(*l.indices(len(self)))]
        array = self._arrays[l]
        with self._ops.active():
            values = self._ops.to_numpy(array)
        if values is not array:
            values = values.copy()
            values.flags.writeable = False
        return values

    def __setitem__(self, l: int, values: Any) -> None:
        self._write(self._arrays[l], self._checked(l, values))

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        return (self[l] for l in range(len(self)))

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self))}]"

    def assign(self, values: Any) -> None:
        """Set every entry; nothing is changed if one of them does not fit."""
        try:
            values = list(values)
        except TypeError:
            raise InputError(f"{self._what} must be a list of arrays, got {type(values).__name__}.") from None
        if len(values) != len(self):
            raise InputError(f"the network has {self._what} for {len(self)} layers, got {len(values)}.")
        checked = [self._checked(l, value) for l, value in enumerate(values)]
        for array, value in zip(self._arrays, checked, strict=True):
            self._write(array, value)

    def _checked(self, l: int, given: Any) -> npt.NDArray[Any]:
        if not isinstance(l, numbers.Integral):
            raise InputError(f"{self._what} are assigned one layer at a time, by its number, or all at once.")
        shape = tuple(self._arrays[l].shape)
        with np.errstate(over="ignore"):
            values = checks.real_array(given, f"{self._what}[{l}]", "").astype(self._dtype)
        if values.shape != shape:
            raise InputError(f"{self._what}[{l}] has shape {shape}, got an array of shape {values.shape}.")
        if not np.isfinite(values).all():
            raise InputError(f"{self._what}[{l}] must be finite in {self._dtype}, got NaN or infinity.")
        return values

    def _write(self, array: Array, values: npt.NDArray[Any]) -> None:
        with self._ops.active():
            self._ops.copy(self._ops.asarray(values, self._dtype), out=array)
