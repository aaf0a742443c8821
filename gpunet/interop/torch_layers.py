"""Layers out of PyTorch: what a `torch.nn.Sequential` or a state dict is made of, or why it is no network."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import activations, optional
from gpunet.activations import Activation
from gpunet.errors import InputError


@dataclass(frozen=True)
class Twin:
    """The module that is the same as an activation.

    Attributes
    ----------
    kind : str
        Its class in torch.nn, or in `torch_modules`.
    attributes : dict
        For each of its attributes that matter the values with which it is the same; `to_torch` takes the first.
    constants : dict
        Our name of each constant -> the attribute's name.
    """

    kind: str
    attributes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)


MODULES: dict[str, Twin] = {
    "sigmoid": Twin("Sigmoid"),
    "tanh": Twin("Tanh"),
    "relu": Twin("ReLU"),
    "linear": Twin("Identity"),
    "softmax": Twin("Softmax", {"dim": (-1, 1)}),
    "leaky_relu": Twin("LeakyReLU", constants={"alpha": "negative_slope"}),
    "elu": Twin("ELU", {"alpha": (1.0,)}),
    "gelu": Twin("GELU", {"approximate": ("tanh",)}),
    "silu": Twin("SiLU"),
    # Above the threshold it is z itself: exact in float64 from about 37 on, in float32 from PyTorch's 20.
    "softplus": Twin("Softplus", {"beta": (1.0,), "threshold": (40.0, 20.0)}),
    "hard_sigmoid": Twin("Hardsigmoid"),
    "exp": Twin("Exp"),
}

#: What pip installs PyTorch by.
PACKAGE = "torch"

#: The layer, its name up to the number at its end, and which parameter it is.
_PARAMETER = re.compile(r"((.*?)[0-9]+)\.(weight|bias)")
_NO_BIAS = " Every layer of a network has biases; zeros, one for each neuron, do the same."


@dataclass
class Layer:
    """A Linear layer and, as far as is known, the activation after it."""

    name: str
    weights: npt.NDArray[Any]
    biases: npt.NDArray[Any]
    activation: str | Activation | None = None


# -- A state dict ----------------------------------------------------------------------------------------------


def from_state_dict(state: Mapping[Any, Any]) -> list[Layer]:
    """Return the layers of a state dict, in the order of the numbers in their names.

    Raises
    ------
    InputError
    """
    if not state:
        raise InputError("the state dict is empty.")
    found: dict[str, dict[str, Any]] = {}
    stems = {}
    for key, value in state.items():
        match = _PARAMETER.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise InputError(
                f"the state dict has {key!r:.60}; names such as '0.weight' and '0.bias' are expected, whose number "
                "gives the order of the layers. Pass a dict with such names, of Linear layers only."
            )
        layer, stem, kind = match.groups()
        stems[stem] = key
        found.setdefault(layer, {})[kind] = value
    if len(stems) > 1:
        raise InputError(
            f"the order of {' and '.join(map(repr, stems.values()))} can not be told from their names; pass a dict "
            "with the names '0.weight', '0.bias', '1.weight', ... in the order of the layers."
        )
    layers = []
    for name in sorted(found, key=_number):
        for kind in ("weight", "bias"):
            if kind not in found[name]:
                raise InputError(f"the state dict has no '{name}.{kind}'.{_NO_BIAS if kind == 'bias' else ''}")
        weights, biases = (_array(found[name][kind], f"{name}.{kind}") for kind in ("weight", "bias"))
        layers.append(Layer(name, weights, biases))
    _check_shapes(layers)
    return layers


def _number(name: str) -> int:
    """Return the number that a layer's name ends in: "2" stands before "10"."""
    return int(re.findall(r"[0-9]+$", name)[0])


