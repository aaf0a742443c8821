"""Optimizers: from the gradient of a mini-batch to the step that the parameters take.

Plain SGD seldom needs this: BP3 and BP4 accumulate straight into the parameters. Every other optimizer is one pass
over all parameters at once, which lie in one flat buffer. Its formula is written once, against an Array API namespace
`xp`; `update_into` is the same for namespaces whose functions take `out=`, and `cuda` the same as CUDA C++.

In the formulas w is a parameter, g its gradient (the mini-batch's mean, with the penalties of L1 and L2), v what the
optimizer remembers of it from step to step, and c what is the same for all parameters, which may change from step to
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from gpunet import checks
from gpunet.errors import InputError

Array = Any
Namespace = Any


class Penalty(NamedTuple):
    """What pulls the weights, not the biases, towards 0 at each step.

    Attributes
    ----------
    l2, l1 : float
        l2 * w + l1 * sign(w) is added to the gradient.
    decay : float
        The share of w that is taken from it before the step, whatever the optimizer then makes of the gradient.
    """

    l2: float = 0.0
    l1: float = 0.0
    decay: float = 0.0


class Optimizer:
    """What the optimizers have in common; choose one by its name or make one of its classes."""

    name: str
    #: How many numbers it remembers of each parameter.
    states: int
    #: The learning rate that is usual where each parameter's step is scaled; None: it depends on the network.
    usual_eta: float | None = None
    #: The weight decay that is usual with it.
    usual_weight_decay: float = 0.0
    #: CUDA C++ statements that change ``w``, ``v0`` and ``v1``, given ``g`` and ``c[0]``, ``c[1]``, ...
    cuda: str

    def settings(self) -> dict[str, float | bool]:
        """Return its constants by their names."""
        return {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.settings().items())})"

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return c for each of the steps, which are numbered from 1: (len(step), number of coefficients)."""
        raise NotImplementedError

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        """Return the new w and v."""
        raise NotImplementedError

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        """Write the new w and v in place of the old; g may be overwritten too."""
        raise NotImplementedError


class SGD(Optimizer):
    """Gradient descent, w -> w - eta g, equations (20) and (21)."""

    name = "sgd"
    states = 0
    cuda = "w -= c[0] * g;"

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.full((len(step), 1), eta)

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        return (w - c[0] * g,)

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        xp.multiply(g, c[0], out=g)
        xp.subtract(w, g, out=w)


class Momentum(Optimizer):
    """Gradient descent with momentum, v -> mu v - eta g, w -> w + v, equations (107) and (108).

    Parameters
    ----------
    mu : float, default 0.9
        How much of the velocity v a step keeps, 0 <= mu <= 1.
    nesterov : bool, default False
        Whether to step by mu v - eta g with the new v, as Nesterov's accelerated gradient does, in the form of
        Sutskever et al., "On the importance of initialization and momentum in deep learning" (2013).
    """

    states = 1

    def __init__(self, mu: float = 0.9, *, nesterov: bool = False) -> None:
        self.mu = checks.from_0_to_1(mu, "mu")
        self.nesterov = bool(nesterov)
        self.name = "nesterov" if self.nesterov else "momentum"
        self.cuda = "v0 = c[1] * v0 - c[0] * g; w += " + ("c[1] * v0 - c[0] * g;" if self.nesterov else "v0;")

    def settings(self) -> dict[str, float | bool]:
        return {"mu": self.mu, "nesterov": self.nesterov}

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.tile([eta, self.mu], (len(step), 1))

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        eta, mu = c[0], c[1]
        v0 = mu * v[0] - eta * g
        return w + (mu * v0 - eta * g if self.nesterov else v0), v0

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        eta, mu = c[0], c[1]
        xp.multiply(g, eta, out=g)
        xp.multiply(v[0], mu, out=v[0])
        xp.subtract(v[0], g, out=v[0])
        if self.nesterov:
            xp.multiply(v[0], mu, out=scratch)
            xp.subtract(scratch, g, out=scratch)
            xp.add(w, scratch, out=w)
        else:
            xp.add(w, v[0], out=w)


