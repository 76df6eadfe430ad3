"""A workflow's picture in the template browser: what it makes, or its graph, above its name."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFont

SIZE = (640, 400)
TITLE_PX = 64
MARGIN_PX = 16
BACKGROUND = (24, 24, 28)
INK = (236, 236, 236)
QUALITY = 82
COLUMNS, CELL_PX = 4, 152
DIFFERS_FROM = 12
"""Of 255: less than this is the canvas, its dots and the noise of the screenshot."""


def thumbnail(screenshot: Path, title: str, target: Path) -> None:
    """Write the thumbnail.

    Args:
        screenshot: The graph on its canvas.
        title: What stands below it.
        target: A JPEG file.
    """
    with Image.open(screenshot) as picture:
        _write_card(_without_margin(picture.convert("RGB")), title, target)


def pairs_thumbnail(run: Path, title: str, target: Path) -> bool:
    """Write the thumbnail of an experiment from a run of the measured matrix.

    Args:
        run: Its folder, with pictures of the same names in ``base`` and ``glitched``.
        title: What stands below them.
        target: A JPEG file.

    Returns:
        Whether there were pictures to show.
    """
    # Every prompt has two seeds; one of each is enough.
    rows = [sorted((run / kind).glob("*.png"))[::2][:COLUMNS] for kind in ("base", "glitched")]
    if not all(rows):
        return False
    pictures = Image.new("RGB", (COLUMNS * CELL_PX, 2 * CELL_PX), BACKGROUND)
    for down, row in enumerate(rows):
        for across, path in enumerate(row):
            with Image.open(path) as picture:
                cell = picture.convert("RGB").resize((CELL_PX, CELL_PX))
            pictures.paste(cell, (across * CELL_PX, down * CELL_PX))
    _write_card(pictures, title, target)
    return True


def _write_card(graph: Image.Image, title: str, target: Path) -> None:
    room = SIZE[0] - 2 * MARGIN_PX, SIZE[1] - TITLE_PX - 2 * MARGIN_PX
    scale = min(room[0] / graph.width, room[1] / graph.height)
    size = round(graph.width * scale), round(graph.height * scale)
    graph = graph.resize(size, Image.Resampling.LANCZOS)
    card = Image.new("RGB", SIZE, BACKGROUND)
    card.paste(graph, ((SIZE[0] - size[0]) // 2, MARGIN_PX + (room[1] - size[1]) // 2))
    middle = (SIZE[0] / 2, SIZE[1] - TITLE_PX / 2 - MARGIN_PX / 2)
    font = ImageFont.load_default(size=TITLE_PX * 0.6)
    ImageDraw.Draw(card).text(middle, title, fill=INK, font=font, anchor="mm")
    card.save(target, quality=QUALITY, optimize=True)


def _without_margin(picture: Image.Image) -> Image.Image:
    empty = Image.new("RGB", picture.size, picture.getpixel((picture.width // 2, 2)))
    difference = ImageChops.difference(picture, empty).convert("L")
    box = difference.point(lambda value: 255 if value > DIFFERS_FROM else 0).getbbox()
    return picture.crop(box) if box else picture
