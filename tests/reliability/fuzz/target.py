"""What the fuzzer must know of a reader: how inputs are made, how it is called, and when it is wrong to accept."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from gpunet.errors import FileFormatError, InputError

#: Of a message without the path in it.
LONGEST_MESSAGE = 600


class WrongError(AssertionError):
    """A reader accepted what it should not have, or gave something else than what is in the file."""


@dataclass(frozen=True)
class Sample:
    """Files as they lie in a folder, the first of which is read, and the arguments to read it with."""

    files: dict[str, bytes]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the file that is read."""
        return next(iter(self.files))

    @property
    def data(self) -> bytes:
        """The bytes of the file that is read."""
        return self.files[self.name]


@dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes
    ----------
    name : str
    seeds : tuple of Sample
        Good files, each of which must be accepted.
    make : function
        From a generator of random numbers to an input, mostly a seed with something wrong.
    read : function
        The reader: a path and the options to whatever it returns.
    check : function
        Takes a sample and what `read` returned for it; raises `WrongError` if that is not what an independent reading
        of the bytes gives, or if such bytes must not be accepted.
    """

    name: str
    seeds: tuple[Sample, ...]
    make: Callable[[Random], Sample]
    read: Callable[..., Any]
    check: Callable[[Sample, Any], None]


def require(holds: bool, what: str) -> None:
    """Raise `WrongError(what)` unless it holds."""
    if not holds:
        raise WrongError(what)


_LEAKS = re.compile(r"\b[A-Z]\w*(?:Error|Exception|Warning)\b|Traceback|<class |object at 0x")


def objections(error: Exception, sample: Sample, folder: Path) -> list[str]:
    """Return what is wrong with a rejection: its type, what led to it, its message."""
    if not isinstance(error, FileFormatError | InputError):
        return [f"raises {type(error).__name__}: {str(error)[:200]}"]
    found = []
    cause: BaseException | None = error
    for _ in range(20):
        if isinstance(cause, MemoryError):
            found.append("asks for more memory than it may")
        cause = None if cause is None else cause.__cause__ or cause.__context__
    text = str(error).replace(f"{folder}/", "")
    if not any(name in text for name in sample.files):
        found.append(f"does not name the file: {text[:200]!r}")
    if not text.isprintable():  # a line feed is not printable either
        found.append(f"is not one printable line: {text[:300]!r}")
    if len(text) > LONGEST_MESSAGE:
        found.append(f"is {len(text)} characters long: {text[:200]!r}...")
    if leak := _LEAKS.search(text):
        found.append(f"shows {leak[0]!r}, which is Python's: {text[:300]!r}")
    return found


def kind(error: Exception, sample: Sample, folder: Path) -> str:
    """Return a message without what differs from file to file, to count the kinds by."""
    text = str(error).replace(f"{folder}/", "")
    for name in sample.files:
        text = text.replace(name, "FILE")
    text = re.sub(r"(?<!\w)'[^']*'|\"[^\"]*\"", "'...'", text)
    text = re.sub(r"\([^()]*\)", "(...)", text)
    text = re.sub(r"0x[0-9a-f]+|[-+]?\d[\d.e+]*", "N", text)
    return f"{type(error).__name__}: {text[:70]}"
