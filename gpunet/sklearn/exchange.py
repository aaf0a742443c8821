"""To and from scikit-learn's own classes, what the optimizer remembers included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn import neural_network
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from gpunet.costs import Cost
from gpunet.errors import InputError
from gpunet.sklearn import kinds
from gpunet.sklearn.classifier import MLPClassifier
from gpunet.sklearn.perceptron import ACTIVATIONS, Perceptron
from gpunet.sklearn.regressor import LOSSES, MLPRegressor
from gpunet.sklearn.solvers import OptimizerState

_COUNTERPARTS = {
    neural_network.MLPClassifier: MLPClassifier,
    neural_network.MLPRegressor: MLPRegressor,
}
#: What both sides' fitted estimators have under the same name and in the same form.
_FITTED = (
    "n_features_in_",
    "feature_names_in_",
    "classes_",
    "n_outputs_",
    "n_layers_",
    "out_activation_",
    "n_iter_",
    "t_",
    "loss_",
    "best_loss_",
    "loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "_label_binarizer",
    "_no_improvement_count",
    "_random_state",
)


def from_sklearn(fitted: Any) -> MLPClassifier | MLPRegressor:
    """Return gpunet's estimator in the place of a fitted one of scikit-learn's.

    It predicts the same, and `partial_fit` goes on where the other one was: what its optimizer remembers comes along.

    Parameters
    ----------
    fitted : sklearn.neural_network.MLPClassifier or MLPRegressor

    Raises
    ------
    InputError
        For anything else.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    ours = _COUNTERPARTS.get(type(fitted))
    if ours is None:
        raise InputError(
            f"a fitted MLPClassifier or MLPRegressor of scikit-learn's is needed, got {type(fitted).__name__}."
        )
    check_is_fitted(fitted)
    estimator: MLPClassifier | MLPRegressor = ours(**fitted.get_params(deep=False))
    _copy_fitted(fitted, estimator)
    optimizer = getattr(fitted, "_optimizer", None)
    if optimizer is not None:
        is_adam = isinstance(optimizer, AdamOptimizer)
        kept = [optimizer.ms, optimizer.vs] if is_adam else [optimizer.velocities] if optimizer.momentum else []
        states = np.array([_flat(arrays) for arrays in kept]).reshape(
            len(kept), _flat(fitted.coefs_ + fitted.intercepts_).size
        )
        eta = optimizer.learning_rate_init if is_adam else optimizer.learning_rate
        estimator._optimizer = OptimizerState(
            "adam" if is_adam else "sgd", float(eta), optimizer.t if is_adam else 0, states
        )
    return estimator


def to_sklearn(model: MLPClassifier | MLPRegressor) -> Any:
    """Return scikit-learn's estimator in the place of a fitted one of gpunet's, for where only scikit-learn is.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Whose parameters are those that scikit-learn has too; `device`, `dtype` and `callbacks` are left out.

    Raises
    ------
    InputError
        If it has learned by something that scikit-learn does not have.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    """
    if not isinstance(model, Perceptron):
        raise InputError(f"a fitted MLPClassifier or MLPRegressor of gpunet's is needed, got {type(model).__name__}.")
    check_is_fitted(model)
    theirs = next(theirs for theirs, ours in _COUNTERPARTS.items() if isinstance(model, ours))
    parameters = _in_their_words(model.get_params(deep=False))
    known = theirs().get_params()
    odd = [
        f"{name}={value!r}"
        for name, value in parameters.items()
        if name in ("dropout", "class_weight", "loss") and name not in known and _is_on(name, value)
    ]
    if odd:
        raise InputError(f"scikit-learn has no {', '.join(odd)}.")
    estimator = theirs(**{name: value for name, value in parameters.items() if name in known})
    estimator._validate_params()  # its own words for an activation, a loss or a schedule that it does not have
    _copy_fitted(model, estimator)
    state = getattr(model, "_optimizer", None)
    if state is not None and state.solver == estimator.solver:
        estimator._optimizer = _their_optimizer(estimator, state)
    return estimator


def _their_optimizer(estimator: Any, state: OptimizerState) -> Any:
    """Return scikit-learn's optimizer where ours stands."""
    e, arrays = estimator, [*estimator.coefs_, *estimator.intercepts_]
    rows = [] if state.states is None else [_unflat(row, arrays) for row in state.states]
    if e.solver == "adam":
        optimizer = AdamOptimizer(arrays, e.learning_rate_init, e.beta_1, e.beta_2, e.epsilon)
        if len(rows) == 2:
            optimizer.t, (optimizer.ms, optimizer.vs) = state.taken, rows
        return optimizer
    optimizer = SGDOptimizer(
        arrays, e.learning_rate_init, e.learning_rate, e.momentum, e.nesterovs_momentum, e.power_t
    )
    optimizer.learning_rate = state.learning_rate
    if len(rows) == 1:
        optimizer.velocities = rows[0]
    return optimizer


def _in_their_words(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters with scikit-learn's names for what it has too."""
    activation, loss = parameters["activation"], parameters.get("loss")
    if isinstance(activation, list | tuple) and len(set(activation)) == 1:
        activation = activation[0]
    names = {ours: theirs for theirs, ours in ACTIVATIONS.items()}
    losses = {ours: theirs for theirs, ours in LOSSES.items()}
    changed = {"activation": names.get(activation, activation) if isinstance(activation, str) else activation}
    if isinstance(loss, Cost):
        changed["loss"] = losses.get(loss.name, loss)
    return {**parameters, **changed}


def _is_on(name: str, value: Any) -> bool:
    return bool(np.any(value)) if name == "dropout" else value not in (None, "squared_error")


def _copy_fitted(source: Any, to: Any) -> None:
    for name in _FITTED:
        if hasattr(source, name):
            setattr(to, name, getattr(source, name))
    to.coefs_ = [np.array(kinds.to_host(w)) for w in source.coefs_]
    to.intercepts_ = [np.array(kinds.to_host(b)) for b in source.intercepts_]
    if to.early_stopping:  # where a warm start of scikit-learn's begins
        to._best_coefs, to._best_intercepts = list(to.coefs_), list(to.intercepts_)
    for name in ("loss_curve_", "validation_scores_"):
        if isinstance(getattr(to, name, None), list):
            setattr(to, name, list(getattr(to, name)))


def _flat(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return what belongs to coefs_ + intercepts_ in our order: weights (n_l, n_{l-1}) row by row, then biases."""
    return np.concatenate([v.T.ravel() for v in arrays])


def _unflat(flat: npt.NDArray[Any], like: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """Return what `_flat` was made of: arrays of the shapes of `like`."""
    parts = np.split(flat, np.cumsum([v.size for v in like])[:-1])
    return [part.reshape(v.shape[::-1]).T for part, v in zip(parts, like, strict=True)]
