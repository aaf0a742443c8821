"""The CPU: what it can do, how many of its cores this process may use, and the OpenBLAS kernels that fit it.

Imports nothing but the standard library's smallest: the command runs it before NumPy loads.
"""

from __future__ import annotations

import functools
import math
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping
from importlib.util import find_spec
from pathlib import Path

#: OpenBLAS's name for the core type whose kernels it runs, an environment variable read as it is loaded.
CORE_TYPE = "OPENBLAS_CORETYPE"
#: What `choose_kernels` has set it to in this process.
chosen: str | None = None

#: The core types that matter for x86-64, the best first, and the flags that their kernels need.
_NEEDS = {
    "SkylakeX": {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"},
    "Haswell": {"avx2", "fma"},
}
#: Those whose kernels use what the best one's do, in small letters.
_AS_GOOD = {
    "SkylakeX": {"skylakex", "cooperlake", "sapphirerapids"},
    "Haswell": {"haswell", "zen", "excavator", "skylakex", "cooperlake", "sapphirerapids"},
}


def flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return what the CPU can do, in the words of Linux on x86-64; nothing elsewhere."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return frozenset()
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").partition(":")[2].split())


def best_core_type(flags: frozenset[str]) -> str | None:
    """Return the core type whose kernels are the fastest that a CPU with these flags runs; None if unknown.

    SkylakeX stands for all that have AVX-512: of the later ones, Cooperlake and SapphireRapids, the OpenBLAS
    of NumPy's and SciPy's wheels takes the names and runs SkylakeX.
    """
    return next((name for name, needed in _NEEDS.items() if needed <= flags), None)


def is_as_good(core_type: str, best: str) -> bool:
    """Whether kernels of `core_type` use all that those of `best` do."""
    return core_type.lower() in _AS_GOOD[best]


def choose_kernels(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set OPENBLAS_CORETYPE to SkylakeX where the CPU has AVX-512; to be called before NumPy loads.

    OpenBLAS goes by the model of a CPU and takes older kernels on models that it does not know yet. In SciPy's
    wheels SkylakeX is the only core type for AVX-512, so that nothing better can be missed; another build of
    SciPy is left alone, and so is a value that is set already.
    """
    global chosen
    if CORE_TYPE not in environ and best_core_type(flags()) == "SkylakeX" and _bundles_openblas("scipy"):
        environ[CORE_TYPE] = chosen = "SkylakeX"


def _bundles_openblas(package: str) -> bool:
    """Whether `package` was installed from a wheel for Linux that has OpenBLAS inside; does not import it."""
    spec = find_spec(package)
    folders = (spec and spec.submodule_search_locations) or ()
    return any(any(Path(folder).parent.glob(f"{package}.libs/*openblas*")) for folder in folders)


def usable_cores() -> int:
    """Return how many cores this process may keep busy: by its affinity and by its control groups' quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def allowed_threads(environ: Mapping[str, str] = os.environ) -> float:
    """Return the least of what OPENBLAS_NUM_THREADS and OMP_NUM_THREADS allow; infinity where neither says."""
    found = [environ.get(name, "").partition(",")[0].strip() for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")]
    return min((int(text) for text in found if re.fullmatch("[0-9]{1,6}", text) and int(text)), default=math.inf)


class IdleCores:
    """How many of the machine's cores were idle, on the average since this was last asked."""

    def __init__(self, stat: Path = Path("/proc/stat"), clock: Callable[[], float] = time.monotonic) -> None:
        self._stat, self._clock = stat, clock
        self._idle, self._asked = self._read(), clock()

    def __call__(self) -> float:
        """Return their number; infinity where the system does not tell."""
        before, since = self._idle, self._asked
        self._idle, self._asked = self._read(), self._clock()
        return (self._idle - before) / max(self._asked - since, 1e-9) if self._idle > 0 else math.inf

    def _read(self) -> float:
        """Return the seconds that all cores were idle since the machine started; 0 if unknown."""
        try:
            with self._stat.open(encoding="ascii") as file:
                _, _, _, _, idle, waiting, *_ = file.readline().split()
            return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError):
            return 0.0


@functools.cache  # read with every prediction otherwise
def _quota(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many CPUs' time the control groups (version 2) allow this process; infinity without a limit."""
    allowed = math.inf
    if sys.platform != "linux":
        return allowed
    try:
        own = next(line[3:] for line in proc.read_text(encoding="utf-8").splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return allowed
    folder = root / own.strip("/")
    for group in (folder, *folder.parents):
        if not group.is_relative_to(root):
            break
        try:
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
            allowed = min(allowed, int(quota) / int(period))
        except (OSError, ValueError):  # no such file, or "max": no limit here
            continue
    return allowed
