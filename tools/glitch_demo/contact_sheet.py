"""One picture that shows what the LoRA did: without it above, with it below, same seeds."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL_PX = 320
MARGIN_PX = 16
CAPTION_PX = 76  # three lines of text
TEXT_PX = 17
HEADING_PX = 24
_PAPER = (247, 246, 242)
_INK = (28, 28, 30)


@dataclass(frozen=True)
class Row:
    """Pictures that were made in the same way."""

    title: str
    pictures: Sequence[Path]


def contact_sheet(rows: Sequence[Row], captions: Sequence[str], target: Path) -> Path:
    """Draw rows of pictures with a title over each row and a caption under each column.

    Args:
        rows: From top to bottom; a row may be shorter than the others.
        captions: One for each column, such as the seed and the prompt.
        target: The PNG to write.

    Returns:
        `target`.
    """
    columns = max(len(row.pictures) for row in rows)
    row_height = HEADING_PX + MARGIN_PX + CELL_PX + MARGIN_PX
    size = (
        MARGIN_PX + columns * (CELL_PX + MARGIN_PX),
        MARGIN_PX + len(rows) * row_height + CAPTION_PX,
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    heading = ImageFont.load_default(HEADING_PX)
    for number, row in enumerate(rows):
        top = MARGIN_PX + number * row_height
        draw.text((MARGIN_PX, top), row.title, _INK, heading)
        for column, picture in enumerate(row.pictures):
            left = MARGIN_PX + column * (CELL_PX + MARGIN_PX)
            sheet.paste(_cell(picture), (left, top + HEADING_PX + MARGIN_PX))
    _draw_captions(draw, captions[:columns], MARGIN_PX + len(rows) * row_height)
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)
    return target


def _cell(picture: Path) -> Image.Image:
    """Return the whole picture, scaled to fit a square cell."""
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    return ImageOps.pad(image, (CELL_PX, CELL_PX), Image.Resampling.LANCZOS, color=_PAPER)


def _draw_captions(draw: ImageDraw.ImageDraw, captions: Sequence[str], top: int) -> None:
    font = ImageFont.load_default(TEXT_PX)
    # The letters' mean width decides where a line breaks; three lines fit, the rest is cut.
    letters = int(CELL_PX / font.getlength("abcdefghijklmnopqrstuvwxyz ") * 27)
    for column, caption in enumerate(captions):
        left = MARGIN_PX + column * (CELL_PX + MARGIN_PX)
        lines = textwrap.wrap(caption, letters, max_lines=3, placeholder=" …")
        draw.multiline_text((left, top), "\n".join(lines), _INK, font, spacing=6)
