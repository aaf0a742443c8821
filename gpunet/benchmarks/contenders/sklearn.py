"""scikit-learn's MLPClassifier, which has one cost, log-likelihood on softmax outputs."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.benchmarks.contender import Contender
from gpunet.benchmarks.problem import Batches, Problem


class _SklearnContender(Contender):
    distributions = ("scikit-learn", "numpy")

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        self.load()
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier

        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is what is asked for
        self._X, self._labels = problem.scaled_inputs()
        self._classifier: Any = MLPClassifier(
            problem.sizes[1:-1],
            activation="logistic" if problem.activation == "sigmoid" else "relu",
            solver="sgd",
            alpha=0.0,
            momentum=0.0,
            batch_size=problem.batch,
            learning_rate_init=problem.eta,
            max_iter=1,
            warm_start=self.whole_epochs,
            random_state=problem.seed,
        )
        self._make_arrays()
        self.start()

    def start(self) -> None:
        self._batches = Batches(self.problem)
        weights, biases = self._classifier.coefs_, self._classifier.intercepts_
        for (w, b), w_out, b_out in zip(self.problem.parameters(), weights, biases, strict=True):
            w_out[...], b_out[...] = w.T, b

    @abstractmethod
    def _make_arrays(self) -> None:
        """Let scikit-learn make its arrays, whose values are then replaced by the problem's."""

    @staticmethod
    def load() -> None:
        import sklearn.neural_network  # noqa: F401

    @property
    def same_update(self) -> bool:
        return self.problem.cost == "log-likelihood"

    def facts(self) -> dict[str, Any]:
        return {"cost": "log-likelihood, softmax outputs"}

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        pairs = zip(self._classifier.coefs_, self._classifier.intercepts_, strict=True)
        return [(np.asarray(w).T, np.asarray(b)) for w, b in pairs]


class PartialFit(_SklearnContender):
    """A call of `partial_fit` for each mini-batch."""

    def _make_arrays(self) -> None:
        m, classes = self.problem.batch, np.arange(self.problem.sizes[-1])
        self._classifier.partial_fit(self._X[:m], self._labels[:m], classes=classes)

    def run(self, steps: int) -> None:
        for rows in self._batches.take(steps):
            self._classifier.partial_fit(self._X[rows], self._labels[rows])


class Fit(_SklearnContender):
    """`fit` for one epoch at a time, which goes on from the last one's parameters; it draws its own order."""

    whole_epochs = True

    @property
    def same_update(self) -> bool:
        return False

    def _make_arrays(self) -> None:
        self._classifier.fit(self._X, self._labels)

    def run(self, steps: int) -> None:
        for _ in range(steps // self.problem.steps):
            self._classifier.fit(self._X, self._labels)
