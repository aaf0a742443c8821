"""gpunet on a CUDA device: each verb against the device's limits, a step beside PyTorch and JAX, and the book's run.

python bench/gpu.py [--minutes 5]

Writes gpu.json and gpu.md to bench/results, and to $OUT too if that is set, after each section; a section that fails
is reported and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import traceback
from pathlib import Path

import gpu_products
import gpu_verbs

from gpunet import Network, datasets
from gpunet.backends import select
from gpunet.benchmarks import machine, report, step
from gpunet.benchmarks.arena import Arena, Setting
from gpunet.benchmarks.contenders import Entry
from gpunet.benchmarks.problem import Problem
from gpunet.benchmarks.worker import versions
from gpunet.errors import DeviceError

PACKAGES = ("numpy", "scipy", "cupy", "cupy-cuda13x", "cupy-cuda12x", "torch", "jax", "jaxlib")
PROBLEMS = (
    Problem((784, 30, 10), 10, 500),
    Problem((784, 100, 10), 100, 300),
    Problem((784, 512, 512, 10), 128, 200),
    Problem((784, 2048, 2048, 10), 4096, 14),
)
#: Of the minutes: the verbs, the steps, the book's run.
SHARES = {"verbs": 0.25, "products": 0.1, "steps": 0.45, "book": 0.2}
NAMES = ("gpunet-cupy", "torch", "torch-lean", "torch-compile", "jax")
GRAPH = Entry("PyTorch, CUDA graph of the step", "torch_cuda_graphs:Graph", devices=("cuda",))


class CudaClock:
    """Times calls by CUDA events."""

    def __init__(self):
        import cupy

        self.cupy = cupy

    def seconds(self, call, least=0.02, repetitions=7):
        """Return what a call takes: the median of repetitions, each of so many calls that it takes long enough."""
        for _ in range(3):
            call()
        count = 1
        while (took := self._run(call, count)) < least and count < 10_000:
            count = max(2 * count, int(count * least / max(took, 1e-6)))
        return statistics.median(self._run(call, count) / count for _ in range(repetitions))

    def copy_speed(self, nbytes):
        """Return the bytes a second of the driver's copy on the device, read plus written."""
        source, target = (self.cupy.zeros(nbytes, dtype="uint8") for _ in range(2))
        return 2 * nbytes / self.seconds(lambda: target.data.copy_from_device_async(source.data, nbytes))

    def _run(self, call, count):
        start, stop = self.cupy.cuda.Event(), self.cupy.cuda.Event()
        start.record()
        for _ in range(count):
            call()
        stop.record()
        stop.synchronize()
        return self.cupy.cuda.get_elapsed_time(start, stop) / 1e3


def verbs(minutes, ops, clock, sizes=gpu_verbs.Sizes()):  # noqa: B008 - frozen
    """Time every verb in both types."""
    ends = time.monotonic() + 60 * minutes
    found = {}
    with ops.active():
        for dtype in ("float32", "float64"):
            found[dtype] = gpu_verbs.measure(
                ops, dtype, sizes, clock.seconds, clock.copy_speed, lambda: time.monotonic() < ends
            )
    return found


def products(minutes, ops, clock, shapes=gpu_products.SHAPES):
    """Time a layer's products by our kernels and by cuBLAS."""
    ends = time.monotonic() + 60 * minutes
    with ops.active():
        return [
            row
            for dtype in ("float32", "float64")
            for row in gpu_products.measure(ops, dtype, clock.seconds, lambda: time.monotonic() < ends, shapes)
        ]


def steps(minutes, device="cuda", problems=PROBLEMS, rounds=15, names=NAMES):
    """Time a step of every contender, interleaved; a problem for which there is no time is left out."""
    ends = time.monotonic() + 60 * minutes
    settings = [Setting(name, device=device) for name in names]
    if device != "cpu":
        settings.append(Setting("torch-graph", device=device, entry=GRAPH))
        here = str(Path(__file__).resolve().parent)  # where the workers find that contender
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here]))
    found = []
    with Arena(settings, timeout=max(20.0, 30 * minutes)) as arena:
        for problem in problems:
            if time.monotonic() > ends:
                found.append({"name": problem.name, "left out": "no time left"})
                continue
            found.append(step.describe(problem, arena.time(problem, rounds, least_seconds=0.05), arena.absent))
    return found


def book(minutes, devices=("cuda", "cpu"), epochs=30):
    """Train the book's network with the book's settings on each device, as long as there is time."""
    data = datasets.mnist()
    found = []
    for device in devices:
        ends = time.monotonic() + 60 * minutes / len(devices)
        net = Network([784, 30, 10], input_scale=data.input_scale, seed=1, device=device)
        net.fit(data.X[:1000], data.y[:1000], epochs=1, batch_size=10, eta=1e-9)  # compiles the kernels
        seconds, done = 0.0, 0
        while done < epochs and time.monotonic() < ends:
            chunk = min(5, epochs - done)
            history = net.fit(data.X, data.y, epochs=chunk, batch_size=10, eta=3.0)
            seconds += sum(epoch.seconds for epoch in history.epochs)
            done += chunk
        accuracy = net.score(data.X_test, data.y_test)
        found.append({"backend": net.backend, "epochs": done, "seconds": seconds, "accuracy": accuracy})
    return found


