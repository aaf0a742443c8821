"""The sources of gpunet's custom kernels; in the installed package this folder is `gpunet.kernels`."""

import re
from importlib.resources import files

_INCLUDE = re.compile(r'^#include "(\w+)\.cuh"\n', re.MULTILINE)


def cuda_source(name: str) -> str:
    """Return the CUDA C++ source ``cuda/<name>.cu``, with what it includes put in its place."""
    return expand(_read(f"{name}.cu"))


def expand(text: str) -> str:
    """Return a source with the files ``cuda/<name>.cuh`` in place of the lines that include them."""
    return _INCLUDE.sub(lambda match: _read(f"{match[1]}.cuh"), text)


def _read(file: str) -> str:
    return files(__name__).joinpath("cuda", file).read_text(encoding="utf-8")
