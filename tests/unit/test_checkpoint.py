"""Checkpoints: what goes on has the bits of what never ended, and no damaged or other file is gone on from."""

import errno
import inspect
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpunet import (
    DeviceError,
    DivergenceError,
    EarlyStopping,
    FileFormatError,
    InputError,
    Network,
    model_file,
    schedules,
)
from gpunet.costs import Huber
from gpunet.model_file import SavedTraining
from gpunet.optimizers import BUILT_IN, LBFGS, Momentum
from gpunet.training import checkpoint
from gpunet.training.compiled import CompiledSteps
from gpunet.training.steps import VerbSteps

WEIGHTS = {"class_weight": {0: 2.0, 2: 0.5}, "sample_weight": np.linspace(0.5, 1.5, 150)}
DROPOUT = {"dropout": [0.1, 0.3]}
#: What the compiled engine knows, and what only the verbs know.
COURSE = {
    "batch_size": 20,
    "l2": 0.3,
    "eta": schedules.Exponential(0.05, 0.9),
    "early_stopping": EarlyStopping(2, "validation_cost", min_delta=0.002),
    "validation_split": 0.2,
}
EVERYTHING = {
    **COURSE,
    **WEIGHTS,
    **DROPOUT,
    "l1": 0.02,
    "max_norm": 2.0,
    "clip_value": 0.5,
    "clip_norm": 0.7,
    "label_smoothing": 0.1,
}
TRAININGS = {
    **{f"{name} by the engine": {**COURSE, "optimizer": name} for name in ("sgd", "momentum", "nesterov", "adam")},
    "weights by the engine": {**COURSE, **WEIGHTS},
    "dropout by the engine": {**COURSE, **DROPOUT},
    **{f"{name} by the verbs": {**EVERYTHING, "optimizer": name} for name in BUILT_IN},
}


def small(seed=1, dtype="float32", **options):
    options = {"activation": "tanh", "cost": "cross-entropy", **options}
    return Network([4, 6, 3], device="cpu", seed=seed, dtype=dtype, **options)


def parameters(net):
    return np.concatenate([np.ravel(v) for v in (*net.weights, *net.biases)])


def facts(history):
    """What a training's history says, without how long it took."""
    epochs = [(e.epoch, e.validation_cost, e.validation_score, e.eta, e.layers) for e in history.epochs]
    return epochs, history.stopped, history.best_epoch, history.engine


def interrupted_after(epoch):
    def stop(report):
        if report.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def assert_same(net, other):
    np.testing.assert_array_equal(parameters(net), parameters(other))
    assert facts(net.history) == facts(other.history)
    # The engine's calls, whose costs are added up, are as long as time allows: their sum may be rounded otherwise.
    rtol = 1e-14 if "compiled" in net.history.engine else 0
    np.testing.assert_allclose(net.history.cost, other.history.cost, rtol=rtol, atol=0)
    assert net._rng.bit_generator.state == other._rng.bit_generator.state
    assert net.task == other.task


# -- The same bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS.keys())
def test_a_resumed_training_has_the_bits_of_one_that_never_ended(blobs, tmp_path, options, dtype):
    """Interrupted three times; the networks that go on have another seed: nothing of it may matter."""
    options = {**options, "epochs": 7, "threads": 1, "diagnostics": "dropout" in options}
    whole = small(dtype=dtype)
    before = parameters(whole)
    whole.fit(*blobs, **options)
    assert (parameters(whole) != before).any()
    path = tmp_path / "training"
    for seed, stop in ((1, 0), (2, 1), (3, 3)):
        net = small(seed, dtype)
        with pytest.raises(KeyboardInterrupt):
            net.fit(*blobs, **options, checkpoint=path, resume=True, on_epoch=interrupted_after(stop))
        assert len(net.history.epochs) == stop + 1
    resumed = small(4, dtype)
    resumed.fit(*blobs, **options, checkpoint=path, resume=True)
    assert_same(resumed, whole)


