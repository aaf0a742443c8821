"""PyTorch: as training scripts are written, with the update by hand, and compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gpunet.benchmarks.contender import Contender
from gpunet.benchmarks.problem import Batches, Problem


class Torch(Contender):
    """What its contenders share: data on the device, the loss of a mini-batch, waiting."""

    distributions = ("torch",)

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        import torch

        torch.set_float32_matmul_precision("highest")  # no TF32
        self.torch, self.device = torch, torch.device(device)
        self._load_data()
        self.values = [self._tensor(x) for pair in problem.parameters() for x in pair]
        self.start()

    def start(self) -> None:
        self._batches = Batches(self.problem)
        with self.torch.no_grad():  # in place: what is compiled knows these tensors
            for value, x in zip(self.values, (x for pair in self.problem.parameters() for x in pair), strict=True):
                value.copy_(self.torch.from_numpy(x))

    @staticmethod
    def load() -> None:
        import torch  # noqa: F401

    def facts(self) -> dict[str, Any]:
        return {
            "threads": self.torch.get_num_threads(),
            "products by": "MKL" if self.torch.backends.mkl.is_available() else "another BLAS than MKL",
            "float32 products": self.torch.get_float32_matmul_precision(),
            "device": str(self.device),
        }

    def parameters(self) -> list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        arrays = [v.detach().cpu().numpy() for v in self.values]
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    def _load_data(self) -> None:
        X, labels = self.problem.scaled_inputs()
        self.X = self.torch.from_numpy(X).to(self.device)
        self.Y = self._targets(labels)

    def _targets(self, labels: npt.NDArray[np.int64]) -> Any:
        """Return one-hot rows, or for the log-likelihood the labels themselves, which is what PyTorch wants."""
        if self.problem.cost == "log-likelihood":
            return self.torch.from_numpy(np.ascontiguousarray(labels)).to(self.device)
        return self._tensor(self.problem.targets(labels))

    def _tensor(self, x: npt.NDArray[Any]) -> Any:
        return self.torch.tensor(x, dtype=getattr(self.torch, self.problem.dtype), device=self.device)

    def _take(self, steps: int) -> Iterator[Any]:
        """Yield the rows of each mini-batch, which lie on the device."""
        yield from self.torch.from_numpy(self._batches.take(steps)).to(self.device)

    def _inputs(self, rows: Any) -> Any:
        return self.X.index_select(0, rows)

    def _loss(self, outputs: Any, rows: Any) -> Any:
        """Return the mean cost of a mini-batch; `outputs` are a^L, for the log-likelihood z^L."""
        functional, y = self.torch.nn.functional, self.Y.index_select(0, rows)
        if self.problem.cost == "log-likelihood":
            return functional.cross_entropy(outputs, y)
        return functional.mse_loss(outputs, y, reduction="sum") * (0.5 / self.problem.batch)

    def _forward(self, values: Any, a: Any) -> Any:
        functional, layers = self.torch.nn.functional, len(values) // 2
        f = self.torch.sigmoid if self.problem.activation == "sigmoid" else self.torch.relu
        for l in range(layers):
            a = functional.linear(a, values[2 * l], values[2 * l + 1])
            if l < layers - 1:
                a = f(a)
            elif self.problem.cost == "quadratic":
                a = self.torch.sigmoid(a)
        return a

    def _wait(self) -> None:
        self.values[-1].sum().item()


class Module(Torch):
    """`nn.Sequential` and `optim.SGD`, fused where PyTorch has that."""

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        nn, last = self.torch.nn, len(problem.sizes) - 2
        layers: list[Any] = []
        for l, (weights, biases) in enumerate(zip(self.values[::2], self.values[1::2], strict=True)):
            linear = nn.Linear(weights.shape[1], weights.shape[0])
            linear.weight, linear.bias = nn.Parameter(weights), nn.Parameter(biases)
            layers.append(linear)
            if l < last:
                layers.append(nn.Sigmoid() if problem.activation == "sigmoid" else nn.ReLU())
            elif problem.cost == "quadratic":
                layers.append(nn.Sigmoid())
        self.module = nn.Sequential(*layers)
        self.optimizer = self.torch.optim.SGD(self.module.parameters(), lr=problem.eta, fused=True)

    def run(self, steps: int) -> None:
        for rows in self._take(steps):
            loss = self._loss(self.module(self._inputs(rows)), rows)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self._wait()


class Lean(Torch):
    """No module and no optimizer: `autograd.grad`, and the update in place."""

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        for value in self.values:
            value.requires_grad_()

    def step(self, rows: Any) -> None:
        """Take one step on the examples of these rows."""
        loss = self._loss(self._forward(self.values, self._inputs(rows)), rows)
        gradients = self.torch.autograd.grad(loss, self.values)
        with self.torch.no_grad():
            for value, gradient in zip(self.values, gradients, strict=True):
                value.sub_(gradient, alpha=self.problem.eta)

    def run(self, steps: int) -> None:
        for rows in self._take(steps):
            self.step(rows)
        self._wait()


class Bytes(Lean):
    """The images stay bytes, and each mini-batch is scaled, as gpunet does it."""

    def _load_data(self) -> None:
        X, labels, self._scale = self.problem.inputs()
        self.X = self.torch.from_numpy(X).to(self.device)
        self.Y = self._targets(labels)

    def _inputs(self, rows: Any) -> Any:
        return super()._inputs(rows).to(self.values[0].dtype) * self._scale


class Compiled(Torch):
    """The whole step, gathering and update included, as one compiled function."""

    def __init__(self, problem: Problem, device: str) -> None:
        super().__init__(problem, device)
        torch = self.torch
        # On a GPU this mode replays CUDA graphs, which need to know that the parameters stay where they are.
        options = {} if device == "cpu" else {"mode": "reduce-overhead"}
        for value in self.values:
            torch._dynamo.mark_static_address(value)

        def cost(values: Any, rows: Any) -> Any:
            return self._loss(self._forward(values, self._inputs(rows)), rows)

        def step(values: Any, rows: Any) -> None:
            for value, gradient in zip(values, torch.func.grad(cost)(values, rows), strict=True):
                value.sub_(gradient, alpha=problem.eta)

        self._step = torch.compile(step, fullgraph=True, dynamic=False, **options)

    def facts(self) -> dict[str, Any]:
        skipped = self.torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
        return {**super().facts(), "steps that could not be a CUDA graph": skipped}

    def run(self, steps: int) -> None:
        for rows in self._take(steps):
            self._step(self.values, rows)
        self._wait()
