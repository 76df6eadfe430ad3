"""The glitch index of one or several runs as a radar: the centre is base, the ring is index 1."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..drawing.style import PALETTES, GraphSize
from ..wording import number
from .measurement import EFFECTS
from .report import GlitchReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RADAR_SIZE = GraphSize(1000, 860)
LARGEST = 2.0
"""Indices above are drawn at the rim, with their number beside them."""

_LABELS = {
    "semantic_drift": "semantic\ndrift",
    "composition": "composition\nshift",
    "framing": "stretch",
    "compression": "compression\nartefacts",
    "texture": "texture\nglitch",
    "contrast": "collapsed\ncontrast",
    "burn": "burnt contrast\nand colour",
    "caption_hold": "caption's\nhold lost",
    "mode_collapse": "mode\ncollapse",
    "overall": "overall\n(SSIM)",
    "perceptual": "overall\n(vision model)",
    "weight_loudness": "weight\nloudness",
}


def draw_radar(report: GlitchReport, size: GraphSize = RADAR_SIZE, style: str = "dark") -> Figure:
    """Draw every run's indices; effects that cannot be told have no point.

    Args:
        report: one or several runs.
        size: of the picture.
        style: ``dark`` or ``light``.

    Returns:
        A matplotlib figure of its own, touching no global state.
    """
    from matplotlib.figure import Figure

    palette = PALETTES[style]
    keys = [key for key in EFFECTS if key in report.effects]
    angles = [math.tau * place / len(keys) for place in range(len(keys))]
    figure = Figure(
        figsize=(size.width_px / size.dpi, size.height_px / size.dpi),
        dpi=size.dpi,
        facecolor=palette.paper,
    )
    axes = figure.add_axes((0.14, 0.1, 0.72, 0.68), projection="polar")
    top = _top(report)
    _prepare(axes, top, angles, [_LABELS.get(key, EFFECTS[key].title) for key in keys], style)
    for place, run in enumerate(report.runs):
        colour = palette.runs[place % len(palette.runs)]
        found = [run.of(key) for key in keys]
        told = [
            (angle, one) for angle, one in zip(angles, found, strict=True)
            if one is not None and one.index is not None
        ]  # fmt: skip
        turns = [angle for angle, _ in told]
        radii = [min(top, one.index or 0.0) for _, one in told]
        axes.plot([*turns, *turns[:1]], [*radii, *radii[:1]], color=colour, lw=2.2, label=run.name)
        axes.fill(turns, radii, color=colour, alpha=0.12)
        axes.scatter(turns, radii, color=colour, s=26, zorder=4, clip_on=False)
        for angle, one in told:
            _whisker(axes, angle + 0.02 * place, one.index_interval, top, colour)
            if one.index is not None and one.index > top:
                axes.annotate(
                    number(one.index, 2), (angle, top), color=colour, fontsize=9, fontweight="bold",
                    ha="center", va="center", xytext=(0, -12), textcoords="offset points",
                )  # fmt: skip
    legend = axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.14), ncols=min(3, len(report.runs)),
        frameon=False, fontsize=10, labelcolor=palette.ink,
    )  # fmt: skip
    legend.set_title("glitch index")
    legend.get_title().set_fontsize(11)
    legend.get_title().set_color(palette.faint)
    figure.text(
        0.5, 0.012, "centre: base · bold ring: 1, the reference corruption · bars: 95 % interval",
        color=palette.faint, fontsize=8.5, ha="center",
    )  # fmt: skip
    return figure


def _top(report: GlitchReport) -> float:
    """Return the rim: a quarter beyond the largest index, between 1.25 and the largest drawn."""
    largest = max((one.index or 0.0 for run in report.runs for one in run.measurements), default=0)
    return min(LARGEST, max(1.25, math.ceil(largest * 4 + 0.5) / 4))


def _prepare(axes: Axes, top: float, angles: list[float], labels: list[str], style: str) -> None:
    palette = PALETTES[style]
    axes.set_facecolor(palette.panel)
    axes.set_theta_offset(math.pi / 2)  # type: ignore[attr-defined]
    axes.set_theta_direction(-1)  # type: ignore[attr-defined]
    axes.set_ylim(0, top)
    axes.set_xticks(angles, labels, fontsize=10, color=palette.ink)
    axes.tick_params(axis="x", pad=20)
    ticks = [tick for tick in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0) if tick <= top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8, color=palette.faint)
    axes.set_rlabel_position(180 / max(1, len(angles)))  # type: ignore[attr-defined]
    axes.grid(color=palette.grid, linewidth=0.9)
    axes.spines["polar"].set_color(palette.grid)
    turn = [math.tau * step / 180 for step in range(181)]
    axes.plot(turn, [1.0] * len(turn), color=palette.faint, lw=1.8, zorder=1)


def _whisker(
    axes: Axes, angle: float, ends: tuple[float, float] | None, top: float, colour: str
) -> None:
    if ends is not None and ends[1] > ends[0]:
        low, high = (min(top, end) for end in ends)
        axes.plot([angle, angle], [low, high], color=colour, lw=4.5, alpha=0.35, zorder=2)
