"""L1, decay, dropout, clipping, the limit of norms, smoothing: what they do to a step, and what they leave alone."""

import copy

import numpy as np
import pytest

from gpunet import Network
from gpunet.backends import select
from gpunet.backprop import backpropagate, feedforward, gradient
from gpunet.optimizers import BUILT_IN
from gpunet.parameters import Parameters

OPTIMIZERS = ["sgd", "momentum", "adamw"]
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def small(dtype="float64", sizes=(4, 7, 6, 3), **options):
    options = {"activation": "tanh", "cost": "log-likelihood", "device": "cpu", "seed": 1, **options}
    return Network(list(sizes), dtype=dtype, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def trained(blobs, **options):
    net = small()
    options = {"epochs": 2, "batch_size": 10, "eta": 0.05, **options}
    net.fit(*blobs, **options)
    return net


# -- Dropout's gradient, by finite differences ---------------------------------------------------------------


def masked(net, dropout, m, seed):
    """A workspace of m examples with masks drawn, and its data."""
    rng = np.random.default_rng(seed)
    work = net._model.workspace(m, dropout=dropout, weighted=True)
    work.a[0][...] = rng.normal(size=work.a[0].shape)
    work.y[...] = np.eye(net.sizes[-1])[rng.integers(0, net.sizes[-1], m)].T
    work.weights[...] = rng.uniform(0.2, 2.0, (1, m))
    for mask, share in zip(work.mask, dropout, strict=False):
        if mask is not None:
            mask[...] = (rng.random(mask.shape) >= share) / (1 - share)
    return work


@pytest.mark.parametrize("dropout", [(0.0, 0.5, 0.3), (0.4, 0.0, 0.0), (0.2, 0.3, 0.4)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "sigmoid", "cost": "cross-entropy"},
        {"activation": ["softmax", "tanh", "softmax"]},  # its f' is no product entry by entry
    ],
    ids=str,
)
def test_the_gradient_behind_masks_and_weights(dropout, options):
    """Equation (46), centred: of the weighted mean cost with these masks, by each parameter."""
    net = small(**options)
    model, ops = net._model, net._model.ops
    m = 5
    work = masked(net, dropout, m, seed=2)
    nabla = Parameters(ops, net.sizes, "float64")
    feedforward(ops, model.layers, work)
    backpropagate(ops, model.layers, model.cost, work)
    gradient(ops, work, nabla.pairs(), alpha=1 / m)

    def cost():
        a = feedforward(ops, model.layers, work)
        return float((model.cost.value(a, work.y, np) * work.weights[0]).sum() / work.weights.sum())

    flat, step, differences = model.parameters.flat, 1e-5, []
    for i in range(flat.size):
        value = flat[i]
        flat[i] = value + step
        above = cost()
        flat[i] = value - step
        below = cost()
        flat[i] = value
        differences.append((above - below) / (2 * step))
    scale = np.abs(differences).max()
    assert scale > 0.01
    np.testing.assert_allclose(nabla.flat, differences, rtol=0, atol=1e-6 * scale)
    assert any(d == 0 for d in differences) or not any(dropout[1:])  # what no example uses


def test_what_is_dropped_is_made_up_for():
    """The mean over many masks is the activation itself."""
    net, dropout = small(), (0.0, 0.5, 0.2)
    work = masked(net, dropout, 20_000, seed=3)
    work.a[0][...] = work.a[0][:, :1]
    feedforward(select("cpu"), net._model.layers, work)
    np.testing.assert_allclose(work.fed[1].mean(axis=1), work.a[1][:, 0], atol=0.03)
    for fed, share in ((work.fed[1], 0.5), (work.fed[2], 0.2)):
        assert abs((fed == 0).mean() - share) < 0.01


# -- Dropout in a training -----------------------------------------------------------------------------------


