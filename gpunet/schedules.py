"""Learning-rate schedules for `Network.fit`; they are defined beside the training that asks them."""

from gpunet.training.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OnPlateau,
    Schedule,
    Step,
    halving,
)

__all__ = [
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "OnPlateau",
    "Schedule",
    "Step",
    "halving",
]