@pytest.mark.parametrize(
    ("steps", "method", "options"),
    [
        (VerbSteps, "_step", EVERYTHING),
        (CompiledSteps, "take", {**COURSE, **WEIGHTS, **DROPOUT, "optimizer": "adam"}),
    ],
    ids=["verbs", "compiled"],
)
def test_interrupts_at_any_step(blobs, tmp_path, monkeypatch, steps, method, options):
    """Each run is interrupted after a random number of steps, in the middle of an epoch or not, until one ends."""
    options = {**options, "epochs": 6, "threads": 1}
    whole = small()
    whole.fit(*blobs, **options)
    rng, path, left = np.random.default_rng(0), tmp_path / "training", [0]
    run = getattr(steps, method)

    def counted(self, *args):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(steps, method, counted)
    interrupts, ended = 0, False
    while not ended:
        left[0] = int(rng.integers(1, 12 if steps is VerbSteps else 4))
        net = small(2 if path.exists() else 1)
        try:
            net.fit(*blobs, **options, checkpoint=path, resume=True)
            ended = True
        except KeyboardInterrupt:
            interrupts += 1
        assert path.exists() == (net.history is not None), "a file from the first epoch on"
    assert interrupts > 2
    assert_same(net, whole)


def test_lbfgs_goes_on_with_the_bits_of_one_that_was_saved_too(blobs, tmp_path):
    options = {"epochs": 60, "optimizer": LBFGS(5, 0.0), "l2": 0.01, "validation_split": 0.2}
    options["class_weight"] = "balanced"
    whole = small(dtype="float64")
    whole.fit(*blobs, **options, checkpoint=tmp_path / "whole")
    assert len(whole.history.epochs) == 60
    net = small(dtype="float64")
    with pytest.raises(KeyboardInterrupt):
        net.fit(*blobs, **options, checkpoint=tmp_path / "part", on_epoch=interrupted_after(55))
    assert len(checkpoint.read(tmp_path / "part").snapshot.history.epochs) == 50
    resumed = small(2, dtype="float64")
    resumed.fit(*blobs, **options, checkpoint=tmp_path / "part", resume=True)
    assert_same(resumed, whole)


def test_lbfgs_begins_anew_at_the_same_iterations_wherever_it_goes_on(blobs, tmp_path, monkeypatch):
    monkeypatch.setattr("gpunet.training.lbfgs._ITERATIONS_SAVED", 4)
    options = {"optimizer": LBFGS(tolerance=0.0), "l2": 0.01}
    nets = [small(dtype="float64") for _ in range(2)]
    for number, net in enumerate(nets):
        net.fit(*blobs, **options, epochs=5, checkpoint=tmp_path / str(number))
    with pytest.raises(KeyboardInterrupt):
        nets[1].fit(
            *blobs, **options, epochs=14, checkpoint=tmp_path / "1", resume=True, on_epoch=interrupted_after(10)
        )
    assert len(checkpoint.read(tmp_path / "1").snapshot.history.epochs) == 8
    for number, net in enumerate(nets):
        net.fit(*blobs, **options, epochs=14, checkpoint=tmp_path / str(number), resume=True)
    assert_same(*nets)


def test_lbfgs_that_has_converged_stays_so(blobs, tmp_path):
    path = tmp_path / "training"
    options = {"epochs": 500, "optimizer": LBFGS(tolerance=1e-4), "l2": 5.0, "checkpoint": path}
    net = small(dtype="float64")
    net.fit(*blobs, **options)
    assert net.history.stopped.startswith("L-BFGS ended: CONVERGENCE")
    again = small(2, dtype="float64")
    again.fit(*blobs, **options, resume=True)
    assert_same(again, net)
    again.fit(*blobs, **options, resume=True)  # and does not forget it
    assert_same(again, net)


