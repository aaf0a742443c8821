"""scikit-learn's perceptrons: they predict the same, come back the same, and what does not fit is named."""

import sys

import numpy as np
import pytest

from gpunet import Activation, GpunetError, InputError, Network, mixed
from gpunet.interop import from_sklearn, to_sklearn
from gpunet.interop.sklearn import NAMES as COUNTERPARTS

SOFTSIGN = Activation("softsign", lambda z, xp: z / (1 + xp.abs(z)), lambda z, xp: 1 / (1 + xp.abs(z)) ** 2)


@pytest.fixture(scope="module", autouse=True)
def nn(needed):
    return needed("sklearn.neural_network")


@pytest.fixture(scope="module")
def data():
    """Inputs (150, 4) of three classes, which their first three columns tell, (150,)."""
    rng = np.random.default_rng(5)
    y = np.arange(150) % 3
    return rng.normal(size=(150, 4)) * 0.4 + np.eye(4)[y], y


NAMES = np.array(["ant", "bee", "cat"])

#: From the classes of `data` to the targets of each kind of model.
TARGETS = {
    "three classes": lambda y: y,
    "names": lambda y: NAMES[y],
    "numbers with gaps": lambda y: np.array([-3, 5, 12])[y],
    "two classes": lambda y: y % 2,
    "two names": lambda y: NAMES[y % 2],
    "true and false": lambda y: y == 1,
    "several labels at once": lambda y: np.stack([y == 0, y < 2, y > 0], axis=1).astype(int),
}


def fitted(nn, X, y, **options):
    kind = nn.MLPRegressor if y.dtype.kind == "f" else nn.MLPClassifier
    model = kind(**{"hidden_layer_sizes": (6, 5), "max_iter": 20, "random_state": 0, **options})
    for _ in range(20):  # fit would tell of every one that has not converged
        model.partial_fit(X, y, **({"classes": _labels(y)} if kind is nn.MLPClassifier else {}))
    return model


def _labels(y):
    return np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)


@pytest.fixture(params=TARGETS)
def classifier(request, nn, data, dtype):
    X, y = data
    return fitted(nn, X.astype(dtype), TARGETS[request.param](y)), X.astype(dtype)


@pytest.fixture(params=[1, 3])
def regressor(request, nn, data, dtype):
    X, _ = data
    y = X[:, 0] - X[:, 1] if request.param == 1 else X[:, :3] ** 2
    return fitted(nn, X.astype(dtype), y), X.astype(dtype)


def assert_same_weights(model, net):
    for coef, w in zip(model.coefs_, net.weights, strict=True):
        assert np.array_equal(coef.T, w)
        assert coef.dtype == w.dtype
    for intercept, b in zip(model.intercepts_, net.biases, strict=True):
        assert np.array_equal(intercept, b[:, 0])


def assert_same_model(one, other):
    assert type(one) is type(other)
    assert one.out_activation_ == other.out_activation_
    for name in ("coefs_", "intercepts_"):
        assert all(np.array_equal(a, b) for a, b in zip(getattr(one, name), getattr(other, name), strict=True))


# -- In and back ---------------------------------------------------------------------------------------------


def test_classifiers(classifier, close):
    model, X = classifier
    net = from_sklearn(model, device="cpu")
    assert_same_weights(model, net)
    assert net.dtype == X.dtype
    assert net.metadata == {"classes": [str(name) for name in model.classes_]}
    probabilities, outputs = model.predict_proba(X), net.outputs(X)
    close(outputs if net.sizes[-1] > 1 else np.hstack([1 - outputs, outputs]), probabilities.astype(net.dtype))
    if model.predict(X).ndim == 2:
        assert net.task == "regression"
        assert np.array_equal(net.predict(X) > 0.5, model.predict(X))
    else:
        assert net.task == "classification"
        assert np.array_equal(model.classes_[net.predict(X)], model.predict(X))
    again = to_sklearn(net)
    assert_same_model(again, model)
    if model.classes_.dtype == bool:
        again = to_sklearn(net, classes=[False, True])
    assert np.array_equal(again.classes_, model.classes_)
    assert again.classes_.dtype == model.classes_.dtype
    assert np.array_equal(again.predict(X), model.predict(X))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))


def test_regressors(regressor, close):
    model, X = regressor
    net = from_sklearn(model, device="cpu")
    assert_same_weights(model, net)
    assert (net.task, net.cost.name, net.metadata) == ("regression", "quadratic", {})
    close(net.predict(X), model.predict(X).astype(net.dtype))
    again = to_sklearn(net)
    assert_same_model(again, model)
    assert np.array_equal(again.predict(X), model.predict(X))


