"""What `gpunet train` does: from a `Run` to a trained model's file, however the training ends."""

from __future__ import annotations

import itertools
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpunet import checks, logs, model_file, plots
from gpunet.cli import loading, reports, runs
from gpunet.cli.examples import TrainingData
from gpunet.cli.runs import Run, UsageError
from gpunet.errors import GpunetError, InputError
from gpunet.network import Network
from gpunet.training.options import Options
from gpunet.training.record import Epoch
from gpunet.version import __version__

_DEFAULT_MODEL = "gpunet-model.safetensors"
#: What is told where it is on.
_REGULARIZATION = (
    "l1",
    "weight_decay",
    "dropout",
    "max_norm",
    "clip_norm",
    "clip_value",
    "label_smoothing",
    "class_weight",
)
#: The options of a run that `Network.fit` takes as they are.
_OF_FIT = (
    "epochs",
    "batch_size",
    "optimizer",
    "l2",
    "l1",
    "weight_decay",
    "max_norm",
    "clip_norm",
    "clip_value",
    "label_smoothing",
    "early_stopping",
    "engine",
    "threads",
)


class _Stopped(KeyboardInterrupt):
    """The training was asked to stop by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


class _Beside:
    """What is written beside the model and may fail: that is told, and costs neither training nor model."""

    def __init__(self) -> None:
        self.failed = False

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Within it an error of writing is told and goes no further."""
        try:
            yield
        except (GpunetError, OSError) as error:
            self.failed = True
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            print(f"error: {what}: {reason}", file=sys.stderr)

    def log(self, write: Callable[[Epoch], None], what: str) -> Callable[[Epoch], None]:
        """Return a log that after its first error writes no more."""
        is_whole = True

        def log(epoch: Epoch) -> None:
            nonlocal is_whole
            if is_whole:
                is_whole = False
                with self.told(f"{what} ends before epoch {epoch.epoch}"):
                    write(epoch)
                    is_whole = True

        return log


@dataclass(frozen=True)
class Files:
    """What a training writes: the model, a checkpoint to go on from (if `resume`, right now), a picture and logs."""

    output: Path | None = None
    checkpoint: Path | None = None
    resume: bool = False
    plot: Path | None = None
    log: Path | None = None
    tensorboard: Path | None = None

    def to_resume(self) -> Path | None:
        """Return the checkpoint to go on from, if it is there.

        Raises
        ------
        UsageError
            If it is there and is not to be gone on from, or there is to be one and has no name.
        """
        if self.checkpoint is None:
            if self.resume:
                raise UsageError("--resume needs --checkpoint, the file to go on from.")
            return None
        if self.checkpoint.exists() and not self.resume:
            raise UsageError(
                f"--checkpoint {self.checkpoint} exists: add --resume to go on from it, or name another file."
            )
        return self.checkpoint if self.checkpoint.exists() else None

    def logs(self, beside: _Beside) -> list[Callable[[Epoch], None]]:
        """Return what writes the logs, to be called with each epoch."""
        found: list[Callable[[Epoch], None]] = []
        if self.log is not None:
            kind = logs.CSVLog if self.log.suffix.lower() == ".csv" else logs.JSONLinesLog
            found.append(beside.log(kind(self.log, append=self.resume), f"--log {self.log}"))
        if self.tensorboard is not None:
            found.append(beside.log(logs.TensorBoardLog(self.tensorboard), f"--tensorboard {self.tensorboard}"))
        return found

    def check(self, dataset_files: list[Path]) -> None:
        """Refuse what can not be written by its name, or would replace what is read or written besides."""
        if self.plot is not None:
            plots.check_path(self.plot)
        if self.log is not None and self.log.suffix.lower() not in (".csv", ".jsonl"):
            raise InputError(f"--log {self.log}: a log is .csv or .jsonl; name such a file.")
        for option, path in (("log", self.log), ("plot", self.plot)):
            if path is not None and _is_one_of(path, dataset_files):
                raise InputError(f"--{option} {path} is the data; name another file.")
        output, checkpoint = self.output, self.checkpoint
        if output is not None and checkpoint is not None:
            is_same = output.absolute() == checkpoint.absolute() or _is_one_of(output, [checkpoint])
            if is_same:
                raise InputError(f"--output {output} is the checkpoint; name another file.")


def _is_one_of(path: Path, files: list[Path]) -> bool:
    return any(path.exists() and file.exists() and path.samefile(file) for file in files)


