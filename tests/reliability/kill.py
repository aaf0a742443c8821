"""Kill a training at random moments, again and again, and go on from its checkpoint: nothing may be lost or changed.

    python tests/reliability/kill.py --kills 200

Each child trains a tiny network that is saved after every epoch, so that most moments are within a write. After each
kill the file must be a whole checkpoint; where a training comes to its end, its bits must be those of one that was
never killed.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process that is forked should have one thread

import numpy as np

from gpunet import EarlyStopping, Network, schedules
from gpunet.training import checkpoint

TRAININGS = {
    "sgd": {"epochs": 25, "eta": 0.5},
    "adam": {
        "epochs": 25,
        "optimizer": "adam",
        "eta": schedules.Cosine(0.02, 25, warm_up=3),
        "dropout": 0.2,
        "l1": 0.01,
        "validation_split": 0.2,
        "early_stopping": EarlyStopping(20, "validation_score"),
        "class_weight": "balanced",
    },
}


def trained(options, **more):
    """Return a trained network; its seed decides only where nothing is gone on from."""
    rng = np.random.default_rng(5)
    y = np.arange(60) % 3
    X = rng.normal(size=(60, 4)) * 0.3 + np.eye(4)[y]
    net = Network([4, 5, 3], activation="tanh", cost="cross-entropy", device="cpu", seed=1)
    net.fit(X, y, **options, **more)
    return net


def state(net):
    """Return all that two equal trainings have in common."""
    parameters = [v.tobytes() for v in (*net.weights, *net.biases)]
    history = [(e.epoch, e.validation_cost, e.validation_score, e.eta) for e in net.history.epochs]
    return parameters, history, net.history.best_epoch, net._rng.bit_generator.state


def start(options, path):
    """Return the process that goes on with the training; it ends with 0 if it comes to the training's end."""
    child = os.fork()
    if child:
        return child
    try:
        trained(options, checkpoint=path, checkpoint_seconds=0, resume=True)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def kill(options, kills, rng, folder):
    """Kill so many processes; return how often what was seen."""
    path, whole = folder / "training", state(trained(options))
    seen = {"kills": 0, "before the first epoch was saved": 0, "within a write": 0, "trainings that ended": 0}
    epochs, most, before = set(), 0.03, 0
    while seen["kills"] < kills:
        child = start(options, path)
        time.sleep(rng.uniform(0, most))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0, "the training failed"
            net = trained(options, checkpoint=path, resume=True)
            assert state(net) == whole, "another network than that of a training that was never killed"
            assert os.listdir(folder) == ["training"]
            seen["trainings that ended"] += 1
            path.unlink()
            before = 0
            continue
        seen["kills"] += 1
        parts = list(folder.glob(".training.*.part"))
        assert len(parts) <= 1, "what earlier processes have left is removed"
        seen["within a write"] += len(parts)
        for part in parts:
            os.utime(part, (0, 0))  # until the next process begins, hours pass
        if path.exists():
            saved = len(checkpoint.read(path).snapshot.history.epochs)
            epochs.add(saved)
        else:
            saved = 0
            seen["before the first epoch was saved"] += 1
        assert saved >= before, "epochs were lost"
        most *= (
            0.9 if saved > before else 1.5
        )  # seconds: about half of the processes save an epoch, however busy it is
        before = saved
    # The last one is brought to its end, too.
    assert state(trained(options, checkpoint=path, resume=True)) == whole, "another network after the last kill"
    seen["trainings that ended"] += 1
    seen["different epochs that were gone on from"] = len(epochs)
    return seen


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10, help="how many for each kind of training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking, from Python 3.12 on
    rng = random.Random(arguments.seed)
    for name, options in TRAININGS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"training": name, **kill(options, arguments.kills, rng, Path(folder))}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
