"""How long the noise of a series lasts: is it a moving average, and how do neighbours correlate?

Both are read off the differences of neighbours, which a trend hardly touches. Where neighbours
correlate by r, differences next to each other correlate by (r - 1) / 2. A moving average over W
losses takes one in and gives it back W steps later: differences W apart correlate by -1/2, those
next to each other by as much as the losses themselves. Source: autocovariance of a differenced
process, Box & Jenkins 1970, chapter 3.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..smoothing import Floats
from .curve import SMALLEST, Curve, equal_blocks

BETWEEN = (-0.75, -0.3)
"""A window's correlation is -1/2; a swing's half period has -1, chance less than the other."""

LEAST_SIGMAS = 2.5
LONGEST = 0.6
"""The longest window looked for, as a share of the series: of a longer one too little is seen."""

AGAIN = 0.3
"""What comes back after two windows by more than this is a swing."""

NEARLY = 0.7
"""Of several low correlations of about this share of the lowest, the first counts."""

PIECE, LEAST_PIECES, MOST_PIECES = 60, 4, 20
"""Differences are measured against their own mean and size in pieces of a long series: a steep
rise, and noise that grows with it, would hide a window."""

SMOOTHEST = 0.85
"""Where neighbouring differences correlate by more, a trend is all there is."""

MARGIN = 3.0
"""Standard errors (about 1 over the root of the length) added to the neighbours' correlation:
calling noise a trend is the worse error."""

CLIPPED = 3.0
"""Differences beyond this many median ones count as that many: one jump is no pattern."""


def without_average(curve: Curve) -> Curve:
    """Return a curve whose values share no loss, with the correlation that their noise may have.

    Of a moving average over W losses values W and more apart are kept, the first whole one and the
    last of all among them: they hold all that can be known.

    Args:
        curve: as logged.
    """
    window, correlation = average_window(curve.values)
    number = max(len(curve) // window, min(2, len(curve)))  # both ends, even where they share some
    kept = np.linspace(window - 1, len(curve) - 1, number).round().astype(int)
    return dataclasses.replace(
        curve,
        steps=curve.steps[kept],
        values=curve.values[kept],
        averaged=window,
        correlation=correlation,
        logged=len(curve),
    )


def average_window(values: Floats) -> tuple[int, float]:
    """Return how many losses each value averages, and how much those may correlate at most.

    Args:
        values: (N,) finite.

    Returns:
        1 for raw losses; the upper limit of the correlation of neighbours, 0 to 0.999.
    """
    differences = np.diff(values)
    pieces = min(MOST_PIECES, len(differences) // PIECE)
    is_long = pieces >= LEAST_PIECES
    for block in equal_blocks(len(differences), pieces if is_long else 1):
        size = float(np.median(np.abs(differences[block])))
        within = np.clip(differences[block], -CLIPPED * size, CLIPPED * size)
        differences[block] = (within - within.mean() * is_long) / max(size, SMALLEST)
    longest = int(LONGEST * len(values))
    if longest < 2 or not differences.any():
        return 1, 0.0 if longest < 2 else 0.999
    pairs = len(differences) - np.arange(longest + 1)
    correlation = _autocovariance(differences, longest) / pairs
    correlation /= max(correlation[0], SMALLEST)
    margin = MARGIN / np.sqrt(len(values))
    strength = correlation * np.sqrt(pairs)
    # A swing has many low points, the first at half its period; a moving average has one.
    first = 1 + int(np.argmax(strength[1:] <= NEARLY * strength[1:].min()))
    window = first + int(np.argmin(correlation[first : first + first // 4 + 1]))
    found = (
        window > 1
        and strength[window] < -LEAST_SIGMAS
        and BETWEEN[0] < correlation[window] < BETWEEN[1]
        and correlation[1] < SMOOTHEST
        and (2 * window > longest or abs(correlation[2 * window]) <= AGAIN)
    )
    neighbours = correlation[1] if found else 1 + 2 * correlation[1]
    return window if found else 1, float(np.clip(neighbours + margin, 0.0, 0.999))


def block_correlation(correlation: float, length: float) -> float:
    """Return how much means over ``length`` neighbours correlate, for AR(1) noise.

    Args:
        correlation: of neighbours, 0 to below 1.
        length: losses per block.
    """
    if correlation <= 0:
        return 0.0
    left = correlation**length
    within = length * (1 - correlation**2) - 2 * correlation * (1 - left)
    return correlation * (1 - left) ** 2 / max(within, SMALLEST)


def _autocovariance(values: Floats, longest: int) -> Floats:
    """Return the sums of products of values 0 to ``longest`` apart."""
    spectrum = np.fft.rfft(values, 2 * len(values))
    return np.fft.irfft(np.abs(spectrum) ** 2)[: longest + 1]
