"""scikit-learn's solvers by gpunet's training: its rules of stopping, of learning rates and of losses."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.optimize import _check_optimize_result

from gpunet.model import Model
from gpunet.optimizers import SGD, Adam, Momentum, Optimizer
from gpunet.training.fit import Examples
from gpunet.training.history import History
from gpunet.training.lbfgs import WholeGradient
from gpunet.training.record import Epoch
from gpunet.training.schedules import Schedule
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe

#: `learning_rate="adaptive"` divides by so much, until the rate is no larger than that.
_DIVISOR, _SMALLEST = 5.0, 1e-6


@dataclass(frozen=True)
class Problem:
    """What is trained on what.

    Attributes
    ----------
    model : Model
    X : array, shape (n, n_features), or sparse matrix
    Y : array, shape (n, n_outputs)
    weights : array, shape (n, 1), or None
    share : float
        What scikit-learn's loss counts of the model's cost.
    """

    model: Model
    X: Any
    Y: npt.NDArray[Any]
    weights: npt.NDArray[Any] | None
    share: float

    @property
    def n(self) -> int:
        """The number of examples."""
        return int(self.X.shape[0])

    def placed(self) -> tuple[Any, Any, Any]:
        """Return X, Y and the weights on the device, or in the host's memory if they pass through the device."""
        if hasattr(self.X, "toarray"):
            weights = None if self.weights is None else self.weights.astype(self.model.dtype)
            return self.X, self.Y, weights
        examples = Examples(self.X, self.Y, self.weights, "").placed(self.model)
        return examples.X, examples.Y, examples.weights


@dataclass
class Progress:
    """What a stochastic solver takes from one call of fit or partial_fit to the next."""

    eta: float
    taken: int = 0
    states: npt.NDArray[Any] | None = None


class Shuffles:
    """The orders of examples that scikit-learn's loop goes through, each a shuffle of the one before."""

    def __init__(self, random_state: np.random.RandomState, n: int, shuffle: bool) -> None:
        self._random_state, self._shuffle = random_state, shuffle
        self._index = np.arange(n)

    def permutation(self, x: int, /) -> npt.NDArray[np.int64]:
        """Return the next order."""
        if self._shuffle:
            self._index = self._index[self._random_state.permutation(x)]
        return self._index

    def integers(self, low: int, /) -> int:
        """Return a random whole number from 0 to low - 1."""
        return int(self._random_state.randint(low, dtype=np.int64))


@functools.lru_cache(maxsize=64)  # a GPU's kernels are kept by the optimizer
def _optimizer(
    solver: str, momentum: float, nesterov: bool, beta_1: float, beta_2: float, epsilon: float
) -> Optimizer:
    if solver == "adam":
        return Adam(beta_1, beta_2, epsilon, epsilon_hat=True)
    return Momentum(momentum, nesterov=nesterov) if momentum else SGD()


