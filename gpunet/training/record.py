"""What a training records: its epochs and what ran it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields

from gpunet.errors import InputError

#: One epoch as a table has it: a name and a number, or None where nothing was measured.
Row = dict[str, float | None]


@dataclass(frozen=True)
class LayerFacts:
    """How a layer stood after an epoch, on a fixed part of the training data; see `Diagnostics`.

    Attributes
    ----------
    delta_norm : float
        The length of the error delta^l, the mean over the examples: how fast the layer's biases learn.
    gradient_norm : float
        The length of the mean gradient of the layer's weights and biases.
    weight_norm : float
        The length of w^l as one vector.
    saturated : float or None
        The share of neurons and examples whose activation is within 2 % of an end of its range; None where the
        activation has no such ends.
    dead : float or None
        The share of ReLU neurons that are 0 for every example; None where there are none.
    """

    delta_norm: float
    gradient_norm: float
    weight_norm: float
    saturated: float | None = None
    dead: float | None = None


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    Attributes
    ----------
    epoch : int
        Its number, from 0 as in the book.
    cost : float
        The mean cost of the training examples, each as its mini-batch met it in this epoch.
    seconds : float
        The time that the epoch's training took, without the validation.
    examples_per_second : float
    validation_cost : float or None
        The mean cost of the validation data after the epoch.
    validation_score : float or None
        Accuracy for classification, R^2 for regression.
    eta : float or None
        The learning rate; None where the optimizer has none.
    layers : tuple of LayerFacts, or None
        The layers after the epoch, l = 1 ... L, if they were asked for.
    """

    epoch: int
    cost: float
    seconds: float
    examples_per_second: float
    validation_cost: float | None = None
    validation_score: float | None = None
    eta: float | None = None
    layers: tuple[LayerFacts, ...] | None = None

    def row(self) -> Row:
        """Return its numbers by name, those of layer l as ``delta_norm_l``, ..., as tables and logs have them."""
        row: Row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        for f in fields(LayerFacts):
            for l, layer in enumerate(self.layers or (), start=1):
                value = getattr(layer, f.name)
                if value is not None:
                    row[f"{f.name}_{l}"] = value
        return row


@dataclass
class Record:
    """The epochs of a training and what ran it.

    Attributes
    ----------
    device, backend : str
        As the network's.
    engine : str
        How the steps were run, such as "step by step".
    optimizer : str
    eta : float or None
        The learning rate at the start; None where the optimizer has none.
    batch_size : int
    epochs : list of Epoch
    stopped : str or None
        Why the training ended before its last epoch, if it did.
    best_epoch : int or None
        The epoch whose parameters early stopping has restored.
    task : {"classification", "regression"}, optional
        Which of accuracy and R^2 the scores are.
    """

    device: str
    backend: str
    engine: str
    optimizer: str
    eta: float | None
    batch_size: int
    epochs: list[Epoch] = field(default_factory=list)
    stopped: str | None = None
    best_epoch: int | None = None
    task: str | None = None

    @property
    def cost(self) -> list[float]:
        """The training cost of each epoch."""
        return [epoch.cost for epoch in self.epochs]

    @property
    def validation_cost(self) -> list[float | None]:
        """The validation cost after each epoch."""
        return [epoch.validation_cost for epoch in self.epochs]

    @property
    def validation_score(self) -> list[float | None]:
        """The validation score after each epoch."""
        return [epoch.validation_score for epoch in self.epochs]

    @property
    def etas(self) -> list[float | None]:
        """The learning rate of each epoch."""
        return [epoch.eta for epoch in self.epochs]

    @property
    def best(self) -> Epoch:
        """The epoch with the highest validation score, of equal ones that of the lowest validation cost.

        Without validation data the one of the lowest cost. Of epochs that are equal in this the first.

        Raises
        ------
        InputError
            If there are no epochs.
        """
        if not self.epochs:
            raise InputError("the history has no epochs yet, and so no best one.")

        def badness(epoch: Epoch) -> tuple[float, float]:
            score, cost = epoch.validation_score, epoch.validation_cost
            pair = (0.0 if score is None else -score, epoch.cost if cost is None else cost)
            return math.inf if math.isnan(pair[0]) else pair[0], math.inf if math.isnan(pair[1]) else pair[1]

        return min(self.epochs, key=badness)
