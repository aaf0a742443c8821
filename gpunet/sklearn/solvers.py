"""scikit-learn's solvers by gpunet's training, with its rules of stopping, of learning rates and of losses."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.optimize import _check_optimize_result

from gpunet.model import Model
from gpunet.optimizers import SGD, Adam, Momentum, Optimizer
from gpunet.sklearn import notices
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
    examples : Examples
        Whose X may be a sparse matrix, too.
    share : float
        What scikit-learn's loss counts of the model's cost.
    """

    model: Model
    examples: Examples
    share: float

    @property
    def n(self) -> int:
        """The number of examples."""
        return int(self.examples.X.shape[0])

    def placed(self) -> Examples:
        """Return the examples on the device, or in the host's memory if they pass through the device."""
        examples = self.examples
        if not hasattr(examples.X, "toarray"):
            return examples.placed(self.model)
        weights = None if examples.weights is None else examples.weights.astype(self.model.dtype)
        return replace(examples, weights=weights)


@dataclass
class OptimizerState:
    """What a stochastic solver takes from one call of fit or partial_fit to the next."""

    solver: str
    learning_rate: float
    taken: int = 0
    states: npt.NDArray[Any] | None = None


class Shuffles:
    """The orders of examples that scikit-learn's loop goes through, each a shuffle of the one before.

    What dropout draws comes from a generator of its own, so that the orders are the same with it and without. `seen`
    examples before, in calls of `partial_fit` that may have begun with the same `random_state`, have it draw anew.
    """

    def __init__(self, random_state: np.random.RandomState, n: int, shuffle: bool, seen: int) -> None:
        self._random_state, self._shuffle = random_state, shuffle
        self._aside = np.random.default_rng([copy.deepcopy(random_state).randint(2**31), seen])
        self._index = np.arange(n)

    def permutation(self, x: int, /) -> npt.NDArray[np.int64]:
        """Return the next order."""
        if self._shuffle:
            self._index = self._index[self._random_state.permutation(x)]
        return self._index

    def integers(self, low: int, /) -> int:
        """Return a random whole number from 0 to low - 1, and leave the orders alone."""
        return int(self._aside.integers(low))


@functools.lru_cache(maxsize=64)  # a GPU's kernels are kept by the optimizer
def _optimizer(
    solver: str, momentum: float, nesterov: bool, beta_1: float, beta_2: float, epsilon: float
) -> Optimizer:
    if solver == "adam":
        return Adam(beta_1, beta_2, epsilon, epsilon_hat=True)
    return Momentum(momentum, nesterov=nesterov) if momentum else SGD()


def is_finite(model: Model) -> bool:
    """Whether no parameter is NaN or infinite."""
    return bool(np.isfinite(model.ops.to_numpy(model.parameters.flat)).all())


