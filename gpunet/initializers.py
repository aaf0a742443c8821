"""Initial weights and biases, drawn in float64 on the host, so that every backend starts alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gpunet import checks
from gpunet.activations import Activation

Matrix = npt.NDArray[np.float64]
Initializer = Callable[[np.random.Generator, int, int], tuple[Matrix, Matrix]]


def normal(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights and biases from N(0, 1), as the book's chapter 1 and its `large_weight_initializer`."""
    return rng.standard_normal((n_out, n_in)), rng.standard_normal((n_out, 1))


def scaled(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights from N(0, 1/n_in), biases from N(0, 1), as the book's `default_weight_initializer`."""
    weights, biases = normal(rng, n_out, n_in)
    return weights / np.sqrt(n_in), biases


def he(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights from N(0, 2/n_in), biases 0: He et al. 2015, equation (10), for ReLU."""
    return rng.standard_normal((n_out, n_in)) * np.sqrt(2 / n_in), np.zeros((n_out, 1))


def auto(activation: Activation) -> Initializer:
    """Return what suits the activation: the book's N(0, 1) for sigmoid, He for ReLU, otherwise scaled."""
    return {"sigmoid": normal, "relu": he}.get(activation.name, scaled)


BY_NAME: dict[str, Initializer] = {"normal": normal, "scaled": scaled, "he": he}


def get(name: str, activation: Activation) -> Initializer:
    """Return the initializer of that name, "auto" being what suits the layer's activation."""
    if checks.one_of(name, ("auto", *BY_NAME), "init") == "auto":
        return auto(activation)
    return BY_NAME[name]
