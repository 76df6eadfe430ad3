"""Any mode and colour space of a picture as RGB of 8 bits, in sRGB."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Mapping
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

_SAMPLE = Image.frombytes(
    "RGB", (27, 1), bytes(itertools.chain(*itertools.product((0, 128, 255), repeat=3)))
)


def to_rgb(
    image: Image.Image, background: tuple[int, int, int], tags: Mapping[int, Any]
) -> tuple[Image.Image, str]:
    """Return (RGB picture of 8 bits, note), whatever the mode.

    What has an ICC profile goes through it, but for profiles of sRGB; 16 bits are scaled, not
    clipped; transparency is flattened onto ``background``. ``tags`` are a TIFF's, else empty.
    """
    if image.mode in ("CMYK", "LAB"):
        return _in_srgb(image) or (
            image.convert("RGB"),
            f"{image.mode} converted without a profile",
        )
    if image.mode.startswith(("I", "F")):
        return _from_wide(image, tags).convert("RGB"), f"{image.mode} scaled to 8 bits"
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


def _from_wide(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """Scale integers of 16 bits, or numbers of any range, to 0..255."""
    stored = np.asarray(image)
    if image.mode == "I" and tags and tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED:
        stored = stored.view(np.uint32)
    values = stored.astype(np.float32)
    whole = image.mode.startswith("I")
    known = True if whole else np.isfinite(values)
    top, low = (float(end(initial=0.0, where=known)) for end in (values.max, values.min))
    if whole and low < 0:  # signed, so that the darkest is the lowest
        values -= low
        scale = 255.0 / (top - low)
    elif image.mode.startswith("I;16") or (whole and 255 < top <= 65535):
        scale = 1 / 257.0
    elif top > 255:
        scale = 255.0 / top
    else:
        scale = 1.0 if whole or top > LIGHTEST else 255.0
    values *= np.float32(scale)  # in place, as scans are large
    if not whole:
        np.nan_to_num(values, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    values.clip(0, 255, out=values)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        np.subtract(255, values, out=values)
    values += 0.5
    return Image.fromarray(values.astype(np.uint8))
