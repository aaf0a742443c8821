"""backprop against the book's loop, PyTorch's autograd, equations (33)-(35) and finite differences (46)."""

import importlib
import itertools
import os

import numpy as np
import pytest
from oracles import book, cases

import gpunet

each_case = pytest.mark.parametrize("case", cases.ALL, ids=str)


@pytest.fixture(scope="module")
def torch():
    if os.environ.get("GPUNET_REQUIRE_TORCH") == "1":
        return importlib.import_module("torch")
    return pytest.importorskip("torch")


def test_the_cases_cover_every_built_in():
    from gpunet import activations, costs

    hidden = {f for case in cases.HIDDEN for f in case.activations[:-1]}
    assert set(activations.BUILT_IN) <= hidden
    pairs = {(case.activations[-1], case.cost) for case in cases.OUTPUTS}
    assert {(f, "quadratic") for f in activations.BUILT_IN} <= pairs
    for cost in costs.BUILT_IN.values():
        outputs = {f for f, c in pairs if c == cost.name}
        assert (cost.outputs or ("sigmoid",))[0] in outputs, cost
        assert len(outputs) >= 2, f"{cost} with what its usual output can not show"


@each_case
def test_book_loop(case):
    net = case.network()
    x, y = case.data()
    nabla_b, nabla_w = net.backprop(x, y)
    wanted_b, wanted_w = case.book(net).gradient(book.pairs(x, y))
    cases.assert_close(nabla_b, wanted_b)
    cases.assert_close(nabla_w, wanted_w)


@each_case
def test_book_loop_one_example(case):
    net = case.network()
    x, y = case.data(m=1)
    nabla_b, nabla_w = net.backprop(x[:, 0], y[:, 0])
    wanted_b, wanted_w = case.book(net).backprop(x, y)
    cases.assert_close(nabla_b, wanted_b)
    cases.assert_close(nabla_w, wanted_w)


