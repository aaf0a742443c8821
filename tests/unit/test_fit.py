"""fit, predict, score and outputs on rows: what they take, what they refuse and what they give back."""

import copy
import json
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse

from gpunet import InputError, Network
from gpunet.training.history import History


def small(seed=0, sizes=(4, 5, 3), **options):
    return Network(list(sizes), device="cpu", seed=seed, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def trained(X, y, seed=0, sizes=(4, 5, 3), epochs=2, options=None, **fit):
    net = small(seed, sizes, **(options or {}))
    net.fit(X, y, epochs=epochs, **fit)
    return net


# -- What it learns ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cost": "cross-entropy"},
        {"cost": "log-likelihood"},
        {"activation": "tanh", "output_activation": "sigmoid"},
        {"activation": "relu", "cost": "log-likelihood"},
        {"activation": ["relu", "linear"]},
    ],
    ids=str,
)
def test_classes_are_learnt(blobs, options, dtype):
    X, y = blobs
    net = trained(X[:100], y[:100], epochs=40, options={**options, "dtype": dtype})
    assert net.task == "classification"
    assert net.score(X[100:], y[100:]) >= 0.9
    predicted = net.predict(X[100:])
    assert predicted.shape == (50,)
    assert predicted.dtype == np.int64
    assert net.score(X[100:], y[100:]) == np.mean(predicted == y[100:])
    assert np.array_equal(predicted, net.outputs(X[100:]).argmax(axis=1))


def test_one_output_is_yes_or_no(blobs):
    X, y = blobs[0], (blobs[1] == 1).astype(int)
    net = trained(X, y, sizes=(4, 5, 1), epochs=30, options={"cost": "cross-entropy"})
    assert net.task == "classification"
    assert net.outputs(X).shape == (150, 1)
    assert np.array_equal(net.predict(X), (net.outputs(X)[:, 0] > 0.5).astype(int))
    assert net.score(X, y) == np.mean(net.predict(X) == y) >= 0.95
    assert net.score(X, y.astype(bool)) == net.score(X, y.reshape(-1, 1)) == net.score(X, y)


def test_regression_learns_a_line_and_scores_r_squared(blobs):
    X = blobs[0]
    y = X @ [1.0, -2.0, 0.5, 0.0] + 3.0
    net = small(sizes=(4, 1), activation="linear", dtype="float64")
    net.fit(X, y, epochs=100, eta=0.05)
    assert net.task == "regression"
    predicted = net.predict(X)
    assert predicted.shape == (150,)
    r_squared = 1 - np.sum((y - predicted) ** 2) / np.sum((y - y.mean()) ** 2)
    assert net.score(X, y) == pytest.approx(r_squared, abs=1e-12)
    assert r_squared > 0.999
    assert np.allclose(net.weights[0], [[1.0, -2.0, 0.5, 0.0]], atol=0.02)
    assert net.score(X, y + 100.0) < 0


def test_regression_of_several_outputs(blobs):
    X = blobs[0]
    Y = np.stack([X[:, 0], 2 * X[:, 1] - 1], axis=1)
    net = small(sizes=(4, 8, 2), activation="tanh", output_activation="linear")
    net.fit(X, Y, epochs=60, eta=0.05)
    assert net.task == "regression"
    assert net.predict(X).shape == (150, 2)
    assert net.score(X, Y) > 0.9


def test_r_squared_of_a_constant_target():
    net = small(sizes=(2, 1), activation="linear")
    net.task = "regression"
    X = np.zeros((3, 2))
    net.biases[0] = [[2.0]]
    assert net.score(X, [2.0, 2.0, 2.0]) == 1.0
    assert net.score(X, [1.0, 1.0, 1.0]) == 0.0


def test_the_task_follows_the_targets(blobs):
    X, y = blobs
    linear = small(activation="tanh", output_activation="linear")
    assert linear.task == "regression"
    linear.fit(X, y, epochs=1, eta=0.01)
    assert linear.task == "classification"
    linear.fit(X, np.eye(3)[y] * 2, epochs=1, eta=0.01)
    assert linear.task == "regression"
    linear.fit(X, np.eye(3)[y], epochs=1, eta=0.01)
    assert linear.task == "classification"


