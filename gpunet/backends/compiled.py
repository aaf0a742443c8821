"""The compiled training engine, `gpunet._engine`, where this installation has it.

It runs whole mini-batches - (25), BP1 to BP4 and the step - in one call, for networks of the activations and costs
that it knows on the CPU. Its source is in kernels/cpu/.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import cpu
from gpunet.activations import BUILT_IN as ACTIVATIONS
from gpunet.activations import Activation
from gpunet.costs import BUILT_IN as COSTS
from gpunet.costs import Cost
from gpunet.errors import DeviceError, InputError
from gpunet.optimizers import BUILT_IN as OPTIMIZERS
from gpunet.optimizers import Optimizer, Penalty

Array = Any

#: What the engine knows: built-in activations and costs, and the rules of built-in optimizers.
KNOWN_ACTIVATIONS = ("sigmoid", "tanh", "relu", "linear", "softmax")
KNOWN_COSTS = ("quadratic", "cross-entropy", "log-likelihood")
RULES = {"sgd": "sgd", "momentum": "momentum", "nesterov": "nesterov", "adam": "adam", "adamw": "adam"}

NO_PENALTY = Penalty()


@functools.cache
def why_not_compiled() -> str | None:
    """Return why this installation has no compiled engine, or None if it has one; found out once per process."""
    try:
        importlib.import_module("gpunet._engine")
    except ImportError as error:
        return (
            f"the compiled engine is not there ({error}). Installing gpunet builds it where there is GCC or Clang "
            "(pip install --force-reinstall --no-deps -v gpunet shows how that went)"
        )
    return None


def why_unsupported(activations: Sequence[Activation], cost: Cost, optimizer: Optimizer) -> str | None:
    """Return what of a network or its training the compiled engine does not know, or None if it knows all."""
    for f in activations:
        if f.name not in KNOWN_ACTIVATIONS or type(f) is not type(ACTIVATIONS[f.name]):
            return f"the compiled engine knows the activations {', '.join(KNOWN_ACTIVATIONS)}, not {f.name!r}"
    if cost.name not in KNOWN_COSTS or type(cost) is not type(COSTS[cost.name]):
        return f"the compiled engine knows the costs {', '.join(KNOWN_COSTS)}, not {cost.name!r}"
    if optimizer.name not in RULES:
        return f"the compiled engine knows the optimizers {', '.join(RULES)}, not {optimizer.name!r}"
    if type(optimizer) is not type(OPTIMIZERS[optimizer.name]):
        return f"the compiled engine knows the built-in optimizers only, not {optimizer!r}"
    return None


def instruction_sets() -> tuple[str, ...]:
    """Return the instruction sets that the engine can use on this CPU, the best first."""
    sets: tuple[str, ...] = _module().instruction_sets()
    return sets


class CompiledEngine:
    """A network's parameters inside the engine, and the steps that train them.

    It knows activations and costs by their names alone: `why_unsupported` says whether a network has others.

    Parameters
    ----------
    sizes : sequence of int
        Neurons in each layer, the input first.
    activations : sequence of str
        One built-in activation for each layer after the input.
    cost : str
        A built-in cost.
    dtype : {"float32", "float64"}
    instruction_set : str, optional
        One of `instruction_sets`; by default the best.
    floor : float, optional
        What the cost's logarithms take smaller numbers for.
    dropout : sequence of float, optional
        The share of the layers' activations, the input first, that is dropped; of layers it does not name, none.

    Raises
    ------
    DeviceError
        If this installation has no compiled engine.
    InputError
        If it can not train this network.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: Sequence[str],
        cost: str,
        dtype: str,
        instruction_set: str | None = None,
        floor: float = 0.0,
        dropout: Sequence[float] = (),
    ) -> None:
        module = _module()
        try:
            self._engine = module.Engine(sizes, activations, cost, dtype, instruction_set, floor, dropout)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{error}.") from error

    @property
    def instruction_set(self) -> str:
        """The instruction set that it uses."""
        name: str = self._engine.instruction_set
        return name

    @property
    def most_threads(self) -> int:
        """How many threads are worth a trial: the usable cores, and no more than the environment allows."""
        return int(min(cpu.usable_cores(), cpu.allowed_threads()))

    def load(self, parameters: Array, states: Sequence[Array] = ()) -> None:
        """Copy parameters, and a rule's states, into the engine.

        Parameters
        ----------
        parameters : array, shape (number of parameters,)
            All weights w^1 ... w^L, each (n_l, n_{l-1}) row by row, and then all biases.
        states : sequence of arrays of the same shape
            As many as the rule keeps: the optimizer's `states`.
        """
        try:
            self._engine.load(parameters, states)
        except (TypeError, ValueError) as error:
            raise InputError(f"{error}.") from error

    def store(self, parameters: Array, states: Sequence[Array] = ()) -> None:
        """Copy them from the engine into arrays of the same layout."""
        try:
            self._engine.store(parameters, states)
        except (TypeError, ValueError) as error:
            raise InputError(f"{error}.") from error

    def steps(
        self,
        X: Array,
        Y: Array,
        order: npt.NDArray[Any],
        batch_size: int,
        rule: str,
        coefficients: Sequence[float],
        penalty: Penalty = NO_PENALTY,
        input_scale: float = 1.0,
        threads: int = 1,
        sums: tuple[float, float] = (0.0, 0.0),
        alpha: float | None = None,
        weights: Array | None = None,
        uniform: npt.NDArray[np.float32] | None = None,
    ) -> tuple[float, float]:
        """Train on the rows in `order`, mini-batch by mini-batch; return `sums` with what was added.

        The first is the sum of the examples' costs, each the one that its mini-batch met, times its weight; the
        second, if there is an alpha, the sum of all w^2 before each step, times m/W if the mini-batch's m examples
        weigh W together. Other Python threads run meanwhile; nothing ends the call early, so keep it short. The
        result has the same bits for every number of threads.

        Parameters
        ----------
        X : array, shape (N, n_in), of the network's dtype or uint8
        Y : array, shape (N, n_out), of the network's dtype or uint8
        order : array of int64
            Rows of X and Y; the last mini-batch takes what is left.
        batch_size : int
        rule : {"sgd", "momentum", "nesterov", "adam"}
        coefficients : sequence of float
            (eta,); (eta, mu) for momentum and nesterov; (eta, beta1, beta2, epsilon, epsilon_hat, steps done so far)
            for adam.
        penalty : Penalty
            Of the weights: l2 is lambda / n of the book's chapter 3.
        input_scale : float
            Multiplied into every input.
        threads : int
        sums : (float, float)
            Those so far. Handed from call to call, they have the same bits however the rows are cut into calls.
        alpha : float, optional
            alpha/W is added to l2. With it, be it 0, weights are scaled in the sum of the costs so that those of a
            mini-batch add up to m.
        weights : array, shape (N, 1), of the network's dtype, optional
            Of the examples: a mini-batch's gradient is their weighted mean.
        uniform : array of float32, optional
            Dropout's random numbers from 0 to 1: for each mini-batch of m examples, of each layer that has a share,
            the input first, (m, n_l) row by row. Activations with a number below the share are dropped.
        """
        try:
            sums = self._engine.steps(
                X,
                Y,
                order,
                batch_size,
                rule,
                coefficients,
                penalty,
                input_scale,
                threads,
                sums,
                alpha,
                weights,
                uniform,
            )
        except (TypeError, ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{error}.") from error
        return sums


def _module() -> Any:
    reason = why_not_compiled()
    if reason is not None:
        raise DeviceError(f"{reason}.")
    return importlib.import_module("gpunet._engine")
