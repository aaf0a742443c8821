"""Every backend has the verbs of backends/base.py: their names, arguments and defaults, and no others."""

import inspect

import pytest

from gpunet.backends import ArrayAPIBackend
from gpunet.backends.base import Backend
from gpunet.backends.cupy import CuPyBackend
from gpunet.backends.in_place import InPlaceBackend
from gpunet.backends.numpy import NumPyBackend

CLASSES = (ArrayAPIBackend, InPlaceBackend, NumPyBackend, CuPyBackend)
HELPERS = {"gemm", "take_rows"}  # what NumPy and CuPy each bring to their common verbs
VERBS = {name for name, value in vars(Backend).items() if not name.startswith("_") and callable(value)}
#: Verbs that the base class makes of the others, and what a device may leave as it is there.
MADE_OF_OTHERS = {"layer_forward", "layer_backward", "layer_gradient", "new_total"}
DEFAULTS = {"active", "threads", "capture", "compiled", "stage", "holds"}
#: What a backend says of itself besides, and its type.
ATTRIBUTES = {"name": str, "device": str, "total_slots": int, "replays": bool, "most_threads": int}
each_class = pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)


def test_every_verb_is_abstract_but_those_with_a_default():
    assert Backend.__abstractmethods__ == VERBS - MADE_OF_OTHERS - DEFAULTS
    assert VERBS >= MADE_OF_OTHERS | DEFAULTS
    assert len(VERBS) >= 12


@each_class
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_same_signature(cls, verb):
    # The types too: as they are written, so that an alias is an alias.
    assert inspect.signature(getattr(cls, verb)) == inspect.signature(getattr(Backend, verb))


@each_class
def test_no_other_verbs(cls):
    public = {name for name in dir(cls) if not name.startswith("_") and callable(getattr(cls, name))}
    assert public - HELPERS == VERBS
    # The helpers belong to the in-place backends alone.
    assert (public >= HELPERS) == issubclass(cls, InPlaceBackend)


@pytest.mark.parametrize("cls", [NumPyBackend, CuPyBackend], ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("helper", sorted(HELPERS))
def test_helpers_have_one_signature(cls, helper):
    assert inspect.signature(getattr(cls, helper)) == inspect.signature(getattr(InPlaceBackend, helper))


@pytest.mark.parametrize("cls", [ArrayAPIBackend, NumPyBackend, CuPyBackend], ids=lambda cls: cls.__name__)
def test_nothing_is_left_abstract(cls):
    assert not cls.__abstractmethods__


def test_instances_say_what_they_are(backend):
    assert backend.device in backend.name
    assert backend.name in repr(backend)
    assert hasattr(backend.xp, "exp")
    for attribute, kind in ATTRIBUTES.items():
        assert type(getattr(backend, attribute)) is kind, attribute
    assert backend.total_slots >= 1
    with backend.active():
        assert tuple(backend.new_total().shape) == (backend.total_slots,)


def test_attributes_are_those_that_the_base_class_declares():
    declared = set(Backend.__annotations__) | {
        name for name, value in vars(Backend).items() if not name.startswith("_") and not callable(value)
    }
    assert declared - {"xp"} == set(ATTRIBUTES)
    # A class that sets one sets nothing that the algorithm does not know.
    for cls in CLASSES:
        own = {name for name, value in vars(cls).items() if not name.startswith("_") and not callable(value)}
        assert own <= set(ATTRIBUTES)


def test_what_replays_can_capture():
    """`replays` promises a `capture` of its own; without it the one of the base class stays."""
    for cls in CLASSES:
        assert cls.replays == (cls.capture is not Backend.capture), cls.__name__
