"""Whole trainings equal the book's loop over examples, from the same parameters in the same order."""

import itertools

import numpy as np
import pytest
from oracles import book, cases

import gpunet


def drawn(seed, sizes, scaled):
    """The initial parameters as gpunet promises to draw them, and the generator after that."""
    rng = np.random.default_rng(seed)
    weights, biases = [], []
    for n_in, n_out in itertools.pairwise(sizes):
        weights.append(rng.standard_normal((n_out, n_in)) / (np.sqrt(n_in) if scaled else 1))
        biases.append(rng.standard_normal((n_out, 1)))
    return weights, biases, rng


def assert_same_parameters(net, reference):
    cases.assert_close(list(net.weights), reference.weights)
    cases.assert_close(list(net.biases), reference.biases)


@pytest.mark.parametrize(
    "case",
    [
        cases.Case(("sigmoid", "sigmoid"), "quadratic"),
        cases.Case(("sigmoid", "sigmoid"), "cross-entropy"),
        cases.Case(("tanh", "softmax"), "log-likelihood"),
        cases.Case(("custom", "mixed"), "quartic"),
    ],
    ids=str,
)
def test_update_mini_batch(case):
    sizes = [6, 5, 4]
    net = case.network(sizes=sizes)
    reference = case.book(net)
    x, y = case.data(m=60, sizes=sizes)
    if case.activations[-1] == "softmax":
        y = y / y.sum(axis=0)  # the public methods ask for probabilities
    data = book.pairs(x, y)
    for step in range(30):
        mini_batch = data[2 * step : 2 * step + 1 + step % 7]
        net.update_mini_batch(mini_batch, 0.7)
        reference.update_mini_batch(mini_batch, 0.7)
    assert np.abs(reference.weights[0] - case.network(sizes=sizes).weights[0]).max() > 0.01  # it did learn
    assert_same_parameters(net, reference)


@pytest.mark.parametrize("size", [1, 5, 23, 8])  # 23 examples: 5 and 8 leave a ragged last batch
@pytest.mark.parametrize("cost", ["quadratic", "cross-entropy"])
def test_SGD(size, cost, capsys):
    sizes, seed, epochs = [6, 5, 4], 11, 3
    case = cases.Case(("sigmoid", "sigmoid"), cost)
    weights, biases, rng = drawn(seed, sizes, scaled=False)
    net = gpunet.Network(sizes, cost=cost, dtype="float64", device="cpu", seed=seed)
    np.testing.assert_array_equal(net.weights[1], weights[1])
    np.testing.assert_array_equal(net.biases[0], biases[0])
    reference = book.Network(weights, biases, [book.SIGMOID] * 2, cases.COSTS[cost][1])
    x, y = case.data(m=23, sizes=sizes)
    data = book.pairs(x, y)
    net.SGD(data, epochs, size, 1.5)
    reference.SGD(data, [rng.permutation(23) for _ in range(epochs)], size, 1.5)
    assert_same_parameters(net, reference)
    assert capsys.readouterr().out == "Epoch 0 complete\nEpoch 1 complete\nEpoch 2 complete\n"


def test_fit_is_SGD_on_rows():
    sizes, seed = [6, 5, 4], 12
    weights, biases, rng = drawn(seed, sizes, scaled=True)
    net = gpunet.Network(sizes, cost="log-likelihood", activation="tanh", dtype="float64", device="cpu", seed=seed)
    reference = book.Network(weights, biases, [book.TANH, book.SOFTMAX], book.LOG_LIKELIHOOD)
    x, _ = cases.Case(("tanh", "softmax"), "log-likelihood").data(m=23, sizes=sizes)
    labels = np.arange(23) % 4
    data = book.pairs(x, np.eye(4)[:, labels])
    history = net.fit(x.T, labels, epochs=4, batch_size=5, eta=0.4)
    orders = [rng.permutation(23) for _ in range(4)]
    met = []
    for order in orders:
        met.append(0.0)
        for k in range(0, 23, 5):
            batch = [data[i] for i in order[k : k + 5]]
            met[-1] += reference.total_cost(batch)  # each example's cost as its mini-batch met it
            reference.update_mini_batch(batch, 0.4)
    assert_same_parameters(net, reference)
    np.testing.assert_allclose(history.cost, np.array(met) / 23, rtol=1e-10)


def test_evaluate_counts_as_the_book(capsys):
    sizes = [6, 5, 4]
    case = cases.Case(("sigmoid", "sigmoid"), "quadratic")
    net = case.network(sizes=sizes, init="normal")
    x, y = case.data(m=40, sizes=sizes)
    labels = np.random.default_rng(0).integers(0, 4, 40)
    test_data = [(x[:, [i]], int(label)) for i, label in enumerate(labels)]

    def book_evaluate():
        reference = case.book(net)
        return sum(int(np.argmax(reference.feedforward(a)) == label) for a, label in test_data)

    assert net.evaluate(test_data) == book_evaluate()
    net.SGD(book.pairs(x, y), 1, 10, 3.0, test_data=test_data)
    assert capsys.readouterr().out == f"Epoch 0: {book_evaluate()} / 40\n"
