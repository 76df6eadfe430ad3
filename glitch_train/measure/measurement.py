"""One effect of a glitch, as measured on one run: a number, its interval, an index, a sentence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ..wording import plain
from .interval import Interval


@dataclasses.dataclass(frozen=True)
class Effect:
    """An effect that the development log names.

    Attributes:
        key: its name in JSON, CSV and the reference file.
        title: its name for people.
        measure: what the number beside the index is.
        reference: what index 1 means.
    """

    key: str
    title: str
    measure: str
    reference: str


EFFECTS = {
    effect.key: effect
    for effect in (
        Effect(
            "semantic_drift",
            "Semantic drift",
            "distance that prompts moved, against their distance to other prompts",
            "every prompt has moved as far as the nearest other prompt lies away",
        ),
        Effect(
            "composition",
            "Composition shift",
            "1 − correlation of tones and edges, after undoing the best stretch",
            "each picture exchanged for another photograph",
        ),
        Effect(
            "framing",
            "Framing, stretch",
            "mean stretch of the pictures that can still be matched with their base",
            "photographs stretched by 20 % in width",
        ),
        Effect(
            "compression",
            "Compression artefacts",
            "how much more an 8-pixel grid stands out, in powers of two",
            "photographs saved as JPEG of quality 5",
        ),
        Effect(
            "texture",
            "Texture glitch",
            "fine texture against base, in powers of two",
            "photographs with noise of 10 % of the full range",
        ),
        Effect(
            "contrast",
            "Collapsed contrast",
            "lost share of tone range and colour",
            "photographs with half their contrast",
        ),
        Effect(
            "burn",
            "Burnt contrast and colour",
            "growth of tone range, colour and clipped areas",
            "photographs with twice their contrast and colour",
        ),
        Effect(
            "caption_hold",
            "Loss of the caption's hold",
            "lost share of the pictures' nearness to their own caption",
            "pictures are no nearer to their own caption than to any other",
        ),
        Effect(
            "mode_collapse",
            "Mode collapse",
            "lost share of the batch's diversity",
            "one picture repeated throughout the batch",
        ),
        Effect(
            "overall",
            "Overall distance (SSIM)",
            "1 − SSIM",
            "each picture exchanged for another photograph",
        ),
        Effect(
            "perceptual",
            "Overall distance (vision model)",
            "1 − cosine of the vision model's features",
            "pictures are as far from their base as two different base pictures are",
        ),
        Effect(
            "weight_loudness",
            "Weight loudness",
            "‖ΔW‖ / ‖W‖ over all touched weights",
            "a change of a tenth of the weights' size (by definition, not measured)",
        ),
    )
}
"""In the order of reports and radars."""

PICTURE_EFFECTS = (
    "composition", "framing", "compression", "texture", "contrast", "burn", "mode_collapse",
    "overall",
)  # fmt: skip
"""What can be told from the pictures alone."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """An effect on one run.

    Attributes:
        effect: a key of :data:`EFFECTS`.
        value: the measure, signed; None where it cannot be told.
        index: 0 is base, 1 the reference; only the direction that the effect names counts.
        interval: of the value, 95 %; None where there are too few pairs, or nothing to resample.
        index_interval: of the index.
        count: how many pairs (or prompts, or blocks) it rests on.
        sentence: what it means.
        note: what a reader must know before trusting it, or empty.
        details: further numbers.
    """

    effect: str
    value: float | None
    index: float | None
    interval: Interval | None
    index_interval: Interval | None
    count: int
    sentence: str
    note: str = ""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """The effect's name for people."""
        return EFFECTS[self.effect].title

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        low, high = self.interval or (None, None)
        index_low, index_high = self.index_interval or (None, None)
        found: dict[str, Any] = plain(
            {
                "index": self.index,
                "index_low": index_low,
                "index_high": index_high,
                "value": self.value,
                "value_low": low,
                "value_high": high,
                "count": self.count,
                "sentence": self.sentence,
                "note": self.note,
                "details": dict(self.details),
            }
        )
        return found


def untold(effect: str, why: str, count: int = 0, **details: Any) -> Measurement:
    """Return an effect that cannot be measured here, with the reason as its sentence."""
    return Measurement(effect, None, None, None, None, count, why, details=details)


def measured(
    effect: str,
    value: float,
    interval: Interval | None,
    reference: float,
    count: int,
    sentence: str,
    note: str = "",
    **details: Any,
) -> Measurement:
    """Return an effect with its index: the value over the reference's, never below 0."""
    if not math.isfinite(value):
        return untold(effect, "It came out as no number.", count, **details)
    ends = None if interval is None else _ordered(as_index(e, reference) for e in interval)
    return Measurement(
        effect, value, as_index(value, reference), interval, ends, count, sentence, note, details
    )


def as_index(value: float, reference: float) -> float:
    """Return a value as index: 0 at base, 1 at the reference, never below 0."""
    return max(0.0, value / reference)


def _ordered(ends: Any) -> Interval:
    low, high = sorted(ends)
    return low, high
