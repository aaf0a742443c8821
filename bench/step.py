"""One step of SGD on [784, 30, 10], mini-batch 10: the matrix form, the book's loop, and what people use today.

python bench/step.py [--device cuda] [--rounds 30]

The contenders take the same mini-batches of MNIST in the same order and are timed in turn in each round, on one
thread. gpunet and the book's loop are first shown to compute the same. PyTorch and scikit-learn join in if they are
installed: PyTorch eager with its SGD, scikit-learn's MLPClassifier with the nearest it has (its own cost, one epoch
of `fit`).
"""

from __future__ import annotations

import argparse
import os
import warnings

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when NumPy loads

import numpy as np
from book import BookNetwork
from harness import interleave, machine, median_ratio, print_machine, quartiles, write_results

from gpunet import Network, datasets
from gpunet.training.sgd import MiniBatchSGD

SIZES, BATCH, ETA, STEPS = [784, 30, 10], 10, 3.0, 200


def gpunet_steps(device, dtype, X, labels):
    """Return a function that takes STEPS steps as `fit` takes them, and the network."""
    net = Network(SIZES, seed=0, dtype=dtype, device=device)
    model = net._model  # the loop below is what fit runs, without its checks of the data
    Y = np.eye(10, dtype=np.uint8)[labels]
    sgd = MiniBatchSGD(model, model.ops.asarray(X, dtype), model.ops.asarray(Y), BATCH, ETA, None)
    batches = [model.ops.asarray(np.arange(i * BATCH, (i + 1) * BATCH)) for i in range(STEPS)]

    def run():
        with model.ops.active():
            for batch in batches:
                sgd.step(batch)
            model.ops.to_numpy(model.parameters.biases[-1])  # waits for the device

    return run, net


def book_steps(net, X, labels):
    """Return a function that takes STEPS steps of the book's loop from the parameters of `net`."""
    book = BookNetwork(SIZES, np.random.default_rng(0))
    book.weights = [w.astype(np.float64) for w in net.weights]
    book.biases = [b.astype(np.float64) for b in net.biases]
    xs = X.astype(np.float64)[:, :, None]
    ys = np.eye(10)[labels][:, :, None]
    batches = [list(zip(xs[i : i + BATCH], ys[i : i + BATCH], strict=True)) for i in range(0, len(xs), BATCH)]

    def run():
        for batch in batches:
            book.update_mini_batch(batch, ETA)

    return run, book


def other_libraries(X, labels):
    """Return the contenders that are installed, each taking STEPS steps."""
    found = {}
    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(1)
        xs, ys = torch.from_numpy(X), torch.from_numpy(np.eye(10, dtype=np.float32)[labels])
        layers = [torch.nn.Linear(784, 30), torch.nn.Sigmoid(), torch.nn.Linear(30, 10), torch.nn.Sigmoid()]
        net = torch.nn.Sequential(*layers)
        optimizer = torch.optim.SGD(net.parameters(), lr=ETA)

        def torch_steps():
            for i in range(0, len(xs), BATCH):
                cost = 0.5 * ((net(xs[i : i + BATCH]) - ys[i : i + BATCH]) ** 2).sum() / BATCH
                optimizer.zero_grad()
                cost.backward()
                optimizer.step()

        found[f"PyTorch {torch.__version__}, float32"] = torch_steps
    try:
        import sklearn
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        return found
    warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is all that is asked for
    settings = {"activation": "logistic", "solver": "sgd", "momentum": 0.0, "alpha": 0.0, "shuffle": False}

    def sklearn_steps():
        MLPClassifier((30,), batch_size=BATCH, learning_rate_init=0.5, max_iter=1, **settings).fit(X, labels)

    found[f"scikit-learn {sklearn.__version__}, float32"] = sklearn_steps
    return found


def check_same(net, book):
    """Refuse to time two things that do not compute the same."""
    for w, expected in zip(net.weights, book.weights, strict=True):
        error = np.linalg.norm(w - expected) / np.linalg.norm(expected)
        if not error < 1e-10:
            raise SystemExit(f"gpunet and the book's loop disagree by {error:.1e}; nothing was timed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()

    data = datasets.mnist()
    n = BATCH * STEPS
    X, labels = data.X[:n].astype(np.float32) / 256, data.y[:n]
    run64, net64 = gpunet_steps(options.device, "float64", X, labels)
    book, book_network = book_steps(net64, X, labels)
    run64(), book()
    check_same(net64, book_network)
    run32, net32 = gpunet_steps(options.device, "float32", X, labels)

    contenders = {"book's loop, float64": book, "gpunet, float64": run64, "gpunet, float32": run32}
    contenders |= other_libraries(X, labels)
    seconds = interleave(contenders, options.rounds)
    found = {**machine(), "device": net32.device}
    print_machine(found)
    print(f"one step of {SIZES}, mini-batch {BATCH}, microseconds")
    print(f"{'':30} {'median':>9} {'quartiles':>19}   book's loop takes")
    rows = {}
    for name, times in seconds.items():
        low, median, high = (t / STEPS * 1e6 for t in quartiles(times))
        ratio = median_ratio(seconds["book's loop, float64"], times)
        print(f"{name:30} {median:9.1f} {low:9.1f} {high:9.1f}   {ratio:.1f} x")
        rows[name] = {"median_us": median, "quartiles_us": [low, high], "book_over_this": ratio}
    print("\nwritten to", write_results(f"step-{options.device}", {"machine": found, "steps": rows}).name)


if __name__ == "__main__":
    main()
