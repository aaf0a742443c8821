"""What gpunet found on this machine, what it would use, and why not the GPU."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import numpy as np

from gpunet.backends import why_not_cuda
from gpunet.backends.select import select
from gpunet.version import __version__

_PACKAGES = (
    "numpy",
    "scipy",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "cupy",
    "array-api-compat",
    "torch",
    "scikit-learn",
    "matplotlib",
)


def config() -> dict[str, Any]:
    """Return what gpunet found, as plain values.

    Returns
    -------
    dict
        ``gpunet``, ``python``, ``platform``; ``packages``: name -> version or None; ``blas``: what NumPy was
        built with; ``device``: what ``device="auto"`` uses; ``why_not_cuda``: the reason, or None if it is used.
    """
    reason = why_not_cuda()
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return {
        "gpunet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
        "device": select("auto" if reason is None else "cpu").name,
        "why_not_cuda": reason,
    }


def show_config() -> None:
    """Print what gpunet found on this machine, what ``device="auto"`` uses, and why not the GPU."""
    found = config()
    print(f"gpunet {found['gpunet']}, Python {found['python']}, {found['platform']}")
    for name, version in found["packages"].items():
        if version is not None:
            print(f"  {name} {version}")
    print(f"  BLAS of NumPy: {found['blas']}")
    print(f'device="auto" uses: {found["device"]}')
    if found["why_not_cuda"] is not None:
        print(f"not a GPU, because {found['why_not_cuda']}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