@pytest.fixture(scope="module")
def has_poisson(nn):
    return "loss" in nn.MLPRegressor().get_params()  # from scikit-learn 1.7 on


def test_counts(nn, data, close, has_poisson):
    if not has_poisson:
        pytest.skip("this scikit-learn has no poisson loss")
    X, _ = data
    model = fitted(nn, X, np.floor(np.exp(X[:, 0])), loss="poisson")
    net = from_sklearn(model, device="cpu")
    assert (net.cost.name, net.task) == ("poisson", "regression")
    close(net.predict(X), model.predict(X))
    again = to_sklearn(net)
    assert_same_model(again, model)
    assert again.loss == "poisson"
    again.partial_fit(X, np.floor(np.exp(X[:, 0])))


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
def test_each_activation_and_depth(nn, data, activation, hidden, close):
    X, y = data
    model = fitted(nn, X, y, activation=activation, hidden_layer_sizes=hidden)
    net = from_sklearn(model, device="cpu")
    close(net.outputs(X), model.predict_proba(X))
    again = to_sklearn(net)
    assert_same_model(again, model)
    assert again.get_params()["hidden_layer_sizes"] == hidden
    if hidden:
        assert again.activation == activation


def test_the_costs_are_those_that_it_was_fitted_by(nn, data):
    X, y = data
    assert from_sklearn(fitted(nn, X, y), device="cpu").cost.name == "log-likelihood"
    assert from_sklearn(fitted(nn, X, y % 2), device="cpu").cost.name == "cross-entropy"
    net = from_sklearn(fitted(nn, X, TARGETS["several labels at once"](y)), device="cpu")
    assert net.cost.name == "cross-entropy"
    net.fit(X, TARGETS["several labels at once"](y), epochs=1)  # learns on


def test_column_names_are_kept(nn, data):
    model = fitted(nn, *data)
    model.feature_names_in_ = np.array(["a", "b", "c", "d"], dtype=object)  # as after a fit on a table
    net = from_sklearn(model, device="cpu")
    assert net.metadata == {"features": ["a", "b", "c", "d"], "classes": ["0", "1", "2"]}


def test_what_a_model_file_keeps(nn, data, tmp_path):
    X, y = data
    model = fitted(nn, X, NAMES[y])
    from_sklearn(model, device="cpu").save(tmp_path / "model.safetensors")
    again = to_sklearn(Network.load(tmp_path / "model.safetensors", device="cpu"))
    assert_same_model(again, model)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_another_dtype(nn, data):
    X, y = data
    net = from_sklearn(fitted(nn, X, y), dtype="float32", device="cpu")
    assert net.dtype == "float32"


# -- Out -----------------------------------------------------------------------------------------------------


def test_any_network_that_has_a_counterpart(net, rows, close, has_poisson):
    lacking = [f.name for f in net.activations if f.name not in COUNTERPARTS]
    if lacking:
        with pytest.raises(
            InputError, match=r"scikit-learn has no (layers whose neurons differ|'leaky_relu' activation)"
        ):
            to_sklearn(net)
        return
    if net.cost.name == "poisson" and not has_poisson:
        with pytest.raises(InputError, match=r"need scikit-learn 1\.7 or newer"):
            to_sklearn(net)
        return
    model = to_sklearn(net)
    found = model.predict(rows)
    if net.task == "classification":
        assert np.array_equal(found, net.predict(rows))
        probabilities = model.predict_proba(rows)
        outputs = net.outputs(rows)
        close((probabilities if outputs.shape[1] > 1 else probabilities[:, 1:]).astype(net.dtype), outputs)
    else:
        close(found.astype(net.dtype), net.predict(rows))


@pytest.mark.parametrize(
    ("names", "sizes"), [(["dog", "ant", "cat"], [4, 5, 3]), (["yes", "no"], [4, 5, 1]), (["10", "9"], [4, 5, 1])]
)
def test_classes_in_another_order_than_scikit_learns(names, sizes):
    net = Network(sizes, activation="tanh", output_activation="sigmoid", device="cpu", seed=1, dtype="float64")
    net.metadata["classes"] = names
    net.biases = [b * 0 for b in net.biases]
    X = np.random.default_rng(0).normal(size=(60, 4)) * 3
    model = to_sklearn(net)
    own = np.array([int(name) if name.isdecimal() else name for name in names])
    assert model.classes_.tolist() == sorted(own.tolist())
    assert np.array_equal(model.predict(X), own[net.predict(X)])
    assert len(set(model.predict(X))) > 1


