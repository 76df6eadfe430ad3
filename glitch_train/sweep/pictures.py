"""A sweep as pictures: the heat map, and rows of the same prompts and seeds."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from ..drawing.figures import load_matplotlib
from ..drawing.picture_table import FAINT, GridPicture, Label
from ..drawing.sizes import fitted
from ..drawing.style import PALETTES
from ..measure.index_picture import IndexRow, draw_indices
from ..measure.measurement import EFFECTS
from .doses import Dose
from .matrix import Matrix, MatrixRow, damaged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL_PX = 192
CURVES_PX = (760, 300)
DOSES_INCH, DOSES_DPI, DOSE_LETTERS = (7.0, 3.2), 110, 14
WORTH_SHOWING = 0.15
"""An index that a glance at the pictures confirms."""
SHOWN = tuple(key for key in EFFECTS if key not in ("overall", "perceptual", "weight_loudness"))
"""Effects of one kind each; distances and loudness belong to every change."""
MOST_PAIRS = 6
_MOST_BESIDES = 2


def draw_heat_map(matrix: Matrix, style: str = "dark") -> Figure:
    """Draw the mean index of every experiment and effect; what the log expects is framed."""
    rows = [
        IndexRow(
            row.slug.replace("_", " "),
            {key: found.mean for key in matrix.effects if (found := row.spread(key))},
            row.experiment.expected,
            begins_group=number > 0 and bool(matrix.rows[number - 1].experiment.against == ""),
        )
        for number, row in enumerate(matrix.rows)
    ]
    return draw_indices(rows, matrix.effects, style)


def draw_overview(
    matrix: Matrix, style: str = "dark", cell_px: int = CELL_PX
) -> Image.Image | None:
    """Draw a row per experiment: base and glitched of one prompt and seed, the indices beside it.

    Returns:
        The picture, or None when no run has pictures.
    """
    rows = _with_pictures(matrix)
    if not rows:
        return None
    cells = {}
    for down, row in enumerate(rows):
        for across, kind in enumerate(("base", "glitched")):
            pictures = pictures_of(row.runs[0].folder / kind)
            if pictures:
                cells[down, across] = _read(pictures[0], cell_px)
    names = [[Label(row.slug.replace("_", " "), 3), *_indices(row)] for row in rows]
    heads = [[Label("base", 1, FAINT)], [Label("glitched", 1)]]
    return _drawn(names, heads, cells, style)


def _indices(row: MatrixRow) -> list[Label]:
    """Return what the log expects of an experiment, and the loudest besides, with their indices."""
    found = {key: one.mean for key in SHOWN if (one := row.spread(key))}
    besides = sorted(set(found) - set(row.experiment.expected), key=lambda key: -found[key])
    expected = [key for key in row.experiment.expected if key in found]
    loudest = [key for key in besides[:_MOST_BESIDES] if found[key] >= WORTH_SHOWING]
    return [
        *(Label(f"{EFFECTS[key].title} {found[key]:.2f}", 1) for key in expected),
        *(Label(f"{EFFECTS[key].title} {found[key]:.2f}", 1, FAINT) for key in loudest),
    ]


def draw_strip(matrix: Matrix, style: str = "dark", cell_px: int = CELL_PX) -> Image.Image | None:
    """Draw experiments × (base, training seeds), all of the same prompt and sampling seed.

    Returns:
        The picture, or None when no run has pictures.
    """
    rows = _with_pictures(matrix)
    seeds = sorted({run.seed for row in rows for run in row.runs})
    if not rows:
        return None
    cells = {}
    for down, row in enumerate(rows):
        cells[down, 0] = _read(pictures_of(row.runs[0].folder / "base")[0], cell_px)
        for run in row.runs:
            glitched = pictures_of(run.folder / "glitched")
            if glitched:
                cells[down, 1 + seeds.index(run.seed)] = _read(glitched[0], cell_px)
    names = [[Label(row.slug.replace("_", " "), 3)] for row in rows]
    heads = [[Label("base", 1, FAINT)], *([Label(f"seed {seed}", 1)] for seed in seeds)]
    return _drawn(names, heads, cells, style)


def draw_row(row: MatrixRow, style: str = "dark", cell_px: int = CELL_PX) -> Image.Image | None:
    """Draw pairs of one experiment: each base picture, and below it every training seed's.

    Returns:
        The picture, or None when no run has pictures.
    """
    bases = pictures_of(row.runs[0].folder / "base")
    if not bases:
        return None
    cells = {(0, across): _read(path, cell_px) for across, path in enumerate(bases[:MOST_PAIRS])}
    for down, run in enumerate(row.runs, 1):
        for across, path in enumerate(pictures_of(run.folder / "glitched")[:MOST_PAIRS]):
            cells[down, across] = _read(path, cell_px)
    names = [[Label("base", 1, FAINT)], *([Label(f"seed {run.seed}", 1)] for run in row.runs)]
    heads: list[list[Label]] = [[] for _ in bases[:MOST_PAIRS]]
    return _drawn(names, heads, cells, style)


def draw_curves(row: MatrixRow, style: str = "dark") -> Figure:
    """Draw the losses of one experiment's training seeds over each other."""
    from ..drawing.style import GraphOptions, GraphSize
    from ..losses.graph.draw import draw_losses
    from ..losses.read import LOSSES, read_csv

    records = [
        dataclasses.replace(read_csv(run.folder / LOSSES), name=f"seed {run.seed}")
        for run in row.runs
    ]
    options = GraphOptions(style=style, y_axis="log", marks=False)
    return draw_losses(records, GraphSize(*CURVES_PX), options)


