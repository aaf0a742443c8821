"""scikit-learn's `MLPClassifier`, trained by gpunet."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d, compute_sample_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from gpunet.costs import Cost, CrossEntropy, LogLikelihood
from gpunet.sklearn import kinds
from gpunet.sklearn.perceptron import Perceptron
from gpunet.training.fit import Examples


@functools.lru_cache(maxsize=4)  # a GPU's kernels are kept by the cost
def _log_loss(out_activation: str, dtype: str) -> Cost:
    floor = float(np.finfo(dtype).eps)  # where scikit-learn clips probabilities
    return LogLikelihood(floor) if out_activation == "softmax" else CrossEntropy(floor)


class MLPClassifier(ClassifierMixin, Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron classifier with scikit-learn's interface.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Neurons in each hidden layer.
    activation : str, Activation, or list of them, default "relu"
        Of the hidden layers, or of each: scikit-learn's "identity", "logistic", "tanh", "relu", any name of gpunet's
        (docs/functions.md), or a `gpunet.Activation` of one's own.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
    alpha : float, default 0.0001
        L2: alpha/2 times the sum of all squared weights, over the number of examples, is added to the loss.
    batch_size : int or "auto", default "auto"
        Examples a mini-batch; "auto" is 200, or all if there are fewer. Not for lbfgs.
    learning_rate : {"constant", "invscaling", "adaptive"} or gpunet.schedules.Schedule, default "constant"
        The named ones are for sgd alone, as in scikit-learn; a schedule is for adam too, and has its own first rate.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
        The exponent of "invscaling".
    max_iter : int, default 200
        Epochs; for lbfgs iterations.
    shuffle : bool, default True
    random_state : int, RandomState or None, default None
        The same number gives scikit-learn's initial weights, mini-batches and validation split.
    tol : float, default 1e-4
        The least improvement that counts; for lbfgs the gradient's largest entry at the end.
    verbose : bool, default False
        Whether to print the loss of each epoch.
    warm_start : bool, default False
        Whether `fit` goes on from the last solution.
    momentum : float, default 0.9
    nesterovs_momentum : bool, default True
        Both of sgd.
    early_stopping : bool, default False
        Whether the score on examples set aside ends the training, and the best epoch's weights are kept.
    validation_fraction : float, default 0.1
        The share that is set aside, unless `fit` is given a validation set.
    beta_1, beta_2, epsilon : float, default 0.9, 0.999, 1e-8
        Of adam.
    n_iter_no_change : int, default 10
        For how many epochs nothing must have improved.
    max_fun : int, default 15000
        Of lbfgs: calls of the loss.
    device : default "auto"
        Where to train: "auto" takes a CUDA GPU if there is one, "cpu", "cuda", "cuda:1", or an Array API namespace.
        X that lies on a GPU is trained there.
    dtype : {"float32", "float64"} or None, default None
        What is computed with; None: float32 if X is that, else float64, as in scikit-learn.
    class_weight : "balanced", dict or None, default None
        A weight for each class; "balanced": so that all classes count alike.
    dropout : float or list of float, default 0.0
        The share of each hidden layer's activations that is dropped at each step. Not for lbfgs.
    callbacks : callable or list of callables, optional
        Called after each epoch with a `gpunet.Epoch`; the training ends if one returns True. Not for lbfgs.
    progress : bool, default False
        Whether to show a bar with the epochs and the loss. Not for lbfgs.

    Attributes
    ----------
    classes_ : array
        The classes, in the order of the outputs.
    coefs_ : list of array
        The weights of each layer, (n_in, n_out).
    intercepts_ : list of array
        The biases of each layer, (n_out,).
    loss_ : float
        The last epoch's loss.
    loss_curve_ : list of float
        The loss of each epoch. Not for lbfgs.
    best_loss_ : float or None
        The lowest loss; None with early stopping.
    validation_scores_ : list of float, or None
    best_validation_score_ : float or None
        The highest accuracy, where there is a validation set.
    n_iter_ : int
        Epochs of the last call of `fit`, or iterations.
    t_ : int
        Examples seen in all, each as often as it was.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : array of str
        If X was a table with names.
    out_activation_ : {"softmax", "logistic"}
    history_ : gpunet.History
        Of the last call of `fit` by a stochastic solver: `history_.plot()` draws it, `history_.engine` tells what
        took the steps.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from gpunet.sklearn import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> classifier = MLPClassifier(max_iter=1000, random_state=0, device="cpu").fit(X, y)
    >>> classifier.predict(X[:2])
    array([0, 0])
    """

    _task: ClassVar[str] = "classification"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        device: Any = "auto",
        dtype: str | None = None,
        class_weight: Any = None,
        dropout: Any = 0.0,
        callbacks: Any = None,
        progress: bool = False,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            device=device,
            dtype=dtype,
            dropout=dropout,
            callbacks=callbacks,
            progress=progress,
        )
        self.class_weight = class_weight

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Fit the network to inputs X and classes y.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, n_features)
        y : array, shape (n,) or (n, n_labels)
        sample_weight : array, shape (n,), optional
        X_val, y_val, sample_weight_val : optional
            Examples to score after each epoch, for `validation_scores_`; early stopping goes by them instead of a
            part of X.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad input, in scikit-learn's words, and if the training diverged.
        """
        with self._undone_on_error():
            self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))
        return self

    @available_if(lambda estimator: estimator._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        classes: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Go once over the examples, from where the last call ended.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, n_features)
        y : array, shape (n,) or (n, n_labels)
        sample_weight : array, shape (n,), optional
        classes : array, shape (n_classes,)
            All classes that will ever be met: needed at the first call.
        X_val, y_val, sample_weight_val : optional
            Examples to score after each epoch, for `validation_scores_`; early stopping goes by them instead of a
            part of X.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad input, in scikit-learn's words, and if the training diverged.
        AttributeError
            With the solver lbfgs.
        """
        y = kinds.to_host(y)
        with self._undone_on_error():
            if _check_partial_fit_first_call(self, classes):
                self._label_binarizer = LabelBinarizer()
                is_multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer.fit(y if is_multilabel else classes)
            if self.class_weight == "balanced":
                raise ValueError(
                    "class_weight='balanced' goes by all examples, of which partial_fit sees a part: pass a dict "
                    "with a weight for each class."
                )
            self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), is_incremental=True)
        return self

    def predict(self, X: Any) -> Any:
        """Return the class of each row of X, or with several labels a row of 0 and 1 for each."""
        a, kind = self._forward(X)
        if kind is None:
            return self._labels(a)
        host = self._labels(kinds.to_host(a))
        return kind.of(host)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class, in the order of classes_, (n, n_classes)."""
        a, kind = self._forward(X)
        if a.shape[1] == 1:
            probabilities = np.concatenate([1 - kinds.to_host(a), kinds.to_host(a)], axis=1)
            return probabilities if kind is None else kind.of(probabilities)
        return a if kind is None else kind.of(a)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithms of what `predict_proba` returns."""
        kind = kinds.of(X)
        probabilities = kinds.to_host(self.predict_proba(X))
        logarithms = np.log(probabilities)
        return logarithms if kind is None else kind.of(logarithms)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean accuracy on X and y."""
        predicted = kinds.to_host(self.predict(X))
        return float(accuracy_score(kinds.to_host(y), predicted, sample_weight=kinds.to_host(sample_weight)))

    def _targets(self, y: Any, is_incremental: bool) -> npt.NDArray[Any]:
        if not hasattr(self, "classes_") or (not self.warm_start and not is_incremental):
            self._label_binarizer = LabelBinarizer()
            self._label_binarizer.fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                        f"Previously got {self.classes_}, `y` has {classes}"
                    )
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(
                    f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
                )
        return self._indicators(y)

    def _class_weights(self, y: Any) -> npt.NDArray[Any] | None:
        if self.class_weight is None:
            return None
        y = y.toarray() if issparse(y) else y
        if y.ndim == 2 and isinstance(self.class_weight, dict):
            raise ValueError("a dict as class_weight is for one class an example; with several labels: 'balanced'.")
        weights: npt.NDArray[Any] = compute_sample_weight(self.class_weight, y)
        if not np.isfinite(weights).all() or not weights.any():
            raise ValueError(
                f"class_weight={self.class_weight!r} must give finite weights, and not 0 to all examples."
            )
        return weights[:, None]

    def _output_activation(self) -> str:
        return "softmax" if self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _cost(self, dtype: str) -> Cost:
        return _log_loss(self.out_activation_, dtype)

    def _labels(self, Y: npt.NDArray[Any]) -> npt.NDArray[Any]:
        labels: npt.NDArray[Any] = self._label_binarizer.inverse_transform(Y.ravel() if self.n_outputs_ == 1 else Y)
        return labels

    def _validation_targets(self, y: Any) -> npt.NDArray[Any]:
        if y.ndim == 2 and y.shape[1] == 1 and not issparse(y):
            y = column_or_1d(y, warn=True)
        if type_of_target(y).startswith("multilabel") != (self._label_binarizer.y_type_ == "multilabel-indicator"):
            raise ValueError(f"y_val is {type_of_target(y)}, but y is {self._label_binarizer.y_type_}.")
        unknown = np.array([label for label in unique_labels(y) if label not in self.classes_])
        if unknown.size:
            raise ValueError(f"y_val has classes that y has not: {unknown}. Those of y are {self.classes_}.")
        return self._indicators(y)

    def _indicators(self, y: Any) -> npt.NDArray[Any]:
        """Return 0 and 1 for each output and example."""
        Y: npt.NDArray[Any] = self._label_binarizer.transform(y)
        return Y.astype(bool).view(np.uint8)

    def _score_of(self, predicted: npt.NDArray[Any], held_out: Examples) -> float:
        # scikit-learn's accuracy_score takes longer than a short epoch
        if self.out_activation_ == "softmax":
            right = predicted.argmax(axis=1) == held_out.Y.argmax(axis=1)
        else:
            right = ((predicted > 0.5) == held_out.Y).all(axis=1)
        return float(np.average(right, weights=None if held_out.weights is None else held_out.weights[:, 0]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:  # scikit-learn 1.5
        return {"multilabel": True}
