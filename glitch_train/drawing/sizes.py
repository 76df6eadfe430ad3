"""Sizes of pictures, and pictures that fit a cell."""

from __future__ import annotations

from PIL import Image

Size = tuple[int, int]
"""(width, height) in pixels."""


def fitted(image: Image.Image, cell_px: int) -> Image.Image:
    """Shrink to the cell, or enlarge by whole pixels: nothing is smoothed away."""
    if max(image.size) > cell_px:
        return image.resize(contained(image.size, cell_px), Image.Resampling.LANCZOS)
    whole = max(1, cell_px // max(image.size))
    size = (image.width * whole, image.height * whole)
    return image.resize(size, Image.Resampling.NEAREST)


def contained(size: Size, cell_px: int) -> Size:
    """Return the size at the same aspect whose longer side is ``cell_px``."""
    scale = cell_px / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
