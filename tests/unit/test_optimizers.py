"""Optimizers and L2: against PyTorch's, against loops written by hand, and what they refuse."""

import copy
import importlib
import os

import numpy as np
import pytest

import gpunet
from gpunet import InputError, Network, optimizers
from gpunet.backends import ArrayAPIBackend, select
from gpunet.optimizers import SGD, Adagrad, Adam, Momentum, Optimizer, Penalty, RMSProp

WITH_STATES = [name for name, optimizer in optimizers.BUILT_IN.items() if optimizer.states]
#: Every class with constants that are not its defaults.
OTHERS = [
    Momentum(0.5),
    Momentum(0.99, nesterov=True),
    Adam(0.8, 0.95, 1e-3),
    RMSProp(0.9, 1e-4),
    Adagrad(1e-3),
    Momentum(1.0),
]
EPSILON_HAT = Adam(0.8, 0.95, 0.05, epsilon_hat=True)
each_with_states = pytest.mark.parametrize(
    "optimizer", [*map(optimizers.get, WITH_STATES), *OTHERS, Momentum(0.0), Adam(0.0, 0.0)], ids=repr
)


@pytest.fixture(scope="module")
def torch():
    required = os.environ.get("GPUNET_REQUIRE_TORCH") == "1"
    torch = importlib.import_module("torch") if required else pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for these few numbers others would only wait for each other
    yield torch
    torch.set_num_threads(threads)


def torch_optimizer(torch, optimizer, weights, biases, eta, decay):
    """PyTorch's optimizer of that kind, with weight decay on the weights alone."""
    groups = [{"params": weights, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}]
    o = optimizer
    if isinstance(o, SGD):
        return torch.optim.SGD(groups, lr=eta)
    if isinstance(o, Momentum):
        return torch.optim.SGD(groups, lr=eta, momentum=o.mu, nesterov=o.nesterov and o.mu > 0)
    if isinstance(o, Adam):
        return torch.optim.Adam(groups, lr=eta, betas=(o.beta1, o.beta2), eps=o.epsilon)
    if isinstance(o, RMSProp):
        return torch.optim.RMSprop(groups, lr=eta, alpha=o.rho, eps=o.epsilon)
    return torch.optim.Adagrad(groups, lr=eta, eps=o.epsilon)


class Problem:
    """200 parameters, 150 of them weights, and a gradient that depends on them and on the step."""

    p, n_weights, eta, steps = 200, 150, 0.05, 50

    def __init__(self):
        rng = np.random.default_rng(3)
        self.w = rng.normal(size=self.p)
        self._a = rng.normal(size=(self.p, self.p)) / np.sqrt(self.p)
        self._noise = rng.normal(size=(self.steps, self.p))
        self._noise[:, ::17] = 0.0
        self._a[::17] = 0.0  # some gradients are always 0

    def gradient(self, w, step):
        return np.tanh(self._a @ w) + 0.3 * self._noise[step]


def run(ops, optimizer, penalty, problem):
    """The parameters after each step by the verb `update`."""
    w = ops.asarray(problem.w.copy())
    states = ops.asarray(np.zeros((optimizer.states, problem.p)))
    c = ops.asarray(optimizer.coefficients(problem.eta, np.arange(1, problem.steps + 1)))
    trajectory = []
    for step in range(problem.steps):
        nabla = ops.asarray(problem.gradient(w, step))
        ops.update(optimizer, w, nabla, states, c[step, ...], Penalty(penalty), problem.n_weights)
        trajectory.append(w.copy())
    return np.array(trajectory)


# -- Against PyTorch -------------------------------------------------------------------------------------------


@each_with_states
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_50_steps_are_pytorchs(torch, optimizer, penalty):
    problem = Problem()
    ours = run(select("cpu"), optimizer, penalty, problem)
    weights = torch.tensor(problem.w[: problem.n_weights])
    biases = torch.tensor(problem.w[problem.n_weights :])
    theirs = torch_optimizer(torch, optimizer, [weights], [biases], problem.eta, penalty)
    for step in range(problem.steps):
        gradient = torch.tensor(problem.gradient(np.concatenate([weights.numpy(), biases.numpy()]), step))
        weights.grad, biases.grad = gradient[: problem.n_weights], gradient[problem.n_weights :]
        theirs.step()
        wanted = np.concatenate([weights.numpy(), biases.numpy()])
        np.testing.assert_allclose(ours[step], wanted, rtol=1e-10, atol=1e-10)
    moved = np.abs(ours - problem.w).max(axis=0)
    assert moved[np.arange(problem.p) % 17 != 0].min() > 0.01