@each_optimizer
def test_dropout_by_hand(blobs, optimizer):
    """One step: the masks are float32 numbers below the share, from the epoch's own generator."""
    net, X = small(), blobs[0]
    w, b = ([v.copy() for v in values] for values in (net.weights, net.biases))
    rng = copy.deepcopy(net._rng)
    masks, order = np.random.default_rng(rng.integers(2**63)), rng.permutation(150)
    x, y = X[order].T, np.eye(3)[blobs[1][order]].T
    shares, a = (0.1, 0.5, 0.0), [x]
    fed = []
    for l in range(3):
        kept = (
            masks.random((150, len(a[l])), dtype=np.float32) >= shares[l] if shares[l] else np.ones((150, len(a[l])))
        )
        fed.append(a[l] * kept.T / (1 - shares[l]))
        z = w[l] @ fed[l] + b[l]
        a.append(np.tanh(z) if l < 2 else np.exp(z) / np.exp(z).sum(axis=0))
    nabla_last = (a[3] - y) @ fed[2].T / 150
    net.fit(X, blobs[1], epochs=1, batch_size=150, eta=0.01, optimizer=optimizer, dropout=shares, weight_decay=0.0)
    step = {
        "sgd": 0.01 * nabla_last,
        "momentum": 0.01 * nabla_last,
        "adamw": 0.01 * nabla_last / (np.abs(nabla_last) + 1e-8),
    }
    np.testing.assert_allclose(net.weights[2], w[2] - step[optimizer], rtol=0, atol=1e-12)
    assert net.history.cost[0] == pytest.approx(float(-np.log((a[3] * y).sum(axis=0)).mean()), rel=1e-12)


def test_a_number_is_for_the_hidden_layers(blobs):
    nets = [trained(blobs, dropout=d) for d in (0.3, [0.0, 0.3, 0.3], (0, np.float32(0.3), 0.3))]
    np.testing.assert_array_equal(parameters(nets[0]), parameters(nets[1]))
    assert not np.array_equal(parameters(nets[0]), parameters(trained(blobs, engine="verbs")))


def test_without_hidden_layers_a_number_drops_nothing(blobs):
    nets = [small(sizes=(4, 3)) for _ in range(3)]
    for net, dropout in zip(nets, (0.0, 0.5, [0.5]), strict=True):
        net.fit(*blobs, epochs=1, dropout=dropout, engine="verbs")
    np.testing.assert_array_equal(parameters(nets[0]), parameters(nets[1]))
    assert not np.array_equal(parameters(nets[0]), parameters(nets[2]))


def test_validation_and_predictions_are_without_dropout(blobs):
    net = small()
    history = net.fit(*blobs, epochs=3, dropout=0.9, validation_data=blobs)
    assert history.validation_score[-1] == net.score(*blobs)
    np.testing.assert_array_equal(net.outputs(blobs[0]), net.outputs(blobs[0]))
    assert history.validation_cost[-1] < history.cost[-1]


def test_each_epoch_and_each_seed_has_masks_of_its_own(blobs):
    """With all examples in one step, only the masks differ."""
    costs = [small(seed=s).fit(*blobs, epochs=3, batch_size=150, eta=1e-12, dropout=0.5).cost for s in (1, 1, 2)]
    assert costs[0] == costs[1]
    assert len({*costs[0], *costs[2]}) == 6


# -- Clipping ------------------------------------------------------------------------------------------------


def test_a_step_is_no_longer_than_the_limit(blobs):
    """SGD's step is eta times the gradient, whose norm is the limit where that is reached."""
    net = small()
    before = parameters(net)
    net.fit(*blobs, epochs=1, batch_size=150, eta=0.5, clip_norm=1e-3)
    assert np.linalg.norm(parameters(net) - before) == pytest.approx(0.5e-3, rel=1e-2)  # the 1e-6 below the line
    net = small()
    net.fit(*blobs, epochs=1, batch_size=150, eta=0.5, clip_value=1e-4)
    step = np.abs(parameters(net) - before)
    assert step.max() == pytest.approx(0.5e-4, rel=1e-6)
    assert np.mean(step > 0.49e-4) > 0.5


@each_optimizer
def test_limits_that_are_not_reached_change_nothing_but_rounding(blobs, optimizer):
    nets = [trained(blobs, optimizer=optimizer, **clip) for clip in ({}, {"clip_norm": 1e6, "clip_value": 1e6})]
    np.testing.assert_allclose(*map(parameters, nets), rtol=1e-11, atol=1e-13)


