"""From the arguments of `Network` to its parts: sizes, activations by layer, dtype, generator."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunet import activations, checks
from gpunet.activations import Activation, Mixed
from gpunet.costs import Cost
from gpunet.errors import InputError


def layer_sizes(sizes: Any) -> list[int]:
    """Return the neurons of each layer, the input first."""
    try:
        given = [] if isinstance(sizes, str | bytes) else list(sizes)
    except TypeError:
        given = []
    if not given and not isinstance(sizes, list | tuple):
        raise InputError(f"sizes must be a list of layer sizes such as [784, 30, 10], got {sizes!r}.")
    sizes = given
    if len(sizes) < 2:
        raise InputError(f"sizes must name at least an input and an output layer, got {sizes!r}.")
    return [checks.positive_int(n, f"sizes[{i}]") for i, n in enumerate(sizes)]


def dtype_name(dtype: Any) -> str:
    """Return "float32" or "float64"."""
    try:
        name = "None" if dtype is None else np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    return checks.one_of(name, ("float32", "float64"), "dtype")


def generator(seed: Any) -> np.random.Generator:
    """Return the generator that draws initial parameters and the order of the examples."""
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or seed < 0):
        raise InputError(f"seed must be a whole number of at least 0, or None, got {seed!r}.")
    return np.random.default_rng(None if seed is None else int(seed))


def input_scale(value: Any, dtype: str) -> float:
    """Return the factor for inputs, a finite number above 0 in `dtype`."""
    scale = checks.positive_float(value, "input_scale")
    info = np.finfo(dtype)
    if not float(info.smallest_normal) <= scale <= float(info.max):
        raise InputError(f"input_scale must be a number that {dtype} can hold, got {scale:g}.")
    return scale


def layer_activations(activation: Any, output_activation: Any, cost: Cost, sizes: Sequence[int]) -> list[Activation]:
    """Return the activation of each layer after the input."""
    n_layers = len(sizes) - 1
    if isinstance(activation, str | Activation):
        if output_activation is None:
            output_activation = cost.outputs[0] if cost.outputs else activation
        names = [activation] * (n_layers - 1) + [output_activation]
    else:
        try:
            names = list(activation)
        except TypeError:
            raise InputError(
                f"activation must be a name, an Activation or a list of them, got {activation!r}."
            ) from None
        if output_activation is not None:
            names.append(output_activation)
        if len(names) != n_layers:
            raise InputError(
                f"sizes {list(sizes)} has {n_layers} layers after the input, but activation"
                f"{'' if output_activation is None else ' and output_activation'} gave {len(names)}."
            )
    chosen = [activations.get(name) for name in names]
    for l, (f, n) in enumerate(zip(chosen, sizes[1:], strict=True), start=1):
        if isinstance(f, Mixed) and max(f.neurons) >= n:
            raise InputError(f"layer {l} has {n} neurons, but its mixed activation names neuron {max(f.neurons)}.")
        if f.name == "softmax" and n == 1:
            raise InputError(f"layer {l} has one neuron, and softmax over one neuron is always 1; use sigmoid.")
    if sizes[-1] < cost.least_outputs:
        raise InputError(
            f"the {cost.name} cost needs at least {cost.least_outputs} outputs, one for each class: the last of "
            f"sizes {list(sizes)} must be larger."
        )
    _check_names(chosen)
    return chosen


def _check_names(chosen: list[Activation]) -> None:
    """Refuse two activations of one name: a model file tells them apart by their names."""
    by_name: dict[str, Activation] = {}
    for f in chosen:
        for part in f.parts if isinstance(f, Mixed) else (f,):
            if not activations.is_built_in(part) and by_name.setdefault(part.name, part) is not part:
                raise InputError(f"two different activations have the name {part.name!r}; give them two names.")
