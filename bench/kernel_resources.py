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

from gpunet import activations, costs
from gpunet.backends.cupy_kernels import definitions, source
from gpunet.kernels import cuda_source

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


def variants():
    """Yield (label, kernel, text) of every kernel as the backend compiles it."""
    fused = [f for f in activations.BUILT_IN.values() if f.cuda]
    yield "probe", "probe", cuda_source("probe")
    for dtype in ("float32", "float64"):
        for f in fused:
            macros = definitions(f, None, None)
            yield f"{f.name} {dtype}", "activate", source("activate", dtype, macros)
            yield f"{f.name} {dtype}", "hadamard_prime", source("hadamard_prime", dtype, macros)
        for cost in costs.BUILT_IN.values():
            for f in fused:
                if cost.cuda and cost.cuda_delta(f) and (cost.outputs is None or f.name in cost.outputs):
                    text = source("output_error", dtype, definitions(f, cost, None))
                    yield f"{cost.name} {f.name} {dtype}", "output_error", text
        for kernel in ("softmax", "softmax_prime", "softmax_error", "outer_batch"):
            yield dtype, kernel, source(kernel, dtype)
        for x_dtype in ("uint8", dtype):
            yield f"{x_dtype} to {dtype}", "gather", source("gather", dtype, definitions(None, None, x_dtype))


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
