"""Find spikes: points far above both sides of their neighbourhood, and above its own tail."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .curve import MAD_TO_SIGMA, SMALLEST, Curve, block_medians, equal_blocks

MIN_HEIGHT = 0.2
"""A spike rises at least this share above its surroundings: less is not seen as one."""

POINTS_PER_MEDIAN = 12
TIMES_LASTING = 3.0
"""Noise that drifts within a block's median would leave its own crests behind as spikes."""

MAX_BLOCKS = 60
LEAST_MADS = 5.0

_TAIL_POINTS = 60
"""The tail is read off about this many of the highest values, the top tenth to hundredth."""
_TAIL_MARGIN = 4.5
"""One curve in e^4.5 = 90 has a false spike where the noise's tail is exponential."""
_SIGMAS_TO_90 = 1.2816
"""Where a normal distribution's 90 % quantile lies."""
_MIRROR = 2.0
"""Noise with outliers below has them above too: a spike stands this much further out."""


@dataclasses.dataclass(frozen=True)
class Spikes:
    """Spikes of one curve.

    Attributes:
        marked: (N,) bool, every point that belongs to a spike.
        steps: the highest step of each spike.
        heights: how far each rises above its surroundings, as a multiple of them.
        fence: the limit, in robust standard deviations.
    """

    marked: np.ndarray
    steps: tuple[float, ...]
    heights: tuple[float, ...]
    fence: float


def find_spikes(curve: Curve) -> Spikes:
    """Return the spikes of a curve.

    A point is compared with the higher of the medians before and after its own block, so neither
    a slope nor a lasting jump counts. The distance is measured in MADs, after the noise was made
    symmetric by its own quantiles (losses are skewed: which timesteps were drawn decides most of
    them), and must exceed what the noise's own tail gives for a run of this length.

    Args:
        curve: at least ten values.
    """
    blocks = equal_blocks(len(curve), _block_number(curve))
    medians = block_medians(curve.values, blocks)
    before = np.concatenate([[np.nan], medians[:-1]])
    after = np.concatenate([medians[1:], [np.nan]])
    own = np.repeat(np.arange(len(blocks)), [b.stop - b.start for b in blocks])
    reference = np.fmax(before, after)[own]
    # Nothing lies before the first block, where a loss falls fast: its points must pass the first.
    reference[blocks[0]] = np.fmax(reference[blocks[0]], curve.values[0])
    centred = curve.values - _line_through(curve, blocks, medians)
    scale = _scale(centred, blocks)[own]
    above, noise = _over(curve.values - reference, scale), _over(centred, scale)
    fence = _fence(_symmetric(noise, noise))
    level = np.maximum(np.abs(reference), SMALLEST)
    high = (above > LEAST_MADS) & (curve.values - reference > MIN_HEIGHT * level)
    high &= (_symmetric(above, noise) > fence) & (above > _MIRROR * -noise.min())
    return _collect(curve, high, curve.values / level, fence)


def _block_number(curve: Curve) -> int:
    """Return how many blocks to cut: each is longer than the noise lasts, but an eighth at most."""
    lasts = (1 + curve.correlation) / (1 - curve.correlation)
    each = max(POINTS_PER_MEDIAN, min(TIMES_LASTING * lasts, len(curve) / 8))
    return min(MAX_BLOCKS, max(4, int(len(curve) / each)))


def _line_through(curve: Curve, blocks: list[slice], medians: Floats) -> Floats:
    middles = [(block.start + block.stop - 1) / 2 for block in blocks]
    return np.interp(np.arange(len(curve)), middles, medians)


def _scale(centred: Floats, blocks: list[slice]) -> Floats:
    deviations = np.array([np.median(np.abs(centred[block])) for block in blocks])
    deviations *= MAD_TO_SIGMA
    padded = np.pad(deviations, 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)


def _over(values: Floats, scale: Floats) -> Floats:
    floor = 1e-9 * float(np.max(np.abs(values), initial=0.0)) + SMALLEST
    return values / np.maximum(scale, floor)


def _symmetric(values: Floats, noise: Floats) -> Floats:
    """Undo the skew of the noise: Tukey's g-distribution fitted to its 10 and 90 % quantiles."""
    low, middle, high = np.quantile(noise, [0.1, 0.5, 0.9])
    if middle - low <= 0 or high - middle <= 0:
        return values
    skew = math.log((high - middle) / (middle - low)) / _SIGMAS_TO_90
    # Few values cannot tell their skew; it is shrunk towards none.
    skew = min(1.5, max(0.0, skew)) * len(noise) / (len(noise) + 100)
    if skew < 0.05:
        return values
    scale = (high - middle) * skew / (math.exp(_SIGMAS_TO_90 * skew) - 1)
    return np.log(np.maximum(1 + skew * (values - middle) / scale, 1e-9)) / skew


def _fence(noise: Floats) -> float:
    """Return the limit: a high quantile plus an exponential tail for a run of this length.

    The tail's decay is read off its own median, but where spikes are so many that they fill the
    tail themselves it is read off what lies below.
    """
    share = min(0.1, max(0.01, _TAIL_POINTS / len(noise)))
    below, start = np.quantile(noise, [1 - 2.5 * share, 1 - share])
    decay = min(_decay(noise, start), 1.2 * _decay(noise, below))
    expected = math.log(max(2.0, len(noise) * share))
    return float(start) + (expected + _TAIL_MARGIN) * decay


def _decay(noise: Floats, start: float) -> float:
    beyond = noise[noise > start]
    return float(np.median(beyond - start)) / math.log(2) if len(beyond) else 0.0


def _collect(curve: Curve, high: np.ndarray, heights: Floats, fence: float) -> Spikes:
    """Join neighbouring points; what is still high at the end is a rise, not a spike."""
    marked = high.copy()
    points = np.flatnonzero(high)
    gap = max(2, len(curve) // 500)
    groups = np.split(points, np.flatnonzero(np.diff(points) > gap) + 1) if len(points) else []
    tops = []
    for group in groups:
        if len(curve) - 1 - group[-1] <= gap and len(group) >= 3:
            marked[group] = False
            continue
        tops.append(int(group[np.argmax(curve.values[group])]))
    return Spikes(
        marked,
        tuple(float(curve.steps[top]) for top in tops),
        tuple(float(heights[top]) for top in tops),
        fence,
    )
