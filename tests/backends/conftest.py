"""The backends that every test of arrays runs on."""

import importlib

import numpy as np
import pytest
from backends import fake_cupy

from gpunet.backends import ArrayAPIBackend, select

NAMES = ("numpy", "generic", "strict", "torch", "fake_cupy", pytest.param("cupy", marks=pytest.mark.gpu))


@pytest.fixture(autouse=True)
def _forget_what_was_found():
    """What a process finds out about its GPU once, every test here finds out anew."""
    module = importlib.import_module("gpunet.backends.select")  # in the package, its function has that name
    module.lasting_reason.cache_clear()
    module._say_once.cache_clear()
    yield
    module.lasting_reason.cache_clear()
    module._say_once.cache_clear()


@pytest.fixture
def fake(monkeypatch):
    """CuPy's stand-in as `cupy`; its state has the knobs for failures."""
    return fake_cupy.install(monkeypatch)


@pytest.fixture(params=NAMES)
def backend(request):
    return open_backend(request.param, request)


@pytest.fixture(params=NAMES[1:])
def other_backend(request):
    """Every backend but NumPy's, to compare with it."""
    return open_backend(request.param, request)


def open_backend(name, request):
    if name == "numpy":
        return select("cpu")
    if name == "generic":  # the generic verbs where everything can be compared bit by bit
        return ArrayAPIBackend(np)
    if name == "strict":
        strict = pytest.importorskip("array_api_strict")
        return ArrayAPIBackend(strict, device=strict.Device("device1"))
    if name == "torch":
        return select(pytest.importorskip("torch"))
    if name == "fake_cupy":
        request.getfixturevalue("fake")
    return select("cuda")
