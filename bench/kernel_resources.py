"""Compile every kernel, with every activation and cost, for every supported architecture; print what each needs.

A spill or a warning fails. Takes nvcc where there is one, else NVRTC from the extra "kernels"; needs no GPU:
python bench/kernel_resources.py [--nvrtc]
"""

import argparse
import io
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
from gpunet.parity import cases

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


class CompileError(Exception):
    """A kernel does not compile, or does so with a warning."""


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
                yield one(kernel, f"gelu, tile {16 * r}", activation=activations.get("gelu"), per_thread=r)
        for cost in costs.BUILT_IN.values():
            for f in fused:
                if f.name in cases.OUTPUTS[cost.name] and cost.cuda and cost.cuda_delta(f):
                    yield one("output_error", f"{cost.name} {f.name}", activation=f, cost=cost)
        for kernel in ("softmax", "softmax_prime", "softmax_error", "outer_batch", "count_right", "add_squares"):
            yield one(kernel)
        yield one("softmax_error", "with a floor", cost=costs.LogLikelihood(1e-7))
        for optimizer in optimizers.BUILT_IN.values():
            if optimizer.states:
                yield one("update", optimizer.name, optimizer=optimizer)
        for x_dtype in ("uint8", dtype):
            yield one("gather", f"{x_dtype} to", source_dtype=x_dtype)


def nvcc_report(text):
    """Compile a kernel for every architecture with nvcc; return what ptxas says of it, or raise."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(text, encoding="utf-8")
        targets = [f"-gencode=arch=compute_{a[3:]},code={a}" for a in ARCHITECTURES]
        command = ["nvcc", "-fatbin", *targets, "-Xptxas=-v", "-Werror=all-warnings", "-o", f"{folder}/kernel.fatbin"]
        result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False)
    report = result.stdout + result.stderr
    if result.returncode:
        raise CompileError(report)
    return report


def nvrtc_report(text):
    """Do as `nvcc_report` with NVRTC, which is what compiles the kernels for users too; it needs no driver."""
    from cuda.core import Program, ProgramOptions

    log = io.StringIO()
    for architecture in ARCHITECTURES:
        # CuPy's options, but for the name of the architecture: cubin shows what ptxas makes of a kernel.
        options = ProgramOptions(arch=architecture, std="c++17", ptxas_options=["-v"])
        try:
            Program(text, "c++", options).compile("cubin", logs=log)
        except Exception as error:  # NVRTC's own, whose text has the compiler's messages
            raise CompileError(f"{architecture}: {error}") from error
    report = log.getvalue()
    if "warning" in report:
        raise CompileError(report)
    return report


def resources(report):
    """Return (registers, spilled bytes, shared bytes) by architecture from what ptxas said."""
    pieces = re.split(r"Compiling entry function '\w+' for '(sm_\d+)'", report)
    found = {}
    for architecture, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        counts = [
            re.findall(pattern, piece) for pattern in (r"Used (\d+) reg", r"(\d+) bytes spill", r"(\d+) bytes smem")
        ]
        found[architecture] = tuple(sum(map(int, numbers)) for numbers in counts)
    if sorted(found) != sorted(ARCHITECTURES):
        raise CompileError(f"ptxas reports on {', '.join(found) or 'nothing'}:\n{report}")
    return found


def choose_compiler(arguments):
    """Return the compiler's name and the function that compiles with it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nvrtc", action="store_true", help="take NVRTC even where there is nvcc")
    if not parser.parse_args(arguments).nvrtc and shutil.which("nvcc"):
        return "nvcc", nvcc_report
    try:
        import cuda.core  # noqa: F401  before the threads: what imports it beside them finds it unfinished
    except ImportError as error:
        parser.error(f"NVRTC can not be used ({error}): pip install 'gpunet[kernels]'; no GPU is needed")
    return "NVRTC", nvrtc_report


def main(arguments=None):
    """Print the table."""
    name, compile_kernel = choose_compiler(arguments)
    jobs = list(variants())
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = [pool.submit(lambda text: resources(compile_kernel(text)), text) for _, _, text in jobs]
        print(f"{f'registers / shared bytes ({name})':48}" + "".join(f"{a:>12}" for a in ARCHITECTURES))
        for (label, kernel, _), row in zip(jobs, rows, strict=True):
            try:
                found = [row.result()[a] for a in ARCHITECTURES]
            except CompileError as error:
                pool.shutdown(cancel_futures=True)
                sys.exit(f"{kernel} ({label}) does not compile for every architecture:\n{error}")
            print(f"{kernel:15} {label:32}" + "".join(f"{r:>5} /{shared:5}" for r, _, shared in found), flush=True)
            if any(spilled for _, spilled, _ in found):
                failed.append(f"{kernel} ({label})")
    if failed:
        sys.exit(f"registers are spilled to memory by {', '.join(failed)}")


if __name__ == "__main__":
    main()
