"""The command line: gpunet train | evaluate | predict | show-config | export | doctor | parity | bench.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gpunet import plots
from gpunet.benchmarks import cli as bench_cli
from gpunet.cli import blas_check, loading, predictions, reports, runs, training
from gpunet.cli.presets import PRESETS
from gpunet.cli.runs import UsageError
from gpunet.config import config as found_here
from gpunet.config import show_facts
from gpunet.errors import DeviceError, GpunetError, InputError
from gpunet.interop import cli as interop_cli
from gpunet.network import Network
from gpunet.parity import compare, display
from gpunet.preprocessing import Preprocessing
from gpunet.training.metrics import to_classes
from gpunet.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train fully connected networks by backpropagation.",
)
app.add_typer(bench_cli.app, name="bench")

_DATA_HELP = "A table (.csv, .parquet), .npz, a folder of idx files, an idx images file or the book's .pkl.gz."
Data = Annotated[Path | None, typer.Argument(help=f"{_DATA_HELP} Default: MNIST.")]
Target = Annotated[str | None, typer.Option(help="The table's column of the labels, by name or number.")]
Model = Annotated[Path, typer.Argument(help="A model that `gpunet train` saved.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
MaxBytes = Annotated[
    int | None,
    typer.Option(min=1, help="Bytes that a compressed DATA may unpack to. Default: by the memory that takes."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")]


def main() -> None:
    """Run the command line."""
    warnings.showwarning = lambda message, *_args, **_kwargs: print(f"note: {message}", file=sys.stderr)
    try:
        app()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
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


#: What of a run has an option; DATA is an argument, and the data's checksum is for files alone.
_ON_THE_LINE = [name for name in runs.FIELDS if name != "data_sha256"]


def _with_options_of_a_run(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, by its signature, which typer reads, an option for each field of `Run`."""
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [own[0], *map(_parameter, _ON_THE_LINE), *own[1:]]
    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    command.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in keyword_only}
    return command


