"""The calibration matrix as a picture: corruptions down, measures across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..index_picture import IndexRow, draw_indices
from ..measurement import PICTURE_EFFECTS
from .calibration import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_matrix(rows: Sequence[Row], style: str = "dark") -> Figure:
    """Draw every index as a number on a coloured cell; each corruption's own measure is framed.

    Args:
        rows: from :meth:`.calibration.Calibration.matrix`.
        style: ``dark`` or ``light``.
    """
    drawn = [
        IndexRow(
            f"{row.corruption.title} {row.corruption.show(row.strength)}",
            row.indices,
            (row.corruption.effect,),
            begins_group=number > 0 and row.corruption.key != rows[number - 1].corruption.key,
        )
        for number, row in enumerate(rows)
    ]
    return draw_indices(drawn, PICTURE_EFFECTS, style)