def test_more_epochs_go_on_from_the_end(blobs, tmp_path):
    """Also with more patience than the one that has ended it, or after a callback has."""
    path, options = tmp_path / "training", {**COURSE, "eta": 0.5, "optimizer": "momentum"}
    whole = small()
    whole.fit(*blobs, **{**options, "early_stopping": EarlyStopping(99, min_delta=0.002)}, epochs=9)
    net = small()
    net.fit(*blobs, **options, epochs=99, checkpoint=path, on_epoch=lambda epoch: epoch.epoch == 1)
    assert net.history.stopped == "a callback asked for it"
    net.fit(*blobs, **options, epochs=4, checkpoint=path, resume=True)
    assert len(net.history.epochs) == 4
    options["early_stopping"] = EarlyStopping(99, min_delta=0.002)
    net.fit(*blobs, **options, epochs=9, checkpoint=path, resume=True)
    assert_same(net, whole)


def test_a_finished_training_is_not_trained_again(blobs, tmp_path):
    options = {**COURSE, "epochs": 30, "eta": 2.0, "checkpoint": tmp_path / "training"}
    net = small()
    net.fit(*blobs, **options)
    assert "did not improve" in net.history.stopped
    assert net.history.best_epoch < len(net.history.epochs) - 1
    again, seen = small(2), []
    again.fit(*blobs, **options, resume=True, on_epoch=lambda epoch: seen.append(epoch))
    assert seen == []
    assert_same(again, net)


def test_resume_without_a_file_begins_anew(blobs, tmp_path):
    nets = [small(), small()]
    nets[0].fit(*blobs, epochs=2)
    nets[1].fit(*blobs, epochs=2, checkpoint=tmp_path / "new", resume=True)
    assert_same(*nets)
    assert (tmp_path / "new").exists()


def test_a_file_that_is_there_is_not_overwritten_unasked(blobs, tmp_path):
    path = tmp_path / "training"
    small().fit(*blobs, epochs=2, checkpoint=path)
    content = path.read_bytes()
    net = small()
    with pytest.raises(InputError, match=r"checkpoint .*training exists: pass resume=True"):
        net.fit(*blobs, epochs=2, checkpoint=path)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(parameters(net), parameters(small()))


# -- When it is written ----------------------------------------------------------------------------------------


def test_writes_are_so_many_seconds_apart(blobs, tmp_path, monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    write = model_file.write

    def noted(path, model, training):
        write(path, model, training)
        written.append(len(training.facts["history"]["epochs"]))

    monkeypatch.setattr(model_file, "write", noted)

    def tick(epoch):
        now[0] += 4.0

    small().fit(*blobs, epochs=9, on_epoch=tick, checkpoint=tmp_path / "some", checkpoint_seconds=10)
    assert written == [4, 7, 9]  # 12 s after the start, 12 s later, and the end
    written.clear()
    small().fit(*blobs, epochs=3, on_epoch=tick, checkpoint=tmp_path / "all", checkpoint_seconds=0)
    assert written == [1, 2, 3]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_what_ends_a_training_leaves_its_last_epoch_in_the_file(blobs, tmp_path, error):
    def stop(epoch):
        if epoch.epoch == 2:
            raise error

    net, path = small(), tmp_path / "training"
    with pytest.raises(error):
        net.fit(*blobs, epochs=9, on_epoch=stop, checkpoint=path, checkpoint_seconds=1e6)
    assert len(checkpoint.read(path).snapshot.history.epochs) == 3
    np.testing.assert_array_equal(parameters(Network.load(path, device="cpu")), parameters(net))


def test_divergence_leaves_the_last_whole_epoch_in_the_file(blobs, tmp_path):
    net = Network([4, 6, 3], activation="linear", device="cpu", seed=1)
    path = tmp_path / "training"
    with pytest.raises(DivergenceError):
        net.fit(*blobs, epochs=99, eta=lambda epoch: 0.01 if epoch < 3 else 1e6, checkpoint=path)
    kept = checkpoint.read(path)
    assert len(kept.snapshot.history.epochs) == len(net.history.epochs) == 3
    np.testing.assert_array_equal(parameters(Network.load(path, device="cpu")), parameters(net))


def test_an_infinite_validation_cost_comes_back(blobs, tmp_path):
    X = blobs[0].astype("float32")
    options = {"epochs": 2, "eta": 0.01, "validation_data": (X * np.float32(1e25), X[:, :3])}
    net = Network([4, 3], activation="linear", device="cpu", seed=1)
    net.fit(X, X[:, :3], **options, checkpoint=tmp_path / "training")
    again = Network([4, 3], activation="linear", device="cpu", seed=2)
    again.fit(X, X[:, :3], **options, checkpoint=tmp_path / "training", resume=True)
    assert again.history.validation_cost == net.history.validation_cost == [np.inf, np.inf]
    np.testing.assert_equal(again.history.validation_score, net.history.validation_score)


# -- Which file ------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_a_model_too(blobs, tmp_path):
    net = small(input_scale=0.5)
    net.metadata = {"classes": ["a", "b", "c"]}
    net.fit(*blobs, epochs=2, optimizer="adam", checkpoint=tmp_path / "training")
    loaded = Network.load(tmp_path / "training", device="cpu")
    np.testing.assert_array_equal(parameters(loaded), parameters(net))
    assert (loaded.task, loaded.metadata, loaded.input_scale) == (net.task, net.metadata, 0.5)
    np.testing.assert_array_equal(loaded.predict(blobs[0]), net.predict(blobs[0]))


def test_a_link_stays_one(blobs, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "target")
    net = small()
    net.fit(*blobs, epochs=1, checkpoint=link)
    net.fit(*blobs, epochs=2, checkpoint=link, resume=True)
    assert link.is_symlink()
    assert len(checkpoint.read(tmp_path / "target").snapshot.history.epochs) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "target"]


