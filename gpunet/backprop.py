"""The backpropagation algorithm, as chapter 2 of Michael Nielsen's book writes it.

A mini-batch of m examples is a matrix with one example a column (the chapter's closing problem, "Fully
matrix-based approach to backpropagation over a mini-batch"). Layer 0 is the input; for layer l = 1 ... L

    w^l       (n_l, n_{l-1})   weights      a^l, z^l, delta^l   (n_l, m)
    b^l       (n_l, 1)         biases

Nothing here knows which array library runs it: `ops` is a backend, whose verbs write into `out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpunet.activations import Activation
from gpunet.backends.base import Array, Backend
from gpunet.costs import Cost


@dataclass(frozen=True)
class Layer:
    """The parameters of layer l and its activation f."""

    weights: Array
    biases: Array
    activation: Activation


class Workspace:
    """The arrays a^l, z^l and delta^l of one mini-batch of m examples, indexed by the book's l.

    z[l] is the same memory as a[l] where f' comes from a alone, unless `keep_z`. With `dropout` mask[l] is what layer
    l's activations are multiplied with on their way to the next layer, and fed[l] the product; without, fed[l] is
    a[l]. With `weighted`, weights are those of the examples, (1, m).
    """

    def __init__(
        self,
        ops: Backend,
        layers: Sequence[Layer],
        m: int,
        dtype: str,
        keep_z: bool = False,
        dropout: Sequence[float] = (),
        weighted: bool = False,
    ) -> None:
        def columns(n: int) -> Array:
            return ops.empty((m, n), dtype).T

        sizes = [layer.weights.shape[0] for layer in layers]
        n_in, n_out = layers[0].weights.shape[1], sizes[-1]
        self.m = m
        self.y = columns(n_out)
        self.a = [columns(n_in)] + [columns(n) for n in sizes]
        self.z = [None] + [
            columns(n) if keep_z or layer.activation.needs_z else a
            for n, layer, a in zip(sizes, layers, self.a[1:], strict=True)
        ]
        self.delta = [None] + [columns(n) for n in sizes]
        self.mask = [columns(a.shape[0]) if share else None for a, share in zip(self.a, dropout, strict=False)]
        self.mask += [None] * (len(self.a) - len(self.mask))
        self.fed = [a if mask is None else columns(a.shape[0]) for a, mask in zip(self.a, self.mask, strict=True)]
        self.weights = columns(1) if weighted else None


def feedforward(ops: Backend, layers: Sequence[Layer], work: Workspace) -> Array:
    """Compute a^l = f(w^l a^{l-1} + b^l) for every layer from work.a[0], equation (25); return a^L."""
    a, z, fed, mask = work.a, work.z, work.fed, work.mask
    for l, layer in enumerate(layers, start=1):
        if mask[l - 1] is not None:
            ops.hadamard(a[l - 1], mask[l - 1], out=fed[l - 1])
        ops.layer_forward(layer.weights, fed[l - 1], layer.biases, layer.activation, z=z[l], out=a[l])  # (25)
    return a[-1]


def backpropagate(
    ops: Backend, layers: Sequence[Layer], cost: Cost, work: Workspace, total: Array | None = None
) -> None:
    """Compute the error delta^l of every layer from the output's work.a[L] and the wanted work.y.

    With `total`, the batch's cost is added to it.
    """
    z, a, delta, mask = work.z, work.a, work.delta, work.mask
    L, weights = len(layers), work.weights
    unweighted = total if weights is None else None
    ops.output_error(cost, layers[-1].activation, z[L], a[L], work.y, out=delta[L], total=unweighted)  # BP1
    if weights is not None:
        ops.weigh(cost, a[L], work.y, weights, delta[L], total)
    for l in range(L - 1, 0, -1):
        this, following = layers[l - 1], layers[l]
        if mask[l] is None:
            ops.layer_backward(following.weights, delta[l + 1], this.activation, z[l], a[l], out=delta[l])  # BP2
        else:  # the mask stands between f and the next layer: softmax's f' mixes what it drops with the rest
            ops.matmul(following.weights.T, delta[l + 1], out=delta[l])
            ops.hadamard(delta[l], mask[l], out=delta[l])
            ops.hadamard_prime(delta[l], this.activation, z[l], a[l], out=delta[l])


def gradient(
    ops: Backend,
    work: Workspace,
    nabla: Sequence[tuple[Array, Array]],
    alpha: float = 1.0,
    beta: float = 0.0,
    decay: float = 0.0,
) -> None:
    """Accumulate alpha * gradient + beta * nabla into `nabla`, pairs (nabla_b, nabla_w) by layer.

    The gradient is summed over the m examples. With alpha = -eta/m and beta = 1, and the parameters themselves as
    `nabla`, this is the step of gradient descent, equations (20) and (21); with decay = eta lambda/n too it is that
    of L2 regularization, equation (93). `decay` is what beta is less for the weights.
    """
    for l, (nabla_b, nabla_w) in enumerate(nabla, start=1):
        ops.layer_gradient(  # BP3, BP4
            work.delta[l], work.fed[l - 1], nabla_b, nabla_w, alpha=alpha, beta_b=beta, beta_w=beta - decay
        )


def per_example_gradient(ops: Backend, work: Workspace, nabla: Sequence[tuple[Array, Array]]) -> None:
    """Write the gradient of each example into `nabla`: (m, n_l, 1) and (m, n_l, n_{l-1}) by layer."""
    for l, (nabla_b, nabla_w) in enumerate(nabla, start=1):
        ops.copy(work.delta[l].T[:, :, None], out=nabla_b)  # BP3
        ops.outer_batch(work.delta[l], work.fed[l - 1], out=nabla_w)  # BP4
