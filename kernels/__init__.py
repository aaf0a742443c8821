"""The sources of gpunet's custom kernels; in the installed package this folder is `gpunet.kernels`."""

from importlib.resources import files


def cuda_source(name: str) -> str:
    """Return the CUDA C++ source ``cuda/<name>.cu``."""
    return files(__name__).joinpath("cuda", f"{name}.cu").read_text(encoding="utf-8")
