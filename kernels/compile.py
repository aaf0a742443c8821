"""Compile every kernel for every supported architecture and print what each needs; a spill fails.

Needs nvcc, but no GPU: python kernels/compile.py
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


def compile_kernel(nvcc: str, source: Path, architecture: str) -> tuple[int, int, int]:
    """Return (registers, spilled bytes, shared bytes), the most that any kernel of the file takes."""
    with tempfile.TemporaryDirectory() as folder:
        command = [nvcc, "-cubin", f"-arch={architecture}", "-Xptxas=-v", "-Werror=all-warnings"]
        result = subprocess.run(
            [*command, "-o", f"{folder}/kernel.cubin", str(source)],
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        sys.exit(f"{source.name} does not compile for {architecture}:\n{result.stdout}{result.stderr}")
    report = result.stdout + result.stderr
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", report)]
    if not registers:
        sys.exit(f"{source.name}: nvcc reported no kernel for {architecture}:\n{report}")
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
    shared = [int(n) for n in re.findall(r"(\d+) bytes smem", report)]
    return max(registers), max(spills, default=0), max(shared, default=0)


def main() -> None:
    """Print the table."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        sys.exit("no nvcc on the PATH; install the CUDA toolkit (no GPU is needed)")
    failed = False
    print(f"{'kernel':20} {'arch':8} registers  spilled  shared")
    for source in sorted(Path(__file__).with_name("cuda").glob("*.cu")):
        for architecture in ARCHITECTURES:
            registers, spilled, shared = compile_kernel(nvcc, source, architecture)
            print(f"{source.stem:20} {architecture:8} {registers:9}  {spilled:7}  {shared:6}")
            failed |= spilled > 0
    if failed:
        sys.exit("a kernel spills registers to memory")


if __name__ == "__main__":
    main()
