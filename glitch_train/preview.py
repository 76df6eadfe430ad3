"""The growing curve while a run trains, drawn only as often as it may cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from PIL import Image

from .plots import PREVIEW_SIZE, GraphOptions, draw_losses, to_image
from .record import LossRecord

SHARE = 0.02
"""Largest share of the training time that drawing may take."""


class LivePreview:
    """Draws a record when the time spent on drawing allows it.

    The next picture's cost is expected to be that of the last one, so the share is kept from the
    first picture on, and not only in the long run.
    """

    def __init__(self, record: LossRecord, clock: Callable[[], float] = time.perf_counter) -> None:
        """Prepare to draw ``record`` as it grows.

        Args:
            record: the run's record.
            clock: seconds, increasing.
        """
        self.record = record
        self._clock = clock
        self._began = clock()
        self._spent_s = 0.0
        self._last_s: float | None = None

    def warm_up(self) -> None:
        """Load matplotlib and learn what a picture costs, before the training's time begins."""
        sample = LossRecord("warm-up", {"step": [1.0, 2.0], "loss": [1.0, 0.5]})
        for _ in range(2 if self._last_s is None else 0):  # the first one loads fonts
            began = self._clock()
            _draw(sample)
            self._last_s = self._clock() - began

    def restart(self) -> None:
        """Let the training's time begin now."""
        self._began = self._clock()
        self._spent_s = 0.0

    def picture_if_due(self) -> Image.Image | None:
        """Return the curve so far, or None while drawing it would cost too much."""
        self.warm_up()
        elapsed = self._clock() - self._began
        expected = self._spent_s + (self._last_s or 0.0)
        if len(self.record) < 2 or expected > SHARE * elapsed:
            return None
        began = self._clock()
        picture = _draw(self.record)
        self._last_s = self._clock() - began
        self._spent_s += self._last_s
        return picture


def _draw(record: LossRecord) -> Image.Image:
    # Marks need a verdict, which a preview has no time for.
    return to_image(draw_losses([record], PREVIEW_SIZE, GraphOptions(marks=False)))
