"""gpunet trains fully connected networks by explicit backpropagation, on NumPy, CuPy or any Array API library."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpunet import datasets, interop, logs, optimizers, plots, schedules
    from gpunet.activations import Activation, mixed
    from gpunet.config import show_config
    from gpunet.costs import Cost
    from gpunet.errors import (
        DeviceError,
        DivergenceError,
        FileFormatError,
        GpunetError,
        InputError,
        MissingPackageError,
    )
    from gpunet.gradient_check import check_gradients
    from gpunet.network import Network
    from gpunet.training.early_stopping import EarlyStopping
    from gpunet.version import __version__

__all__ = [
    "Activation",
    "Cost",
    "DeviceError",
    "DivergenceError",
    "EarlyStopping",
    "FileFormatError",
    "GpunetError",
    "InputError",
    "MissingPackageError",
    "Network",
    "__version__",
    "check_gradients",
    "datasets",
    "interop",
    "logs",
    "mixed",
    "optimizers",
    "plots",
    "schedules",
    "show_config",
]

#: Where each name is. Loaded when asked for: the command chooses OpenBLAS's kernels before NumPy loads.
_HOMES = {
    "Activation": "activations",
    "Cost": "costs",
    "DeviceError": "errors",
    "DivergenceError": "errors",
    "EarlyStopping": "training.early_stopping",
    "FileFormatError": "errors",
    "GpunetError": "errors",
    "InputError": "errors",
    "MissingPackageError": "errors",
    "Network": "network",
    "__version__": "version",
    "check_gradients": "gradient_check",
    "mixed": "activations",
    "show_config": "config",
}


def __getattr__(name: str) -> Any:
    if name in ("backends", "datasets", "interop", "logs", "optimizers", "plots", "schedules"):
        return import_module(f"gpunet.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'gpunet' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"gpunet.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
