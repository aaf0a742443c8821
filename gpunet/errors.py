"""The errors that gpunet raises for a user's mistake or a machine's limit.

Each message says what was given, what was expected and what to do.
"""


class GpunetError(Exception):
    """Base of every error that gpunet raises on purpose."""


class InputError(GpunetError, ValueError):
    """An argument or a data set is not what the call needs."""


class FileFormatError(GpunetError, ValueError):
    """A file can not be read as what it is said to be."""


class MissingPackageError(GpunetError, ImportError):
    """Something needs an optional package that can not be imported; the message says how to install it."""


class DeviceError(GpunetError, RuntimeError):
    """A device was asked for that can not be used; the message keeps the reason."""


class DivergenceError(GpunetError, ArithmeticError):
    """Training produced NaN or infinity and was stopped."""


def not_enough_memory(what: str, error: MemoryError) -> DeviceError:
    """Return the error for a device whose memory does not hold `what`."""
    return DeviceError(
        f"not enough memory for {what}: {error}. Lower the sizes, the batch size or the number of examples, or "
        "choose another device."
    )


def one_line(text: object, limit: int = 200) -> str:
    r"""Return what a file or another library says as it can stand in a message: printable, in one line, not long.

    >>> one_line("a\nb\x1b[31m")
    'a b\\x1b[31m'
    """
    words = " ".join(str(text)[: 4 * limit].split())
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)
    return shown if len(shown) <= limit else f"{shown[: limit - 3]}..."
