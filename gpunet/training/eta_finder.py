"""A search for a learning rate: a short training in which eta grows from step to step.

Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3, the learning-rate range test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gpunet import arrays
from gpunet.backends import Array
from gpunet.errors import InputError
from gpunet.training.steps import Recipe, VerbSteps

#: How much of the cost's average a step keeps.
_KEPT = 0.9
#: The search ends where the cost is so many times its least.
_DIVERGED = 4.0
#: What is suggested, as a share of where the cost was least: for gradient descent, and for optimizers that remember.
#: With these the cost rises later, while eta grows on. Both are measured, see docs/decisions.md.
_SHARE, _SHARE_WITH_MEMORY = 1 / 3, 1 / 10


@dataclass(frozen=True)
class EtaSearch:
    """What a search for a learning rate found.

    Attributes
    ----------
    etas : array, shape (steps,)
        The learning rates that were tried, each in one step.
    costs : array, shape (steps,)
        The mini-batch's mean cost at each, as a running average.
    eta : float
        The suggestion: a share of where the cost was least, which is soon before it would explode; a third for
        gradient descent, a tenth for optimizers that remember earlier gradients, such as momentum and Adam.
    """

    etas: npt.NDArray[np.float64]
    costs: npt.NDArray[np.float64]
    eta: float


def search(
    recipe: Recipe, data: Sequence[Array], rng: np.random.Generator, lowest: float, highest: float, steps: int
) -> EtaSearch:
    """Take a step at each learning rate from `lowest` to `highest`, evenly on a logarithmic scale.

    The model ends with the parameters that it had. It ends early where the cost explodes.

    Raises
    ------
    InputError
        If the cost explodes at once, or never falls.
    """
    model, m = recipe.model, recipe.batch_size
    ops, flat = model.ops, model.parameters.flat
    before = ops.copy(flat, out=ops.empty(tuple(flat.shape), model.dtype))
    taker, n, all_there = VerbSteps(recipe), int(data[0].shape[0]), ops.is_native(data[0])
    etas, costs = np.geomspace(lowest, highest, steps), []
    average = total = 0.0
    order = np.zeros(0, dtype=np.int64)
    try:
        with taker.epoch(rng):
            for number, eta in enumerate(etas, start=1):
                if len(order) < m:
                    order = rng.permutation(n)
                rows, order = order[:m], order[m:]
                if all_there:
                    taker.take(data, ops.asarray(rows), float(eta), threads=1)
                else:
                    sent = [arrays.to_device(ops, v[rows], model.dtype) for v in data]
                    taker.take(sent, ops.asarray(np.arange(len(rows))), float(eta), threads=1)
                cost, total = (taker.cost() - total) / len(rows), taker.cost()
                average = _KEPT * average + (1 - _KEPT) * cost
                costs.append(average / (1 - _KEPT**number))
                if not np.isfinite(costs[-1]) or costs[-1] > _DIVERGED * min(costs):
                    break
    finally:
        ops.copy(before, out=flat)
    tried, seen = etas[: len(costs)], np.array(costs)
    good = np.isfinite(seen)
    tried, seen = tried[good], seen[good]
    least = int(seen.argmin()) if len(seen) else 0
    if least < 2:
        raise InputError(
            f"no learning rate from {lowest:g} to {highest:g} made the cost fall: try a lower `lowest`, or look at "
            "the data and the network."
        )
    share = _SHARE_WITH_MEMORY if recipe.optimizer.states else _SHARE
    return EtaSearch(tried, seen, float(tried[least]) * share)
