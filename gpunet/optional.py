"""Packages that gpunet can do without: each is imported when something needs it."""

from __future__ import annotations

import importlib
from typing import Any

from gpunet.errors import MissingPackageError


def library(module: str, what: str, package: str) -> Any:
    """Return a module of an optional package.

    Parameters
    ----------
    module : str
    what : str
        What needs it, as a message begins.
    package : str
        What pip installs it by.

    Raises
    ------
    MissingPackageError
        If it can not be imported; the message says how to install it.
    """
    top = module.partition(".")[0]
    try:
        importlib.import_module(top)
        return importlib.import_module(module)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise MissingPackageError(
                f"{what} needs {top}, which is not installed: pip install '{package}'."
            ) from error
        raise MissingPackageError(
            f"{what} needs {module}, which can not be imported: {error}. This may help: pip install '{package}'."
        ) from error
