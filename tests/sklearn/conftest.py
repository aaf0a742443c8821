"""Without scikit-learn the folder is skipped; GPUNET_REQUIRE_INTEROP=1 turns the skip into a failure."""

import os
from inspect import signature

import numpy as np
import pytest

try:
    import sklearn
    import sklearn.neural_network as theirs
except ImportError as error:
    MISSING = f"gpunet.sklearn needs scikit-learn, which can not be imported: {error}"
else:
    MISSING = None


class _Skipped(pytest.Module):
    def collect(self):
        pytest.skip(MISSING, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if MISSING is None or os.environ.get("GPUNET_REQUIRE_INTEROP") == "1":
        return None
    return _Skipped.from_parent(parent, path=module_path)


@pytest.fixture(scope="session")
def has():
    """Skip unless scikit-learn's own class can do it: `has("sample_weight")`, `has("poisson")`."""
    can = {
        "sample_weight": "sample_weight" in signature(theirs.MLPClassifier.fit).parameters,
        "poisson": "loss" in signature(theirs.MLPRegressor).parameters,
    }

    def check(what):
        if not can[what]:
            pytest.skip(f"scikit-learn {sklearn.__version__} has no {what}")

    return check


@pytest.fixture(scope="session")
def blobs():
    """Inputs (120, 5) of three classes, and the classes, (120,)."""
    rng = np.random.default_rng(5)
    y = np.arange(120) % 3
    return rng.normal(size=(120, 5)) + 3 * np.eye(5)[y], y


@pytest.fixture(scope="session")
def line():
    """Inputs (120, 5) and a number that follows from them, (120,)."""
    rng = np.random.default_rng(6)
    X = rng.normal(size=(120, 5))
    return X, X @ [1.0, -2.0, 0.5, 0.0, 0.3] + 0.1 * rng.normal(size=120)
