"""How the layers of a network stand: the lengths of their errors, gradients and weights, and who hardly learns.

Chapter 2 of the book draws from its four equations that a weight learns slowly if the neuron it leads to has
saturated, its activation near 0 or 1. Chapter 5 takes the length of delta^l for the speed at which layer l learns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gpunet import arrays
from gpunet.activations import Activation, Mixed
from gpunet.backends import Array
from gpunet.backprop import backpropagate, feedforward, gradient
from gpunet.model import Model
from gpunet.parameters import Parameters
from gpunet.training.record import LayerFacts

#: At most so many examples are looked at.
PROBE = 1000
#: A neuron counts as saturated within this part of its activation's range from one of its ends. For sigmoid and tanh
#: its f'(z) is then below 8 % of the largest.
_NEAR = 0.02
#: Activations that come near their ends without `Activation.range`, which is about targets.
_ENDS = {"tanh": (-1.0, 1.0)}


class Diagnostics:
    """Measures the layers of a model on a fixed probe of its training data.

    The probe is every k-th example, so that data sorted by class are met in all their classes. It lies on the device
    from the start; `measure` runs forward and back over it once and reads the results to the host.

    Parameters
    ----------
    model : Model
    X : array, shape (N, n_in)
        Inputs, one row an example, in their own dtype: on the device, or in the host's memory.
    Y : array, shape (N, n_out)
        Targets, one row an example, where X is.
    """

    def __init__(self, model: Model, X: Array, Y: Array) -> None:
        self._model = model
        n = int(X.shape[0])
        every = -(-n // PROBE)
        self.m = len(range(0, n, every))
        with model.ops.active():
            self._work = model.workspace(self.m)
            self._nabla = Parameters(model.ops, model.sizes, model.dtype)
            self._fill(X, every, self._work.a[0], model.input_scale)
            self._fill(Y, every, self._work.y, 1.0)
        self._neurons = [_Neurons(f, n) for f, n in zip(model.activations, model.sizes[1:], strict=True)]

    def _fill(self, rows: Array, every: int, out: Array, scale: float) -> None:
        """Write every so many-th row into the columns of `out`."""
        ops = self._model.ops
        if ops.is_native(rows):
            index = np.arange(0, rows.shape[0], every)
        else:
            rows, index = arrays.to_device(ops, rows[::every], self._model.dtype), np.arange(self.m)
        ops.gather(rows, ops.asarray(index), out=out, scale=scale)

    def measure(self) -> tuple[LayerFacts, ...]:
        """Return how the layers l = 1 ... L stand with the present parameters.

        The gradient is that of the mean cost of the probe, without any regularization.
        """
        model, work, pairs = self._model, self._work, self._nabla.pairs()
        ops, layers = model.ops, model.layers
        with ops.active(), ops.threads(1), np.errstate(over="ignore", invalid="ignore"):
            feedforward(ops, layers, work)
            backpropagate(ops, layers, model.cost, work)
            gradient(ops, work, pairs, alpha=1 / work.m)
            facts = []
            for l, (layer, (nabla_b, nabla_w)) in enumerate(zip(layers, pairs, strict=True), start=1):
                saturated, dead = self._neurons[l - 1].shares(ops.to_numpy(work.a[l]))
                facts.append(
                    LayerFacts(
                        delta_norm=float(np.sqrt(_squares(ops.to_numpy(work.delta[l])).sum(axis=0)).mean()),
                        gradient_norm=float(
                            np.sqrt(_squares(ops.to_numpy(nabla_b)).sum() + _squares(ops.to_numpy(nabla_w)).sum())
                        ),
                        weight_norm=float(np.sqrt(_squares(ops.to_numpy(layer.weights)).sum())),
                        saturated=saturated,
                        dead=dead,
                    )
                )
        return tuple(facts)


def _squares(x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    # Not a norm of NumPy's: a dot product would start the threads of NumPy's own BLAS.
    squares: npt.NDArray[np.float64] = np.square(x, dtype=np.float64)
    return squares


class _Neurons:
    """Which neurons of a layer of n have ends to come near, and which can be dead."""

    def __init__(self, activation: Activation, n: int) -> None:
        own = activation.neurons if isinstance(activation, Mixed) else {}
        default = activation.default if isinstance(activation, Mixed) else activation
        each = [own.get(j, default) for j in range(n)]
        ends = np.array([_ENDS.get(f.name) or f.range or (-np.inf, np.inf) for f in each])
        self._bounded = np.isfinite(ends).all(axis=1)
        low, high = ends[self._bounded].T[:, :, None]
        self._low, self._high = low + _NEAR * (high - low), high - _NEAR * (high - low)
        self._relu = np.array([f.name == "relu" for f in each])

    def shares(self, a: npt.NDArray[np.floating]) -> tuple[float | None, float | None]:
        """Return the share of saturated activations and that of dead neurons; None where there can be none."""
        bounded, relu = a[self._bounded], a[self._relu]
        near = (bounded <= self._low) | (bounded >= self._high)
        return (
            float(near.mean()) if near.size else None,
            float((relu == 0).all(axis=1).mean()) if relu.size else None,
        )
