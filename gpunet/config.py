"""What gpunet found on this machine, what it would use, and why not the GPU."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

from gpunet import cpu
from gpunet.backends import blas, compiled, why_not_cuda
from gpunet.backends.select import select
from gpunet.version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "threadpoolctl",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cupy",
    "array-api-compat",
    "torch",
    "scikit-learn",
    "matplotlib",
    "pyarrow",
)


def config() -> dict[str, Any]:
    """Return what gpunet found, as plain values.

    Returns
    -------
    dict
        ``gpunet``, ``python``, ``platform``; ``packages``: name -> version or None; ``cores``: how many this
        process may use; ``blas``: for each BLAS that is loaded its ``library``, ``version``, ``kernels``,
        ``threads``, ``file``, and ``of_scipy``: whether gpunet's matrix products run on it;
        ``openblas_coretype``: the environment variable that names OpenBLAS's kernels, or None; ``engine``: the
        instruction set that the compiled engine uses here, or None; ``why_no_engine``: why there is none; ``device``:
        what ``device="auto"`` uses; ``why_not_cuda``: the reason, or None if it is used.
    """
    reason = why_not_cuda()
    return {
        "gpunet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "cores": cpu.usable_cores(),
        "blas": blas.loaded(),
        "openblas_coretype": os.environ.get(cpu.CORE_TYPE),
        "engine": compiled.instruction_sets()[0] if compiled.why_not_compiled() is None else None,
        "why_no_engine": compiled.why_not_compiled(),
        "device": select("auto" if reason is None else "cpu").name,
        "why_not_cuda": reason,
    }


def show_config() -> None:
    """Print what gpunet found on this machine, what ``device="auto"`` uses, and why not the GPU.

    Where OpenBLAS runs kernels for an older CPU than this one, it says what to set. `gpunet doctor` measures besides
    what that would give.
    """
    found = config()
    show_facts(found)
    best = cpu.best_core_type(cpu.flags())
    kernels = next((pool["kernels"] for pool in found["blas"] if pool["of_scipy"]), None)
    if best and kernels and not cpu.is_as_good(kernels, best):
        print(f"OpenBLAS runs {kernels} kernels, though this CPU has more. Before Python starts, set")
        print(f"  export {cpu.CORE_TYPE}={best}")


def show_facts(found: dict[str, Any]) -> None:
    """Print what `config` found."""
    print(f"gpunet {found['gpunet']}, Python {found['python']}, {found['platform']}")
    for name, version in found["packages"].items():
        if version is not None:
            print(f"  {name} {version}")
    print(f"  {found['cores']} core(s) to use")
    for pool in found["blas"]:
        use = " (runs the matrix products)" if pool["of_scipy"] else ""
        kernels = f", {pool['kernels']} kernels" if pool["kernels"] else ""
        print(f"  {pool['library']} {pool['version']}{kernels}, {pool['threads']} thread(s): {pool['file']}{use}")
    if found["openblas_coretype"] is not None:
        by = "this command" if cpu.chosen else "the environment"
        print(f"  {cpu.CORE_TYPE}={found['openblas_coretype']}, set by {by}")
    if found["engine"] is not None:
        print(f"training on the CPU uses: the compiled engine, {found['engine']}")
    else:
        print(f"training on the CPU uses: NumPy, because {found['why_no_engine']}")
    print(f'device="auto" uses: {found["device"]}')
    if found["why_not_cuda"] is not None:
        print(f"not a GPU, because {found['why_not_cuda']}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
