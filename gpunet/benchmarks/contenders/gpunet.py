"""gpunet: epochs as `fit` runs them, and `fit` itself."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy.typing as npt

from gpunet.benchmarks import machine
from gpunet.benchmarks.contender import Contender, Unavailable
from gpunet.benchmarks.problem import Problem
from gpunet.errors import DeviceError
from gpunet.network import Network
from gpunet.optimizers import BUILT_IN
from gpunet.targets import one_hot
from gpunet.training.sgd import MiniBatchSGD
from gpunet.training.steps import Recipe


class Gpunet(Contender):
    """The training loop within `fit`, on one backend: whole epochs, shuffled, their cost summed.

    Parameters
    ----------
    problem, device
        As for every contender.
    backend : {"numpy", "cupy", "torch"}
    sgd : optional
        Further arguments of `MiniBatchSGD`.
    """

    distributions = ("numpy", "scipy")
    whole_epochs = True

    def __init__(self, problem: Problem, device: str, backend: str = "numpy", **sgd: Any) -> None:
        super().__init__(problem, device)
        X, labels, scale = problem.inputs()
        self.network = network(problem, _device(backend, device), scale)
        model = self.network._model  # `fit` hands it to the same loop
        with model.ops.active():
            try:
                self._sgd = MiniBatchSGD(
                    Recipe(model, problem.batch, BUILT_IN["sgd"]),
                    model.ops.asarray(X),
                    model.ops.asarray(one_hot(labels, problem.sizes[-1])),
                    problem.order(),
                    threads=machine.threads_of_this_process(),
                    **sgd,
                )
            except DeviceError as error:
                raise Unavailable(str(error)) from error

    def start(self) -> None:
        set_parameters(self.network, self.problem)
        self._sgd.rng = self.problem.order()

    def facts(self) -> dict[str, Any]:
        return {"backend": self.network.backend, "engine": self._sgd.engine}

    def run(self, steps: int) -> None:
        ops = self.network._model.ops
        with ops.active():
            for _ in range(steps // self.problem.steps):
                self._sgd.run_epoch(self.problem.eta)  # ends by reading the epoch's cost: waits for the device

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return [(w, b[:, 0]) for w, b in zip(self.network.weights, self.network.biases, strict=True)]


class Fit(Contender):
    """`Network.fit` on the CPU, as a user calls it."""

    distributions = ("numpy", "scipy")
    whole_epochs = True

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        self._X, self._labels, scale = problem.inputs()
        self.network = network(problem, device, scale)

    def start(self) -> None:
        set_parameters(self.network, self.problem)

    def run(self, steps: int) -> None:
        problem = self.problem
        epochs = steps // problem.steps
        self.network.fit(self._X, self._labels, epochs=epochs, batch_size=problem.batch, eta=problem.eta)

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        return [(w, b[:, 0]) for w, b in zip(self.network.weights, self.network.biases, strict=True)]


def network(problem: Problem, device: Any, input_scale: float) -> Network:
    """Return the problem's network with its initial parameters.

    Raises
    ------
    Unavailable
        If it can not be on that device.
    """
    output = "sigmoid" if problem.cost == "quadratic" else "softmax"
    try:
        net = Network(
            problem.sizes,
            activation=problem.activation,
            output_activation=output,
            cost=problem.cost,
            dtype=problem.dtype,
            device=device,
            seed=problem.seed,
            input_scale=input_scale,
        )
    except DeviceError as error:
        raise Unavailable(str(error)) from error
    set_parameters(net, problem)
    return net


def set_parameters(network: Network, problem: Problem) -> None:
    """Give the network the problem's initial parameters."""
    network.weights = [w for w, _ in problem.parameters()]
    network.biases = [b[:, None] for _, b in problem.parameters()]


def _device(backend: str, device: str) -> Any:
    """Return what `Network` takes as a device for a backend's name."""
    if backend == "torch":
        for module, name in (("torch", "torch"), ("array_api_compat", "array-api-compat")):
            if importlib.util.find_spec(module) is None:
                raise Unavailable(f"{name} is not installed")
        return importlib.import_module("torch")
    return {"numpy": "cpu", "cupy": "cuda"}[backend]
