"""Draw loss records with matplotlib: the live preview and the final graph use the same code.

matplotlib is imported when the first graph is drawn. Every figure stands alone, without pyplot,
so graphs may be drawn from several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...drawing.figures import load_matplotlib, save_figure, to_image
from ...drawing.lettering import cut, lettering
from ...drawing.style import PALETTES, PREVIEW_SIZE, GraphOptions, GraphSize, Palette
from ...wording import MINUS
from ..record import LossRecord
from ..verdict.diagnose import Verdict, diagnose
from .run import RunView, draw_marks, draw_run, epoch_length
from .table import draw_table, table_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PREVIEW_SIZE", "GraphOptions", "GraphSize", "draw_losses", "save_figure", "to_image"]

# Space around the axes, in inches: laying it out anew would double the time of a preview.
_LEFT, _RIGHT, _TOP, _BOTTOM = 0.78, 0.22, 0.2, 0.56
_LEGEND_ROW, _LEGEND_HANDLE = 0.2, 0.5
_LEGEND_UNITS = 680
"""Letters are measured in tenths of a point, a little wider for what hinting adds."""
_FEW_LABELS = 4
"""Of more labels each gets half the width at most."""
_WITHIN = (0.2, 99.8)
"""The y axis holds these percentiles of the raw losses; spikes beyond are marked at its edge."""


def draw_losses(
    records: Sequence[LossRecord],
    size: GraphSize | None = None,
    options: GraphOptions | None = None,
    verdicts: Sequence[Verdict] | None = None,
) -> Figure:
    """Draw loss over steps: raw points faint, smoothed line bold, one colour per run.

    Args:
        records: one or several runs, drawn over each other.
        size: size of the graph.
        options: what is shown.
        verdicts: one per record, for marks and table; judged here when needed and not given.

    Returns:
        A matplotlib figure of its own, touching no global state.
    """
    load_matplotlib()
    from matplotlib.figure import Figure

    size, options = size or GraphSize(), options or GraphOptions()
    if verdicts is None and (options.marks or options.table):
        verdicts = [diagnose(record) for record in records]
    palette = PALETTES[options.style]
    views = _views(records, verdicts, options, palette)
    width, height = size.width_px / size.dpi, size.height_px / size.dpi
    names = [view.name for view in views]
    below = table_height(names, verdicts or [], width) if options.table else 0.0
    figure = Figure(figsize=(width, height + below), dpi=size.dpi, facecolor=palette.paper)
    axes = figure.add_axes((0, 0, 1, 1))
    _prepare(axes, options, palette, views)
    for view in views:
        draw_run(axes, view, options, palette)
    _limit(axes, views)
    if options.marks:
        for view in views:
            draw_marks(axes, view, palette)
    rows = _legend(axes, palette, width)
    above = _TOP + rows * _LEGEND_ROW
    axes.set_position(
        (
            _LEFT / width,
            (_BOTTOM + below) / (height + below),
            max(0.1, 1 - (_LEFT + _RIGHT) / width),
            max(0.1, (height - above - _BOTTOM) / (height + below)),
        )
    )
    if options.table and verdicts:
        draw_table(figure, names, verdicts, palette, below)
    return figure


def _views(
    records: Sequence[LossRecord],
    verdicts: Sequence[Verdict] | None,
    options: GraphOptions,
    palette: Palette,
) -> list[RunView]:
    """Return the runs with names that differ, and a common unit of the x axis."""
    names = _different([record.name for record in records])
    lengths = [epoch_length(record) for record in records]
    in_epochs = options.x_axis == "epochs" and all(lengths)
    return [
        RunView(
            record=record,
            name=name,
            colour=palette.runs[index % len(palette.runs)],
            x_scale=1 / length if in_epochs and length else 1.0,
            epoch_length=length,
            number=index,
            verdict=verdicts[index] if verdicts else None,
        )
        for index, (record, name, length) in enumerate(zip(records, names, lengths, strict=True))
    ]


def _different(names: Sequence[str]) -> list[str]:
    """Number names that come more than once; matplotlib hides those that begin with _."""
    plain = [" ".join(name.split()).lstrip("_") or "run" for name in names]
    return [
        f"{name} ({plain[: index + 1].count(name)})" if plain.count(name) > 1 else name
        for index, name in enumerate(plain)
    ]


def _prepare(axes: Axes, options: GraphOptions, palette: Palette, views: list[RunView]) -> None:
    axes.set_facecolor(palette.panel)
    axes.set_axisbelow(True)
    axes.grid(color=palette.grid, linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(palette.faint)
    axes.tick_params(colors=palette.faint, labelcolor=palette.ink, labelsize=10)
    in_epochs = any(view.x_scale != 1.0 for view in views)
    axes.set_xlabel("epoch" if in_epochs else "optimizer step", color=palette.ink, fontsize=11)
    axes.set_ylabel("loss", color=palette.ink, fontsize=11)
    if options.y_axis == "log" and any(np.any(view.raw > 0) for view in views):
        axes.set_yscale("log")
    if not in_epochs:
        from matplotlib.ticker import FuncFormatter

        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.10g}"))


def _plain_ticks(axes: Axes) -> None:
    """Write every number in full: a common factor would stand where the legend is."""
    from matplotlib.ticker import FuncFormatter

    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _short(loss: float, _: int | None = None) -> str:
    """Return a tick's number in the room beside the axis: ``40,000``, ``−0.5``, ``1.5e6``."""
    text = f"{abs(loss):,.5g}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")
    return f"{MINUS if loss < 0 else ''}{text}"


