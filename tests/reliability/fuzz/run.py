"""Feed damaged files to gpunet's readers, and say what became of them.

python tests/reliability/fuzz/run.py --inputs 1000000 --seed 1
python tests/reliability/fuzz/run.py --reader npz --inputs 1000 --seed 1
python tests/reliability/fuzz/run.py --reader npz --seed 1 --only 123

It needs the extra `test`. Coverage-guided runs are guided.py's; they need atheris (`pip install atheris`), which is
in no extra, because it has no wheels for many platforms and Pythons.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(1, str(Path(__file__).parents[3]))
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # no pool of threads, which a fork would lose
    os.environ.setdefault(variable, "1")

from reliability.fuzz import runner  # noqa: E402
from reliability.fuzz.readers import TARGETS  # noqa: E402
from reliability.fuzz.target import Target  # noqa: E402

#: How many of an input's kinds of rejection are shown.
_SHOWN = 8


def main() -> int:
    """Run as asked on the command line; return 1 if something is wrong with a reader."""
    parser = argparse.ArgumentParser(description="Feed damaged files to gpunet's readers.")
    parser.add_argument("--inputs", type=int, default=100_000, help="how many, over all readers")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", choices=sorted(TARGETS), action="append", help="only this one; may be repeated")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parser.add_argument("--failures", type=Path, default=Path("build/fuzz"), help="where failing inputs are kept")
    parser.add_argument("--only", type=int, metavar="INDEX", help="run one input, in this process, and keep it")
    given = parser.parse_args()
    targets = [TARGETS[name] for name in given.reader or TARGETS]
    if given.only is not None:
        return _run_one(targets[0], given.seed, given.only, given.failures)
    print(
        f"{'reader':<8}{'inputs':>9}{'accepted':>9}{'rejected':>9}{'slowest':>10}{'most memory':>13}{'per s CPU':>10}"
        f"{'failures':>9}"
    )
    tallies = {}
    for target in targets:
        started = _processor_time()
        tally = runner.run(target, given.inputs // len(targets), seed=given.seed, jobs=given.jobs)
        tallies[target.name] = tally
        rate = tally.inputs / (_processor_time() - started)
        _print_row(target.name, tally, rate)
    for name, tally in tallies.items():
        print(f"\n{name}: kinds of rejection")
        for kind, count in tally.rejected.most_common(_SHOWN):
            print(f"{count:>9}  {kind}")
        others = tally.rejected.most_common()[_SHOWN:]
        if others:
            print(f"{sum(count for _, count in others):>9}  of {len(others)} other kinds")
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    for failure in failures:
        keep(given.failures, TARGETS[failure.target], given.seed, failure.index)
    for what in {(f.target, f.what[:60]): f for f in reversed(failures)}.values():
        print(f"\n{what.target} {what.index}: {what.what}")
    if failures:
        print(f"\n{len(failures)} failures; their inputs are in {given.failures}")
    return 1 if failures else 0


def _processor_time() -> float:
    """Return the seconds that this process's children have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _print_row(name: str, tally: runner.Tally, rate: float) -> None:
    rejected = sum(tally.rejected.values())
    slowest, largest = f"{1000 * tally.slowest[0]:.1f} ms", f"{tally.largest[0] / 2**20:.1f} MiB"
    print(
        f"{name:<8}{tally.inputs:>9}{tally.accepted:>9}{rejected:>9}{slowest:>10}{largest:>13}{rate:>10.0f}"
        f"{len(tally.failures):>9}",
        flush=True,
    )


def keep(folder: Path, target: Target, seed: int, index: int) -> Path:
    """Write an input to a folder of its own and return that."""
    given = runner.sample(target, seed, index)
    place = folder / f"{target.name}-{seed}-{index}"
    place.mkdir(parents=True, exist_ok=True)
    for name, data in given.files.items():
        (place / name).write_bytes(data)
    return place


def _run_one(target: Target, seed: int, index: int, folder: Path) -> int:
    given = runner.sample(target, seed, index)
    print(f"{keep(folder, target, seed, index)}, options {given.options}")
    for name, data in given.files.items():
        print(f"{name}: {len(data)} bytes, {data[:300]!r}")
    with tempfile.TemporaryDirectory() as place:
        outcome = runner._run_one(target, given, Path(place))
    print(outcome)
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