# -- Two forms of one formula ----------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [*map(optimizers.get, WITH_STATES), *OTHERS, EPSILON_HAT], ids=repr)
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_generic_and_in_place_forms_agree(optimizer, penalty):
    problem = Problem()
    in_place, generic = (run(ops, optimizer, penalty, problem) for ops in (select("cpu"), ArrayAPIBackend(np)))
    np.testing.assert_allclose(in_place, generic, rtol=0, atol=1e-13)
    assert np.abs(generic[0] - problem.w).max() > 0.01


@each_with_states
def test_in_place_form_writes_where_it_may(optimizer):
    rng = np.random.default_rng(0)
    w, g, scratch = rng.normal(size=(3, 40))
    v = list(np.abs(rng.normal(size=(optimizer.states, 40))))
    c = optimizer.coefficients(0.1, np.array([3]))[0]
    before = [x.copy() for x in (w, g, c, *v)]
    wanted = optimizer.update(w, g, v, c, np)
    for x, x_0 in zip((w, g, c, *v), before, strict=True):
        np.testing.assert_array_equal(x, x_0, "the generic form changes nothing")
    assert optimizer.update_into(w, g, v, c, scratch, np) is None
    np.testing.assert_array_equal(c, before[2])
    for got, right in zip((w, *v), wanted, strict=True):
        np.testing.assert_allclose(got, right, rtol=1e-14)


# -- Coefficients ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "wanted"),
    [
        (Momentum(), [0.1, 0.9]),
        (Momentum(0.25, nesterov=True), [0.1, 0.25]),
        (RMSProp(0.75, 0.5), [0.1, 0.75, 0.25, 0.5]),
        (Adagrad(0.5), [0.1, 0.5]),
    ],
    ids=repr,
)
def test_coefficients_that_stay(optimizer, wanted):
    np.testing.assert_allclose(optimizer.coefficients(0.1, np.array([1, 2, 50])), [wanted] * 3, rtol=1e-15)


def test_adams_coefficients_have_the_bias_corrections():
    c = Adam(0.5, 0.75, 1e-3).coefficients(0.1, np.array([1, 2, 10_000]))
    assert c.dtype == np.float64
    fixed = [0.5, 0.75, 0.25]
    np.testing.assert_allclose(
        c,
        [
            [0.1 / 0.5, *fixed, 0.25**-0.5, 1e-3],
            [0.1 / 0.75, *fixed, (1 - 0.75**2) ** -0.5, 1e-3],
            [0.1, *fixed, 1.0, 1e-3],
        ],
        rtol=1e-15,
    )


def test_epsilon_hat_is_corrected_with_the_root():
    c = Adam(0.5, 0.75, 1e-3, epsilon_hat=True).coefficients(0.1, np.array([1, 2, 10_000]))
    plain = Adam(0.5, 0.75, 1e-3).coefficients(0.1, np.array([1, 2, 10_000]))
    np.testing.assert_array_equal(c[:, :5], plain[:, :5])
    np.testing.assert_allclose(c[:, 5], [1e-3 / 0.25**0.5, 1e-3 / (1 - 0.75**2) ** 0.5, 1e-3], rtol=1e-15)


@pytest.mark.parametrize("ops", [select("cpu"), ArrayAPIBackend(np)], ids=["in place", "generic"])
def test_steps_with_epsilon_hat_are_those_of_the_end_of_section_2(ops):
    """alpha_t = alpha sqrt(1 - beta2^t) / (1 - beta1^t), and the step alpha_t m_t / (sqrt(v_t) + epsilon-hat)."""
    problem, o = Problem(), EPSILON_HAT
    ours = run(ops, o, 0.0, problem)
    w, m, v = problem.w.copy(), 0.0, 0.0
    for t in range(1, problem.steps + 1):
        g = problem.gradient(w, t - 1)
        m, v = o.beta1 * m + (1 - o.beta1) * g, o.beta2 * v + (1 - o.beta2) * g**2
        w -= problem.eta * np.sqrt(1 - o.beta2**t) / (1 - o.beta1**t) * m / (np.sqrt(v) + o.epsilon)
        np.testing.assert_allclose(ours[t - 1], w, rtol=1e-10, atol=1e-10)
    without = run(ops, Adam(o.beta1, o.beta2, o.epsilon), 0.0, problem)
    assert np.abs(without - ours).max() > 0.01


