"""In what sense is backpropagation fast? The chapter's section of that name, measured.

python bench/backprop_cost.py

For networks of growing numbers of weights: the time of a forward pass, of backpropagation (forward and backward
pass, all gradients), and of the obvious way, equation (46): for every weight and bias a forward pass with that one
changed a little. The obvious way is run for networks of up to 10,000 parameters; beyond, it is the forward pass
times their number, and marked so. One BLAS thread.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when NumPy loads

import json
import statistics
import time
from pathlib import Path

import numpy as np

from gpunet import Network
from gpunet.backprop import backpropagate, feedforward, gradient
from gpunet.benchmarks import machine
from gpunet.benchmarks.worker import thread_pools, versions
from gpunet.parameters import Parameters

RESULTS = Path(__file__).with_name("results")

WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH, ROUNDS, DIFFERENCE_ROUNDS = 10, 31, 5
MOST_DIFFERENCES = 10_000
STEP = 1e-3


def interleave(calls, rounds, times=1):
    """Time each call in every round, in turn; return the seconds that one took, round by round."""
    seconds = {name: [] for name in calls}
    for round_number in range(-2, rounds):  # two rounds to warm up
        for name, call in calls.items():
            started = time.perf_counter()
            for _ in range(times):
                call()
            if round_number >= 0:
                seconds[name].append((time.perf_counter() - started) / times)
    return seconds


def contenders(width):
    """Return the number of parameters of a [width, width, width, 10] network, its two passes, and equation (46)."""
    net = Network([width, width, width, 10], seed=0, device="cpu")
    model = net._model
    ops, layers, work = model.ops, model.layers, model.workspace(BATCH)
    rng = np.random.default_rng(1)
    work.a[0][...], work.y[...] = rng.random(work.a[0].shape), rng.random(work.y.shape)
    nabla = Parameters(ops, net.sizes, net.dtype).pairs()

    def forward():
        feedforward(ops, layers, work)

    def backprop():
        feedforward(ops, layers, work)
        backpropagate(ops, layers, model.cost, work)
        gradient(ops, work, nabla)

    parameters = model.parameters.flat
    slopes = np.empty_like(parameters)

    def cost():
        return model.cost.value(feedforward(ops, layers, work), work.y, np).sum()

    def differences():
        base = cost()
        for j in range(parameters.size):
            value = parameters[j]
            parameters[j] = value + STEP
            slopes[j] = (cost() - base) / STEP
            parameters[j] = value

    return parameters.size, {"forward": forward, "backprop": backprop}, {"differences": differences}


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    measured = [row for row in rows if row["differences_measured"]]
    for chosen, key, label, style in (
        (rows[len(measured) - 1 :], "differences_us", "equation (46), reckoned from the forward pass", "s:C0"),
        (measured, "differences_us", "equation (46), a forward pass per parameter", "s-C0"),
        (rows, "backprop_us", "backpropagation", "o-C1"),
        (rows, "forward_us", "one forward pass", "^-C2"),
    ):
        white = {"markerfacecolor": "white"} if "reckoned" in label else {}
        axes.loglog([row["parameters"] for row in chosen], [row[key] for row in chosen], style, label=label, **white)
    axes.set_xlabel("weights and biases")
    axes.set_ylabel("microseconds for the gradient of a mini-batch of 10")
    axes.set_title("In what sense is backpropagation fast?")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    found = {**machine.describe(), "versions": versions(("numpy", "scipy")), "pools": thread_pools()}
    for name, value in found.items():
        print(f"{name}: {value}")
    print(f"networks [n, n, n, 10], mini-batch {BATCH}, float32; microseconds, medians of {ROUNDS} rounds")
    print("    n  parameters    forward   backprop  ratio       eq. (46)  eq. (46) / backprop")
    rows = []
    for width in WIDTHS:
        parameters, passes, obvious = contenders(width)
        seconds = interleave(passes, ROUNDS, times=max(1, 2000 // width))
        forward, backprop = (statistics.median(seconds[name]) * 1e6 for name in ("forward", "backprop"))
        measured = parameters <= MOST_DIFFERENCES
        if measured:
            differences = statistics.median(interleave(obvious, DIFFERENCE_ROUNDS)["differences"]) * 1e6
        else:
            differences = forward * (parameters + 1)
        row = {
            "width": width,
            "parameters": parameters,
            "forward_us": forward,
            "backprop_us": backprop,
            "backprop_over_forward": statistics.median(
                b / f for b, f in zip(seconds["backprop"], seconds["forward"], strict=True)
            ),
            "differences_us": differences,
            "differences_measured": measured,
        }
        rows.append(row)
        print(
            f"{width:5} {parameters:11,} {forward:10.1f} {backprop:10.1f} {row['backprop_over_forward']:6.2f} "
            f"{differences:14,.0f}{' ' if measured else '*'} {differences / backprop:11,.0f}"
        )
    print("* reckoned: the forward pass times the number of parameters")
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": found, "rows": rows}, indent=1)
    (RESULTS / "backprop_cost.json").write_text(text + "\n", encoding="utf-8")
    print("\nwritten to bench/results/backprop_cost.json and its .png")
    plot(rows, RESULTS / "backprop_cost.png")


if __name__ == "__main__":
    main()
