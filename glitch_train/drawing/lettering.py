"""What sheets of pictures share: letters, and pictures that fit a cell."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import ImageFont

from .figures import load_matplotlib


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int, lines: int) -> list[str]:
    """Break text into lines of a width; what does not fit ends in an ellipsis."""
    found: list[str] = []
    for word in text.split():
        joined = f"{found[-1]} {word}" if found else word
        if found and font.getlength(joined) <= width:
            found[-1] = joined
        elif len(found) >= lines:
            if not found:
                break
            found[-1] = cut(found[-1] + " …………", font, width).rstrip(" …") + " …"
            break
        else:
            found.append(cut(word, font, width))
    return found


def cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Shorten text to a width, with an ellipsis at its end."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[: -max(1, len(text) // 20)]
    return text + "…"


@functools.cache
def lettering(size_px: int) -> ImageFont.FreeTypeFont:
    """Return matplotlib's DejaVu Sans, which has more letters than Pillow's own font."""
    try:
        load_matplotlib()
        import matplotlib

        return ImageFont.truetype(
            Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf", size_px
        )
    except (ImportError, OSError):
        return ImageFont.load_default(size_px)  # type: ignore[return-value]
