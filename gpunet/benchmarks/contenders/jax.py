"""JAX: a whole epoch as one compiled loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.benchmarks.contender import Contender
from gpunet.benchmarks.problem import Batches, Problem


class Scan(Contender):
    """`jit` of `lax.scan` over the steps of an epoch; the parameters' memory is handed on."""

    distributions = ("jax", "jaxlib")
    whole_epochs = True

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", problem.dtype == "float64")
        jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
        self.jax = jax
        X, labels = problem.scaled_inputs()
        self._X, self._Y = jnp.asarray(X), jnp.asarray(problem.targets(labels))
        self.start()
        hidden = jax.nn.sigmoid if problem.activation == "sigmoid" else jax.nn.relu

        def cost(values: Any, x: Any, y: Any) -> Any:
            a = x
            for weights, biases in values[:-1]:
                a = hidden(a @ weights + biases)
            z = a @ values[-1][0] + values[-1][1]
            if problem.cost == "quadratic":
                return 0.5 * jnp.sum((jax.nn.sigmoid(z) - y) ** 2) / problem.batch
            return -jnp.sum(y * jax.nn.log_softmax(z)) / problem.batch

        def epoch(values: Any, batches: Any, X: Any, Y: Any) -> Any:
            def step(values: Any, rows: Any) -> Any:
                gradients = jax.grad(cost)(values, X[rows], Y[rows])
                return jax.tree.map(lambda v, g: v - problem.eta * g, values, gradients), None

            return jax.lax.scan(step, values, batches)[0]

        self._epoch = jax.jit(epoch, donate_argnums=0)

    @staticmethod
    def load() -> None:
        import jax

        jax.devices()

    def start(self) -> None:
        array, dtype = self.jax.numpy.asarray, self.problem.dtype
        # Weights as (n_{l-1}, n_l): products of rows then need no transposes.
        self._values = [(array(w.T, dtype), array(b, dtype)) for w, b in self.problem.parameters()]
        self._batches = Batches(self.problem)

    def facts(self) -> dict[str, Any]:
        return {"device": str(self.jax.devices()[0]), "products": self.jax.config.jax_default_matmul_precision}

    def run(self, steps: int) -> None:
        for _ in range(steps // self.problem.steps):
            batches = self._batches.take(self.problem.steps).astype(np.int32)
            self._values = self._epoch(self._values, batches, self._X, self._Y)
        self.jax.block_until_ready(self._values)

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return [(np.asarray(w).T, np.asarray(b)) for w, b in self._values]
