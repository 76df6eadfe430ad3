"""Known corruptions of known strength, and real photographs to carry them out on."""

from __future__ import annotations

import dataclasses
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from ...errors import ReportError
from ..pairs import Pixels

PHOTO_SIZE = (320, 256)
"""Width and height in pixels: reduced far enough that no trace of the files' own JPEG is left."""

PHOTOS = (
    "astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png",
    "camera.png", "retina.jpg", "coins.png",
)  # fmt: skip
"""Photographs in scikit-image's wheel (NASA, CC0 and public domain; see its data/README.txt)."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A corruption with known strengths.

    Attributes:
        key: its name.
        title: what it does, for tables.
        effect: whose measure it must move.
        strengths: from weak to strong.
        show: strength to text.
        apply: picture and strength to the corrupted picture; None for what is done to a batch.
    """

    key: str
    title: str
    effect: str
    strengths: tuple[float, ...]
    show: Callable[[float], str]
    apply: Callable[[Pixels, float], Pixels] | None = None


def photographs(size: tuple[int, int] = PHOTO_SIZE) -> list[Pixels]:
    """Return real photographs, cut to the same size.

    Args:
        size: (width, height) in pixels.

    Raises:
        ReportError: when scikit-image's pictures are missing.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ReportError(
            "The photographs come with scikit-image, which is missing: pip install scikit-image"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    return [_photograph(folder / name, size) for name in PHOTOS]


def _photograph(path: Path, size: tuple[int, int]) -> Pixels:
    if not path.is_file():
        raise ReportError(f"scikit-image lacks its photograph {path.name}; install it again.")
    with Image.open(path) as picture:
        return _pixels(ImageOps.fit(picture.convert("RGB"), size, Image.Resampling.LANCZOS))


def crush(picture: Pixels, quality: float) -> Pixels:
    """Save as JPEG of this quality and open it again."""
    file = io.BytesIO()
    _image(picture).save(file, "JPEG", quality=int(quality))
    return _pixels(Image.open(file))


def stretch(picture: Pixels, factor: float) -> Pixels:
    """Make everything this much wider, and cut the sides off."""
    height, width = picture.shape[:2]
    wide = _image(picture).resize((round(width * factor), height), Image.Resampling.BICUBIC)
    left = (wide.width - width) // 2
    return _pixels(wide.crop((left, 0, left + width, height)))


def scale_contrast(picture: Pixels, factor: float) -> Pixels:
    """Draw all colours towards the picture's mean, or, with a factor above 1, away from it."""
    mean = picture.mean()
    return _rounded(mean + (picture - mean) * factor)


def add_noise(picture: Pixels, sigma: float) -> Pixels:
    """Add Gaussian noise of this standard deviation, of the full range."""
    rng = np.random.default_rng(round(sigma * 1000))
    return _rounded(picture + rng.normal(0.0, sigma, picture.shape))


def move(picture: Pixels, share: float) -> Pixels:
    """Move everything right by this share of the width and down by half that of the height.

    What comes in at the edges is mirrored.
    """
    height, width = picture.shape[:2]
    across, down = round(width * share), round(height * share / 2)
    padded = np.pad(picture, ((down, 0), (across, 0), (0, 0)), "reflect")
    return np.ascontiguousarray(padded[:height, :width])


def _percent(strength: float) -> str:
    return f"{strength:.0%}".replace("%", " %")


CORRUPTIONS = (
    Corruption(
        "shift", "moved right and down", "composition", (0.05, 0.1, 0.2, 0.3), _percent, move
    ),
    Corruption(
        "stretch", "stretched in width", "framing", (1.05, 1.1, 1.2, 1.35, 1.5),
        lambda factor: _percent(factor - 1), stretch,
    ),
    Corruption(
        "jpeg", "JPEG quality", "compression", (60, 40, 20, 10, 5), lambda q: f"{q:.0f}", crush
    ),
    Corruption("noise", "noise", "texture", (0.02, 0.05, 0.1, 0.2), _percent, add_noise),
    Corruption(
        "contrast", "contrast times", "contrast", (0.85, 0.7, 0.5, 0.3), lambda f: f"{f:g}",
        scale_contrast,
    ),
    Corruption(
        "burn", "contrast times", "burn", (1.25, 1.5, 2, 3), lambda f: f"{f:g}", scale_contrast
    ),
    Corruption(
        "repeat", "one picture repeated in", "mode_collapse", (3 / 8, 5 / 8, 6 / 8, 1.0),
        lambda share: f"{share * 8:.0f} of 8",
    ),
)  # fmt: skip

REFERENCE_STRENGTHS = {"stretch": 1.2, "jpeg": 5, "noise": 0.1, "contrast": 0.5, "burn": 2}
"""The corruptions whose measure is index 1, as :data:`..measurement.EFFECTS` says in words."""


def _image(picture: Pixels) -> Image.Image:
    return Image.fromarray(np.round(picture * 255).astype(np.uint8))


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"), dtype=np.float32) / np.float32(255)


def _rounded(picture: np.ndarray) -> Pixels:
    """Return a picture with 8-bit colours, as a file would hold it."""
    return (np.round(np.clip(picture, 0, 1) * 255) / 255).astype(np.float32)