def test_what_a_killed_process_has_left_is_removed(blobs, tmp_path):
    """That of this file alone, whose name may be a pattern; and not what may be a living process's."""
    left, fresh = {".[t].01234567.part", ".[t].89abcdef.part"}, ".[t].fedcba98.part"
    others = {".[t].0123456789.part", ".t.01234567.part", ".[t].0123456.part", "[t].01234567.part"}
    for name in {*left, *others, fresh}:
        (tmp_path / name).touch()
        age = 3000 if name == fresh else 4000
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    small().fit(*blobs, epochs=1, checkpoint=tmp_path / "[t]")
    assert {p.name for p in tmp_path.iterdir()} == {"[t]", fresh, *others}


def test_a_second_training_that_begins_while_the_first_writes_leaves_it_alone(tmp_path, monkeypatch):
    path, fsync = tmp_path / "t", os.fsync

    def interfere(file):
        fsync(file)
        model_file.remove_parts(path)

    monkeypatch.setattr(os, "fsync", interfere)
    model_file.replace_file(path, b"content")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("t", b"content")]


def test_an_error_names_the_file_though_its_part_can_not_be_removed(tmp_path, monkeypatch):
    """As on a disk that is read-only."""

    def fail(self, *_mode, **_options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "open", fail)
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(OSError, match="Read-only") as caught:
        model_file.replace_file(tmp_path / "t", b"content")
    assert caught.value.filename == str(tmp_path / "t")


@pytest.mark.parametrize(
    ("name", "error", "fragment"),
    [
        ("no/folder/training", FileNotFoundError, "make it first"),
        ("file/training", FileNotFoundError, "make it first"),
        ("link", OSError, "a link that leads back to itself|[Ll]evels of symbolic links"),
    ],
)
def test_a_place_that_can_not_be_written_is_known_before_the_training(blobs, tmp_path, name, error, fragment):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "link")
    net, seen = small(), []
    with pytest.raises(error, match=fragment):
        net.fit(*blobs, epochs=1, checkpoint=tmp_path / name, on_epoch=lambda epoch: seen.append(epoch))
    assert seen == []
    np.testing.assert_array_equal(parameters(net), parameters(small()))


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_that_may_not_be_written_to(blobs, tmp_path):
    tmp_path.chmod(0o500)
    net = small()
    try:
        with pytest.raises(PermissionError, match="training"):
            net.fit(*blobs, epochs=1, checkpoint=tmp_path / "training")
    finally:
        tmp_path.chmod(0o700)
    assert len(net.history.epochs) == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_is_no_checkpoint(blobs, tmp_path, resume):
    with pytest.raises(FileFormatError if resume else InputError, match=tmp_path.name):
        small().fit(*blobs, epochs=1, checkpoint=tmp_path, resume=resume)


