"""Who takes part: each contender by its name, and where its code is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_HERE = "gpunet.benchmarks.contenders"


@dataclass(frozen=True)
class Entry:
    """A contender.

    Attributes
    ----------
    title : str
        In tables and pictures.
    target : str
        Its class, as "module:Class".
    openblas : bool
        Whether it computes by OpenBLAS, whose kernels can be chosen.
    devices : tuple of str
        Where it runs.
    options : mapping
        Arguments of its class beyond problem and device.
    """

    title: str
    target: str
    openblas: bool = False
    devices: tuple[str, ...] = ("cpu",)
    options: Mapping[str, Any] = field(default_factory=dict)


_GPUNET = f"{_HERE}.gpunet:Gpunet"
_BOTH = ("cpu", "cuda")

#: gpunet's own, one for each backend and engine; the first that runs is what others are compared with.
GPUNET = {
    "gpunet-compiled": Entry("gpunet, compiled", _GPUNET, options={"backend": "numpy", "engine": "compiled"}),
    "gpunet-numpy": Entry("gpunet, NumPy", _GPUNET, openblas=True, options={"backend": "numpy", "engine": "verbs"}),
    "gpunet-torch": Entry("gpunet on PyTorch arrays", _GPUNET, options={"backend": "torch"}),
    "gpunet-cupy": Entry("gpunet, CuPy", _GPUNET, devices=("cuda",), options={"backend": "cupy"}),
}

CONTENDERS = {
    **GPUNET,
    "book": Entry("the book's loop, float64", f"{_HERE}.book:Book", openblas=True),
    "sklearn": Entry("scikit-learn, partial_fit", f"{_HERE}.sklearn:PartialFit", openblas=True),
    "sklearn-fit": Entry("scikit-learn, fit", f"{_HERE}.sklearn:Fit", openblas=True),
    "torch": Entry("PyTorch, module and SGD", f"{_HERE}.torch:Module", devices=_BOTH),
    "torch-lean": Entry("PyTorch, update by hand", f"{_HERE}.torch:Lean", devices=_BOTH),
    "torch-compile": Entry("PyTorch, torch.compile", f"{_HERE}.torch:Compiled", devices=_BOTH),
    "jax": Entry("JAX, jit and scan", f"{_HERE}.jax:Scan", devices=_BOTH),
}

#: Large products: what the machine can do at most.
PEAKS = {
    "gemm-numpy": Entry("peak: GEMM, NumPy", f"{_HERE}.gemm:NumPyGemm", openblas=True),
    "gemm-torch": Entry("peak: GEMM, PyTorch", f"{_HERE}.gemm:TorchGemm", devices=_BOTH),
}

#: Training as a user calls it, for what is not a matter of steps.
FITS = {
    "gpunet-fit": Entry("gpunet, fit", f"{_HERE}.gpunet:Fit", openblas=True),
    "torch-bytes": Entry("PyTorch, images kept as bytes", f"{_HERE}.torch:Bytes"),
}

ALL = {**CONTENDERS, **PEAKS, **FITS}
