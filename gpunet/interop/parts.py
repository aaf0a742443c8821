"""What every exchange needs: the other library, a network taken apart, a network put together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from gpunet import activations
from gpunet.activations import Activation, Mixed
from gpunet.costs import Cost
from gpunet.errors import InputError
from gpunet.network import Network

#: The cost that is meant for an output activation; the quadratic cost is for all others.
_USUAL_COSTS = {"sigmoid": "cross-entropy", "softmax": "log-likelihood", "exp": "poisson"}

Entry = TypeVar("Entry")


def layers(net: Network) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
    """Return the weights (n_l, n_{l-1}) and the biases (n_l,) of each layer, in memory of their own.

    Raises
    ------
    InputError
        If `net` is no network, or a parameter is not finite.
    """
    if not isinstance(net, Network):
        raise InputError(f"a gpunet.Network is needed, got {net!r:.60}; Network.load reads one from its file.")
    taken = []
    for l, (w, b) in enumerate(zip(net.weights, net.biases, strict=True), start=1):
        if not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise InputError(f"layer {l} of the network holds NaN or infinity; such a network is not exported.")
        taken.append((w.copy(), b.ravel().copy()))
    return taken


def counterpart(f: Activation, table: Mapping[str, Entry], where: str) -> Entry:
    """Return the entry of a built-in activation in the table of another library."""
    if isinstance(f, Mixed):
        raise InputError(f"{where} has no layers whose neurons differ in activation, as those of mixed() do.")
    if not activations.is_built_in(f):
        raise InputError(
            f"the activation {f.name!r} is not built in, and {where} knows nothing of it. Built-in ones can be "
            f"exported: {', '.join(table)}."
        )
    if f.name not in table:
        raise InputError(f"{where} has no {f.name!r} activation; it has {', '.join(table)}.")
    return table[f.name]


def metadata_texts(net: Network) -> dict[str, str]:
    """Return each entry of the network's metadata as JSON, for files whose metadata are texts."""
    try:
        return {str(key): json.dumps(value, allow_nan=False) for key, value in net.metadata.items()}
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the network's metadata must be ready for JSON: {error}.") from error


def network(
    parameters: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any]]],
    by_layer: Sequence[str | Activation],
    cost: str | Cost | None,
    *,
    input_scale: float | None,
    dtype: str | None,
    device: Any,
    seed: int | None,
) -> Network:
    """Return a network of weights (n_l, n_{l-1}) and biases (n_l,), whose shapes have been checked.

    Without a cost it has the one that is meant for its output activation. Without a dtype it has that of its
    parameters, which must be float32 or float64.
    """
    if dtype is None:
        names = {array.dtype.name for pair in parameters for array in pair}
        if len(names) > 1 or not names <= {"float32", "float64"}:
            raise InputError(
                f"the parameters are of {' and '.join(sorted(names))}; a network computes in one of float32 and "
                "float64: pass dtype='float32'."
            )
        dtype = names.pop()
    if cost is None:
        output = activations.get(by_layer[-1])
        cost = _USUAL_COSTS.get(output.name, "quadratic")
    sizes = [parameters[0][0].shape[1], *(len(b) for _, b in parameters)]
    net = Network(
        sizes, activation=by_layer, cost=cost, dtype=dtype, device=device, seed=seed, input_scale=input_scale
    )
    net.weights = [w for w, _ in parameters]
    net.biases = [b[:, None] for _, b in parameters]
    return net
