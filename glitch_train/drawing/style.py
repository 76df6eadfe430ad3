"""How graphs look: sizes, the dark and the light style, and what is drawn."""

from __future__ import annotations

import dataclasses
import math

from ..errors import RecordError

STYLES = ("dark", "light")
Y_AXES = ("linear", "log")
X_AXES = ("steps", "epochs")
LINES = ("ema", "epoch average", "both")

_DPI = 120
_AREA_PX = 1200 * 700
_SMALLEST_DPI, _LARGEST_DPI = 80, 900


@dataclasses.dataclass(frozen=True)
class GraphSize:
    """Size of a graph; letters and lines grow with it, so that print sizes look the same.

    Attributes:
        width_px: width in pixels.
        height_px: height in pixels, a table under the graph not counted.
    """

    width_px: int = 1200
    height_px: int = 700

    @property
    def dpi(self) -> float:
        """Dots per inch: 120 at 1200 × 700 pixels."""
        dpi = _DPI * math.sqrt(self.width_px * self.height_px / _AREA_PX)
        return min(_LARGEST_DPI, max(_SMALLEST_DPI, dpi))


PREVIEW_SIZE = GraphSize(640, 400)


@dataclasses.dataclass(frozen=True)
class GraphOptions:
    """What a graph shows.

    Attributes:
        style: one of ``STYLES``.
        y_axis: one of ``Y_AXES``.
        x_axis: one of ``X_AXES``; epochs need a record that has them.
        line: the bold line: the EMA, kohya's average over one epoch, or both.
        marks: whether to mark where curves became flat, spikes and snapshots.
        table: whether the verdict is drawn under the graph.
    """

    style: str = "dark"
    y_axis: str = "linear"
    x_axis: str = "steps"
    line: str = "ema"
    marks: bool = True
    table: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (
            ("style", STYLES),
            ("y_axis", Y_AXES),
            ("x_axis", X_AXES),
            ("line", LINES),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise RecordError(f"{name} must be one of {', '.join(allowed)}; got {value!r}.")


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours of a style, and how faint raw points are on it."""

    paper: str
    panel: str
    ink: str
    faint: str
    grid: str
    runs: tuple[str, ...]
    raw_alpha: float


# Runs differ in lightness too, so that they can be told apart in grey and with weak colour sight.
PALETTES = {
    "dark": Palette(
        paper="#101018",
        panel="#161622",
        ink="#ece9f5",
        faint="#9a97ab",
        grid="#2c2c3d",
        runs=("#ff4d9d", "#34e0e4", "#ffc23d", "#a58bff", "#6fe39a", "#ff7a52"),
        raw_alpha=0.42,
    ),
    "light": Palette(
        paper="#ffffff",
        panel="#fbfafd",
        ink="#1f1d2b",
        faint="#6d6a7c",
        grid="#e3e0ea",
        runs=("#d1006a", "#007f9e", "#b36b00", "#5b35d5", "#1b8a4b", "#b8341b"),
        raw_alpha=0.32,
    ),
}
