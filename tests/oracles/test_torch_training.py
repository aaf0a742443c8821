"""Whole trainings against PyTorch's, in float64: what surrounds the gradient is the same for 50 steps."""

import copy
import importlib
import os

import numpy as np
import pytest
import scipy.optimize

import gpunet
from gpunet.optimizers import LBFGS

N, M, EPOCHS = 150, 30, 10
ETA = 0.05


@pytest.fixture(scope="module")
def torch():
    required = os.environ.get("GPUNET_REQUIRE_TORCH") == "1"
    torch = importlib.import_module("torch") if required else pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for these few numbers others would only wait for each other
    yield torch
    torch.set_num_threads(threads)


def data():
    rng = np.random.default_rng(5)
    y = np.arange(N) % 3
    return rng.normal(size=(N, 4)) + np.eye(4)[y], y


def network(sizes=(4, 7, 6, 3), cost="log-likelihood", **options):
    options = {"activation": "tanh", "dtype": "float64", "device": "cpu", "seed": 1, **options}
    return gpunet.Network(list(sizes), cost=cost, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


class Training:
    """A training of the same network in PyTorch: its parameters, and the same mini-batches and masks."""

    def __init__(self, torch, net):
        self.torch = torch
        self.w, self.b = (
            [torch.tensor(np.array(v), requires_grad=True) for v in vs] for vs in (net.weights, net.biases)
        )
        self._rng = copy.deepcopy(net._rng)

    def groups(self, **of_weights):
        """Parameter groups: what is said of the weights is not for the biases."""
        return [{"params": self.w, **of_weights}, {"params": self.b, "weight_decay": 0.0}]

    def norm(self, p):
        return sum((w.abs() ** p).sum() for w in self.w)

    def run(self, optimizer, loss, dropout=(0.0, 0.0, 0.0), before_step=None, after_step=None):
        """Take 50 steps; `loss` gets the output layer's weighted inputs z (m, n) and the numbers of the rows."""
        torch = self.torch
        X = torch.tensor(data()[0])
        for _ in range(EPOCHS):
            masks = np.random.default_rng(self._rng.integers(2**63)) if any(dropout) else None
            order = self._rng.permutation(N)
            for start in range(0, N, M):
                rows = torch.tensor(order[start : start + M])
                a = X[rows]
                for l, (w, b, share) in enumerate(zip(self.w, self.b, dropout, strict=True)):
                    if share:
                        kept = masks.random(tuple(a.shape), dtype=np.float32) >= share
                        a = a * torch.tensor(kept / (1 - share))
                    z = a @ w.T + b[:, 0]
                    a = torch.tanh(z) if l < len(self.w) - 1 else z
                optimizer.zero_grad()
                loss(a, rows).backward()
                if before_step:
                    before_step()
                optimizer.step()
                if after_step:
                    with torch.no_grad():
                        after_step()

    def parameters(self):
        return np.concatenate([v.detach().numpy().ravel() for v in (*self.w, *self.b)])


@pytest.fixture
def both(torch):
    """gpunet's network and the same training in PyTorch, with a function that trains the first and compares them."""
    net = network()
    training = Training(torch, net)

    def compare(**options):
        before = parameters(net)
        options = {"epochs": EPOCHS, "batch_size": M, "eta": ETA, **options}
        net.fit(*data(), **options)
        np.testing.assert_allclose(parameters(net), training.parameters(), rtol=1e-10, atol=1e-10)
        assert np.abs(parameters(net) - before).max() > 0.05
        return net

    return training, compare


@pytest.fixture
def labels(torch):
    return torch.tensor(data()[1])


def plain(torch, labels):
    return lambda z, rows: torch.nn.functional.cross_entropy(z, labels[rows])


# -- What an optimizer is given, and what it is --------------------------------------------------------------------


@pytest.mark.parametrize("decay", [None, 0.0, 0.5])
def test_adamw(torch, labels, both, decay):
    training, compare = both
    usual = 0.01 if decay is None else decay
    training.run(torch.optim.AdamW(training.groups(weight_decay=usual), lr=ETA), plain(torch, labels))
    compare(optimizer="adamw", weight_decay=decay)


def test_weight_decay_is_apart_from_the_gradient(torch, labels, both):
    """Momentum with decoupled decay, by hand: the velocity knows nothing of it."""
    training, compare = both

    def decay():
        with torch.no_grad():
            for w in training.w:
                w *= 1 - ETA * 0.4

    training.run(torch.optim.SGD(training.groups(), lr=ETA, momentum=0.9), plain(torch, labels), before_step=decay)
    compare(optimizer="momentum", weight_decay=0.4)


@pytest.mark.parametrize("engine", ["auto", "verbs"])
def test_weight_decay_of_plain_descent_is_l2(torch, labels, both, engine):
    """The compiled engine and the verbs."""
    training, compare = both
    training.run(torch.optim.SGD(training.groups(weight_decay=0.3 + 3.0 / N), lr=ETA), plain(torch, labels))
    compare(weight_decay=0.3, l2=3.0, engine=engine)


CLIPS = {
    "norm": {"clip_norm": 0.25},
    "value": {"clip_value": 0.04},
    "both": {"clip_value": 0.04, "clip_norm": 0.25},
    "seldom": {"clip_norm": 0.5},
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS.keys())
def test_clipping(torch, labels, both, optimizer, clip):
    training, compare = both
    reached = []

    def clipped():
        if "clip_value" in clip:
            before = torch.cat([v.grad.ravel() for v in (*training.w, *training.b)])
            reached.append(bool(before.abs().max() > clip["clip_value"]))
            torch.nn.utils.clip_grad_value_([*training.w, *training.b], clip["clip_value"])
        if "clip_norm" in clip:
            norm = torch.nn.utils.clip_grad_norm_([*training.w, *training.b], clip["clip_norm"])
            reached.append(bool(norm > clip["clip_norm"]))

    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    training.run(kind(training.groups(), lr=ETA), plain(torch, labels), before_step=clipped)
    assert any(reached)
    assert "clip_norm" not in clip or not all(reached) or clip["clip_norm"] < 0.5
    compare(optimizer=optimizer, **clip)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "momentum"])
