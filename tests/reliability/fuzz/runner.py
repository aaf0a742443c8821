"""Runs inputs through a reader in processes of their own, and notes what becomes of them.

A process that crashes or hangs ends alone: its input is noted, and the others go on. Which input is the i-th depends
on the seed alone, so that any of them can be made again.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import mmap
import multiprocessing
import multiprocessing.connection
import os
import pickle
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from reliability.fuzz.target import Sample, Target, WrongError, kind, objections

#: What reading a file may take beyond ten times its size, in bytes.
FREE_BYTES = 64 << 20
#: Seconds of processor time that a file may take, and of real time after which a process counts as hanging.
SECONDS, STUCK = 1.0, 20.0
#: Inputs that one process reads.
CHUNK = 2000


class Failure(NamedTuple):
    """An input that something is wrong with."""

    target: str
    index: int
    what: str


@dataclass
class Tally:
    """What became of a target's inputs."""

    inputs: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, -1)  # seconds, index
    largest: tuple[int, int] = (0, -1)  # bytes, index
    seconds: float = 0.0  # of processor time, in readers
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Take in what another process found."""
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.slowest = max(self.slowest, other.slowest)
        self.largest = max(self.largest, other.largest)
        self.seconds += other.seconds
        self.failures += other.failures


def sample(target: Target, seed: int, index: int) -> Sample:
    """Return the input of that number."""
    return target.make(Random(f"{seed}/{target.name}/{index}"))


def run(target: Target, n: int, *, seed: int = 1, jobs: int = 1, chunk: int = CHUNK) -> Tally:
    """Read `n` inputs and return what became of them."""
    waiting = deque((start, min(start + chunk, n)) for start in range(0, n, chunk))
    total, running = Tally(), []
    with tempfile.TemporaryDirectory(prefix="gpunet-fuzz-", dir=_memory_disk()) as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    running.append(_Process(target, seed, *waiting.popleft(), folder))
                multiprocessing.connection.wait([process.pipe for process in running], timeout=0.5)
                for process in [process for process in running if process.is_done()]:
                    running.remove(process)
                    tally = process.end()
                    if tally is not None:
                        total.add(tally)
                        continue
                    at = process.index()
                    total.add(Tally(inputs=1, failures=[Failure(target.name, at, process.why)]))
                    waiting.extend((a, b) for a, b in ((process.start, at), (at + 1, process.stop)) if a < b)
        finally:
            for process in running:
                process.end()
    total.failures.sort()
    return total


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class _Process:
    """A forked process that reads the inputs from `start` to `stop`."""

    def __init__(self, target: Target, seed: int, start: int, stop: int, folder: str) -> None:
        self.start, self.stop, self.why = start, stop, ""
        self._shared = mmap.mmap(-1, 8)
        self._seen = (-1, time.monotonic())
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        with warnings.catch_warnings():  # of threads of the parent; the child uses none of them
            warnings.simplefilter("ignore", DeprecationWarning)
            sys.stdout.flush()
            sys.stderr.flush()
            self._pid = os.fork()
        if not self._pid:
            self._child(target, seed, theirs, Path(folder, f"{start}"))
        theirs.close()

    def _child(self, target: Target, seed: int, pipe: Any, folder: Path) -> NoReturn:
        status = 1
        gc.freeze()  # what the parent made is not looked through, which would copy all of it
        try:
            folder.mkdir(exist_ok=True)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            faulthandler.disable()  # a crash is told by the parent
            tally = _read_all(target, seed, range(self.start, self.stop), folder, self._shared)
            pipe.send_bytes(pickle.dumps(tally))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            sys.stderr.flush()
            os._exit(status)

    def index(self) -> int:
        """The input that is being read."""
        return max(self.start, struct.unpack("q", self._shared[:])[0])

    def is_done(self) -> bool:
        if self.pipe.poll():
            return True
        now = time.monotonic()
        if self.index() != self._seen[0]:
            self._seen = (self.index(), now)
        self.why = f"hangs: {STUCK:g} s and no end" if now - self._seen[1] > STUCK else ""
        return bool(self.why)

    def end(self) -> Tally | None:
        """End the process; return what it found, None if it did not come to its end."""
        tally = None
        with contextlib.suppress(EOFError):
            if not self.why and self.pipe.poll():
                tally = pickle.loads(self.pipe.recv_bytes())  # noqa: S301 - our own child's
        if self.why:
            os.kill(self._pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        self.why = self.why or f"crashes the process ({signal.Signals(-status).name if status < 0 else status})"
        self.pipe.close()
        return tally


# -- In the child -----------------------------------------------------------------------------------------------


class _HangError(BaseException):
    """Not an Exception, which readers may catch."""


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise _HangError


def _read_all(target: Target, seed: int, indices: range, folder: Path, shared: mmap.mmap) -> Tally:
    tally = Tally()
    signal.signal(signal.SIGPROF, _interrupt)
    warnings.simplefilter("always")
    # Large blocks go back to the system when they are freed, so that the next ones count in full.
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 20)
        libc.mallopt(-8, 1)  # a thread's own arena would be 128 MiB of address space
    for each in target.seeds:  # whatever a reader does but once
        with contextlib.suppress(Exception):
            _run_one(target, each, folder)
    gc.collect()
    gc.freeze()
    for index in indices:
        struct.pack_into("q", shared, 0, index)
        outcome = _run_one(target, sample(target, seed, index), folder)
        tally.inputs += 1
        tally.seconds += outcome.seconds
        tally.slowest = max(tally.slowest, (outcome.seconds, index))
        tally.largest = max(tally.largest, (outcome.peak, index))
        if outcome.kind is None:
            tally.accepted += 1
        else:
            tally.rejected[outcome.kind] += 1
        tally.failures += [Failure(target.name, index, what) for what in outcome.wrong]
    return tally


@dataclass
class Outcome:
    """What became of one input."""

    kind: str | None = None  # of rejection, None if it was accepted
    seconds: float = 0.0
    peak: int = 0
    wrong: list[str] = field(default_factory=list)


def _run_one(target: Target, given: Sample, folder: Path) -> Outcome:
    for name, data in given.files.items():
        Path(folder, name).write_bytes(data)
    outcome = Outcome()
    warned: list[str] = []
    warnings.showwarning = lambda message, *_, **__: warned.append(str(message))
    error: Exception | None = None
    result = None
    most = FREE_BYTES + 10 * sum(map(len, given.files.values()))
    with _memory_limit(most) as memory:
        started = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            result = target.read(folder / given.name, **given.options)
            signal.setitimer(signal.ITIMER_PROF, 0)
        except _HangError:
            outcome.wrong.append(f"takes more than {SECONDS:g} s")
            outcome.kind = "no end"
        except Exception as raised:
            signal.setitimer(signal.ITIMER_PROF, 0)
            error = raised
        outcome.seconds = time.process_time() - started
    outcome.wrong += [f"warns: {text[:200]}" for text in warned[:1]]
    outcome.peak = memory.peak
    if outcome.seconds > SECONDS and not outcome.wrong:
        outcome.wrong.append(f"takes {outcome.seconds:.1f} s")
    if memory.peak > most:
        outcome.wrong.append(f"takes {memory.peak >> 20} MiB")
    if error is not None:
        outcome.kind = kind(error, given, folder)
        outcome.wrong += objections(error, given, folder)
    elif outcome.kind is None:
        outcome.wrong += _check(target, given, result)
    for name in given.files:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)
    return outcome


def _check(target: Target, given: Sample, result: Any) -> list[str]:
    try:
        target.check(given, result)
    except WrongError as wrong:
        return [f"accepted: {wrong}"]
    except Exception:  # an oracle that fails at what a reader accepted
        return [f"accepted, but the oracle fails: {traceback.format_exc(limit=-3)}"]
    return []


@dataclass
class _Memory:
    peak: int = 0


@contextlib.contextmanager
def _memory_limit(most: int) -> Iterator[_Memory]:
    """Refuse to the process more than `most` bytes above what it has; tell how much of it was in use at once."""
    memory = _Memory()
    if not sys.platform.startswith("linux"):
        yield memory
        return
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # what is free in the heap, also the parent's, counts anew
    _write("/proc/self/clear_refs", b"5")  # the peak begins anew
    size, before = _status(b"VmSize:", b"VmHWM:")
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + most + (1 << 20), hard))
    try:
        yield memory
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        memory.peak = max(0, _status(b"VmHWM:")[0] - before)


def _write(path: str, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY)
    os.write(handle, data)
    os.close(handle)


def _status(*names: bytes) -> list[int]:
    handle = os.open("/proc/self/status", os.O_RDONLY)
    text = os.read(handle, 4096)
    os.close(handle)
    return [1024 * int(text.split(name)[1].split(None, 1)[0]) for name in names]
