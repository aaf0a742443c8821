"""Settings with a name, for `gpunet train --preset NAME`: options of `gpunet.cli.runs.Run` and their values."""

from __future__ import annotations

from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    # Chapter 1 of the book: what `gpunet train` does without options.
    "book": {
        "hidden": [30],
        "activation": "sigmoid",
        "output_activation": "sigmoid",
        "cost": "quadratic",
        "epochs": 30,
        "batch_size": 10,
        "eta": 3.0,
        "optimizer": "sgd",
    },
    # MNIST at its best: chosen by the 10,000 images of the training set that the book keeps for validation.
    "best": {
        "hidden": [1024],
        "activation": "relu",
        "cost": "log-likelihood",
        "epochs": 20,
        "batch_size": 128,
        "eta": 0.001,
        "optimizer": "adam",
        "schedule": "cosine",
        "l2": 2.0,
        "label_smoothing": 0.1,
    },
}
