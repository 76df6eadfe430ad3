"""Glitch indices as a picture: things down, effects across, a number on a coloured cell."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..drawing.figures import load_matplotlib
from ..drawing.style import PALETTES
from ..wording import index_text
from .measurement import EFFECTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110
_NAMES_INCH, _COLUMN_INCH, _TITLES_INCH = 2.6, 1.1, 0.65
_TITLE_LETTERS = 16  # of 9 points in a column
_BRIGHTEST = 1.25
_STRONG = 0.25


@dataclasses.dataclass(frozen=True)
class IndexRow:
    """One line of the picture.

    Attributes:
        name: what stands beside it.
        indices: effect to index; None or missing where it was not told.
        framed: effects that are set off.
        begins_group: whether a line parts it from the one above.
    """

    name: str
    indices: Mapping[str, float | None]
    framed: tuple[str, ...] = ()
    begins_group: bool = False


def draw_indices(rows: Sequence[IndexRow], effects: Sequence[str], style: str = "dark") -> Figure:
    """Draw every index as a number on a coloured cell; framed ones have a border.

    Args:
        rows: from top to bottom.
        effects: keys of :data:`.measurement.EFFECTS`, from left to right.
        style: ``dark`` or ``light``.
    """
    load_matplotlib()
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    palette = PALETTES[style]
    count = len(rows)
    width, height = _NAMES_INCH + _COLUMN_INCH * len(effects), _TITLES_INCH + 0.3 * count
    figure = Figure(figsize=(width + 0.2, height + 0.1), dpi=_DPI, facecolor=palette.paper)
    axes = figure.add_axes(
        (
            _NAMES_INCH / (width + 0.2),
            0.1 / (height + 0.1),
            _COLUMN_INCH * len(effects) / (width + 0.2),
            0.3 * count / (height + 0.1),
        )
    )
    colours = LinearSegmentedColormap.from_list("index", [palette.panel, palette.runs[0]])
    table = [[row.indices.get(key) or 0.0 for key in effects] for row in rows]
    axes.imshow(table, cmap=colours, vmin=0.0, vmax=_BRIGHTEST, aspect="auto")
    for down, row in enumerate(rows):
        for across, key in enumerate(effects):
            index = row.indices.get(key)
            text = "–" if index is None else index_text(index)
            strong = index is not None and index >= _STRONG
            axes.text(
                across, down, text, ha="center", va="center", fontsize=9,
                color=palette.ink if strong else palette.faint,
            )  # fmt: skip
            if key in row.framed:
                axes.add_patch(
                    Rectangle((across - 0.5, down - 0.5), 1, 1, fill=False, ec=palette.ink, lw=1.6)
                )
        if row.begins_group:
            axes.axhline(down - 0.5, color=palette.faint, lw=1.0)
    titles = ["\n".join(textwrap.wrap(EFFECTS[key].title, _TITLE_LETTERS)) for key in effects]
    axes.set_xticks(range(len(titles)), titles, fontsize=9, color=palette.ink)
    axes.xaxis.tick_top()
    axes.set_yticks(range(count), [row.name for row in rows], fontsize=9, color=palette.ink)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure
