"""What a training did, epoch by epoch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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
    """

    epoch: int
    cost: float
    seconds: float
    examples_per_second: float
    validation_cost: float | None = None
    validation_score: float | None = None
    eta: float | None = None


@dataclass
class History:
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> History:
        """Return the history that `to_dict` made this of."""
        return cls(**{**content, "epochs": [Epoch(**epoch) for epoch in content["epochs"]]})