# -- Every form of the same data gives the same network ------------------------------------------------------


def _read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def _subclass(X):
    return X.view(type("Mine", (np.ndarray,), {}))


FORMS = {
    "list": lambda X: X.tolist(),
    "tuple": lambda X: tuple(map(tuple, X.tolist())),
    "object": lambda X: X.astype(object),
    "Fortran": np.asfortranarray,
    "every other": lambda X: np.repeat(np.repeat(X, 2, axis=0), 2, axis=1)[::2, ::2],
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "read-only": _read_only,
    "broadcast base": lambda X: np.broadcast_to(X, (2, *X.shape))[1],
    "subclass": _subclass,
    "big-endian": lambda X: X.astype(X.dtype.newbyteorder(">")),
    "memoryview": lambda X: memoryview(np.ascontiguousarray(X)),
}


@pytest.mark.parametrize("dtype", ["u1", "?", "i1", "i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "g"])
@pytest.mark.parametrize("form", FORMS)
def test_any_form_and_dtype_of_x(form, dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (23, 4)).astype(dtype)
    y = rng.integers(0, 3, 23)
    if form == "memoryview" and dtype in "f2g":
        dtype = "f4"
        X = X.astype(dtype)
    reference, net = small(), small()
    reference.fit(X.astype(np.float64), y, epochs=2)
    given = FORMS[form](X)
    net.fit(given, y, epochs=2)
    assert np.array_equal(parameters(net), parameters(reference))
    assert np.array_equal(net.outputs(given), reference.outputs(X.astype(np.float64)))


@pytest.mark.parametrize(
    "form",
    [
        lambda y: y.tolist(),
        lambda y: y.astype(np.uint8),
        lambda y: y.astype(">i4"),
        lambda y: y.astype(np.uint64),
        lambda y: y.astype(np.float64),
        lambda y: y.astype(np.float16),
        lambda y: y.astype(object),
        lambda y: np.repeat(y, 2)[::2],
        lambda y: np.eye(3)[y],
        lambda y: np.eye(3, dtype=bool)[y],
        lambda y: np.eye(3, dtype=np.uint8)[y],
        lambda y: np.asfortranarray(np.eye(3)[y]),
        lambda y: np.eye(3)[y].tolist(),
    ],
)
def test_any_form_of_labels(blobs, form):
    X, y = blobs
    reference = trained(X, y)
    net = trained(X, form(y))
    assert np.array_equal(parameters(net), parameters(reference))
    assert net.score(X, form(y)) == reference.score(X, y)


def test_bool_labels():
    X = np.eye(4)
    one = trained(X, np.array([True, False, True, False]), sizes=(4, 2), batch_size=2)
    other = trained(X, [1, 0, 1, 0], sizes=(4, 2), batch_size=2)
    assert np.array_equal(parameters(one), parameters(other))


def test_torch_tensors(blobs):
    torch = pytest.importorskip("torch")
    X, y = blobs
    reference = trained(X, y)
    assert np.array_equal(parameters(trained(torch.tensor(X), torch.tensor(y))), parameters(reference))


def test_a_tensor_that_requires_grad_is_refused_in_plain_words(blobs):
    torch = pytest.importorskip("torch")
    with pytest.raises(InputError, match=r"X .*detach"):
        small().fit(torch.tensor(blobs[0], requires_grad=True), blobs[1])


def test_x_and_y_are_unchanged(blobs):
    X, y = np.array(blobs[0]), np.array(blobs[1])
    Y = np.eye(3)[y]
    copies = [v.copy() for v in (X, y, Y)]
    net = small(input_scale=0.5)
    net.fit(X, y, epochs=1, validation_data=(X, Y))
    net.fit(X, Y, epochs=1, validation_data=(X, y))
    net.predict(X)
    net.score(X, y)
    for now, before in zip((X, y, Y), copies, strict=True):
        assert np.array_equal(now, before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_of_the_networks_own_dtype_are_unchanged(blobs, dtype):
    X, Y = blobs[0].astype(dtype), np.eye(3, dtype=dtype)[blobs[1]]
    X0, Y0 = X.copy(), Y.copy()
    net = small(dtype=dtype, input_scale=3.0)
    net.fit(X, Y, epochs=2)
    net.outputs(X)[:] = 7.0
    assert np.array_equal(X, X0)
    assert np.array_equal(Y, Y0)


# -- uint8 ---------------------------------------------------------------------------------------------------


def test_uint8_without_input_scale_warns_and_goes_in_as_it_is(blobs):
    X = (blobs[0] * 20 + 60).clip(0, 255).astype(np.uint8)
    net = small()
    with pytest.warns(UserWarning, match=r"inputs reach \d+ in size.*input_scale=1/255"):
        net.fit(X, blobs[1], epochs=1)
    reference = small(input_scale=1)
    reference.fit(X.astype(np.float32), blobs[1], epochs=1)
    assert np.array_equal(parameters(net), parameters(reference))


def test_uint8_with_input_scale_equals_scaled_floats(blobs):
    X = (blobs[0] * 20 + 60).clip(0, 255).astype(np.uint8)
    net = trained(X, blobs[1], options={"input_scale": 1 / 256})
    reference = trained(X / 256, blobs[1])  # a power of two: exact
    assert np.array_equal(parameters(net), parameters(reference))
    assert np.array_equal(net.outputs(X), reference.outputs(X / 256))
    assert net.input_scale == 1 / 256


def test_input_scale_1_says_that_it_is_wanted(blobs):
    X = (blobs[0] * 20 + 60).clip(0, 255).astype(np.uint8)
    net = small(input_scale=1)
    net.fit(X, blobs[1], epochs=1)  # no warning, which would be an error here
    assert np.isfinite(parameters(net)).all()


def test_the_warning_points_at_the_users_line(blobs):
    X = np.full((6, 4), 200, np.uint8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        small().fit(X, [0] * 6, epochs=1, batch_size=9)
    assert len(caught) == 2
    assert {warning.filename for warning in caught} == {__file__}


# -- Batches and determinism ---------------------------------------------------------------------------------


def by_hand(X, y, epochs, batch_size, eta, seed=0):
    """The same training, written down plainly in float64."""
    net = small(seed, dtype="float64")
    Y = np.eye(3)[y]
    rng = copy.deepcopy(net._rng)
    for _ in range(epochs):
        order = rng.permutation(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            nabla_b, nabla_w = net.backprop(X[rows].T, Y[rows].T)
            net.biases = [b - eta / len(rows) * nb for b, nb in zip(net.biases, nabla_b, strict=True)]
            net.weights = [w - eta / len(rows) * nw for w, nw in zip(net.weights, nabla_w, strict=True)]
    return net


@pytest.mark.parametrize("batch_size", [1, 7, 10, 149, 150])
def test_every_batch_size_equals_the_plain_loop(blobs, batch_size):
    """149 leaves a last batch of one example, 7 one of three."""
    X, y = blobs
    net = trained(X, y, epochs=2, batch_size=batch_size, eta=0.5, options={"dtype": "float64"})
    assert np.allclose(parameters(net), parameters(by_hand(X, y, 2, batch_size, 0.5)), rtol=0, atol=1e-12)


def test_a_batch_larger_than_the_data_is_one_step_on_all(blobs):
    X, y = blobs
    with pytest.warns(UserWarning, match="a mini-batch of 1000 is larger than the 150 examples"):
        net = trained(X, y, batch_size=1000, eta=1.0)
    assert np.array_equal(parameters(net), parameters(trained(X, y, batch_size=150, eta=1.0)))
    assert net.history.batch_size == 150


def test_one_example():
    net = trained([[1.0, 2.0, 3.0, 4.0]], [2], batch_size=1, epochs=50, eta=1.0)
    assert net.predict([[1, 2, 3, 4]]).tolist() == [2]


def test_same_seed_same_numbers_other_seed_others(blobs):
    assert np.array_equal(parameters(trained(*blobs, seed=4)), parameters(trained(*blobs, seed=4)))
    assert not np.array_equal(parameters(trained(*blobs, seed=4)), parameters(trained(*blobs, seed=5)))
    assert not np.array_equal(parameters(small(seed=None)), parameters(small(seed=None)))


def test_a_second_fit_goes_on_where_the_first_stopped(blobs):
    net = small()
    net.fit(*blobs, epochs=2)
    net.fit(*blobs, epochs=3)
    assert np.array_equal(parameters(net), parameters(trained(*blobs, epochs=5)))


def test_copies_and_pickles_train_alike(blobs):
    net = trained(*blobs)
    twins = [copy.deepcopy(net), pickle.loads(pickle.dumps(net))]  # noqa: S301 - our own
    net.fit(*blobs, epochs=2)
    for twin in twins:
        assert not np.array_equal(parameters(twin), parameters(net))
        twin.fit(*blobs, epochs=2)
        assert np.array_equal(parameters(twin), parameters(net))


def test_outputs_of_more_rows_than_one_chunk(blobs, monkeypatch):
    from gpunet.training import outputs

    net = small()
    whole = net.outputs(blobs[0])
    monkeypatch.setattr(outputs, "_CHUNK_NUMBERS", 84)  # 7 rows of a 4-5-3 network, so the last chunk has 3
    assert np.allclose(net.outputs(blobs[0]), whole, rtol=0, atol=1e-6)
    assert net.outputs(blobs[0][:1]).shape == (1, 3)


# -- What it tells -------------------------------------------------------------------------------------------


def test_history(blobs):
    X, y = blobs
    net = small()
    assert net.history is None
    seen = []
    history = net.fit(X[:100], y[:100], epochs=3, validation_data=(X[100:], y[100:]), on_epoch=seen.append)
    assert history is net.history
    assert seen == history.epochs
    assert [epoch.epoch for epoch in seen] == [0, 1, 2]
    assert (history.eta, history.batch_size, history.device) == (3.0, 10, "cpu")
    assert history.cost == [epoch.cost for epoch in seen]
    assert history.validation_score == [epoch.validation_score for epoch in seen]
    assert history.validation_cost[-1] == seen[-1].validation_cost
    assert all(epoch.seconds > 0 and epoch.examples_per_second > 0 for epoch in seen)
    plain = json.loads(json.dumps(history.to_dict(), allow_nan=False))
    assert plain["epochs"][2]["cost"] == history.cost[2]
    facts = {"device", "backend", "engine", "optimizer", "eta", "batch_size", "epochs", "stopped", "best_epoch"}
    assert set(plain) == {*facts, "task"}
    assert History.from_dict(plain) == history
    assert History("d", "b", "e", "sgd", 1.0, 1).to_dict()["epochs"] == []


def test_the_recorded_cost_is_the_mean_over_the_examples_as_their_batch_met_them(blobs):
    X, y = blobs
    net = small(dtype="float64")
    a = net.outputs(X)
    wanted = 0.5 * np.sum((a - np.eye(3)[y]) ** 2) / 150
    history = net.fit(X, y, epochs=1, batch_size=150)
    assert history.cost == [pytest.approx(wanted, rel=1e-12)]


@pytest.mark.parametrize("labels", [lambda y: y, lambda y: np.eye(3)[y]])
def test_validation_is_measured_with_the_parameters_after_the_epoch(blobs, labels):
    X, y = blobs
    net = small(dtype="float64")
    history = net.fit(X, y, epochs=1, validation_data=[X[:40], labels(y[:40])])
    a = net.outputs(X[:40])
    cost = 0.5 * np.sum((a - np.eye(3)[y[:40]]) ** 2) / 40
    assert history.validation_cost == [pytest.approx(cost, rel=1e-12)]
    assert history.validation_score == [np.mean(a.argmax(axis=1) == y[:40])]


def test_validation_does_not_change_the_training(blobs):
    X, y = blobs
    assert np.array_equal(parameters(trained(X, y, validation_data=(X, y))), parameters(trained(X, y)))


def test_without_validation_there_is_none(blobs):
    history = small().fit(*blobs, epochs=1)
    assert history.validation_cost == history.validation_score == [None]


def test_on_progress_counts_examples(blobs, monkeypatch):
    from gpunet.training import sgd

    monkeypatch.setattr(sgd, "_PROGRESS_SECONDS", -1.0)
    seen = []
    small().fit(*blobs, epochs=2, batch_size=40, on_progress=seen.append)
    first = seen.index(150) + 1  # whole mini-batches, and the end of each epoch
    for epoch in (seen[:first], seen[first:]):
        assert epoch[-1] == 150
        assert epoch == sorted(set(epoch))
        assert set(epoch) <= {40, 80, 120, 150}


@pytest.mark.parametrize(
    ("options", "eta"),
    [
        ({}, 3.0),
        ({"cost": "cross-entropy"}, 0.5),
        ({"cost": "log-likelihood"}, 0.5),
        ({"activation": "relu"}, 0.1),
        ({"activation": "tanh", "output_activation": "sigmoid"}, 0.1),
        ({"activation": "linear"}, 0.1),
    ],
)
def test_default_eta(blobs, options, eta):
    net = small(**options)
    assert net.default_eta() == eta
    assert net.fit(*blobs, epochs=1).eta == eta


# -- What it refuses -----------------------------------------------------------------------------------------

X0 = np.zeros((6, 4))
Y0 = np.array([0, 1, 2, 0, 1, 2])


def put(array, position, value):
    array = array.astype(np.float64)
    array[position] = value
    return array


BAD_X = [
    (None, "X must"),
    (5, r"X must have shape \(examples, 4\).*got \(\)"),
    ("text", "X must hold real numbers"),
    ([], "X must have shape"),
    (X0[0], r"got \(4,\); one example alone is X.reshape\(1, -1\)"),
    (X0[:0], r"X is empty: shape \(0, 4\) has no examples"),
    (X0[:, :0], "X has 0 columns"),
    (X0[:, :3], r"X has 3 columns, but the network has 4 inputs \(sizes\[0\]\)"),
    (X0.T, "X has 6 columns"),
    (X0.reshape(6, 2, 2), r"got \(6, 2, 2\); flatten each example with X.reshape\(len\(X\), -1\)"),
    (X0.reshape(6, 2, 2, 1), "flatten"),
    (put(X0, (3, 1), np.nan), r"X has the value nan at \[3, 1\]"),
    (put(X0, (0, 0), np.inf), r"X has the value inf at \[0, 0\]"),
    (put(X0, (5, 3), -np.inf), r"X has the value -inf at \[5, 3\]"),
    (put(X0, (2, 2), 1e39), r"X has the value 1e\+39 at \[2, 2\].*at most 3.403e\+38 in size \(float32\)"),
    (put(X0, (2, 2), -1e39), r"X has the value -1e\+39"),
    (np.asfortranarray(put(X0, (3, 1), np.nan)), r"nan at \[3, 1\]"),
    (put(X0, (3, 1), np.nan).astype(np.float16), r"nan at \[3, 1\]"),
    (put(X0, (3, 1), np.nan).astype(object), r"nan at \[3, 1\]"),
    (X0.astype(complex), "X must hold real numbers, got dtype complex128"),
    (X0.astype(str), "X must hold real numbers, got dtype <U"),
    (X0.astype("S3"), "X must hold real numbers"),
    (X0.astype("M8[s]"), "X must hold real numbers, got dtype datetime64"),
    (np.zeros((6, 4), "f4,f4"), "X must hold real numbers"),
    (np.array([[1, 2, 3, "four"]], object), "X .*numbers"),
    (np.array([[1, 2, 3, None]], object), "X "),
    (np.array([[1, 2, 3, 1j]], object), "X .*numbers"),
    (np.array([[1, 2, 3, 10**400]], object), "X .*numbers"),
    (np.array([[1, 2, 3, {}]], object), "X .*numbers"),
    ([[1, 2, 3, 4], [1, 2, 3]], "X can not be read as an array of numbers"),
    (iter(X0), "X .*numbers"),
    ({"a": 1}, "X .*numbers"),
    ({1, 2}, "X .*numbers"),
    (scipy.sparse.csr_matrix(X0), r"X is a sparse matrix; pass X.toarray\(\)"),
    (scipy.sparse.coo_array(X0), "X is a sparse matrix"),
]


@pytest.mark.parametrize(("X", "fragment"), BAD_X)
@pytest.mark.parametrize("method", ["fit", "predict", "outputs", "score"])
def test_bad_x(method, X, fragment):
    net = small()
    before = parameters(net)
    y = Y0 if not hasattr(X, "shape") or len(X.shape) == 0 else Y0[: X.shape[0]]
    with pytest.raises(InputError, match=fragment):
        getattr(net, method)(X, *([y] if method in ("fit", "score") else []))
    assert np.array_equal(parameters(net), before)


BAD_Y = [
    (None, "y must hold numbers only, got None"),
    (1, "y must have an entry for each of the 6 examples"),
    (Y0[:5], "y has 5 entries for 6 examples"),
    ([], "y has 0 entries for 6 examples"),
    ([0, 1, 2, 0, 1, 3], "y has the label 3, but the network's 3 outputs take whole numbers from 0 to 2"),
    ([0, 1, 2, 0, -1, 2], "y has the label -1"),
    (np.array([0, 1, 2, 0, 1, 300], np.uint16), "y has the label 300"),
    ([0, 1, 2, 0, 1, 0.5], "y has the label 0.5, but the network's 3 outputs take whole numbers"),
    ([0, 1, 2, 0, 1, np.nan], "y has the label nan"),
    ([0, 1, 2, 0, 1, np.inf], "y has the label inf"),
    ([0, 1, 2, 0, 1, -np.inf], "y has the label -inf"),
    ([0, 1, 2, 0, 1, 1e300], "y has the label 1e\\+300"),
    (np.array([0, 1, 2, 0, 1, 2**63], np.uint64), "y has the label 9223372036854775808"),
    (np.array([0, 1, 2, 0, 1, 2**64 - 2], np.uint64), "y has the label 18446744073709551614"),
    ([0, 1, 2, 0, 1, 10**30], "y has the label 1"),
    (list("abcabc"), r"y must hold real numbers, got dtype <U1.*numpy.unique"),
    (np.array(list("abcabc"), object), "y .*numbers"),
    (Y0 * 1j, "y must hold real numbers, got dtype complex128"),
    (Y0.reshape(6, 1), r"y must have shape \(6,\).*or \(6, 3\), got \(6, 1\)"),
    (np.zeros((6, 2)), r"got \(6, 2\)"),
    (np.zeros((3, 6)), "y has 3 entries for 6 examples"),
    (np.zeros((6, 3, 1)), r"got \(6, 3, 1\)"),
    (put(np.zeros((6, 3)), (4, 1), np.nan), r"y has the value nan at \[4, 1\]"),
    (put(np.zeros((6, 3)), (4, 1), np.inf), r"y has the value inf at \[4, 1\]"),
    (put(np.zeros((6, 3)), (4, 1), 1e39), r"y has the value 1e\+39 at \[4, 1\]"),
    ([[0], [1], [2], [0], [1], [1, 2]], "y can not be read as an array of numbers"),
    (scipy.sparse.csr_matrix(np.zeros((6, 3))), "y is a sparse matrix"),
    (iter(Y0), "y .*numbers"),
]


@pytest.mark.parametrize(("y", "fragment"), BAD_Y)
@pytest.mark.parametrize("method", ["fit", "score"])
def test_bad_y(method, y, fragment):
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=fragment):
        getattr(net, method)(X0, y)
    assert np.array_equal(parameters(net), before)


@pytest.mark.parametrize(
    ("y", "fragment"),
    [
        (np.zeros((6, 2)), r"got \(6, 2\)"),
        ([0, 1, 0, 1, 0, np.nan], r"y has the value nan at \[5, 0\]"),
        ([0, 1, 0, 1, 0, -1e39], r"y has the value -1e\+39 at \[5, 0\]"),
        ([0, 1], "y has 2 entries for 6 examples"),
        (list("abcabc"), "y must hold real numbers"),
    ],
)
def test_bad_y_of_one_output(y, fragment):
    with pytest.raises(InputError, match=fragment):
        small(sizes=(4, 1)).fit(X0, y)


@pytest.mark.parametrize("y", [[0, 1, 0, 1, 0, 2], [0, 1, 0, 1, 0, -1], [0, 1, 0, 1, 0, 3.5]])
def test_cross_entropy_refuses_targets_that_no_sigmoid_can_meet(y):
    with pytest.raises(InputError, match=r"0.*1"):
        small(sizes=(4, 1), cost="cross-entropy").fit(X0, y, epochs=1, batch_size=2)


@pytest.mark.parametrize(
    ("data", "fragment"),
    [
        (5, r"validation_data must be a pair \(X, y\)"),
        (X0, r"validation_data must be a pair \(X, y\)"),
        ((X0,), r"validation_data must be a pair \(X, y\)"),
        ((X0, Y0, Y0), r"validation_data must be a pair \(X, y\)"),
        ("ab", r"validation_data\[0\] must hold real numbers"),
        ((X0[:, :3], Y0), r"validation_data\[0\] has 3 columns"),
        ((X0[:0], Y0[:0]), r"validation_data\[0\] is empty"),
        ((X0, Y0[:5]), r"validation_data\[1\] has 5 entries for 6 examples"),
        ((X0, Y0 + 1), r"validation_data\[1\] has the label 3"),
        ((put(X0, (1, 2), np.nan), Y0), r"validation_data\[0\] has the value nan at \[1, 2\]"),
        ((X0, None), r"validation_data\[1\] must hold numbers"),
    ],
)
def test_bad_validation_data_is_refused_before_the_training(data, fragment):
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=fragment):
        net.fit(X0, Y0, epochs=1, batch_size=2, validation_data=data)
    assert np.array_equal(parameters(net), before)
    assert net.history is None


@pytest.mark.parametrize("bad", [0, -1, 1.5, 2.0, True, None, "3", float("nan"), [3], np.float64(3), 1j])
def test_bad_epochs_and_batch_size(bad):
    with pytest.raises(InputError, match=r"epochs must be a whole number of at least 1, got "):
        small().fit(X0, Y0, epochs=bad)
    with pytest.raises(InputError, match=r"batch_size must be a whole number of at least 1, got "):
        small().fit(X0, Y0, batch_size=bad)


def test_numpys_numbers_are_numbers():
    net = small()
    history = net.fit(X0, Y0, epochs=np.int64(2), batch_size=np.uint8(3), eta=np.float32(0.5))
    assert len(history.epochs) == 2
    json.dumps(history.to_dict())


@pytest.mark.parametrize("name", ["on_epoch", "on_progress"])
def test_a_callback_that_is_no_function_is_refused_before_the_training(name):
    net = small()
    with pytest.raises(InputError, match=f"{name} must be a function"):
        net.fit(X0, Y0, epochs=1, batch_size=2, **{name: 5})
    assert net.history is None


def test_values_too_large_for_float32_are_fine_in_float64():
    X = put(X0, (2, 2), 1e39)
    assert np.isfinite(small(dtype="float64").outputs(X)).all()
