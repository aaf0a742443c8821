"""The class `Network`: the book's methods, and fit, predict and score beside them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gpunet import activations as activation_functions
from gpunet import architecture, arrays, backprop, checks, costs, initializers, model_file, optimizers, targets
from gpunet.activations import Activation
from gpunet.backends import Array, select
from gpunet.backprop import Workspace
from gpunet.costs import Cost
from gpunet.errors import FileFormatError, InputError, not_enough_memory
from gpunet.model import Model
from gpunet.optimizers import LBFGS, Optimizer
from gpunet.parameters import LayerArrays, Parameters
from gpunet.training import eta_finder, loop, metrics
from gpunet.training.early_stopping import EarlyStopping
from gpunet.training.eta_finder import EtaSearch
from gpunet.training.fit import Examples, Fitting
from gpunet.training.history import History
from gpunet.training.options import Callback, Options
from gpunet.training.outputs import count_right, measure, outputs
from gpunet.training.record import Epoch
from gpunet.training.schedules import Schedule
from gpunet.training.sgd import Progress
from gpunet.training.source import Source, SourceRows
from gpunet.training.steps import Recipe, VerbSteps

#: Inputs above this size saturate a network from the start.
_LARGE_INPUT = 20.0

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
        A name from docs/functions.md such as "sigmoid", "tanh", "relu" or "gelu", an `Activation` of one's own, or
        `mixed`; for all layers, or a list with one for each layer after the input.
    output_activation : str or Activation, optional
        That of the last layer. By default the one the cost is made for ("sigmoid" for cross-entropy, "softmax"
        for log-likelihood), else `activation`.
    cost : str or Cost, default "quadratic"
        A name from docs/functions.md such as "quadratic", "cross-entropy", "log-likelihood", "huber" or "hinge"
        (at least two outputs, of which the largest names the class), or a `Cost` of one's own.
    init : {"auto", "normal", "scaled", "he", "glorot", "lecun", "orthogonal"}
        Initial parameters: the book's chapter 1, its chapter 3, He et al., ...; "auto" takes the first for sigmoid
        layers, He for ReLU and its kin, the second for others.
    dtype : {"float32", "float64"}
        The type in which everything is computed.
    device : {"auto", "cpu", "cuda", "cuda:1", ...}, module or Backend
        Where it runs; "auto" takes a GPU that works, else the CPU. A module is an Array API namespace such as
        ``torch``; on a device of its own it is ``gpunet.backends.ArrayAPIBackend(torch, "cuda")``.
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
        changed = [name for name in cls._BOOK_METHODS if getattr(cls, name) is not getattr(Network, name)]
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
        sizes = architecture.layer_sizes(sizes)
        cost = costs.get(cost)
        by_layer = architecture.layer_activations(activation, output_activation, cost, sizes)
        cost.check_output(by_layer[-1])
        dtype = architecture.dtype_name(dtype)
        scale = architecture.input_scale(1.0 if input_scale is None else input_scale, dtype)
        initialize = [initializers.get(init, f) for f in by_layer]
        rng = architecture.generator(seed)
        with _memory_explained(f"a network of sizes {sizes} in {dtype}"):
            self._set_up(Model(select(device), sizes, by_layer, cost, dtype, scale), rng)
            for l, (n_in, n_out) in enumerate(pairwise(sizes)):
                self.weights[l], self.biases[l] = initialize[l](rng, n_out, n_in)
        self._scale_was_given = input_scale is not None

    def _set_up(self, model: Model, rng: np.random.Generator) -> None:
        """Make this a network of `model`, whose parameters are still to be set."""
        self._model, self._rng = model, rng
        self._seeded: dict[str, Any] = dict(rng.bit_generator.state)
        self._scale_was_given = True
        self.history: History | None = None
        self.metadata: dict[str, Any] = {}
        by_output = "classification" if model.activations[-1].range == (0.0, 1.0) else "regression"
        self.task = model.cost.task or by_output

    def __repr__(self) -> str:
        names = [f.name for f in self.activations]
        return f"Network({self.sizes}, {names}, {self.cost.name}, {self.dtype}, {self.backend})"

    # -- What it is made of ------------------------------------------------------------------------------------

    @property
    def sizes(self) -> list[int]:
        """Neurons in each layer, the input first."""
        return list(self._model.sizes)

    @property
    def num_layers(self) -> int:
        """The number of layers, the input among them."""
        return len(self._model.sizes)

    @property
    def dtype(self) -> str:
        """The type in which everything is computed, "float32" or "float64"."""
        return self._model.dtype

    @property
    def weights(self) -> LayerArrays:
        """The weights w^1 ... w^L, each (n_l, n_{l-1}).

        On the CPU they are the network's own memory and change as it trains: ``w.copy()`` keeps one. On other
        devices they are read-only copies. Everywhere ``net.weights[0] = w`` sets one and ``net.weights = [...]`` all.
        """
        return LayerArrays(self._model.ops, self._model.parameters.weights, self.dtype, "weights")

    @weights.setter
    def weights(self, values: Any) -> None:
        self.weights.assign(values)

    @property
    def biases(self) -> LayerArrays:
        """The biases b^1 ... b^L, each (n_l, 1); as `weights`, the network's own memory or read-only copies."""
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
        """The device it runs on: "cpu", "cuda:0", ..."""
        return self._model.ops.device

    @property
    def backend(self) -> str:
        """The array library that runs it and where, such as "numpy on cpu"."""
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
        with self._on_device("the examples"):
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
        with self._on_device("the examples"):
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
        with self._on_device("the gradients of all examples"):
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
        with self._on_device("the examples"):
            work = self._pass(x, y, keep_z=True)
            a, z, delta = (
                [None if v is None else ops.to_numpy(v).copy() for v in arrays]
                for arrays in (work.a, work.z, work.delta)
            )
        return Trace(a, z, delta)  # type: ignore[arg-type]

    def cost_derivative(self, output_activations: Any, y: Any) -> npt.NDArray[Any]:
        """Return dC/da for the output activations and the wanted outputs y, both (n_out, m)."""
        a = checks.real_array(output_activations, "output_activations").astype(self.dtype)
        y = checks.real_array(y, "y").astype(self.dtype)
        if a.shape != y.shape or a.ndim == 0:
            raise InputError(f"output_activations and y must be of one shape, got {a.shape} and {y.shape}.")
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
        with self._on_device("the examples"):
            X, Y, _ = self._book_data(mini_batch, "mini_batch")
            m, ops = X.shape[0], self._model.ops
            steps = VerbSteps(Recipe(self._model, m, optimizers.BUILT_IN["sgd"]))
            data = arrays.to_device(ops, X, self.dtype), arrays.to_device(ops, Y, self.dtype)
            steps.take(data, ops.asarray(np.arange(m)), eta, threads=1)  # no time to try whether more would be faster

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
        m = checks.positive_int(mini_batch_size, "mini_batch_size")
        checks.positive_float(eta, "eta")
        with self._on_device("the training"):
            X, Y, task = self._book_data(training_data, "training_data")
            if test_data is not None:
                test_data = targets.as_list(test_data, "test_data")
                self._book_data(test_data, "test_data")  # an error is better known before the training

            def report(epoch: Epoch) -> None:
                if test_data is None:
                    print(f"Epoch {epoch.epoch} complete", flush=True)
                else:
                    print(f"Epoch {epoch.epoch}: {self.evaluate(test_data)} / {len(test_data)}", flush=True)

            self._train(Examples(X, Y, None, task), Options(epochs=epochs, batch_size=m, eta=eta, on_epoch=report))

    def evaluate(self, test_data: Any) -> int:
        """Return for how many of the pairs (x, y) the largest output is the right one.

        y is the label, a whole number, or the wanted output as a vector. A single output is right if it is on the
        same side of 1/2 as y.
        """
        with self._on_device("the examples"):
            X, Y, _ = self._book_data(test_data, "test_data")
            return count_right(self._model, X, metrics.to_classes(Y))

    # -- Rows, as everywhere else in Python --------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        epochs: int = 30,
        batch_size: int = 10,
        eta: float | Schedule | Callable[[int], float] | None = None,
        optimizer: str | Optimizer | LBFGS = "sgd",
        l2: float = 0.0,
        l1: float = 0.0,
        weight_decay: float | None = None,
        dropout: float | Sequence[float] = 0.0,
        max_norm: float | None = None,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        label_smoothing: float = 0.0,
        class_weight: str | Mapping[int, float] | None = None,
        sample_weight: Any = None,
        engine: str = "auto",
        threads: int | None = None,
        validation_data: tuple[Any, Any] | Source | None = None,
        validation_split: float = 0.0,
        early_stopping: bool | int | EarlyStopping | None = None,
        on_epoch: Callback | Sequence[Callback] | None = None,
        on_progress: Progress | None = None,
        diagnostics: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        checkpoint_seconds: float = 10.0,
    ) -> History:
        """Train on rows, from the present parameters on: a second `fit` goes on where the first ended.

        What an optimizer remembers from step to step (velocities, averages) begins anew with each call. Two threads
        must not train one network.

        Parameters
        ----------
        X : array, shape (N, n_in), or a source
            Inputs. uint8 stays uint8 in memory; everything else is converted to the network's dtype. A source, as
            `datasets.open_data` returns, is read chunk by chunk and has the targets with it.
        y : array, shape (N,) or (N, n_out)
            Class labels, whole numbers from 0 to n_out - 1, or targets; left out for a source.
        epochs : int
        batch_size : int
            Examples a step. More than N makes every epoch one step on all of them.
        eta : float, schedule or function of the epoch, optional
            The learning rate; `gpunet.schedules` has the schedules. By default 3.0 where all layers are sigmoid and
            the cost is quadratic (the book's chapter 1), 0.5 where all are sigmoid or softmax (its chapter 3), and
            0.1 otherwise; these are for plain gradient descent; with momentum it is 0.1 times as much, for Adam and
            RMSProp 0.001, for Adagrad 0.01.
        optimizer : str, Optimizer or LBFGS, default "sgd"
            "sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad", "lbfgs", or an object of
            `gpunet.optimizers` with constants of one's own, such as ``Momentum(0.95)``. "lbfgs" has no mini-batches
            and no eta; an epoch is one of its iterations.
        l2 : float, default 0
            lambda of the penalty lambda/2N * (sum of all w^2) for N examples, equation (87): L2 regularization. The
            costs that are reported are without it.
        l1 : float, default 0
            lambda of the penalty lambda/N * (sum of all |w|), equation (95): L1 regularization.
        weight_decay : float, optional
            Each step takes the share eta * weight_decay from the weights, apart from the gradient (Loshchilov and
            Hutter 2019). By default 0.01 with "adamw", else 0.
        dropout : float or sequence of float, default 0
            The share of the hidden activations that each step leaves out, the others being divided by 1 - dropout; a
            list has one for the input and one for each hidden layer. Outputs and validation are without it.
        max_norm : float, optional
            The largest Euclidean norm of a hidden neuron's weights; a step that goes beyond is shortened to it
            (Srivastava et al., "Dropout", 2014).
        clip_value, clip_norm : float, optional
            The largest entry, and the largest Euclidean norm, of the gradient that a step is made of, without the
            penalties. Both shorten it.
        label_smoothing : float, default 0
            The share of a target that is spread evenly over all classes. The training's cost is for such targets,
            the validation's for the true ones.
        class_weight : "balanced" or mapping of class to float, optional
            How much the cost of a class's examples counts; "balanced" lets all classes count alike. Classes that a
            mapping does not name have 1.
        sample_weight : array, shape (N,), optional
            How much each example's cost counts. A mini-batch's gradient is the weighted mean of its examples'.
        engine : {"auto", "compiled", "verbs"}
            What takes the steps. "compiled" is for NumPy on the CPU, the activations and costs that it knows, and
            plain SGD, momentum, Nesterov's, Adam and AdamW, with L1, L2, weight decay, dropout and weights of
            examples; "verbs" is NumPy, CuPy or whatever else the device has; "auto" takes the first where it can.
            ``history.engine`` says which it was.
        threads : int, optional
            How many threads of the CPU share a step. By default one, and more where they are seen to be faster while
            the training runs. It has no effect on other devices.
        validation_data : (X, y), optional
            Its cost and score are measured after each epoch.
        validation_split : float, default 0
            The share of the examples that is held out for that instead, of each class alike; every class keeps one to
            learn from. It is drawn by the network's seed alone: a second `fit`, and another network of the same seed,
            hold out the same of the same examples.
        early_stopping : bool, int or EarlyStopping, optional
            Ends the training once the validation cost has not become lower for so many epochs (True: 10), and brings
            back the best epoch's parameters. `gpunet.EarlyStopping` has more to choose.
        on_epoch : callable, or a list of them, optional
            Called with an `Epoch` after each epoch; the training ends if one returns True.
        on_progress : callable, optional
            Called about ten times a second with the number of the epoch's examples done. The network's weights are to
            be read and set between epochs only: the compiled engine has its own within one.
        diagnostics : bool, default False
            Whether to measure after each epoch, on 1000 of the examples, the norms of each layer's errors, gradients
            and weights, and its share of saturated neurons: the `layers` of an `Epoch`.
        checkpoint : path, optional
            A file that the training's state is written to between epochs, whole or not at all, and when the training
            ends or is interrupted.
        resume : bool, default False
            Whether to go on from that file if it exists. With the same data and arguments, the result has the same
            bits as if the training had never ended, as long as the engine and the number of threads are the same.
        checkpoint_seconds : float, default 10
            The least time between two writes.

        Returns
        -------
        History

        Raises
        ------
        InputError
            If the data are not what the network takes, or the checkpoint is of another training.
        DeviceError
            If the compiled engine is asked for and can not be used, or the memory does not suffice.
        DivergenceError
            If parameters or cost become NaN or infinite. Then, and after an interrupt, the network keeps the
            parameters of the last whole epoch.
        FileFormatError
            If the checkpoint is no whole one.
        OSError
            If the checkpoint can not be written.
        """
        options = Options(
            epochs=epochs,
            batch_size=batch_size,
            eta=eta,
            optimizer=optimizer,
            l2=l2,
            l1=l1,
            weight_decay=weight_decay,
            dropout=dropout,
            max_norm=max_norm,
            clip_value=clip_value,
            clip_norm=clip_norm,
            label_smoothing=label_smoothing,
            engine=engine,
            threads=threads,
            early_stopping=early_stopping,
            on_epoch=on_epoch,
            on_progress=on_progress,
            diagnostics=diagnostics,
            checkpoint=checkpoint,
            resume=resume,
            checkpoint_seconds=checkpoint_seconds,
        )
        with self._on_device("the training"):
            X, Y, task = self._rows(X, y, "X", "y")
            self._note_large_inputs(X.first() if isinstance(X, SourceRows) else X)
            if isinstance(X, SourceRows):
                _refuse_for_a_source(
                    class_weight=class_weight,
                    sample_weight=sample_weight,
                    validation_split=validation_split,
                    diagnostics=diagnostics or None,
                )
                weights = None
            else:
                weights = targets.example_weights(self._model.ops, Y, task, class_weight, sample_weight)
            return self._train(Examples(X, Y, weights, task), options, validation_data, validation_split)

    def outputs(self, X: Any) -> npt.NDArray[Any]:
        """Return the output activations for rows X, (m, n_in) -> (m, n_out)."""
        with self._on_device("the examples"):
            if isinstance(X, Source):
                return outputs(self._model, SourceRows(self._model, X, "X").without_targets())
            return outputs(self._model, arrays.rows(self._model.ops, X, self.sizes[0], self.dtype))

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Return the class of each row of X, shape (m,); for regression the outputs, (m, n_out), of one output (m,).

        `task` says which. The last training's targets decide it: labels and one-hot rows are classes, as are 0 and 1
        for a single sigmoid output; everything else is regression. Before any training, sigmoid and softmax outputs
        are taken for classes.
        """
        a = self.outputs(X)
        if self.task == "classification":
            return metrics.to_classes(a)
        return a[:, 0] if a.shape[1] == 1 else a

    def score(self, X: Any, y: Any = None) -> float:
        """Return the accuracy on rows X with classes y; for regression (see `predict`) R^2, the mean over outputs.

        y that are neither labels nor one-hot rows are scored by R^2 in any case.
        """
        with self._on_device("the examples"):
            X, Y, task = self._rows(X, y, "X", "y")
            if isinstance(X, SourceRows):
                return measure(self._model, X, Y, self._task_of_score(X.targets_like(), task))[1]
            Y = self._model.ops.to_numpy(Y)
            if self._task_of_score(y, task) == "regression":
                return metrics.r_squared(outputs(self._model, X), Y)
            return count_right(self._model, X, metrics.to_classes(Y)) / len(Y)

    def default_eta(self, optimizer: str | Optimizer = "sgd") -> float:
        """Return the learning rate that `fit` takes if none is given."""
        chosen = optimizers.get(optimizer)
        if isinstance(chosen, LBFGS):
            raise InputError("optimizer 'lbfgs' has no learning rate.")
        if chosen.usual_eta is not None:
            return chosen.usual_eta
        if chosen.states:
            return 0.1 * self.default_eta()
        names = {f.name for f in self.activations}
        if names == {"sigmoid"} and self.cost.name == "quadratic":
            return 3.0
        return 0.5 if names <= {"sigmoid", "softmax"} else 0.1

    def find_eta(
        self,
        X: Any,
        y: Any,
        *,
        batch_size: int = 10,
        optimizer: str | Optimizer = "sgd",
        lowest: float = 1e-5,
        highest: float = 10.0,
        steps: int = 200,
    ) -> EtaSearch:
        """Look for a learning rate by a short training in which it grows step by step; the network stays as it is.

        Smith, "Cyclical learning rates for training neural networks" (2017), section 3.3.

        Parameters
        ----------
        X, y, batch_size, optimizer : as for `fit`
        lowest, highest : float
            The learning rates of the first and the last step.
        steps : int

        Returns
        -------
        EtaSearch
            Its ``eta`` is the suggestion; ``gpunet.plots.learning_rate_finder`` draws it.

        Raises
        ------
        InputError
            If no learning rate made the cost fall.
        """
        options = Options(batch_size=batch_size, optimizer=optimizer)
        if isinstance(options.optimizer, LBFGS):
            raise InputError("optimizer 'lbfgs' has no learning rate to look for.")
        lowest, highest = checks.positive_float(lowest, "lowest"), checks.positive_float(highest, "highest")
        if lowest >= highest:
            raise InputError(f"lowest must be below highest, got {lowest:g} and {highest:g}.")
        if checks.positive_int(steps, "steps") < 10:
            raise InputError(f"steps must be at least 10, got {steps}.")
        with self._on_device("the search"):
            if isinstance(X, Source):
                raise InputError("find_eta takes arrays; a few thousand examples of the source are enough for it.")
            X, Y, task = self._rows(X, y, "X", "y")
            data = Examples(X, Y, None, task).placed(self._model).arrays
            rng = np.random.default_rng()
            rng.bit_generator.state = self._rng.bit_generator.state  # what the next `fit` draws stays the same
            recipe = Recipe(self._model, min(options.batch_size, X.shape[0]), options.optimizer)
            return eta_finder.search(recipe, data, rng, lowest, highest, steps)

    # -- Files -------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file with JSON metadata.

        The file appears whole or not at all; an existing one is replaced.

        Raises
        ------
        OSError
            If the file can not be written: no such folder, no space left, ...
        InputError
            If it could not be read back: metadata that JSON can not hold, parameters that are not finite.
        """
        model_file.write(path, self._saved())

    def _saved(self) -> model_file.SavedModel:
        """Return what a file keeps of the network; its arrays are copies."""
        return model_file.SavedModel(
            sizes=self.sizes,
            activations=[activation_functions.to_json(f) for f in self.activations],
            cost=costs.to_json(self.cost),
            dtype=self.dtype,
            input_scale=self.input_scale,
            task=self.task,
            metadata=self.metadata,
            weights=[w.copy() for w in self.weights],
            biases=[b.copy() for b in self.biases],
        )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: Any = "auto",
        custom: Sequence[Activation | Cost] = (),
        seed: int | None = None,
    ) -> Network:
        """Read a network from a file that `save` wrote.

        Parameters
        ----------
        path : path
        device : as for `Network`
        custom : sequence of Activation and Cost
            Those of one's own that the network uses; the file has only their names.
        seed : int, optional
            Fixes the order of the examples in further training, and which of them `validation_split` holds out: those
            of a network that was made with the same seed.

        Raises
        ------
        FileFormatError
            If the file is no whole gpunet model, or uses an activation or cost that is neither built in nor in
            `custom`.
        """
        ops, rng = select(device), architecture.generator(seed)
        functions, own_costs = _by_name(custom)
        saved = model_file.read(path)
        try:
            by_layer = [activation_functions.from_json(f, functions) for f in saved.activations]
            cost = costs.from_json(saved.cost, own_costs)
            by_layer = architecture.layer_activations(by_layer, None, cost, saved.sizes)
            cost.check_output(by_layer[-1])
            scale = architecture.input_scale(saved.input_scale, saved.dtype)
        except InputError as error:
            raise FileFormatError(f"{path}: {error}{_custom_hint(saved, functions, own_costs)}") from error
        network = cls.__new__(cls)
        with _memory_explained(f"a network of sizes {saved.sizes} in {saved.dtype}"):
            network._set_up(Model(ops, saved.sizes, by_layer, cost, saved.dtype, scale), rng)
            network.weights, network.biases = saved.weights, saved.biases
        network.task, network.metadata = saved.task, saved.metadata
        return network

    def __getstate__(self) -> dict[str, Any]:
        # The model's arrays are views into one buffer, which a copy or a pickle would tear apart.
        state = {name: value for name, value in vars(self).items() if name != "_model"}
        m = self._model
        state["_remake"] = (m.ops, m.sizes, m.activations, m.cost, m.dtype, m.input_scale)
        state["_arrays"] = ([w.copy() for w in self.weights], [b.copy() for b in self.biases])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._model = Model(*state.pop("_remake"))
        weights, biases = state.pop("_arrays")
        vars(self).update(state)
        self.weights, self.biases = weights, biases

    # -- From what users hand in to what the algorithm takes ---------------------------------------------------

    @contextmanager
    def _on_device(self, what: str) -> Iterator[None]:
        """Make the network's device the current one, and explain where its memory does not hold `what`.

        Overflow gives no warning: training looks for it after each epoch and says so in plain words.
        """
        with self._model.ops.active(), _memory_explained(what), np.errstate(over="ignore", invalid="ignore"):
            yield

    def _columns(self, x: Any, l: int, what: str) -> Array:
        return arrays.columns(self._model.ops, x, self.sizes[l], self.dtype, what)

    def _rows(self, X: Any, y: Any, X_name: str, y_name: str) -> tuple[Array, Array, str]:
        """Return inputs and targets, checked and where they are, and the task that the targets are for.

        Of a source they are `SourceRows` and None.
        """
        ops, n_in, n_out = self._model.ops, self.sizes[0], self.sizes[-1]
        if isinstance(X, Source):
            if y is not None:
                raise InputError(f"{X_name} is a source, which has its own targets; leave {y_name} out.")
            examples = SourceRows(self._model, X, X_name)
            return examples, None, examples.task()
        X = arrays.rows(ops, X, n_in, self.dtype, X_name)
        return X, *targets.targets(ops, y, X.shape[0], n_out, self.dtype, self.activations[-1], self.cost, y_name)

    def _book_data(self, pairs: Any, what: str) -> tuple[Array, Array, str]:
        """Return the book's tuples as `_rows` does rows."""
        x, y = targets.book_pairs(pairs, self.sizes[-1], what)
        X = self._columns(x, 0, f"the x of {what}")
        ops, n_out, output = self._model.ops, self.sizes[-1], self.activations[-1]
        return X, *targets.targets(ops, y, len(y), n_out, self.dtype, output, self.cost, f"the y of {what}")

    def _train(
        self,
        examples: Examples,
        options: Options,
        validation_data: tuple[Any, Any] | Source | None = None,
        validation_split: float = 0.0,
    ) -> History:
        """Train; where not one epoch is kept, task and history stay as they were."""
        split = checks.share(validation_split, "validation_split")
        is_lbfgs = isinstance(options.optimizer, LBFGS)
        options = options.for_network(1.0 if is_lbfgs else self.default_eta(options.optimizer))
        options.dropout_by_layer(self.num_layers)  # an error is better known before the data are split
        if split and validation_data is not None:
            raise InputError("pass validation_data or validation_split, not both.")
        if options.needs_validation and not split and validation_data is None:
            raise InputError(
                f"{' and '.join(options.needs_validation)} needs validation data: pass validation_data=(X, y) or "
                "validation_split=0.1, or let it monitor 'cost'."
            )
        facts = {
            "sizes": self.sizes,
            "activations": [activation_functions.to_json(f) for f in self.activations],
            "cost": costs.to_json(self.cost),
            "dtype": self.dtype,
            "input_scale": self.input_scale,
            "validation_split": split,
        }
        before, rng_before = (self.task, self.history, self._seeded), self._rng.bit_generator.state
        started_with = None if is_lbfgs else options.eta.start
        history = History(self.device, self.backend, "", options.optimizer.name, started_with, options.batch_size)
        try:
            fitting = Fitting(self._model, self._rng, options, self._saved, facts, self._seeded)
            validation = None
            if validation_data is not None:
                validation = self._validation(validation_data, examples.task)
            elif split:
                examples, held_out = fitting.hold_out(examples, split)
                validation = self._as_validation(held_out)
            n = examples.X.shape[0]
            if not is_lbfgs:
                self._note_large_batch(options.batch_size, n)
            history.batch_size = n if is_lbfgs else min(options.batch_size, n)
            self.task, self.history, history.task = examples.task, history, examples.task
            self._seeded = fitting.seeded  # which is the checkpoint's, if there is one
            fitting.run(examples, validation, history)
        finally:
            if not history.epochs:
                self.task, self.history, self._seeded = before
                self._rng.bit_generator.state = rng_before
        return history

    def _task_of_score(self, y: Any, task: str) -> str:
        """Return the task that y, which looks like one for `task`, is scored for."""
        are_labels = getattr(y, "ndim", np.ndim(y)) == 1 and self.sizes[-1] > 1
        # A regression network's y may look like classes in a small part of the data: its own task decides.
        return "regression" if self.task == "regression" and not are_labels else task

    def _validation(self, data: Any, trained_for: str) -> loop.Validation:
        try:
            X, y = (data, None) if isinstance(data, Source) else data
        except (TypeError, ValueError):
            raise InputError("validation_data must be a pair (X, y) or a source.") from None
        X, Y, task = self._rows(X, y, "validation_data[0]", "validation_data[1]")
        if trained_for == "classification" and task == "regression":
            raise InputError("validation_data[1] must be labels or one-hot rows, as y is.")
        return self._as_validation(Examples(X, Y, None, trained_for))

    def _as_validation(self, examples: Examples) -> loop.Validation:
        placed = Examples(examples.X, examples.Y, None, examples.task).placed(self._model)
        if isinstance(placed.X, SourceRows):
            return loop.Validation(placed.X, None, placed.task)
        return loop.Validation(placed.X, np.array(self._model.ops.to_numpy(placed.Y)), placed.task)

    def _note_large_inputs(self, X: Array) -> None:
        xp = np if isinstance(X, np.ndarray) else self._model.ops.xp
        largest = max(-float(xp.min(X)), float(xp.max(X)))
        if largest > _LARGE_INPUT and not self._scale_was_given:
            warnings.warn(
                f"inputs reach {largest:.4g} in size, and networks learn best from inputs of about 1: scale the "
                "columns, or give images Network(..., input_scale=1/255). input_scale=1 says that this is wanted.",
                stacklevel=3,
            )

    @staticmethod
    def _note_large_batch(batch_size: int, n: int) -> None:
        if batch_size > n:
            warnings.warn(
                f"a mini-batch of {batch_size} is larger than the {n} examples: every epoch is one step on all "
                "of them.",
                stacklevel=4,
            )

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