class Adam(Optimizer):
    """Adam: Kingma and Ba, "Adam: a method for stochastic optimization" (2015), with the bias corrections.

    Parameters
    ----------
    beta1, beta2 : float
        How much of the averages of g and of g^2 a step keeps.
    epsilon : float
        Added to the root of the second average.
    epsilon_hat : bool, default False
        Whether epsilon is added before the root's bias is corrected: the form at the end of the paper's section 2,
        which scikit-learn and Keras have.
    """

    name = "adam"
    usual_eta = 0.001
    states = 2
    cuda = "v0 += c[1] * (g - v0); v1 = c[2] * v1 + c[3] * g * g; w -= c[0] * v0 / (sqrt(v1) * c[4] + c[5]);"

    def __init__(
        self, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8, *, epsilon_hat: bool = False
    ) -> None:
        self.beta1, self.beta2 = checks.share(beta1, "beta1"), checks.share(beta2, "beta2")
        self.epsilon = checks.positive_float(epsilon, "epsilon")
        self.epsilon_hat = bool(epsilon_hat)

    def settings(self) -> dict[str, float | bool]:
        constants = {"beta1": self.beta1, "beta2": self.beta2, "epsilon": self.epsilon}
        return {**constants, "epsilon_hat": True} if self.epsilon_hat else constants

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        first, second = 1 - self.beta1**step, 1 - self.beta2**step
        constant = np.ones(len(step))
        fixed = [x * constant for x in (1 - self.beta1, self.beta2, 1 - self.beta2)]
        epsilon = self.epsilon * (second**-0.5 if self.epsilon_hat else constant)
        return np.column_stack([eta / first, *fixed, second**-0.5, epsilon])

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        v0 = v[0] + c[1] * (g - v[0])
        v1 = c[2] * v[1] + c[3] * g * g
        return w - c[0] * v0 / (xp.sqrt(v1) * c[4] + c[5]), v0, v1

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        xp.subtract(g, v[0], out=scratch)
        xp.multiply(scratch, c[1], out=scratch)
        xp.add(v[0], scratch, out=v[0])
        xp.multiply(g, g, out=g)
        xp.multiply(g, c[3], out=g)
        xp.multiply(v[1], c[2], out=v[1])
        xp.add(v[1], g, out=v[1])
        xp.sqrt(v[1], out=scratch)
        xp.multiply(scratch, c[4], out=scratch)
        xp.add(scratch, c[5], out=scratch)
        xp.divide(v[0], scratch, out=scratch)
        xp.multiply(scratch, c[0], out=scratch)
        xp.subtract(w, scratch, out=w)


