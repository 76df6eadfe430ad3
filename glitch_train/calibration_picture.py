"""The calibration matrix as a picture: corruptions down, measures across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .calibration import Row
from .measurement import EFFECTS, PICTURE_EFFECTS
from .plot_style import PALETTES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
_BRIGHTEST = 1.25


def draw_matrix(rows: Sequence[Row], style: str = "dark") -> Figure:
    """Draw every index as a number on a coloured cell; each corruption's own measure is framed.

    Args:
        rows: from :meth:`.calibration.Calibration.matrix`.
        style: ``dark`` or ``light``.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    palette = PALETTES[style]
    count = len(rows)
    figure = Figure(figsize=(10.5, 0.75 + 0.3 * count), dpi=_DPI, facecolor=palette.paper)
    axes = figure.add_axes((0.25, 0.02, 0.73, 1 - 0.65 / (0.75 + 0.3 * count) - 0.02))
    colours = LinearSegmentedColormap.from_list("index", [palette.panel, palette.runs[0]])
    table = [[row.indices[key] or 0.0 for key in PICTURE_EFFECTS] for row in rows]
    axes.imshow(table, cmap=colours, vmin=0.0, vmax=_BRIGHTEST, aspect="auto")
    for down, row in enumerate(rows):
        for across, key in enumerate(PICTURE_EFFECTS):
            index = row.indices[key]
            text = "–" if index is None else f"{index:.2f}"
            strong = index is not None and index >= 0.25
            axes.text(
                across, down, text, ha="center", va="center", fontsize=9,
                color=palette.ink if strong else palette.faint,
            )  # fmt: skip
            if key == row.corruption.effect:
                axes.add_patch(
                    Rectangle((across - 0.5, down - 0.5), 1, 1, fill=False, ec=palette.ink, lw=1.6)
                )
    starts = [n for n in range(1, count) if rows[n].corruption.key != rows[n - 1].corruption.key]
    for start in starts:
        axes.axhline(start - 0.5, color=palette.faint, lw=1.0)
    titles = [EFFECTS[key].title.replace(" ", "\n", 1) for key in PICTURE_EFFECTS]
    axes.set_xticks(range(len(titles)), titles, fontsize=9, color=palette.ink)
    axes.xaxis.tick_top()
    names = [f"{row.corruption.title} {row.corruption.show(row.strength)}" for row in rows]
    axes.set_yticks(range(count), names, fontsize=9, color=palette.ink)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