def test_adams_first_step_is_eta_whatever_the_gradient():
    for g in (1e-3, 1.0, -1e5):
        (c,) = Adam().coefficients(0.01, np.array([1]))
        w, *_ = Adam().update(np.zeros(1), np.array([g]), [np.zeros(1)] * 2, c, np)
        np.testing.assert_allclose(w, -0.01 * np.sign(g), rtol=1e-4)


@pytest.mark.parametrize("optimizer", [*optimizers.BUILT_IN.values(), *OTHERS, EPSILON_HAT], ids=repr)
def test_what_an_optimizer_says_of_itself(optimizer):
    assert eval(repr(optimizer), vars(optimizers)).settings() == optimizer.settings()
    assert optimizers.get(optimizer) is optimizer
    assert optimizers.get(optimizer.name).name == optimizer.name
    assert type(optimizers.get(optimizer.name)) is type(optimizer)


def test_names_and_defaults():
    assert list(optimizers.BUILT_IN) == ["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"]
    assert (*optimizers.BUILT_IN, "lbfgs") == optimizers.NAMES
    assert optimizers.get("momentum").settings() == {"mu": 0.9, "nesterov": False}
    assert optimizers.get("nesterov").settings() == {"mu": 0.9, "nesterov": True}
    assert optimizers.get("adam").settings() == {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    assert optimizers.get("rmsprop").settings() == {"rho": 0.99, "epsilon": 1e-8}
    assert optimizers.get("adagrad").settings() == {"epsilon": 1e-10}
    assert {name for name, o in optimizers.BUILT_IN.items() if o.usual_eta} == {"adam", "adamw", "rmsprop", "adagrad"}


# -- What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Momentum(1.1), "mu must be from 0 to 1, got 1.1"),
        (lambda: Momentum(-0.1), "mu must be a finite number of at least 0, got -0.1"),
        (lambda: Momentum("0.9"), "mu must be a finite number of at least 0, got '0.9'"),
        (lambda: Momentum(True), "mu must be a finite number of at least 0, got True"),
        (lambda: Momentum(float("nan")), "mu must be a finite number of at least 0, got nan"),
        (lambda: Adam(beta1=2), "beta1 must be at least 0 and below 1, got 2"),
        (lambda: Adam(beta2=1), "beta2 must be at least 0 and below 1, got 1"),
        (lambda: Adam(epsilon=0), "epsilon must be a finite number above 0, got 0"),
        (lambda: Adam(epsilon=None), "epsilon must be a number above 0, got None"),
        (lambda: RMSProp(rho=float("inf")), "rho must be a finite number of at least 0, got inf"),
        (lambda: RMSProp(epsilon=-1e-8), "epsilon must be a finite number above 0, got -1e-08"),
        (lambda: Adagrad(np.zeros(2)), "epsilon must be a number above 0"),
        (lambda: Momentum(np.zeros(2)), "mu must be a finite number of at least 0"),
        (lambda: optimizers.get("Adam"), "unknown optimizer 'Adam'. Did you mean 'adam'? Known: 'sgd'"),
        (lambda: optimizers.get(Adam), "got the class: pass Adam()"),
        (lambda: optimizers.get(None), "unknown optimizer None"),
    ],
)
def test_bad_constants_are_refused(make, fragment):
    with pytest.raises(InputError) as caught:
        make()
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"optimizer": "adams"}, "unknown optimizer 'adams'. Did you mean 'adam'?"),
        ({"l2": -1}, "l2 must be a finite number of at least 0, got -1"),
        ({"l2": float("nan")}, "l2 must be a finite number of at least 0, got nan"),
        ({"l2": "0.1"}, "l2 must be a finite number of at least 0, got '0.1'"),
        ({"l2": np.zeros(2)}, "l2 must be a finite number of at least 0"),
    ],
)
def test_fit_refuses(blobs, options, fragment):
    net = network()
    before = parameters(net)
    with pytest.raises(InputError) as caught:
        net.fit(*blobs, **options)
    assert fragment in str(caught.value)
    np.testing.assert_array_equal(parameters(net), before)


# -- fit -------------------------------------------------------------------------------------------------------


