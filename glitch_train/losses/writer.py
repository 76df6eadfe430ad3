"""Writes a loss record while it grows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TextIO

from ..errors import FileHeldError
from ..files import disk_errors_said, write_text
from .record import LossRecord, cell_text


class RecordWriter:
    """Writes a growing record: the CSV line by line, the JSON beside it now and then.

    The JSON is written anew whenever the record has grown by a quarter, and at the end, so that
    writing costs the same per step however long the run is. A file that another program holds is
    tried again as seldom; what is not on disk in the end stands in the record's notes.
    """

    def __init__(self, record: LossRecord, path: Path) -> None:
        """Create the CSV with its header.

        Every method raises DiskError when the disk does not take it.

        Args:
            record: the record; append to it first, then call :meth:`write_last`.
            path: the CSV; the JSON gets the same name with ``.json``.
        """
        self.record = record
        self.path = path
        self._columns = list(record.columns)
        self._json_rows = self._csv_rows = 0
        self._file: TextIO | None = None
        self._start_over()  # the header, and the rows of a run that goes on

    def write_last(self) -> None:
        """Write the record's newest step; the line is handed to the system at once."""
        with disk_errors_said(self.path):
            self._write_last()

    def close(self) -> None:
        """Close the CSV and write the JSON."""
        with disk_errors_said(self.path):
            if self._file is None:
                self._start_over()
            if self._file is None:
                self._miss(self.path)
            else:
                self._file.close()
            if len(self.record) and not self._write_json():
                self._miss(self.path.with_suffix(".json"))

    def _write_last(self) -> None:
        if self._file is None:
            if self._is_due(self._csv_rows):
                self._start_over()
        elif len(self.record.columns) > len(self._columns):
            self._start_over()
        else:
            row = self.record.last_row()
            self._file.write(
                ",".join(cell_text(column, row[column]) for column in self._columns) + "\n"
            )
            self._file.flush()
        if self._is_due(self._json_rows):
            self._write_json()

    def _is_due(self, rows: int) -> bool:
        return len(self.record) >= max(16, 1.25 * rows)

    def _start_over(self) -> None:
        """Write the file anew: there is none, a new column appeared, or it was held before."""
        if self._file is not None:
            self._file.close()
        self._file, self._csv_rows = None, len(self.record)
        self._columns = list(self.record.columns)
        with contextlib.suppress(FileHeldError), disk_errors_said(self.path):
            write_text(self.path, self.record.to_csv())
            self._file = self.path.open("a", encoding="utf-8", newline="")

    def _write_json(self) -> bool:
        self._json_rows = len(self.record)
        try:
            write_text(self.path.with_suffix(".json"), self.record.to_json())
        except FileHeldError:
            return False
        return True

    def _miss(self, path: Path) -> None:
        self.record.about.notes.append(
            f"{path.name} is in use by a program, so that it lacks this run's last steps."
        )
