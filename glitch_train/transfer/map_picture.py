"""A picture of the target network: every module a cell, coloured by how loud it is patched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..model.network import Module
from ..wording import number
from .report import TransferReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

BACKGROUND, CELL, INK, FAINT = "#14121a", "#26232f", "#f2eef7", "#8d879b"
COLOURS = "inferno"
_DARKEST = 0.22  # where on the colour map the quietest module is: never as dark as an unpatched one
WIDTH_PX, HEIGHT_PX, DPI = 1600, 1000, 100

# One column per job of a transformer block, gaps between its three layers.
_COLUMNS = {
    "attn1.to_q": 0.0, "attn1.to_k": 1.0, "attn1.to_v": 2.0, "attn1.to_out.0": 3.0,
    "attn2.to_q": 4.35, "attn2.to_k": 5.35, "attn2.to_v": 6.35, "attn2.to_out.0": 7.35,
    "ff.net.0.proj": 8.7, "ff.net.2": 9.7,
}  # fmt: skip
_COLUMN_NAMES = {
    "q": "q", "k": "k", "v": "v", "out.0": "o", "ff.net.0.proj": "in", "ff.net.2": "out"
}  # fmt: skip
_SITE_WIDTH = 10.7
_SITE_GAP = 1.3
_ROW_GAP = 2.2
_PROJECTION_HEIGHT = 0.55
_TEXT_COLUMNS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_STAGE_TITLES = {"down": "down", "mid": "middle", "up": "up"}
# Loudnesses are drawn over at most this range, the loudest at the top.
_DECADES = 3.0


@dataclasses.dataclass(frozen=True)
class Cell:
    """A module's place in the picture, in cells; y grows downwards."""

    key: str
    x: float
    y: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True)
class Site:
    """One Transformer2D: its cells, in cells from its upper left corner.

    Attributes:
        title: stage and resolution.
        stage: ``down``, ``mid`` or ``up``.
        level: resolution level.
        height: in cells.
        cells: its modules.
    """

    title: str
    stage: str
    level: int
    height: float
    cells: tuple[Cell, ...]


def draw_map(report: TransferReport) -> Figure:
    """Draw which modules of the target are patched, and how loudly.

    The U it is named for: the way down on the left, the middle, the way up on the right; fine
    resolutions at the top, coarse ones at the bottom. Dark cells are not patched.

    Args:
        report: the transfer.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI, facecolor=BACKGROUND)
    loudness = {patch.target.key: patch.loudness for patch in report.patches}
    scale = _colour_scale(loudness.values())
    has_text = bool(report.target.towers)
    bottom = 0.25 if has_text else 0.09
    axes = _bare_axes(figure, (0.03, bottom, 0.94, 0.86 - bottom))
    _draw_unet(axes, sites(report.target.modules.values()), loudness, scale)
    if has_text:
        _draw_text(figure, report, loudness, scale)
    _draw_words(figure, report)
    _draw_colour_bar(figure, scale)
    return figure


def sites(modules: Iterable[Module]) -> list[Site]:
    """Return a UNet's attention blocks in the order in which they work."""
    found: dict[tuple[str, int, int], list[Module]] = {}
    for module in modules:
        if module.role.is_attention:
            place = (module.role.stage, module.role.level, module.role.site)
            found.setdefault(place, []).append(module)
    ordered = sorted(found, key=_working_order)
    return [_site(place, found[place]) for place in ordered]


def _working_order(place: tuple[str, int, int]) -> tuple[int, int, int]:
    stage, level, site = place
    return ("down", "mid", "up").index(stage), -level if stage == "up" else level, site


def _site(place: tuple[str, int, int], modules: Sequence[Module]) -> Site:
    stage, level, _ = place
    depth = 1 + max(module.role.block for module in modules)
    cells = []
    for module in modules:
        job = module.role.job
        if job in _COLUMNS:
            y = _PROJECTION_HEIGHT + module.role.block
            cells.append(Cell(module.key, _COLUMNS[job], y, 1.0, 1.0))
        else:
            y = 0.0 if job == "proj_in" else _PROJECTION_HEIGHT + depth
            cells.append(Cell(module.key, 0.0, y, _SITE_WIDTH, _PROJECTION_HEIGHT))
    title = f"{_STAGE_TITLES[stage]} 1/{2**level}"
    return Site(title, stage, level, depth + 2 * _PROJECTION_HEIGHT, tuple(cells))


def _draw_unet(
    axes: Axes, placed: Sequence[Site], loudness: dict[str, float], scale: ScalarMappable
) -> None:
    """Draw one row per resolution: the way down on the left, the way up on the right."""
    tops, bottom = _row_tops(placed)
    columns = _site_columns(placed)
    for site in placed:
        x = columns[site] * (_SITE_WIDTH + _SITE_GAP)
        top = tops[site.level]
        _draw_cells(axes, site.cells, (x, top), loudness, scale)
        axes.text(x, top - 0.25, site.title, color=FAINT, fontsize=9, va="bottom")
    _name_columns(axes, placed[0], tops[placed[0].level])
    axes.set_xlim(-0.1, (1 + max(columns.values())) * (_SITE_WIDTH + _SITE_GAP) - _SITE_GAP + 0.1)
    axes.set_ylim(bottom, -1.2)


def _row_tops(placed: Sequence[Site]) -> tuple[dict[int, float], float]:
    """Return the upper edge of each level's row, and the lower edge of the last."""
    tops, y = {}, 0.0
    for level in sorted({site.level for site in placed}):
        tops[level] = y
        y += max(site.height for site in placed if site.level == level) + _ROW_GAP
    return tops, y - _ROW_GAP + 1.0


