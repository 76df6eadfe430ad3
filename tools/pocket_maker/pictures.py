"""Training pictures: crops of the demo's photographs, whole, mirrored, stretched, corrupted."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass

import torch
from PIL import Image, ImageOps
from torch import Tensor

from glitch_demo.photos import Photo
from glitch_demo.pocket_vae import PICTURE_PX, to_tensor

STORED_PX = 320  # the shorter side of a photograph's best part, before crops are taken from it
MAX_STRETCH = 1.9
KINDS, SHARES = ("clean", "jpeg", "noise", "contrast"), (44, 26, 18, 12)
QUALITIES = (3, 4, 5, 5, 6, 8, 10, 12, 16, 20, 30, 40)
CRUSHED_AT, CLEAN_AT = 8, 48
NOISE = (0.015, 0.16)
LOUD_NOISE = 0.1
BROKEN = 1.5


@dataclass(frozen=True)
class Source:
    """A photograph in memory, reduced, with the part worth looking at."""

    picture: Image.Image
    box: tuple[float, float, float, float]


def source(photo: Photo) -> Source:
    """Open a photograph and reduce it.

    Args:
        photo: one of `demo_photos()`.
    """
    picture = photo.open()
    left, top, right, bottom = photo.box
    scale = STORED_PX / min(right - left, bottom - top)
    size = (round(picture.width * scale), round(picture.height * scale))
    return Source(
        picture.resize(size, Image.Resampling.LANCZOS),
        (left * scale, top * scale, right * scale, bottom * scale),
    )


def crop(of: Source, rng: random.Random, whole: float = 0.0, stretched: float = 0.0) -> Image.Image:
    """Return a random crop of 128 × 128 px, every second one mirrored.

    Args:
        of: the photograph.
        rng: where chance comes from.
        whole: share of crops from all of the photograph instead of its best part.
        stretched: share of crops that are squeezed from a rectangle.
    """
    left, top, right, bottom = of.box
    if rng.random() < whole:
        left, top, right, bottom = 0.0, 0.0, of.picture.width, of.picture.height
    side = rng.uniform(0.8, 1.0) * min(right - left, bottom - top)
    width = height = side
    if rng.random() < stretched:
        factor = rng.uniform(1.0, MAX_STRETCH)
        width, height = rng.choice(((side / factor, side), (side, side / factor)))
        if rng.random() < 0.5:  # all of the picture, as a loader without buckets squeezes it
            left, top, width, height = 0.0, 0.0, of.picture.width, of.picture.height
            right, bottom = width, height
    x, y = rng.uniform(left, right - width), rng.uniform(top, bottom - height)
    part = of.picture.resize(
        (PICTURE_PX, PICTURE_PX), Image.Resampling.LANCZOS, (x, y, x + width, y + height)
    )
    return ImageOps.mirror(part) if rng.random() < 0.5 else part


def corrupted(picture: Image.Image, rng: random.Random) -> tuple[Tensor, float]:
    """Return a picture, perhaps corrupted, and how broken it is.

    Args:
        picture: 128 × 128 px.
        rng: where chance comes from.

    Returns:
        (3, 128, 128) in 0..1; 0 for a clean picture, up to 1.5 for crushed, -1.5 for noisy ones.
    """
    kind = rng.choices(KINDS, SHARES)[0]
    if kind == "jpeg":
        quality = rng.choice(QUALITIES)
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        told = min(1.0, (CLEAN_AT - quality) / (CLEAN_AT - CRUSHED_AT))
        return to_tensor(Image.open(buffer).convert("RGB")), BROKEN * told
    clean = to_tensor(picture)
    if kind == "noise":
        sigma = math.exp(rng.uniform(*map(math.log, NOISE)))
        generator = torch.Generator().manual_seed(rng.getrandbits(40))
        planes = 3 if rng.random() < 0.7 else 1
        noise = torch.randn(planes, PICTURE_PX, PICTURE_PX, generator=generator)
        return (clean + sigma * noise).clamp(0, 1), -BROKEN * min(1.0, sigma / LOUD_NOISE)
    if kind == "contrast":
        factor = rng.choice((rng.uniform(0.25, 1.0), rng.uniform(1.0, 2.2)))
        return ((clean - clean.mean()) * factor + clean.mean()).clamp(0, 1), 0.0
    return clean, 0.0
