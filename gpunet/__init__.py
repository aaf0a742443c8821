"""gpunet trains fully connected networks by explicit backpropagation, on NumPy, CuPy or any Array API library."""

from gpunet import datasets, optimizers
from gpunet.activations import Activation, mixed
from gpunet.config import show_config
from gpunet.costs import Cost
from gpunet.errors import DeviceError, DivergenceError, FileFormatError, GpunetError, InputError
from gpunet.gradient_check import check_gradients
from gpunet.network import Network
from gpunet.version import __version__

__all__ = [
    "Activation",
    "Cost",
    "DeviceError",
    "DivergenceError",
    "FileFormatError",
    "GpunetError",
    "InputError",
    "Network",
    "__version__",
    "check_gradients",
    "datasets",
    "mixed",
    "optimizers",
    "show_config",
]