def _parameter(name: str) -> inspect.Parameter:
    if name == "data":
        kind: Any = str | None
        info: Any = typer.Argument(help=f"{_DATA_HELP} Default: MNIST.", metavar="DATA")
        default = None
    else:
        field = runs.FIELDS[name]
        kind, default, limits = runs.kind_of(name), field.default, field.metadata["limits"]
        is_list = kind not in (str, int, float, bool)
        own_limits = {} if is_list else {key: limits[key] for key in ("min", "max") if key in limits}
        info = typer.Option(help=field.metadata["help"], rich_help_panel=field.metadata["group"], **own_limits)
        of_list = list[str] if kind == tuple[str, ...] else str  # columns may be named one by one
        kind, default = (of_list if is_list else kind) | None, None if is_list else default
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info])


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command()
@_with_options_of_a_run
def train(
    context: typer.Context,
    preset: Annotated[
        str | None, typer.Option(help=f"{' or '.join(PRESETS)}: options under a name; others on the line go before.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file of options, or a model, whose training is repeated; options on the line go before."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Model file. Default: gpunet-model.safetensors, numbered if it exists."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="A file that the training's state is written to between epochs.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint, with its options, if that file exists.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw a page on the training into this file: .png, .svg.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write a line for each epoch: .csv or .jsonl.")] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write each epoch for TensorBoard into this folder.")
    ] = None,
    as_json: AsJson = False,
    **_options: Any,
) -> None:
    """Train a network. Without options: the book's run, [784, 30, 10] on MNIST."""
    given = {name: context.params[name] for name in _ON_THE_LINE if _was_given(context, name)}
    files = training.Files(output, checkpoint, resume, plot, log, tensorboard)
    training.train(runs.combined(given, config, preset, files.to_resume()), files, as_json)


@app.command()
def evaluate(
    model: Model,
    data: Data = None,
    target: Target = None,
    max_bytes: MaxBytes = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Tell how good a model is on DATA, or on its test part, where it has one."""
    network = _load(model, device)
    given = loading.for_model(network, data, target, with_labels=True, max_bytes=max_bytes)
    if given.y is None:
        raise InputError(f"{data} has no labels to compare with; name their column with --target, or use predict.")
    if given.table is not None and data is not None and loading.is_of_the_training(network, data):
        print(f"note: the model was trained on {data}: rows that it learned from count here too", file=sys.stderr)
    found = loading.measured(network, Preprocessing.of_model(network.metadata, network.sizes), given.X, given.y)
    n = len(given.X)
    if network.task == "classification":
        correct = round(found["accuracy"] * n)
        facts: dict[str, Any] = {"accuracy": found.pop("accuracy"), "correct": correct, "examples": n, **found}
        line = f"{correct} / {n} correct ({facts['accuracy']:.2%}), {reports.spelled(found)}"
    else:
        facts, line = {**found, "examples": n}, f"{reports.spelled(found)} on {n} examples"
    print(json.dumps({"event": "evaluation", **facts}) if as_json else line)


@app.command()
def predict(
    model: Model,
    data: Annotated[Path, typer.Argument(help="As for train; labels are not needed.")],
    target: Target = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add the probability of each class, of a table.")
    ] = False,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="Columns of the table to keep beside the predictions: id,name. May be given several times."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write a table here, .csv or .parquet, not to the screen.")
    ] = None,
    max_bytes: MaxBytes = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Predict each example of DATA, or of its test part, if any.

    For a table this gives a table, as CSV; for other data a line for each example: its class, or the outputs of a
    regression.
    """
    if output is not None:
        with runs.usage():
            predictions.check_output(output, [data, model])
    if as_json and (probabilities or keep or output is not None):
        raise UsageError(
            "--json gives all outputs, one object a line; leave --probabilities, --keep and --output out."
        )
    network = _load(model, device)
    with runs.usage():
        kept = runs.columns(keep or (), "--keep")
    given = loading.for_model(network, data, target, with_labels=False, keep=kept, max_bytes=max_bytes)
    outputs = network.outputs(given.X)
    prepared = Preprocessing.of_model(network.metadata, network.sizes)
    if given.table is not None and prepared is not None and not as_json:
        table = predictions.table(network, prepared, outputs, given.table, kept, probabilities)
        predictions.write(table, output)
        return
    if probabilities or output is not None:
        raise UsageError(
            "--probabilities and --output are for tables and models that were trained on one; see --json."
        )
    if network.task == "regression":
        rows = outputs.tolist() if prepared is None else [[x] for x in prepared.predictions(outputs).tolist()]
        for row in rows:
            print(json.dumps({"outputs": row}) if as_json else ",".join(map(repr, row)))
        return
    names = loading.class_names(network)
    for row, index in zip(outputs.tolist(), to_classes(outputs).tolist(), strict=True):
        print(json.dumps({"label": names[index], "outputs": row}) if as_json else names[index])


@app.command("show-config")
def show_config(model: Model, as_json: AsJson = False) -> None:
    """Print the options that a model was trained with, as TOML that `gpunet train --config` takes."""
    options = runs.read_model(model)
    print(json.dumps(options) if as_json else runs.to_toml(options), end="\n" if as_json else "")


app.command()(interop_cli.export)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Tell what gpunet found on this machine, what it would use, why not the GPU, and what would make it faster."""
    kernels = blas_check.compare_kernels()
    if as_json:
        print(json.dumps({**found_here(), "kernels": kernels}))
    else:
        show_facts(found_here())
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
        with runs.usage():
            plots.check_path(plot)
    with runs.usage(), Console(stderr=True).status("comparing"):
        report = compare(
            _by_name(device),
            _by_name(against),
            dtype=dtype,
            on_result=display.json_result if as_json else None,
        )
    if as_json:
        facts = {"device": report.device, "against": report.against, "passed": report.passed}
        display.json_line("verdict", {**facts, "text": report.verdict()})
    else:
        display.show(report, details)
    if plot is not None:
        display.plot(report, plot)
    if not report.passed:
        raise typer.Exit(1)


# -- Options and files -----------------------------------------------------------------------------------------


def _by_name(device: str) -> Any:
    """Return the array library of that name, or the device's name itself."""
    if device not in ("torch", "array_api_strict"):
        return device
    try:
        return importlib.import_module(device)
    except ImportError as error:
        raise DeviceError(f"device {device!r} can not be used: {error}") from error


def _load(model: Path, device: str) -> Network:
    logging.getLogger("gpunet").setLevel(logging.ERROR)  # on which device matters to training; `doctor` tells it
    with runs.usage():
        return Network.load(model, device=device)
