"""The number of threads, chosen on simulated machines: what it ends with, what its trials cost, and its chunks."""

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from gpunet.training import threads
from gpunet.training.threads import CHUNK_SECONDS, ThreadChooser

LARGE = 1e9  # floating-point operations of a step that is worth any number of threads


@dataclass
class Machine:
    """Runs the chunks that a chooser asks for, on a clock of its own.

    `pace(threads, now)` is the seconds of a step; `noise` adds up to so much of it at random.
    """

    pace: object
    noise: float = 0.0
    now: float = 0.0
    steps: int = 0
    used: dict = field(default_factory=dict)  # seconds by number of threads
    chunks: list = field(default_factory=list)

    def __post_init__(self):
        self.random = random.Random(1)

    def run(self, chooser, seconds, epoch=None):
        """Train for so many seconds, in epochs of so many steps."""
        end, left = self.now + seconds, epoch or math.inf
        while self.now < end:
            chunk = chooser.next()
            began, done = self.now, 0
            for _ in range(min(chunk.steps, left)):
                self.now += self.pace(chunk.threads, self.now) * (1 + self.noise * self.random.random())
                done += 1
                if self.now - began > chunk.seconds:
                    break
            chooser.record(done, self.now - began)
            self.steps += done
            self.used[chunk.threads] = self.used.get(chunk.threads, 0.0) + self.now - began
            self.chunks.append((chunk, self.now - began))
            left = (left - done) or epoch or math.inf


def idle():
    return math.inf


def chooser(most, flops=LARGE, idle_cores=idle):
    return ThreadChooser(most, flops, idle_cores)


def perfect(step):
    return lambda n, now: step / n


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("step", [1e-4, 5e-3, 0.2])
@pytest.mark.parametrize(("most", "expected"), [(2, 2), (3, 3), (8, 8), (12, 12)])
def test_takes_all_cores_where_a_step_scales(most, expected, step, noise):
    machine, chosen = Machine(perfect(step), noise), chooser(most)
    machine.run(chosen, 10 * max(1.0, step / 0.005))
    assert chosen.threads == expected
    machine.used.clear()
    before = machine.now
    machine.run(chosen, 10 * max(1.0, step / 0.005))
    assert machine.used[expected] > 0.9 * (machine.now - before)  # now and then it looks whether fewer would do


def test_takes_as_many_as_pay():
    best_at_four = {1: 1e-2, 2: 6e-3, 4: 4e-3, 8: 5e-3}
    machine, chosen = Machine(lambda n, now: best_at_four[n], noise=0.1), chooser(8)
    machine.run(chosen, 30)
    assert chosen.threads == 4
    assert machine.steps > 0.9 * 30 / 4.2e-3 / 1.05


@pytest.mark.parametrize("gain", [1.0, 0.97, 0.8])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_loses_nothing_where_more_is_not_clearly_faster(gain, noise):
    machine, chosen = Machine(lambda n, now: 1e-3 if n == 1 else 1e-3 / gain, noise), chooser(4)
    machine.run(chosen, 60)
    assert machine.steps > 0.98 * 60 / (1e-3 * (1 + noise / 2))
    assert gain > 0.9 or machine.used[1] > 0.98 * 60


def busy(n, now):
    """What was measured beside a process that keeps one of two cores busy."""
    return 66e-6 if n == 1 else 17e-3


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_busy_core_costs_a_few_per_cent_at_most(noise):
    machine, chosen = Machine(busy, noise), chooser(2)
    machine.run(chosen, 2)
    assert machine.used[1] > 0.95 * machine.now
    machine.run(chosen, 58)
    assert machine.used[1] > 0.98 * machine.now
    trials = [at for at, (chunk, _) in enumerate(machine.chunks) if chunk.threads == 2]
    pauses = [b - a for a, b in pairwise(trials[1:])]
    assert pauses == sorted(pauses), "tried at growing intervals"


def test_more_threads_than_idle_cores_are_not_tried():
    machine, chosen = Machine(busy), chooser(2, idle_cores=lambda: 0.3)
    machine.run(chosen, 30)
    assert set(machine.used) == {1}
    free = chooser(2, idle_cores=lambda: 0.95)
    Machine(perfect(1e-3)).run(free, 5)
    assert free.threads == 2


def test_a_core_that_becomes_busy_is_noticed_within_a_chunk():
    machine = Machine(lambda n, now: 1e-3 if n == 1 else 0.55e-3 if now < 10 else 17e-3)
    chosen = chooser(2)
    machine.run(chosen, 9.9)
    assert chosen.threads == 2
    machine.run(chosen, 0.3)
    assert chosen.threads == 1
    machine.used.clear()
    machine.run(chosen, 30)
    assert machine.used[1] > 0.97 * 30


