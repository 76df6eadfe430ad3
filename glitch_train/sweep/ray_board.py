"""What all runs on a Ray cluster are doing, in one view."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping

_SECONDS_BETWEEN = 1.0
"""Between two messages of a run about the same work."""


@dataclasses.dataclass
class Row:
    """What one run is doing.

    Attributes:
        where: the machine that works on it.
        tries: how many workers began with it.
        what: the work.
        done: how much of it.
        total: of how much.
    """

    where: str = ""
    tries: int = 0
    what: str = "beginning"
    done: int = 0
    total: int = 0

    @property
    def text(self) -> str:
        """The row in words."""
        amount = f" {self.done} of {self.total}" if self.total else ""
        tries = f", worker {self.tries}" if self.tries > 1 else ""
        return f"{self.what}{amount} (on {self.where}{tries})"


class Board:
    """Where runs write what they are doing; an actor of the cluster."""

    def __init__(self) -> None:
        """Nothing is written yet."""
        self._rows: dict[str, Row] = {}

    def begin(self, name: str, where: str) -> None:
        """Take down that a worker begins with a run."""
        row = self._rows.setdefault(name, Row())
        self._rows[name] = Row(where, row.tries + 1)

    def tell(self, name: str, what: str, done: int, total: int) -> None:
        """Take down what a run is doing."""
        row = self._rows.setdefault(name, Row())
        row.what, row.done, row.total = what, done, total

    def rows(self) -> dict[str, Row]:
        """Return name to row of every run that was begun."""
        return self._rows


class Teller:
    """Tells a board how far one run is, without waiting for it, and not too often."""

    def __init__(self, board: object, name: str) -> None:
        """Tell ``board``, an actor's handle, of the run ``name``."""
        self._board: object = board
        self._name = name
        self._what, self._when = "", 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell it, where enough time went by or something else is done now."""
        now, kind = time.monotonic(), what.split(" ")[0]
        if kind == self._what and now - self._when < _SECONDS_BETWEEN:
            return
        self._what, self._when = kind, now
        self._board.tell.remote(self._name, what, done, total)  # type: ignore[attr-defined]


def view(rows: Mapping[str, Row], under_way: Mapping[str, object], total: int) -> list[str]:
    """Return one line on all runs, and one for each that somebody works on.

    Args:
        rows: as :meth:`Board.rows` returned them.
        under_way: names of the runs that are not at their end.
        total: how many runs there are.
    """
    begun = [name for name in under_way if name in rows]
    waiting = len(under_way) - len(begun)
    head = f"{total - len(under_way)} of {total} runs ended, {len(begun)} at work"
    lines = [f"{head}, {waiting} waiting." if waiting else f"{head}."]
    return lines + [f"  {name}: {rows[name].text}" for name in begun]