# -- The disk --------------------------------------------------------------------------------------------------


def _full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")])
def test_a_full_disk_leaves_the_old_file_and_a_network_that_works(blobs, tmp_path, monkeypatch, owner, name):
    path = tmp_path / "training"
    net = small()
    net.fit(*blobs, epochs=2, checkpoint=path)
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, _full)
        with pytest.raises(OSError, match=r"No space left on device: .*training") as caught:
            net.fit(*blobs, epochs=5, checkpoint=path, resume=True, checkpoint_seconds=0)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["training"]
    three = small()
    three.fit(*blobs, epochs=3)
    assert_same(net, three)
    net.fit(*blobs, epochs=5, checkpoint=path, resume=True)
    five = small()
    five.fit(*blobs, epochs=5)
    assert_same(net, five)


def test_a_full_disk_at_the_end_keeps_the_best_epoch(blobs, tmp_path, monkeypatch):
    net, options = small(), {**COURSE, "epochs": 30, "eta": 2.0}
    whole = small()
    whole.fit(*blobs, **options)
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space left"):
        net.fit(*blobs, **options, checkpoint=tmp_path / "training")
    assert_same(net, whole)


LIMITED = """
import resource, sys
import numpy as np
from gpunet import Network
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
X, y = np.eye(4), np.arange(4) % 3
def run(n, **options):
    net = Network([4, n, 3], device="cpu", seed=1)
    net.fit(X, y, epochs=2, batch_size=2, checkpoint=sys.argv[1], **options)
run(5)
try:
    run(400, resume=False) if len(sys.argv) > 2 else Network([4, 400, 3], device="cpu", seed=1).fit(
        X, y, epochs=1, batch_size=2, checkpoint=sys.argv[1] + "2"
    )
except OSError as error:
    print(type(error).__name__, error.errno, error.filename)
"""


def test_a_file_that_may_not_grow(tmp_path):
    """A true limit of the system, in a process of its own."""
    path = tmp_path / "training"
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.stdout == f"OSError {errno.EFBIG} {path}2\n", ran.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["training"]
    assert len(checkpoint.read(path).snapshot.history.epochs) == 2


# -- Another training ------------------------------------------------------------------------------------------

BASE = {"epochs": 1, "optimizer": "adam", "eta": 0.01, "validation_split": 0.2}
OTHER_OPTIONS = {
    "optimizer": {"optimizer": "rmsprop"},
    "optimizer's constants": {"optimizer": Momentum(0.8)},
    "eta": {"eta": 0.02},
    "eta by a schedule": {"eta": schedules.Step(0.01, 5)},
    "batch_size": {"batch_size": 20},
    "l2": {"l2": 0.1},
    "l1": {"l1": 0.1},
    "weight_decay": {"weight_decay": 0.1},
    "dropout": {"dropout": 0.1},
    "max_norm": {"max_norm": 1.0},
    "clip_value": {"clip_value": 1.0},
    "clip_norm": {"clip_norm": 1.0},
    "label_smoothing": {"label_smoothing": 0.1},
    "validation_split": {"validation_split": 0.3},
    "early_stopping": {"early_stopping": 5},
    "data by weights": {"class_weight": {0: 2.0}},
}
OTHER_NETWORKS = {
    "sizes": lambda: Network([4, 5, 3], activation="tanh", cost="cross-entropy", device="cpu", seed=1),
    "activations": lambda: small(activation="relu"),
    "cost": lambda: small(cost="quadratic", output_activation="sigmoid"),
    "dtype": lambda: small(dtype="float64"),
    "input_scale": lambda: small(input_scale=0.5),
}


@pytest.fixture(scope="module")
def written(blobs, tmp_path_factory):
    """The content of a checkpoint of BASE."""
    path = tmp_path_factory.mktemp("checkpoint") / "training"
    small().fit(*blobs, **BASE, checkpoint=path)
    return path.read_bytes()


