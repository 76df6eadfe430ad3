"""How a picture meets the training shape: pure geometry with Pillow."""

from __future__ import annotations

import dataclasses

from PIL import Image

FRAMINGS = ("center_crop", "stretch")


@dataclasses.dataclass(frozen=True)
class Framed:
    """A picture in its training shape, and how it got there.

    Attributes:
        image: RGB picture of the training shape.
        original_size: (width, height) of the source, in pixels.
        crop_top_left: (left, top) of the crop in the resized picture, in pixels.
    """

    image: Image.Image
    original_size: tuple[int, int]
    crop_top_left: tuple[int, int]


def frame(image: Image.Image, framing: str, width: int, height: int) -> Framed:
    """Bring a picture to the training shape.

    Args:
        image: RGB source of any size.
        framing: one of :data:`FRAMINGS`.
        width: target width in pixels.
        height: target height in pixels.

    Returns:
        The framed picture with the geometry that SDXL's size and crop conditioning needs.
    """
    if framing == "stretch":
        stretched = image.resize((width, height), Image.Resampling.LANCZOS)
        return Framed(stretched, image.size, (0, 0))
    return _center_crop(image, width, height)


def _center_crop(image: Image.Image, width: int, height: int) -> Framed:
    """Resize to cover the target, then cut the middle out (kohya's rule without buckets)."""
    cover = max(width / image.width, height / image.height)
    resized = (max(width, round(image.width * cover)), max(height, round(image.height * cover)))
    left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
    covered = image.resize(resized, Image.Resampling.LANCZOS)
    cropped = covered.crop((left, top, left + width, top + height))
    return Framed(cropped, image.size, (left, top))
