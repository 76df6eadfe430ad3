"""Any mode and colour space of a picture as RGB of 8 bits, in sRGB."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageCms

LIGHTEST = 16.0
"""Numbers with a point that end here or below are light from 0 to 1 with highlights above it."""

SAME_COLOUR = 3
"""Of 255: profiles that move no colour by more say sRGB, each in its own way."""

PHOTOMETRIC, SAMPLE_FORMAT = 262, 339
WHITE_IS_ZERO, UNSIGNED = 0, 1
"""Tags of a TIFF and values of theirs, which Pillow heeds for 8 bits alone. Source: TIFF 6.0."""

STRIP_ROWS = 64
"""Rows of the result that are made at once."""

_SAMPLE = Image.frombytes(
    "RGB", (27, 1), bytes(itertools.chain(*itertools.product((0, 128, 255), repeat=3)))
)


def to_rgb(
    image: Image.Image,
    background: tuple[int, int, int],
    tags: Mapping[int, Any],
    smaller: int = 1,
) -> tuple[Image.Image, str]:
    """Return (RGB picture of 8 bits, note), whatever the mode.

    What has an ICC profile goes through it, but for profiles of sRGB; 16 bits are scaled, not
    clipped; transparency is flattened onto ``background``.

    Args:
        image: loaded.
        background: red, green and blue, each 0 to 255.
        tags: a TIFF's, else empty.
        smaller: how many times smaller the result is; what is converted is then never held whole.
    """
    if image.mode.startswith(("I", "F")):
        grey = _from_wide(image, tags, smaller)
        return grey.convert("RGB"), f"{image.mode} scaled to 8 bits"
    if smaller == 1:
        return _converted(image, background)
    _, note = _converted(image.crop((0, 0, 1, 1)), background)
    return in_strips(image, "RGB", lambda strip: _converted(strip, background)[0], smaller), note


def in_strips(
    image: Image.Image, mode: str, read: Callable[[Image.Image], Image.Image], smaller: int = 1
) -> Image.Image:
    """Return what ``read`` makes of an image, strip by strip: large ones fit into memory once.

    Args:
        image: loaded.
        mode: of the result.
        read: gets a strip over the whole width, and returns one of its size in ``mode``.
        smaller: how many times smaller the result is.
    """
    page = Image.new(mode, (-(-image.width // smaller), -(-image.height // smaller)))
    for number, strip in enumerate(_strips(image, smaller)):
        page.paste(read(strip).reduce(smaller), (0, number * STRIP_ROWS))
    return page


def _strips(image: Image.Image, smaller: int = 1) -> Iterator[Image.Image]:
    """Cut an image into strips that make ``STRIP_ROWS`` rows of one so many times smaller."""
    rows = STRIP_ROWS * smaller
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(image.height, top + rows)))


def _converted(image: Image.Image, background: tuple[int, int, int]) -> tuple[Image.Image, str]:
    if image.mode in ("CMYK", "LAB"):
        return _in_srgb(image) or (
            image.convert("RGB"),
            f"{image.mode} converted without a profile",
        )
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        colours, note = _in_srgb(layer) or (layer, "")
        page = Image.new("RGB", layer.size, background)
        page.paste(colours, mask=layer)
        return page, "; ".join(filter(None, (note, "transparency flattened")))
    plain = image if image.mode in ("RGB", "L") else image.convert("RGB")
    return _in_srgb(plain) or (plain if plain.mode == "RGB" else plain.convert("RGB"), "")


def _in_srgb(image: Image.Image) -> tuple[Image.Image, str] | None:
    """Return (RGB picture, note) by an ICC profile; None without one, or where it says sRGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    with contextlib.suppress(ImageCms.PyCMSError, OSError, ValueError, TypeError):
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        target = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(source, target, image.mode, "RGB")
        if image.mode in ("L", "RGB", "RGBA") and _changes_nothing(transform, image.mode):
            return None
        converted = ImageCms.applyTransform(image, transform)
        if converted is not None:
            return converted, f"{image.mode} converted by its ICC profile"
    return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    sample = _SAMPLE.convert(mode)
    moved = np.asarray(ImageCms.applyTransform(sample, transform), dtype=int)
    return bool(np.abs(moved - np.asarray(sample.convert("RGB"))).max() <= SAME_COLOUR)


def _from_wide(image: Image.Image, tags: Mapping[int, Any], smaller: int) -> Image.Image:
    """Scale integers of 16 bits, or numbers of any range, to 0..255."""
    whole = image.mode.startswith("I")
    unsigned = image.mode == "I" and tags and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED

    def numbers(strip: Image.Image) -> np.ndarray:
        stored = np.asarray(strip)
        return (stored.view(np.uint32) if unsigned else stored).astype(np.float32)

    low = top = 0.0
    for values in map(numbers, _strips(image)):
        known = values[np.isfinite(values)]
        low, top = float(known.min(initial=low)), float(known.max(initial=top))
    darkest = low if whole else 0.0  # below 0 where they are signed
    if darkest < 0:
        scale = 255.0 / (top - darkest)
    elif image.mode.startswith("I;16") or (whole and 255 < top <= 65535):
        scale = 1 / 257.0
    elif top > 255:
        scale = 255.0 / top
    else:
        scale = 1.0 if whole or top > LIGHTEST else 255.0
    negative = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO

    def grey(strip: Image.Image) -> Image.Image:
        values = (numbers(strip) - np.float32(darkest)) * np.float32(scale)
        values = np.nan_to_num(values, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255)
        return Image.fromarray(((255 - values if negative else values) + 0.5).astype(np.uint8))

    return in_strips(image, "L", grey, smaller)
