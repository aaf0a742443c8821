"""In what sense is backpropagation fast? The chapter's section of that name, measured.

python bench/backprop_cost.py

For networks of growing numbers of weights: the time of a forward pass, of backpropagation (forward and backward
pass, all gradients), and what the obvious way would take: equation (46), a forward pass for every weight and
bias. The last is a sample of that many forward passes, multiplied up; the factor is printed. One BLAS thread.
"""

from __future__ import annotations

import os

for _name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # read when NumPy loads

import numpy as np
from harness import RESULTS, interleave, machine, median_ratio, print_machine, quartiles, write_results

from gpunet import Network
from gpunet.backprop import backpropagate, feedforward, gradient
from gpunet.parameters import Parameters

WIDTHS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
BATCH, ROUNDS = 10, 31


def contenders(width):
    """Return the number of parameters of a [width, width, width, 10] network, and its two passes."""
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

    return model.parameters.flat.shape[0], {"forward": forward, "backprop": backprop}


def plot(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    parameters = [row["parameters"] for row in rows]
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for key, label, style in (
        ("differences_us", "equation (46): a forward pass per parameter", "s--"),
        ("backprop_us", "backpropagation", "o-"),
        ("forward_us", "one forward pass", "^-"),
    ):
        axes.loglog(parameters, [row[key] for row in rows], style, label=label)
    axes.set_xlabel("weights and biases")
    axes.set_ylabel("microseconds for the gradient of a mini-batch of 10")
    axes.set_title("In what sense is backpropagation fast?")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    found = machine()
    print_machine(found)
    print(f"networks [n, n, n, 10], mini-batch {BATCH}, float32; microseconds, medians of {ROUNDS} rounds")
    print("    n  parameters    forward   backprop  ratio       eq. (46)  eq. (46) / backprop")
    rows = []
    for width in WIDTHS:
        parameters, passes = contenders(width)
        seconds = interleave(passes, ROUNDS, calls=max(1, 2000 // width))
        forward, backprop = (quartiles(seconds[name])[1] * 1e6 for name in ("forward", "backprop"))
        row = {
            "width": width,
            "parameters": parameters,
            "forward_us": forward,
            "backprop_us": backprop,
            "backprop_over_forward": median_ratio(seconds["backprop"], seconds["forward"]),
            "differences_us": forward * (parameters + 1),
        }
        rows.append(row)
        print(
            f"{width:5} {parameters:11,} {forward:10.1f} {backprop:10.1f} {row['backprop_over_forward']:6.2f} "
            f"{row['differences_us']:14,.0f}  {row['differences_us'] / backprop:,.0f}"
        )
    print("\nwritten to", write_results("backprop_cost", {"machine": found, "rows": rows}).name, "and its .png")
    plot(rows, RESULTS / "backprop_cost.png")


if __name__ == "__main__":
    main()