def _array(value: Any, name: str) -> npt.NDArray[Any]:
    """Return a tensor of any library as an array, which may share its memory."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):  # which NumPy lacks
            raise InputError(f"{name} is of bfloat16; convert it before: {name!r}: tensor.float().")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} can not be read as an array of numbers: {error}.") from error
    if array.dtype.kind != "f":
        raise InputError(f"{name} must hold floating-point numbers, got dtype {array.dtype}.")
    return array


def _check_shapes(layers: Sequence[Layer]) -> None:
    for layer in layers:
        w, b = layer.weights, layer.biases
        if w.ndim != 2 or 0 in w.shape:
            raise InputError(
                f"{layer.name}.weight has shape {w.shape}, but that of a Linear layer is (outputs, inputs); "
                "convolutions and normalizations can not be taken over."
            )
        if b.shape != (w.shape[0],):
            raise InputError(
                f"{layer.name}.bias has shape {b.shape}, but {layer.name}.weight of shape {w.shape} needs "
                f"({w.shape[0]},)."
            )
    for before, after in pairwise(layers):
        if after.weights.shape[1] != before.weights.shape[0]:
            raise InputError(
                f"{before.name}.weight has {before.weights.shape[0]} outputs, but {after.name}.weight takes "
                f"{after.weights.shape[1]} inputs; the layers are not in order, or one is missing."
            )


# -- A module --------------------------------------------------------------------------------------------------


def from_module(module: Any) -> tuple[list[Layer], float | None]:
    """Return the layers and the input scale, or None, of a Sequential or a single Linear layer.

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    InputError
    """
    torch = optional.library("torch", "an exchange with PyTorch", PACKAGE)
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"a torch.nn.Sequential or a state dict is needed, got {module!r:.60}.")
    from gpunet.interop.torch_modules import Scale

    layers: list[Layer] = []
    scale = None
    for name, child in _flat(torch, module, ""):
        if type(child) is torch.nn.Linear:
            if child.bias is None:
                raise InputError(f"{name} has no bias.{_NO_BIAS}")
            layers.append(Layer(name, _array(child.weight, f"{name}.weight"), _array(child.bias, f"{name}.bias")))
        elif type(child) in (torch.nn.Identity, torch.nn.Dropout) or (not layers and _flattens(torch, child)):
            continue  # does nothing to rows when it predicts
        elif not layers and scale is None and type(child) is Scale:
            scale = child.factor
        else:
            activation = _activation(torch, name, child)
            if not layers:
                raise InputError(f"{name}, {child}, stands before the first Linear layer.")
            if layers[-1].activation is not None:
                raise InputError(f"{name}, {child}, is the second activation after {layers[-1].name}.")
            layers[-1].activation = activation
    if not layers:
        raise InputError("the module has no Linear layer.")
    _check_shapes(layers)
    return layers, scale


def _flattens(torch: Any, module: Any) -> bool:
    return type(module) is torch.nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _flat(torch: Any, module: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the names and modules of a Sequential, and of those within it, in the order of their application."""
    if type(module) is torch.nn.Sequential:
        for own_name, child in module._modules.items():  # named_children leaves out one that comes twice
            yield from _flat(torch, child, f"{name}.{own_name}" if name else own_name)
    else:
        yield name or "the module", module


def _activation(torch: Any, name: str, module: Any) -> str | Activation:
    """Return the activation that a module is."""
    from gpunet.interop.torch_modules import Mixed as MixedModule

    if type(module) is MixedModule:
        neurons = {int(j): _activation(torch, f"{name}.{j}", f) for j, f in module.neurons.items()}
        return activations.mixed(_activation(torch, name, module.default), neurons)
    for known, twin in MODULES.items():
        if type(module) is kind(torch, twin):
            odd = [key for key, values in twin.attributes.items() if getattr(module, key) not in values]
            if odd:
                wanted = twin.attributes[odd[0]][0]
                raise InputError(f"{name}, {module}, is not gpunet's {known}: {odd[0]} would have to be {wanted!r}.")
            if not twin.constants:
                return known
            constants = {own: getattr(module, theirs) for own, theirs in twin.constants.items()}
            try:
                return type(activations.BUILT_IN[known])(**constants)
            except InputError as error:
                raise InputError(f"{name}, {module}, can not be taken over: {error}") from error
    hint = ""
    if type(module) is torch.nn.LogSoftmax:
        hint = " Leave it out and pass output_activation='softmax'."
    elif type(module).__module__.partition(".")[0] != "torch":
        hint = " What its forward computes can not be seen: pass its state_dict() and activations=."
    raise InputError(
        f"{name} is {type(module).__name__}; what can be taken over is a Sequential of Linear and the activations "
        f"{', '.join(twin.kind for twin in MODULES.values())}.{hint}"
    )


def kind(torch: Any, twin: Twin) -> Any:
    """Return the class of a twin."""
    from gpunet.interop import torch_modules

    return getattr(torch.nn, twin.kind, None) or getattr(torch_modules, twin.kind)
