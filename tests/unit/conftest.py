"""Small data for the tests of the network."""

import numpy as np
import pytest

from gpunet import datasets


@pytest.fixture(scope="session")
def blobs():
    """Three well separated classes in four dimensions: X (150, 4) float64, y (150,) int64; read-only."""
    rng = np.random.default_rng(5)
    y = np.arange(150) % 3
    X = rng.normal(size=(150, 4)) * 0.3 + np.eye(4)[y]
    X.flags.writeable = y.flags.writeable = False
    return X, y


@pytest.fixture(scope="session")
def pairs(blobs):
    """The blobs as the book has its data: (training pairs with one-hot columns, test pairs with labels)."""
    X, y = blobs
    training = [(x.reshape(4, 1), np.eye(3)[label].reshape(3, 1)) for x, label in zip(X[:100], y, strict=False)]
    return training, [(x.reshape(4, 1), int(label)) for x, label in zip(X[100:], y[100:], strict=True)]


@pytest.fixture(scope="session")
def mnist():
    return datasets.mnist()
