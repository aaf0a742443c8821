"""From the host's memory to a CUDA device behind the device's back: pinned memory and a stream of its own."""

from __future__ import annotations

import contextlib

import numpy as np

from gpunet.backends.base import Array, Backend, Stage


class PinnedStage(Stage):
    """A buffer in pinned memory, which is copied while the device computes.

    Two events keep the order: the verbs wait for the copy, and the next copy waits for the verbs.
    """

    def __init__(self, ops: Backend, rows: int, columns: int, dtype: str) -> None:
        cupy = ops.xp
        self._copies = cupy.cuda.Stream(non_blocking=True)
        self._device_rows = ops.empty((rows, columns), dtype)
        count = rows * columns
        memory = cupy.cuda.alloc_pinned_memory(count * np.dtype(dtype).itemsize)
        self.host = np.frombuffer(memory, dtype, count).reshape(rows, columns)
        self._copied = cupy.cuda.Event(disable_timing=True)
        self._used = cupy.cuda.Event(disable_timing=True)
        self._used.record()  # what the memory was before it was this stage's
        self._current_stream = cupy.cuda.get_current_stream

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # as Python ends, or after an error of the device
            self._copies.synchronize()  # what a copy still writes to must not be anybody else's yet

    def wait(self) -> None:
        self._copied.synchronize()  # at once if nothing was sent yet

    def send(self, m: int) -> Array:
        self._copies.wait_event(self._used)
        rows = self.host[:m]
        self._device_rows.data.copy_from_host_async(rows.ctypes.data, rows.nbytes, self._copies)
        self._copied.record(self._copies)
        self._current_stream().wait_event(self._copied)
        return self._device_rows

    def release(self) -> None:
        self._used.record()
