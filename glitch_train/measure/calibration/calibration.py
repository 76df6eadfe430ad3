"""Calibration: which measure moves under which known corruption of real photographs."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Callable, Sequence
from typing import Any

from ...wording import index_text, plain
from ..features import PairFeatures, features
from ..index import measure_pictures
from ..measurement import EFFECTS, PICTURE_EFFECTS, as_index
from ..pairs import Pixels
from ..scale import DEFINED, Reference
from .corruptions import CORRUPTIONS, PHOTO_SIZE, PHOTOS, REFERENCE_STRENGTHS, Corruption

UNRELATED_LIMIT = 0.2
"""Unrelated measures must stay below this share of the way from base to reference."""

RELATED = {"repeat": ("composition",)}
"""A repeated picture is another picture for all prompts but one: its composition differs too.
The overall distance is a sum of all effects and belongs to every corruption."""

Features = list[PairFeatures]
_UNIT = Reference({key: 1.0 for key in EFFECTS}, 0.0)


@dataclasses.dataclass(frozen=True)
class Row:
    """A corruption at one strength.

    Attributes:
        corruption: which.
        strength: how strong.
        values: effect to measure, signed; None where it cannot be told.
        indices: effect to glitch index.
    """

    corruption: Corruption
    strength: float
    values: dict[str, float | None]
    indices: dict[str, float | None]

    @property
    def unrelated(self) -> dict[str, float]:
        """Indices of effects that this corruption has nothing to do with."""
        related = (self.corruption.effect, "overall", *RELATED.get(self.corruption.key, ()))
        return {k: v for k, v in self.indices.items() if k not in related and v is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain(
            {
                "corruption": self.corruption.key,
                "title": self.corruption.title,
                "effect": self.corruption.effect,
                "strength": self.strength,
                "strength_text": self.corruption.show(self.strength),
                "indices": self.indices,
                "values": self.values,
            }
        )


class Calibration:
    """Photographs, and the measures of every pair that was made of them."""

    def __init__(
        self, photos: Sequence[Pixels], on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Take two or more photographs of one size."""
        self._photos = list(photos)
        self._exchanged: dict[tuple[int, int], PairFeatures] = {}
        self._corrupted: dict[tuple[str, float], Features] = {}
        self._on_progress = on_progress

    def reference(self) -> Reference:
        """Measure the reference corruptions: what index 1 is, and when pictures match."""
        values = dict(DEFINED)
        for key, strength in REFERENCE_STRENGTHS.items():
            corruption = next(one for one in CORRUPTIONS if one.key == key)
            measured = self._values(corruption, strength, _UNIT)[corruption.effect]
            values[corruption.effect] = _told(measured)
        every = range(len(self._photos))
        others = [self._pair(i, j) for i in every for j in every if i != j]
        values["composition"] = math.fsum(p.layout.composition for p in others) / len(others)
        values["overall"] = math.fsum(p.structure for p in others) / len(others)
        closest = max(pair.layout.match for pair in others)
        return Reference(plain(values), math.ceil(closest * 20) / 20, self._provenance())

    def matrix(self, scale: Reference) -> list[Row]:
        """Measure every corruption at every strength."""
        rows = []
        total = sum(len(one.strengths) for one in CORRUPTIONS)
        for corruption in CORRUPTIONS:
            for strength in corruption.strengths:
                values = self._values(corruption, strength, scale)
                indices = {
                    key: None if value is None else as_index(value, scale.values[key])
                    for key, value in values.items()
                }
                rows.append(Row(corruption, strength, values, indices))
                if self._on_progress:
                    self._on_progress(len(rows), total)
        return rows

    def _values(
        self, corruption: Corruption, strength: float, scale: Reference
    ) -> dict[str, float | None]:
        """Return each effect's value, averaged over the ways to carry the corruption out."""
        found: dict[str, list[float]] = {key: [] for key in PICTURE_EFFECTS}
        for batch in self._batches(corruption, strength):
            for one in measure_pictures(batch, scale):
                if one.value is not None:
                    found[one.effect].append(one.value)
        return {k: math.fsum(v) / len(v) if v else None for k, v in found.items()}

    def _batches(self, corruption: Corruption, strength: float) -> list[Features]:
        if corruption.apply is None:
            return [self._repeated(which, strength) for which in range(len(self._photos))]
        key = (corruption.key, strength)
        if key not in self._corrupted:
            self._corrupted[key] = [
                features(index, photo, corruption.apply(photo, strength))
                for index, photo in enumerate(self._photos)
            ]
        return [self._corrupted[key]]

    def _repeated(self, which: int, share: float) -> Features:
        """Put one picture in the place of those that follow it, until it fills its share."""
        n = len(self._photos)
        alike = round(share * n)
        replaced = {(which + step) % n for step in range(alike)}
        return [self._pair(i, which if i in replaced else i) for i in range(n)]

    def _pair(self, base: int, glitched: int) -> PairFeatures:
        pair = (base, glitched)
        if pair not in self._exchanged:
            self._exchanged[pair] = features(base, self._photos[base], self._photos[glitched])
        return self._exchanged[pair]

    def _provenance(self) -> dict[str, Any]:
        from importlib.metadata import version

        import numpy
        import PIL
        import torch

        return {
            "command": "python -m glitch_train calibrate --write",
            "photographs": f"{', '.join(PHOTOS)} (scikit-image {version('scikit-image')})",
            "size": f"{PHOTO_SIZE[0]}×{PHOTO_SIZE[1]}",
            "index 1": {key: EFFECTS[key].reference for key in EFFECTS if key not in DEFINED},
            "match_floor": "highest match of two different photographs, rounded up to 0.05",
            "made with": f"Python {platform.python_version()}, numpy {numpy.__version__}, "
            f"Pillow {PIL.__version__}, torch {torch.__version__}",
        }


