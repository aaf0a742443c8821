"""Every bit of a model's description matters, and what is written is read. test_fuzz.py damages the rest."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpunet import FileFormatError, Network, mixed
from gpunet import model_file as module


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    net = Network([3, 4, 2], activation=[mixed("tanh", {1: "relu"}), "sigmoid"], seed=0, device="cpu")
    net.metadata = {"classes": ["a", "b"], "target": None}
    net.save(path)
    return path.read_bytes()


@pytest.fixture
def read(tmp_path):
    """Write bytes, read them as a model, and check that what comes is a network that works, or the error."""
    path = tmp_path / "some.safetensors"

    def read(content):
        path.write_bytes(content)
        net = text = None
        try:
            net = Network.load(path, device="cpu")
        except FileFormatError as error:
            text = str(error)
        if net is None:
            assert path.name in text
            return None
        assert all(np.isfinite(p).all() for p in (*net.weights, *net.biases))
        assert net.outputs(np.zeros((2, net.sizes[0]))).shape == (2, net.sizes[-1])
        assert net.score(np.zeros((2, net.sizes[0])), np.eye(net.sizes[-1])[[0, 0]]) <= 1
        return net

    return read


def test_the_whole_file_is_read(content, read):
    assert read(content) is not None


def test_every_single_flipped_bit_of_the_description(content, read):
    """All of them, not a sample: this is what damage on a disk looks like."""
    start = content.index(b"gpunet")
    stop = content.index(b"task", start) + 30
    refused = []
    for position in range(start, stop):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            refused.append(read(bytes(changed)) is None)
    assert sum(refused) > 0.95 * len(refused)  # what is left changes a digit, or a name into another that is known


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 31, 33, 257]), min_size=2, max_size=4),
    dtype=st.sampled_from(["float32", "float64"]),
    metadata=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**60), 2**60)
            | st.text(max_size=5)
            | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
            max_leaves=5,
        ),
        max_size=3,
    ),
)
def test_what_is_written_is_read(tmp_path, sizes, dtype, metadata):
    net = Network(sizes, dtype=dtype, seed=0, device="cpu")
    net.metadata = metadata
    net.save(tmp_path / "m.safetensors")
    saved = module.read(tmp_path / "m.safetensors")
    loaded = Network.load(tmp_path / "m.safetensors", device="cpu")
    assert loaded.metadata == saved.metadata == metadata
    for mine, read, raw in ((net.weights, loaded.weights, saved.weights), (net.biases, loaded.biases, saved.biases)):
        for a, b, c in zip(mine, read, raw, strict=True):
            assert np.array_equal(a, b)
            assert np.array_equal(a, c)
            assert a.dtype == b.dtype == c.dtype == dtype