def train(run: Run, files: Files, as_json: bool) -> None:
    """Train a network as the run says, tell of it, and save it; it may end the process with an exit code."""
    seed = secrets.randbits(32) if run.seed is None else run.seed
    run = replace(run, seed=seed)
    sha256 = loading.note_other_data(run)
    data = loading.to_train(run, seed)
    run = runs.filled(
        replace(run, data_sha256=sha256),
        is_table=data.preprocessing is not None,
        task=data.task,
        examples=len(data.X),
    )
    dataset_files = [Path(p) for p in (run.data, run.test) if p is not None]
    with runs.usage():
        files.check(dataset_files)
        checks.one_of(run.schedule, runs.SCHEDULES, "schedule")
        network = _network(run, data)
        if run.eta is None and run.optimizer != "lbfgs":
            assert run.optimizer is not None
            run = replace(run, eta=network.default_eta(run.optimizer))
        options = _options(run, files)
        Options(**options).dropout_by_layer(len(network.sizes))  # refuses what is wrong before anything is written
    network.metadata = _metadata(run, data, network)
    path = None if files.output is None else files.output.expanduser()
    _check_writable(path, network, dataset_files)

    report, last_told = reports.choose(as_json), -1
    beside = _Beside()

    def tell(epoch: Epoch) -> None:
        nonlocal last_told
        report.epoch(epoch)
        last_told = epoch.epoch

    started = time.perf_counter()
    logs_of_epochs = files.logs(beside)
    with report, _stopped_by_signals():
        try:
            report.start(_facts(run, data, network))
            history = network.fit(
                data.X,
                data.y,
                **options,
                class_weight=run.class_weight,
                validation_data=(data.X_validation, data.y_validation),
                diagnostics=files.plot is not None,
                on_epoch=[tell, *logs_of_epochs],
                on_progress=report.progress,
            )
        except (KeyboardInterrupt, Exception) as error:  # whatever it is, what was learned is kept
            try:
                kept = _save_what_is_done(network, path)
                if isinstance(error, KeyboardInterrupt):  # it may have come between an epoch's end and its report
                    for epoch in network.history.epochs if network.history else ():
                        if epoch.epoch > last_told and not (files.resume and last_told < 0):
                            report.epoch(epoch)
                if kept:
                    _draw(network, data, files, beside)
            except KeyboardInterrupt:
                print("interrupted again; the training is not saved", file=sys.stderr)
                sys.exit(130)
            if not isinstance(error, KeyboardInterrupt):
                if kept:
                    print(f"note: {kept}", file=sys.stderr)
                raise
            print(f"interrupted; {kept or 'before the first epoch was done'}", file=sys.stderr)
            sys.exit(error.exit_code if isinstance(error, _Stopped) else 130)
        saved = _save(network, path)
        report.end(
            {
                **loading.measured(network, data.preprocessing, data.X_test, data.y_test),
                "cost": history.epochs[-1].cost,
                "epochs": len(history.epochs),
                "stopped": history.stopped,
                "best_epoch": history.best_epoch,
                "device": network.device,
                "backend": network.backend,
                "engine": history.engine,
                "seconds": time.perf_counter() - started,
                "model": str(saved),
            }
        )
    print(f"saved {saved}", file=sys.stderr)
    _draw(network, data, files, beside)  # last: whatever it comes to, the model is there and the figures are told
    if beside.failed:
        sys.exit(1)


# -- From the options to the network -----------------------------------------------------------------------------


def _network(run: Run, data: TrainingData) -> Network:
    return Network(
        _sizes(run, data),
        activation=run.activation or "sigmoid",
        output_activation=run.output_activation,
        cost=run.cost or "quadratic",
        init=run.init,
        dtype=run.dtype,
        device=run.device,
        seed=run.seed,
        input_scale=data.input_scale,
    )


def _sizes(run: Run, data: TrainingData) -> list[int]:
    n_in, n_out = data.X.shape[1], data.n_out
    if run.layers is None:
        return [n_in, *(run.hidden or ()), n_out]
    sizes = list(run.layers)
    # A number can be a label that was not met yet; of classes with names, and of numbers to predict, all are known.
    all_known = data.classes is not None or data.task == "regression"
    if len(sizes) < 2 or sizes[0] != n_in or sizes[-1] < n_out or (all_known and sizes[-1] > n_out):
        hidden = ",".join(map(str, sizes if len(sizes) == 1 else sizes[1:-1] or [30]))
        outputs = f"{n_out} classes" if data.task == "classification" else "one number to predict"
        raise InputError(
            f"--layers {','.join(map(str, sizes))} does not fit {data.name}, which has {n_in} inputs and {outputs}; "
            f"such as --layers {n_in},{hidden},{n_out}, or --hidden {hidden}."
        )
    return sizes


def _options(run: Run, files: Files) -> dict[str, Any]:
    """Return the arguments of `Network.fit` that the run decides."""
    options = {name: getattr(run, name) for name in _OF_FIT}
    if run.eta is not None:
        assert run.epochs is not None
        options["eta"] = runs.SCHEDULES[run.schedule](run.eta, run.epochs)
    elif run.schedule != "constant":
        raise InputError(f"--schedule {run.schedule} is for a learning rate, which {run.optimizer} has not.")
    # One number is for all hidden layers.
    options["dropout"] = run.dropout[0] if len(run.dropout) == 1 else run.dropout or 0.0
    if files.checkpoint is not None:
        options |= {"checkpoint": files.checkpoint, "resume": files.resume}
    return options


def _draw(network: Network, data: TrainingData, files: Files, beside: _Beside) -> None:
    """Draw the page on the training, if there is to be one."""
    if files.plot is not None and network.history is not None:
        with beside.told(f"--plot {files.plot}"):
            plots.save(files.plot, network.history, network, data.X_test, data.y_test, class_names=data.classes)


def _metadata(run: Run, data: TrainingData, network: Network) -> dict[str, Any]:
    classes = list(data.classes or map(str, range(network.sizes[-1]))) if data.task == "classification" else None
    return {
        "classes": classes,
        "target": data.target,
        "features": None if data.features is None else list(data.features),
        "preprocessing": None if data.preprocessing is None else data.preprocessing.to_json(),
        "run": {"gpunet": __version__, **runs.to_json(run)},
    }


def _facts(run: Run, data: TrainingData, network: Network) -> dict[str, Any]:
    return {
        "data": data.name,
        "examples": len(data.X),
        "test_examples": len(data.X_test),
        "tested_on_training_data": data.X_test is data.X,
        "validation_examples": len(data.X_validation),
        "validated_on_test_data": data.X_validation is data.X_test,
        "task": data.task,
        "target": data.target,
        "about": data.about,
        "sizes": network.sizes,
        "activations": [f.name for f in network.activations],
        "cost": network.cost.name,
        "epochs": run.epochs,
        "batch_size": run.batch_size,
        "eta": run.eta,
        "optimizer": run.optimizer,
        "l2": run.l2,
        "regularization": {name: getattr(run, name) for name in _REGULARIZATION if getattr(run, name)},
        "schedule": run.schedule,
        "early_stopping": run.early_stopping,
        "dtype": network.dtype,
        "seed": run.seed,
        "device": network.device,
        "backend": network.backend,
    }


# -- The model's file --------------------------------------------------------------------------------------------


def _check_writable(path: Path | None, network: Network, dataset_files: list[Path]) -> None:
    """Fail before the training, not after it, if the model can not be written or would replace something else."""
    if path is None:
        path = Path(_DEFAULT_MODEL).absolute()
    else:
        try:
            model_file.check_replaceable(path)
        except OSError as error:
            raise UsageError(f"--output {path}: {error.strerror}.") from error
        if _is_one_of(path, dataset_files):
            raise UsageError(f"--output {path} is the data; name another file.")
        _check_is_model(path)
    trial = path.resolve().with_name(f".{path.name[:100]}.{secrets.token_hex(4)}.trial")
    try:
        network.save(trial)
    except OSError as error:
        raise InputError(f"--output {path} can not be written: {error.strerror}. Nothing was trained.") from error
    trial.unlink()


def _check_is_model(path: Path) -> None:
    """Refuse to replace a file that is none of gpunet's."""
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        model_file.read(path)
    except GpunetError as error:
        raise UsageError(
            f"--output {path} exists and is no model of gpunet's, so it is not replaced; name another file, or "
            "remove it."
        ) from error
    except OSError as error:
        raise UsageError(f"--output {path}: {error.strerror}.") from error


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
def _stopped_by_signals() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the training and save what is done, and a second Ctrl-C end that too.

    A further SIGTERM does nothing: who stops a job sends it to all processes of a group, and often twice.
    """

    def stop(number: int, _frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise _Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
