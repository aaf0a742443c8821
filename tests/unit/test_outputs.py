"""Prediction where the device's memory is short."""

import numpy as np
import pytest

from gpunet import DeviceError, Network
from gpunet.model import Model


def limit_workspaces(monkeypatch, most):
    """Let a pass over more than `most` examples fail for want of memory; return the sizes that were asked for."""
    asked = []
    make = Model.workspace

    def workspace(self, m, keep_z=False):
        asked.append(m)
        if m > most:
            raise MemoryError(f"{m} examples")
        return make(self, m, keep_z)

    monkeypatch.setattr(Model, "workspace", workspace)
    return asked


@pytest.mark.parametrize("most", [1, 7, 100])
def test_smaller_chunks_are_tried_and_give_the_same(monkeypatch, most):
    net = Network([3, 4, 2], device="cpu", seed=0)
    X = np.random.default_rng(0).random((333, 3))
    wanted = np.concatenate([net.outputs(row[None]) for row in X])
    asked = limit_workspaces(monkeypatch, most)
    np.testing.assert_allclose(net.outputs(X), wanted, rtol=1e-6)
    assert asked[0] == 333
    assert min(asked) <= most


def test_one_example_too_many_is_told(monkeypatch):
    net = Network([3, 4, 2], device="cpu", seed=0)
    limit_workspaces(monkeypatch, 0)
    with pytest.raises(DeviceError, match=r"not enough memory for the examples: 1 examples.*Lower"):
        net.outputs(np.ones((5, 3)))
