"""The custom CUDA kernels: their text, put together for a type and an activation, and how they are launched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from gpunet.activations import Activation
from gpunet.costs import Cost
from gpunet.errors import InputError
from gpunet.kernels import cuda_source
from gpunet.optimizers import Optimizer

#: Threads in a block of the elementwise kernels, and elements that each takes at a time.
THREADS, EACH = 256, 4
#: Lanes of a warp, and warps in a block, of the kernels that give a column to a warp.
LANES, WARPS = 32, 8
#: Terms of a sum that the tiled products bring to shared memory at a time, and the threads of a tile's side.
DEPTH, SIDE = 32, 16
#: Examples to which a block of layer_forward_dot applies the weights that it has loaded.
EXAMPLES = 4
#: Blocks in a grid at most; the kernels stride over what is left.
MOST_BLOCKS = 4096
#: The same where each block adds to a slot of the cost's total.
COST_BLOCKS = 1024
#: Tiles are made smaller until there are so many blocks: two for each multiprocessor of a large card.
ENOUGH_BLOCKS = 264

_C_TYPES = {"float32": "float", "float64": "double", "uint8": "unsigned char"}
_NUMBERS = {"BLOCK": THREADS, "EACH": EACH, "WARPS": WARPS, "DEPTH": DEPTH, "EXAMPLES": EXAMPLES}


class Variant(NamedTuple):
    """What a kernel's text leaves open, besides its type."""

    activation: Activation | None = None
    cost: Cost | None = None
    source_dtype: str | None = None
    optimizer: Optimizer | None = None
    #: Rows and columns that a thread of a tiled product has.
    per_thread: int | None = None
    #: Whether a product has a bias added.
    bias: bool = True

    def macros(self) -> dict[str, str]:
        """Return the macros that say it."""
        macros = {"BIAS(j)": "b[j]" if self.bias else "REAL(0)"}
        if self.activation is not None and self.activation.cuda is not None:
            function, derivative = self.activation.cuda
            argument = "z" if self.activation.needs_z else "a"
            macros |= {"F(z)": f"({function})", f"F_PRIME({argument})": f"({derivative})"}
        if self.activation is not None and self.cost is not None:
            delta = self.cost.cuda_delta(self.activation)
            macros |= {"COST(a, y)": f"({self.cost.cuda})", "DELTA(a, y, s)": f"({delta})"}
        if self.cost is not None and self.cost.floor:
            macros["FLOOR"] = f"REAL({self.cost.floor!r})"
        if self.source_dtype is not None:
            macros["SOURCE"] = _C_TYPES[self.source_dtype]
        if self.optimizer is not None:
            macros |= {"UPDATE": self.optimizer.cuda, "STATES": str(self.optimizer.states)}
        if self.per_thread is not None:
            macros["R"] = str(self.per_thread)
        return macros


def source(name: str, dtype: str, macros: Mapping[str, str] | None = None) -> str:
    """Return the text of ``kernels/cuda/<name>.cu`` for `dtype`, with what it needs defined above it."""
    tiny = float(np.finfo(dtype).smallest_normal)
    defined = {"REAL": _C_TYPES[dtype], "TINY": f"REAL({tiny!r})", "FLOOR": "TINY", **_NUMBERS, **(macros or {})}
    text: str = cuda_source(name)
    return "".join(f"#define {macro} {value}\n" for macro, value in defined.items()) + text


_AS_IT_IS = Variant()


class Kernels:
    """The kernels of one device, each compiled when it is first needed."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._compiled: dict[Any, Any] = {}
        self._no_total: Any = None

    def no_total(self) -> Any:
        """Return slots for a cost that nobody asks for, so that one kernel serves both cases."""
        if self._no_total is None:
            self._no_total = self._cupy.zeros(COST_BLOCKS)
        return self._no_total

    def get(self, name: str, dtype: Any, variant: Variant = _AS_IT_IS) -> Any:
        """Return the kernel ``<name>.cu`` for the type and the variant.

        Raises
        ------
        InputError
            If an activation's own CUDA expression does not compile.
        """
        key = (name, dtype, variant)
        kernel = self._compiled.get(key)
        if kernel is None:
            kernel = self._cupy.RawKernel(source(name, dtype.name, variant.macros()), name)
            try:
                kernel.compile()
            except self._cupy.cuda.compiler.CompileException as error:
                activation = variant.activation
                if activation is None:
                    raise
                raise InputError(
                    f"cuda={activation.cuda} of activation {activation.name!r} does not compile: {error}"
                ) from error
            self._compiled[key] = kernel
        return kernel


def launch_elements(kernel: Any, size: int, arguments: tuple[Any, ...], most: int = MOST_BLOCKS) -> None:
    """Launch a kernel whose threads take EACH of `size` elements."""
    kernel((min(-(-size // (THREADS * EACH)), most),), (THREADS,), arguments)


def launch_singly(kernel: Any, size: int, arguments: tuple[Any, ...], most: int = MOST_BLOCKS) -> None:
    """Launch a kernel with a thread for each of `size` elements."""
    kernel((min(-(-size // THREADS), most),), (THREADS,), arguments)


def launch_warps(kernel: Any, tasks: int, arguments: tuple[Any, ...], most: int = MOST_BLOCKS) -> None:
    """Launch a kernel with a warp for each of `tasks` columns or rows."""
    kernel((min(-(-tasks // WARPS), most),), (LANES, WARPS), arguments)


def launch_tiles(kernel: Any, rows: int, columns: int, per_thread: int, arguments: tuple[Any, ...]) -> None:
    """Launch a tiled product with so many rows and columns."""
    tile = SIDE * per_thread
    kernel((-(-columns // tile), -(-rows // tile)), (SIDE, SIDE), arguments)


def launch_dots(kernel: Any, neurons: int, examples: int, arguments: tuple[Any, ...]) -> None:
    """Launch layer_forward_dot."""
    kernel((neurons, -(-examples // EXAMPLES)), (LANES, WARPS), arguments)


def per_thread(rows: int, columns: int) -> int:
    """Return how large a tile's share of a thread can be if all of a large card is to have work."""
    for r in (4, 2):
        if -(-rows // (SIDE * r)) * -(-columns // (SIDE * r)) >= ENOUGH_BLOCKS:
            return r
    return 1
