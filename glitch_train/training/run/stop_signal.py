"""Ctrl-C and a cluster's SIGTERM as a question between two steps, so that a stop loses nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")  # the last is Windows': Ctrl-Break, and all it can send
_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class StopSignal(contextlib.AbstractContextManager["StopSignal"]):
    """While entered: the first signal asks for a stop, the second ends the process at once.

    Attributes:
        asked: whether a signal came.
    """

    def __init__(self) -> None:
        """Nothing changes before it is entered."""
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.asked:  # what is on disk is whole; a half-done step must not be saved
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.asked = True
        sys.stderr.write("\nStopping after this step; once more to leave at once.\n")