def _limit(axes: Axes, views: list[RunView]) -> None:
    """Let the bulk of the losses fill the axes, whatever a few spikes do."""
    ends: list[float] = []
    for view in views:
        raw = view.raw
        raw = raw[np.isfinite(raw) & ((raw > 0) | (axes.get_yscale() == "linear"))]
        if len(raw):
            ends += [*np.percentile(raw, _WITHIN), *view.line_range]
    if not ends:
        axes.text(0.5, 0.5, "no finite loss", transform=axes.transAxes, ha="center")
        return
    low, high = min(ends), max(ends)
    if axes.get_yscale() == "log":
        low = max(low, high * 1e-6)
        spread = max((high / low) ** 0.05, 1.02)
        axes.set_ylim(low / spread, high * spread)
        _plain_log_ticks(axes, high / low)
    else:
        spread = max(0.05 * (high - low), 0.02 * abs(high), 1e-12)
        floor = low - spread
        axes.set_ylim(max(0.0, floor) if low >= 0 and low < 0.3 * high else floor, high + spread)
        _plain_ticks(axes)


def _plain_log_ticks(axes: Axes, ratio: float) -> None:
    """Label a logarithmic axis with plain numbers, closer together on a short one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    subs = (1, 2, 5) if ratio > 30 else (1, 1.5, 2, 3, 4, 5, 6, 8)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    axes.yaxis.set_minor_locator(NullLocator())


def _legend_columns(widths: list[float], room: float) -> int:
    """Return how many columns fit beside each other, filled one after the other."""
    for number in range(len(widths), 1, -1):
        if sum(max(part) for part in np.array_split(widths, number)) <= room:
            return number
    return 1


def _legend(axes: Axes, palette: Palette, width: float) -> int:
    """Put the runs' names above the axes, where they cover no point; return how many rows."""
    handles, labels = axes.get_legend_handles_labels()
    if not labels:
        return 0
    font, room = lettering(100), width - _LEFT - _RIGHT
    most = (room if len(labels) <= _FEW_LABELS else room / 2) - _LEGEND_HANDLE
    labels = [cut(label, font, max(1, int(most * _LEGEND_UNITS))) for label in labels]
    columns = _legend_columns(
        [font.getlength(label) / _LEGEND_UNITS + _LEGEND_HANDLE for label in labels], room
    )
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=10,
        labelcolor=palette.ink,
        borderaxespad=0.2,
        handlelength=1.4,
        columnspacing=1.4,
        labelspacing=0.3,
    )
    return -(-len(labels) // columns)
