"""What the algorithm needs to know of a network, in one place: layers, cost, backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gpunet.activations import Activation
from gpunet.backends import Backend
from gpunet.backprop import Layer, Workspace
from gpunet.costs import Cost
from gpunet.parameters import Parameters


@dataclass(frozen=True)
class Model:
    """A network on a device. `input_scale` is multiplied into every input on its way to layer 0."""

    ops: Backend
    sizes: Sequence[int]
    activations: Sequence[Activation]
    cost: Cost
    dtype: str
    input_scale: float
    parameters: Parameters = field(init=False)
    layers: list[Layer] = field(init=False)

    def __post_init__(self) -> None:
        with self.ops.active():
            parameters = Parameters(self.ops, self.sizes, self.dtype)
        layers = zip(parameters.weights, parameters.biases, self.activations, strict=True)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "layers", [Layer(w, b, f) for w, b, f in layers])

    def workspace(
        self, m: int, keep_z: bool = False, dropout: Sequence[float] = (), weighted: bool = False
    ) -> Workspace:
        """Return the arrays for one pass over m examples."""
        return Workspace(self.ops, self.layers, m, self.dtype, keep_z, dropout, weighted)
