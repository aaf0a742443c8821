"""PyTorch's step as one CUDA graph: captured once, replayed for each mini-batch."""

from __future__ import annotations

from gpunet.benchmarks.contenders.torch import Lean


class Graph(Lean):
    """The step of `Lean`, whose rows are copied to where the graph reads them."""

    def __init__(self, problem, device):
        super().__init__(problem, device)
        cuda = self.torch.cuda
        self._rows = self.torch.zeros(problem.batch, dtype=self.torch.int64, device=self.device)
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):  # libraries make what they need before a capture, not in it
            for _ in range(3):
                self.step(self._rows)
        cuda.current_stream().wait_stream(side)
        self._graph = cuda.CUDAGraph()
        with cuda.graph(self._graph):
            self.step(self._rows)
        self.start()  # from the initial parameters

    def run(self, steps):
        for rows in self._take(steps):
            self._rows.copy_(rows)
            self._graph.replay()
        self._wait()
