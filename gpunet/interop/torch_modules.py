"""What `to_torch` needs beside PyTorch's own modules. The one file that imports PyTorch when it is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


class Scale(torch.nn.Module):  # type: ignore[misc]  # PyTorch's types are not looked at
    """A network's `input_scale`: every input times a factor, whole numbers in the factor's dtype.

    The factor is no parameter and not in the state dict, but goes along to another device or dtype.
    """

    scale: Any

    def __init__(self, factor: float, dtype: Any) -> None:
        super().__init__()
        self.factor = factor  # as it was; `scale` is rounded to dtype
        self.register_buffer("scale", torch.tensor(factor, dtype=dtype), persistent=False)

    def forward(self, x: Any) -> Any:
        """Return x times the factor."""
        return x * self.scale

    def extra_repr(self) -> str:
        return repr(self.factor)


class Mixed(torch.nn.Module):  # type: ignore[misc]
    """One activation for a whole layer but for some of its neurons, as `gpunet.mixed`."""

    def __init__(self, default: Any, neurons: Mapping[int, Any]) -> None:
        super().__init__()
        self.default = default
        self.neurons = torch.nn.ModuleDict({str(j): f for j, f in neurons.items()})

    def forward(self, z: Any) -> Any:
        """Return the activations of rows z, (m, n)."""
        a = self.default(z).clone()  # the identity gives back z itself
        for j, f in self.neurons.items():
            a[..., int(j)] = f(z[..., int(j)])
        return a


class Exp(torch.nn.Module):  # type: ignore[misc]
    """exp(z), which stays at exp(80) from z = 80 on, as gpunet's "exp"."""

    def forward(self, z: Any) -> Any:
        """Return the activations of z."""
        return z.clamp(max=80.0).exp()