class Stochastic:
    """The solvers "sgd" and "adam".

    Parameters
    ----------
    estimator : Perceptron
        Whose attributes are kept up to date epoch by epoch.
    problem : Problem
    progress : Progress
        From which it goes on.
    batch_size : int
    score : callable, optional
        Returns the model's score on the validation set.
    """

    def __init__(
        self,
        estimator: Any,
        problem: Problem,
        progress: Progress,
        batch_size: int,
        score: Callable[[], float] | None = None,
    ) -> None:
        self._estimator, self._problem, self._progress, self._score = estimator, problem, progress, score
        e = estimator
        self._optimizer = _optimizer(
            e.solver,
            float(e.momentum),
            bool(e.nesterovs_momentum),
            float(e.beta_1),
            float(e.beta_2),
            float(e.epsilon),
        )
        X, Y, weights = problem.placed()
        self._n = problem.n
        recipe = Recipe(
            problem.model, batch_size, self._optimizer, alpha=float(e.alpha), dropout=e._dropout_by_layer()
        )
        draws = Shuffles(e._random_state, self._n, e.shuffle)
        self._sgd = MiniBatchSGD(recipe, X, Y, draws, weights)
        if progress.states is not None and progress.states.shape[0] == self._optimizer.states:
            self._sgd.steps.restore(progress.taken, progress.states)
        self.history = History(
            device=problem.model.ops.device,
            backend=problem.model.ops.name,
            engine=self._sgd.engine,
            optimizer=e.solver,
            eta=progress.eta,
            batch_size=batch_size,
            task=e._task,
        )

    def run(self, epochs: int, is_incremental: bool) -> None:
        """Train for so many epochs, or until the loss or the score gets no better."""
        e = self._estimator
        e.n_iter_ = 0
        try:
            for _ in range(epochs):
                if self._run_epoch() or is_incremental:
                    break
                if e.n_iter_ == e.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({e.max_iter}) reached and the optimization "
                        "hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=4,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        self._progress.taken, self._progress.states = self._sgd.steps.state()

    def _run_epoch(self) -> bool:
        """Train on all examples once; return whether that was the last time."""
        e, progress = self._estimator, self._progress
        if isinstance(e.learning_rate, Schedule):
            progress.eta = e.learning_rate.eta(e.n_iter_, self.history)
        started, eta = time.perf_counter(), progress.eta
        cost = self._sgd.run_epoch(eta)
        seconds = time.perf_counter() - started
        e.n_iter_ += 1
        e.loss_ = cost * self._problem.share + self._sgd.penalty
        if not np.isfinite(e.loss_) and not e.early_stopping:  # which keeps the best weights
            e._check_finite(self._problem.model)  # raises where the weights are not
        e.t_ += self._n
        e.loss_curve_.append(e.loss_)
        if e.verbose:
            print(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        e._watch(self._problem.model, self._score)
        if e.solver == "sgd" and e.learning_rate == "invscaling":
            progress.eta = float(e.learning_rate_init) / (e.t_ + 1) ** e.power_t
        score = e.validation_scores_[-1] if self._score is not None else None
        epoch = Epoch(e.n_iter_ - 1, e.loss_, seconds, self._n / seconds, None, score, eta)
        self.history.engine = self._sgd.engine
        self.history.epochs.append(epoch)
        answers = [callback(epoch) for callback in e._callbacks()]
        if any(answer is True for answer in answers):
            self.history.stopped = "a callback asked for it"
            return True
        return self._is_over()

    def _is_over(self) -> bool:
        e, progress = self._estimator, self._progress
        if e._no_improvement_count <= e.n_iter_no_change:
            return False
        what = "Validation score" if e.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        if e.solver == "sgd" and e.learning_rate == "adaptive" and progress.eta > _SMALLEST:
            progress.eta /= _DIVISOR
            if e.verbose:
                print(f"{message} Setting learning rate to {progress.eta:f}")
            e._no_improvement_count = 0
            return False
        too_small = " Learning rate too small." if e.solver == "sgd" and e.learning_rate == "adaptive" else ""
        if e.verbose:
            print(f"{message}{too_small} Stopping.")
        self.history.stopped = message
        return True


def lbfgs(problem: Problem, alpha: float, tol: float, max_iter: int, max_fun: int) -> tuple[float, int]:
    """Train by L-BFGS on all examples at once; return the loss and the number of iterations."""
    model = problem.model
    arrays: Sequence[Any] = [v for v in problem.placed() if v is not None]
    weight = problem.n if problem.weights is None else float(problem.weights.sum(dtype=np.float64))
    whole = WholeGradient(model, arrays, alpha / weight)
    share = problem.share

    def loss(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        cost, gradient = whole(flat)
        if share != 1:  # the loss alone: scikit-learn's gradient is that of the whole cost
            cost += (share - 1) * whole.cost
        return cost, gradient

    start = np.asarray(model.ops.to_numpy(model.parameters.flat)).astype(np.float64)
    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    result = minimize(loss, start, method="L-BFGS-B", jac=True, options=options)
    iterations = _check_optimize_result("lbfgs", result, max_iter)
    model.ops.copy(model.ops.asarray(result.x.astype(model.dtype)), out=model.parameters.flat)
    return float(result.fun), int(iterations)
