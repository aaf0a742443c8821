"""The threads of the BLAS that SciPy's matrix products run on: how many it may have, and setting it for a while."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gpunet import cpu


class Library(Protocol):
    """What `threadpoolctl` knows of a loaded BLAS."""

    filepath: str

    def get_num_threads(self) -> int:
        """Return how many threads its next call takes."""

    def set_num_threads(self, num_threads: int) -> None:
        """Let its calls take so many threads."""


class Pool:
    """The threads of one BLAS. The setting belongs to the whole process, so that what a user set is put back.

    Parameters
    ----------
    library : Library or None
        None for a BLAS whose threads can not be set, such as Accelerate: it is left alone.
    """

    def __init__(self, library: Library | None) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._wanted: dict[int, list[int]] = {}  # what each thread inside `limit` asks for, the innermost last
        self._before = 1

    def most_threads(self) -> int:
        """Return how many threads are worth a trial: the usable cores, and no more than the user allows.

        The user says so by OPENBLAS_NUM_THREADS, OMP_NUM_THREADS, ... or `threadpoolctl.threadpool_limits`.
        """
        if self._library is None:
            return 1
        with self._lock:
            allowed = self._before if self._wanted else self._library.get_num_threads()
        return max(1, min(allowed, cpu.usable_cores()))

    @contextmanager
    def limit(self, count: int) -> Iterator[None]:
        """Let the BLAS take `count` threads, never more than before, and put back what was set.

        Of several threads inside, the one that wants the fewest has its way: they share the cores. Within another
        `limit` of the same thread the inner one holds: an epoch holds one for as long as it lasts, and each chunk of
        its steps asks for its own number within.
        """
        if self._library is None:
            yield
            return
        thread = threading.get_ident()
        with self._lock:
            if not self._wanted:
                self._before = self._library.get_num_threads()
            self._wanted.setdefault(thread, []).append(count)
            self._set()
        try:
            yield
        finally:
            with self._lock:
                self._wanted[thread].pop()
                if not self._wanted[thread]:
                    del self._wanted[thread]
                self._set()

    def _set(self) -> None:
        """Set what the threads inside `limit` agree on, or what was set before the first of them."""
        assert self._library is not None
        count = min([self._before, *(counts[-1] for counts in self._wanted.values())])
        if self._library.get_num_threads() != count:
            self._library.set_num_threads(count)

    def after_fork(self) -> None:
        """Forget, in a child process, the threads that are not in it."""
        self._lock = threading.Lock()
        if self._wanted:
            self._wanted = {}
            self._set()


@functools.cache
def scipy_pool() -> Pool:
    """Return the pool of the BLAS that SciPy calls; one for the process."""
    pool = Pool(of_scipy(_loaded()))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.after_fork)
    return pool


def loaded() -> list[dict[str, Any]]:
    """Return what is known of each BLAS in this process: library, version, kernels, threads, file, and whose."""
    libraries = _loaded()
    own = of_scipy(libraries)
    return [
        {
            "library": library.internal_api,
            "version": library.version,
            "kernels": getattr(library, "architecture", None),
            "threads": library.get_num_threads(),
            "file": "/".join(Path(library.filepath).parts[-2:]),
            "of_scipy": library is own,
        }
        for library in libraries
    ]


def _loaded() -> list[Any]:
    import scipy.linalg.blas  # noqa: F401  loads SciPy's
    from threadpoolctl import ThreadpoolController

    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


def of_scipy(libraries: Sequence[Library]) -> Library | None:
    """Return SciPy's BLAS among those that are loaded: the one in its wheel, or else the only one there is."""
    for library in libraries:
        folder = Path(library.filepath).parent
        if folder.name == "scipy.libs" or (folder.name == ".dylibs" and folder.parent.name == "scipy"):
            return library
    return libraries[0] if len(libraries) == 1 else None
