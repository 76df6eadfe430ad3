"""The growing curve while a run trains, drawn only as often as it may cost, and its samples."""

from __future__ import annotations

import time
from collections.abc import Callable

from PIL import Image

from ...drawing.figures import to_image
from ...drawing.style import PREVIEW_SIZE, GraphOptions
from ..record import LossRecord
from .draw import draw_losses

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
        self._samples: Image.Image | None = None
        self._new_samples = False

    def show_samples(self, strip: Image.Image | None) -> None:
        """Show a strip of sample pictures below the curve from here on, and at once."""
        self._samples, self._new_samples = strip, strip is not None

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
        """Return the curve so far, or None while drawing it would cost too much.

        New samples are worth a picture at any time; before the second step they stand alone.
        """
        self.warm_up()
        elapsed = self._clock() - self._began
        expected = self._spent_s + (self._last_s or 0.0)
        has_curve = len(self.record) >= 2
        if not self._new_samples and (not has_curve or expected > SHARE * elapsed):
            return None
        self._new_samples = False
        if not has_curve:
            return self._samples
        began = self._clock()
        picture = _draw(self.record)
        if self._samples:
            picture = above_each_other(picture, self._samples)
        self._last_s = self._clock() - began
        self._spent_s += self._last_s
        return picture


def above_each_other(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Return two pictures in one, as wide as the first."""
    height = max(1, round(lower.height * upper.width / lower.width))
    both = Image.new("RGB", (upper.width, upper.height + height))
    both.paste(upper, (0, 0))
    both.paste(lower.resize((upper.width, height), Image.Resampling.LANCZOS), (0, upper.height))
    return both


def _draw(record: LossRecord) -> Image.Image:
    # Marks need a verdict, which a preview has no time for.
    return to_image(draw_losses([record], PREVIEW_SIZE, GraphOptions(marks=False)))
