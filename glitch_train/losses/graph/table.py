"""Draw the verdict as a table under a graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...drawing.lettering import lettering, wrapped
from ...drawing.style import Palette
from ...wording import words_for_step
from ..verdict.diagnose import Verdict
from ..verdict.text import WORDS, verdict_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE_INCH = 0.19
ASCENT_INCH = 0.11
ROW_GAP_INCH = 0.12
MARGIN_INCH = 0.22
FONT_POINTS = 9.5
BOLD = 1.2
"""How much wider bold letters are, as the first two columns have them."""

GAP_INCH = 0.14
"""Between a column's text and the next column."""

MAX_LINES = 8
"""Of one cell; more ends in an ellipsis."""

UNITS = 10
"""Letters are measured in tenths of a point."""

HINTED = 1.07
"""How much wider letters may get where a pixel is wide."""

KEEP = "\ue000"
"""Stands for a space at which no line may break; a letter of no font and of no text."""

METRIC_SHARE, STATUS_SHARE = 0.17, 0.19

Cells = list[tuple[str, ...]]
"""Rows of wrapped cells, the heading first."""


def table_height(names: Sequence[str], verdicts: Sequence[Verdict], width: float) -> float:
    """Return how tall the table will be, in inches.

    Args:
        names: the runs' names as the legend has them.
        verdicts: one per run.
        width: of the figure, in inches.
    """
    rows, _ = _cells(names, verdicts, width)
    return sum(_row_height(row) for row in rows) + 2 * MARGIN_INCH


def draw_table(
    figure: Figure,
    names: Sequence[str],
    verdicts: Sequence[Verdict],
    palette: Palette,
    height: float,
) -> None:
    """Draw one run's verdict in full, or one line per run for several.

    Args:
        figure: with ``height`` inches free at its bottom.
        names: the runs' names.
        verdicts: one per run.
        palette: the style's colours.
        height: of the table, in inches.
    """
    from matplotlib.lines import Line2D

    width, total = figure.get_size_inches()
    rows, shares = _cells(names, verdicts, width)
    y = height - MARGIN_INCH
    for index, row in enumerate(rows):
        x = MARGIN_INCH
        for column, (cell, share) in enumerate(zip(row, shares, strict=True)):
            heading = index == 0
            strong = heading or column <= 1
            for number, line in enumerate(cell.split("\n")):
                figure.text(
                    x / width,
                    (y - ASCENT_INCH - number * LINE_INCH) / total,
                    line,
                    fontsize=FONT_POINTS,
                    color=palette.faint if heading else _cell_colour(palette, index, column, names),
                    fontweight="bold" if strong and not heading else "normal",
                    va="baseline",
                )
            x += share * (width - 2 * MARGIN_INCH)
        y -= _row_height(row)
        rule = (y + ROW_GAP_INCH / 2) / total
        ends = (MARGIN_INCH / width, 1 - MARGIN_INCH / width)
        figure.add_artist(Line2D(ends, (rule, rule), color=palette.grid, linewidth=0.8))


def _cell_colour(palette: Palette, row: int, column: int, names: Sequence[str]) -> str:
    """In a comparison the runs' names have the colours of their curves."""
    if column == 0 and len(names) > 1:
        return palette.runs[(row - 1) % len(palette.runs)]
    return palette.ink


def _cells(
    names: Sequence[str], verdicts: Sequence[Verdict], width: float
) -> tuple[Cells, tuple[float, ...]]:
    """Return rows of wrapped cells and the columns' shares of the width."""
    shares: tuple[float, ...]
    if len(verdicts) == 1:
        shares = (METRIC_SHARE, STATUS_SHARE, 1 - METRIC_SHARE - STATUS_SHARE)
        rows: Cells = [("", "Status", "Notes"), *verdict_rows(verdicts[0])]
        rows.append(("What to do", "", " ".join(verdicts[0].advice.learn)))
    else:
        shares = (0.26, 0.2, 0.16, 0.16, 0.22)
        rows = [("Run", "Convergence", "Fit", "Stability", "Loss")]
        rows += [_line(name, one) for name, one in zip(names, verdicts, strict=True)]
    room = width - 2 * MARGIN_INCH
    return [
        tuple(
            _broken(cell, (room * share - GAP_INCH) / (BOLD if n < 2 else 1))
            for n, (cell, share) in enumerate(zip(row, shares, strict=True))
        )
        for row in rows
    ], shares


def _broken(cell: str, room: float) -> str:
    """Break a cell's text into lines of so many inches, as wide as the letters really are."""
    kept = cell.replace(" %", f"{KEEP}%").replace(" ± ", f"{KEEP}±{KEEP}")
    font = lettering(round(FONT_POINTS * UNITS))
    lines = wrapped(kept, font, max(1, int(room * 72 * UNITS / HINTED)), MAX_LINES)
    return "\n".join(lines).replace(KEEP, " ")


def _line(name: str, verdict: Verdict) -> tuple[str, ...]:
    converged = WORDS[verdict.convergence.state]
    if verdict.convergence.step is not None:
        converged += f", step {words_for_step(verdict.convergence.step)}"
    return (
        name,
        converged,
        verdict.fit.state.replace("_", " "),
        WORDS[verdict.stability.state],
        verdict_rows(verdict)[-1][1],
    )


def _row_height(row: tuple[str, ...]) -> float:
    return max(cell.count("\n") + 1 for cell in row) * LINE_INCH + ROW_GAP_INCH
