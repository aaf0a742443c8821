"""What a benchmark asks of a contender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from gpunet.benchmarks.problem import Problem


class Unavailable(Exception):  # noqa: N818 - no error: the tables say so
    """A contender can not take part: its library is not installed, or the problem is none that it solves."""


class Contender(ABC):
    """One way to train on a problem.

    Parameters
    ----------
    problem : Problem
    device : str
        "cpu" or "cuda".

    Raises
    ------
    Unavailable
        If it can not take part.
    """

    #: The distributions whose versions its figures depend on.
    distributions: ClassVar[tuple[str, ...]] = ()
    #: Its steps can only be taken by whole epochs.
    whole_epochs: ClassVar[bool] = False

    def __init__(self, problem: Problem, device: str) -> None:
        self.problem = problem

    @staticmethod
    def load() -> None:
        """Import the library, and nothing else: memory is counted from here on."""
        return

    @property
    def flops(self) -> int:
        """Additions and multiplications of a step."""
        return self.problem.flops

    @property
    def same_update(self) -> bool:
        """Whether a step moves the parameters as the problem says, so that all contenders can be compared."""
        return True

    def facts(self) -> dict[str, Any]:
        """Return what its figures depend on, beside versions and thread pools."""
        return {}

    @abstractmethod
    def start(self) -> None:
        """Go back to the initial parameters and the first epoch's order."""

    @abstractmethod
    def run(self, steps: int) -> None:
        """Take that many steps and wait until they are done."""

    def outputs(self, X: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the network's outputs for rows X, scaled and in the problem's dtype: (N, n_in) -> (N, n_out)."""
        a = np.asarray(X, dtype=np.float64)
        *hidden, last = self.parameters()
        for weights, biases in hidden:
            z = a @ weights.T + biases
            a = np.maximum(z, 0) if self.problem.activation == "relu" else expit(z)
        z = a @ last[0].T + last[1]
        if self.problem.cost == "quadratic":
            return np.asarray(expit(z))
        return np.asarray(softmax(z, axis=1))

    @abstractmethod
    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Return its present weights (n_l, n_{l-1}) and biases (n_l,), layer by layer."""
