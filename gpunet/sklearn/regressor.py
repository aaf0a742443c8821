"""scikit-learn's `MLPRegressor`, trained by gpunet."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from gpunet import costs
from gpunet.costs import Cost
from gpunet.sklearn import kinds
from gpunet.sklearn.perceptron import Perceptron
from gpunet.training.fit import Examples

#: scikit-learn's names of losses -> our costs.
LOSSES = {
    "squared_error": "quadratic",
    "poisson": "poisson",
    "absolute_error": "absolute",
    "huber": "huber",
    "quantile": "quantile",
}


class MLPRegressor(RegressorMixin, Perceptron):  # type: ignore[misc]
    """Multi-layer perceptron regressor with scikit-learn's interface.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber", "quantile"} or Cost, default "squared_error"
        "poisson" has exp outputs, all others identity. A cost with constants of its own: `gpunet.costs.Huber(2.0)`,
        `gpunet.costs.Quantile(0.9)`.
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
    dropout : float or list of float, default 0.0
        The share of each hidden layer's activations that is dropped at each step. Not for lbfgs.
    callbacks : callable or list of callables, optional
        Called after each epoch with a `gpunet.Epoch`; the training ends if one returns True. Not for lbfgs.
    progress : bool, default False
        Whether to show a bar with the epochs and the loss. Not for lbfgs.

    Attributes
    ----------
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
        The highest R^2, where there is a validation set.
    n_iter_ : int
        Epochs of the last call of `fit`, or iterations.
    t_ : int
        Examples seen in all, each as often as it was.
    n_layers_, n_outputs_, n_features_in_ : int
    feature_names_in_ : array of str
        If X was a table with names.
    out_activation_ : {"identity", "exp"}
    history_ : gpunet.History
        Of the last call of `fit` by a stochastic solver: `history_.plot()` draws it, `history_.engine` tells what
        took the steps.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from gpunet.sklearn import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> regressor = MLPRegressor(learning_rate_init=0.1, max_iter=1000, random_state=0, device="cpu").fit(X, y)
    >>> regressor.predict(X[:2]).shape
    (2,)
    """

    _task: ClassVar[str] = "regression"
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Perceptron._parameter_constraints,
        "loss": [StrOptions(set(LOSSES)), Cost],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
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
        self.loss = loss

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
    ) -> MLPRegressor:
        """Fit the network to inputs X and numbers y.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, n_features)
        y : array, shape (n,) or (n, n_outputs)
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
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPRegressor:
        """Go once over the examples, from where the last call ended.

        Parameters
        ----------
        X : array or sparse matrix, shape (n, n_features)
        y : array, shape (n,) or (n, n_outputs)
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
        AttributeError
            With the solver lbfgs.
        """
        with self._undone_on_error():
            self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), is_incremental=True)
        return self

    def predict(self, X: Any) -> Any:
        """Return the number, or the numbers, of each row of X."""
        a, kind = self._forward(X)
        a = a if kind is None else kind.of(a)
        return a[:, 0] if a.shape[1] == 1 else a

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R^2, the coefficient of determination, on X and y."""
        predicted = kinds.to_host(self.predict(X))
        return float(r2_score(kinds.to_host(y), predicted, sample_weight=kinds.to_host(sample_weight)))

    def _targets(self, y: Any, is_incremental: bool) -> npt.NDArray[Any]:
        cost = self._cost("")
        if cost.task == "classification" or not {"linear", "exp"} & set(cost.outputs or ("linear",)):
            raise ValueError(f"loss={self.loss!r} is for classes; a regressor's is for numbers, such as 'huber'.")
        low, high = cost.target_range
        if y.min() < low or y.max() > high:
            raise ValueError(f"loss={self.loss!r} needs y from {low:g} to {high:g}, got {y.min():g} to {y.max():g}.")
        return _columns(y)

    def _validation_targets(self, y: Any) -> npt.NDArray[Any]:
        if y.dtype.kind not in "biuf":
            raise ValueError(f"y_val must hold numbers, got dtype {y.dtype}.")
        return _columns(y)

    def _output_activation(self) -> str:
        return "exp" if "exp" in (self._cost("").outputs or ())[:1] else "identity"

    def _cost(self, dtype: str) -> Cost:
        return costs.get(LOSSES[self.loss] if isinstance(self.loss, str) else self.loss)

    @property
    def _share(self) -> float:
        return 1.0 if self.out_activation_ == "exp" else 1 / self.n_outputs_

    def _score_of(self, predicted: npt.NDArray[Any], held_out: Examples) -> float:
        weights = None if held_out.weights is None else held_out.weights[:, 0]
        return float(r2_score(held_out.Y, predicted, sample_weight=weights))


def _columns(y: Any) -> npt.NDArray[Any]:
    Y: npt.NDArray[Any] = np.asarray(y)
    return Y.reshape(-1, 1) if Y.ndim == 1 else Y
