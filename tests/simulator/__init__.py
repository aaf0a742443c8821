"""CUDA kernels run on the CPU, for tests on machines without a GPU.

What it can not show: that a kernel is fast, what fused multiply-add rounds, how many registers it takes, and races
that neither of the two orders of threads and blocks brings out. tests/gpu runs the real thing, on a card.
"""

from simulator.compiler import CompileError, Kernel, LaunchError, NotFoundError, SimulatorError, compile

__all__ = ["CompileError", "Kernel", "LaunchError", "NotFoundError", "SimulatorError", "compile"]
