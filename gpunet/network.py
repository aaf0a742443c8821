"""The class `Network`: the book's methods, and fit, predict and score beside them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gpunet import activations as activation_functions
from gpunet import architecture, arrays, backprop, checks, costs, initializers, model_file
from gpunet.activations import Activation
from gpunet.backends import Array, select
from gpunet.backprop import Workspace
from gpunet.costs import Cost
from gpunet.errors import DeviceError, FileFormatError, InputError
from gpunet.model import Model
from gpunet.parameters import LayerArrays, Parameters
from gpunet.training import loop, metrics
from gpunet.training.history import Epoch, History
from gpunet.training.outputs import outputs
from gpunet.training.sgd import MiniBatchSGD, Progress

Gradients = tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]]


@dataclass(frozen=True)
class Trace:
    """Every intermediate result of one pass of backpropagation, indexed by the book's layer number l.

    Attributes
    ----------
    a : list of arrays, a[l] of shape (n_l, m) for l = 0 ... L
        The activations; a[0] is the input (times the network's `input_scale`).
    z : list of arrays, z[l] of shape (n_l, m); z[0] is None
        The weighted inputs.
    delta : list of arrays, delta[l] of shape (n_l, m); delta[0] is None
        The errors, dC/dz.
    """

    a: list[npt.NDArray[Any]]
    z: list[Any]
    delta: list[Any]


class Network:
    """A fully connected network, trained by backpropagation.

    Parameters
    ----------
    sizes : sequence of int
        Neurons in each layer, the input first: ``[784, 30, 10]``.
    activation : str, Activation, or a list of them, default "sigmoid"
        "sigmoid", "tanh", "relu", "linear", "softmax", an `Activation` of one's own, or `mixed`; for all
        layers, or a list with one for each layer after the input.
    output_activation : str or Activation, optional
        That of the last layer. By default the one the cost is made for ("sigmoid" for cross-entropy, "softmax"
        for log-likelihood), else `activation`.
    cost : str or Cost, default "quadratic"
        "quadratic", "cross-entropy", "log-likelihood", or a `Cost` of one's own.
    init : {"auto", "normal", "scaled", "he"}
        Initial parameters: the book's chapter 1, its chapter 3, He et al.; "auto" takes the first for sigmoid
        layers, He for ReLU, the second for others.
    dtype : {"float32", "float64"}
        The type in which everything is computed.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, module or Backend
        Where it runs; "auto" takes a GPU that works, else the CPU. A module is an Array API namespace such as
        ``torch``.
    seed : int, optional
        Fixes the initial parameters and the order of the examples: same seed, same numbers.
    input_scale : float, optional
        Multiplied into every input before layer 1, and saved with the model: ``1/255`` lets uint8 images stay
        uint8 in memory. By default 1.

    Attributes
    ----------
    sizes : list of int
    num_layers : int
    weights : sequence of arrays, (n_l, n_{l-1}); settable
    biases : sequence of arrays, (n_l, 1); settable
    history : History or None
        Of the last `fit` or `SGD`.
    task : {"classification", "regression"}
        What `predict` and `score` are about.
    metadata : dict
        JSON-ready values of one's own that are saved with the model.

    Raises
    ------
    InputError
        For arguments that make no network; the message tells which.
    DeviceError
        If a device asked for by name can not be used.

    Examples
    --------
    >>> net = Network([2, 3, 1], device="cpu", seed=0)
    >>> net.feedforward([0.5, -1.0]).shape
    (1,)
    """

    _BOOK_METHODS: ClassVar = ("feedforward", "backprop", "cost_derivative", "update_mini_batch")

    def __init_subclass__(cls) -> None:
        changed = [name for name in cls._BOOK_METHODS if name in vars(cls)]
        if changed:
            raise TypeError(
                f"{cls.__name__} overrides {', '.join(changed)}, which gpunet's training would not call: it runs "
                "whole mini-batches at once. Pass a gpunet.Cost or gpunet.Activation of your own instead."
            )

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str | Activation | Sequence[str | Activation] = "sigmoid",
        output_activation: str | Activation | None = None,
        cost: str | Cost = "quadratic",
        init: str = "auto",
        dtype: str = "float32",
        device: Any = "auto",
        seed: int | None = None,
        input_scale: float | None = None,
    ) -> None:
        self.sizes = architecture.layer_sizes(sizes)
        self.num_layers = len(self.sizes)
        cost = costs.get(cost)
        by_layer = architecture.layer_activations(activation, output_activation, cost, self.sizes)
        cost.check_output(by_layer[-1])
        self.dtype = architecture.dtype_name(dtype)
        self._warn_about_uint8 = input_scale is None
        scale = 1.0 if input_scale is None else checks.positive_float(input_scale, "input_scale")
        self._rng = architecture.generator(seed)
        initialize = [initializers.get(init, f) for f in by_layer]

        self.history: History | None = None
        self.metadata: dict[str, Any] = {}
        self.task = "classification" if architecture.gives_classes(by_layer[-1]) else "regression"
        with _memory_explained(f"a network of sizes {self.sizes} in {self.dtype}"):
            self._model = Model(select(device), self.sizes, by_layer, cost, self.dtype, scale)
            pairs = zip(self.sizes[:-1], self.sizes[1:], initialize, strict=True)
            for l, (n_in, n_out, draw) in enumerate(pairs):
                self.weights[l], self.biases[l] = draw(self._rng, n_out, n_in)

    def __repr__(self) -> str:
        names = [f.name for f in self.activations]
        return f"Network({self.sizes}, {names}, {self.cost.name}, {self.dtype} with {self.device})"

    # -- What it is made of ------------------------------------------------------------------------------------

    @property
    def weights(self) -> LayerArrays:
        """The weights w^1 ... w^L, each (n_l, n_{l-1})."""
        return LayerArrays(self._model.ops, self._model.parameters.weights, self.dtype, "weights")

    @weights.setter
    def weights(self, values: Any) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> LayerArrays:
        """The biases b^1 ... b^L, each (n_l, 1)."""
        return LayerArrays(self._model.ops, self._model.parameters.biases, self.dtype, "biases")

    @biases.setter
    def biases(self, values: Any) -> None:
        self.biases.assign(values)

    @property
    def activations(self) -> list[Activation]:
        """The activation of each layer after the input."""
        return list(self._model.activations)

    @property
    def cost(self) -> Cost:
        """The cost function."""
        return self._model.cost

    @property
    def device(self) -> str:
        """What runs it and where, such as "numpy on cpu"."""
        return self._model.ops.name

    @property
    def input_scale(self) -> float:
        """What every input is multiplied with before layer 1."""
        return self._model.input_scale

    # -- The book's methods: examples are columns --------------------------------------------------------------

    def feedforward(self, a: Any) -> npt.NDArray[Any]:
        """Return the output of the network for the input `a`, equation (25).

        Parameters
        ----------
        a : array, shape (n_in,), (n_in, 1) or (n_in, m)
            One example, or m of them as columns.

        Returns
        -------
        array, shape (n_out,), (n_out, 1) or (n_out, m)
        """
        with self._model.ops.active():
            result = outputs(self._model, self._columns(a, 0, "a")).T
        return result[:, 0] if np.ndim(a) == 1 else result

    def backprop(self, x: Any, y: Any) -> Gradients:
        """Return the gradient of the cost, summed over the examples, by BP1-BP4.

        Parameters
        ----------
        x : array, shape (n_in,), (n_in, 1) or (n_in, m)
        y : array, shape (n_out,), (n_out, 1) or (n_out, m)
            The wanted outputs.

        Returns
        -------
        nabla_b, nabla_w : list of arrays
            Layer by layer, of the shapes of `biases` and `weights`.
        """
        ops = self._model.ops
        with ops.active():
            work = self._pass(x, y)
            nabla = Parameters(ops, self.sizes, self.dtype).pairs()
            backprop.gradient(ops, work, nabla)
            return self._to_host(nabla)

    def per_example_gradients(self, x: Any, y: Any) -> Gradients:
        """Return the gradient of each example's cost, without summing over the batch.

        Parameters
        ----------
        x : array, shape (n_in, m)
        y : array, shape (n_out, m)

        Returns
        -------
        nabla_b, nabla_w : list of arrays
            Layer by layer (m, n_l, 1) and (m, n_l, n_{l-1}).
        """
        ops = self._model.ops
        with ops.active(), _memory_explained("the gradients of all examples (pass fewer at once)"):
            work = self._pass(x, y)
            nabla = [
                (ops.empty((work.m, *b.shape), self.dtype), ops.empty((work.m, *w.shape), self.dtype))
                for b, w in self._model.parameters.pairs()
            ]
            backprop.per_example_gradient(ops, work, nabla)
            return self._to_host(nabla)

    def trace(self, x: Any, y: Any) -> Trace:
        """Return every z, a and delta of one pass of backpropagation over x and y, (n, m), layer by layer."""
        ops = self._model.ops
        with ops.active():
            work = self._pass(x, y, keep_z=True)
            a, z, delta = (
                [None if v is None else ops.to_numpy(v).copy() for v in arrays]
                for arrays in (work.a, work.z, work.delta)
            )
        return Trace(a, z, delta)  # type: ignore[arg-type]

    def cost_derivative(self, output_activations: Any, y: Any) -> npt.NDArray[Any]:
        """Return dC/da for the output activations and the wanted outputs y, both (n_out, m)."""
        a = np.asarray(output_activations, dtype=self.dtype)
        y = np.asarray(y, dtype=self.dtype)
        if a.shape != y.shape:
            raise InputError(f"output_activations and y differ in shape: {a.shape} and {y.shape}.")
        as_matrix = (a.shape[0], -1)
        result: npt.NDArray[Any] = self.cost.gradient(a.reshape(as_matrix), y.reshape(as_matrix), np)
        return result.reshape(a.shape)

    def update_mini_batch(self, mini_batch: Any, eta: float) -> None:
        """Take one step of gradient descent, equations (20) and (21).

        Parameters
        ----------
        mini_batch : list of (x, y)
            x of shape (n_in, 1), y of shape (n_out, 1).
        eta : float
            The learning rate; the step is eta times the mean gradient.
        """
        eta = checks.positive_float(eta, "eta")
        with self._model.ops.active():
            X, Y = self._book_data(mini_batch, "mini_batch")
            m = X.shape[0]
            self._sgd(X, Y, m, eta).step(self._model.ops.asarray(np.arange(m)))

    def SGD(
        self,
        training_data: Any,
        epochs: int,
        mini_batch_size: int,
        eta: float,
        test_data: Any = None,
    ) -> None:
        """Train by mini-batch stochastic gradient descent and print the book's line after each epoch.

        Parameters
        ----------
        training_data : list of (x, y)
            x of shape (n_in, 1), y of shape (n_out, 1).
        epochs, mini_batch_size : int
        eta : float
            The learning rate.
        test_data : list of (x, label), optional
            Evaluated and printed after each epoch.

        Raises
        ------
        DivergenceError
            If parameters or cost become NaN or infinite; the network keeps the last whole epoch's.
        """
        if test_data is not None:
            test_data = list(test_data)

        def report(epoch: Epoch) -> None:
            if test_data is None:
                print(f"Epoch {epoch.epoch} complete", flush=True)
            else:
                print(f"Epoch {epoch.epoch}: {self.evaluate(test_data)} / {len(test_data)}", flush=True)

        epochs = checks.positive_int(epochs, "epochs")
        m = checks.positive_int(mini_batch_size, "mini_batch_size")
        eta = checks.positive_float(eta, "eta")
        with self._model.ops.active(), _memory_explained("the training"):
            X, Y = self._book_data(training_data, "training_data")
            self.history = loop.run(self._sgd(X, Y, m, eta), epochs, on_epoch=report)

    def evaluate(self, test_data: Any) -> int:
        """Return for how many of the pairs (x, y) the largest output is the right one.

        y is the label, a whole number, or the wanted output as a vector.
        """
        x, ys = arrays.book_pairs(test_data, "test_data")
        wanted = [y if np.ndim(y) == 0 else np.argmax(y) for y in ys]
        correct = arrays.labels(np.asarray(wanted), self.sizes[-1], "test_data")
        return int(np.sum(self.feedforward(x).argmax(axis=0) == correct))

    # -- Rows, as everywhere else in Python --------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 30,
        batch_size: int = 10,
        eta: float | None = None,
        validation_data: tuple[Any, Any] | None = None,
        on_epoch: Callable[[Epoch], None] | None = None,
        on_progress: Progress | None = None,
    ) -> History:
        """Train on rows.

        Parameters
        ----------
        X : array, shape (N, n_in)
            Inputs. uint8 stays uint8 in memory; everything else is converted to the network's dtype.
        y : array, shape (N,) or (N, n_out)
            Class labels, whole numbers from 0 to n_out - 1, or targets.
        epochs : int
        batch_size : int
            Examples a step. More than N makes every epoch one step on all of them.
        eta : float, optional
            The learning rate. By default 3.0 where all layers are sigmoid and the cost is quadratic (the book's
            chapter 1), 0.5 where all are sigmoid or softmax (its chapter 3), and 0.1 otherwise.
        validation_data : (X, y), optional
            Its cost and score are measured after each epoch.
        on_epoch : callable, optional
            Called with an `Epoch` after each epoch.
        on_progress : callable, optional
            Called about ten times a second with the number of the epoch's examples done.

        Returns
        -------
        History

        Raises
        ------
        InputError
            If the data are not what the network takes.
        DivergenceError
            If parameters or cost become NaN or infinite. Then, and after an interrupt, the network keeps the
            parameters of the last whole epoch.
        """
        epochs = checks.positive_int(epochs, "epochs")
        batch_size = checks.positive_int(batch_size, "batch_size")
        eta = self.default_eta() if eta is None else checks.positive_float(eta, "eta")
        with self._model.ops.active(), _memory_explained("the training"):
            task = self._task_for(y)
            X_device, Y = self._rows(X, y)
            self.task = task
            validation = None
            if validation_data is not None:
                validation = self._validation(validation_data)
            sgd = self._sgd(X_device, Y, batch_size, eta)
            self.history = loop.run(sgd, epochs, validation, on_epoch, on_progress)
        return self.history

    def outputs(self, X: Any) -> npt.NDArray[Any]:
        """Return the output activations for rows X, (m, n_in) -> (m, n_out)."""
        with self._model.ops.active(), _memory_explained("the inputs"):
            return outputs(self._model, arrays.rows(self._model.ops, X, self.sizes[0], self.dtype))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class of each row of X, shape (m,); for regression the outputs, (m, n_out).

        A network is for classification if it was fitted to labels, or its output is sigmoid or softmax.
        """
        a = self.outputs(X)
        return metrics.to_classes(a) if self.task == "classification" else a

    def score(self, X: Any, y: Any) -> float:
        """Return the accuracy on rows X with labels or one-hot targets y; for regression R^2."""
        with self._model.ops.active():
            return self._validation((X, y), "X", "y").measure(self._model)[1]

    def default_eta(self) -> float:
        """Return the learning rate that `fit` takes if none is given."""
        names = {f.name for f in self.activations}
        if names == {"sigmoid"} and self.cost.name == "quadratic":
            return 3.0
        return 0.5 if names <= {"sigmoid", "softmax"} else 0.1

    # -- Files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file with JSON metadata.

        The file appears whole or not at all; an existing one is replaced.

        Raises
        ------
        OSError
            If the file can not be written: no such folder, no space left, ...
        """
        description = {
            "sizes": self.sizes,
            "activations": [activation_functions.to_json(f) for f in self.activations],
            "cost": self.cost.name,
            "dtype": self.dtype,
            "input_scale": self.input_scale,
            "task": self.task,
            "metadata": self.metadata,
        }
        model_file.write(path, description, list(self.weights), list(self.biases))

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, device: Any = "auto", custom: Sequence[Activation | Cost] = ()
    ) -> Network:
        """Read a network from a file that `save` wrote.

        Parameters
        ----------
        path : path
        device : as for `Network`
        custom : sequence of Activation and Cost
            Those of one's own that the network uses; the file has only their names.

        Raises
        ------
        FileFormatError
            If the file is no whole gpunet model, or uses an activation or cost that is neither built in nor in
            `custom`.
        """
        description, weights, biases = model_file.read(path)
        functions = {f.name: f for f in custom if isinstance(f, Activation)}
        own_costs = {c.name: c for c in custom if isinstance(c, Cost)}
        try:
            network = cls._described(description, functions, own_costs, device)
        except InputError as error:
            raise FileFormatError(
                f"{path}: {error} An activation or cost of your own must be passed to load as custom=[...]."
            ) from error
        network.weights, network.biases = weights, biases
        network.task, network.metadata = description["task"], description["metadata"]
        return network

    @classmethod
    def _described(
        cls,
        description: dict[str, Any],
        functions: dict[str, Activation],
        own_costs: dict[str, Cost],
        device: Any,
    ) -> Network:
        return cls(
            description["sizes"],
            activation=[activation_functions.from_json(f, functions) for f in description["activations"]],
            cost=own_costs.get(description["cost"], description["cost"]),
            dtype=description["dtype"],
            device=device,
            input_scale=description["input_scale"],
        )

    def __getstate__(self) -> dict[str, Any]:
        # The model's arrays are views into one buffer, which a copy or a pickle would tear apart.
        state = {name: value for name, value in vars(self).items() if name != "_model"}
        model = self._model
        state["_remake"] = (
            model.ops,
            self.sizes,
            model.activations,
            model.cost,
            self.dtype,
            model.input_scale,
        )
        state["_arrays"] = ([w.copy() for w in self.weights], [b.copy() for b in self.biases])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model = Model(*state.pop("_remake"))
        weights, biases = state.pop("_arrays")
        vars(self).update(state)
        self.weights, self.biases = weights, biases

    # -- From what users hand in to what the algorithm takes ---------------------------------------------------

    def _columns(self, x: Any, l: int, what: str) -> Array:
        return arrays.columns(self._model.ops, x, self.sizes[l], self.dtype, what)

    def _rows(self, X: Any, y: Any, X_name: str = "X", y_name: str = "y") -> tuple[Array, Array]:
        ops = self._model.ops
        X = arrays.rows(ops, X, self.sizes[0], self.dtype, X_name)
        if self._warn_about_uint8 and str(X.dtype).endswith("uint8") and int(ops.xp.max(X)) > 1:
            warnings.warn(
                f"{X_name} is uint8 and goes in as it is, up to {int(ops.xp.max(X))}. Images learn better with "
                "Network(..., input_scale=1/255); input_scale=1 says that this is wanted.",
                stacklevel=3,
            )
        return X, arrays.targets(ops, y, X.shape[0], self.sizes[-1], self.dtype, y_name)

    def _book_data(self, pairs: Any, what: str) -> tuple[Array, Array]:
        x, ys = arrays.book_pairs(pairs, what)
        y = np.asarray(ys) if np.ndim(ys[0]) == 0 else arrays.stack_columns(ys, f"the y of {what}").T
        return (
            self._columns(x, 0, f"the x of {what}"),
            arrays.targets(self._model.ops, y, len(ys), self.sizes[-1], self.dtype, f"the y of {what}"),
        )

    def _validation(self, data: Any, *names: str) -> loop.Validation:
        try:
            X, y = data
        except (TypeError, ValueError):
            raise InputError("validation_data must be a pair (X, y).") from None
        X, Y = self._rows(X, y, *(names or ("validation_data[0]", "validation_data[1]")))
        metric = metrics.accuracy if self.task == "classification" else metrics.r_squared
        return loop.Validation(X, self._model.ops.to_numpy(Y), metric)

    def _task_for(self, y: Any) -> str:
        are_labels = getattr(y, "ndim", np.ndim(y)) == 1 and self.sizes[-1] > 1
        return "classification" if are_labels or architecture.gives_classes(self.activations[-1]) else "regression"

    def _sgd(self, X: Array, Y: Array, batch_size: int, eta: float) -> MiniBatchSGD:
        n = X.shape[0]
        if batch_size > n:
            warnings.warn(
                f"a mini-batch of {batch_size} is larger than the {n} examples: every epoch is one step on all "
                "of them.",
                stacklevel=3,
            )
        return MiniBatchSGD(self._model, X, Y, min(batch_size, n), eta, self._rng)

    def _pass(self, x: Any, y: Any, keep_z: bool = False) -> Workspace:
        """Run (25), BP1 and BP2 over the columns x and y."""
        ops, layers = self._model.ops, self._model.layers
        x, y = self._columns(x, 0, "x"), self._columns(y, -1, "y")
        m = x.shape[0]
        if y.shape[0] != m:
            raise InputError(f"x has {m} examples (columns) and y has {y.shape[0]}; both need the same number.")
        work = self._model.workspace(m, keep_z)
        everything = ops.asarray(np.arange(m))
        ops.gather(x, everything, out=work.a[0], scale=self.input_scale)
        ops.gather(y, everything, out=work.y)
        backprop.feedforward(ops, layers, work)
        backprop.backpropagate(ops, layers, self.cost, work)
        return work

    def _to_host(self, nabla: list[tuple[Array, Array]]) -> Gradients:
        to_numpy = self._model.ops.to_numpy
        return [to_numpy(b) for b, _ in nabla], [to_numpy(w) for _, w in nabla]


@contextmanager
def _memory_explained(what: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:  # NumPy's and CuPy's alike
        raise DeviceError(
            f"not enough memory for {what}: {error}. Lower the sizes, the batch size or the number of examples, "
            "or choose another device."
        ) from error
