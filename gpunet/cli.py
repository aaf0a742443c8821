"""The command line: gpunet train | evaluate | predict | export | doctor | parity | bench.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import importlib
import itertools
import json
import logging
import secrets
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gpunet import blas_check, checks, cli_data, model_file, optimizers, parity_report, plots, reports
from gpunet.benchmarks import cli as bench_cli
from gpunet.config import config, show_facts
from gpunet.datasets import Dataset
from gpunet.errors import DeviceError, DivergenceError, GpunetError, InputError
from gpunet.interop import cli as interop_cli
from gpunet.network import Network
from gpunet.parity import compare
from gpunet.training.history import Epoch
from gpunet.training.metrics import to_classes
from gpunet.training.sgd import ENGINES, MOST_THREADS
from gpunet.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train fully connected networks by backpropagation.",
)
app.add_typer(bench_cli.app, name="bench")

_DEFAULT_MODEL = "gpunet-model.safetensors"

Data = Annotated[
    Path | None,
    typer.Argument(
        help="A folder of idx files, an idx images file, .npz, .csv or the book's .pkl.gz. Default: MNIST."
    ),
]
Target = Annotated[str | None, typer.Option(help="The CSV column of the labels, by name or number.")]
Model = Annotated[Path, typer.Argument(help="A model that `gpunet train` saved.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")]


def main() -> None:
    """Run the command line."""
    warnings.showwarning = lambda message, *_args, **_kwargs: print(f"note: {message}", file=sys.stderr)
    try:
        app()
    except GpunetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(f"error: {error.filename or 'input or output'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"gpunet {__version__}")
        raise typer.Exit


@app.command()
def train(
    data: Data = None,
    target: Target = None,
    test: Annotated[Path | None, typer.Option(help="Data to test on, if not part of DATA.")] = None,
    holdout: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of DATA to test on if there is no test part.")
    ] = 0.2,
    layers: Annotated[
        str | None, typer.Option(help="All layer sizes, input to output. Default: inputs,30,classes.")
    ] = None,
    activation: Annotated[str, typer.Option(help="sigmoid, tanh, relu or linear.")] = "sigmoid",
    output_activation: Annotated[
        str | None, typer.Option(help="Of the last layer. Default: what the cost is made for.")
    ] = None,
    cost: Annotated[str, typer.Option(help="quadratic, cross-entropy or log-likelihood.")] = "quadratic",
    init: Annotated[str, typer.Option(help="auto, normal, scaled or he.")] = "auto",
    epochs: Annotated[int, typer.Option(min=1)] = 30,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a mini-batch.")] = 10,
    eta: Annotated[
        float | None, typer.Option(help="The learning rate. Default: 3.0 for the book's run, see the README.")
    ] = None,
    optimizer: Annotated[str, typer.Option(help="sgd, momentum, nesterov, adam, rmsprop or adagrad.")] = "sgd",
    l2: Annotated[float, typer.Option(min=0.0, help="lambda of L2 regularization, the book's chapter 3.")] = 0.0,
    engine: Annotated[str, typer.Option(help="auto, compiled or verbs: what takes the steps.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_THREADS, help="Threads of the CPU that share a step. Default: as many as are fastest."
        ),
    ] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same numbers.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model file. Default: gpunet-model.safetensors, numbered if it exists."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a network. Without options: the book's run, [784, 30, 10] on MNIST."""
    seed = secrets.randbits(32) if seed is None else seed
    dataset = cli_data.to_train(data, target, test, holdout, seed)
    with _usage():
        network = Network(
            _layers(layers, dataset),
            activation=activation,
            output_activation=output_activation,
            cost=cost,
            init=init,
            dtype=dtype,
            device=device,
            seed=seed,
            input_scale=None if dataset.input_scale == 1.0 else dataset.input_scale,
        )
        optimizers.get(optimizer)
        checks.one_of(engine, ENGINES, "engine")
        if not l2 < float("inf"):
            raise InputError(f"--l2 must be a finite number, got {l2}.")
        if eta is not None and not 0 < eta < float("inf"):
            raise InputError(f"--eta must be a finite number above 0, got {eta}.")
    network.metadata = {
        "classes": list(dataset.classes or map(str, range(network.sizes[-1]))),
        "target": dataset.target,
        "features": None if dataset.features is None else list(dataset.features),
    }
    path = None if output is None else output.expanduser()
    _check_writable(path, network, dataset_files=[p for p in (data, test) if p is not None])

    report, told = reports.choose(as_json), 0

    def tell(epoch: Epoch) -> None:
        nonlocal told
        report.epoch(epoch)
        told += 1

    started = time.perf_counter()
    with report, _first_interrupt_only():
        try:
            report.start(
                {
                    "data": dataset.name,
                    "examples": len(dataset.X),
                    "test_examples": len(dataset.X_test),  # type: ignore[arg-type]
                    "tested_on_training_data": dataset.X_test is dataset.X,
                    "sizes": network.sizes,
                    "activations": [f.name for f in network.activations],
                    "cost": network.cost.name,
                    "epochs": epochs,
                    "batch_size": batch_size,
                    "eta": eta if eta is not None else network.default_eta(optimizer),
                    "optimizer": optimizer,
                    "l2": l2,
                    "dtype": network.dtype,
                    "seed": seed,
                    "device": network.device,
                    "backend": network.backend,
                }
            )
            history = network.fit(
                dataset.X,
                dataset.y,
                epochs=epochs,
                batch_size=batch_size,
                eta=eta,
                optimizer=optimizer,
                l2=l2,
                engine=engine,
                threads=threads,
                validation_data=(dataset.X_test, dataset.y_test),
                on_epoch=tell,
                on_progress=report.progress,
            )
        except (KeyboardInterrupt, DivergenceError, DeviceError, OSError) as error:
            for epoch in network.history.epochs[told:] if network.history else ():
                report.epoch(epoch)  # it was interrupted between the epoch's end and its report
            kept = _save_what_is_done(network, path)
            if not isinstance(error, KeyboardInterrupt):
                if kept:
                    print(f"note: {kept}", file=sys.stderr)
                raise
            print(f"interrupted; {kept or 'before the first epoch was done'}", file=sys.stderr)
            raise typer.Exit(130) from None
        saved = _save(network, path)
        report.end(
            {
                "accuracy": history.epochs[-1].validation_score,
                "cost": history.epochs[-1].cost,
                "epochs": epochs,
                "device": network.device,
                "backend": network.backend,
                "engine": history.engine,
                "seconds": time.perf_counter() - started,
                "model": str(saved),
            }
        )
    print(f"saved {saved}", file=sys.stderr)