def _refuse_for_a_source(**options: Any) -> None:
    """Refuse what would need all examples at once."""
    given = [name for name, value in options.items() if value is not None and not np.array_equal(value, 0)]
    if given:
        instead = ", and validate on data of their own by validation_data" if "validation_split" in given else ""
        raise InputError(
            f"{' and '.join(given)} needs all examples in memory, but X is read chunk by chunk; "
            f"leave it out{instead}."
        )


def _by_name(custom: Any) -> tuple[dict[str, Activation], dict[str, Cost]]:
    """Return the activations and the costs in `custom` by their names."""
    functions: dict[str, Activation] = {}
    own_costs: dict[str, Cost] = {}
    for own in custom if isinstance(custom, Iterable) else [custom]:
        if not isinstance(own, Activation | Cost):
            raise InputError(f"custom must be a list of Activation and Cost objects, got {own!r:.60}.")
        known: dict[str, Any] = functions if isinstance(own, Activation) else own_costs
        if known.setdefault(own.name, own) is not own:
            raise InputError(f"custom has two of the name {own.name!r}.")
    return functions, own_costs


def _custom_hint(saved: model_file.SavedModel, functions: Any, own_costs: Any) -> str:
    """Return what to do if a model names an activation or cost that nobody knows here."""
    known = {*activation_functions.BUILT_IN, *functions, *costs.BUILT_IN, *own_costs}
    names = [name for name in [*saved.activations, saved.cost] if isinstance(name, str)]
    return "" if known.issuperset(names) else " One of your own goes into load(..., custom=[...])."


@contextmanager
def _memory_explained(what: str) -> Iterator[None]:
    try:
        yield
    except MemoryError as error:  # NumPy's and CuPy's alike
        raise not_enough_memory(what, error) from error
