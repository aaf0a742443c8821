"""Every combination of activations and cost that gpunet accepts, beside the textbook's formulas for it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from oracles import book

import gpunet
from gpunet.activations import LeakyReLU
from gpunet.costs import Huber, Quantile

SIZES = [5, 4, 6, 3]


def custom_from_z():
    return gpunet.Activation(
        "halfway", lambda z, xp: 0.5 + z / (2 * (1 + xp.abs(z))), lambda z, xp: 1 / (2 * (1 + xp.abs(z)) ** 2)
    )


def custom_from_a():
    """The same function with f' from a: |2a - 1| = |z| / (1 + |z|), so 1 / (1 + |z|) = 1 - |2a - 1|."""
    return gpunet.Activation(
        "halfway from a",
        lambda z, xp: 0.5 + z / (2 * (1 + xp.abs(z))),
        lambda a, xp: 0.5 * (1 - xp.abs(2 * a - 1)) ** 2,
        derivative_of="a",
    )


def custom_cost():
    return gpunet.Cost("quartic", lambda a, y, xp: xp.sum((a - y) ** 4, axis=0), lambda a, y, xp: 4 * (a - y) ** 3)


#: name -> (what gpunet takes, the textbook's, PyTorch's as a function of (z, torch))
ACTIVATIONS: dict[str, Any] = {
    "sigmoid": ("sigmoid", book.SIGMOID, lambda z, torch: torch.sigmoid(z)),
    "tanh": ("tanh", book.TANH, lambda z, torch: torch.tanh(z)),
    "relu": ("relu", book.RELU, lambda z, torch: torch.relu(z)),
    "leaky_relu": ("leaky_relu", book.LEAKY_RELU, lambda z, torch: torch.nn.functional.leaky_relu(z)),
    "leakier_relu": (LeakyReLU(0.3), book.LEAKIER_RELU, lambda z, torch: torch.nn.functional.leaky_relu(z, 0.3)),
    "elu": ("elu", book.ELU, lambda z, torch: torch.nn.functional.elu(z)),
    "gelu": ("gelu", book.GELU, lambda z, torch: torch.nn.functional.gelu(z, approximate="tanh")),
    "silu": ("silu", book.SILU, lambda z, torch: torch.nn.functional.silu(z)),
    "softplus": ("softplus", book.SOFTPLUS, lambda z, torch: torch.nn.functional.softplus(z)),
    # PyTorch's own hardsigmoid has 1/6 in float32 in its derivative.
    "hard_sigmoid": ("hard_sigmoid", book.HARD_SIGMOID, lambda z, torch: torch.clamp(z / 6 + 0.5, 0, 1)),
    "exp": ("exp", book.EXP, lambda z, torch: torch.exp(z)),
    "linear": ("linear", book.LINEAR, lambda z, torch: z),
    "softmax": ("softmax", book.SOFTMAX, lambda z, torch: torch.softmax(z, dim=0)),
    "custom": (custom_from_z(), book.HALFWAY, lambda z, torch: 0.5 + z / (2 * (1 + z.abs()))),
    "custom_a": (custom_from_a(), book.HALFWAY, lambda z, torch: 0.5 + z / (2 * (1 + z.abs()))),
    "mixed": (
        gpunet.mixed("sigmoid", {1: "tanh"}),
        book.row_by_row(book.SIGMOID, {1: book.TANH}),
        lambda z, torch: torch.cat([torch.sigmoid(z[:1]), torch.tanh(z[1:2]), torch.sigmoid(z[2:])]),
    ),
    "mixed_linear": (
        gpunet.mixed("linear", {0: "relu", 2: custom_from_z()}),
        book.row_by_row(book.LINEAR, {0: book.RELU, 2: book.HALFWAY}),
        lambda z, torch: torch.cat([torch.relu(z[:1]), z[1:2], 0.5 + z[2:3] / (2 * (1 + z[2:3].abs())), z[3:]]),
    ),
}