def test_penalties_are_not_clipped(blobs):
    """With gradients cut to nothing, what is left is the pull towards 0."""
    net, n, eta = small(), 150, 0.5
    w, b = ([v.copy() for v in values] for values in (net.weights, net.biases))
    net.fit(*blobs, epochs=1, batch_size=n, eta=eta, clip_value=1e-15, l2=30.0, l1=1.5, weight_decay=0.1)
    for old, new in zip(w, net.weights, strict=True):
        np.testing.assert_allclose(new, old - eta * (0.2 * old + 0.01 * np.sign(old) + 0.1 * old), rtol=1e-11)
    for old, new in zip(b, net.biases, strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-14)


# -- Penalties -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(BUILT_IN))
@pytest.mark.parametrize("penalty", [{"l1": 20.0}, {"weight_decay": 0.3}, {"max_norm": 0.5}], ids=str)
def test_reported_costs_are_without_them(blobs, name, penalty):
    """With one step on all examples, the cost is that of the parameters before it."""
    options = {"epochs": 1, "batch_size": 150, "optimizer": name, "weight_decay": 0.0}
    costs = [small().fit(*blobs, **{**options, **more}).cost for more in ({}, penalty)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-12)


def test_l1_makes_weights_small_that_nothing_needs(blobs):
    X = np.hstack([blobs[0], np.random.default_rng(0).normal(size=(150, 4))])
    nets = [Network([8, 3], cost="log-likelihood", device="cpu", seed=1) for _ in range(2)]
    for net, l1 in zip(nets, (0.0, 5.0), strict=True):
        net.fit(X, blobs[1], epochs=150, eta=0.1, l1=l1)
    free, pulled = (np.abs(net.weights[0][:, 4:]).mean() for net in nets)
    assert pulled < 0.02 < 0.1 < free
    assert nets[1].score(X, blobs[1]) > 0.9


def test_a_weight_of_zero_is_not_pulled_by_l1():
    net = Network([2, 1], activation="linear", device="cpu", seed=1, dtype="float64")
    net.weights[0] = [[0.0, 1.0]]
    net.biases[0] = [[0.0]]
    net.fit(np.zeros((4, 2)), np.zeros(4), epochs=1, batch_size=4, eta=0.1, l1=4.0)
    np.testing.assert_allclose(net.weights[0], [[0.0, 0.9]])


@each_optimizer
def test_norms_keep_their_limit(blobs, optimizer):
    net = trained(blobs, epochs=5, eta=0.2, optimizer=optimizer, max_norm=0.7)
    norms = [np.linalg.norm(w, axis=1) for w in net.weights]
    assert max(norms[0].max(), norms[1].max()) < 0.7 + 1e-12
    assert np.isclose(norms[0], 0.7).any()
    assert norms[2].max() > 0.7  # the outputs' are free


# -- Smoothing -----------------------------------------------------------------------------------------------


def test_smoothed_targets(blobs):
    """Training on targets smoothed by hand is the same; what is validated on is not smoothed."""
    X, y = blobs
    nets = [small(), small()]
    nets[0].fit(X, y, epochs=2, label_smoothing=0.3, validation_data=(X, y))
    nets[1].fit(X, 0.7 * np.eye(3)[y] + 0.1, epochs=2, validation_data=(X, np.eye(3)[y]))
    np.testing.assert_allclose(*map(parameters, nets), rtol=1e-12)
    assert nets[0].history.validation_cost == pytest.approx(nets[1].history.validation_cost, rel=1e-11)
    assert (nets[0].task, nets[1].task) == ("classification", "regression")


def test_smoothing_keeps_outputs_from_the_ends(blobs):
    sure, smooth = (trained(blobs, epochs=100, eta=0.5, label_smoothing=s) for s in (0.0, 0.3))
    assert sure.outputs(blobs[0]).max() > 0.99
    assert smooth.outputs(blobs[0]).max() < 0.93


def test_the_targets_are_not_changed(blobs):
    Y = np.eye(3)[blobs[1]]
    before = Y.copy()
    small().fit(blobs[0], Y, epochs=1, label_smoothing=0.5)
    np.testing.assert_array_equal(Y, before)
