"""Figures as pictures and as files."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, PngImagePlugin

from ..errors import RecordError
from ..files import atomic_path, disk_errors_said

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def load_matplotlib() -> None:
    """Import matplotlib without the backend that a notebook names to all that it starts.

    It would refuse one that is not installed here, and figures are drawn without any.
    """
    if "matplotlib" in sys.modules or "MPLBACKEND" not in os.environ:
        return
    named = os.environ.pop("MPLBACKEND")
    try:
        import matplotlib
    finally:
        os.environ["MPLBACKEND"] = named
    with contextlib.suppress(ValueError):  # it is for the other packs of a host
        matplotlib.rcParams["backend"] = named


def to_image(figure: Figure) -> Image.Image:
    """Render a figure as an RGB picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.frombuffer(
        "RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1
    ).convert("RGB")


def figure_format(path: Path) -> str:
    """Return the format of a path's suffix, to be asked before work begins.

    Raises:
        RecordError: for a suffix matplotlib cannot write.
    """
    load_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    kind = path.suffix.lstrip(".").lower()
    if kind not in FigureCanvasBase.get_supported_filetypes():
        raise RecordError(f"Cannot save a picture as {path.name!r}; use .png, .svg or .pdf.")
    return kind


def save_figure(figure: Figure, path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Save a figure in the format of the path's suffix, in one piece.

    Args:
        figure: as drawn.
        path: ``.png``, ``.svg`` or ``.pdf``.
        metadata: texts to put into a PNG.

    Raises:
        RecordError: for a suffix matplotlib cannot write.
        DiskError: when the disk does not take it.
    """
    content, kind = io.BytesIO(), figure_format(path)
    texts = dict(metadata) if metadata and kind == "png" else None
    figure.savefig(content, format=kind, facecolor=figure.get_facecolor(), metadata=texts)
    with disk_errors_said(path), atomic_path(path) as part:
        part.write_bytes(content.getvalue())


def save_jpeg(image: Image.Image, path: Path, quality: int) -> None:
    """Write a JPEG, small for its quality.

    Raises:
        DiskError: when the disk does not take it.
    """
    with disk_errors_said(path), atomic_path(path) as part:
        image.convert("RGB").save(part, "JPEG", quality=quality, optimize=True)


def save_png(image: Image.Image, path: Path, texts: Mapping[str, str]) -> None:
    """Write a PNG with texts in it, compressed as the host's Save Image does.

    Raises:
        DiskError: when the disk does not take it.
    """
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    with disk_errors_said(path), atomic_path(path) as part:
        image.save(part, "PNG", pnginfo=info, compress_level=4)
