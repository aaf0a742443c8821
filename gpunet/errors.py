"""The errors that gpunet raises for a user's mistake or a machine's limit.

Each message says what was given, what was expected and what to do.
"""


class GpunetError(Exception):
    """Base of every error that gpunet raises on purpose."""


class InputError(GpunetError, ValueError):
    """An argument or a data set is not what the call needs."""


class FileFormatError(GpunetError, ValueError):
    """A file can not be read as what it is said to be."""


class DeviceError(GpunetError, RuntimeError):
    """A device was asked for that can not be used; the message keeps the reason."""


class DivergenceError(GpunetError, ArithmeticError):
    """Training produced NaN or infinity and was stopped."""
