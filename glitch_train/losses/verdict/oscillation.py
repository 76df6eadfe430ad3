"""Find an oscillation: one frequency that stands out of the noise's own spectrum."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .curve import MAD_TO_SIGMA, SMALLEST, Curve, block_means, equal_blocks
from .trend import GRID, Column, Trend

MIN_CYCLES = 3
"""Fewer swings than this cannot be told from a trend."""

MIN_SHARE = 0.18
"""Share of the variation around the trend that the oscillation must have."""

MIN_SWING = 0.04
"""Least swing from top to bottom, as a share of the level."""

MIN_PERSISTENCE = 0.35
"""Each third of the run has at least this share of the mean swing: what a trend's shape leaves
behind where it bends sharply has one frequency too, but not all along."""

MAX_BINS = 2048
_RARITY = 7.0
"""A peak this far above the background, in e-folds beyond the number of frequencies."""
_BY_CHANCE = 1e-3
"""Largest chance of such a share in white noise (Fisher's g test, for three neighbours)."""


@dataclasses.dataclass(frozen=True)
class Oscillation:
    """The strongest frequency of one curve.

    Attributes:
        cycles: full swings over the run.
        swing: from top to bottom, as a share of the level.
        share: of the variation around the trend.
        prominence: power over the noise's own at that frequency.
        found: whether it counts as an oscillation.
    """

    cycles: float
    swing: float
    share: float
    prominence: float
    found: bool

    @property
    def columns(self) -> tuple[Column, ...]:
        """Return the sine and cosine that take it out of a fit."""
        angle = 2 * math.pi * self.cycles
        return (lambda x: np.sin(angle * x), lambda x: np.cos(angle * x))


def find_oscillation(curve: Curve, trend: Trend, ignored: np.ndarray) -> Oscillation:
    """Return the strongest oscillation of a curve around its trend.

    The periodogram of what the trend leaves is compared, near each frequency, with a power law
    fitted to its neighbours: noise that drifts slowly has much power at low frequencies too, but
    no single frequency of its own.

    Args:
        curve: at least thirty values.
        trend: its trend.
        ignored: (N,) bool, spikes to leave out.
    """
    level = np.interp(curve.position, GRID, trend.curve)
    rest = np.where(ignored, 0.0, curve.values - level)
    blocks = equal_blocks(len(curve), MAX_BINS)
    rest, level = block_means(rest, blocks), block_means(level, blocks)
    # The swing is relative to the level, and no single value may make a peak.
    relative = rest / np.maximum(np.abs(level), SMALLEST)
    bound = 4 * MAD_TO_SIGMA * float(np.median(np.abs(relative))) + SMALLEST
    relative = np.clip(relative, -bound, bound)
    relative -= relative.mean()
    power = np.abs(np.fft.rfft(relative))[1:] ** 2  # frequency k at index k - 1
    total = float(power.sum())
    if total <= 0 or len(power) < 3 * MIN_CYCLES:
        return Oscillation(0.0, 0.0, 0.0, 0.0, False)
    best = _strongest(power, total, float(relative.std()))
    if best.found and _persistence(relative, best.cycles) < MIN_PERSISTENCE:
        best = dataclasses.replace(best, found=False)
    return best


def _persistence(values: Floats, cycles: float) -> float:
    """Return the smallest swing among the thirds of the run, over their mean."""
    places = np.arange(len(values))
    turned = values * np.exp(-2j * np.pi * cycles * places / len(values))
    swings = np.array([abs(part.mean()) for part in np.array_split(turned, 3)])
    return float(swings.min() / max(swings.mean(), SMALLEST))


def _strongest(power: Floats, total: float, deviation: float) -> Oscillation:
    best = Oscillation(0.0, 0.0, 0.0, 0.0, False)
    order = np.argsort(power[MIN_CYCLES - 1 :])[::-1][:8] + MIN_CYCLES
    for cycles in order.tolist():
        width = max(1, cycles // 10)
        near = np.arange(max(1, cycles - width), min(len(power), cycles + width) + 1)
        share = float(power[near - 1].sum()) / total
        prominence = float(power[cycles - 1]) / _background(power, cycles, width)
        swing = 2 * math.sqrt(2 * share) * deviation
        found = (
            share >= MIN_SHARE
            and swing >= MIN_SWING
            and prominence >= math.log(len(power)) + _RARITY
            and _chance(share, len(power)) < _BY_CHANCE
        )
        one = Oscillation(_centre(power, near), swing, share, prominence, found)
        if (one.found, one.share) > (best.found, best.share):
            best = one
    return best


def _chance(share: float, number: int) -> float:
    """Return about how often white noise has a share this large in three of its frequencies."""
    return number * (1 - share) ** (number - 3) * (number * share) ** 2 / 2


def _centre(power: Floats, near: np.ndarray) -> float:
    return float(np.sum(near * power[near - 1]) / np.sum(power[near - 1]))


def _background(power: Floats, cycles: int, width: int) -> float:
    """Return the noise's mean power at a frequency, from a power law through its neighbours."""
    low, high = max(1, cycles // 4), min(len(power), max(cycles * 4, cycles + 8))
    around = np.arange(low, high + 1)
    around = around[np.abs(around - cycles) > width]
    if len(around) < 4:
        return float(power.mean())
    logs = np.log(np.maximum(power[around - 1], SMALLEST))
    slope, offset = np.polyfit(np.log(around), logs, 1)
    slope = min(0.5, max(-2.5, slope))
    offset = float(np.median(logs - slope * np.log(around)))
    # The median of an exponentially distributed power is ln 2 of its mean.
    return math.exp(offset + slope * math.log(cycles)) / math.log(2)
