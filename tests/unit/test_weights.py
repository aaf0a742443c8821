"""Weights of classes and of examples: what counts how much, and what is refused."""

import numpy as np
import pytest

from gpunet import DivergenceError, InputError, Network


def small(sizes=(4, 5, 3), dtype="float64", **options):
    options = {"activation": "tanh", "cost": "cross-entropy", "device": "cpu", "seed": 1, **options}
    return Network(list(sizes), dtype=dtype, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def fitted(X, y, net=None, **options):
    net = small() if net is None else net
    net.fit(X, y, **{"epochs": 2, "eta": 0.1, **options})
    return net


def assert_same(one, other, rtol=1e-10):
    np.testing.assert_allclose(parameters(one), parameters(other), rtol=rtol, atol=1e-13)
    np.testing.assert_allclose(one.history.cost, other.history.cost, rtol=rtol)


def assert_other(one, other):
    assert np.abs(parameters(one) - parameters(other)).max() > 1e-4


@pytest.fixture(scope="module")
def unequal(blobs):
    """80 of class 0, 15 of class 1, 5 of class 2."""
    X, y = blobs
    rows = np.concatenate([np.flatnonzero(y == k)[:count] for k, count in enumerate((50, 15, 5))])
    return X[rows], y[rows]


def test_equal_weights_are_none(blobs):
    plain = fitted(*blobs, engine="verbs")
    for weights in (np.ones(150), np.full(150, 3.0), np.full(150, 1e-300), np.full(150, 1e300), [2] * 150):
        assert_same(fitted(*blobs, sample_weight=weights), plain)
    assert_same(fitted(*blobs, class_weight={}), plain)
    assert_same(fitted(*blobs, class_weight={0: 7, 1: 7, 2: 7}), plain)


def test_weights_as_repetitions(blobs):
    """A step on all examples, some twice or three times, is one in which these count two or three."""
    X, y = blobs
    counts = np.arange(150) % 4  # and some not at all
    options = {"batch_size": 1000, "epochs": 3}
    with pytest.warns(UserWarning, match="larger than the"):
        repeated = fitted(np.repeat(X, counts, axis=0), np.repeat(y, counts), **options)
    with pytest.warns(UserWarning, match="larger than the"):
        weighted = fitted(X, y, sample_weight=counts, **options)
    assert_same(weighted, repeated)


def test_what_does_not_count_is_as_if_it_were_not_there(blobs):
    X, y = blobs
    weights = (np.arange(150) < 100).astype(float)
    X = X.copy()
    options = {"batch_size": 150, "epochs": 2}
    with pytest.warns(UserWarning, match="larger than the"):
        few = fitted(X[:100], y[:100], **options)
    X[100:] = 15.0
    assert_same(fitted(X, y, sample_weight=weights, **options), few)


def test_a_mini_batch_in_which_nothing_counts_changes_nothing(blobs):
    """Alone in its step, an example of weight 0 has no gradient; the mean of the costs is that of the others."""
    X, y = blobs
    weights = np.zeros(150)
    weights[7] = 2.0
    net, one = small(), small()
    net.fit(X, y, epochs=1, batch_size=1, eta=0.1, sample_weight=weights)
    one.fit(X[7:8], y[7:8], epochs=1, batch_size=1, eta=0.1)
    assert_same(net, one)


def test_balanced(unequal):
    X, y = unequal
    by_hand = {k: len(y) / (3 * n) for k, n in enumerate(np.bincount(y))}
    balanced = fitted(X, y, class_weight="balanced")
    assert_same(balanced, fitted(X, y, class_weight=by_hand))
    assert_same(balanced, fitted(X, y, sample_weight=[by_hand[k] for k in y.tolist()]))
    assert_same(balanced, fitted(X, np.eye(3)[y], class_weight="balanced"))
    assert_other(balanced, fitted(X, y))


def test_balanced_as_scikit_learn_has_it(unequal):
    sklearn = pytest.importorskip("sklearn.utils.class_weight")
    X, y = unequal
    weights = sklearn.compute_sample_weight("balanced", y)
    assert_same(fitted(X, y, class_weight="balanced"), fitted(X, y, sample_weight=weights))


def test_balanced_where_a_class_is_missing(unequal):
    X, y = unequal
    rows = y < 2
    assert_same(
        fitted(X[rows], y[rows], class_weight="balanced"),
        fitted(X[rows], y[rows], class_weight={0: 65 / 100, 1: 65 / 30}),
    )


def test_rare_classes_are_learnt_if_they_count(unequal):
    X, y = unequal
    right = []
    for class_weight in (None, "balanced"):
        net = fitted(X, y, Network([4, 3], cost="log-likelihood", device="cpu", seed=1), epochs=10, eta=0.05,
                     class_weight=class_weight)  # fmt: skip
        right.append(np.mean(net.predict(X)[y == 2] == 2))
    assert right[0] < 0.5 < right[1]


def test_one_output_has_two_classes(blobs):
    X, y = blobs[0], (blobs[1] == 1).astype(int)
    nets = [small((4, 5, 1)) for _ in range(4)]
    fitted(X, y, nets[0], class_weight={1: 2.0})
    fitted(X, y, nets[1], sample_weight=1.0 + y)
    fitted(X, y, nets[2], class_weight="balanced")
    fitted(X, y, nets[3])
    assert_same(nets[0], nets[1])
    assert_same(nets[0], nets[2])  # 100 of class 0 and 50 of class 1
    assert_other(nets[0], nets[3])


def test_both_are_multiplied(unequal):
    X, y = unequal
    each, by_class = np.linspace(0.5, 2, len(y)), {0: 1.0, 1: 3.0, 2: 10.0}
    both = fitted(X, y, sample_weight=each, class_weight=by_class)
    assert_same(both, fitted(X, y, sample_weight=each * [by_class[k] for k in y.tolist()]))


def test_weights_of_a_regression(blobs):
    X = blobs[0]
    net = Network([4, 1], activation="linear", device="cpu", seed=1, dtype="float64")
    y = np.where(np.arange(150) < 75, 1.0, 3.0)
    net.fit(np.zeros_like(X), y, epochs=200, batch_size=150, eta=0.2, sample_weight=np.where(y == 1, 3.0, 1.0))
    assert net.biases[0].item() == pytest.approx(1.5, rel=1e-6)  # the weighted mean
    assert net.history.cost[-1] == pytest.approx(0.5 * (3 * 0.25 + 1 * 2.25) / 4, rel=1e-6)


def test_the_cost_is_the_weighted_mean(blobs):
    X, y = blobs
    weights = np.linspace(0, 3, 150)
    net = small()
    a, t = net.outputs(X), np.eye(3)[y]
    each = -(t * np.log(a) + (1 - t) * np.log(1 - a)).sum(axis=1)
    net.fit(X, y, epochs=1, batch_size=150, sample_weight=weights)
    assert net.history.cost[0] == pytest.approx((weights * each).sum() / weights.sum(), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_weights_of_any_size(blobs, dtype, optimizer):
    """Only their proportions matter: none is lost or infinite in float32."""
    weights = np.linspace(0.1, 1, 150)
    nets = []
    for factor in (1.0, 2.0**-600, 2.0**600):
        net = small(dtype=dtype)
        net.fit(*blobs, epochs=2, optimizer=optimizer, sample_weight=weights * factor, class_weight={1: 2.0})
        nets.append(net)
    for net in nets[1:]:
        np.testing.assert_array_equal(parameters(net), parameters(nets[0]))
        assert net.history.cost == nets[0].history.cost


def test_weights_are_read_in_any_form(blobs):
    weights = np.arange(150) % 5 + 1
    reference = fitted(*blobs, sample_weight=weights.astype(float))
    for form in (
        weights,
        weights.tolist(),
        weights.astype("uint8"),
        weights.astype("float32"),
        weights.astype(object),
    ):
        given = np.array(form) if isinstance(form, np.ndarray) else form
        assert_same(fitted(*blobs, sample_weight=given), reference, rtol=1e-12)
        assert (np.asarray(given) == weights).all()


BAD = [
    ({"sample_weight": np.ones(149)}, "sample_weight must have shape (150,), one for each example, got (149,)"),
    (
        {"sample_weight": np.ones((150, 1))},
        "sample_weight must have shape (150,), one for each example, got (150, 1)",
    ),
    ({"sample_weight": 1.0}, "sample_weight must have shape (150,), one for each example, got ()"),
    ({"sample_weight": np.r_[np.ones(140), -1.0, np.ones(9)]}, "sample_weight[140] is -1.0; weights must be finite"),
    ({"sample_weight": np.r_[np.nan, np.ones(149)]}, "sample_weight[0] is nan; weights must be finite numbers of at"),
    ({"sample_weight": np.r_[np.ones(149), np.inf]}, "sample_weight[149] is inf; weights must be finite numbers"),
    ({"sample_weight": np.zeros(150)}, "sample_weight is 0 for every example; some must count"),
    ({"sample_weight": ["1"] * 150}, "sample_weight must hold real numbers, got dtype <U1"),
    ({"sample_weight": "balanced"}, "sample_weight must hold real numbers"),
    ({"class_weight": "even"}, "class_weight must be 'balanced' or a dict such as {0: 1.0, 1: 5.0}, got 'even'"),
    ({"class_weight": [1.0, 2.0, 3.0]}, "class_weight must be 'balanced' or a dict such as"),
    ({"class_weight": np.ones(3)}, "class_weight must be 'balanced' or a dict such as"),
    ({"class_weight": True}, "class_weight must be 'balanced' or a dict such as {0: 1.0, 1: 5.0}, got True"),
    ({"class_weight": {3: 1.0}}, "class_weight has the class 3; the network's classes are 0 to 2"),
    ({"class_weight": {-1: 1.0}}, "class_weight has the class -1; the network's classes are 0 to 2"),
    ({"class_weight": {"a": 1.0}}, "class_weight has the class 'a'; the network's classes are 0 to 2"),
    ({"class_weight": {True: 1.0}}, "class_weight has the class True"),
    ({"class_weight": {1: 0}}, "class_weight[1] must be a finite number above 0, got 0"),
    ({"class_weight": {1: "2"}}, "class_weight[1] must be a number above 0, got '2'"),
    ({"class_weight": {1: np.inf}}, "class_weight[1] must be a finite number above 0, got inf"),
]


@pytest.mark.parametrize(("options", "fragment"), BAD, ids=lambda v: v[:45] if isinstance(v, str) else "")
def test_bad_weights_are_refused(blobs, options, fragment):
    net = small()
    before = parameters(net)
    with pytest.raises(InputError) as caught:
        net.fit(*blobs, **options)
    assert fragment in str(caught.value)
    np.testing.assert_array_equal(parameters(net), before)


def test_class_weights_are_for_classes(blobs):
    net = Network([4, 2], activation="linear", device="cpu", seed=1)
    with pytest.raises(InputError, match=r"class_weight is for classes.*; use sample_weight"):
        net.fit(blobs[0], blobs[0][:, :2], class_weight="balanced")


def test_who_counts_must_not_all_be_held_out(blobs):
    """The only example that counts goes to the validation for some share."""
    X, y = blobs
    weights = np.zeros(150)
    order = np.random.default_rng(0)
    order.bit_generator.state = small()._seeded
    order = order.permutation(150)
    weights[next(i for i in order if y[i] == 0)] = 1.0
    net = small()
    before = parameters(net)
    with pytest.raises(InputError, match="the examples that count have all been held out for validation"):
        net.fit(X, y, sample_weight=weights, validation_split=0.1)
    np.testing.assert_array_equal(parameters(net), before)


def test_divergence_is_noticed_with_weights(blobs):
    net = Network([4, 3], activation="linear", device="cpu", seed=1)
    with pytest.raises(DivergenceError, match="diverged in epoch"):
        net.fit(*blobs, epochs=300, eta=5.0, sample_weight=np.ones(150))