COSTS: dict[str, Any] = {
    "quadratic": ("quadratic", book.QUADRATIC, lambda a, y: 0.5 * ((a - y) ** 2).sum()),
    "cross-entropy": (
        "cross-entropy",
        book.CROSS_ENTROPY,
        lambda a, y: -(y * a.log() + (1 - y) * (1 - a).log()).sum(),
    ),
    "log-likelihood": ("log-likelihood", book.LOG_LIKELIHOOD, lambda a, y: -(y * a.log()).sum()),
    "huber": (Huber(0.4), book.HUBER, lambda a, y: of_torch("huber_loss", a, y, delta=0.4)),
    "absolute": ("absolute", book.ABSOLUTE, lambda a, y: of_torch("l1_loss", a, y)),
    "quantile": (Quantile(0.8), book.QUANTILE, lambda a, y: (0.8 * (y - a)).maximum(-0.2 * (y - a)).sum()),
    "poisson": ("poisson", book.POISSON, lambda a, y: poisson_of_torch(a, y)),
    "hinge": ("hinge", book.HINGE, lambda a, y: (1 - (2 * y - 1) * a).clamp(min=0).sum()),
    "quartic": (custom_cost(), book.QUARTIC, lambda a, y: ((a - y) ** 4).sum()),
}


def of_torch(name, a, y, **options):
    import torch

    return getattr(torch.nn.functional, name)(a, y, reduction="sum", **options)


def poisson_of_torch(a, y):
    """Half the deviance: PyTorch leaves out what no network changes."""
    return of_torch("poisson_nll_loss", a, y, log_input=False, eps=0.0) + (y.xlogy(y) - y).sum()


#: Where the derivatives of f and C jump: in z, and in what of a and y.
KINKS = {"relu": (0,), "leaky_relu": (0,), "leakier_relu": (0,), "mixed_linear": (0,), "hard_sigmoid": (-3, 3)}
COST_KINKS: dict[str, Any] = {
    "absolute": lambda a, y: a - y,
    "quantile": lambda a, y: a - y,
    "hinge": lambda a, y: 1 - (2 * y - 1) * a,
}


@dataclass(frozen=True)
class Case:
    """A network's activations, by layer, and its cost, by their names above."""

    activations: tuple[str, ...]
    cost: str

    def __str__(self):
        return "-".join((*self.activations, self.cost))

    def network(self, **options):
        """A gpunet.Network with parameters in which nothing saturates, no z of a ReLU near 0."""
        options = {"dtype": "float64", "device": "cpu", "seed": 1, "init": "scaled", **options}
        return gpunet.Network(
            options.pop("sizes", SIZES),
            activation=[ACTIVATIONS[name][0] for name in self.activations],
            cost=COSTS[self.cost][0],
            **options,
        )

    def book(self, network):
        """The book's network with the same parameters."""
        functions = [ACTIVATIONS[name][1] for name in self.activations]
        return book.Network(network.weights, network.biases, functions, COSTS[self.cost][1])

    def data(self, m=7, sizes=SIZES, seed=2):
        """x (n_in, m) and y (n_out, m) in (0, 1), whose columns do not sum to 1."""
        rng = np.random.default_rng(seed)
        return rng.standard_normal((sizes[0], m)), rng.uniform(0.1, 0.9, (sizes[-1], m))


#: The quadratic cost with every output; the others with those that they are for, or with two that differ in kind.
OUTPUTS = [Case(("tanh", "sigmoid", f), "quadratic") for f in ACTIVATIONS] + [
    Case(("tanh", "sigmoid", f), cost)
    for cost, outputs in {
        "quartic": ("sigmoid", "softmax", "mixed", "gelu"),
        "cross-entropy": ("sigmoid", "custom", "custom_a"),
        "log-likelihood": ("softmax", "custom"),
        "huber": ("linear", "gelu"),
        "absolute": ("linear", "sigmoid"),
        "quantile": ("linear", "softplus"),
        "poisson": ("exp", "custom"),
        "hinge": ("linear", "custom"),
    }.items()
    for f in outputs
]
HIDDEN = [Case((f, f, "sigmoid"), "cross-entropy") for f in ACTIVATIONS if f != "exp"] + [
    Case(("exp", "tanh", "sigmoid"), "cross-entropy"),  # the exponential of an exponential saturates everything
    Case(("softmax", "relu", "softmax"), "log-likelihood"),
    Case(("relu", "mixed_linear", "linear"), "quadratic"),
]
ALL = OUTPUTS + HIDDEN


def assert_close(got, wanted, relative=1e-10):
    """Both are lists of arrays by layer; each array agrees up to `relative` times its largest entry."""
    assert len(got) == len(wanted)
    for l, (g, w) in enumerate(zip(got, wanted, strict=True), start=1):
        assert g.shape == w.shape, f"layer {l}"
        scale = np.abs(w).max()
        assert scale > 0, f"layer {l}: a gradient that is zero everywhere shows nothing"
        assert np.abs(g - w).max() <= relative * scale, f"layer {l}: {np.abs(g - w).max() / scale:.1e}"
