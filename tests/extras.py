"""Modules that come with the extra `test` and are not needed by gpunet itself."""

import importlib
import os

import pytest


def need(name):
    """Return the module. Only a run on a machine with a GPU, which takes the Python that is there, may lack it."""
    if os.environ.get("GPUNET_REQUIRE_CUDA") == "1":
        return pytest.importorskip(name)
    return importlib.import_module(name)
