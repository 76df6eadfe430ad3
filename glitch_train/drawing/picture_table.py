"""One large picture of a grid: cells in their places, what they are written beside them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from .lettering import lettering, wrapped
from .sizes import Size
from .style import PALETTES

SMALLEST_LETTER_PX, LARGEST_LETTER_PX = 13, 44
LETTERS_PER_CELL = 22
"""A cell is about this many letters' heights high."""

LARGEST_SIDE_PX = 32_000
"""Picture viewers and browsers stop at sides of 32767 pixels."""

Cell = tuple[int, int]
Box = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True)
class Label:
    """A piece of text beside a row or above a column.

    Attributes:
        text: what it says.
        lines: most lines it may take; the rest is cut with an ellipsis.
        tone: index of a colour of the palette's runs; -1 for plain ink, -2 for faint ink.
    """

    text: str
    lines: int = 2
    tone: int = -1


PLAIN, FAINT = -1, -2


class GridPicture:
    """A picture of labelled cells.

    Attributes:
        image: RGB; cells that were not pasted are empty frames.
        scale: what the cells are shrunk by.
    """

    def __init__(
        self,
        rows: Sequence[Sequence[Label]],
        columns: Sequence[Sequence[Label]],
        sizes: Mapping[Cell, Size],
        heading: Sequence[Label] = (),
        *,
        style: str = "dark",
        max_px: float = 64e6,
    ) -> None:
        """Lay out and draw everything but the cells.

        Args:
            rows: labels of each row.
            columns: labels of each column.
            sizes: width and height of each cell by (row, column), in pixels.
            heading: what stands above all.
            style: one of ``style.STYLES``.
            max_px: cells are shrunk until the picture has at most this many pixels, as far as
                legible letters allow.
        """
        self._rows, self._columns, self._heading = rows, columns, heading
        self._sizes = dict(sizes)
        self._look = PALETTES[style]
        self.scale = 1.0
        for _ in range(40):
            layout = _Layout(rows, columns, self._sizes, heading, self.scale)
            too_large = max(
                math.sqrt(layout.width * layout.height / max_px),
                max(layout.width, layout.height) / LARGEST_SIDE_PX,
            )
            if too_large <= 1 or layout.cells_are_tiny:
                break
            self.scale *= max(0.5, min(0.98, 1 / too_large))
        self._layout = layout
        self.image = Image.new("RGB", (layout.width, layout.height), self._look.paper)
        self._draw_labels()

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return self.image.size

    def box(self, cell: Cell) -> Box:
        """Return left, top, width and height of a cell in the picture."""
        left, top, width, height = self._layout.place(cell)
        shown = self._shown(cell)
        return left + (width - shown[0]) // 2, top + (height - shown[1]) // 2, *shown

    def paste(self, cell: Cell, image: Image.Image) -> None:
        """Put a picture into its place; at scale 1 it is there pixel by pixel."""
        left, top, *size = self.box(cell)
        if image.size != tuple(size):
            image = image.resize((size[0], size[1]), Image.Resampling.LANCZOS)
        place = self._layout.place(cell)
        draw = ImageDraw.Draw(self.image)
        draw.rectangle(_corners(place), fill=self._look.paper)
        self.image.paste(image.convert("RGB"), (left, top))

    def _shown(self, cell: Cell) -> Size:
        return _scaled(self._sizes[cell], self.scale)

    def _draw_labels(self) -> None:
        layout, draw = self._layout, ImageDraw.Draw(self.image)
        top = layout.margin
        for label in self._heading:
            top = self._write(draw, [label], (layout.margin, top), layout.heading_width)
        for number, labels in enumerate(self._columns):
            left, _, width, _ = layout.place((0, number))
            lines = layout.written_lines(labels, width)
            above = layout.cells_top - layout.gap - lines * layout.line
            self._write(draw, labels, (left, above), width)
        for number, labels in enumerate(self._rows):
            _, top, _, _ = layout.place((number, 0))
            self._write(draw, labels, (layout.margin, top), layout.row_label_width)
        for cell in self._sizes:
            left, top, width, height = self.box(cell)
            draw.rectangle(_corners((left, top, width, height)), self._look.panel, self._look.grid)

    def _write(
        self, draw: ImageDraw.ImageDraw, labels: Sequence[Label], place: Size, width: int
    ) -> int:
        """Write labels below each other; return where the next line would begin."""
        left, top = place
        for label in labels:
            for line in self._layout.wrapped(label, width):
                draw.text((left, top), line, self._colour(label.tone), self._layout.font)
                top += self._layout.line
        return top

    def _colour(self, tone: int) -> str:
        if tone == FAINT:
            return self._look.faint
        return self._look.ink if tone == PLAIN else self._look.runs[tone % len(self._look.runs)]


