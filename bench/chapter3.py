"""The run of the book's chapter 3: [784, 100, 10], cross-entropy, lambda 5, eta 0.5, 30 epochs on 50,000 images.

The book reports 97.92 % of the validation images.
"""

import json
import time
from pathlib import Path

from gpunet import Network, datasets


def main() -> None:
    data = datasets.mnist()
    runs = []
    for seed in (1, 2, 3):
        net = Network([784, 100, 10], cost="cross-entropy", init="scaled", input_scale=data.input_scale, seed=seed)
        started = time.perf_counter()
        history = net.fit(
            data.X[:50_000],
            data.y[:50_000],
            epochs=30,
            batch_size=10,
            eta=0.5,
            l2=5.0,
            validation_data=(data.X[50_000:], data.y[50_000:]),
        )
        run = {
            "seed": seed,
            "validation": history.validation_score[-1],
            "best_validation": max(history.validation_score),
            "test": net.score(data.X_test, data.y_test),
            "seconds": round(time.perf_counter() - started, 1),
            "engine": history.engine,
            "backend": history.backend,
        }
        runs.append(run)
        print(
            f"seed {seed}: {run['validation']:.2%} of the validation images (at best {run['best_validation']:.2%}), "
            f"{run['test']:.2%} of the test images, {run['seconds']} s"
        )
    path = Path(__file__).parent / "results" / "chapter3.json"
    path.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
