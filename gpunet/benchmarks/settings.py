"""Which contenders run with which threads and which of OpenBLAS's kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gpunet import checks, cpu
from gpunet.benchmarks.arena import Setting
from gpunet.benchmarks.contenders import ALL, CONTENDERS, GPUNET, PEAKS
from gpunet.errors import InputError


def threads(text: str) -> list[int | None]:
    """Return the thread counts of "1,all,auto": auto is each library's own choice, None.

    Raises
    ------
    InputError
        If it is something else.
    """
    found: list[int | None] = []
    for part in text.split(","):
        if part.strip() == "auto":
            found.append(None)
        elif part.strip() == "all":
            found.append(cpu.usable_cores())
        elif part.strip().isdecimal() and int(part) > 0:
            found.append(int(part))
        else:
            raise InputError(f"--threads takes numbers, all and auto, such as 1,all; got {text!r}.")
    return list(dict.fromkeys(found))


def names(text: str | None, device: str = "cpu") -> list[str]:
    """Return the contenders of "torch,jax", by default all of the device; gpunet's always come along, in front.

    Raises
    ------
    InputError
        If a name is none.
    """
    known = [name for name, entry in CONTENDERS.items() if device in entry.devices]
    if text is None:
        return known
    wanted = [checks.one_of(name.strip(), known, "--only") for name in text.split(",")]
    return [name for name in known if name in wanted or name in GPUNET]


def on_cpu(contenders: Iterable[str], counts: Sequence[int | None]) -> list[Setting]:
    """Return each contender with each thread count, at OpenBLAS's best kernels where it computes by OpenBLAS.

    gpunet's also come with the kernels that OpenBLAS picks by itself, and with its own choice of threads nothing else
    is chosen for it either.
    """
    best = _core_type()
    found = []
    for name in contenders:
        for count in counts:
            kernels = [best] if ALL[name].openblas and count is not None else [None]
            if name in GPUNET and best in kernels and best is not None:
                kernels.append(None)
            found += [Setting(name, count, core_type) for core_type in kernels]
    return found


def _core_type() -> str | None:
    """Return OpenBLAS's kernels to ask for: those for AVX-512, which it does not always find by itself."""
    best = cpu.best_core_type(cpu.flags())
    return best if best == "SkylakeX" else None


def peaks(counts: Sequence[int | None]) -> list[Setting]:
    """Return the large products, with each thread count."""
    return on_cpu(PEAKS, [count for count in counts if count is not None] or [cpu.usable_cores()])