class _Layout:
    """Where everything is, at one scale."""

    def __init__(
        self,
        rows: Sequence[Sequence[Label]],
        columns: Sequence[Sequence[Label]],
        sizes: Mapping[Cell, Size],
        heading: Sequence[Label],
        scale: float,
    ) -> None:
        shown = {cell: _scaled(size, scale) for cell, size in sizes.items()}
        sides = sorted(min(size) for size in shown.values())
        typical = sides[len(sides) // 2] / LETTERS_PER_CELL
        letter = round(min(LARGEST_LETTER_PX, max(SMALLEST_LETTER_PX, typical)))
        self.font = lettering(letter)
        self.line = round(letter * 1.35)
        self.margin = letter
        self.gap = max(3, letter // 4)
        self.cells_are_tiny = max(map(max, shown.values())) <= 2 * letter
        self.row_label_width = self._width_of(rows, (6 * letter, 17 * letter)) if any(rows) else 0
        self._widths = [
            max(
                max(shown[row, column][0] for row in range(len(rows))),
                self._width_of([labels], (3 * letter, 9 * letter)),
            )
            for column, labels in enumerate(columns)
        ]
        self._heights = [
            max(
                max(shown[row, column][1] for column in range(len(columns))),
                self.written_lines(labels, self.row_label_width) * self.line,
            )
            for row, labels in enumerate(rows)
        ]
        labels_end = self.margin + self.row_label_width
        self._left = labels_end + (self.margin if self.row_label_width else 0)
        across = self._left + sum(self._widths) + self.gap * (len(columns) - 1)
        least = self._width_of([heading], (0, 36 * letter)) + 2 * self.margin
        self.width = max(across + self.margin, least)
        self.heading_width = self.width - 2 * self.margin
        above = self.written_lines(heading, self.heading_width) * self.line
        over = max(
            self.written_lines(labels, width)
            for labels, width in zip(columns, self._widths, strict=True)
        )
        self.cells_top = self.margin + above + (self.margin if above else 0)
        self.cells_top += over * self.line + (self.gap if over else 0)
        self.height = self.cells_top + sum(self._heights) + self.gap * (len(rows) - 1) + self.margin

    def place(self, cell: Cell) -> Box:
        """Return left, top, width and height of a cell's place."""
        row, column = cell
        left = self._left + sum(self._widths[:column]) + self.gap * column
        top = self.cells_top + sum(self._heights[:row]) + self.gap * row
        return left, top, self._widths[column], self._heights[row]

    def wrapped(self, label: Label, width: int) -> list[str]:
        """Return the lines of a label."""
        return wrapped(_breakable(label.text, self.font, width), self.font, width, label.lines)

    def written_lines(self, labels: Sequence[Label], width: int) -> int:
        """Return how many lines labels take."""
        return sum(len(self.wrapped(label, width)) for label in labels)

    def _width_of(self, groups: Sequence[Sequence[Label]], limits: Size) -> int:
        """Return the width that the longest label likes, within limits."""
        longest = max(
            (self.font.getlength(label.text[:200]) for labels in groups for label in labels),
            default=0.0,
        )
        return min(limits[1], max(limits[0], math.ceil(longest)))


def _breakable(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Put spaces into words wider than a line, after an underscore where there is one."""
    found = []
    for word in text.split():
        while len(word) > 1 and font.getlength(word) > width:
            end = len(word)
            while end > 1 and font.getlength(word[:end]) > width:
                end -= 1
            mark = max(word.rfind(sign, 0, end) for sign in "_-.") + 1
            end = mark if mark > end // 2 else end
            found.append(word[:end])
            word = word[end:]
        found.append(word)
    return " ".join(found)


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _corners(box: Box) -> Box:
    left, top, width, height = box
    return left, top, left + width - 1, top + height - 1