def refused(path, content, net, data, error, match, **options):
    path.write_bytes(content)
    before, rng, seeded = parameters(net), net._rng.bit_generator.state, net._seeded
    with pytest.raises(error, match=match):
        net.fit(*data, **{**BASE, "epochs": 3, **options}, checkpoint=path, resume=True)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(parameters(net), before)
    assert net._rng.bit_generator.state == rng
    assert net._seeded == seeded
    assert net.history is None


@pytest.mark.parametrize("name", OTHER_OPTIONS)
def test_other_options_are_refused(blobs, tmp_path, written, name):
    match = f"is the checkpoint of another training: .*{name.split()[0].removesuffix(chr(39) + 's')} was .* and is "
    refused(tmp_path / "training", written, small(), blobs, InputError, match, **OTHER_OPTIONS[name])


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_other_networks_are_refused(blobs, tmp_path, written, name):
    match = f"another training: .*{name} was .* and is .*Go on with the same, or name another file"
    refused(tmp_path / "training", written, OTHER_NETWORKS[name](), blobs, InputError, match)


def test_other_constants_of_the_cost_are_refused(blobs, tmp_path):
    """A name alone does not say which Huber cost it is."""
    X = blobs[0]
    options = {"epochs": 1, "eta": 0.01, "checkpoint": tmp_path / "training"}
    small(cost=Huber(0.5)).fit(X, X[:, :3], **options)
    with pytest.raises(InputError, match=r"another training: cost was .*0\.5.* and is 'huber'"):
        small(cost="huber").fit(X, X[:, :3], **options, resume=True)
    small(cost=Huber(0.5)).fit(X, X[:, :3], **options, resume=True)


@pytest.mark.parametrize("change", ["an input", "a label", "fewer", "dtype"])
def test_other_data_are_refused(blobs, tmp_path, written, change):
    X, y = (np.array(v) for v in blobs)
    if change == "an input":
        X[77, 2] += 1e-9
    elif change == "a label":
        y[77] = (y[77] + 1) % 3
    elif change == "fewer":
        X, y = X[:-3], y[:-3]
    else:
        X = X.astype("float32")
    refused(tmp_path / "training", written, small(), (X, y), InputError, "another training: data was .* and is")


def test_no_new_parameter_of_fit_is_forgotten():
    """Whoever adds one decides whether a training may go on with another value of it."""
    free = {"self", "X", "y", "epochs", "engine", "threads", "validation_data", "on_epoch", "on_progress"}
    free |= {"checkpoint", "resume", "checkpoint_seconds", "diagnostics"}
    in_the_data = {"class_weight", "sample_weight"}
    tested = {key for options in OTHER_OPTIONS.values() for key in options}
    assert set(inspect.signature(Network.fit).parameters) - free == tested | in_the_data


def test_validation_data_that_decide_must_be_the_same(blobs, tmp_path):
    """The best epoch's cost of one data set says nothing beside the cost of another."""
    X, y = blobs
    parts = [(X[100:], y[100:]), (X[:50], y[:50])]
    for stopping, refuses in ((5, True), (None, False)):
        path, given = tmp_path / f"{stopping}", {"early_stopping": stopping, "eta": 0.01}
        small().fit(X[:100], y[:100], epochs=2, validation_data=parts[0], checkpoint=path, **given)
        for part, other in zip(parts, (False, True), strict=True):
            again = {"epochs": 3, "validation_data": part, "checkpoint": path, "resume": True, **given}
            if refuses and other:
                with pytest.raises(InputError, match=r"another training: validation was .* and is"):
                    small().fit(X[:100], y[:100], **again)
            else:
                assert len(small().fit(X[:100], y[:100], **again).epochs) == 3


def test_what_may_change(blobs, tmp_path, written):
    path = tmp_path / "training"
    path.write_bytes(written)
    net, seen = small(), []
    options = {
        "checkpoint_seconds": 0,
        "threads": 1,
        "on_progress": print,
        "on_epoch": lambda e: seen.append(e.epoch),
    }
    net.fit(*blobs, **{**BASE, "epochs": 3}, **options, checkpoint=str(path), resume=True)
    assert seen == [1, 2]


