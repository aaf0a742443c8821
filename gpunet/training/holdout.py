"""Which examples are held out, to validate or to test on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def hold_out(n: int, labels: npt.NDArray[Any] | None, share: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return which of n examples are kept and which are held out, in ascending order.

    They are drawn at random, with `labels`, (n,), of each class its share. Every class keeps an example to learn
    from; none may be held out where the share is of too few.
    """
    order = rng.permutation(n)
    count = round(n * share)
    if labels is None:
        held = order[: min(count, n - 1)]
    else:
        _, codes, sizes = np.unique(labels.astype(str), return_inverse=True, return_counts=True)
        held = order[_stratified(codes[order], sizes, count)]
    held = np.sort(held)
    return np.setdiff1d(np.arange(n), held, assume_unique=True), held


def _stratified(codes: Rows, sizes: Rows, count: int) -> Rows:
    """Return the places of the first examples of each class, as many as is its share of `count`."""
    share = sizes * count / len(codes)
    counts = np.minimum(np.floor(share), sizes - 1).astype(np.int64)
    for k in np.argsort(counts - share, kind="stable"):  # the largest remainders first
        if counts.sum() < count and counts[k] < sizes[k] - 1:
            counts[k] += 1
    return np.concatenate([np.flatnonzero(codes == k)[:some] for k, some in enumerate(counts)])
