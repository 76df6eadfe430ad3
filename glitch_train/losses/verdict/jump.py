"""Find a jump at the start: a learning rate far too high throws the loss up, and it stays there."""

from __future__ import annotations

import dataclasses

import numpy as np

from .curve import SMALLEST, Curve

EARLY = 0.05
"""A jump begins within this share of the run; later ones are seen by the trend."""

MARGINS = (1.5, 1.25)
"""All later values lie this many times above the first one, the first two; from three on, above."""

SMOOTH_FROM, SMOOTH_MARGIN = 0.9, 4.0
"""Where neighbours correlate by so much, the first values are an average that has only begun: those
margins are this much wider."""

GAP = 0.2
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


def find_jump(curve: Curve) -> Jump | None:
    """Return where a curve jumps up for good within its first steps, or None.

    Before a trend could be seen there is nothing to fit: the order of the values alone decides.

    Args:
        curve: the losses.
    """
    most = max(1, int(EARLY * len(curve)))
    highest = np.maximum.accumulate(curve.values[:most])
    lowest_after = np.minimum.accumulate(curve.values[::-1])[::-1][1 : most + 1]
    margins = np.ones(most)
    wider = SMOOTH_MARGIN if curve.correlation > SMOOTH_FROM else 1.0
    margins[: len(MARGINS)] = wider * np.array(MARGINS[:most])
    level = float(np.abs(np.median(curve.values)))
    clear = lowest_after > highest + GAP * level
    exploded = (lowest_after > 0) & (lowest_after**2 > EXPLOSION * level * np.abs(highest))
    found = np.flatnonzero((lowest_after > margins * np.abs(highest)) & (clear | exploded))
    if not len(found):
        return None
    begin = int(found[0]) + 1
    after, before = float(curve.values[begin:].mean()), float(curve.values[:begin].mean())
    return Jump(float(curve.position[begin]), after, before)