def draw_doses(rows: Sequence[tuple[Dose, MatrixRow]], style: str = "dark") -> Figure:
    """Draw how effects answer to one setting: strengths across, the index up, lines for effects.

    Bars reach from the smallest to the largest training seed.

    Args:
        rows: of one experiment and setting, from the least strength up.
        style: of the picture.
    """
    load_matplotlib()
    from matplotlib.figure import Figure

    palette = PALETTES[style]
    figure = Figure(figsize=DOSES_INCH, dpi=DOSES_DPI, facecolor=palette.paper, layout="tight")
    axes = figure.add_subplot(facecolor=palette.panel)
    for number, effect in enumerate(_answering(rows)):
        spreads = [(place, row.spread(effect)) for place, (_, row) in enumerate(rows)]
        told = [(place, one, one.ends or (one.mean, one.mean)) for place, one in spreads if one]
        axes.errorbar(
            [place for place, _, _ in told],
            [one.mean for _, one, _ in told],
            [
                [one.mean - low for _, one, (low, _) in told],
                [high - one.mean for _, one, (_, high) in told],
            ],
            marker="o", capsize=3, color=palette.runs[number % len(palette.runs)],
            label=EFFECTS[effect].title,
        )  # fmt: skip
    dose = rows[0][0]
    values = [textwrap.fill(one.value, DOSE_LETTERS) for one, _ in rows]
    axes.set_xticks(range(len(rows)), values, color=palette.ink, fontsize=8)
    axes.set_xlabel(f"{dose.slug.replace('_', ' ')}: {dose.setting}", color=palette.ink)
    axes.set_ylabel("glitch index", color=palette.ink)
    axes.set_ylim(bottom=0)
    axes.tick_params(colors=palette.ink)
    axes.grid(color=palette.faint, alpha=0.3)
    axes.legend(facecolor=palette.panel, labelcolor=palette.ink, fontsize=8)
    return figure


def _answering(rows: Sequence[tuple[Dose, MatrixRow]]) -> list[str]:
    """Return the effects that are expected, or that are worth showing at some strength."""
    expected = rows[0][1].experiment.expected
    spreads = {key: [one for _, row in rows if (one := row.spread(key))] for key in EFFECTS}
    return [
        key
        for key, found in spreads.items()
        if found and (
            key in expected or (key in SHOWN and max(one.mean for one in found) >= WORTH_SHOWING)
        )
    ]  # fmt: skip


def _drawn(
    rows: Sequence[Sequence[Label]],
    columns: Sequence[Sequence[Label]],
    cells: dict[tuple[int, int], Image.Image],
    style: str,
) -> Image.Image:
    empty = next(iter(cells.values())).size
    sizes = {
        (down, across): cells[down, across].size if (down, across) in cells else empty
        for down in range(len(rows))
        for across in range(len(columns))
    }
    picture = GridPicture(rows, columns, sizes, style=style)
    for cell, image in cells.items():
        picture.paste(cell, image)
    return picture.image


def _with_pictures(matrix: Matrix) -> list[MatrixRow]:
    return [row for row in matrix.rows if pictures_of(row.runs[0].folder / "base")]


def pictures_of(folder: Path) -> list[Path]:
    """Return the pictures of a run in their order; a record that was kept small has JPEGs."""
    return sorted([*folder.glob("*.png"), *folder.glob("*.jpg")])


def _read(path: Path, cell_px: int) -> Image.Image:
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except OSError:
        raise damaged(path.parents[1], f"{path.parent.name}/{path.name}") from None
    return fitted(image, cell_px)
