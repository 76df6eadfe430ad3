"""A contact sheet of a dataset: each source beside its prepared variants, captions below."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw

from ..drawing.lettering import cut, lettering, wrapped
from ..drawing.sizes import contained, fitted
from ..errors import DatasetError
from ..wording import shown_name
from ..workers import in_order
from .dataset import GlitchDataset, Sample
from .folder import read_file
from .load import OnProgress
from .mix import AnyDataset
from .pictures import open_picture, parse_color
from .report import describe_framing

MARGIN_PX = 18
TEXT_PX = 16
LINE_PX = 21
HEADING_PX = 26
CELLS_ACROSS = 4
"""Groups stand side by side until this many cells are reached."""

_PAPER = (247, 246, 242)
_INK = (28, 28, 30)
_FAINT = (110, 110, 116)


@dataclasses.dataclass(frozen=True)
class SheetStyle:
    """How large the sheet is.

    Attributes:
        pictures: how many pictures of the dataset are shown, spread evenly over it.
        variants: how many variants of each.
        cell_px: side of a cell; larger pictures are shrunk to it, others are shown pixel by pixel.
        caption_lines: most lines of a caption.
    """

    pictures: int = 8
    variants: int = 3
    cell_px: int = 512
    caption_lines: int = 4


@dataclasses.dataclass(frozen=True)
class _Cell:
    image: Image.Image
    title: str
    text: str


def contact_sheet(
    dataset: AnyDataset, style: SheetStyle, on_progress: OnProgress | None = None
) -> Image.Image:
    """Draw a contact sheet.

    Args:
        dataset: what to show.
        style: how much of it.
        on_progress: called with (pictures done, pictures in all).

    Returns:
        RGB picture.

    Raises:
        DatasetError: when a picture can no longer be read.
    """
    pictures = [(part, index) for part in dataset.parts for index in range(len(part.samples))]
    shown = [pictures[place] for place in _spread(len(pictures), style.pictures)]
    variants = min(style.variants, max(part.recipe.variants for part in dataset.parts))
    groups_across = max(1, min(len(shown), CELLS_ACROSS // (variants + 1)))
    sheet, draw = _empty_sheet(dataset, style, len(shown), variants, groups_across)
    step = (style.cell_px + MARGIN_PX, _row_height(style))
    cells = in_order(lambda picture: list(_group(*picture, variants, style)), shown)
    for number, group in enumerate(cells):
        row, place = divmod(number, groups_across)
        for offset, cell in enumerate(group):
            left = MARGIN_PX + (place * (variants + 1) + offset) * step[0] + place * MARGIN_PX
            top = 2 * MARGIN_PX + HEADING_PX + row * step[1]
            _draw_cell(sheet, draw, cell, (left, top), style)
        if on_progress:
            on_progress(number + 1, len(shown))
    return sheet


def _spread(count: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` indices, spread evenly over ``count``."""
    shown = min(count, wanted)
    return [index * count // shown for index in range(shown)]


def _row_height(style: SheetStyle) -> int:
    return style.cell_px + MARGIN_PX + LINE_PX * (style.caption_lines + 1) + MARGIN_PX


def _empty_sheet(
    dataset: AnyDataset, style: SheetStyle, shown: int, variants: int, groups_across: int
) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    rows = -(-shown // groups_across)
    group_width = (variants + 1) * (style.cell_px + MARGIN_PX) + MARGIN_PX
    size = (
        groups_across * group_width,
        3 * MARGIN_PX + HEADING_PX + rows * _row_height(style),
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    titles = [f"{shown} of {len(dataset.samples)} pictures"]
    for part in dataset.parts:
        chain = " → ".join(step.kind for step in part.recipe.corruption_chain)
        titles += [describe_framing(part), *filter(None, [chain])]
    title = " · ".join(titles)
    font = lettering(HEADING_PX)
    draw.text((MARGIN_PX, MARGIN_PX), cut(title, font, size[0] - 2 * MARGIN_PX), _INK, font)
    return sheet, draw


def _group(dataset: GlitchDataset, index: int, variants: int, style: SheetStyle) -> Iterator[_Cell]:
    """Yield the source and then its variants, each shrunk to a cell."""
    sample = dataset.samples[index]
    source = _source(dataset, sample, style.cell_px)
    size = f"source {sample.size[0]}×{sample.size[1]}"
    yield _Cell(source, size, shown_name(sample.name))
    for variant in range(min(variants, dataset.recipe.variants)):
        framed = dataset.prepare(sample, variant)
        width, height = framed.plan.size
        title = f"{framed.plan.framing} {width}×{height}"
        caption = dataset.shown_caption(index, variant) or "(empty caption)"
        yield _Cell(fitted(framed.image, style.cell_px), title, caption)


def _source(dataset: GlitchDataset, sample: Sample, cell_px: int) -> Image.Image:
    try:
        raw = read_file(Path(sample.folder), sample.name)
        background = parse_color(dataset.recipe.background)
        needed = contained(sample.size, cell_px)
        picture = open_picture(raw, sample.name, needed=needed, background=background)
    except DatasetError as error:
        raise DatasetError(f"{shown_name(sample.name)}: {error}.") from error
    return picture.image.resize(needed, Image.Resampling.LANCZOS)


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    cell: _Cell,
    corner: tuple[int, int],
    style: SheetStyle,
) -> None:
    left, top = corner
    offset = (style.cell_px - cell.image.width) // 2, style.cell_px - cell.image.height
    sheet.paste(cell.image, (left + offset[0], top + offset[1]))
    font = lettering(TEXT_PX)
    below = top + style.cell_px + 6
    draw.text((left, below), cut(cell.title, font, style.cell_px), _FAINT, font)
    for line in wrapped(cell.text, font, style.cell_px, style.caption_lines):
        below += LINE_PX
        draw.text((left, below), line, _INK, font)
