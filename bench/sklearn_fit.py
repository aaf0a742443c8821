"""`fit` of gpunet.sklearn beside scikit-learn's own: the same data, settings and seed, in turn, in one process.

python bench/sklearn_fit.py --rounds 7
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import sklearn
from sklearn import datasets, neural_network
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_info

import gpunet.sklearn
from gpunet.benchmarks import machine
from gpunet.datasets import mnist

#: Returns X and y, and the examples' weights if they have any.
Data = Callable[[], tuple[Any, ...]]


def _weighted(load: Data) -> Data:
    def weighted() -> tuple[Any, ...]:
        X, y = load()
        return X, y, np.random.default_rng(0).random(len(y))

    return weighted


def _images(count: int, dtype: str) -> Data:
    def load() -> tuple[Any, Any]:
        data = mnist()
        return (data.X[:count] / 255).astype(dtype), data.y[:count]

    return load


def _scaled(load: Callable[..., Any], with_y: bool = False) -> Data:
    def scaled() -> tuple[Any, Any]:
        X, y = load(return_X_y=True)
        return scale(X), scale(y) if with_y else y

    return scaled


def _small() -> tuple[Any, Any]:
    return datasets.make_classification(n_samples=100, n_features=5, random_state=0)


def _regression() -> tuple[Any, Any]:
    X, y = datasets.make_regression(n_samples=20_000, n_features=50, noise=10, random_state=0)
    return X, scale(y)


#: Each fit begins on cores that have nothing to do: OpenBLAS's threads wait for more work for a tenth of a second.
_PAUSE = 0.3

#: Name, estimator, data, settings, and how many fits a round has.
CASES: list[tuple[str, str, Data, dict[str, Any], int]] = [
    ("100 x 5, (8,), adam", "MLPClassifier", _small, {"hidden_layer_sizes": (8,)}, 5),
    ("breast cancer, (100,), adam", "MLPClassifier", _scaled(datasets.load_breast_cancer), {}, 1),
    ("diabetes, (100,), adam", "MLPRegressor", _scaled(datasets.load_diabetes, with_y=True), {}, 1),
    ("digits, (100,), adam", "MLPClassifier", lambda: datasets.load_digits(return_X_y=True), {}, 1),
    (
        "digits, (100,), adam, early stopping",
        "MLPClassifier",
        lambda: datasets.load_digits(return_X_y=True),
        {"early_stopping": True},
        1,
    ),
    ("digits, (100,), sgd", "MLPClassifier", lambda: datasets.load_digits(return_X_y=True), {"solver": "sgd"}, 1),
    ("digits, (100,), lbfgs", "MLPClassifier", lambda: datasets.load_digits(return_X_y=True), {"solver": "lbfgs"}, 1),
    (
        "20,000 x 50, (100, 100), adam, 10 epochs",
        "MLPRegressor",
        _regression,
        {"hidden_layer_sizes": (100, 100), "max_iter": 10},
        1,
    ),
    ("MNIST, (100,), sgd, 10 epochs", "MLPClassifier", _images(60_000, "f8"), {"solver": "sgd", "max_iter": 10}, 1),
    ("MNIST, (100,), adam, 10 epochs", "MLPClassifier", _images(60_000, "f8"), {"max_iter": 10}, 1),
    (
        "MNIST, float32, (100,), adam, 10 epochs",
        "MLPClassifier",
        _images(60_000, "f4"),
        {"max_iter": 10},
        1,
    ),
    (
        "digits, (100,), adam, weights",
        "MLPClassifier",
        _weighted(lambda: datasets.load_digits(return_X_y=True)),
        {},
        1,
    ),
    (
        "MNIST, float32, (100,), adam, weights, 10 epochs",
        "MLPClassifier",
        _weighted(_images(60_000, "f4")),
        {"max_iter": 10},
        1,
    ),
    (
        "20,000 of MNIST, (512, 512), adam, 5 epochs",
        "MLPClassifier",
        _images(20_000, "f8"),
        {"hidden_layer_sizes": (512, 512), "max_iter": 5},
        1,
    ),
    (
        "20,000 of MNIST, float32, (512, 512), adam, 5 epochs",
        "MLPClassifier",
        _images(20_000, "f4"),
        {"hidden_layer_sizes": (512, 512), "max_iter": 5},
        1,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="each class fits once a round")
    parser.add_argument("--only", default="", help="the cases whose names have this in them")
    rounds, only = (arguments := parser.parse_args()).rounds, arguments.only
    warnings.simplefilter("ignore")  # what has not converged is not the point
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    facts = {
        **machine.describe(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "scikit-learn": sklearn.__version__,
        "BLAS": [{key: pool.get(key) for key in ("internal_api", "architecture", "num_threads")} for pool in pools],
    }
    for name, value in facts.items():
        print(f"{name}: {value}")
    print("\n| | scikit-learn | gpunet | times as fast | quartiles | by |\n|---|---|---|---|---|---|")
    results = []
    for name, estimator, load, settings, fits in CASES:
        if only not in name:
            continue
        given = load()
        seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(rounds + 1):
            for who, module in (("theirs", neural_network), ("ours", gpunet.sklearn)):
                options = {**settings, **({"device": "cpu"} if who == "ours" else {})}
                time.sleep(_PAUSE)
                started = time.perf_counter()
                for _ in range(fits):
                    model = getattr(module, estimator)(random_state=1, **options).fit(*given)
                seconds[who].append((time.perf_counter() - started) / fits)
        theirs, ours = (np.array(seconds[who][1:]) for who in ("theirs", "ours"))  # the first warms up
        low, middle, high = np.percentile(theirs / ours, [25, 50, 75])
        by = model.history_.engine if hasattr(model, "history_") else "L-BFGS by SciPy"
        times = f"{np.median(theirs):.3g} s | {np.median(ours):.3g} s"
        print(f"| {name} | {times} | {middle:.2f} | {low:.2f} to {high:.2f} | {by} |", flush=True)
        results.append({"case": name, "theirs": theirs.tolist(), "ours": ours.tolist(), "ratio": middle, "by": by})
    if not only:
        path = Path(__file__).parent / "results" / "sklearn_fit.json"
        path.write_text(json.dumps({**facts, "rounds": rounds, "cases": results}, indent=1) + "\n")
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
