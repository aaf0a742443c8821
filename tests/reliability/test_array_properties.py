"""Whatever a user hands in: clean arrays come out, or InputError in plain words; warnings are errors here."""

import contextlib
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gpunet import InputError, Network, activations, arrays, costs
from gpunet.backends.numpy import NumPyBackend
from gpunet.targets import targets

OPS = NumPyBackend()
SETTINGS = settings(deadline=None, max_examples=400)
DTYPES = st.sampled_from(["float32", "float64"])

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-1, 4)
    | st.floats()
    | st.complex_numbers()
    | st.text(max_size=3)
    | st.binary(max_size=3)
    | st.just(10**400)
    | st.just(2**63)
    | st.just(-(2**63) - 1)
)
nested = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner), max_leaves=12)
dtypes = (
    hnp.floating_dtypes(endianness="?")
    | hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.boolean_dtypes()
    | hnp.complex_number_dtypes()
    | hnp.unicode_string_dtypes(max_len=3)
    | hnp.byte_string_dtypes(max_len=3)
    | hnp.datetime64_dtypes()
    | st.just(np.dtype("g"))
)
any_arrays = dtypes.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
anything = nested | any_arrays | hnp.arrays(object, hnp.array_shapes(max_dims=2, max_side=3), elements=scalars)


def clean_or_input_error(check, *arguments):
    """Return what `check` returns, or None for an InputError that says something."""
    try:
        return check(*arguments)
    except InputError as error:
        text = str(error)
    assert text.startswith("X ")
    assert text.endswith(".")
    return None


def assert_clean(x, dtype):
    assert isinstance(x, np.ndarray)
    assert x.dtype == dtype or x.dtype == np.uint8
    assert x.flags.c_contiguous
    assert np.isfinite(x).all()


@SETTINGS
@given(anything, st.integers(1, 4), DTYPES)
def test_rows(X, n_in, dtype):
    x = clean_or_input_error(arrays.rows, OPS, X, n_in, dtype, "X")
    if x is not None:
        assert_clean(arrays.to_device(OPS, x, dtype), dtype)
        assert x.ndim == 2
        assert x.shape[1] == n_in
        assert x.shape == np.shape(X)


@SETTINGS
@given(anything, st.integers(1, 4), DTYPES)
def test_columns(X, n, dtype):
    x = clean_or_input_error(arrays.columns, OPS, X, n, dtype, "X")
    if x is not None:
        assert_clean(x, dtype)
        assert x.dtype == dtype
        assert x.shape[1] == n
        assert x.T.size == np.size(X)


@SETTINGS
@given(anything, st.integers(1, 4), st.integers(1, 4), DTYPES)
def test_targets(y, m, n_out, dtype):
    linear, quadratic = activations.get("linear"), costs.get("quadratic")
    Y = clean_or_input_error(lambda *given: targets(*given)[0], OPS, y, m, n_out, dtype, linear, quadratic, "X")
    if Y is not None:
        assert_clean(arrays.to_device(OPS, Y, dtype), dtype)
        assert Y.shape == (m, n_out)
        if np.ndim(y) == 1 and n_out > 1:
            assert np.array_equal(Y.sum(axis=1), np.ones(m))
            assert np.array_equal(Y.argmax(axis=1), np.asarray(y).astype(float))


@SETTINGS
@given(
    DTYPES.flatmap(
        lambda dtype: st.tuples(
            st.just(dtype),
            hnp.arrays(
                dtype,
                hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
                elements=st.floats(-(2.0**127), 2.0**127, width=32 if dtype == "float32" else 64),
            ),
        )
    ),
    st.sampled_from(["C", "F", "reversed", "strided"]),
)
def test_good_numbers_come_through_as_they_are(drawn, form):
    dtype, X = drawn
    given_X = {
        "C": X,
        "F": np.asfortranarray(X),
        "reversed": X[::-1].copy()[::-1],
        "strided": np.repeat(X, 2, axis=0)[::2],
    }[form]
    x = arrays.rows(OPS, given_X, X.shape[1], dtype)
    assert np.array_equal(x, X)
    assert np.array_equal(arrays.columns(OPS, given_X, X.shape[0], dtype, "x"), X.T)


@SETTINGS
@given(
    hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), elements=st.floats(-1, 1)),
    st.data(),
)
def test_one_bad_value_is_found_and_its_place_named(X, data):
    position = tuple(data.draw(st.integers(0, n - 1)) for n in X.shape)
    X[position] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf, 3.5e38, -1e300]))
    with pytest.raises(InputError) as caught:
        arrays.rows(OPS, X, X.shape[1], "float32")
    assert f"at {list(position)}" in str(caught.value)


@SETTINGS
@given(anything, anything)
def test_fit_takes_it_or_says_why_not(X, y):
    net = Network([2, 3, 3], device="cpu", seed=0)
    before = [w.copy() for w in net.weights]
    fitted = False
    with warnings.catch_warnings(), contextlib.suppress(InputError):
        warnings.filterwarnings("ignore", ".* is uint8 and goes in as it is")
        net.fit(X, y, epochs=1, batch_size=1, eta=0.1)
        fitted = True
    assert fitted != all(np.array_equal(a, b) for a, b in zip(net.weights, before, strict=True))
    assert all(np.isfinite(w).all() for w in net.weights)


@SETTINGS
@given(st.lists(st.tuples(anything, anything), max_size=3) | anything)
def test_evaluate_takes_it_or_says_why_not(pairs):
    with contextlib.suppress(InputError):
        assert 0 <= Network([1, 3], device="cpu", seed=0).evaluate(pairs) <= len(pairs)


@settings(deadline=None, max_examples=150)
@given(
    n_in=st.sampled_from([1, 2, 31, 33, 257]),
    n_hidden=st.sampled_from([1, 3, 31, 33]),
    n_out=st.sampled_from([1, 2, 10]),
    m=st.sampled_from([1, 2, 31, 33]),
    batch_size=st.integers(1, 33),
    uint8=st.booleans(),
)
def test_training_of_odd_sizes_equals_the_plain_loop(n_in, n_hidden, n_out, m, batch_size, uint8):
    batch_size = min(batch_size, m)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (m, n_in)).astype(np.uint8) if uint8 else rng.normal(size=(m, n_in))
    Y = rng.random((m, n_out))
    one, other = (
        Network([n_in, n_hidden, n_out], device="cpu", seed=0, dtype="float64", input_scale=1 / 256) for _ in range(2)
    )
    one.fit(X, Y, epochs=1, batch_size=batch_size, eta=0.5)
    order = other._rng.permutation(m)
    for start in range(0, m, batch_size):
        rows = order[start : start + batch_size]
        nabla_b, nabla_w = other.backprop(X[rows].T, Y[rows].T)
        other.biases = [b - 0.5 / len(rows) * nb for b, nb in zip(other.biases, nabla_b, strict=True)]
        other.weights = [w - 0.5 / len(rows) * nw for w, nw in zip(other.weights, nabla_w, strict=True)]
    for a, b in zip((*one.weights, *one.biases), (*other.weights, *other.biases), strict=True):
        assert np.allclose(a, b, rtol=0, atol=1e-11)