class Stochastic:
    """The solvers "sgd" and "adam".

    Parameters
    ----------
    estimator : Perceptron
        Whose attributes are kept up to date epoch by epoch, but for coefs_ and intercepts_.
    problem : Problem
    state : OptimizerState
        From which it goes on; it is kept up to date.
    batch_size : int
    score : callable, optional
        Returns the model's cost and score on the validation set.
    before : History, optional
        Of calls of `partial_fit` before.
    best : array, optional
        The parameters of the best score in those calls.

    Attributes
    ----------
    history : History
    best : array, shape (number of parameters,), or None
        With early stopping the parameters of the best score.
    has_converged : bool
        Whether nothing has become better for too long.
    """

    def __init__(
        self,
        estimator: Any,
        problem: Problem,
        state: OptimizerState,
        batch_size: int,
        score: Callable[[], tuple[float, float]] | None = None,
        before: History | None = None,
        best: npt.NDArray[Any] | None = None,
    ) -> None:
        self._estimator, self._problem, self.state, self._score = estimator, problem, state, score
        self.has_converged = False
        e, model = estimator, problem.model
        if e.early_stopping:
            start = model.parameters.flat if best is None else model.ops.asarray(best)
            self.best = model.ops.copy(start, out=model.ops.empty(tuple(start.shape), model.dtype))
        self._optimizer = _optimizer(
            e.solver,
            float(e.momentum),
            bool(e.nesterovs_momentum),
            float(e.beta_1),
            float(e.beta_2),
            float(e.epsilon),
        )
        placed = problem.placed()
        self._n = problem.n
        recipe = Recipe(
            model,
            batch_size,
            self._optimizer,
            alpha=float(e.alpha),
            dropout=e._dropout_by_layer(len(model.sizes) - 2),
        )
        draws = Shuffles(e._random_state, self._n, e.shuffle, e.t_)
        self._sgd = MiniBatchSGD(recipe, placed.X, placed.Y, draws, placed.weights)
        if state.states is not None and state.states.shape[0] == self._optimizer.states:
            self._sgd.steps.restore(state.taken, state.states)
        self.history = History(
            device=model.ops.device,
            backend=model.ops.name,
            engine=self._sgd.engine,
            optimizer=e.solver,
            eta=state.learning_rate,
            batch_size=batch_size,
            epochs=[] if before is None else list(before.epochs),
            task=e._task,
        )

    def run(self, epochs: int, is_incremental: bool) -> None:
        """Train for so many epochs, or until the loss or the score gets no better."""
        e = self._estimator
        e.n_iter_ = 0
        try:
            with _bar(e.progress, 1 if is_incremental else epochs) as advance:
                for _ in range(epochs):
                    is_over = self._run_epoch()
                    advance(e.loss_)
                    if is_over or is_incremental:
                        break
                    if e.n_iter_ == e.max_iter:
                        notices.warn(
                            f"Stochastic Optimizer: Maximum iterations ({e.max_iter}) reached and the optimization "
                            "hasn't converged yet.",
                            ConvergenceWarning,
                        )
        except KeyboardInterrupt:
            notices.warn("Training interrupted by user.")
        finally:
            self.state.taken, self.state.states = self._sgd.steps.state()

    def _run_epoch(self) -> bool:
        """Train on all examples once; return whether that was the last time."""
        e, state, number = self._estimator, self.state, len(self.history.epochs)
        if isinstance(e.learning_rate, Schedule):
            state.learning_rate = e.learning_rate.eta(number, self.history)
        started, eta = time.perf_counter(), state.learning_rate
        cost = self._sgd.run_epoch(eta)
        seconds = time.perf_counter() - started
        e.n_iter_ += 1
        e.loss_ = cost * self._problem.share + self._sgd.penalty
        if not (np.isfinite(e.loss_) or e.early_stopping or is_finite(self._problem.model)):
            return True  # early stopping alone has better weights to go back to
        e.t_ += self._n
        e.loss_curve_.append(e.loss_)
        if e.verbose:
            print(f"Iteration {e.n_iter_}, loss = {e.loss_:.8f}")
        validation_cost, validation_score = (None, None) if self._score is None else self._score()
        self._judge(validation_score)
        if e.solver == "sgd" and e.learning_rate == "invscaling":
            state.learning_rate = float(e.learning_rate_init) / (e.t_ + 1) ** e.power_t
        epoch = Epoch(number, e.loss_, seconds, self._n / seconds, validation_cost, validation_score, eta)
        self.history.engine = self._sgd.engine
        self.history.epochs.append(epoch)
        answers = [callback(epoch) for callback in e._callbacks()]
        if any(isinstance(answer, bool | np.bool_) and answer for answer in answers):
            self.history.stopped = "a callback asked for it"
            return True
        return self._is_over()

    def _judge(self, score: float | None) -> None:
        """Take note of an epoch's score or loss, and of how long it has not become better."""
        e = self._estimator
        if score is not None:
            if e.validation_scores_ is None:
                e.validation_scores_, e.best_validation_score_ = [], -np.inf
            e.validation_scores_.append(score)
            if e.verbose:
                print(f"Validation score: {score:f}")
            is_no_better = score < e.best_validation_score_ + e.tol
            if score > e.best_validation_score_:
                e.best_validation_score_ = score
                if e.early_stopping:
                    self._problem.model.ops.copy(self._problem.model.parameters.flat, out=self.best)
        if not e.early_stopping:
            is_no_better = e.loss_ > e.best_loss_ - e.tol
            e.best_loss_ = min(e.loss_, e.best_loss_)
        e._no_improvement_count = e._no_improvement_count + 1 if is_no_better else 0

    def _is_over(self) -> bool:
        e, state = self._estimator, self.state
        if isinstance(e.learning_rate, Schedule) and e.learning_rate.is_over(self.history):
            self.history.stopped = f"the schedule {e.learning_rate!r} ended"
            return True
        if e._no_improvement_count <= e.n_iter_no_change:
            return False
        what = "Validation score" if e.early_stopping else "Training loss"
        message = f"{what} did not improve more than tol={e.tol:f} for {e.n_iter_no_change} consecutive epochs."
        if e.solver == "sgd" and e.learning_rate == "adaptive" and state.learning_rate > _SMALLEST:
            state.learning_rate /= _DIVISOR
            if e.verbose:
                print(f"{message} Setting learning rate to {state.learning_rate:f}")
            e._no_improvement_count = 0
            return False
        too_small = " Learning rate too small." if e.solver == "sgd" and e.learning_rate == "adaptive" else ""
        if e.verbose:
            print(f"{message}{too_small} Stopping.")
        self.history.stopped, self.has_converged = message, True
        return True


@contextmanager
def _bar(is_shown: bool, epochs: int) -> Iterator[Callable[[float], None]]:
    """Return what is to be told of each epoch's loss; it moves a bar, if one is wanted."""
    if not is_shown:
        yield lambda loss: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.6g}"), TimeRemainingColumn()
    with Progress("epochs", *columns) as bar:
        task = bar.add_task("", total=epochs, loss=math.nan)
        yield lambda loss: bar.update(task, advance=1, loss=loss)


def lbfgs(problem: Problem, alpha: float, tol: float, max_iter: int, max_fun: int) -> tuple[float, int]:
    """Train by L-BFGS on all examples at once; return the loss and the number of iterations."""
    model = problem.model
    weights = problem.examples.weights
    weight = problem.n if weights is None else float(weights.sum(dtype=np.float64))
    whole = WholeGradient(model, problem.placed().arrays, alpha / weight)
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
