"""Large matrix products: the speed that a step's is compared with. A "step" is one product."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.benchmarks.contender import Contender
from gpunet.benchmarks.problem import Problem

N = 1536


class _Gemm(Contender):
    @property
    def flops(self) -> int:
        return 2 * N**3

    @property
    def same_update(self) -> bool:
        return False

    def start(self) -> None:
        """Nothing changes."""

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        raise NotImplementedError("a product has no parameters")


class NumPyGemm(_Gemm):
    """By NumPy's BLAS."""

    distributions = ("numpy",)

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.random((N, N)).astype(problem.dtype) for _ in range(2))
        self._out = np.empty_like(self._a)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            np.matmul(self._a, self._b, out=self._out)


class TorchGemm(_Gemm):
    """By PyTorch's."""

    distributions = ("torch",)

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        import torch

        torch.set_float32_matmul_precision("highest")
        self._torch = torch
        self._a, self._b, self._out = (
            torch.rand((N, N), dtype=getattr(torch, problem.dtype), device=device) for _ in range(3)
        )

    @staticmethod
    def load() -> None:
        import torch  # noqa: F401

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._torch.mm(self._a, self._b, out=self._out)
        self._out[0, 0].item()
