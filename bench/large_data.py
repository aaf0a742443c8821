"""Training from a file beside training from memory: how fast each is, and how much memory the first one takes.

Writes MNIST's images over and over as float32 into one .npy file, trains on it in a process of its own, and on a part
of it in memory in another; the two take turns. Give a folder on the disk in question.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from gpunet import Network, datasets

SIZES = {"30": ([784, 30, 10], 10), "100": ([784, 100, 10], 100), "512": ([784, 512, 512, 10], 128)}
IN_MEMORY = 300_000  # examples, 0.9 GB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=1_300_000, help="of 3136 bytes each")
    parser.add_argument("--folder", type=Path, help="where the file is written, by default a temporary folder")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="drop the file from the system's cache before each run")
    parser.add_argument("--child", nargs=3, metavar=("SOURCE", "NETWORK", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        source, network, folder = options.child
        print(json.dumps(train(source, network, Path(folder))))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        write(Path(folder), options.examples)
        for network, (sizes, batch_size) in SIZES.items():
            runs: dict[str, list[dict[str, float]]] = {"file": [], "memory": []}
            for _ in range(options.repeats):
                for source, done in runs.items():
                    if options.cold:
                        forget(Path(folder) / "X.npy")
                    done.append(run(source, network, folder))
            print(f"{sizes}, mini-batch {batch_size}")
            for source, done in runs.items():
                speed, processor = (statistics.median(r[what] for r in done) for what in ("speed", "processor"))
                peak = max(r["peak"] for r in done)
                print(
                    f"  from {source:6}: {speed:9,.0f} examples/s, {processor:.2f} us of processor time an example, "
                    f"peak {peak / 1e6:,.0f} MB",
                    flush=True,
                )


def write(folder: Path, examples: int) -> None:
    data = datasets.mnist()
    images, n = data.X.astype(np.float32) / 256, len(data.X)
    started = time.perf_counter()
    mapped = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (examples, 784))
    for start in range(0, examples, n):
        mapped[start : start + n] = images[: min(n, examples - start)]
    mapped.flush()
    np.save(folder / "y.npy", np.resize(data.y, examples))
    print(f"wrote {mapped.nbytes / 1e9:.2f} GB in {time.perf_counter() - started:.0f} s", flush=True)


def forget(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run(source: str, network: str, folder: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", source, network, folder]
    result: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def train(source: str, network: str, folder: Path) -> dict[str, float]:
    sizes, batch_size = SIZES[network]
    net = Network(sizes, device="cpu", seed=1)
    files = [folder / name for name in ("X.npy", "y.npy")]
    if source == "file":
        data = [datasets.open_data(*files)]
    else:
        data = [np.array(np.load(file, mmap_mode="r")[:IN_MEMORY]) for file in files]
    started = time.process_time()
    speed = net.fit(*data, epochs=1, batch_size=batch_size, threads=1).epochs[0].examples_per_second
    processor = (time.process_time() - started) / len(data[0])
    status = Path("/proc/self/status").read_text()
    return {
        "speed": speed,
        "processor": 1e6 * processor,
        "peak": 1024.0 * int(re.search(r"VmHWM:\s+(\d+)", status)[1]),  # type: ignore[index]
    }


if __name__ == "__main__":
    main()
