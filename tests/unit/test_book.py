"""The book's programs run unchanged, and the book's methods do what the book's code does."""

import contextlib
import io
import re

import numpy as np
import pytest

import gpunet as network
import gpunet.datasets as mnist_loader
from gpunet import InputError, Network


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def book_backprop(weights, biases, x, y):
    """Chapter 2's backprop, in Python 3."""
    nabla_b = [np.zeros(b.shape) for b in biases]
    nabla_w = [np.zeros(w.shape) for w in weights]
    activation, activations, zs = x, [x], []
    for b, w in zip(biases, weights, strict=True):
        zs.append(np.dot(w, activation) + b)
        activation = sigmoid(zs[-1])
        activations.append(activation)
    delta = (activations[-1] - y) * sigmoid(zs[-1]) * (1 - sigmoid(zs[-1]))
    nabla_b[-1], nabla_w[-1] = delta, np.dot(delta, activations[-2].T)
    for l in range(2, len(weights) + 1):
        prime = sigmoid(zs[-l]) * (1 - sigmoid(zs[-l]))
        delta = np.dot(weights[-l + 1].T, delta) * prime
        nabla_b[-l], nabla_w[-l] = delta, np.dot(delta, activations[-l - 1].T)
    return nabla_b, nabla_w


def small(seed=0, **options):
    return Network([4, 5, 3], device="cpu", seed=seed, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


# -- Chapter 1's script --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book_data():
    return mnist_loader.load_data_wrapper()


def test_chapter_1_script(book_data, capsys):
    training_data, _, test_data = book_data
    training_data = training_data[:3000]
    net = network.Network([784, 30, 10])
    assert net.SGD(training_data, 2, 10, 3.0, test_data=test_data) is None
    lines = capsys.readouterr().out.splitlines()
    matches = [re.fullmatch(r"Epoch (\d+): (\d{1,5}) / 10000", line) for line in lines]
    assert [int(match[1]) for match in matches] == [0, 1]
    assert int(matches[-1][2]) > 5000
    assert int(matches[-1][2]) == net.evaluate(test_data)


def test_without_test_data_it_prints_that_the_epoch_is_complete(pairs, capsys):
    small().SGD(pairs[0], 3, 10, 3.0)
    assert capsys.readouterr().out == "Epoch 0 complete\nEpoch 1 complete\nEpoch 2 complete\n"


def test_chapter_2_shapes(book_data):
    x, y = book_data[0][0]
    assert x.shape == (784, 1)
    assert y.shape == (10, 1)
    net = Network([784, 30, 10], device="cpu")
    nabla_b, nabla_w = net.backprop(x, y)
    assert [b.shape for b in nabla_b] == [(30, 1), (10, 1)]
    assert [w.shape for w in nabla_w] == [(30, 784), (10, 30)]
    assert isinstance(nabla_b, list)
    assert isinstance(nabla_w, list)


@pytest.mark.parametrize("form", [list, tuple, iter, lambda p: zip(*zip(*p, strict=True), strict=True)])
def test_training_and_test_data_of_any_form(pairs, form):
    training, test = pairs
    reference, net = small(), small()
    printed = []
    for one, a, b in ((reference, training, test), (net, form(training), form(test))):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            one.SGD(a, 2, 10, 3.0, test_data=b)
        printed.append(out.getvalue())
    assert np.array_equal(parameters(net), parameters(reference))
    assert printed[0] == printed[1]
    assert printed[0].count(f" / {len(test)}\n") == 2


def test_sgd_leaves_the_users_list_alone(pairs, capsys):
    training = list(pairs[0])
    before = list(training)
    copies = [(x.copy(), y.copy()) for x, y in training]
    small().SGD(training, 2, 10, 3.0)
    assert all(pair is other for pair, other in zip(training, before, strict=True))  # same order, same objects
    for (x, y), (x0, y0) in zip(training, copies, strict=True):
        assert np.array_equal(x, x0)
        assert np.array_equal(y, y0)


def test_sgd_with_integer_labels_equals_one_hot_columns(pairs, capsys):
    training = pairs[0]
    one, other = small(), small()
    one.SGD(training, 2, 10, 3.0)
    other.SGD([(x, int(np.argmax(y))) for x, y in training], 2, 10, 3.0)
    assert np.array_equal(parameters(one), parameters(other))


def test_sgd_learns_and_keeps_its_history(pairs, capsys):
    net = small()
    net.SGD(pairs[0], 10, 10, 3.0, test_data=pairs[1])
    assert net.evaluate(pairs[1]) >= 48
    assert len(net.history.epochs) == 10
    assert net.history.cost[-1] < net.history.cost[0] / 3


def test_sgd_equals_fit(pairs, blobs, capsys):
    one, other = small(), small()
    one.SGD(pairs[0], 3, 10, 3.0)
    other.fit(blobs[0][:100], blobs[1][:100], epochs=3, batch_size=10, eta=3.0)
    assert np.array_equal(parameters(one), parameters(other))


# -- Parameters as the book uses them ------------------------------------------------------------------------


def test_parameters_are_sequences_of_arrays_as_in_the_book():
    net = Network([2, 3, 1], device="cpu", seed=0)
    assert net.sizes == [2, 3, 1]
    assert net.num_layers == 3
    assert [b.shape for b in net.biases] == [(3, 1), (1, 1)]
    assert [w.shape for w in net.weights] == [(3, 2), (1, 3)]
    zeros = [np.zeros(b.shape) for b in net.biases], [np.zeros(w.shape) for w in net.weights]
    assert [z.shape for z in zeros[0]] == [(3, 1), (1, 1)]
    assert np.array_equal(net.weights[-1], net.weights[1])
    assert np.array_equal(net.biases[-2], net.biases[0])
    assert [w.shape for w in net.weights[1:]] == [(1, 3)]
    assert np.shape(net.weights[0].tolist()) == (3, 2)
    assert "array" in repr(net.weights)
    with pytest.raises(IndexError):
        net.weights[2]


def test_the_books_loop_over_parameters_equals_feedforward():
    net = Network([3, 4, 2], device="cpu", seed=3, dtype="float64")
    a = x = np.array([[0.3], [-1.0], [2.0]])
    for b, w in zip(net.biases, net.weights, strict=True):
        a = sigmoid(np.dot(w, a) + b)
    assert np.allclose(net.feedforward(x), a, rtol=0, atol=1e-14)


def test_the_books_update_assigns_lists():
    net = small(dtype="float64")
    w0, b0 = [w.copy() for w in net.weights], [b.copy() for b in net.biases]
    net.weights = [w - 0.5 * np.ones(w.shape) for w in net.weights]
    net.biases = [b * 2 for b in net.biases]
    assert all(np.array_equal(w, v - 0.5) for w, v in zip(net.weights, w0, strict=True))
    assert all(np.array_equal(b, 2 * v) for b, v in zip(net.biases, b0, strict=True))


def test_changes_in_place_reach_the_network():
    net = small()
    x = np.ones((4, 1))
    before = net.feedforward(x)
    net.weights[0][:] = 0.0
    assert not net.weights[0].any()
    net.biases[-1] -= 100.0
    assert np.all(net.feedforward(x) < 1e-6)
    assert not np.array_equal(net.feedforward(x), before)


def test_large_weight_initializer_of_chapter_3():
    net = Network([10, 5, 2], device="cpu", seed=0)
    rng = np.random.default_rng(1)
    net.biases = [rng.standard_normal((n, 1)) for n in net.sizes[1:]]
    net.weights = [rng.standard_normal((n, k)) for k, n in zip(net.sizes[:-1], net.sizes[1:], strict=True)]
    assert net.weights[0].dtype == np.float32
    assert np.allclose(net.biases[0], np.random.default_rng(1).standard_normal((5, 1)))


# -- The methods ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[4, 3], [4, 5, 3], [4, 6, 5, 3]])
def test_backprop_equals_the_books(sizes):
    net = Network(sizes, device="cpu", seed=2, dtype="float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 1)), rng.random((3, 1))
    got, wanted = net.backprop(x, y), book_backprop(list(net.weights), list(net.biases), x, y)
    for some, others in zip(got, wanted, strict=True):
        for one, other in zip(some, others, strict=True):
            assert one.shape == other.shape
            assert np.allclose(one, other, rtol=1e-11, atol=1e-13)


def test_backprop_of_a_batch_is_the_sum_over_its_columns():
    net = small(dtype="float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 7)), rng.random((3, 7))
    single = [net.backprop(x[:, [i]], y[:, [i]]) for i in range(7)]
    for kind, nabla in enumerate(net.backprop(x, y)):
        for l, one in enumerate(nabla):
            assert np.allclose(one, sum(s[kind][l] for s in single), rtol=1e-12, atol=1e-14)


def test_backprop_does_not_change_anything():
    net = small()
    x, y = np.ones((4, 2)), np.ones((3, 2))
    before = parameters(net)
    first = net.backprop(x, y)
    second = net.backprop(x, y)
    assert np.array_equal(parameters(net), before)
    assert np.array_equal(first[1][0], second[1][0])
    assert first[1][0] is not second[1][0]
    assert x.all()
    assert y.all()


def test_update_mini_batch_is_equations_20_and_21(pairs):
    net = small(dtype="float64")
    batch, eta = pairs[0][:7], 0.7
    w0, b0 = [w.copy() for w in net.weights], [b.copy() for b in net.biases]
    gradients = [book_backprop(w0, b0, x, y) for x, y in batch]
    net.update_mini_batch(batch, eta)
    for l in range(2):
        wanted_b = b0[l] - eta / 7 * sum(nabla_b[l] for nabla_b, _ in gradients)
        wanted_w = w0[l] - eta / 7 * sum(nabla_w[l] for _, nabla_w in gradients)
        assert np.allclose(net.biases[l], wanted_b, rtol=0, atol=1e-12)
        assert np.allclose(net.weights[l], wanted_w, rtol=0, atol=1e-12)
        assert not np.array_equal(net.weights[l], w0[l])


def test_cost_derivative():
    net = small(dtype="float64")
    a, y = np.array([[0.2], [0.5], [1.0]]), np.array([[0.0], [1.0], [1.0]])
    assert np.array_equal(net.cost_derivative(a, y), a - y)
    assert np.array_equal(net.cost_derivative(a[:, 0], y[:, 0]), (a - y)[:, 0])
    assert np.array_equal(net.cost_derivative(np.hstack([a, y]), np.hstack([y, y])), np.hstack([a - y, 0 * y]))
    entropy = small(cost="cross-entropy", dtype="float64")
    a = np.array([[0.2], [0.5], [0.9]])
    assert np.allclose(entropy.cost_derivative(a, y), (a - y) / (a * (1 - a)))


def test_feedforward_of_one_and_of_many():
    net = small()
    x = np.random.default_rng(0).normal(size=(4, 6))
    many = net.feedforward(x)
    assert many.shape == (3, 6)
    assert net.feedforward(x[:, 0]).shape == (3,)
    assert net.feedforward(x[:, [0]]).shape == (3, 1)
    assert net.feedforward(x[:, 0].tolist()).shape == (3,)
    assert np.allclose(net.feedforward(x[:, 2]), many[:, 2], atol=1e-6)
    assert np.allclose(net.feedforward(x[:, [2]])[:, 0], many[:, 2], atol=1e-6)
    assert np.array_equal(net.outputs(x.T), many.T)
    assert many.dtype == np.float32
    assert small(dtype="float64").feedforward(x).dtype == np.float64


def test_feedforward_hands_out_memory_of_its_own():
    net = small()
    first = net.feedforward(np.ones(4))
    copy = first.copy()
    net.feedforward(-np.ones(4))
    assert np.array_equal(first, copy)


def test_evaluate_counts_labels_and_vectors(pairs):
    net = small()
    _, test = pairs
    wanted = sum(int(np.argmax(net.feedforward(x)) == y) for x, y in test)
    assert 0 < wanted < len(test)
    columns = [(x, np.eye(3)[y].reshape(3, 1)) for x, y in test]
    for data in (test, iter(test), columns, [(x, np.int64(y)) for x, y in test]):
        assert net.evaluate(data) == wanted
    assert isinstance(net.evaluate(test), int)


def test_trace_shows_every_intermediate_result():
    net = small(dtype="float64", input_scale=0.5)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.random((3, 3))
    trace = net.trace(x, y)
    a = 0.5 * x
    assert np.array_equal(trace.a[0], a)
    assert trace.z[0] is None
    assert trace.delta[0] is None
    for l in (1, 2):
        z = net.weights[l - 1] @ a + net.biases[l - 1]
        a = sigmoid(z)
        assert np.allclose(trace.z[l], z)
        assert np.allclose(trace.a[l], a)
    assert np.allclose(trace.delta[2], (a - y) * a * (1 - a))
    nabla_b, nabla_w = net.backprop(x, y)
    assert np.allclose(nabla_b[1], trace.delta[2].sum(axis=1, keepdims=True))
    assert np.allclose(nabla_w[1], trace.delta[2] @ trace.a[1].T)


def test_per_example_gradients_sum_to_the_gradient():
    net = small(dtype="float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 5)), rng.random((3, 5))
    each, total = net.per_example_gradients(x, y), net.backprop(x, y)
    for some, sums in zip(each, total, strict=True):
        for one, wanted in zip(some, sums, strict=True):
            assert one.shape == (5, *wanted.shape)
            assert np.allclose(one.sum(axis=0), wanted)


@pytest.mark.parametrize("name", ["feedforward", "backprop", "cost_derivative", "update_mini_batch"])
def test_a_subclass_can_not_override_what_training_would_not_call(name):
    with pytest.raises(TypeError, match=rf"Mine overrides {name}, which gpunet's training would not call"):
        type("Mine", (Network,), {name: lambda *args: None})


def test_a_subclass_may_add_and_wrap():
    class Mine(Network):
        def SGD(self, *args, **kwargs):
            self.called = True
            return super().SGD(*args, **kwargs)

    net = Mine([1, 2], device="cpu")
    with contextlib.redirect_stdout(io.StringIO()):
        net.SGD([([0.5], 1)], 1, 1, 1.0)
    assert net.called


# -- Wrong use of the book's methods -------------------------------------------------------------------------

X1, Y1 = np.ones((4, 1)), np.ones((3, 1))
NAN = np.array([[1.0], [np.nan], [1.0], [1.0]])


@pytest.mark.parametrize(
    ("x", "fragment"),
    [
        (np.ones(5), r"a must have shape \(4,\), \(4, 1\) or \(4, m\).*got \(5, 1\)"),
        (np.ones((1, 4)), r"got \(1, 4\)"),
        (np.ones((4, 1, 1)), r"got \(4, 1, 1\)"),
        (np.ones((4, 0)), r"got \(4, 0\)"),
        (1.0, r"got \(\)"),
        (None, "a must"),
        ("text", "a must hold real numbers"),
        ([1, 2, 3, "four"], "a must hold real numbers"),
        ([[1], [2], [3], [4, 5]], "a can not be read as an array of numbers"),
        (np.ones(4) * 1j, "a must hold real numbers, got dtype complex128"),
        (NAN, r"a has the value nan at \[1, 0\]"),
        ([1, 2, np.inf, 4], r"a has the value inf at \[2, 0\]"),
        ([1e39, 0, 0, 0], r"a has the value 1e\+39 at \[0, 0\].*float32"),
    ],
)
def test_feedforward_refuses(x, fragment):
    with pytest.raises(InputError, match=fragment):
        small().feedforward(x)


@pytest.mark.parametrize(
    ("x", "y", "fragment"),
    [
        (np.ones((5, 1)), Y1, "x must have shape"),
        (X1, np.ones((4, 1)), r"y must have shape \(3,\)"),
        (X1, 1, "y must have shape"),
        (np.ones((4, 2)), np.ones((3, 3)), r"x has 2 examples \(columns\) and y has 3"),
        (NAN, Y1, "x has the value nan"),
        (X1, [[0], [np.inf], [0]], r"y has the value inf at \[1, 0\]"),
        (X1, ["a", "b", "c"], "y must hold real numbers"),
        (X1 * 1j, Y1, "complex"),
    ],
)
@pytest.mark.parametrize("method", ["backprop", "per_example_gradients", "trace"])
def test_backprop_refuses(method, x, y, fragment):
    with pytest.raises(InputError, match=fragment):
        getattr(small(), method)(x, y)


BAD_PAIRS = [
    (5, r"must be a list of \(x, y\) tuples, got int"),
    (None, "got NoneType"),
    ([], "is empty"),
    (iter([]), "is empty"),
    ([5], "entries such as 5"),
    ([(X1,)], "entries such as"),
    ([(X1, 0, 0)], "entries such as"),
    ([(X1, 0), (X1,)], "entries such as"),
    ([(np.ones((5, 1)), 0)], r"the x of .* must have shape \(4,\)"),
    ([(X1, 0), (np.ones(5), 0)], "the x of .* differ in length: 4 and 5"),
    ([(NAN, 0)], r"the x of .* has the value nan at \[1, 0\]"),
    ([(["a"] * 4, 0)], "the x of .* must hold real numbers"),
    ([(X1, 3)], "label 3.*from 0 to 2"),
    ([(X1, -1)], "label -1"),
    ([(X1, 0.5)], "label 0.5"),
    ([(X1, float("nan"))], "label nan"),
    ([(X1, "cat")], "numbers"),
    ([(X1, None)], "."),
    ([([[1], [2, 3], [4], [5]], 0)], "."),
    (np.array(3.0), "."),
    ({"a": 1}, "."),
    ("ab", "."),
]


@pytest.mark.parametrize(("data", "fragment"), BAD_PAIRS)
def test_sgd_refuses_training_data(data, fragment):
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=fragment):
        net.SGD(data, 1, 10, 3.0)
    assert np.array_equal(parameters(net), before)


@pytest.mark.parametrize(("data", "fragment"), BAD_PAIRS)
def test_evaluate_refuses(data, fragment):
    with pytest.raises(InputError, match=fragment):
        small().evaluate(data)


@pytest.mark.parametrize(("data", "fragment"), [case for case in BAD_PAIRS if case[0] is not None])
def test_sgd_refuses_test_data(pairs, data, fragment):
    with pytest.raises(InputError, match=fragment), contextlib.redirect_stdout(io.StringIO()):
        small().SGD(pairs[0], 1, 10, 3.0, test_data=data)


@pytest.mark.parametrize(
    ("y", "fragment"),
    [
        (np.ones((4, 1)), "y of training_data"),
        ([[1], [2]], "y of training_data"),
        ([[np.nan], [0], [0]], r"y of training_data has the value nan"),
    ],
)
def test_sgd_refuses_target_columns(y, fragment):
    with pytest.raises(InputError, match=fragment):
        small().SGD([(X1, y)], 1, 10, 3.0)


@pytest.mark.parametrize("ys", [(3, Y1), (Y1, 0.5), (Y1, np.ones((4, 1)))])
def test_sgd_refuses_mixed_targets(ys):
    with pytest.raises(InputError, match="y of training_data"):
        small().SGD([(X1, y) for y in ys], 1, 10, 3.0)


def test_evaluate_refuses_a_vector_of_the_wrong_length():
    with pytest.raises(InputError, match="4"):
        small().evaluate([(X1, np.array([1, 0, 0, 0]))])


@pytest.mark.parametrize("bad", [0, -1, 1.5, 2.0, True, None, "3", float("nan"), [3]])
def test_sgd_refuses_epochs_and_mini_batch_sizes(pairs, bad):
    with pytest.raises(InputError, match="epochs must be a whole number of at least 1"):
        small().SGD(pairs[0], bad, 10, 3.0)
    with pytest.raises(InputError, match="mini_batch_size must be a whole number of at least 1"):
        small().SGD(pairs[0], 1, bad, 3.0)


@pytest.mark.parametrize(
    "bad",
    [0, -1, 0.0, -0.5, True, None, "3", float("nan"), float("inf"), [3], 1j, pytest.param(10**400, id="10**400")],
)
def test_sgd_update_and_fit_refuse_eta(pairs, blobs, bad):
    net = small()
    with pytest.raises(InputError, match=r"eta must be a .*number above 0"):
        net.SGD(pairs[0], 1, 10, bad)
    with pytest.raises(InputError, match=r"eta must be a .*number above 0"):
        net.update_mini_batch(pairs[0][:5], bad)
    if bad is not None:
        with pytest.raises(InputError, match=r"eta must be a .*number above 0"):
            net.fit(*blobs, eta=bad)


@pytest.mark.parametrize(("data", "fragment"), BAD_PAIRS)
def test_update_mini_batch_refuses(data, fragment):
    with pytest.raises(InputError, match=fragment):
        small().update_mini_batch(data, 0.1)


@pytest.mark.parametrize(
    ("a", "y"),
    [
        (np.ones((3, 1)), np.ones((3, 2))),
        (np.ones(3), np.ones((3, 1))),
        (0.5, 1.0),
        ("a", "b"),
        (["a"] * 3, ["b"] * 3),
        (None, None),
        ([1j, 0, 0], [0, 0, 0]),
        (np.ones(3) * 1j, np.ones(3)),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_cost_derivative_refuses(a, y):
    with pytest.raises(InputError):
        small().cost_derivative(a, y)


W, B = [np.ones((5, 4)), np.ones((3, 5))], [np.ones((5, 1)), np.ones((3, 1))]


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        (5, "weights must be a list of arrays, got int"),
        (None, "weights must be a list of arrays"),
        ([], "for 2 layers, got .*0"),
        (W[:1], "for 2 layers, got .*1"),
        ([*W, W[0]], "for 2 layers, got .*3"),
        ([W[0].T, W[1]], r"weights\[0\] has shape \(5, 4\), got an array of shape \(4, 5\)"),
        ([W[0], 1.0], r"weights\[1\] has shape \(3, 5\), got an array of shape \(\)"),
        ([W[0], W[1] * np.nan], r"weights\[1\] must be finite"),
        ([W[0], W[1] * np.inf], r"weights\[1\] must be finite"),
        ([W[0], W[1] * 1e39], r"weights\[1\] must be finite in float32"),
        ([W[0], [["a"] * 5] * 3], r"weights\[1\] .*numbers"),
        ([W[0], [[1], [2, 3]]], r"weights\[1\] .*numbers"),
        ([W[0], W[1] * 1j], r"weights\[1\]"),
        ([W[0], [[1j] * 5] * 3], r"weights\[1\]"),
        ([W[0], [[10**400] * 5] * 3], r"weights\[1\]"),
        ([W[0], None], r"weights\[1\]"),
    ],
)
def test_wrong_weights_are_refused_and_change_nothing(values, fragment):
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=fragment):
        net.weights = values
    assert np.array_equal(parameters(net), before)


def test_wrong_biases_are_refused_and_change_nothing():
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match=r"biases\[0\] has shape \(5, 1\), got an array of shape \(5,\)"):
        net.biases = [np.ones(5), np.ones((3, 1))]
    with pytest.raises(InputError, match=r"biases\[1\] has shape \(3, 1\)"):
        net.biases = [np.ones((5, 1)), np.ones((1, 3))]
    with pytest.raises(InputError, match=r"weights\[0\]"):
        net.weights[0] = np.ones((4, 4))
    with pytest.raises(IndexError):
        net.weights[2] = np.ones((4, 4))
    with pytest.raises((InputError, TypeError)):
        net.weights[0:1] = [np.ones((4, 4))]
    assert np.array_equal(parameters(net), before)
