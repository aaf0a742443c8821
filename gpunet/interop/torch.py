"""To and from PyTorch: a `torch.nn.Sequential` of Linear layers, or its state dict."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors.numpy import save

from gpunet import activations as activation_functions
from gpunet import architecture, costs, model_file, optional
from gpunet.activations import Activation, Mixed
from gpunet.costs import Cost
from gpunet.errors import InputError
from gpunet.interop import parts, torch_layers
from gpunet.network import Network


def to_torch_state_dict(net: Network) -> dict[str, Any]:
    """Return the parameters as the state dict of ``torch.nn.Sequential(Linear, activation, Linear, ...)``.

    It is also that of `to_torch`'s module. It says nothing of the activations nor of ``net.input_scale``, with which
    inputs must be multiplied before the first layer.

    Parameters
    ----------
    net : Network

    Returns
    -------
    dict of str to torch.Tensor
        "0.weight" (n_1, n_0), "0.bias" (n_1,), "2.weight", "2.bias", ... on the CPU, in memory of their own.

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    InputError
        If a parameter is not finite.
    """
    torch = optional.library("torch", "an exchange with PyTorch", torch_layers.PACKAGE)
    return {name: torch.from_numpy(array) for name, array in _named(net).items()}


def save_torch_state_dict(net: Network, path: str | os.PathLike[str]) -> None:
    """Write `to_torch_state_dict` as a safetensors file, which ``safetensors.torch.load_file`` reads.

    Needs no PyTorch. The file's metadata say in JSON what the state dict does not: "activations" by layer,
    "input_scale", "metadata". It appears whole or not at all; an existing one is replaced.

    Raises
    ------
    InputError
        If a parameter is not finite, or the metadata are not ready for JSON.
    OSError
        If the file can not be written.
    """
    tensors = _named(net)
    texts = {
        "format": "pt",
        "activations": json.dumps([activation_functions.to_json(f) for f in net.activations]),
        "input_scale": json.dumps(net.input_scale),
        **{f"metadata.{key}": text for key, text in parts.metadata_texts(net).items()},
    }
    model_file.replace_file(Path(path), save(tensors, metadata=texts))


def to_torch(net: Network) -> Any:
    """Return the network as a `torch.nn.Sequential` on the CPU, which takes rows (N, n_in).

    Its children are named "0" (Linear), "1" (its activation), "2", ...; before them stands "input_scale" if the
    network has one. It shares no memory with the network.

    Parameters
    ----------
    net : Network
        Of built-in activations.

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    InputError
        If an activation is not built in, or a parameter is not finite.
    """
    torch = optional.library("torch", "an exchange with PyTorch", torch_layers.PACKAGE)
    layers = parts.layers(net)
    from gpunet.interop.torch_modules import Mixed as MixedModule
    from gpunet.interop.torch_modules import Scale

    def module(f: Activation) -> Any:
        if isinstance(f, Mixed):
            return MixedModule(module(f.default), {j: module(own) for j, own in f.neurons.items()})
        twin = parts.counterpart(f, torch_layers.MODULES, "PyTorch")
        arguments = {key: values[0] for key, values in twin.attributes.items()}
        arguments |= {theirs: f.parameters[name] for name, theirs in twin.constants.items()}
        return torch_layers.kind(torch, twin)(**arguments)

    dtype = getattr(torch, net.dtype)
    children: dict[str, Any] = {}
    if net.input_scale != 1.0:
        children["input_scale"] = Scale(net.input_scale, dtype)
    for l, ((w, b), f) in enumerate(zip(layers, net.activations, strict=True)):
        linear = torch.nn.utils.skip_init(torch.nn.Linear, w.shape[1], w.shape[0], dtype=dtype)
        linear.load_state_dict({"weight": torch.from_numpy(w), "bias": torch.from_numpy(b)})
        children[f"{2 * l}"], children[f"{2 * l + 1}"] = linear, module(f)
    result = torch.nn.Sequential()
    for name, child in children.items():
        result.add_module(name, child)
    return result


def from_torch(
    source: Any,
    *,
    activations: str | Activation | Sequence[str | Activation] | None = None,
    output_activation: str | Activation | None = None,
    cost: str | Cost | None = None,
    input_scale: float | None = None,
    dtype: str | None = None,
    device: Any = "auto",
    seed: int | None = None,
) -> Network:
    """Return a network of the layers of a PyTorch module, or of a state dict.

    Parameters
    ----------
    source : torch.nn.Sequential or mapping of str to tensor
        Linear layers with biases, each with at most one activation after it. Dropout and Identity are passed over,
        as is a Flatten before the first layer; Sequentials may be nested. Or a state dict of such layers, whose
        names are told apart by numbers: "0.weight", "0.bias", "2.weight", ...; arrays of any library will do.
    activations : str, Activation or a list of them
        As `activation` of `Network`: for all layers of a state dict, or a list with one for each. A module has its
        own.
    output_activation : str or Activation, optional
        Of the last layer. For a module it is allowed only where that layer has none: one that was trained to logits
        (CrossEntropyLoss: "softmax", BCEWithLogitsLoss: "sigmoid").
    cost : str or Cost, optional
        For further training. By default "cross-entropy" for sigmoid outputs, "log-likelihood" for softmax outputs,
        "poisson" for exp outputs, else "quadratic".
    input_scale : float, optional
        A factor for every input. A module that `to_torch` made has its own.
    dtype : {"float32", "float64"}, optional
        By default that of the parameters; needed for half precision.
    device, seed : as for `Network`

    Returns
    -------
    Network

    Raises
    ------
    InputError
        For what is no such module or state dict; the message tells what is in the way.
    """
    if isinstance(source, Mapping):
        if activations is None:
            raise InputError(
                "a state dict does not say its activations: pass activations=, a name for all layers or a list with "
                "one for each."
            )
        layers = torch_layers.from_state_dict(source)
        sizes = [layers[0].weights.shape[1], *(len(layer.biases) for layer in layers)]
        chosen = costs.get("quadratic" if cost is None else cost)
        by_layer = architecture.layer_activations(activations, output_activation, chosen, sizes)
    else:
        if activations is not None:
            raise InputError("a module says its activations itself; `activations` is for a state dict.")
        layers, own_scale = torch_layers.from_module(source)
        if own_scale is not None and input_scale is not None:
            raise InputError(f"the module has an input scale of its own, {own_scale:g}; leave out `input_scale`.")
        input_scale = own_scale if input_scale is None else input_scale
        by_layer = [activation_functions.get(layer.activation or "linear") for layer in layers]
        if output_activation is not None:
            if layers[-1].activation is not None:
                raise InputError(
                    f"the module's last layer has an activation, {by_layer[-1].name}; leave out `output_activation`."
                )
            by_layer[-1] = activation_functions.get(output_activation)
    return parts.network(
        [(layer.weights, layer.biases) for layer in layers],
        by_layer,
        cost,
        input_scale=input_scale,
        dtype=dtype,
        device=device,
        seed=seed,
    )


def _named(net: Network) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters under the names that they have in a Sequential of Linear layers and activations."""
    named = {}
    for l, (w, b) in enumerate(parts.layers(net)):
        named[f"{2 * l}.weight"], named[f"{2 * l}.bias"] = w, b
    return named
