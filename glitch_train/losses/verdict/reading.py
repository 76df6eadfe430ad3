"""Measure a curve: its trend, and what departs from it."""

from __future__ import annotations

import dataclasses

import numpy as np

from ..record import LossRecord
from .correlation import without_average
from .curve import Curve, clean_curve
from .departures import (
    Hump,
    Jump,
    Oscillation,
    Spikes,
    find_hump,
    find_jump,
    find_oscillation,
    find_spikes,
)
from .trend import Trend, fit_trend

MIN_POINTS = 40
"""Fewer losses than this say nothing about convergence."""

MIN_TREND_POINTS = 12
MIN_AVERAGES = 5
"""So few are enough of a moving average's independent values, each of which holds many losses."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the judgements are made of.

    Attributes:
        curve: the finite losses; of a moving average, those that share no loss.
        trend: their trend, None for too few.
        spikes: None for fewer than a dozen.
        swing: likewise.
        hump: a stretch that lies above all around it, None where there is none.
        jump: a jump at the start, None where there is none.
    """

    curve: Curve
    trend: Trend | None = None
    spikes: Spikes | None = None
    swing: Oscillation | None = None
    jump: Jump | None = None
    hump: Hump | None = None


def read_curve(curve: Curve) -> Reading:
    """Measure trend, spikes and swings of a curve, as far as its length allows."""
    curve = without_average(curve)
    jump = find_jump(curve) if len(curve) >= MIN_POINTS else None
    if len(curve) < MIN_TREND_POINTS:
        few = curve.averaged == 1 or len(curve) < MIN_AVERAGES
        return Reading(curve, None if few else fit_trend(curve), jump=jump)
    spikes = find_spikes(curve)
    calm = _without(curve, spikes.marked)
    trend = fit_trend(calm)
    swing = find_oscillation(calm, trend)
    if swing.found:
        trend = fit_trend(calm, swing.cycles)
    return Reading(curve, trend, spikes, swing, jump, find_hump(curve))


def _without(curve: Curve, marked: np.ndarray) -> Curve:
    """Return a curve with a line in place of each spike."""
    places = np.arange(len(curve))
    values = np.interp(places, places[~marked], curve.values[~marked])
    return dataclasses.replace(curve, values=values)


def measured(record: LossRecord, column: str, least: int) -> Curve | None:
    """Return a probe's curve, or None where it has fewer than ``least`` values."""
    values = record.array(column)
    finite = np.isfinite(values)
    curve = clean_curve(record.array("step")[finite], values[finite])
    curve = dataclasses.replace(curve, steady=True)
    return curve if len(curve) >= least else None
