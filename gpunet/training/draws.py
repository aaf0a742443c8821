"""Where a training's random numbers come from: a NumPy generator, or whatever draws the same way."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Order(Protocol):
    """Draws an order."""

    def permutation(self, x: int, /) -> npt.NDArray[np.int64]:
        """Return 0 ... x - 1 in an order of its own."""


class Draws(Order, Protocol):
    """Draws all that an epoch needs."""

    def integers(self, low: int, /) -> Any:
        """Return a random whole number from 0 to low - 1."""


def generator_of_masks(rng: Draws) -> np.random.Generator:
    """Return what draws an epoch's masks for dropout: one of their own, of which each epoch draws the seed alone."""
    return np.random.default_rng(rng.integers(2**63))