@each_case
def test_feedforward_and_trace(case):
    net = case.network()
    x, y = case.data()
    trace = net.trace(x, y)
    nabla_b = net.backprop(x, y)[0]
    steps = [case.book(net).intermediate(x[:, [i]]) for i in range(x.shape[1])]
    np.testing.assert_allclose(net.feedforward(x), np.hstack([a[-1] for a, _ in steps]), rtol=1e-12, atol=1e-14)
    for l in range(net.num_layers):
        np.testing.assert_allclose(trace.a[l], np.hstack([a[l] for a, _ in steps]), rtol=1e-12, atol=1e-14)
    for l in range(1, net.num_layers):
        np.testing.assert_allclose(trace.z[l], np.hstack([z[l - 1] for _, z in steps]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(trace.delta[l].sum(axis=1, keepdims=True), nabla_b[l - 1], rtol=1e-12)
    assert trace.z[0] is None
    assert trace.delta[0] is None


@each_case
def test_pytorch_autograd(case, torch):
    net = case.network()
    x, y = case.data()
    weights = [torch.tensor(w, requires_grad=True) for w in net.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in net.biases]
    a = torch.tensor(x)
    for w, b, name in zip(weights, biases, case.activations, strict=True):
        a = cases.ACTIVATIONS[name][2](w @ a + b, torch)
    cases.COSTS[case.cost][2](a, torch.tensor(y)).backward()
    nabla_b, nabla_w = net.backprop(x, y)
    cases.assert_close(nabla_b, [b.grad.numpy() for b in biases])
    cases.assert_close(nabla_w, [w.grad.numpy() for w in weights])


@each_case
def test_matrix_form(case):
    """Equations (33)-(35), with Sigma' as a full matrix; for softmax it is the Jacobian."""
    net = case.network()
    x, y = case.data()
    delta = net.trace(x, y).delta
    reference = case.book(net)
    L = net.num_layers - 1
    for i in range(x.shape[1]):
        a, z = reference.intermediate(x[:, [i]])
        # z[l - 1] is the book's z^l, weights[l] its w^{l+1}; a Jacobian acts transposed on errors.
        sigma_prime = [f.jacobian(z_l).T for f, z_l in zip(reference.activations, z, strict=True)]
        grad_a = reference.cost.prime(a[-1], y[:, [i]])
        by_recursion = sigma_prime[L - 1] @ grad_a  # (33)
        for l in range(L, 0, -1):
            if l < L:
                by_recursion = sigma_prime[l - 1] @ reference.weights[l].T @ by_recursion  # (34)
            product = np.eye(len(z[l - 1]))
            for k in range(l, L):
                product = product @ sigma_prime[k - 1] @ reference.weights[k].T
            by_product = product @ sigma_prime[L - 1] @ grad_a  # (35)
            cases.assert_close([delta[l][:, [i]]], [by_recursion])
            cases.assert_close([delta[l][:, [i]]], [by_product])


@each_case
def test_finite_differences(case):
    """Equation (46), centred, on the book's own loop: shares no code with gpunet."""
    net = case.network()
    x, y = case.data(m=3)
    reference, data = case.book(net), book.pairs(x, y)
    zs = zip(*(reference.intermediate(x_i)[1] for x_i, _ in data), strict=True)
    for name, z in zip(case.activations, zs, strict=True):
        for kink in cases.KINKS.get(name, ()):
            assert np.abs(np.hstack(z) - kink).min() > 1e-4, "a kink too near: choose another seed"
    if case.cost in cases.COST_KINKS:
        assert np.abs(cases.COST_KINKS[case.cost](reference.feedforward(x), y)).min() > 1e-4
    nabla_b, nabla_w = net.backprop(x, y)
    step = 1e-5
    for parameters, nabla in ((reference.biases, nabla_b), (reference.weights, nabla_w)):
        for values, gradient in zip(parameters, nabla, strict=True):
            differences = np.empty_like(values)
            for i in np.ndindex(values.shape):
                value = values[i]
                values[i] = value + step
                above = reference.total_cost(data)
                values[i] = value - step
                below = reference.total_cost(data)
                values[i] = value
                differences[i] = (above - below) / (2 * step)
            cases.assert_close([gradient], [differences], relative=1e-6)


@each_case
def test_check_gradients_passes(case):
    net = case.network()
    result = gpunet.check_gradients(net, *case.data(m=3))
    assert result, str(result)


@pytest.mark.parametrize("sizes", [[3, 2], [1, 1], [4, 1, 3], [2, 3, 3, 3, 3, 2]], ids=str)
@pytest.mark.parametrize("cost", ["cross-entropy", "quadratic"])
def test_depths(sizes, cost):
    case = cases.Case(("sigmoid",) * (len(sizes) - 1), cost)
    net = case.network(sizes=sizes)
    x, y = case.data(m=4, sizes=sizes)
    nabla_b, nabla_w = net.backprop(x, y)
    wanted_b, wanted_w = case.book(net).gradient(book.pairs(x, y))
    cases.assert_close(nabla_b, wanted_b)
    cases.assert_close(nabla_w, wanted_w)


def test_softmax_with_one_hot_targets_is_equation_84():
    case = cases.Case(("tanh", "sigmoid", "softmax"), "log-likelihood")
    net = case.network()
    x, _ = case.data()
    y = np.eye(3)[:, [0, 1, 2, 0, 1, 2, 2]]
    trace = net.trace(x, y)
    cases.assert_close([trace.delta[-1]], [trace.a[-1] - y])


@pytest.mark.parametrize("scale", [1 / 255, 3.0])
def test_input_scale(scale):
    case = cases.Case(("sigmoid", "tanh", "linear"), "quadratic")
    net = case.network(input_scale=scale)
    x, y = case.data()
    nabla_b, nabla_w = net.backprop(x, y)
    wanted_b, wanted_w = case.book(net).gradient(book.pairs(scale * x, y))
    cases.assert_close(nabla_b, wanted_b)
    cases.assert_close(nabla_w, wanted_w)


@pytest.mark.parametrize("case", [c for c in cases.ALL if "softmax" not in c.activations], ids=str)
def test_sum_over_paths(case):
    """Equation (53): a gradient is a sum over all paths from its weight to the cost."""
    sizes = [2, 3, 2, 2]
    if any(name.startswith("mixed_linear") for name in case.activations):
        sizes = [2, 3, 3, 3]  # that mixture names a third neuron
    net = case.network(sizes=sizes)
    x, y = case.data(m=1, sizes=sizes)
    reference = case.book(net)
    a, z = reference.intermediate(x)
    prime = [None, *(np.diag(f.jacobian(z_l)) for f, z_l in zip(reference.activations, z, strict=True))]
    w = [None, *reference.weights]
    grad_a = reference.cost.prime(a[-1], y)[:, 0]
    L = len(sizes) - 1
    nabla_b, nabla_w = net.backprop(x, y)
    for l in range(1, L + 1):
        wanted_w, wanted_b = np.zeros(w[l].shape), np.zeros((sizes[l], 1))
        for j in range(sizes[l]):
            for rest in itertools.product(*(range(n) for n in sizes[l + 1 :])):
                path = (j, *rest)  # neuron j of layer l, then one neuron of each later layer
                rate = prime[l][j] * grad_a[path[-1]]
                for step, (q, p) in enumerate(itertools.pairwise(path), start=l + 1):
                    rate *= prime[step][p] * w[step][p, q]  # da^step_p / da^{step-1}_q
                wanted_b[j, 0] += rate
                for k in range(sizes[l - 1]):
                    wanted_w[j, k] += rate * a[l - 1][k, 0]
        cases.assert_close([nabla_b[l - 1]], [wanted_b])
        cases.assert_close([nabla_w[l - 1]], [wanted_w])


@each_case
def test_per_example_gradients(case):
    net = case.network()
    x, y = case.data()
    nabla_b, nabla_w = net.per_example_gradients(x, y)
    reference = case.book(net)
    for i, (x_i, y_i) in enumerate(book.pairs(x, y)):
        wanted_b, wanted_w = reference.backprop(x_i, y_i)
        np.testing.assert_allclose(nabla_b[-1][i], wanted_b[-1], rtol=1e-10, atol=1e-14)
        for got, wanted in zip(nabla_b + nabla_w, wanted_b + wanted_w, strict=True):
            assert got.shape == (x.shape[1], *wanted.shape)
            np.testing.assert_allclose(got[i], wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "softmax", "mixed"])
def test_a_custom_activation_may_not_pass_for_a_built_in_one(name):
    """Cross-entropy leaves f' out for gpunet's own sigmoid; a function of the user's is another one."""
    with pytest.raises(gpunet.InputError, match=name):
        gpunet.Activation(name, lambda z, xp: xp.tanh(2 * z), lambda z, xp: 2 - 2 * xp.tanh(2 * z) ** 2)
