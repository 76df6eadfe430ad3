"""Draw one run: raw points, bold line, probes, and marks where something happened."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import numpy as np

from ...drawing.style import GraphOptions, Palette
from ...wording import number, words_for_step
from ..record import LossRecord
from ..smoothing import Floats, epoch_average, smooth, smoothing_window
from ..verdict.curve import LARGEST
from ..verdict.diagnose import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_DRAWN_POINTS = 4000
"""More raw points than this cannot be told apart; the drawn ones are taken evenly."""

UNSETTLED = 0.25
"""The average over less than this share of its window is mere noise, and is not drawn."""

_PROBES = {"probe_loss": ("o", "held-out probe"), "train_probe_loss": ("s", "training probe")}


@dataclasses.dataclass
class RunView:
    """A record as it is drawn.

    Attributes:
        record: the run.
        name: its name in the legend.
        colour: of everything that belongs to it.
        x_scale: what steps are multiplied by: 1, or one over the epoch's length.
        epoch_length: steps per epoch; 0 where it is not known.
        number: its place among the runs.
        verdict: its judgement, where there is one.
        line_range: lowest and highest value of the bold line, once drawn.
    """

    record: LossRecord
    name: str
    colour: str
    x_scale: float
    epoch_length: float
    number: int
    verdict: Verdict | None = None
    line_range: tuple[float, ...] = ()

    @functools.cached_property
    def raw(self) -> Floats:
        """The raw losses, NaN for what no axis can hold."""
        raw = self.record.array("loss")
        size = np.abs(raw)
        return np.where(size > LARGEST, np.nan, np.where(size < 1 / LARGEST, 0.0, raw))

    @functools.cached_property
    def x(self) -> Floats:
        """Where each value lies on the x axis."""
        return self.record.array("step") * self.x_scale


def epoch_length(record: LossRecord) -> float:
    """Return steps per epoch, 0 where the record does not tell: it needs a whole epoch."""
    epochs, steps = record.array("epoch"), record.array("step")
    known = np.isfinite(epochs) & np.isfinite(steps)
    if not known.any():
        return 0.0
    epochs, steps = epochs[known], steps[known]
    whole = np.flatnonzero(np.diff(np.floor(epochs)) > 0)
    if not len(whole):
        return 0.0
    last = whole[-1]
    length = (steps[last] - steps[0] + 1) / (np.floor(epochs[last]) - np.floor(epochs[0]) + 1)
    return float(max(0.0, length))


def draw_run(axes: Axes, view: RunView, options: GraphOptions, palette: Palette) -> None:
    """Draw raw points, the bold line or lines, and probes."""
    x, raw = view.x, view.raw
    every = max(1, len(raw) // MAX_DRAWN_POINTS)
    axes.plot(
        x[::every],
        raw[::every],
        linestyle="",
        marker="o",
        markersize=_point_size(len(raw)),
        alpha=palette.raw_alpha,
        color=view.colour,
        markeredgewidth=0,
        zorder=2,
    )
    drawn = _lines(view, options)
    for line, style, label in drawn:
        part = slice(_first_settled(view, len(raw)), None)
        axes.plot(
            x[part][::every],
            line[part][::every],
            linewidth=4.4,
            color=palette.panel,
            alpha=0.75,
            zorder=3,
        )
        axes.plot(
            x[part][::every],
            line[part][::every],
            linewidth=2.1,
            linestyle=style,
            color=view.colour,
            label=label,
            zorder=4,
        )
        finite = line[part][np.isfinite(line[part])]
        if len(finite):
            view.line_range = (*view.line_range, float(finite.min()), float(finite.max()))
    for column in _PROBES:
        _draw_probe(axes, view, column, palette)


def draw_marks(axes: Axes, view: RunView, palette: Palette) -> None:
    """Mark where the curve became flat, its spikes, and its snapshots."""
    if view.verdict is not None:
        _draw_flat(axes, view, view.verdict, palette)
        _draw_spikes(axes, view, view.verdict, palette)
    _draw_snapshots(axes, view, palette)


def _draw_flat(axes: Axes, view: RunView, verdict: Verdict, palette: Palette) -> None:
    step = verdict.convergence.step
    if verdict.convergence.state != "converged" or step is None:
        return
    x = step * view.x_scale
    where = f"{'' if view.x_scale == 1.0 else 'epoch '}{words_for_step(x)}"
    axes.axvline(x, color=view.colour, linewidth=1.2, dashes=(4, 3), zorder=2)
    axes.annotate(
        f"flat from {where}",
        (x, 0.97 - 0.06 * view.number),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        color=view.colour,
        fontsize=9,
        va="top",
        bbox={"facecolor": palette.panel, "edgecolor": "none", "alpha": 0.8, "pad": 1},
        zorder=6,
    )


def _draw_spikes(axes: Axes, view: RunView, verdict: Verdict, palette: Palette) -> None:
    spikes, curve = verdict.reading.spikes, verdict.reading.curve
    if spikes is None or not spikes.steps:
        return
    at = np.array(spikes.steps)
    low, high = axes.get_ylim()
    logarithmic = axes.get_yscale() == "log"
    edge = high * (low / high) ** 0.02 if logarithmic else high - 0.02 * (high - low)
    axes.plot(
        at * view.x_scale,
        np.minimum(np.interp(at, curve.steps, curve.values), edge),
        linestyle="",
        marker="v",
        markersize=7,
        color=view.colour,
        markeredgecolor=palette.ink,
        markeredgewidth=0.9,
        label=f"{len(at)} spike{'s' if len(at) > 1 else ''}",
        zorder=5,
    )


def _draw_snapshots(axes: Axes, view: RunView, palette: Palette) -> None:
    saved = np.array(view.record.about.snapshots) * view.x_scale
    if len(saved):
        axes.plot(
            saved,
            np.full(len(saved), 0.012 + 0.02 * view.number),
            transform=axes.get_xaxis_transform(),
            linestyle="",
            marker="D",
            markersize=5,
            color=palette.panel,
            markeredgecolor=view.colour,
            markeredgewidth=1.3,
            label="" if view.number else "snapshots",
            clip_on=False,
            zorder=5,
        )


def _draw_probe(axes: Axes, view: RunView, column: str, palette: Palette) -> None:
    values = view.record.array(column)
    measured = np.isfinite(values)
    if not measured.any():
        return
    every = max(1, int(measured.sum()) // 200)
    marker, words = _PROBES[column]
    axes.plot(
        view.x[measured][::every],
        values[measured][::every],
        linewidth=1.0,
        alpha=0.95,
        marker=marker,
        markersize=5.5,
        color=view.colour,
        markerfacecolor=palette.panel,
        markeredgewidth=1.4,
        label=words if view.number == 0 else f"{view.name}, {words}",
        zorder=5,
    )


def _lines(view: RunView, options: GraphOptions) -> list[tuple[Floats, str, str]]:
    """Return the bold lines with their style and their words in the legend."""
    raw = _without_spikes(view)
    ema = smooth(raw, smoothing_window(len(raw)))
    rows = round(view.epoch_length / _rows_apart(view))
    averaged = options.line != "ema" and rows >= 2
    average = epoch_average(raw, rows) if averaged else ema
    first = average if options.line == "epoch average" else ema
    lines = [(first, "-", f"{view.name}  {_ends(view, first)}")]
    if averaged and options.line == "both":
        lines.append((average, "--", "" if view.number else "average over one epoch"))
    return lines


def _without_spikes(view: RunView) -> Floats:
    """Return the losses with NaN for spikes: they are marked, and would tear the bold line up."""
    spikes = view.verdict.reading.spikes if view.verdict is not None else None
    if view.verdict is None or spikes is None or not spikes.marked.any():
        return view.raw
    steps = view.verdict.reading.curve.steps[spikes.marked]
    return np.where(np.isin(view.record.array("step"), steps), np.nan, view.raw)


def _rows_apart(view: RunView) -> float:
    """Return how many steps lie between two rows of the record."""
    gaps = np.diff(view.record.array("step"))
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 1.0


def _first_settled(view: RunView, length: int) -> int:
    return int(UNSETTLED * smoothing_window(length)) if length >= 60 else 0


def _ends(view: RunView, line: Floats) -> str:
    """Return start and end of a run: the judged ones where there are, as in the verdict."""
    if view.verdict is not None:
        numbers = view.verdict.levels.evidence
        start, final = numbers["start"], numbers["final"]
    else:
        finite = line[np.isfinite(line)]
        settled = min(len(finite) - 1, int(smoothing_window(len(line))))
        start, final = (finite[settled], finite[-1]) if len(finite) else (None, None)
    if start is None or final is None:
        return "no finite loss"
    return f"{number(start)} → {number(final)}"


def _point_size(length: int) -> float:
    return 3.4 if length <= 300 else 2.6 if length <= 1500 else 2.0
