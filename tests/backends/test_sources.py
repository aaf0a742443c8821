"""Data read from a source reach every backend, and train the network that they train on the CPU."""

import numpy as np
import pytest
from oracles import cases

from gpunet.backends.base import Stage
from gpunet.datasets import open_data

SIZES = [6, 5, 3]
CASE = cases.Case(("sigmoid", "softmax"), "log-likelihood")


@pytest.fixture(params=["uint8", "float64"])
def files(request, tmp_path):
    X = np.random.default_rng(7).integers(0, 256, (100, SIZES[0]), dtype=np.uint8)
    np.save(tmp_path / "X.npy", X if request.param == "uint8" else X / 255)
    np.save(tmp_path / "y.npy", X[:, 0] // 86)
    return tmp_path


def trained(device, files, buffer_rows, **options):
    net = CASE.network(sizes=SIZES, device=device, dtype="float32", seed=5, input_scale=1 / 255)
    source = open_data(files, chunk_rows=8, buffer_rows=buffer_rows)
    net.fit(source, epochs=3, batch_size=7, eta=0.3, validation_data=source, **options)
    return net, source


@pytest.mark.parametrize("buffer_rows", [20, 100])
def test_every_backend_trains_as_the_cpu(backend, files, buffer_rows):
    (net, source), (cpu, _) = (trained(device, files, buffer_rows) for device in (backend, "cpu"))
    for a, b in zip(net.weights, cpu.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())
    np.testing.assert_allclose(net.history.cost, cpu.history.cost, rtol=1e-5)
    np.testing.assert_allclose(net.history.validation_cost, cpu.history.validation_cost, rtol=1e-5)
    assert net.history.validation_score == cpu.history.validation_score
    np.testing.assert_allclose(net.outputs(source), cpu.outputs(source), rtol=1e-4, atol=1e-6)


def test_in_one_buffer_the_same_bits_as_resident(backend, files):
    from_files, _ = trained(backend, files, 100)
    net = CASE.network(sizes=SIZES, device=backend, dtype="float32", seed=5, input_scale=1 / 255)
    net.fit(np.load(files / "X.npy"), np.load(files / "y.npy"), epochs=3, batch_size=7, eta=0.3)
    for a, b in zip(from_files.weights, net.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_steps_are_replayed_too(fake, files, monkeypatch):
    monkeypatch.setattr("gpunet.training.steps.REPLAYED", 2)
    net, _ = trained("cuda", files, 32)
    assert net.history.engine == "2 steps a launch"
    assert fake.graph_launches > 0
    cpu, _ = trained("cpu", files, 32)
    for a, b in zip(net.weights, cpu.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


def test_two_buffers_and_no_more_reach_the_device(fake, files, monkeypatch):
    from gpunet.backends.cupy_stage import PinnedStage

    made = []
    init = PinnedStage.__init__

    def counted(self, ops, rows, columns, dtype):
        made.append((rows, columns))
        init(self, ops, rows, columns, dtype)

    monkeypatch.setattr(PinnedStage, "__init__", counted)
    trained("cuda", files, 20)
    assert made == [(20 + 6, 6), (20 + 6, 3)] * 2  # and room for what one buffer's last mini-batch leaves to the next
    made.clear()
    trained("cuda", files, 100)
    assert made == [(100, 6), (100, 3)]


def test_a_buffer_is_filled_only_when_nobody_uses_it(files, monkeypatch):
    """`wait` comes before each filling, and `release` before the next `wait`."""
    calls = []
    for name in ("wait", "send", "release"):
        method = getattr(Stage, name)

        def noted(self, *arguments, name=name, method=method):
            calls.append((id(self), name))
            return method(self, *arguments)

        monkeypatch.setattr(Stage, name, noted)
    trained("cpu", files, 20)
    stages = {stage for stage, _ in calls}
    assert len(stages) == 4
    for stage in stages:
        own = [name for s, name in calls if s == stage]
        assert own == ["wait", "send", "release"] * (len(own) // 3)
        assert len(own) > 3
