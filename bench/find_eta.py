"""How good is the learning rate that `find_eta` suggests? A short training with it, against a grid's best.

Needs scikit-learn for the digits. A minute on one core.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpunet import DivergenceError, Network, datasets

SEEDS = (1, 2)
#: What the suggestion was before: this share of where the cost is least, for every optimizer.
TENTH = 0.1


@dataclass(frozen=True)
class Problem:
    """A network, how it is trained, and the data: to train on (X, y), and to score on."""

    data: tuple[Any, Any, Any, Any]
    sizes: list[int]
    network: dict[str, Any]
    optimizer: str
    batch_size: int
    epochs: int
    etas: Any

    def make(self, seed: int) -> Network:
        """Return the network as it is drawn."""
        return Network(self.sizes, device="cpu", seed=seed, **self.network)

    def score(self, etas: tuple[float, ...]) -> float:
        """Return the mean score of trainings with these learning rates, one for each seed; a divergence counts 0."""
        X, y, *test = self.data
        scores = []
        for seed, eta in zip(SEEDS, etas, strict=True):
            net = self.make(seed)
            try:
                net.fit(
                    X, y, epochs=self.epochs, batch_size=self.batch_size, optimizer=self.optimizer, eta=eta, threads=1
                )
                scores.append(net.score(*test))
            except DivergenceError:
                scores.append(0.0)
        return float(np.mean(scores))

    def searches(self) -> list[Any]:
        """Return what a search finds, for each seed."""
        X, y = self.data[0][:5000], self.data[1][:5000]
        return [
            self.make(seed).find_eta(X, y, batch_size=self.batch_size, optimizer=self.optimizer) for seed in SEEDS
        ]


def friedman(n: int) -> tuple[Any, Any]:
    """Return Friedman's first function of ten inputs, five of them without a meaning, standardised."""
    rng = np.random.default_rng(3)
    X = rng.random((n, 10))
    y = 10 * np.sin(np.pi * X[:, 0] * X[:, 1]) + 20 * (X[:, 2] - 0.5) ** 2 + 10 * X[:, 3] + 5 * X[:, 4]
    y += rng.normal(size=n)
    return (X - 0.5) * np.sqrt(12), ((y - y.mean()) / y.std())[:, None]


def problems() -> dict[str, Problem]:
    """Return the problems by their names."""
    from sklearn.datasets import load_digits

    images = datasets.mnist()
    mnist = images.X[:20_000], images.y[:20_000], images.X_test, images.y_test
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    X, y = digits.data[order] / 16, digits.target[order]
    small = X[:1400], y[:1400], X[1400:], y[1400:]
    X, y = friedman(3000)
    numbers = X[:2400], y[:2400], X[2400:], y[2400:]
    scaled, relu = {"input_scale": images.input_scale}, {"activation": "relu", "cost": "log-likelihood"}
    regression = {"activation": "relu", "output_activation": "linear"}
    wide, low, high = np.geomspace(1e-3, 32, 19), np.geomspace(1e-5, 0.1, 17), np.geomspace(1e-3, 10, 17)
    return {
        "[784, 30, 10], quadratic, 10": Problem(mnist, [784, 30, 10], scaled, "sgd", 10, 3, wide),
        "[784, 100, 10], cross-entropy, 10": Problem(
            mnist, [784, 100, 10], {**scaled, "cost": "cross-entropy"}, "sgd", 10, 3, high
        ),
        "[784, 100, 10], relu, softmax, 32": Problem(mnist, [784, 100, 10], scaled | relu, "sgd", 32, 3, high),
        "the same, momentum": Problem(mnist, [784, 100, 10], scaled | relu, "momentum", 32, 3, high),
        "the same, Adam": Problem(mnist, [784, 100, 10], scaled | relu, "adam", 32, 3, low),
        "digits: [64, 30, 10], quadratic, 10": Problem(small, [64, 30, 10], {}, "sgd", 10, 20, wide),
        "[64, 32, 10], relu, softmax, 10": Problem(small, [64, 32, 10], relu, "sgd", 10, 20, high),
        "the same, Adam, 32": Problem(small, [64, 32, 10], relu, "adam", 32, 20, low),
        "[64, 64, 64, 64, 10], relu, Adam, 32": Problem(small, [64, 64, 64, 64, 10], relu, "adam", 32, 20, low),
        "Friedman: [10, 64, 32, 1], relu, Adam, 32": Problem(
            numbers, [10, 64, 32, 1], regression, "adam", 32, 20, low
        ),
        "the same, gradient descent": Problem(numbers, [10, 64, 32, 1], regression, "sgd", 32, 20, high),
    }


def main() -> None:
    rows = []
    for name, problem in problems().items():
        found = problem.searches()
        etas = tuple(search.eta for search in found)
        tenths = tuple(TENTH * float(search.etas[search.costs.argmin()]) for search in found)
        grid = {float(eta): problem.score((eta,) * len(SEEDS)) for eta in problem.etas}
        best = max(grid, key=lambda eta: grid[eta])
        rows.append(
            {
                "problem": name,
                "suggested": etas,
                "score": problem.score(etas),
                "score of a tenth": problem.score(tenths),
                "grid": grid,
            }
        )
        shown = ", ".join(f"{eta:.2g}" for eta in etas)
        print(
            f"{name}: {100 * rows[-1]['score']:.1f} (eta {shown}), a tenth {100 * rows[-1]['score of a tenth']:.1f}, "
            f"best of the grid {100 * grid[best]:.1f} ({best:.2g})",
            flush=True,
        )
    path = Path(__file__).parent / "results" / "find_eta.json"
    path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
