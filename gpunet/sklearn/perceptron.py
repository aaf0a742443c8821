"""What scikit-learn's two perceptrons share: parameters, attributes, and the way from data to a solver."""

from __future__ import annotations

import functools
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn import neural_network
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, check_X_y

from gpunet import activations
from gpunet.activations import Activation
from gpunet.backends import Backend
from gpunet.costs import Cost
from gpunet.model import Model
from gpunet.sklearn import compat, devices, kinds, notices, solvers
from gpunet.training import schedules
from gpunet.training.fit import Examples
from gpunet.training.outputs import outputs, outputs_on_device
from gpunet.training.schedules import Schedule

#: scikit-learn's names -> ours.
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid"}
#: A sparse matrix of at most so many bytes is made dense at once, a larger one part by part.
_DENSE_BYTES = 2**28
#: So many numbers of one are made dense at a time to predict from them.
_DENSE_NUMBERS = 2**22


#: X_val, y_val and sample_weight_val as they were given.
Validation = tuple[Any, Any, Any]
NO_VALIDATION: Validation = (None, None, None)


class Perceptron(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of `MLPClassifier` and `MLPRegressor`; use those."""

    _task: ClassVar[str]
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPClassifier._parameter_constraints,
        "activation": [StrOptions({"identity", "logistic", *activations.BUILT_IN}), Activation, list, tuple],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
        "device": "no_validation",  # gpunet's own message says more
        "dtype": [StrOptions({"float32", "float64"}), None],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "callbacks": [callable, "array-like", None],
        "progress": ["boolean"],
    }

    def __init__(self, **parameters: Any) -> None:
        for name, value in parameters.items():
            setattr(self, name, value)

    # -- Fitting ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _undone_on_error(self) -> Iterator[None]:
        """Within it, an error leaves the estimator as it was, unless something has been learned meanwhile."""
        before = _copied(vars(self))
        self._has_learned = False
        try:
            yield
        except Exception:
            if not self._has_learned:
                self._put_back(before)
            raise
        finally:
            self.__dict__.pop("_has_learned", None)

    def _put_back(self, before: dict[str, Any]) -> None:
        self.__dict__.clear()
        self.__dict__.update(_copied(before))

    def _fit(self, X: Any, y: Any, sample_weight: Any, validation: Validation, is_incremental: bool = False) -> None:
        hidden = self._hidden_sizes()
        self._activation_by_layer(len(hidden))
        self._dropout_by_layer(len(hidden))
        self._check_options(validation, is_incremental)
        before, of_the_user = _copied(vars(self)), self.random_state
        state = of_the_user.get_state() if isinstance(of_the_user, np.random.RandomState) else None

        def fit(ops: Backend) -> None:
            self._put_back(before)  # a GPU's memory may have become short midway
            if state is not None:
                of_the_user.set_state(state)
            self._fit_on(ops, X, y, sample_weight, validation, is_incremental)

        devices.run(self.device, kinds.of(X), "a training of this size", fit)

    def _fit_on(
        self, ops: Backend, X: Any, y: Any, sample_weight: Any, validation: Validation, is_incremental: bool
    ) -> None:
        kind = kinds.of(X)
        is_first = not hasattr(self, "coefs_") or (not self.warm_start and not is_incremental)
        X, y = self._checked(X, y, ops, is_first)
        Y = self._targets(y, is_incremental)
        self.n_outputs_ = Y.shape[1]
        sizes = [X.shape[1], *self._hidden_sizes(), self.n_outputs_]
        examples = Examples(X, Y, self._checked_weights(X, sample_weight), self._task)
        class_weights = self._class_weights(y)
        self._random_state = check_random_state(self.random_state)
        if is_first:
            self._initialize(sizes, _dtype_of(X))
        elif [w.shape for w in self.coefs_] != list(pairwise(sizes)):
            raise ValueError(
                f"hidden_layer_sizes={self.hidden_layer_sizes!r} and the data ask for layers of {sizes}, but "
                f"those of before are of {[self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]}; to "
                "begin anew, call fit with warm_start=False."
            )
        held_out = self._checked_validation(validation, ops)
        model = self._new_model(ops)
        try:
            if self.solver == "lbfgs":
                self._fit_lbfgs(model, _weighed(examples, class_weights))
            else:
                self._fit_stochastic(model, examples, class_weights, held_out, is_incremental)
        except MemoryError:
            raise
        except Exception:  # such as a callback's
            self._has_learned = solvers.is_finite(model)
            if self._has_learned:
                self._take(model, kind)
            raise
        if not solvers.is_finite(model):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need "
                "to be preprocessed."
            )
        self._take(model, kind)

    def _check_options(self, validation: Validation, is_incremental: bool) -> None:
        """Refuse what does not go together, before anything is done."""
        if not all(callable(callback) for callback in self._callbacks()):
            raise ValueError(f"callbacks must be a function or a list of functions, got {self.callbacks!r}.")
        X, y, _ = validation
        is_given = X is not None and y is not None
        if not is_given and any(v is not None for v in validation):
            given = "X_val" if X is not None else "y_val" if y is not None else "sample_weight_val"
            raise ValueError(f"X_val and y_val are needed both, got {given} alone.")
        if is_incremental and self.early_stopping and not is_given:
            raise ValueError(
                "partial_fit does not support early_stopping=True without a validation set: pass X_val and y_val"
            )
        if self.solver == "lbfgs":
            odd = {"dropout": np.any(self.dropout), "callbacks": self._callbacks(), "X_val": is_given}
            if any(odd.values()):
                names = ", ".join(name for name, value in odd.items() if value)
                raise ValueError(f"solver='lbfgs' goes by iterations on all examples and takes no {names}.")
        elif isinstance(self.learning_rate, Schedule):
            is_scored = is_given or self.early_stopping
            if schedules.needs_validation(self.learning_rate) and not is_scored:
                raise ValueError(
                    f"learning_rate={self.learning_rate!r} goes by a validation set: pass X_val and y_val."
                )

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [operator.index(n) for n in sizes]

    def _checked(self, X: Any, y: Any, ops: Backend, is_first: bool) -> tuple[Any, Any]:
        """Return X, of a floating dtype, and y as scikit-learn checks them; X on a GPU stays there."""
        options = {"multi_output": True, "y_numeric": self._task == "regression", "accept_sparse": ["csr", "csc"]}
        y = kinds.to_host(y)
        if kinds.is_on_gpu(X):
            X = self._checked_on_gpu(X, ops, reset=is_first)
            check_consistent_length(X, y)
            _, y = check_X_y(np.zeros((X.shape[0], 1)), y, estimator=self, **options)
        else:
            X = kinds.to_host(X)
            X, y = compat.validate_data(self, X, y, dtype=self._dtypes(), reset=is_first, **options)
        if y.ndim == 2 and y.shape[1] == 1 and not issparse(y):
            y = column_or_1d(y, warn=True)
        return _dense_if_small(X), y

    def _checked_inputs(self, X: Any, ops: Backend) -> Any:
        """Return X to predict from, checked as scikit-learn does."""
        if kinds.is_on_gpu(X):
            return self._checked_on_gpu(X, ops, reset=False)
        X = kinds.to_host(X)
        return compat.validate_data(self, X, accept_sparse=["csr", "csc"], dtype=self._dtypes(), reset=False)

    def _dtypes(self) -> Any:
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    def _checked_on_gpu(self, X: Any, ops: Backend, reset: bool) -> Any:
        X = kinds.to_gpu(X, ops)
        if X.ndim != 2:
            raise ValueError(f"Expected 2D array, got {X.ndim}D array instead: X has shape {tuple(X.shape)}.")
        if reset:
            self.n_features_in_ = int(X.shape[1])
            self.__dict__.pop("feature_names_in_", None)
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} features "
                "as input."
            )
        X = ops.asarray(X, self.dtype or ("float32" if _dtype_of(X) == "float32" else "float64"))
        if not bool(ops.xp.all(ops.xp.isfinite(X))):
            raise ValueError("Input X contains NaN or infinity.")
        return X

    def _checked_weights(self, X: Any, sample_weight: Any) -> npt.NDArray[Any] | None:
        """Return the weights of the rows of X, (n, 1), or None if they have none."""
        if sample_weight is None:
            return None
        rows = np.zeros((X.shape[0], 1), _dtype_of(X))  # all that is looked at
        weights: npt.NDArray[Any] = _check_sample_weight(kinds.to_host(sample_weight), rows)
        return weights[:, None]

    def _class_weights(self, y: Any) -> npt.NDArray[Any] | None:
        """Return weights of the examples by their classes, (n, 1), or None if there are none."""
        return None

    def _checked_validation(self, validation: Validation, ops: Backend) -> Examples | None:
        X, y, sample_weight = validation
        if X is None:
            return None
        X = self._checked_inputs(X, ops)
        y = check_array(
            kinds.to_host(y), accept_sparse="csr", ensure_2d=False, dtype=None, input_name="y_val", estimator=self
        )
        check_consistent_length(X, y)
        if X.shape[0] < 2:
            raise ValueError(f"X_val has {X.shape[0]} row; a score needs at least 2.")
        Y = self._validation_targets(y)
        if Y.shape[1] != self.n_outputs_:
            raise ValueError(f"y_val has {Y.shape[1]} columns, but y has {self.n_outputs_}.")
        return Examples(_dense_if_small(X), Y, self._checked_weights(X, sample_weight), self._task)

    @abstractmethod
    def _targets(self, y: Any, is_incremental: bool) -> npt.NDArray[Any]:
        """Return the targets of the outputs, (n, n_outputs), and set what the estimator knows of them."""

    @abstractmethod
    def _validation_targets(self, y: Any) -> npt.NDArray[Any]:
        """Return the targets of y_val, of the same kind as y."""

    @abstractmethod
    def _cost(self, dtype: str) -> Cost:
        """Return the cost that is trained by."""

    @abstractmethod
    def _score_of(self, predicted: npt.NDArray[Any], held_out: Examples) -> float:
        """Return the score of outputs (n, n_outputs), which are finite."""

    @property
    def _share(self) -> float:
        """What scikit-learn's loss counts of the cost, which is a sum over outputs."""
        return 1.0

    # -- The network -----------------------------------------------------------------------------------------------

    def _initialize(self, sizes: Sequence[int], dtype: str) -> None:
        self.n_iter_ = self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = self._output_activation()
        hidden = self._activation_by_layer(len(sizes) - 2)
        self.coefs_, self.intercepts_ = [], []
        for l, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            is_sigmoid = (
                hidden[min(l, len(hidden) - 1)].name == "sigmoid" if hidden else self.activation == "logistic"
            )
            bound = np.sqrt((2.0 if is_sigmoid else 6.0) / (fan_in + fan_out))  # Glorot's
            self.coefs_.append(self._random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, fan_out).astype(dtype))
        for name in ("_best_before", "history_", "stopped_"):
            self.__dict__.pop(name, None)
        if self.solver != "lbfgs":
            self._begin_curves()

    def _begin_curves(self) -> None:
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_loss_: Any = None if self.early_stopping else np.inf
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_: Any = -np.inf if self.early_stopping else None

    @abstractmethod
    def _output_activation(self) -> str:
        """Return scikit-learn's name of the output activation."""

    def _activation_by_layer(self, count: int) -> list[Activation]:
        """Return the activation of each hidden layer."""
        given = self.activation
        by_layer = list(given) if isinstance(given, list | tuple) else [given] * count
        if len(by_layer) != count:
            raise ValueError(
                f"activation has {len(by_layer)} entries for {count} hidden layers; give one for each, or one for "
                "all."
            )
        return [activations.get(ACTIVATIONS.get(f, f) if isinstance(f, str) else f) for f in by_layer]

    def _new_model(self, ops: Backend) -> Model:
        """Return a network on the device with the estimator's coefs_ and intercepts_."""
        sizes = [self.coefs_[0].shape[0], *(w.shape[1] for w in self.coefs_)]
        output = activations.get(ACTIVATIONS.get(self.out_activation_, self.out_activation_))
        functions = [*self._activation_by_layer(len(sizes) - 2), output]
        dtype = _dtype_of(self.coefs_[0])
        cost = self._cost(dtype)
        model = Model(ops, sizes, functions, cost, dtype, 1.0)
        self._load(model)
        return model

    def _load(self, model: Model) -> None:
        ops, to = model.ops, model.parameters
        for array, w in zip(to.weights, self.coefs_, strict=True):
            ops.copy(ops.asarray(kinds.to_host(w).T, model.dtype), out=array)
        for array, b in zip(to.biases, self.intercepts_, strict=True):
            ops.copy(ops.asarray(kinds.to_host(b)[:, None], model.dtype), out=array)

    def _take(self, model: Model, kind: kinds.Kind | None) -> None:
        """Take coefs_ and intercepts_ from the network: its own memory, or read-only copies of a GPU's."""

        def taken(array: Any) -> Any:
            if kind is not None and kind.is_cuda:
                return kind.of(array)
            values = model.ops.to_numpy(array)
            if values is not array:
                values = values.copy()
                values.flags.writeable = False  # a change would not reach the device
            return values if kind is None else kind.of(values)

        self.coefs_ = [taken(w).T for w in model.parameters.weights]
        self.intercepts_ = [taken(b)[:, 0] for b in model.parameters.biases]
        self._held = model, self._key()

    def _key(self) -> tuple[Any, ...]:
        """Return what the network was made of: it may be replaced by hand."""
        return self.activation, *map(id, (*self.coefs_, *self.intercepts_))

    def _network(self, ops: Backend) -> Model:
        """Return the network that predicts on this backend."""
        model: Model | None
        model, key = self.__dict__.get("_held", (None, None))
        if model is None or (model.ops.name, model.ops.device) != (ops.name, ops.device) or key != self._key():
            model = self._new_model(ops)
        return model

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_held"}

    # -- The solvers -----------------------------------------------------------------------------------------------

    def _fit_lbfgs(self, model: Model, examples: Examples) -> None:
        problem = solvers.Problem(model, examples, self._share)
        self.loss_, self.n_iter_ = solvers.lbfgs(
            problem, float(self.alpha), float(self.tol), self.max_iter, self.max_fun
        )

    def _fit_stochastic(
        self,
        model: Model,
        examples: Examples,
        class_weights: npt.NDArray[Any] | None,
        held_out: Examples | None,
        is_incremental: bool,
    ) -> None:
        if not hasattr(self, "loss_curve_") or (not self.early_stopping and self.best_loss_ is None):
            self._begin_curves()  # the solver, or early stopping, was another at the call before
        if self.early_stopping and held_out is None:
            kept, held = self._split(examples)
            class_weights = None if class_weights is None else class_weights[kept]
            examples, held_out = examples.rows(kept, model), examples.rows(held, model)
        n = examples.X.shape[0]
        if self.batch_size == "auto":
            batch_size = min(200, n)
        else:
            if self.batch_size > n:
                notices.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
            batch_size = min(int(self.batch_size), n)
        problem = solvers.Problem(model, _weighed(examples, class_weights), self._share)
        state = getattr(self, "_optimizer", None) if is_incremental else None
        if state is None or state.solver != self.solver:
            state = solvers.OptimizerState(self.solver, self._first_eta())
        score = None if held_out is None else functools.partial(self._score_on, model, held_out)
        before = getattr(self, "history_", None) if is_incremental else None
        best = getattr(self, "_best_before", None) if is_incremental else None
        solver = solvers.Stochastic(self, problem, replace(state), batch_size, score, before, best)
        try:
            solver.run(self.max_iter, is_incremental)
        finally:
            self._optimizer, self.history_ = solver.state, solver.history
        if self.early_stopping:
            if is_incremental:
                self._best_before = np.array(model.ops.to_numpy(solver.best))
                self.stopped_ = solver.has_converged
            if not is_incremental or solver.has_converged:
                model.ops.copy(solver.best, out=model.parameters.flat)

    def _first_eta(self) -> float:
        rate = self.learning_rate
        return rate.start if isinstance(rate, Schedule) else float(self.learning_rate_init)

    def _split(self, examples: Examples) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows to train on and those to set aside, the same ones as scikit-learn."""
        is_binary = self._task == "classification" and self.n_outputs_ == 1
        kept, held = train_test_split(
            np.arange(examples.X.shape[0]),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=examples.Y.astype(bool) if is_binary else None,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return kept, held

    def _score_on(self, model: Model, held_out: Examples) -> tuple[float, float]:
        """Return the mean cost and the score; NaN where an output is not finite."""
        predicted = _outputs(model, held_out.X)
        if not np.isfinite(predicted).all():
            return np.nan, np.nan
        costs = model.cost.value(predicted.T, held_out.Y.T.astype(model.dtype), np)
        weights = None if held_out.weights is None else held_out.weights[:, 0]
        return float(np.average(costs, weights=weights)) * self._share, self._score_of(predicted, held_out)

    def _dropout_by_layer(self, count: int) -> tuple[float, ...]:
        """Return the share of each layer's activations that is dropped, the input's first; () for none."""
        given = self.dropout
        try:
            shares = [float(given)] * count if isinstance(given, Real) else [float(share) for share in given]
        except (TypeError, ValueError):
            shares = [np.nan] * count
        if len(shares) != count or not all(0 <= share < 1 for share in shares):
            raise ValueError(
                f"dropout must be a share from 0 to below 1, or one for each of the {count} hidden layers, got "
                f"{given!r}."
            )
        return (0.0, *shares) if any(shares) else ()

    def _callbacks(self) -> list[Any]:
        given = self.callbacks
        return [] if given is None else [given] if callable(given) else list(given)

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for stochastic optimizers. lbfgs is not stochastic.")
        return True

    # -- Predicting ------------------------------------------------------------------------------------------------

    def _forward(self, X: Any) -> tuple[Any, kinds.Kind | None]:
        """Return the outputs (n, n_outputs), on X's GPU if it is on one, and the kind that the answer is to be of."""
        check_is_fitted(self)
        kind = kinds.of(X)

        def forward(ops: Backend) -> Any:
            inputs, model = self._checked_inputs(X, ops), self._network(ops)
            return outputs_on_device(model, inputs) if kind is not None and kind.is_cuda else _outputs(model, inputs)

        return devices.run(self.device, kind, "a prediction of this size", forward), kind

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _weighed(examples: Examples, class_weights: npt.NDArray[Any] | None) -> Examples:
    """Return the examples with the weights that count in a training: in scores, those of classes do not."""
    if class_weights is None:
        return examples
    return replace(examples, weights=class_weights if examples.weights is None else examples.weights * class_weights)


def _copied(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return them with lists of their own: curves grow."""
    return {name: list(v) if isinstance(v, list) else v for name, v in attributes.items()}


def _outputs(model: Model, X: Any) -> npt.NDArray[Any]:
    if not issparse(X):
        return outputs(model, X)
    rows = max(1, _DENSE_NUMBERS // X.shape[1])
    return np.concatenate([outputs(model, X[i : i + rows].toarray()) for i in range(0, X.shape[0], rows)])


def _dense_if_small(X: Any) -> Any:
    if not issparse(X):
        return X
    return X.toarray() if X.shape[0] * X.shape[1] * X.dtype.itemsize <= _DENSE_BYTES else X.tocsr()


def _dtype_of(X: Any) -> str:
    """Return the name of an array's dtype in any library."""
    return str(getattr(X.dtype, "name", X.dtype)).rpartition(".")[2]
