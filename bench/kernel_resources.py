"""Compile every kernel, with every activation and cost, for every supported architecture; print what each needs.

A spill fails. Needs nvcc, but no GPU: python bench/kernel_resources.py
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gpunet import activations, costs, optimizers
from gpunet.backends.cupy_kernels import Variant, source
from gpunet.kernels import cuda_source

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


def variants():
    """Yield (label, kernel, text) of every kernel as the backend compiles it."""
    fused = [f for f in activations.BUILT_IN.values() if f.cuda]
    yield "probe", "probe", cuda_source("probe")
    for dtype in ("float32", "float64"):

        def one(kernel, label="", dtype=dtype, **left_open):
            return f"{label} {dtype}".strip(), kernel, source(kernel, dtype, Variant(**left_open).macros())

        for f in fused:
            for kernel in ("activate", "hadamard_prime"):
                yield one(kernel, f.name, activation=f)
            yield one("layer_forward_dot", f.name, activation=f)
        for r in (1, 2, 4):
            yield one("layer_gradient", f"tile {16 * r}", per_thread=r)
            for kernel in ("layer_forward", "layer_backward"):  # of the activations that with the longest code
                yield one(kernel, f"sigmoid, tile {16 * r}", activation=activations.get("sigmoid"), per_thread=r)
        for cost in costs.BUILT_IN.values():
            for f in fused:
                if cost.cuda and cost.cuda_delta(f) and (cost.outputs is None or f.name in cost.outputs):
                    yield one("output_error", f"{cost.name} {f.name}", activation=f, cost=cost)
        for kernel in ("softmax", "softmax_prime", "softmax_error", "outer_batch", "count_right"):
            yield one(kernel)
        for optimizer in optimizers.BUILT_IN.values():
            if optimizer.states:
                yield one("update", optimizer.name, optimizer=optimizer)
        for x_dtype in ("uint8", dtype):
            yield one("gather", f"{x_dtype} to", source_dtype=x_dtype)


def compile_kernel(nvcc, label, text):
    """Return (registers, spilled bytes, shared bytes) of a kernel for each architecture."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(text, encoding="utf-8")
        targets = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in ARCHITECTURES]
        command = [nvcc, "-fatbin", *targets, "-Xptxas=-v", "-Werror=all-warnings", "-o", f"{folder}/kernel.fatbin"]
        result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    report = result.stdout + result.stderr
    pieces = re.split(r"Compiling entry function '\w+' for '(sm_\d+)'", report)
    found = {}
    for architecture, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        counts = [
            re.findall(pattern, piece) for pattern in (r"Used (\d+) reg", r"(\d+) bytes spill", r"(\d+) bytes smem")
        ]
        found[architecture] = tuple(sum(map(int, numbers)) for numbers in counts)
    if result.returncode or sorted(found) != sorted(ARCHITECTURES):
        sys.exit(f"{label} does not compile for every architecture:\n{report}")
    return found


def main():
    """Print the table."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        sys.exit("no nvcc on the PATH; install the CUDA toolkit (no GPU is needed)")
    jobs = list(variants())
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [pool.submit(compile_kernel, nvcc, f"{kernel} ({label})", text) for label, kernel, text in jobs]
        print(f"registers / shared bytes {' ':22}" + "".join(f"{a:>12}" for a in ARCHITECTURES))
        failed = False
        for (label, kernel, _), row in zip(jobs, rows, strict=True):
            found = [row.result()[a] for a in ARCHITECTURES]
            print(f"{kernel:15} {label:32}" + "".join(f"{r:>5} /{shared:5}" for r, _, shared in found), flush=True)
            failed |= any(spilled for _, spilled, _ in found)
    if failed:
        sys.exit("a kernel spills registers to memory")


if __name__ == "__main__":
    main()