def test_an_engine_that_can_not_be_had_changes_nothing(blobs, tmp_path):
    path = tmp_path / "training"
    small(2).fit(*blobs, **BASE, max_norm=1.0, checkpoint=path)
    match = "compiled engine"
    refused(path, path.read_bytes(), small(), blobs, DeviceError, match, max_norm=1.0, engine="compiled")


# -- Damaged files ---------------------------------------------------------------------------------------------


def test_a_file_cut_off_anywhere_is_refused(blobs, tmp_path, written):
    path = tmp_path / "training"
    for length in range(0, len(written), 97):
        path.write_bytes(written[:length])
        with pytest.raises(FileFormatError, match="training"):
            checkpoint.read(path)
    refused(path, written[:-1], small(), blobs, FileFormatError, "not a whole model file")


def same_content(one, other):
    tensors = [[*r.model.weights, *r.model.biases, r.snapshot.states] for r in (one, other)]
    described = [
        (r.description, r.start, replace(r.snapshot, states=None), replace(r.model, weights=[], biases=[]))
        for r in (one, other)
    ]
    return described[0] == described[1] and all(map(np.array_equal, *tensors))


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path, written):
    """Such as the case of an exponent's e: 1e-05 is 1E-05."""
    path, noticed, positions = tmp_path / "training", 0, range(0, len(written), 5)
    path.write_bytes(written)
    right = checkpoint.read(path)
    for position in positions:
        changed = bytearray(written)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            read = checkpoint.read(path)
        except FileFormatError:
            noticed += 1
        else:
            assert same_content(read, right), position
    assert noticed > 0.98 * len(positions)


def test_a_damaged_file_changes_nothing(blobs, tmp_path, written):
    changed = bytearray(written)
    changed[-1] ^= 1  # of a parameter, which stays a number
    refused(tmp_path / "training", bytes(changed), small(), blobs, FileFormatError, "its checksum is not that")


def test_a_model_is_no_checkpoint(blobs, tmp_path):
    net = small()
    net.save(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    refused(tmp_path / "model", content, net, blobs, FileFormatError, "a model, but no checkpoint of a training")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("taken", -1),
        ("taken", 1.5),
        ("taken", None),
        ("rng", {}),
        ("rng", "PCG64"),
        ("start", {"bit_generator": "MT19937"}),
        ("history", None),
        ("history", {"epochs": [{"epoch": 0}]}),
        ("history", {"epochs": [], "unknown": 1}),
        ("description", []),
        ("states", np.zeros((2, 3), dtype="float32")),
        ("states", np.zeros(51, dtype="float32")),
        ("states", "float64"),
        ("states", "NaN"),
        ("best", np.zeros(50, dtype="float32")),
        ("other", np.zeros(51, dtype="float32")),
    ],
    ids=str,
)
def test_a_file_with_a_right_checksum_and_wrong_content_is_refused(blobs, tmp_path, written, where, value):
    path = tmp_path / "training"
    path.write_bytes(written)
    model, training = model_file.read_with_training(path)
    facts, tensors = dict(training.facts), dict(training.tensors)
    if where in ("states", "best", "other"):
        if isinstance(value, str):
            value = tensors["states"].astype("float64") if value == "float64" else tensors["states"] * np.nan
        tensors[where] = value
    else:
        facts[where] = value
    del facts["checksum"]
    facts["checksum"] = checkpoint._checksum(model, facts, tensors)
    model_file.write(path, model, SavedTraining(facts, tensors))
    refused(path, path.read_bytes(), small(), blobs, FileFormatError, "damaged: its training's state")


def test_states_of_another_optimizer_are_refused(blobs, tmp_path, written):
    """Adam's training with the one state of momentum."""
    path = tmp_path / "training"
    path.write_bytes(written)
    model, training = model_file.read_with_training(path)
    facts, tensors = dict(training.facts), {"states": training.tensors["states"][:1]}
    del facts["checksum"]
    facts["checksum"] = checkpoint._checksum(model, facts, tensors)
    model_file.write(path, model, SavedTraining(facts, tensors))
    refused(path, path.read_bytes(), small(), blobs, FileFormatError, "adam remembers 2 numbers .* the file has 1")
