"""Gradient checking: backpropagation against finite differences of the cost, equation (46)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import checks
from gpunet.errors import InputError
from gpunet.network import Network

#: The steps at which rounding and truncation of a float64 difference about balance.
_STEP = {"central": 1e-5, "forward": 1e-7}
_TOLERANCE = {"central": 1e-6, "forward": 1e-4}


@dataclass(frozen=True)
class LayerCheck:
    """How the gradient of one layer's weights or biases compares.

    Attributes
    ----------
    name : str
        Such as "weights 1", by the book's layer number.
    error : float
        ||backprop - differences|| / (||backprop|| + ||differences||) over the checked entries; 0 if both vanish.
    checked, entries : int
        How many entries were checked, of how many.
    """

    name: str
    error: float
    checked: int
    entries: int


@dataclass(frozen=True)
class GradientCheck:
    """The result of `check_gradients`; true if every layer's error is within the tolerance."""

    layers: list[LayerCheck]
    method: str
    step: float
    tolerance: float

    @property
    def error(self) -> float:
        """The largest error of any layer."""
        return max(layer.error for layer in self.layers)

    @property
    def passed(self) -> bool:
        """Whether every error is within the tolerance."""
        return bool(self.error <= self.tolerance)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        lines = [f"backpropagation against {self.method} differences, step {self.step:g}, float64"]
        for layer in self.layers:
            lines.append(f"  {layer.name:10}  {layer.checked} of {layer.entries} entries  error {layer.error:.1e}")
        verdict = "agree" if self.passed else "DISAGREE"
        lines.append(f"they {verdict}: largest error {self.error:.1e}, tolerance {self.tolerance:g}")
        return "\n".join(lines)


def check_gradients(
    network: Network,
    x: Any,
    y: Any,
    *,
    method: str = "central",
    max_entries: int = 2000,
    tolerance: float | None = None,
) -> GradientCheck:
    """Compare backpropagation's gradient with finite differences of the cost, equation (46), in float64.

    The network is not changed: a float64 copy on the CPU is checked. A ReLU whose input lies within a step of 0
    has no derivative there and can fail the check with nothing wrong.

    Parameters
    ----------
    network : Network
    x : array, shape (n_in,), (n_in, 1) or (n_in, m)
    y : array, shape (n_out,), (n_out, 1) or (n_out, m)
    method : {"central", "forward"}
        (C(w + e) - C(w - e)) / 2e, or (C(w + e) - C(w)) / e as equation (46) has it.
    max_entries : int
        Of a layer's weights at most so many are checked, drawn at random with a fixed seed.
    tolerance : float, optional
        The largest error that passes; by default 1e-6 for central and 1e-4 for forward differences.

    Returns
    -------
    GradientCheck
    """
    if not isinstance(network, Network):
        raise InputError(f"network must be a gpunet.Network, got {type(network).__name__}.")
    checks.one_of(method, _STEP, "method")
    max_entries = checks.positive_int(max_entries, "max_entries")
    tolerance = _TOLERANCE[method] if tolerance is None else checks.positive_float(tolerance, "tolerance")
    net = _float64_copy(network)
    nabla_b, nabla_w = net.backprop(x, y)
    x, y = (np.asarray(v, dtype=np.float64).reshape(np.shape(v)[0], -1) for v in (x, y))
    rng = np.random.default_rng(0)
    layers = []
    for l in range(net.num_layers - 1):
        for kind, values, nabla in (("weights", net.weights, nabla_w), ("biases", net.biases, nabla_b)):
            parameters, gradient = (
                values[l].reshape(-1),
                nabla[l].reshape(-1),
            )  # views: the network's own memory
            chosen = np.arange(parameters.size)
            if parameters.size > max_entries:
                chosen = rng.choice(parameters.size, max_entries, replace=False)
            differences = np.array([_difference(net, x, y, parameters, i, method) for i in chosen])
            error = _relative_error(gradient[chosen], differences)
            layers.append(LayerCheck(f"{kind} {l + 1}", error, len(chosen), parameters.size))
    return GradientCheck(layers, method, _STEP[method], tolerance)


def _float64_copy(network: Network) -> Network:
    net = Network(
        network.sizes,
        activation=network.activations,
        cost=network.cost,
        dtype="float64",
        device="cpu",
        input_scale=network.input_scale,
    )
    net.weights, net.biases = network.weights, network.biases
    return net


def _cost(net: Network, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> float:
    return float(np.sum(net.cost.value(net.feedforward(x), y, np)))


def _difference(net: Network, x: Any, y: Any, parameters: npt.NDArray[Any], i: int, method: str) -> float:
    """Return the difference quotient of the cost with respect to one parameter."""
    step, value = _STEP[method], parameters[i]
    parameters[i] = value + step
    above = _cost(net, x, y)
    parameters[i] = value - step if method == "central" else value
    below = _cost(net, x, y)
    parameters[i] = value
    return (above - below) / (2 * step if method == "central" else step)


def _relative_error(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    size = float(np.linalg.norm(a) + np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / size if size else 0.0
