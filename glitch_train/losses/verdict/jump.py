"""Find a jump: the end of a curve, or all but its start, lies above everything before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from .curve import SMALLEST, Curve, block_means, equal_blocks

MARGIN = 1.25
"""The last blocks all lie this many times above the highest block before them."""

SETTLING = 0.1
"""The start of a run, where the loss is high anyway, is left out of that."""

MIN_BLOCKS = 16
MAX_BLOCKS = 60
LEAST_BLOCKS = 2
"""Of 16 exchangeable blocks the last two are the highest once in 120 times, margin aside."""


EARLY = 0.05
"""A jump is early when it begins within this share of the run."""

EARLY_MARGINS = (1.5, 1.25)
"""All later values lie this many times above the first one, the first two; from three on, above."""

EARLY_GAP = 0.2
"""... and by this share of the whole curve's level: near zero a ratio says nothing."""

EXPLOSION = 4.0
"""... unless the jump is this many times wider than what lies between the lowest later value and
that level: a loss that explodes a thousandfold may fall for a long time and never come back."""


@dataclasses.dataclass(frozen=True)
class Jump:
    """A jump.

    Attributes:
        position: where it begins, as a share of the run.
        level: mean loss from there on.
        before: level of what came before.
    """

    position: float
    level: float
    before: float

    @property
    def ratio(self) -> float:
        """Level over level before."""
        return self.level / max(abs(self.before), SMALLEST)

    @property
    def words(self) -> str:
        """Return the ratio as text."""
        return f"{self.ratio:,.0f}" if abs(self.ratio) >= 100 else f"{self.ratio:.1f}"

    @property
    def is_early(self) -> bool:
        """Whether it came before a trend could be seen."""
        return self.position <= EARLY


def find_jump(curve: Curve, ignored: np.ndarray) -> Jump | None:
    """Return where a curve jumps up for good, or None.

    No shape is assumed and no noise model: the order of the values alone decides. It finds a
    collapse so late, so early or so noisy that a fitted trend takes it for a drift.

    Args:
        curve: the losses.
        ignored: (N,) bool, spikes to leave out.
    """
    return _early(curve) or _late(curve, ignored)


def _early(curve: Curve) -> Jump | None:
    """A learning rate far too high throws the loss up within a few steps, and it stays there."""
    most = max(1, int(EARLY * len(curve)))
    highest = np.maximum.accumulate(curve.values[:most])
    lowest_after = np.minimum.accumulate(curve.values[::-1])[::-1][1 : most + 1]
    margins = np.ones(most)
    margins[: len(EARLY_MARGINS)] = EARLY_MARGINS[:most]
    level = float(np.abs(np.median(curve.values)))
    clear = lowest_after > highest + EARLY_GAP * level
    exploded = (lowest_after > 0) & (lowest_after**2 > EXPLOSION * level * np.abs(highest))
    found = np.flatnonzero((lowest_after > margins * np.abs(highest)) & (clear | exploded))
    if not len(found):
        return None
    begin = int(found[0]) + 1
    after, before = float(curve.values[begin:].mean()), float(curve.values[:begin].mean())
    return Jump(float(curve.position[begin]), after, before)


def _late(curve: Curve, ignored: np.ndarray) -> Jump | None:
    values = curve.values[~ignored]
    count = min(MAX_BLOCKS, max(MIN_BLOCKS, len(values) // 12), len(values) // 3)
    if count < MIN_BLOCKS:
        return None
    blocks = equal_blocks(len(values), count)
    means = block_means(values, blocks)
    first = int(SETTLING * count)
    highest = np.maximum.accumulate(means[first:])[:-1]
    lowest_after = np.minimum.accumulate(means[::-1])[::-1][first + 1 :]
    apart = np.flatnonzero(lowest_after > MARGIN * highest) + first + 1
    apart = apart[(apart <= count - LEAST_BLOCKS) & (apart > count // 2)]
    if not len(apart):
        return None
    begin = int(apart[0])
    level = float(values[blocks[begin].start :].mean())
    before = float(np.median(values[blocks[first].start : blocks[begin].start]))
    return Jump(begin / count, level, before)
