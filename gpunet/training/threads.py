"""How many threads a step takes: begun with one, more only where they were seen to be clearly faster.

Two threads can be slower than one by a factor of hundreds: where another process keeps a core busy, each waits
for the other at every product. So nothing is taken for granted. Now and then a few steps run with another number of
threads, in turn with as many steps as before, and the time that such trials cost is bounded.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from gpunet import cpu

#: A chunk of steps takes about so many seconds: long enough to measure, short enough to watch and to interrupt.
CHUNK_SECONDS = 0.05
#: What a chunk may take before it is broken off.
_LONGEST_CHUNK = 2 * CHUNK_SECONDS
#: In a trial, chunks are shorter,
_TRIAL_SECONDS = 0.002
#: and so many pairs of them are compared.
_PAIRS = 5
#: More threads must take at most this part of the time that fewer take.
_CLEARLY = 0.95
#: The part of all time that trials of the slower number of threads may cost; the first waits for so many seconds, and
#: again where no core was idle: a BLAS's threads, say, spin for some 100 ms after their last product.
_SHARE = 0.02
_FIRST_TRIAL = 0.05
#: Seconds that a single trial may lose; a step that was begun is ended.
_TRIAL_LOSS = 0.005
#: Seconds to the next trial after one that changed nothing; doubled each time.
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 60.0
#: A thread more is not tried unless this part of a core was idle.
_FREE = 0.8
#: A thread needs about so many floating-point operations a step to be worth waking: some 20 microseconds of work.
_FLOPS_A_THREAD = 1e6


@dataclass(frozen=True)
class Chunk:
    """What to run next: `steps` steps with `threads` threads, ended early after the step that passes `seconds`."""

    threads: int
    steps: int
    seconds: float


class ThreadChooser:
    """Chooses the threads of the next steps by what the last ones took.

    It has no clock and changes nothing by itself: the caller runs what `next` says and tells `record` how long it
    took. The results do not depend on it but for the order in which a BLAS adds.

    Parameters
    ----------
    most_threads : int
        The cores that may be used.
    flops : float
        Floating-point operations of a step; a small one is never split.
    idle_cores : callable, optional
        Tells how many cores were idle since it was last called: more threads than those are not tried.
    fixed : int, optional
        So many threads, and nothing is tried.
    """

    def __init__(
        self,
        most_threads: int,
        flops: float,
        idle_cores: Callable[[], float] | None = None,
        fixed: int | None = None,
    ) -> None:
        most = max(1, min(most_threads, int(flops / _FLOPS_A_THREAD))) if fixed is None else 1
        self._counts = [fixed] if fixed else sorted({2**i for i in range(most.bit_length())} | {most})
        if idle_cores is None and most > 1:
            idle_cores = cpu.IdleCores()
        self._idle_cores = idle_cores
        self._at = 0  # the index of the number of threads in use
        self._paces: dict[int, float] = {}  # seconds a step, by that index, as last measured
        self._steps = 0  # of the last chunk that was no trial's
        self._trial: _Trial | None = None
        self._elapsed = 0.0
        self._due = _FIRST_TRIAL
        self._pause = _SHORTEST_PAUSE
        self._try_more = True
        self._chunk = Chunk(self.threads, 1, math.inf)

    @property
    def threads(self) -> int:
        """The number of threads in use; a trial may take another for a moment."""
        return self._counts[self._at]

    def next(self) -> Chunk:
        """Return what to run now."""
        if self._trial is None and self._elapsed >= self._due and len(self._counts) > 1:
            self._begin_trial(self._other())
        if self._trial is not None:
            at, steps, seconds = self._trial.next()
            self._chunk = Chunk(self._counts[at], steps, seconds)
        else:
            wanted = CHUNK_SECONDS / self._paces[self._at] if self._at in self._paces else 1
            self._steps = max(1, min(int(wanted), 4 * self._steps))  # the first steps are no measure yet
            self._chunk = Chunk(self.threads, self._steps, _LONGEST_CHUNK)
        return self._chunk

    def record(self, steps: float, seconds: float) -> None:
        """Take note of what the chunk took.

        Parameters
        ----------
        steps : float
            The steps that were done, above 0: fewer than the chunk's where it was broken off or the epoch ended;
            a step on a smaller mini-batch counts for its share.
        seconds : float
        """
        seconds = max(seconds, 1e-9)
        self._elapsed += seconds
        pace = seconds / steps
        if self._trial is not None:
            self._trial.record(steps, seconds)
            if self._trial.over:
                self._judge(self._trial)
                self._trial = None
            return
        self._paces[self._at] = pace
        fewer = self._paces.get(self._at - 1)
        if fewer is not None and pace > fewer:  # a core has become busy
            self._at -= 1
            self._wait(seconds - fewer * steps)

    def _begin_trial(self, other: int) -> None:
        idle = self._idle_cores() if self._idle_cores else math.inf
        if idle < _FREE * (self._counts[other] - self.threads):
            self._due = self._elapsed + _FIRST_TRIAL
        else:
            self._trial = _Trial(self._at, other, self._paces[self._at])

    def _other(self) -> int:
        """Return the index of the number of threads to try: one up and one down in turn."""
        if self._at == 0:
            return 1
        if self._at == len(self._counts) - 1:
            return self._at - 1
        return self._at + (1 if self._try_more else -1)

    def _judge(self, trial: _Trial) -> None:
        """Change to the other number of threads if it is more and clearly faster, or fewer and not clearly slower."""
        self._paces[trial.here], self._paces[trial.other] = trial.paces()
        more = trial.other > trial.here
        ratio = trial.ratio()
        if (more and ratio <= _CLEARLY) or (not more and ratio * _CLEARLY < 1.0):
            self._at, self._try_more, self._steps = trial.other, more, 1
            self._pause = _SHORTEST_PAUSE
            climbing = more and self._at < len(self._counts) - 1
            self._due = self._elapsed + (0.0 if climbing else self._pause)
        else:
            self._try_more = not more
            self._wait(trial.lost)

    def _wait(self, lost: float) -> None:
        """Put the next trial off, the longer the more time was lost, and longer each time."""
        self._due = self._elapsed + max(self._pause, lost / _SHARE)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


class _Trial:
    """Chunks with the number of threads in use and with another, in turn; at first of one step, to warm up."""

    def __init__(self, here: int, other: int, pace: float) -> None:
        self.here, self.other = here, other
        self.lost = 0.0
        self.over = False
        self._full = max(1, round(_TRIAL_SECONDS / pace))
        self._most_lost = max(_TRIAL_LOSS, pace)
        self._steps = 1
        self._warm = False
        self._pairs: list[tuple[float, float]] = []  # seconds a step: here, other
        self._base: float | None = None  # of the pair that is half done

    def next(self) -> tuple[int, int, float]:
        """Return the index of the number of threads, the steps, and the seconds after which they are broken off."""
        if self._base is None:
            return self.here, self._steps, _LONGEST_CHUNK
        return self.other, self._steps, self._base * self._steps + self._most_lost - self.lost

    def record(self, steps: float, seconds: float) -> None:
        """Take note of a chunk; afterwards `over` may be true."""
        pace = seconds / steps
        if self._base is None:
            self._base = pace
            return
        pair, self._base = (self._base, pace), None
        self.lost += seconds - pair[0] * steps
        if self._warm:
            self._pairs.append(pair)
        self._warm = self._warm or self._steps == self._full
        self._steps = min(2 * self._steps, self._full)
        hopeless = self.lost > self._most_lost
        if hopeless and not self._pairs:
            self._pairs.append(pair)
        self.over = hopeless or len(self._pairs) == _PAIRS

    def ratio(self) -> float:
        """Return the time that the other number takes, as a part of what the one in use takes; the median pair's."""
        if self.lost > self._most_lost:
            return math.inf
        return statistics.median(other / here for here, other in self._pairs)

    def paces(self) -> tuple[float, float]:
        """Return the seconds a step of the one in use and of the other."""
        here, other = zip(*self._pairs, strict=True)
        return statistics.median(here), statistics.median(other)
