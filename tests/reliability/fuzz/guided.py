"""Let coverage choose the damage: atheris drives one reader, with its own mutations in turn with ours.

    pip install atheris
    python tests/reliability/fuzz/guided.py npz -runs=100000

What follows the reader's name goes to libFuzzer. Found inputs that fail end the run, as crash-... files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(1, str(Path(__file__).parents[3]))

with atheris.instrument_imports(include=["gpunet", "zipfile", "pickletools", "csv"]):
    from reliability.fuzz.readers import TARGETS
    from reliability.fuzz.target import Sample, Target, objections

    from gpunet.datasets import book_pickle, npz, table  # noqa: F401 - else their readers import them later


def one_input(target: Target, folder: Path) -> Callable[[bytes], None]:
    """Return what libFuzzer calls: it raises where an input shows a defect."""
    usual = target.seeds[0]

    def run(data: bytes) -> None:
        given = Sample({usual.name: data}, usual.options)
        (folder / usual.name).write_bytes(data)
        try:
            result = target.read(folder / usual.name, **given.options)
        except Exception as error:
            if wrong := objections(error, given, folder):
                raise RuntimeError("; ".join(wrong)) from error
        else:
            target.check(given, result)

    return run


def mutator(target: Target) -> Callable[[bytes, int, int], bytes]:
    """Return a mutator that now and then puts one of our inputs in the place of libFuzzer's."""

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        if rng.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return target.make(rng).data[:max_size]

    return mutate


def main() -> None:
    """Fuzz the reader that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"Name a reader: {', '.join(TARGETS)}.")
    target = TARGETS[sys.argv.pop(1)]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for i, seed in enumerate(target.seeds):
            (corpus / f"seed-{i}").write_bytes(seed.data)
        atheris.Setup(
            [*sys.argv, "-timeout=5", str(corpus)], one_input(target, Path(folder)), custom_mutator=mutator(target)
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
