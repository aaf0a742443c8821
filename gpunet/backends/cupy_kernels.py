"""The custom CUDA kernels: their text, put together for a type and an activation, and how they are launched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gpunet.activations import Activation
from gpunet.costs import Cost
from gpunet.errors import InputError
from gpunet.kernels import cuda_source

#: Threads in a block of the elementwise kernels.
THREADS = 256
#: Lanes of a warp, and warps in a block, of the kernels that give a column to a warp.
LANES, WARPS = 32, 8
#: Blocks in a grid at most; the kernels stride over what is left.
MOST_BLOCKS = 4096
#: The same where each block adds to a slot of the cost's total.
COST_BLOCKS = 1024

_C_TYPES = {"float32": "float", "float64": "double", "uint8": "unsigned char"}


def source(name: str, dtype: str, defines: Mapping[str, str] | None = None) -> str:
    """Return the text of ``kernels/cuda/<name>.cu`` for `dtype`, with what it needs defined above it."""
    tiny = float(np.finfo(dtype).smallest_normal)
    macros = {"REAL": _C_TYPES[dtype], "TINY": f"REAL({tiny!r})", "BLOCK": str(THREADS), "WARPS": str(WARPS)}
    macros |= defines or {}
    text: str = cuda_source(name)
    return "".join(f"#define {macro} {value}\n" for macro, value in macros.items()) + text


def definitions(activation: Activation | None, cost: Cost | None, source_dtype: str | None) -> dict[str, str]:
    """Return the macros that a kernel's text leaves open: F, F_PRIME, COST, DELTA, SOURCE."""
    macros: dict[str, str] = {}
    if activation is not None and activation.cuda is not None:
        function, derivative = activation.cuda
        argument = "z" if activation.needs_z else "a"
        macros |= {"F(z)": f"({function})", f"F_PRIME({argument})": f"({derivative})"}
    if activation is not None and cost is not None:
        macros |= {"COST(a, y)": f"({cost.cuda})", "DELTA(a, y, s)": f"({cost.cuda_delta(activation)})"}
    if source_dtype is not None:
        macros["SOURCE"] = _C_TYPES[source_dtype]
    return macros


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

    def get(
        self,
        name: str,
        dtype: Any,
        activation: Activation | None = None,
        cost: Cost | None = None,
        source_dtype: Any = None,
    ) -> Any:
        """Return the kernel ``<name>.cu`` for the type, with the activation, the cost and the source's type in it.

        Raises
        ------
        InputError
            If an activation's own CUDA expression does not compile.
        """
        key = (name, dtype, activation, cost, source_dtype)
        kernel = self._compiled.get(key)
        if kernel is None:
            macros = definitions(activation, cost, None if source_dtype is None else source_dtype.name)
            kernel = self._cupy.RawKernel(source(name, dtype.name, macros), name)
            try:
                kernel.compile()
            except self._cupy.cuda.compiler.CompileException as error:
                if activation is None:
                    raise
                raise InputError(
                    f"cuda={activation.cuda} of activation {activation.name!r} does not compile: {error}"
                ) from error
            self._compiled[key] = kernel
        return kernel


def launch_elements(kernel: Any, size: int, arguments: tuple[Any, ...], most: int = MOST_BLOCKS) -> None:
    """Launch a kernel with a thread for each of `size` elements."""
    kernel((min(-(-size // THREADS), most),), (THREADS,), arguments)


def launch_warps(kernel: Any, tasks: int, arguments: tuple[Any, ...], most: int = MOST_BLOCKS) -> None:
    """Launch a kernel with a warp for each of `tasks` columns or rows."""
    kernel((min(-(-tasks // WARPS), most),), (LANES, WARPS), arguments)