def test_l1_and_l2_are_in_the_cost(torch, labels, both, optimizer):
    training, compare = both

    def loss(z, rows):
        return plain(torch, labels)(z, rows) + (2.0 * training.norm(1) + 0.5 * 3.0 * training.norm(2)) / N

    kinds = {
        "sgd": lambda: torch.optim.SGD(training.groups(), lr=ETA),
        "momentum": lambda: torch.optim.SGD(training.groups(), lr=ETA, momentum=0.9),
        "adam": lambda: torch.optim.Adam(training.groups(), lr=ETA),
    }
    training.run(kinds[optimizer](), loss)
    compare(optimizer=optimizer, l1=2.0, l2=3.0)


# -- The cost ------------------------------------------------------------------------------------------------------


def test_class_weights(torch, labels, both):
    training, compare = both
    cost = torch.nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64))
    training.run(torch.optim.SGD(training.groups(), lr=ETA), lambda z, rows: cost(z, labels[rows]))
    net = compare(class_weight={0: 0.5, 2: 4.0})
    again = network()
    again.fit(*data(), epochs=EPOCHS, batch_size=M, eta=ETA, class_weight={0: 5, 1: 10, 2: 40})
    np.testing.assert_allclose(parameters(again), parameters(net), rtol=1e-12)


def test_example_weights_with_class_weights(torch, labels, both):
    training, compare = both
    each = np.random.default_rng(3).uniform(0.0, 2.0, N)
    each[::7] = 0.0
    by_class = np.array([1.0, 3.0, 0.2])
    weights = torch.tensor(each * by_class[data()[1]])

    def loss(z, rows):
        costs = torch.nn.functional.cross_entropy(z, labels[rows], reduction="none")
        return (weights[rows] * costs).sum() / weights[rows].sum()

    training.run(torch.optim.Adam(training.groups(), lr=ETA), loss)
    compare(optimizer="adam", sample_weight=each, class_weight={1: 3.0, 2: 0.2})


def test_label_smoothing(torch, labels, both):
    training, compare = both
    cost = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    training.run(torch.optim.SGD(training.groups(), lr=ETA), lambda z, rows: cost(z, labels[rows]))
    compare(label_smoothing=0.2)


def test_label_smoothing_of_yes_and_no(torch):
    """One sigmoid output: 0 becomes s/2 and 1 becomes 1 - s/2."""
    X, y = data()
    yes = (y == 1).astype(float)
    net = network((4, 7, 1), "cross-entropy")
    training = Training(torch, net)
    wanted = torch.tensor(0.8 * yes + 0.1)
    training.run(
        torch.optim.SGD(training.groups(), lr=0.5),
        lambda z, rows: torch.nn.functional.binary_cross_entropy_with_logits(z[:, 0], wanted[rows]),
        dropout=(0.0, 0.0),
    )
    net.fit(X, yes, epochs=EPOCHS, batch_size=M, eta=0.5, label_smoothing=0.2)
    np.testing.assert_allclose(parameters(net), training.parameters(), rtol=1e-10, atol=1e-10)