class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).

    It is Adam; what differs is that `fit` then takes a weight decay of 0.01 where none is given.
    """

    name = "adamw"
    usual_weight_decay = 0.01


class RMSProp(Optimizer):
    """RMSProp: each parameter's step is divided by the root of the average of its g^2.

    Parameters
    ----------
    rho : float
        How much of that average a step keeps.
    epsilon : float
        Added to the root.
    """

    name = "rmsprop"
    usual_eta = 0.001
    states = 1
    cuda = "v0 = c[1] * v0 + c[2] * g * g; w -= c[0] * g / (sqrt(v0) + c[3]);"

    def __init__(self, rho: float = 0.99, epsilon: float = 1e-8) -> None:
        self.rho, self.epsilon = checks.share(rho, "rho"), checks.positive_float(epsilon, "epsilon")

    def settings(self) -> dict[str, float | bool]:
        return {"rho": self.rho, "epsilon": self.epsilon}

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.tile([eta, self.rho, 1 - self.rho, self.epsilon], (len(step), 1))

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        v0 = c[1] * v[0] + c[2] * g * g
        return w - c[0] * g / (xp.sqrt(v0) + c[3]), v0

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        xp.multiply(g, g, out=scratch)
        xp.multiply(scratch, c[2], out=scratch)
        xp.multiply(v[0], c[1], out=v[0])
        xp.add(v[0], scratch, out=v[0])
        _step_by_root(w, g, v[0], c[0], c[3], scratch, xp)


class Adagrad(Optimizer):
    """Adagrad: Duchi, Hazan and Singer (2011): a step is divided by the root of the sum of all its g^2 so far.

    Parameters
    ----------
    epsilon : float
        Added to the root.
    """

    name = "adagrad"
    usual_eta = 0.01
    states = 1
    cuda = "v0 += g * g; w -= c[0] * g / (sqrt(v0) + c[1]);"

    def __init__(self, epsilon: float = 1e-10) -> None:
        self.epsilon = checks.positive_float(epsilon, "epsilon")

    def settings(self) -> dict[str, float | bool]:
        return {"epsilon": self.epsilon}

    def coefficients(self, eta: float, step: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.tile([eta, self.epsilon], (len(step), 1))

    def update(self, w: Array, g: Array, v: Sequence[Array], c: Array, xp: Namespace) -> tuple[Array, ...]:
        v0 = v[0] + g * g
        return w - c[0] * g / (xp.sqrt(v0) + c[1]), v0

    def update_into(self, w: Array, g: Array, v: Sequence[Array], c: Array, scratch: Array, xp: Namespace) -> None:
        xp.multiply(g, g, out=scratch)
        xp.add(v[0], scratch, out=v[0])
        _step_by_root(w, g, v[0], c[0], c[1], scratch, xp)


def _step_by_root(w: Array, g: Array, v: Array, eta: Any, epsilon: Any, scratch: Array, xp: Namespace) -> None:
    """W -= eta g / (sqrt(v) + epsilon), in place."""
    xp.sqrt(v, out=scratch)
    xp.add(scratch, epsilon, out=scratch)
    xp.divide(g, scratch, out=scratch)
    xp.multiply(scratch, eta, out=scratch)
    xp.subtract(w, scratch, out=w)


class LBFGS:
    """L-BFGS: quasi-Newton steps from gradients of all examples at once, as `scipy.optimize` takes them.

    Byrd, Lu, Nocedal and Zhu, "A limited memory algorithm for bound constrained optimization" (1995). It has no
    learning rate and no mini-batches; an epoch is one of its iterations.

    Parameters
    ----------
    memory : int
        How many past steps the picture of the curvature is made of.
    tolerance : float
        It ends where no entry of the gradient is larger, or where the cost gets lower by less than this share.
    """

    name = "lbfgs"

    def __init__(self, memory: int = 10, tolerance: float = 1e-9) -> None:
        self.memory = checks.positive_int(memory, "memory")
        self.tolerance = checks.float_from_zero(tolerance, "tolerance")

    def settings(self) -> dict[str, float | bool]:
        """Return its constants by their names."""
        return {"memory": self.memory, "tolerance": self.tolerance}

    def __repr__(self) -> str:
        return f"LBFGS(memory={self.memory}, tolerance={self.tolerance})"


#: Those that take a step on each mini-batch.
BUILT_IN: dict[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (SGD(), Momentum(), Momentum(nesterov=True), Adam(), AdamW(), RMSProp(), Adagrad())
}
#: All names that a training can be given.
NAMES = (*BUILT_IN, LBFGS.name)


def get(optimizer: str | Optimizer | LBFGS | Any) -> Optimizer | LBFGS:
    """Return the optimizer of that name, or the one given, which must be one of this module's."""
    known = {LBFGS, *(type(o) for o in BUILT_IN.values())}
    if type(optimizer) in known:
        return cast(Optimizer, optimizer)
    if optimizer in known:
        raise InputError(f"optimizer must be an object, got the class: pass {cast(type, optimizer).__name__}().")
    if isinstance(optimizer, Optimizer | LBFGS):
        raise InputError(f"optimizers of one's own are not supported, got {optimizer!r}; known: {', '.join(NAMES)}.")
    name = checks.one_of(optimizer, NAMES, "optimizer")
    return LBFGS() if name == LBFGS.name else BUILT_IN[name]