def _site_columns(placed: Sequence[Site]) -> dict[Site, int]:
    """Return the column of each site: down, then the middle, then up."""
    columns: dict[Site, int] = {}
    widest: dict[str, int] = {}
    for site in placed:
        beside = sum(s.stage == site.stage and s.level == site.level for s in columns)
        columns[site] = beside
        widest[site.stage] = max(widest.get(site.stage, 0), beside + 1)
    first = {"down": 0, "mid": widest.get("down", 0)}
    first["up"] = first["mid"] + widest.get("mid", 0)
    return {site: column + first[site.stage] for site, column in columns.items()}


def _name_columns(axes: Axes, site: Site, top: float) -> None:
    """Write the jobs under the first site, which stand for those of all sites."""
    for job, x in _COLUMNS.items():
        axes.text(
            x + 0.5,
            top + site.height + 0.55,
            _COLUMN_NAMES[job.rpartition("to_")[2]],
            color=FAINT,
            fontsize=7.5,
            ha="center",
            va="center",
        )


def _draw_cells(
    axes: Axes,
    cells: Iterable[Cell],
    corner: tuple[float, float],
    loudness: dict[str, float],
    scale: ScalarMappable,
) -> None:
    from matplotlib.patches import Rectangle

    for cell in cells:
        loud = loudness.get(cell.key)
        axes.add_patch(
            Rectangle(
                (corner[0] + cell.x + 0.05, corner[1] + cell.y + 0.05),
                cell.width - 0.1,
                cell.height - 0.1,
                facecolor=CELL if loud is None else scale.to_rgba(np.asarray(loud)),
                linewidth=0,
            )
        )


def _draw_text(
    figure: Figure, report: TransferReport, loudness: dict[str, float], scale: ScalarMappable
) -> None:
    """Draw text encoders as strips: one column per layer, one row per job."""
    layers = sum(tower.layers for tower in report.target.towers)
    axes = _bare_axes(figure, (0.03, 0.09, 0.94, 0.12))
    x = 0.0
    for place, tower in enumerate(report.target.towers, start=1):
        many = len(report.target.towers) > 1
        title = f"text encoder {place if many else ''}".strip()
        axes.text(x, -0.5, f"{title}: layers 1 to {tower.layers}", color=FAINT, fontsize=8)
        cells = [
            Cell(
                module.key,
                float(module.role.block),
                float(_TEXT_COLUMNS.index(module.role.job.rpartition(".")[2])),
                1.0,
                1.0,
            )
            for module in report.target.modules.values()
            if module.role.part == tower.part and module.role.stage == "text"
        ]
        _draw_cells(axes, cells, (x, 0.0), loudness, scale)
        x += tower.layers + 2.0
    axes.set_xlim(-0.2, max(layers + 2.0, 46.0))
    axes.set_ylim(6.2, -1.8)


def _draw_words(figure: Figure, report: TransferReport) -> None:
    counts, recipe = report.counts, report.recipe
    title = f"{report.source.title}  →  {report.target.title}"
    norm = f"loudness {recipe.loudness:g}" if recipe.norm == "loudness" else recipe.norm
    settings = f"{recipe.mapping} · {recipe.fit} · depth {recipe.depth} · norm {norm}"
    reached = f"{counts['target_reached']} of {counts['target_total']} UNet modules patched"
    text = report.text_counts()
    if text["target_reached"]:
        reached += f", {text['target_reached']} of {text['target_total']} in text encoders"
    figure.text(0.03, 0.945, title, color=INK, fontsize=21, weight="bold", va="center")
    figure.text(0.03, 0.903, f"{report.lora.title}  ·  {settings}", color=FAINT, fontsize=11)
    figure.text(0.97, 0.945, reached, color=INK, fontsize=12, ha="right", va="center")
    kept = f"energy kept {number(report.energy_kept, 3)}"
    figure.text(0.97, 0.903, kept, color=FAINT, fontsize=11, ha="right")
    legend = (
        "block: proj_in, then per transformer block self-attention, cross-attention, feed-forward; "
        "proj_out.  Text encoder rows: q k v o fc1 fc2.  Dark: not patched."
    )
    figure.text(0.03, 0.035, legend, color=FAINT, fontsize=8.5)


def _colour_scale(values: Iterable[float]) -> ScalarMappable:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    loud = [value for value in values if value > 0.0 and math.isfinite(value)]
    top = max(loud, default=1.0)
    low = max(min(loud, default=0.1), top * 10**-_DECADES)
    shades = LinearSegmentedColormap.from_list(
        "glitch", colormaps[COLOURS]([_DARKEST + (1 - _DARKEST) * i / 255 for i in range(256)])
    )
    return ScalarMappable(LogNorm(min(low, top / 10), top, clip=True), shades)


def _draw_colour_bar(figure: Figure, scale: ScalarMappable) -> None:
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    axes = figure.add_axes((0.77, 0.042, 0.2, 0.012))
    bar = figure.colorbar(scale, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.locator = LogLocator(subs=(1.0, 2.0, 5.0))
    bar.formatter = FormatStrFormatter("%g")
    bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.update_ticks()
    bar.ax.tick_params(colors=FAINT, labelsize=8, length=0, which="both")
    bar.ax.set_title("how loud: ‖ΔW‖ / ‖W‖", color=FAINT, fontsize=8.5, loc="left", pad=3)


def _bare_axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    axes = figure.add_axes(place, facecolor="none")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes
