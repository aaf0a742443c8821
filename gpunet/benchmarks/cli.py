"""`gpunet bench`: one command a question."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gpunet.benchmarks import accuracy as accuracy_question
from gpunet.benchmarks import memory as memory_question
from gpunet.benchmarks import report, settings
from gpunet.benchmarks import scaling as scaling_question
from gpunet.benchmarks import step as step_question
from gpunet.benchmarks.problem import Problem
from gpunet.errors import GpunetError, InputError

app = typer.Typer(help="Measure gpunet beside what people use today; each contender in its own process, in turn.")

Output = Annotated[Path | None, typer.Option("--output", "-o", help="A folder for the figures (.json, .png).")]
Threads = Annotated[str, typer.Option(help="Thread counts: numbers, all, auto (the library's own choice).")]
Only = Annotated[str | None, typer.Option(help="Contenders beside gpunet's, such as torch,jax. Default: all.")]
Rounds = Annotated[int, typer.Option(min=1, help="Each contender runs once a round.")]
Dtype = Annotated[str, typer.Option(help="float32 or float64.")]

_QUICK = (step_question.PROBLEMS[0], step_question.PROBLEMS[3])


@app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Without a question: two networks of `step`, a few rounds, one thread."""
    if context.invoked_subcommand is None:
        _step(_QUICK, settings.on_cpu(settings.names(None), [1]) + settings.peaks([1]), rounds=5)


@app.command()
def step(
    shape: Annotated[
        list[str] | None,
        typer.Option(help="Sizes, batch and, if you like, steps an epoch: 784,30,10@10 or 784,30,10@10x3000."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="mnist, or random: dense numbers. Default: mnist where it fits the shape.")
    ] = None,
    dtype: Dtype = "float32",
    threads: Threads = "1,all",
    only: Only = None,
    rounds: Rounds = 15,
    busy: Annotated[int, typer.Option(min=0, help="Keep so many cores busy meanwhile.")] = 0,
    output: Output = None,
) -> None:
    """Measure a step of SGD on five networks."""
    with _usage():
        chosen = [_problem(text, data) for text in shape] if shape else step_question.PROBLEMS
        data = data or ("mnist" if all(p.data == "mnist" for p in chosen) else "random")
        problems = step_question.problems(data, dtype, chosen)
        counts = settings.threads(threads)
        contenders = settings.on_cpu(settings.names(only), counts) + settings.peaks(counts)
    _step(problems, contenders, rounds, busy, output)


@app.command()
def accuracy(
    threads: Threads = "1,all",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each contender.")] = 3,
    output: Output = None,
) -> None:
    """Measure the time of training to 95 % and to 98 % on MNIST."""
    with _usage():
        contenders = settings.on_cpu(accuracy_question.CONTENDERS, settings.threads(threads))
    _finish(_measured(lambda tell: accuracy_question.run(contenders, seeds=seeds, tell=tell)), output)


@app.command()
def scaling(threads: Threads = "1", rounds: Rounds = 5, output: Output = None) -> None:
    """Measure how the time of a step grows with width, depth, batch and the number of examples."""
    with _usage():
        contenders = settings.on_cpu(scaling_question.CONTENDERS, settings.threads(threads))
    _finish(_measured(lambda tell: scaling_question.run(contenders, rounds=rounds, tell=tell)), output)


@app.command()
def memory(output: Output = None) -> None:
    """Measure the memory of a training on MNIST."""
    contenders = settings.on_cpu(memory_question.CONTENDERS, [1])
    _finish(_measured(lambda tell: memory_question.run(contenders, tell=tell)), output)


def _step(
    problems: Sequence[Problem], contenders: Sequence[Any], rounds: int, busy: int = 0, output: Path | None = None
) -> None:
    found = _measured(lambda tell: step_question.run(problems, contenders, rounds, busy, tell=tell))
    _finish(found, output)
    differing = step_question.differing(found)
    if differing:
        raise GpunetError("not all compute the same. " + "; ".join(differing))


def _measured(run: Callable[[Callable[[str], object]], dict[str, Any]]) -> dict[str, Any]:
    """Run a question, and tell on standard error where it is."""
    with Console(stderr=True).status("starting the contenders") as status:
        return run(status.update)


def _finish(found: dict[str, Any], output: Path | None) -> None:
    report.show(found)
    if output is not None:
        for path in report.save(found, output):
            typer.echo(f"written to {path}", err=True)


def _problem(text: str, data: str | None) -> Problem:
    """Return the problem that --shape tells; without steps, with so many that an epoch takes some 20 ms."""
    match = re.fullmatch(r"(\d+(?:,\d+)+)@(\d+)(?:x(\d+))?", text.replace(" ", ""))
    if match is None:
        raise InputError(f"--shape must be sizes@batch or sizes@batchxsteps, such as 784,30,10@10, got {text!r}.")
    sizes, batch = tuple(map(int, match[1].split(","))), int(match[2])
    data = data or ("mnist" if (sizes[0], sizes[-1]) == (784, 10) else "random")
    if match[3]:
        return Problem(sizes, batch, int(match[3]), data=data)
    steps = max(2, int(2e9 / Problem(sizes, batch, 1, data=data).flops))
    most = 60_000 // batch if data == "mnist" else steps
    return Problem(sizes, batch, max(1, min(steps, most, 3000)), data=data)


class _usage:  # noqa: N801 - a context manager, as contextlib's
    """Turns a wrong option into wrong use: exit code 2."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise typer.BadParameter(str(error)) from error
