"""The array libraries that the algorithm runs on, behind one narrow set of verbs."""

from gpunet.backends.array_api import ArrayAPIBackend
from gpunet.backends.base import Array, Backend
from gpunet.backends.select import select, why_not_cuda

__all__ = ["Array", "ArrayAPIBackend", "Backend", "select", "why_not_cuda"]
