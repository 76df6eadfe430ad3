"""A run's progress on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from ..training.run.run import Preparing, RunEvent
from ..training.run.samples import Sampling

_SECONDS_BETWEEN_LINES = 30
"""Where the output is a file: each update of the bar is then a line of its own."""


class TerminalProgress(contextlib.ExitStack):
    """Bars on stderr: pictures, captions, then steps with their loss, sample pictures between."""

    def __init__(self, quiet: bool = False) -> None:
        """Draw nothing before the first event, and nothing at all when ``quiet``."""
        super().__init__()
        self._quiet = quiet
        self._bar: Any = None
        self._shown = ""

    def __enter__(self) -> TerminalProgress:
        from tqdm.contrib.logging import logging_redirect_tqdm

        self.enter_context(logging_redirect_tqdm())
        self.callback(self._close)
        return self

    def show(self, event: RunEvent) -> None:
        """Move the bar that an event belongs to."""
        if isinstance(event, Preparing):
            self._move(f"encoding {event.what}", event.done, event.total)
        elif isinstance(event, Sampling):
            self._move(f"sampling after step {event.step}", event.done, event.total)
        else:
            self._move("training", event.step, event.steps)
            self._bar.set_postfix(loss=f"{event.loss:.4f}", refresh=False)

    def _move(self, what: str, done: int, total: int) -> None:
        from tqdm import tqdm

        if self._shown != what:
            self._close()
            seconds = 0.1 if sys.stderr.isatty() else _SECONDS_BETWEEN_LINES
            self._bar = tqdm(
                desc=what, total=total, initial=done - 1, mininterval=seconds, disable=self._quiet
            )
            self._shown = what
        self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


class RunsProgress(contextlib.ExitStack):
    """Lines on stderr about many runs: in one place on a terminal, one after another in a file."""

    def __init__(self) -> None:
        """Show nothing yet."""
        super().__init__()
        self._bars: list[Any] = []
        self._shown: tuple[str, ...] = ()
        self._next = 0.0

    def __enter__(self) -> RunsProgress:
        from tqdm.contrib.logging import logging_redirect_tqdm

        self.enter_context(logging_redirect_tqdm())
        self.callback(lambda: [bar.close() for bar in self._bars])
        return self

    def show(self, lines: Sequence[str]) -> None:
        """Show the lines instead of those before; in a file only now and then."""
        if sys.stderr.isatty():
            self._draw(lines)
        elif time.monotonic() >= self._next and tuple(lines) != self._shown:
            self._next = time.monotonic() + _SECONDS_BETWEEN_LINES
            self._shown = tuple(lines)
            sys.stderr.write("\n".join(lines) + "\n")
            sys.stderr.flush()

    def _draw(self, lines: Sequence[str]) -> None:
        from tqdm import tqdm

        while len(self._bars) < len(lines):
            place = len(self._bars)
            # A bar without a bar is cut at the terminal's width, and logs are written above it.
            bar = tqdm(bar_format="{desc}", position=place, leave=False, dynamic_ncols=True)
            self._bars.append(bar)
        for number, bar in enumerate(self._bars):
            bar.set_description_str(lines[number] if number < len(lines) else "")