# -- The report ------------------------------------------------------------------------------------------------


def markdown(found):
    """Return everything as Markdown."""
    lines = ["# gpunet on a GPU", "", *(f"- {name}: {value}" for name, value in found["machine"].items()), ""]
    for section, write in (("verbs", _verbs), ("products", _products), ("steps", _steps), ("book", _book)):
        content = found.get(section)
        if content is None:
            continue
        lines += [f"## {section}", ""]
        lines += ["Failed:", "", "```", content["failed"], "```"] if "failed" in content else write(content)
        lines.append("")
    return "\n".join(lines)


def _table(columns, rows):
    return [f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows)]


def _verbs(content):
    lines = []
    for dtype, found in content["found"].items():
        rows = []
        for r in found["rows"]:
            if "seconds" not in r:
                rows.append([r["verb"], r["what"], r["left out"], "", "", "", ""])
                continue
            cells = f"{r['seconds'] * 1e6:,.1f}", f"{r['bytes'] / r['seconds'] * 1e-9:,.0f}"
            speed = f"{r['flops'] / r['seconds'] * 1e-12:.1f}" if r["flops"] else ""
            rows.append([r["verb"], r["what"], *cells, speed, r["limit"], f"{r['share of limit']:.0%}"])
        product = found["product flops a second"]
        moved = found["copy bytes a second"] * 1e-9
        lines += [
            f"{dtype}: a copy on the device moves {moved:,.0f} GB/s, read plus written; "
            + (f"the fastest large product does {product * 1e-12:.1f} TFLOP/s." if product else "no product ran."),
            "",
            *_table(["verb", "of", "us", "GB/s", "TFLOP/s", "limit", "share of it"], rows),
            "",
        ]
    return lines


def _products(content):
    rows = []
    for r in content["found"]:
        shape = " x ".join(map(str, r["shape"]))
        if "left out" in r:
            rows.append([r["left out"], shape, r["dtype"], "", "", ""])
        else:
            times = (f"{r[way] * 1e6:,.1f}" if way in r else "" for way in ("blocks", "tiles", "cublas"))
            rows.append([r["verb"], shape, r["dtype"], *times])
    return _table(["verb", "n x k x m", "dtype", "blocks, us", "tiles, us", "cuBLAS, us"], rows)


def _steps(content):
    lines = []
    for problem in content["found"]:
        if "rows" not in problem:
            lines += [f"{problem['name']}: {problem['left out']}", ""]
            continue
        rows = [[cells[0], *cells[3:7]] for cells in map(report.step_cells, problem["rows"])]
        lines += [report.problem_title(problem), "", *_table(["contender", *report.STEP_COLUMNS[3:7]], rows), ""]
        lines += [f"- {note}" for note in report.absences(problem["absent"])] + [""]
    return lines


def _book(content):
    rows = [[r["backend"], str(r["epochs"]), f"{r['seconds']:.1f}", f"{r['accuracy']:.2%}"] for r in content["found"]]
    return _table(["[784, 30, 10], batch 10, eta 3.0", "epochs", "seconds", "accuracy"], rows)


def write(found, folders):
    """Write gpu.json and gpu.md into each folder."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        (folder / "gpu.md").write_text(markdown(found), encoding="utf-8")


def section(found, name, folders, run):
    """Run a section, keep what it found or why it failed, and write everything so far."""
    print(f"{name} ...", flush=True)
    started = time.monotonic()
    try:
        found[name] = {"found": run()}
    except Exception:
        found[name] = {"failed": traceback.format_exc()}
        print(found[name]["failed"], flush=True)
    found[name]["seconds"] = time.monotonic() - started
    write(found, folders)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="for all of it")
    minutes = parser.parse_args().minutes
    # One environment for this process and its workers: no TF32 anywhere.
    os.environ.update(CUPY_TF32="0", NVIDIA_TF32_OVERRIDE="0")
    try:
        ops = select("cuda")
    except DeviceError as error:
        sys.exit(f"no benchmark of a GPU without one: {error}")
    folders = [Path(__file__).resolve().with_name("results")]
    if os.environ.get("OUT"):
        folders.append(Path(os.environ["OUT"]))
    found = {
        "machine": {
            **machine.describe(),
            "device": ops.name,
            "versions": versions(PACKAGES),
            "TF32": "off: CUPY_TF32=0, NVIDIA_TF32_OVERRIDE=0, PyTorch and JAX at their highest precision",
        }
    }
    for name, value in found["machine"].items():
        print(f"{name}: {value}")
    section(found, "verbs", folders, lambda: verbs(minutes * SHARES["verbs"], ops, CudaClock()))
    ops.xp.get_default_memory_pool().free_all_blocks()  # the workers need the memory
    section(found, "products", folders, lambda: products(minutes * SHARES["products"], ops, CudaClock()))
    ops.xp.get_default_memory_pool().free_all_blocks()
    section(found, "steps", folders, lambda: steps(minutes * SHARES["steps"]))
    section(found, "book", folders, lambda: book(minutes * SHARES["book"]))
    print("\n" + markdown(found))
    print("written to", ", ".join(str(folder / "gpu.md") for folder in folders))
    failed = [name for name in SHARES if "failed" in found[name]]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
