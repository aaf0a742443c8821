"""Schedules: eta for each epoch by its formula, plateaus in a history, what a training does with them."""

import math
from itertools import pairwise

import numpy as np
import pytest

import gpunet
from gpunet import InputError, Network
from gpunet.training import schedules
from gpunet.training.history import Epoch, History
from gpunet.training.schedules import Constant, Cosine, Exponential, InverseScaling, OnPlateau, Step, halving


def history(values=(), monitor="validation_cost"):
    """A history whose epochs have these values of what is monitored."""
    made = History("cpu", "", "", "sgd", 0.1, 10)
    for number, value in enumerate(values):
        given = {"cost": 1.0, monitor: value}
        made.epochs.append(Epoch(epoch=number, seconds=1.0, examples_per_second=1.0, **given))
    return made


def etas(schedule, epochs):
    return [schedule.eta(epoch, history()) for epoch in range(epochs)]


# -- Formulas ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        (Constant(0.3), [0.3] * 5),
        (Step(0.8, 2, 0.5), [0.8, 0.8, 0.4, 0.4, 0.2]),
        (Step(1.0, 3), [1, 1, 1, 0.1, 0.1]),
        (Exponential(2.0, 0.5), [2, 1, 0.5, 0.25, 0.125]),
        (Exponential(1.0), [0.95**e for e in range(5)]),
        (InverseScaling(6.0, 1.0), [6, 3, 2, 1.5, 1.2]),
        (InverseScaling(1.0), [(e + 1) ** -0.5 for e in range(5)]),
        (InverseScaling(0.7, 0.0), [0.7] * 5),
        (Cosine(1.0, 4), [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5, 0]),
        (Cosine(2.0, 2, final=1.0), [2, 1.5, 1, 1, 1]),
        (Cosine(3.0, 4, warm_up=2), [1, 2, 3, 1.5, 0]),
        (Cosine(1.0, 5, warm_up=3, final=0.2), [0.25, 0.5, 0.75, 1.0, 0.6]),
        (OnPlateau(0.5), [0.5] * 5),
    ],
    ids=repr,
)
def test_formulas(schedule, wanted):
    np.testing.assert_allclose(etas(schedule, 5), wanted, rtol=1e-12, atol=1e-16)
    assert schedule.is_over(history([1.0] * 5)) == (0 in wanted)
    assert not schedule.is_over(history([1.0] * 3))


def test_a_cosine_falls_from_the_largest_to_the_last_epoch():
    values = etas(Cosine(0.1, 50, warm_up=5), 50)
    assert values[5] == max(values) == 0.1
    assert all(a < b for a, b in pairwise(values[:6]))
    assert all(a > b > 0 for a, b in pairwise(values[5:]))


# -- Plateaus ------------------------------------------------------------------------------------------------

PLATEAUS = [
    # cost, patience, min_delta, how many times eta has fallen after each epoch
    ([3, 2, 1], 1, 0.0, [0, 0, 0]),
    ([1, 1, 1, 1], 1, 0.0, [0, 1, 2, 3]),
    ([1, 1, 1, 1, 1, 1, 1], 3, 0.0, [0, 0, 0, 1, 1, 1, 2]),
    ([2, 3, 1, 3, 3, 3], 2, 0.0, [0, 0, 0, 0, 1, 1]),  # better in between: the waiting begins anew
    ([5, 4.9, 4.8, 4.7, 4.6], 2, 0.25, [0, 0, 1, 1, 1]),  # 4.7 is better than 5 by 0.3: little by little counts
    ([5, 4.9, 4.85, 4.8, 4.76], 2, 0.25, [0, 0, 1, 1, 2]),
    ([math.inf, math.inf, 1, 2], 1, 0.0, [0, 0, 0, 1]),
    ([1, math.nan, math.nan, 0.5], 1, 0.0, [0, 1, 2, 2]),
]


@pytest.mark.parametrize(("costs", "patience", "min_delta", "falls"), PLATEAUS)
@pytest.mark.parametrize("monitor", ["validation_cost", "cost", "validation_score"])
def test_eta_falls_where_a_measure_stands_still(monitor, costs, patience, min_delta, falls):
    schedule = OnPlateau(0.4, 0.5, patience, monitor, min_delta)
    values = [-c for c in costs] if monitor == "validation_score" else costs
    got = [schedule.eta(n, history(values[:n], monitor)) for n in range(1, len(values) + 1)]
    np.testing.assert_allclose(got, [0.4 * 0.5**n for n in falls], rtol=1e-15)
    assert schedule.eta(0, history()) == 0.4


