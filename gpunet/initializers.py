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


def glorot(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights from the uniform distribution of variance 2/(n_in + n_out), biases 0: Glorot and Bengio 2010, (16)."""
    most = np.sqrt(6 / (n_in + n_out))
    return rng.uniform(-most, most, (n_out, n_in)), np.zeros((n_out, 1))


def lecun(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights from N(0, 1/n_in), biases 0: LeCun et al. 1998, equation (16)."""
    return rng.standard_normal((n_out, n_in)) / np.sqrt(n_in), np.zeros((n_out, 1))


def orthogonal(rng: np.random.Generator, n_out: int, n_in: int) -> tuple[Matrix, Matrix]:
    """Weights whose rows, or columns if these are fewer, are orthonormal, biases 0: Saxe et al. 2014.

    By the QR decomposition of a normal matrix, with the signs that make every orthogonal matrix as likely as
    any other: Mezzadri 2007.
    """
    tall = rng.standard_normal((max(n_out, n_in), min(n_out, n_in)))
    q, r = np.linalg.qr(tall)
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.ascontiguousarray(q if n_out >= n_in else q.T), np.zeros((n_out, 1))


#: Those that let about half of what reaches them through.
_RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")


def auto(activation: Activation) -> Initializer:
    """Return what suits the activation.

    The book's N(0, 1) for sigmoid, He for ReLU and its kin, LeCun for exp, whose outputs then begin near 1, and
    scaled otherwise.
    """
    if activation.name in _RECTIFIERS:
        return he
    return {"sigmoid": normal, "exp": lecun}.get(activation.name, scaled)


BY_NAME: dict[str, Initializer] = {f.__name__: f for f in (normal, scaled, he, glorot, lecun, orthogonal)}


def get(name: str, activation: Activation) -> Initializer:
    """Return the initializer of that name, "auto" being what suits the layer's activation."""
    if checks.one_of(name, ("auto", *BY_NAME), "init") == "auto":
        return auto(activation)
    return BY_NAME[name]