def faults(rows: Sequence[Row], limit: float = UNRELATED_LIMIT) -> list[str]:
    """Return one sentence for each way in which a matrix breaks its promise.

    A corruption must move its own measure most, more with every strength, and leave unrelated
    measures under the limit.
    """
    found = []
    before: dict[str, float] = {}
    for row in rows:
        what = f"{row.corruption.title} {row.corruption.show(row.strength)}"
        own = row.indices[row.corruption.effect] or 0.0
        rivals = {
            k: v for k, v in row.indices.items() if k not in (row.corruption.effect, "overall")
        }
        loudest = max(rivals, key=lambda key: rivals[key] or 0.0)
        if (rivals[loudest] or 0.0) >= own:
            found.append(f"{what}: {loudest} moves more ({rivals[loudest]:.2f}) than {own:.2f}.")
        if own <= before.get(row.corruption.key, 0.0):
            found.append(f"{what}: {row.corruption.effect} does not grow with strength.")
        found += [
            f"{what}: {key} moves by {value:.2f}, not under {limit}."
            for key, value in row.unrelated.items()
            if value >= limit
        ]
        before[row.corruption.key] = own
    return found


def to_markdown(rows: Sequence[Row]) -> str:
    """Return the matrix as a table of indices; each corruption's own measure is bold."""
    head = [EFFECTS[key].title for key in PICTURE_EFFECTS]
    lines = ["| corruption | " + " | ".join(head) + " |", "| --- |" + " ---: |" * len(head)]
    for row in rows:
        cells = []
        for key in PICTURE_EFFECTS:
            index = row.indices[key]
            text = "–" if index is None else index_text(index)
            cells.append(f"**{text}**" if key == row.corruption.effect else text)
        what = f"{row.corruption.title} {row.corruption.show(row.strength)}"
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _told(value: float | None) -> float:
    if value is None:
        raise ValueError("a reference corruption must be measurable")
    return value