def by_definition(values, patience, min_delta):
    """How many times eta has fallen, epoch by epoch, with a variable for each thing that one remembers."""
    best, waited, falls = None, 0, 0
    for value in values:
        if best is None or value < best - min_delta:
            best, waited = value, 0
        else:
            waited += 1
            if waited == patience:
                falls, waited = falls + 1, 0
    return falls


@pytest.mark.parametrize("patience", [1, 2, 3, 7])
def test_falls_by_definition(patience):
    rng = np.random.default_rng(patience)
    for _ in range(30):
        values = rng.integers(0, 20, 40) / 8 - np.arange(40) / 50
        schedule = OnPlateau(1.0, 0.5, patience, min_delta=0.125)
        assert schedule.eta(40, history(values)) == 0.5 ** by_definition(values, patience, 0.125)


def test_halving_is_the_books():
    """Halved when the accuracy has not become better for ten epochs, until that would make it 1/128."""
    schedule = halving(2.0)
    assert schedule.settings() == {
        "eta": 2.0, "factor": 0.5, "patience": 10, "monitor": "validation_score", "min_delta": 0.0,
        "end_at": 1 / 128,
    }  # fmt: skip
    scores = [0.5, 0.9] + [0.9] * 70
    seen = [
        (schedule.eta(n, h), schedule.is_over(h))
        for n in range(72)
        for h in [history(scores[:n], "validation_score")]
    ]
    assert [eta for eta, _ in seen[2::10]] == [2.0, 1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert seen[71] == (2.0 / 64, False)
    assert schedule.is_over(history(scores, "validation_score"))


@pytest.mark.parametrize(
    ("factor", "end_at", "epochs"), [(0.3, 0.027, 3), (0.1, 1e-3, 3), (0.5, 0.3, 2), (0.1, 1.0, 0)]
)
def test_where_a_plateau_ends(factor, end_at, epochs):
    """Where eta would fall to that share, whatever the rounding of its powers."""
    schedule = OnPlateau(1.0, factor, 1, end_at=end_at)
    assert [schedule.is_over(history([1.0] * n)) for n in range(1, epochs + 2)] == [False] * epochs + [True]


# -- In a training -------------------------------------------------------------------------------------------


def small(**options):
    return Network([4, 5, 3], device="cpu", seed=1, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


@pytest.mark.parametrize("engine", ["compiled", "verbs"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_each_epoch_has_its_eta(blobs, engine, optimizer):
    """One epoch after another with a number each, and what the optimizer remembers taken along."""
    values = [0.3, 0.1, 0.02]
    nets = [small(), small(), small()]
    options = {"epochs": 3, "optimizer": optimizer, "engine": engine}
    for net, eta in zip(nets, (lambda epoch: values[epoch], Step(0.3, 1, 0.1), 0.3), strict=True):
        net.fit(*blobs, eta=eta, **options)
    assert nets[0].history.etas == values
    assert nets[0].history.eta == 0.3
    np.testing.assert_allclose(nets[1].history.etas, [0.3, 0.03, 0.003])
    assert (parameters(nets[0]) != parameters(nets[2])).any()
    if optimizer == "sgd":  # it remembers nothing: three trainings are one
        net = small()
        for eta in values:
            net.fit(*blobs, epochs=1, eta=eta, engine=engine)
        np.testing.assert_array_equal(parameters(net), parameters(nets[0]))


def test_a_schedule_ends_a_training(blobs):
    schedule = OnPlateau(0.1, 0.5, 1, "cost", min_delta=1e9, end_at=0.25)
    result = small().fit(*blobs, epochs=50, eta=schedule)
    np.testing.assert_allclose(result.etas, [0.1, 0.1, 0.05])
    assert result.stopped == f"the schedule {schedule!r} ended"


def test_halving_with_a_split(blobs):
    result = small().fit(*blobs, epochs=200, eta=halving(3.0, patience=2), validation_split=0.2)
    assert result.stopped.startswith("the schedule OnPlateau(eta=3.0, factor=0.5, patience=2")
    assert result.etas[-1] == 3.0 / 64
    assert len(result.epochs) < 200


def test_a_function_of_the_epoch_is_asked_in_time(blobs):
    """What it says of a later epoch is found out there; the epochs before it stay."""
    net = small()
    with pytest.raises(InputError, match=r"eta\(2\) must be a finite number above 0, got 0.0"):
        net.fit(*blobs, epochs=5, eta=lambda epoch: 2.0 - epoch)
    assert net.history.etas == [2.0, 1.0]


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_an_eta_that_vanishes_ends_a_training(blobs, optimizer):
    nets = [small(), small()]
    whole = nets[0].fit(*blobs, epochs=2, eta=Cosine(0.5, 2), optimizer=optimizer)
    longer = nets[1].fit(*blobs, epochs=5, eta=Cosine(0.5, 2), optimizer=optimizer)
    np.testing.assert_array_equal(*map(parameters, nets))
    assert whole.etas == longer.etas == [0.5, 0.25]
    assert (whole.stopped, longer.stopped) == (
        None,
        "the schedule Cosine(eta=0.5, epochs=2, warm_up=0, final=0.0) ended",
    )
    assert small().fit(*blobs, epochs=5, eta=Cosine(0.5, 2, final=0.1)).etas[2:] == [0.1] * 3


# -- What they say, and refuse -------------------------------------------------------------------------------

ALL = [
    Constant(0.1), Step(0.1, 3, 0.2), Exponential(0.1, 0.9), Cosine(0.1, 9, 2, 0.01), InverseScaling(0.1, 0.3),
    OnPlateau(0.1, 0.2, 3, "cost", 0.5, 0.01), halving(0.1),
]  # fmt: skip


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_what_a_schedule_says_of_itself(schedule):
    again = eval(repr(schedule), vars(schedules))
    assert (type(again), again.settings()) == (type(schedule), schedule.settings())
    assert schedules.get(schedule) is schedule
    assert schedules.BY_NAME[schedule.name] is type(schedule)


def test_all_of_them_are_tried():
    assert {type(s) for s in ALL} == set(schedules.BY_NAME.values())
    public = {schedule.__name__ for schedule in schedules.BY_NAME.values()} | {"Schedule", "halving"}
    assert set(gpunet.schedules.__all__) == public
    assert gpunet.schedules.Cosine is Cosine


def test_numbers_and_functions_are_schedules_too():
    assert schedules.get(0.5).settings() == {"eta": 0.5}
    by_function = schedules.get(lambda epoch: 0.5 / (epoch + 1))
    assert etas(by_function, 3) == [0.5, 0.25, 0.5 / 3]
    assert by_function.settings() == {"eta": 0.5}


def test_which_need_validation():
    assert [schedules.needs_validation(s) for s in ALL] == [False] * 6 + [True]
    assert schedules.needs_validation(OnPlateau(0.1))


@pytest.mark.parametrize(
    ("make", "fragment"),
    [
        (lambda: Constant(0), "eta must be a finite number above 0, got 0"),
        (lambda: Step(-1, 2), "eta must be a finite number above 0, got -1"),
        (lambda: Step(1, 0), "every must be a whole number of at least 1, got 0"),
        (lambda: Step(1, 2.5), "every must be a whole number of at least 1, got 2.5"),
        (lambda: Step(1, 2, 1.5), "factor must be at most 1, got 1.5"),
        (lambda: Step(1, 2, 0), "factor must be a finite number above 0, got 0"),
        (lambda: Exponential(1, "x"), "factor must be a number above 0, got 'x'"),
        (lambda: Cosine(1, 0), "epochs must be a whole number of at least 1, got 0"),
        (lambda: Cosine(1, 5, 5), "warm_up must be less than the 5 epochs, got 5"),
        (lambda: Cosine(1, 5, -1), "warm_up must be a whole number of at least 0, got -1"),
        (lambda: Cosine(1, 5, True), "warm_up must be a whole number of at least 0, got True"),
        (lambda: Cosine(1, 5, final=2), "final must be at most eta, 1, got 2"),
        (lambda: Cosine(1, 5, final=-1), "final must be a finite number of at least 0, got -1"),
        (lambda: InverseScaling(1, -0.5), "power must be a finite number of at least 0, got -0.5"),
        (lambda: OnPlateau(1, 1), "factor must be below 1 for eta to fall, got 1"),
        (lambda: OnPlateau(1, patience=0), "patience must be a whole number of at least 1, got 0"),
        (lambda: OnPlateau(1, monitor="accuracy"), "unknown monitor 'accuracy'."),
        (lambda: OnPlateau(1, min_delta=-1), "min_delta must be a finite number of at least 0, got -1"),
        (lambda: OnPlateau(1, end_at=0), "end_at must be a finite number above 0, got 0"),
        (lambda: halving(1, 0), "patience must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_constants(make, fragment):
    with pytest.raises(InputError) as caught:
        make()
    assert fragment in str(caught.value)