def test_a_core_that_becomes_free_is_used():
    machine = Machine(lambda n, now: 1e-3 if n == 1 else 17e-3 if now < 10 else 0.55e-3)
    chosen = chooser(2)
    machine.run(chosen, 9.9)
    assert chosen.threads == 1
    machine.run(chosen, 60)
    assert chosen.threads == 2


def test_a_core_that_comes_and_goes_costs_no_more_than_one_thread_does():
    machine = Machine(lambda n, now: 1e-3 if n == 1 else 0.55e-3 if int(now) % 2 else 17e-3)
    machine.run(chooser(2), 60)
    assert machine.steps > 0.97 * 60 / 1e-3


def test_one_busy_core_of_many_leaves_the_others():
    machine = Machine(lambda n, now: 1e-2 / n if n < 16 else 2e-2, noise=0.1)
    chosen = chooser(16)
    machine.run(chosen, 20)
    assert chosen.threads == 8


@pytest.mark.parametrize(("most", "flops"), [(1, LARGE), (8, 1.5e6), (8, 0.0)])
def test_small_steps_and_single_cores_have_no_trials(most, flops):
    machine = Machine(perfect(1e-5))
    machine.run(chooser(most, flops), 3)
    assert set(machine.used) == {1}


def test_the_work_of_a_step_bounds_its_threads():
    machine = Machine(perfect(1e-3))
    machine.run(chooser(64, 4.5e6), 30)
    assert max(machine.used) == 4


@pytest.mark.parametrize("step", [1e-6, 2e-5, 1e-3, 0.3])
def test_chunks_begin_with_one_step_and_come_to_a_twentieth_of_a_second(step):
    machine = Machine(lambda n, now: step)
    machine.run(chooser(1), 3)
    sizes = [chunk.steps for chunk, _ in machine.chunks]
    assert sizes[0] == 1
    assert all(after <= 4 * before for before, after in pairwise(sizes))
    last = machine.chunks[-1][1]
    assert last == pytest.approx(max(step, CHUNK_SECONDS), rel=0.2)


def test_no_chunk_goes_on_for_long_when_steps_become_slow():
    machine = Machine(lambda n, now: 1e-4 if now < 5 else 5e-2)
    machine.run(chooser(4), 10)
    assert max(took for _, took in machine.chunks) < 2 * CHUNK_SECONDS + 5.1e-2


def test_short_epochs_and_small_last_steps_do_no_harm():
    machine, chosen = Machine(perfect(1e-3), noise=0.2), chooser(2)
    machine.run(chosen, 30, epoch=7)
    assert chosen.threads == 2
    chosen.next()
    chosen.record(0.01, 0.0)  # on a clock too coarse to see it
    assert chosen.next().steps >= 1


def test_a_fixed_number_is_never_changed():
    fixed = ThreadChooser(8, 1e12, lambda: 8.0, fixed=3)
    machine = Machine(perfect(1e-3))
    machine.run(fixed, 5)
    assert set(machine.used) == {3}


def test_same_times_same_choices():
    def choices():
        machine = Machine(perfect(1e-3), noise=0.3)
        machine.run(chooser(4), 5)
        return machine.chunks

    assert choices() == choices()


@pytest.mark.parametrize("engine", ["auto", "verbs"])
def test_training_goes_through_its_examples_once_an_epoch_whatever_is_chosen(monkeypatch, engine):
    """The same numbers with chunks broken off after every step and with threads that change all the time."""
    import numpy as np

    import gpunet

    class Restless:
        def __init__(self, most_threads, flops, fixed):
            assert fixed is None
            self.turn = 0

        def next(self):
            self.turn += 1
            return threads.Chunk(1 + self.turn % 2, 1 + self.turn % 3, -1.0 if self.turn % 5 == 0 else 10.0)

        def record(self, steps, seconds):
            assert steps > 0
            assert seconds >= 0

    rng = np.random.default_rng(0)
    X, y = rng.random((203, 30)), rng.integers(0, 4, 203)

    def trained():
        net = gpunet.Network([30, 9, 4], device="cpu", seed=3, dtype="float64")
        history = net.fit(X, y, epochs=3, batch_size=10, engine=engine)
        return np.concatenate([w.ravel() for w in net.weights]), history.cost

    weights, cost = trained()
    monkeypatch.setattr("gpunet.training.sgd.ThreadChooser", Restless)
    others, other_cost = trained()
    np.testing.assert_allclose(others, weights, rtol=1e-12)
    np.testing.assert_allclose(other_cost, cost, rtol=1e-12)
