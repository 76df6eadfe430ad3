"""Find a late jump: the end of a curve lies wholly above everything that came before it."""

from __future__ import annotations

import dataclasses

import numpy as np

from .curve import Curve, block_means, equal_blocks

MARGIN = 1.25
"""The last blocks all lie this many times above the highest block before them."""

SETTLING = 0.1
"""The start of a run, where the loss is high anyway, is left out of that."""

MIN_BLOCKS = 16
MAX_BLOCKS = 60
LEAST_BLOCKS = 2
"""Of 16 exchangeable blocks the last two are the highest once in 120 times, margin aside."""


@dataclasses.dataclass(frozen=True)
class Jump:
    """A late jump.

    Attributes:
        position: where it begins, as a share of the run.
        level: mean loss from there on.
        ratio: of the level to the median of what came before.
    """

    position: float
    level: float
    ratio: float


def find_jump(curve: Curve, ignored: np.ndarray) -> Jump | None:
    """Return the jump at the end of a curve, or None.

    No shape is assumed and no noise model: the order of the block means alone decides. It finds
    a collapse so late, or so noisy, that a fitted trend takes it for a slow drift.

    Args:
        curve: the losses.
        ignored: (N,) bool, spikes to leave out.
    """
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
    return Jump(begin / count, level, level / max(abs(before), 1e-300))
