"""To and from scikit-learn: fitted `MLPClassifier` and `MLPRegressor`, as objects; no pickle is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet import optional
from gpunet.errors import InputError
from gpunet.interop import parts
from gpunet.network import Network

#: Activation -> scikit-learn's name of it.
NAMES = {
    "linear": "identity",
    "sigmoid": "logistic",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exp",  # of MLPRegressor(loss="poisson"), from scikit-learn 1.7 on
}

_PACKAGE = "gpunet[sklearn]"


def from_sklearn(model: Any, *, dtype: str | None = None, device: Any = "auto", seed: int | None = None) -> Network:
    """Return a network of the layers of a fitted multi-layer perceptron.

    ``metadata["classes"]`` has the names of a classifier's classes, by the index that `Network.predict` returns, and
    ``metadata["features"]`` those of its columns, where it was fitted on a table with names. A classifier of several
    labels at once becomes a network whose `task` is "regression": its outputs are the labels' probabilities.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        scikit-learn's, or that of `gpunet.sklearn`.
    dtype : {"float32", "float64"}, optional
        By default that of the data that the model was fitted on.
    device, seed : as for `Network`

    Returns
    -------
    Network
        With the cost that the model was fitted by.

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.
    InputError
        For what is no fitted perceptron, or one whose output activation gpunet does not have.
    """
    theirs = _estimators()
    from gpunet.sklearn import MLPClassifier, MLPRegressor
    from gpunet.sklearn.kinds import to_host
    from gpunet.sklearn.perceptron import Perceptron
    from gpunet.sklearn.regressor import LOSSES

    classifier, regressor = theirs[0] | MLPClassifier, theirs[1] | MLPRegressor
    if not isinstance(model, classifier | regressor):
        last = getattr(model, "steps", None)
        hint = (
            " Of a pipeline pass the last step; what stands before it is to be done with the inputs as before."
            if last
            else ""
        )
        raise InputError(f"a fitted MLPClassifier or MLPRegressor is needed, got {type(model).__name__}.{hint}")
    if not hasattr(model, "coefs_"):
        raise InputError(f"the {type(model).__name__} is not fitted yet; call its fit first.")
    ours = {theirs: name for name, theirs in NAMES.items()}
    if model.out_activation_ not in ours:
        raise InputError(
            f"the model's output activation, {model.out_activation_!r}, is not one of {', '.join(ours)}."
        )
    given = model.activation
    hidden = given if isinstance(given, list | tuple) else [given] * (len(model.coefs_) - 1)
    loss = getattr(model, "loss", None)
    net = parts.network(
        [(to_host(w).T, to_host(b)) for w, b in zip(model.coefs_, model.intercepts_, strict=True)],
        [*(ours.get(f, f) if isinstance(f, str) else f for f in hidden), ours[model.out_activation_]],
        LOSSES.get(str(loss), loss) if isinstance(model, regressor) and isinstance(model, Perceptron) else None,
        input_scale=None,
        dtype=dtype,
        device=device,
        seed=seed,
    )
    if hasattr(model, "feature_names_in_"):
        net.metadata["features"] = [str(name) for name in model.feature_names_in_]
    if isinstance(model, classifier):
        net.metadata["classes"] = [str(name) for name in model.classes_]
        if _is_multilabel(model):
            net.task = "regression"
    return net


def to_sklearn(net: Network, *, classes: Sequence[Any] | None = None) -> Any:
    """Return a fitted `MLPClassifier` or, for a regression, `MLPRegressor` of the network's layers.

    It predicts and can be fitted further by its `partial_fit`. An `input_scale` is multiplied into the first layer's
    weights. Several sigmoid outputs make a classifier of several labels at once if `task` is "regression" and the
    cost cross-entropy. If `task` is "classification", the largest tells the class, and `predict_proba` returns the
    outputs as they are: they do not add up to 1.

    Parameters
    ----------
    net : Network
        Whose hidden layers have one activation, "linear", "sigmoid", "tanh" or "relu".
    classes : sequence, optional
        The classes by their index. By default ``net.metadata["classes"]``, as whole numbers where all of them look
        so, else 0, 1, ...

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.
    InputError
        If scikit-learn has no such activation, or the classes do not fit.
    """
    classifier, regressor = _estimators()
    layers = parts.layers(net)
    names = [parts.counterpart(f, NAMES, "scikit-learn") for f in net.activations]
    hidden = set(names[:-1]) or {"relu"}
    if len(hidden) > 1 or hidden & {"softmax", "exp"}:
        raise InputError(
            f"scikit-learn's perceptrons have one activation in all hidden layers: identity, logistic, tanh or relu; "
            f"this network has {', '.join(names[:-1])}."
        )
    w, b = layers[0]
    layers[0] = (w * w.dtype.type(net.input_scale), b)
    options = {"hidden_layer_sizes": tuple(net.sizes[1:-1]), "activation": hidden.pop()}
    n_out = net.sizes[-1]
    X = np.zeros((1, net.sizes[0]), net.dtype)
    if net.task == "regression" and not (n_out > 1 and names[-1] == "logistic" and net.cost.name == "cross-entropy"):
        if names[-1] == "exp":
            options["loss"] = "poisson"
            if "loss" not in regressor().get_params():
                raise InputError("exp outputs need scikit-learn 1.7 or newer.")
        model = regressor(**options)
        model.partial_fit(X, np.ones(1) if n_out == 1 else np.ones((1, n_out)))
    elif net.task == "regression":
        model = classifier(**options)
        model.partial_fit(X, np.zeros((1, n_out), dtype=int), classes=np.arange(n_out))
    else:
        labels = _classes(net, classes)
        order = np.argsort(labels, kind="stable")  # scikit-learn has them in order
        layers[-1] = _reordered(layers[-1], order)
        model = classifier(**options)
        model.partial_fit(X, labels[:1], classes=labels[order])
    return _with_parameters(model, layers, names[-1])


def _with_parameters(model: Any, layers: Sequence[tuple[Any, Any]], out_activation: str) -> Any:
    """Give a perceptron that scikit-learn itself has set up these parameters, as if it had not learned yet."""
    model.coefs_ = [np.ascontiguousarray(w.T) for w, _ in layers]
    model.intercepts_ = [b for _, b in layers]
    model.out_activation_ = out_activation
    vars(model).pop("_optimizer", None)  # has moments of the one step of partial_fit; made anew when needed
    model.n_iter_ = model.t_ = 0
    model.loss_curve_ = []
    return model


def _reordered(layer: tuple[Any, Any], order: npt.NDArray[np.int64]) -> tuple[Any, Any]:
    """Return an output layer with its classes in another order."""
    w, b = layer
    if len(b) > 1:
        return w[order], b[order]
    return (w, b) if order[0] == 0 else (-w, -b)  # 1 - sigma(z) = sigma(-z)


def _classes(net: Network, given: Sequence[Any] | None) -> npt.NDArray[Any]:
    n_classes = max(net.sizes[-1], 2)
    what = "classes"
    if given is None:
        what, given = "metadata['classes']", net.metadata.get("classes")
        if given is None:
            given = range(n_classes)
        elif isinstance(given, list) and all(isinstance(name, str) and _is_whole(name) for name in given):
            given = [int(name) for name in given]
    labels = np.asarray(given)
    fit = labels.dtype.kind in "biuU" or (labels.dtype.kind == "f" and bool((labels == np.floor(labels)).all()))
    if not fit or labels.shape != (n_classes,) or len(np.unique(labels)) < n_classes:
        raise InputError(f"{what} must be {n_classes} different names or whole numbers, got {given!r:.80}.")
    return labels


def _is_whole(name: str) -> bool:
    digits = name.removeprefix("-")
    return digits.isdecimal() and digits.isascii() and len(digits) < 19 and str(int(name)) == name


def _is_multilabel(model: Any) -> bool:
    """Whether a classifier gives several labels at once: a logistic output for each class."""
    return bool(model.out_activation_ == "logistic" and model.n_outputs_ > 1)


def _estimators() -> tuple[Any, Any]:
    module = optional.library("sklearn.neural_network", "an exchange with scikit-learn", _PACKAGE)
    return module.MLPClassifier, module.MLPRegressor
