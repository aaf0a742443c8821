"""What NumPy and CuPy share: namespaces whose functions write into `out=`, and a BLAS that accumulates."""

from __future__ import annotations

import threading
from abc import abstractmethod
from typing import Any

from gpunet.activations import Activation, Scratch
from gpunet.backends.array_api import ArrayAPIBackend
from gpunet.backends.base import Array
from gpunet.costs import Cost
from gpunet.optimizers import Optimizer, Penalty

#: So many parameters are updated at a time.
_PIECE = 2**13
#: Of a training's few shapes none is ever dropped; of a server's many batch sizes most are.
_MOST_VIEWS = 256


class _Memory(threading.local):
    """What a thread's verbs work in: two threads may use one network."""

    def __init__(self) -> None:
        self.buffers: dict[Any, Array] = {}
        self.views: dict[Any, Array] = {}
        self.capturing = False


class InPlaceBackend(ArrayAPIBackend):
    """The verbs without temporaries."""

    def __init__(self, namespace: Any, device: str) -> None:
        self.xp = namespace
        self.device = device
        self.name = f"{namespace.__name__} on {device}"
        self._array_type = namespace.ndarray
        self._memory = _Memory()

    @abstractmethod
    def gemm(self, a: Array, b: Array, out: Array, alpha: float, beta: float) -> Array:
        """Out = alpha * a b + beta * out, in place; each array contiguous in C or Fortran order."""

    @abstractmethod
    def take_rows(self, x: Array, index: Array, out: Array) -> Array:
        """Out = x[index], of x's dtype."""

    def empty(self, shape: tuple[int, ...], dtype: str) -> Array:
        return self.xp.empty(shape, dtype=dtype)

    def matmul(self, a: Array, b: Array, out: Array) -> Array:
        return self.gemm(a, b, out, 1.0, 0.0)

    def activate(self, z: Array, b: Array, activation: Activation, out: Array) -> Array:
        self.xp.add(z, b, out=z)
        activation.apply_into(z, out, self._room(z), self.xp)
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
        cost.output_error_into(activation, z, a, y, out, total, self._room(a), self.xp)
        return out

    def hadamard_prime(self, g: Array, activation: Activation, z: Array, a: Array, out: Array) -> Array:
        activation.pull_back_into(g, z, a, out, self._room(a), self.xp)
        return out

    def sum_batch(self, delta: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        return self.gemm(delta, self._ones(delta.shape[1], delta.dtype), out, alpha, beta)

    def outer_sum(self, delta: Array, a: Array, out: Array, alpha: float = 1.0, beta: float = 0.0) -> Array:
        return self.gemm(delta, a.T, out, alpha, beta)

    def outer_batch(self, delta: Array, a: Array, out: Array) -> Array:
        return self.xp.multiply(delta.T[:, :, None], a.T[:, None, :], out=out)

    def gather(self, x: Array, index: Array, out: Array, scale: float = 1.0) -> Array:
        rows = out.T
        if x.dtype == rows.dtype:
            self.take_rows(x, index, rows)
        else:
            rows[...] = self.take_rows(x, index, self._scratch(rows, x.dtype))
        if scale != 1.0:
            self.xp.multiply(rows, scale, out=rows)
        return out

    def add_squares(self, w: Array, total: Array, factor: float = 1.0) -> Array:
        for start in range(0, w.size, _PIECE):  # OpenBLAS spreads a longer dot product over threads of its own
            piece = w[start : start + _PIECE]
            total[:1] += factor * self.xp.vdot(piece, piece)
        return total

    def update(
        self, optimizer: Optimizer, w: Array, nabla: Array, states: Array, c: Array, penalty: Penalty, n_weights: int
    ) -> Array:
        scratch = self._scratch(w[:_PIECE], w.dtype)
        for start in range(0, w.size, _PIECE):  # small enough for all of a piece to stay in the cache
            part = slice(start, min(start + _PIECE, w.size))
            piece, g = w[part], nabla[part]
            room = scratch[: piece.size]
            if start < n_weights:
                penalised = slice(0, min(n_weights - start, piece.size))
                self._penalise(piece[penalised], g[penalised], room[penalised], penalty)
            optimizer.update_into(piece, g, [row[part] for row in states], c, room, self.xp)
        return w

    def _penalise(self, w: Array, g: Array, room: Array, penalty: Penalty) -> None:
        xp = self.xp
        if penalty.l2:
            xp.multiply(w, penalty.l2, out=room)
            xp.add(g, room, out=g)
        if penalty.l1:
            xp.sign(w, out=room)
            xp.multiply(room, penalty.l1, out=room)
            xp.add(g, room, out=g)
        if penalty.decay:
            xp.multiply(w, penalty.decay, out=room)
            xp.subtract(w, room, out=w)

    def hadamard(self, x: Array, y: Array, out: Array) -> Array:
        return self.xp.multiply(x, y, out=out)

    def clip(self, nabla: Array, most_value: float | None, most_norm: float | None) -> Array:
        xp = self.xp
        if most_value is not None:
            xp.maximum(nabla, -most_value, out=nabla)
            xp.minimum(nabla, most_value, out=nabla)
        if most_norm is not None:
            square = xp.sum(xp.multiply(nabla, nabla, out=self._scratch(nabla, nabla.dtype)))
            xp.multiply(nabla, xp.minimum(most_norm / (xp.sqrt(square) + 1e-6), 1.0), out=nabla)
        return nabla

    def limit_norms(self, w: Array, most: float) -> Array:
        xp = self.xp
        norms = xp.sqrt(xp.sum(xp.multiply(w, w, out=self._scratch(w, w.dtype)), axis=1, keepdims=True))
        return xp.multiply(w, most / xp.maximum(norms, most), out=w)

    def _room(self, like: Array) -> Scratch:
        """Return a function of i: the i-th scratch array of that shape, layout and dtype."""
        return lambda i: self._scratch(like, like.dtype, i)

    def _scratch(self, like: Array, dtype: Any, i: int = 0) -> Array:
        """Return memory of that shape and layout, to be used within one verb: a growing buffer by i and thread."""
        fortran = like.flags.f_contiguous
        key = like.shape, fortran, dtype, i
        view = self._memory.views.get(key)
        if view is None:
            buffer = self._reserve(f"scratch {i}", like.size, dtype)[: like.size]
            view = self.xp.reshape(buffer, like.shape[::-1]).T if fortran else self.xp.reshape(buffer, like.shape)
            self._memory.views[key] = view
        return view

    def _ones(self, m: int, dtype: Any) -> Array:
        """Return a column of m ones."""
        return self._reserve("ones", m, dtype)[:m, None]

    def _reserve(self, use: str, size: int, dtype: Any) -> Array:
        """Return this thread's buffer for that use, of at least `size` numbers, at first all ones."""
        buffers, views = self._memory.buffers, self._memory.views
        buffer = buffers.get((use, dtype))
        if buffer is None or buffer.size < size:
            views.clear()  # those of a smaller buffer would keep it alive
            buffer = buffers[use, dtype] = self.xp.ones(size, dtype=dtype)
        elif len(views) > _MOST_VIEWS:
            views.clear()
        return buffer