@app.command()
def evaluate(
    model: Model, data: Data = None, target: Target = None, device: Device = "auto", as_json: AsJson = False
) -> None:
    """Tell how many examples of DATA a model gets right; of its test part, where it has one."""
    network = _load(model, device)
    X, labels = cli_data.to_test(network, data, target)
    if labels is None:
        raise InputError(f"{data} has no labels to compare with; name their column with --target, or use predict.")
    accuracy = network.score(X, labels)
    correct = round(accuracy * len(X))
    if as_json:
        print(json.dumps({"event": "evaluation", "accuracy": accuracy, "correct": correct, "examples": len(X)}))
    else:
        print(f"{correct} / {len(X)} correct ({accuracy:.2%})")


@app.command()
def predict(
    model: Model,
    data: Annotated[Path, typer.Argument(help="As for train; labels are not needed.")],
    target: Target = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Write the class of each example of DATA, one a line (for regression its outputs); of its test part, if any."""
    network = _load(model, device)
    outputs = network.outputs(cli_data.to_predict(network, data, target))
    if network.task == "regression":
        for row in outputs.tolist():
            print(json.dumps({"outputs": row}) if as_json else ",".join(map(repr, row)))
        return
    names = cli_data.class_names(network)
    for row, index in zip(outputs.tolist(), to_classes(outputs).tolist(), strict=True):
        print(json.dumps({"label": names[index], "outputs": row}) if as_json else names[index])


app.command()(interop_cli.export)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what gpunet found on this machine, what it would use, why not the GPU, and what would make it faster."""
    kernels = blas_check.compare_kernels()
    if as_json:
        print(json.dumps({**config(), "kernels": kernels}))
    else:
        show_facts(config())
        if kernels is not None:
            print(blas_check.advice(kernels))


@app.command()
def parity(
    device: Annotated[str, typer.Option(help="cuda, cuda:N, cpu, torch or array_api_strict.")] = "cuda",
    against: Annotated[str, typer.Option(help="What it is compared with.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, float64 or all.")] = "all",
    details: Annotated[bool, typer.Option("--details", help="A line for every input.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the error along the trainings into this file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two backends, verb by verb and along trainings, to see that they compute the same."""
    if plot is not None:
        with _usage():
            plots.check_path(plot)
    with _usage(), Console(stderr=True).status("comparing"):
        report = compare(
            _by_name(device),
            _by_name(against),
            dtype=dtype,
            on_result=parity_report.json_result if as_json else None,
        )
    if as_json:
        facts = {"device": report.device, "against": report.against, "passed": report.passed}
        parity_report.json_line("verdict", {**facts, "text": report.verdict()})
    else:
        parity_report.show(report, details)
    if plot is not None:
        parity_report.plot(report, plot)
    if not report.passed:
        raise typer.Exit(1)


# -- Options and files -----------------------------------------------------------------------------------------


@contextmanager
def _usage() -> Iterator[None]:
    """Turn a wrong option into wrong use: exit code 2."""
    try:
        yield
    except InputError as error:
        raise typer.BadParameter(str(error)) from error


def _by_name(device: str) -> Any:
    """Return the array library of that name, or the device's name itself."""
    if device not in ("torch", "array_api_strict"):
        return device
    try:
        return importlib.import_module(device)
    except ImportError as error:
        raise DeviceError(f"device {device!r} can not be used: {error}") from error


def _layers(layers: str | None, dataset: Dataset) -> list[int]:
    n_in, n_out = dataset.X.shape[1], max(dataset.n_classes, 2)
    if layers is None:
        return [n_in, 30, n_out]
    try:
        sizes = [int(size) for size in layers.strip("[] ").split(",")]
    except ValueError:
        raise InputError(f"--layers must be sizes such as {n_in},30,{n_out}, got {layers!r}.") from None
    fits = sizes[-1] == n_out if dataset.classes else sizes[-1] >= n_out  # a number can be a label not met yet
    if len(sizes) < 2 or sizes[0] != n_in or not fits:
        hidden = ",".join(map(str, sizes if len(sizes) == 1 else sizes[1:-1] or [30]))
        raise InputError(
            f"--layers {layers} does not fit {dataset.name}, which has {n_in} inputs and {n_out} classes; such as "
            f"--layers {n_in},{hidden},{n_out}."
        )
    return sizes


def _check_writable(path: Path | None, network: Network, dataset_files: list[Path]) -> None:
    """Fail before the training, not after it, if the model can not be written or would replace something else."""
    if path is None:
        path = Path(_DEFAULT_MODEL).absolute()
    else:
        try:
            model_file.check_replaceable(path)
        except OSError as error:
            raise typer.BadParameter(f"--output {path}: {error.strerror}.") from error
        if any(path.exists() and file.exists() and path.samefile(file) for file in dataset_files):
            raise typer.BadParameter(f"--output {path} is the data; name another file.")
    trial = path.resolve().with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.trial")
    try:
        network.save(trial)
    except OSError as error:
        raise InputError(f"--output {path} can not be written: {error.strerror}. Nothing was trained.") from error
    trial.unlink()


def _save_what_is_done(network: Network, path: Path | None) -> str | None:
    """Save the model of the last whole epoch, if there is one, and say so."""
    if network.history is None or not network.history.epochs:
        return None
    return f"the model of epoch {network.history.epochs[-1].epoch} is in {_save(network, path)}"


def _save(network: Network, path: Path | None) -> Path:
    """Save the model; where that fails, into the folder for temporary files, so that no training is lost."""
    try:
        if path is None:
            return _save_under_free_name(network)
        network.save(path)
    except OSError as error:
        rescue = Path(tempfile.mkdtemp(prefix="gpunet-")) / (path or Path(_DEFAULT_MODEL)).name
        network.save(rescue)
        raise InputError(
            f"{path or _DEFAULT_MODEL} could not be written ({error}); the model is in {rescue} instead."
        ) from error
    return path


def _save_under_free_name(network: Network) -> Path:
    """Save the model under the default name, numbered if that is taken, also by a training that runs beside."""
    default = Path(_DEFAULT_MODEL)
    part = Path(f".{default.name}.{secrets.token_hex(4)}.part")
    network.save(part)
    try:
        for number in itertools.count(1):
            path = default if number == 1 else Path(f"{default.stem}-{number}{default.suffix}")
            try:
                with path.open("xb"):  # takes the name, or finds it taken
                    pass
            except FileExistsError:
                continue
            part.replace(path)
            return path
    finally:
        part.unlink(missing_ok=True)
    raise AssertionError("counted to the end")


@contextmanager
def _first_interrupt_only() -> Iterator[None]:
    """Let the first Ctrl-C stop the training, and no further one stop the saving that it asks for."""

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _load(model: Path, device: str) -> Network:
    logging.getLogger("gpunet").setLevel(logging.ERROR)  # on which device matters to training; `doctor` tells it
    with _usage():
        return Network.load(model, device=device)
