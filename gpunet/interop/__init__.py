"""Networks into and out of ONNX, PyTorch and scikit-learn; each library is imported only when a function needs it."""

from gpunet.interop.onnx import to_onnx
from gpunet.interop.sklearn import from_sklearn, to_sklearn
from gpunet.interop.torch import from_torch, save_torch_state_dict, to_torch, to_torch_state_dict

__all__ = [
    "from_sklearn",
    "from_torch",
    "save_torch_state_dict",
    "to_onnx",
    "to_sklearn",
    "to_torch",
    "to_torch_state_dict",
]
