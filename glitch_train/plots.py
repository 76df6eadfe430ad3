"""Draw loss records with matplotlib: the live preview and the final graph use the same code."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from .files import atomic_path
from .record import LossRecord, smooth, smoothing_window

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RUN_COLOURS = ("#ff2e88", "#00c2d1", "#f5a300", "#7d5cff", "#3fb950", "#d64545")
MAX_DRAWN_POINTS = 4000
"""More raw points than this cannot be told apart; the drawn ones are taken evenly."""


@dataclasses.dataclass(frozen=True)
class GraphSize:
    """Size of a graph.

    Attributes:
        width_px: width in pixels.
        height_px: height in pixels.
        dpi: dots per inch; larger numbers make text and lines larger in pixels.
    """

    width_px: int = 1200
    height_px: int = 700
    dpi: int = 120


PREVIEW_SIZE = GraphSize(640, 400, 80)


def draw_losses(records: Sequence[LossRecord], size: GraphSize | None = None) -> Figure:
    """Draw loss over steps: raw points faint, smoothed line bold, one colour per run.

    Args:
        records: one or several runs, drawn over each other.
        size: size of the picture.

    Returns:
        A matplotlib figure of its own, touching no global state.
    """
    from matplotlib.figure import Figure

    size = size or GraphSize()
    figure = Figure(figsize=(size.width_px / size.dpi, size.height_px / size.dpi), dpi=size.dpi)
    axes = figure.add_subplot()
    for index, record in enumerate(records):
        _draw_run(axes, record, RUN_COLOURS[index % len(RUN_COLOURS)])
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (mean squared error)")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", frameon=False)
    figure.set_layout_engine("constrained")
    return figure


def to_image(figure: Figure) -> Image.Image:
    """Render a figure as an RGB picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer(
        "RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1
    ).convert("RGB")


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure in the format of the path's suffix, in one piece."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip("."))
    with atomic_path(path) as part:
        part.write_bytes(content.getvalue())


def _draw_run(axes: Axes, record: LossRecord, colour: str) -> None:
    every = max(1, len(record) // MAX_DRAWN_POINTS)
    steps = record.steps[::every]
    axes.plot(
        steps,
        record.loss[::every],
        linestyle="",
        marker=".",
        markersize=3,
        alpha=0.3,
        color=colour,
        markeredgewidth=0,
    )
    line = smooth(record.loss, smoothing_window(len(record)))[::every]
    axes.plot(steps, line, linewidth=2.2, color=colour, label=_legend(record, line))


def _legend(record: LossRecord, line: Sequence[float]) -> str:
    # matplotlib hides labels that begin with an underscore.
    return f"{record.name.lstrip('_') or 'run'}: {line[0]:.4f} → {line[-1]:.4f}"
