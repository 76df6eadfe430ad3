"""A series made fit for judging: sorted, finite, with its noise measured in blocks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..smoothing import Floats

Blocks = list[slice]
LARGEST = 3.4e38
"""A loss beyond what fp32 holds is infinite."""

SMALLEST = 1e-100
"""Stands in for zero where something is divided; its square is still a number."""

ENOUGH = 5
"""Values that a block must hold to tell its own noise."""

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Finite values over increasing steps.

    Attributes:
        steps: (N,) in the record's own unit.
        values: (N,) finite.
        not_finite: how many values were NaN or infinite.
        infinite: how many of those were infinite.
        bad_step: first step without a finite value, or None.
        shuffled: whether the steps did not increase.
        averaged: losses behind each value, where a moving average was logged.
        correlation: how much the noise of neighbouring losses may correlate.
        logged: how many finite values the record has; 0 where that is all of these.
        steady: whether every value was measured in the same way, as a probe is: then it varies only
            as much as the model itself.
    """

    steps: Floats
    values: Floats
    not_finite: int = 0
    infinite: int = 0
    bad_step: float | None = None
    shuffled: bool = False
    averaged: int = 1
    correlation: float = 0.0
    logged: int = 0
    steady: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def points(self) -> int:
        """How many finite losses the record has."""
        return self.logged or len(self)

    @property
    def position(self) -> Floats:
        """Steps as a share of the run, 0..1: what makes verdicts independent of the unit.

        Rounded, as the last bits hang on the unit and decide on which side of a step in the trend
        a block lies that begins just there.
        """
        first, last = self.steps[0], self.steps[-1]
        return ((self.steps - first) / (last - first)).round(12)

    def step_at(self, position: float) -> float:
        """Return the step at a share of the run."""
        return float(self.steps[0] + position * (self.steps[-1] - self.steps[0]))


def clean_curve(steps: Any, values: Any) -> Curve:
    """Return the curve behind a series as it was recorded.

    Steps that come twice (a run resumed from an older state) count with their last value; steps
    that are not finite or all equal are replaced by the order of the values.

    Args:
        steps: (N,) numbers.
        values: (N,) numbers, NaN and infinity allowed.
    """
    raw, at = np.asarray(values, dtype=float), np.asarray(steps, dtype=float)
    raw = np.where(np.abs(raw) > LARGEST, np.copysign(np.inf, raw), raw)
    if not np.isfinite(at).all() or (len(at) > 1 and np.ptp(at) == 0):
        at = np.arange(1, len(raw) + 1, dtype=float)
    shuffled = bool(np.any(np.diff(at) <= 0))
    if shuffled:
        # Of equal steps the last one written is the one that stayed.
        backwards = at[::-1]
        at, last = np.unique(backwards, return_index=True)
        raw = raw[::-1][last]
    bad = ~np.isfinite(raw)
    return Curve(
        at[~bad],
        raw[~bad],
        not_finite=int(bad.sum()),
        infinite=int(np.isinf(raw).sum()),
        bad_step=float(at[bad][0]) if bad.any() else None,
        shuffled=shuffled,
    )


def equal_blocks(length: int, count: int) -> Blocks:
    """Cut ``length`` values into ``count`` blocks of equal size (within one value)."""
    edges = np.linspace(0, length, min(count, length) + 1).round().astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if b > a]


def fine_start(blocks: Blocks, smallest: int = 4) -> Blocks:
    """Halve the first block again and again, because a loss falls fastest at the start."""
    first, rest = blocks[0], blocks[1:]
    while first.stop >= 2 * smallest:
        middle = first.stop // 2
        rest = [slice(middle, first.stop), *rest]
        first = slice(0, middle)
    return [first, *rest]


def block_means(values: Floats, blocks: Blocks) -> Floats:
    """Return the mean of each block."""
    return np.array([values[block].mean() for block in blocks])


def local_noise(values: Floats, blocks: Blocks, steady: bool = False) -> Floats:
    """Return the noise around the trend in each block, up to a factor that they share.

    Noise changes along a run: it shrinks with the loss. Where blocks hold enough values it is
    measured on differences of neighbours, which a slow trend hardly touches; elsewhere it counts as
    proportional to the level.

    Args:
        values: (N,) the series.
        blocks: its blocks.
        steady: few values are enough, since a probe has no noise but the model's own steps.
    """
    if len(values) < ENOUGH * len(blocks) and not steady:
        return running_median(np.abs(block_means(values, blocks)), 11)
    pieces = [np.diff(values[max(0, block.start - 1) : max(2, block.stop)]) for block in blocks]
    noise = running_median(np.array([np.sqrt(np.mean(piece**2)) for piece in pieces]), 5)
    return np.minimum(noise, np.median(noise)) if steady else noise


def running_median(values: Floats, width: int) -> Floats:
    """Return the median of ``width`` values around each one."""
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