# -- Dropout and the limit of norms --------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.3, [0.2, 0.0, 0.5]])
def test_dropout(torch, labels, both, dropout):
    training, compare = both
    by_layer = (0.0, dropout, dropout) if isinstance(dropout, float) else dropout
    training.run(torch.optim.SGD(training.groups(), lr=ETA, momentum=0.9), plain(torch, labels), dropout=by_layer)
    compare(optimizer="momentum", dropout=dropout)


def limited(training, most, hit=None):
    """Shorten the weights of each hidden neuron to `most`, those of the outputs not."""
    for w in training.w[:-1]:
        norms = w.norm(dim=1, keepdim=True)
        w *= (most / norms).clamp(max=1.0)
        if hit is not None:
            hit.append(float((norms > most).double().mean()))


def test_max_norm(torch, labels, both):
    training, compare = both
    hit = []
    training.run(
        torch.optim.SGD(training.groups(), lr=ETA),
        plain(torch, labels),
        after_step=lambda: limited(training, 1.0, hit),
    )
    assert 0 < np.mean(hit) < 1
    net = compare(max_norm=1.0)
    norms = [np.linalg.norm(w, axis=1) for w in net.weights]
    assert max(norms[0].max(), norms[1].max()) <= 1 + 1e-12 < norms[2].max()


def test_everything_at_once(torch, labels, both):
    """Also in which order it comes: clipping, the penalties, the decay, the step, the limit."""
    training, compare = both
    w, each = training.w, torch.tensor(np.linspace(0.2, 2.0, N))

    def loss(z, rows):
        costs = torch.nn.functional.cross_entropy(z, labels[rows], reduction="none", label_smoothing=0.1)
        return (each[rows] * costs).sum() / each[rows].sum()

    def before_step():
        everything = [*w, *training.b]
        torch.nn.utils.clip_grad_value_(everything, 0.05)
        torch.nn.utils.clip_grad_norm_(everything, 0.3)
        with torch.no_grad():
            for v in w:
                v.grad += (0.7 * v + 1.1 * v.sign()) / N
                v *= 1 - ETA * 0.2

    training.run(
        torch.optim.Adam(training.groups(), lr=ETA, betas=(0.8, 0.99)),
        loss,
        dropout=(0.1, 0.2, 0.3),
        before_step=before_step,
        after_step=lambda: limited(training, 1.2),
    )
    compare(
        optimizer=gpunet.optimizers.AdamW(0.8, 0.99),
        sample_weight=each.numpy(),
        label_smoothing=0.1,
        clip_value=0.05,
        clip_norm=0.3,
        l2=0.7,
        l1=1.1,
        weight_decay=0.2,
        dropout=[0.1, 0.2, 0.3],
        max_norm=1.2,
    )


# -- L-BFGS --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_finds_the_minimum_of_a_convex_cost(torch, labels, weighted):
    """Softmax regression with L2 has one minimum, the biases but for a constant: SciPy's Newton finds it, too."""
    X, y = data()
    each = np.linspace(0.1, 3.0, N) if weighted else np.ones(N)
    l2 = 2.0
    inputs, weights = torch.tensor(X), torch.tensor(each)

    def cost(flat):
        w, b = flat[:12].reshape(3, 4), flat[12:]
        costs = torch.nn.functional.cross_entropy(inputs @ w.T + b, labels, reduction="none")
        return (weights * costs).sum() / weights.sum() + 0.5 * l2 / N * (w**2).sum()

    def value_and_slope(flat):
        v = torch.tensor(flat, requires_grad=True)
        value = cost(v)
        value.backward()
        return value.item(), v.grad.numpy()

    def hessian(flat):
        return torch.autograd.functional.hessian(cost, torch.tensor(flat)).numpy()

    best = scipy.optimize.minimize(
        value_and_slope, np.zeros(15), jac=True, hess=hessian, method="trust-exact", options={"gtol": 1e-12}
    )
    net = network((4, 3), activation="softmax")
    history = net.fit(
        X, y, epochs=500, optimizer=LBFGS(tolerance=0.0), l2=l2, sample_weight=each if weighted else None
    )
    found = parameters(net)
    penalty = 0.5 * l2 / N * (found[:12] ** 2).sum()
    assert history.cost[-1] + penalty == pytest.approx(best.fun, abs=1e-12)
    np.testing.assert_allclose(found[:12], best.x[:12], atol=1e-6)
    np.testing.assert_allclose(found[12:] - found[12:].mean(), best.x[12:] - best.x[12:].mean(), atol=1e-6)
    assert history.epochs[-1].eta is None
    assert (history.optimizer, history.eta, history.batch_size) == ("lbfgs", None, N)
