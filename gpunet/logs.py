"""Writers that follow a training epoch by epoch, for `on_epoch`: CSV, JSON Lines, TensorBoard.

What they write can be read while the training runs. An epoch's numbers have the names of `Epoch.row`.
"""

from __future__ import annotations

import csv
import json
import os
import secrets
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from gpunet import optional
from gpunet.errors import FileFormatError
from gpunet.model_file import check_replaceable, replace_file
from gpunet.training.history import cells, csv_line, json_line
from gpunet.training.record import Epoch

__all__ = ["CSVLog", "JSONLinesLog", "TensorBoardLog"]


class _LinesLog(ABC):
    """A text file that gets a line with each epoch; between epochs it is closed, and so never half written."""

    def __init__(self, path: str | os.PathLike[str], *, append: bool = False) -> None:
        self.path = Path(path)
        check_replaceable(self.path)
        with self.path.open("ab"):
            pass  # that it can not be written is better known before the training
        earlier = self._read()  # also of what is to be replaced: only a log may be
        self._earlier = earlier if append else []
        self._begun = False

    def __call__(self, epoch: Epoch) -> None:
        """Write the epoch."""
        line = self._line(epoch)
        if not self._begun:
            kept = (text for number, text in self._earlier if number < epoch.epoch)
            replace_file(self.path, "".join([*self._head(), *kept]).encode())
            self._begun = True
        with self.path.open("ab") as file:
            file.write(line.encode())

    def _read(self) -> list[tuple[int, str]]:
        """Return the epochs that the file has, each as its number and its line."""
        text = self.path.read_bytes().decode(errors="replace")
        whole = text[: text.rfind("\n") + 1]  # a kill may have torn the last line
        try:
            if text and not whole:
                raise ValueError(text)
            return self._parse(whole.splitlines(keepends=True))
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError, csv.Error) as error:
            raise FileFormatError(
                f"{self.path}: not a log that {type(self).__name__} wrote, so it is neither gone on with "
                "nor replaced; name another file."
            ) from error

    @abstractmethod
    def _parse(self, lines: list[str]) -> list[tuple[int, str]]:
        """Return the epochs of these lines; a ValueError, LookupError or TypeError says that they are no log."""

    @abstractmethod
    def _head(self) -> list[str]:
        """Return the lines that the file begins with."""

    @abstractmethod
    def _line(self, epoch: Epoch) -> str:
        """Return the epoch's line."""


class CSVLog(_LinesLog):
    """A CSV file with a line for each epoch, for spreadsheets and pandas.

    Parameters
    ----------
    path : path
        A log that is there is replaced when the first epoch is done.
    append : bool, default False
        Go on with the file of a training that is resumed: its lines stay up to the first new epoch.

    Raises
    ------
    OSError
        If the file can not be written.
    FileFormatError
        If a file is there that is not such a log, or the one to go on with lacks a column.

    Examples
    --------
    >>> net.fit(X, y, on_epoch=CSVLog("run.csv"))  # doctest: +SKIP
    """

    _names: list[str] | None = None

    def _parse(self, lines: list[str]) -> list[tuple[int, str]]:
        if lines:
            self._names = next(csv.reader(lines[:1]))
            if self._names[0] != "epoch":
                raise ValueError(lines[0])
        return [(int(line.partition(",")[0]), line) for line in lines[1:]]

    def _head(self) -> list[str]:
        return [csv_line(self._names or ())]

    def _line(self, epoch: Epoch) -> str:
        row = epoch.row()
        if self._names is None or not (self._begun or self._earlier):
            self._names = list(row)
        missing = [name for name in row if name not in self._names]
        if missing:
            raise FileFormatError(
                f"{self.path} has no column {missing[0]!r}, which this training has; log it to another file."
            )
        return csv_line(cells(row, self._names))


class JSONLinesLog(_LinesLog):
    """A file of JSON Lines, an object for each epoch; NaN and infinity, which JSON does not have, are null.

    Parameters
    ----------
    path : path
        A log that is there is replaced when the first epoch is done.
    append : bool, default False
        Go on with the file of a training that is resumed: its lines stay up to the first new epoch.

    Raises
    ------
    OSError
        If the file can not be written.
    FileFormatError
        If a file is there that is not such a log.
    """

    def _parse(self, lines: list[str]) -> list[tuple[int, str]]:
        return [(int(json.loads(line)["epoch"]), line) for line in lines]

    def _head(self) -> list[str]:
        return []

    def _line(self, epoch: Epoch) -> str:
        return json_line(epoch.row())


class TensorBoardLog:
    """Event files for TensorBoard, which shows them with ``tensorboard --logdir FOLDER`` while the training runs.

    The numbers of layer l are ``delta_norm/layer_l``, .... Each epoch is on the disk when the next one begins.

    Parameters
    ----------
    folder : path
        Of one training; made if it is not there. A resumed training takes the folder of the first: TensorBoard then
        drops the epochs that it repeats.

    Raises
    ------
    MissingPackageError
        If tensorboard is not installed.
    OSError
        If the folder can not be written to.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        events, self._summaries, self._records = (
            optional.library(f"tensorboard.{module}", "TensorBoardLog", "gpunet[tensorboard]")
            for module in ("compat.proto.event_pb2", "compat.proto.summary_pb2", "summary.writer.record_writer")
        )
        self._event, self._session = events.Event, events.SessionLog
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads what has "tfevents" in its name, in the order of the names.
        self._path = self.folder / f"events.out.tfevents.{time.time_ns()}.{secrets.token_hex(4)}"
        self._write({"file_version": "brain.Event:2"})  # that it can not be is better known before the training
        self._begun = False

    def __call__(self, epoch: Epoch) -> None:
        """Write the epoch."""
        row = {name: value for name, value in epoch.row().items() if name != "epoch" and value is not None}
        values = [self._summaries.Summary.Value(tag=_tag(name), simple_value=value) for name, value in row.items()]
        entries = [{"step": epoch.epoch, "summary": self._summaries.Summary(value=values)}]
        if not self._begun:  # from here on, what an earlier training wrote to the folder does not count
            start = self._session(status=self._session.START)
            entries.insert(0, {"step": epoch.epoch, "session_log": start})
        self._write(*entries)
        self._begun = True

    def _write(self, *entries: dict[str, Any]) -> None:
        """Append events to the file. TensorBoard's own writer does so in a thread, which loses the last error."""
        with self._path.open("ab") as file:
            for entry in entries:
                event = self._event(wall_time=time.time(), **entry)
                self._records.RecordWriter(file).write(event.SerializeToString())


def _tag(name: str) -> str:
    """Return TensorBoard's name for a number; it groups by what stands before a slash."""
    kind, _, layer = name.rpartition("_")
    return f"{kind}/layer_{layer}" if layer.isdecimal() else name