def test_classes_may_be_given(data):
    net = Network([4, 5, 3], device="cpu", seed=1)
    assert to_sklearn(net).classes_.tolist() == [0, 1, 2]
    net.metadata = {"classes": None}
    assert to_sklearn(net).classes_.tolist() == [0, 1, 2]
    assert to_sklearn(net, classes=NAMES).classes_.tolist() == NAMES.tolist()
    assert to_sklearn(net, classes=[1.0, 2.0, 5.0]).predict(data[0]).dtype == np.float64


@pytest.mark.parametrize(
    "classes",
    [["a", "b"], ["a", "b", "b"], "abc", ["a", None, 5], [["a", "b", "c"]], 5, [0.5, 1.5, 2.0]],
    ids=range(7),
)
def test_classes_that_do_not_fit(classes):
    net = Network([4, 5, 3], device="cpu", seed=1)
    with pytest.raises(InputError, match="classes must be 3 different names or whole numbers, got"):
        to_sklearn(net, classes=classes)
    net.metadata["classes"] = classes
    with pytest.raises(InputError, match=r"metadata\['classes'\] must be 3 different"):
        to_sklearn(net)


def test_it_can_be_fitted_further(data):
    X, y = data
    net = Network([4, 6, 3], activation="relu", cost="log-likelihood", device="cpu", seed=1, dtype="float64")
    model = to_sklearn(net)
    assert model.n_iter_ == 0
    model.set_params(learning_rate_init=0.05)
    for _ in range(60):
        model.partial_fit(X, y)
    assert model.score(X, y) > 0.9
    assert np.array_equal(net.weights[0], to_sklearn(net).coefs_[0].T)  # shares no memory with the network


def test_clones_and_pickles(needed, data):
    import pickle

    base = needed("sklearn.base")
    net = Network([4, 6, 3], device="cpu", seed=1)
    model = to_sklearn(net)
    assert base.clone(model).get_params() == model.get_params()
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict(data[0]), model.predict(data[0]))  # noqa: S301


# -- What does not fit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        (
            {"activation": ["tanh", "relu", "softmax"]},
            "one activation in all hidden layers.*this network has tanh, rel",
        ),
        (
            {"activation": ["softmax", "softmax", "softmax"]},
            "one activation in all hidden layers.*has softmax, softma",
        ),
        ({"activation": [SOFTSIGN, SOFTSIGN, "tanh"]}, "'softsign' is not built in, and scikit-learn knows"),
        ({"activation": mixed("tanh", {0: "relu"})}, "has no layers whose neurons differ in activation"),
        ({"activation": "gelu"}, "scikit-learn has no 'gelu' activation; it has linear, sigmoid, tanh, relu"),
        ({"activation": ["exp", "exp", "tanh"]}, "one activation in all hidden layers"),
    ],
    ids=range(6),
)
def test_networks_without_a_counterpart(options, fragment):
    with pytest.raises(InputError, match=fragment):
        to_sklearn(Network([4, 5, 5, 3], device="cpu", **options))


def test_what_is_no_perceptron(nn, needed, data):
    linear = needed("sklearn.linear_model").LogisticRegression().fit(*data)
    with pytest.raises(InputError, match="MLPClassifier or MLPRegressor is needed, got LogisticRegression"):
        from_sklearn(linear)
    pipeline = needed("sklearn.pipeline").make_pipeline(fitted(nn, *data))
    with pytest.raises(InputError, match=r"got Pipeline\. Of a pipeline pass the last step"):
        from_sklearn(pipeline)
    with pytest.raises(InputError, match="is needed, got str"):
        from_sklearn("model.pkl")
    with pytest.raises(InputError, match="the MLPRegressor is not fitted yet"):
        from_sklearn(nn.MLPRegressor())
    with pytest.raises(InputError, match=r"a gpunet\.Network is needed"):
        to_sklearn(fitted(nn, *data))


def test_an_output_activation_that_gpunet_lacks(nn, data):
    X, _ = data
    model = fitted(nn, X, X[:, 0] ** 2)
    model.out_activation_ = "cosh"
    with pytest.raises(InputError, match="output activation, 'cosh', is not one of identity, logistic"):
        from_sklearn(model)


def test_parameters_that_are_not_finite(nn, data):
    model = fitted(nn, *data)
    model.coefs_[0][0, 0] = np.nan
    with pytest.raises(InputError, match="must be finite"):
        from_sklearn(model, device="cpu")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.neural_network", None)
    with pytest.raises(GpunetError, match=r"sklearn.* pip install 'gpunet\[sklearn\]'"):
        to_sklearn(Network([2, 1], device="cpu"))
