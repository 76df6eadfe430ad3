"""Smooth a noisy series: debiased EMA, and kohya's moving average over one epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class RunningAverage:
    """A debiased exponential moving average that grows value by value.

    Source: Kingma & Ba 2015, the bias correction of Adam's moments.
    """

    def __init__(self, window: float) -> None:
        """Start empty.

        Args:
            window: time constant, in values.
        """
        self._decay = 1 - 1 / max(1.0, window)
        self._total = self._weight = 0.0

    def add(self, value: float) -> float:
        """Take one value in; return the average. Values that are not finite are passed over."""
        if math.isfinite(value):
            self._total = self._decay * self._total + (1 - self._decay) * value
            self._weight = self._decay * self._weight + (1 - self._decay)
        return self._total / self._weight if self._weight else math.nan


def smooth(values: Any, window: float) -> Floats:
    """Return the debiased exponential moving average of a series.

    Args:
        values: (N,) raw values; those that are not finite are passed over.
        window: time constant, in values.

    Returns:
        (N,); NaN before the first finite value. Equal to :class:`RunningAverage`, in a few sweeps.
    """
    raw = np.asarray(values, dtype=float)
    finite = np.flatnonzero(np.isfinite(raw))
    if not len(finite):
        return np.full(len(raw), np.nan)
    decay = 1 - 1 / max(1.0, window)
    averages = _average(raw[finite], decay)
    latest = np.searchsorted(finite, np.arange(len(raw)), side="right") - 1
    return np.where(latest >= 0, averages[latest], np.nan)


def _average(values: Floats, decay: float) -> Floats:
    if decay <= 0:
        return values
    # Within a sweep the sum runs over value / decay**i, which must not grow out of precision.
    sweep = max(1, int(10 / -np.log(decay)))
    powers = decay ** np.arange(1, sweep + 1)
    totals = np.empty(len(values))
    last = 0.0
    for start in range(0, len(values), sweep):
        part = values[start : start + sweep]
        power = powers[: len(part)]
        totals[start : start + sweep] = power * (last + (1 - decay) * np.cumsum(part / power))
        last = totals[start + len(part) - 1]
    return totals / -np.expm1(np.log(decay) * np.arange(1, len(values) + 1))


def epoch_average(values: Any, epoch_length: int) -> Floats:
    """Return kohya's ``loss/average``: the mean over the last epoch's values.

    Args:
        values: raw values; those that are not finite are left out of the mean.
        epoch_length: values per epoch. During the first epoch the mean is over what there is.

    Returns:
        As many values; NaN where an epoch holds nothing finite.

    Source: the moving average of kohya-ss/sd-scripts' loss recorder.
    """
    raw = np.asarray(values, dtype=float)
    finite = np.isfinite(raw)
    totals = np.concatenate([[0.0], np.cumsum(np.where(finite, raw, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    ends = np.arange(1, len(raw) + 1)
    begins = np.maximum(0, ends - max(1, epoch_length))
    number = counts[ends] - counts[begins]
    total = totals[ends] - totals[begins]
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def smoothing_window(length: int) -> float:
    """Return a window for a run of that many steps.

    A twentieth of a short run, 200 steps from 4000 on, a fiftieth of a very long one.
    """
    return max(2.0, min(200.0, length / 20), length / 50)