def network(dtype="float64", **options):
    options = {"activation": "tanh", "output_activation": "sigmoid", "cost": "quadratic", **options}
    return Network([4, 5, 3], device="cpu", dtype=dtype, seed=1, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def mini_batches(net, n, epochs, m):
    """The rows of each step that `fit` will take, from a copy of the network's generator."""
    rng = copy.deepcopy(net._rng)
    for _ in range(epochs):
        order = rng.permutation(n)
        yield from (order[start : start + m] for start in range(0, n, m))


def by_hand(net, X, Y, optimizer, eta, l2, epochs, m):
    """Train copies of the parameters in plain NumPy; return them as `parameters` does.

    BP1-BP4 for tanh, then sigmoid, and the quadratic cost; the step as the papers and equation (93) have it.
    """
    w, b = ([v.copy() for v in values] for values in (net.weights, net.biases))
    n = len(X)
    states = [[np.zeros_like(v) for v in (*w, *b)] for _ in range(optimizer.states)]
    for t, rows in enumerate(mini_batches(net, n, epochs, m), start=1):
        x, y = X[rows].T, Y[rows].T
        hidden = np.tanh(w[0] @ x + b[0])
        out = 1 / (1 + np.exp(-(w[1] @ hidden + b[1])))
        delta = (out - y) * out * (1 - out)
        delta_1 = (w[1].T @ delta) * (1 - hidden**2)
        nabla = [delta_1 @ x.T, delta @ hidden.T, delta_1.sum(axis=1)[:, None], delta.sum(axis=1)[:, None]]
        for i, (v, g) in enumerate(zip((*w, *b), nabla, strict=True)):
            is_weight = i < len(w)
            if isinstance(optimizer, SGD):
                kept = 1 - eta * l2 / n if is_weight else 1.0
                v[...] = kept * v - eta / len(rows) * g  # (93)
                continue
            g = g / len(rows) + (l2 / n * v if is_weight else 0.0)
            v -= step_by_hand(optimizer, g, [s[i] for s in states], t, eta)
    return np.concatenate([np.ravel(v) for v in (*w, *b)])


def step_by_hand(optimizer, g, v, t, eta):
    """What is taken from a parameter; v changes in place."""
    o = optimizer
    if isinstance(o, Momentum):
        v[0][...] = o.mu * v[0] - eta * g
        return -(o.mu * v[0] - eta * g if o.nesterov else v[0])
    if isinstance(o, Adam):
        v[0][...] = o.beta1 * v[0] + (1 - o.beta1) * g
        v[1][...] = o.beta2 * v[1] + (1 - o.beta2) * g**2
        return eta * (v[0] / (1 - o.beta1**t)) / (np.sqrt(v[1] / (1 - o.beta2**t)) + o.epsilon)
    v[0][...] = o.rho * v[0] + (1 - o.rho) * g**2 if isinstance(o, RMSProp) else v[0] + g**2
    return eta * g / (np.sqrt(v[0]) + o.epsilon)


each_optimizer = pytest.mark.parametrize("optimizer", [*optimizers.BUILT_IN.values(), *OTHERS], ids=repr)


@each_optimizer
@pytest.mark.parametrize("l2", [0.0, 5.0])
def test_fit_is_the_loop_by_hand(blobs, optimizer, l2):
    """Three epochs in mini-batches of 40 of 150 examples, the last one of 30."""
    X, y = blobs
    net = network()
    wanted = by_hand(net, X, np.eye(3)[y], optimizer, 0.05, l2, epochs=3, m=40)
    start = parameters(net)
    net.fit(X, y, epochs=3, batch_size=40, eta=0.05, optimizer=optimizer, l2=l2, weight_decay=0.0)
    np.testing.assert_allclose(parameters(net), wanted, rtol=1e-10, atol=1e-11)
    assert np.abs(parameters(net) - start).max() > 1e-3


@each_optimizer
@pytest.mark.parametrize("l2", [0.0, 5.0])
def test_fit_is_pytorchs_training(torch, blobs, optimizer, l2):
    X, y = blobs
    net = network()
    w, b = ([torch.tensor(v.copy(), requires_grad=True) for v in values] for values in (net.weights, net.biases))
    theirs = torch_optimizer(torch, optimizer, w, b, 0.05, l2 / len(X))
    inputs, targets = torch.tensor(np.array(X)), torch.tensor(np.eye(3)[y])
    for rows in map(torch.tensor, mini_batches(net, len(X), 3, 40)):
        hidden = torch.tanh(inputs[rows] @ w[0].T + b[0][:, 0])
        out = torch.sigmoid(hidden @ w[1].T + b[1][:, 0])
        cost = 0.5 * ((out - targets[rows]) ** 2).sum() / len(rows)
        theirs.zero_grad()
        cost.backward()
        theirs.step()
    net.fit(X, y, epochs=3, batch_size=40, eta=0.05, optimizer=optimizer, l2=l2, weight_decay=0.0)
    wanted = np.concatenate([v.detach().numpy().ravel() for v in (*w, *b)])
    np.testing.assert_allclose(parameters(net), wanted, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("name", list(optimizers.BUILT_IN))
def test_an_optimizer_by_its_name(blobs, name):
    by_name, by_object = network(), network()
    for net, optimizer in ((by_name, name), (by_object, optimizers.get(name))):
        net.fit(*blobs, epochs=2, optimizer=optimizer, l2=0.1)
    np.testing.assert_array_equal(parameters(by_name), parameters(by_object))


def test_equation_93(blobs):
    """One step on all examples: w -> (1 - eta lambda/n) w - eta/n sum dC/dw, b -> b - eta/n sum dC/db."""
    X, y = blobs
    net = network()
    w, b = ([v.copy() for v in values] for values in (net.weights, net.biases))
    nabla_b, nabla_w = net.backprop(X.T, np.eye(3)[y].T)
    n, eta, l2 = len(X), 0.5, 30.0
    net.fit(X, y, epochs=1, batch_size=n, eta=eta, l2=l2)
    for l in range(2):
        wanted = (1 - eta * l2 / n) * w[l] - eta / n * nabla_w[l]
        np.testing.assert_allclose(net.weights[l], wanted, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(net.biases[l], b[l] - eta / n * nabla_b[l], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", list(optimizers.BUILT_IN))
def test_reported_costs_are_without_the_penalty(blobs, name):
    """With one step on all examples, the cost is that of the parameters before it."""
    X, y = blobs
    costs = [network().fit(X, y, epochs=1, batch_size=150, optimizer=name, l2=l2).cost for l2 in (0.0, 50.0)]
    assert costs[0] == costs[1]


def test_l2_keeps_weights_small(blobs):
    nets = [network() for _ in range(2)]
    for net, l2 in zip(nets, (0.0, 20.0), strict=True):
        net.fit(*blobs, epochs=30, optimizer="adam", eta=0.01, l2=l2)
    free, kept = (sum(np.sum(w**2) for w in net.weights) for net in nets)
    assert kept < free / 2


@pytest.mark.parametrize("name", list(optimizers.BUILT_IN))
def test_every_optimizer_learns(blobs, name):
    net = Network([4, 20, 3], device="cpu", seed=3)
    # Adagrad's steps become ever smaller; from the default of 0.01 on, 60 epochs get nowhere.
    net.fit(*blobs, epochs=60, optimizer=name, eta=0.1 if name == "adagrad" else None)
    assert net.score(*blobs) > 0.9


def test_default_eta():
    net = Network([4, 5, 3], device="cpu", seed=1)
    etas = {name: net.default_eta(name) for name in optimizers.BUILT_IN}
    assert etas == {
        "sgd": 3.0,
        "momentum": pytest.approx(0.3),
        "nesterov": pytest.approx(0.3),
        "adam": 0.001,
        "adamw": 0.001,
        "rmsprop": 0.001,
        "adagrad": 0.01,
    }


def test_a_second_fit_starts_with_nothing_remembered(blobs):
    """The velocity is the training's, the parameters are the network's."""
    X, y = blobs
    net = network()
    net.fit(X, y, epochs=2, batch_size=40, eta=0.05, optimizer="momentum")
    wanted = by_hand(net, X, np.eye(3)[y], Momentum(), 0.05, 0.0, epochs=1, m=40)
    net.fit(X, y, epochs=1, batch_size=40, eta=0.05, optimizer="momentum")
    np.testing.assert_allclose(parameters(net), wanted, rtol=1e-10, atol=1e-11)


def test_float32_stays_float32(blobs):
    net = network(dtype="float32")
    net.fit(*blobs, epochs=2, optimizer="adam", l2=0.1)
    assert {v.dtype for v in (*net.weights, *net.biases)} == {np.dtype("float32")}


def test_optimizers_are_found_from_the_package():
    assert gpunet.optimizers is optimizers
    assert issubclass(Momentum, Optimizer)
