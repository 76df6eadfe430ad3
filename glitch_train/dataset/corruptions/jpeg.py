"""Corruptions by real JPEG encoding: libjpeg through Pillow."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops

from ...errors import RecipeError
from ...settings import choice, integer, number
from .base import Corruption, Donor, Draws

SUBSAMPLINGS = ("4:4:4", "4:2:0")
HARMLESS_QUALITY = 95
"""JPEG quality at amount 0: no visible loss, and the highest that libjpeg's guide recommends."""

_START_OF_SCAN = b"\xff\xda"
_END_OF_IMAGE = b"\xff\xd9"


@dataclasses.dataclass(frozen=True)
class JpegCrush(Corruption):
    """Saves the picture as a bad JPEG, again and again."""

    quality_low: int = integer(5, 1, 95, "Lowest JPEG quality; each variant draws its own.")
    quality_high: int = integer(30, 1, 95, "Highest JPEG quality.")
    generations: int = integer(1, 1, 100, "How often the picture is saved and opened again.")
    shift_px: int = integer(
        0, 0, 7, "Pixels by which the picture moves between generations, so that blocks pile up."
    )
    subsampling: str = choice(
        "4:2:0", SUBSAMPLINGS, "Colour resolution: 4:4:4 full, 4:2:0 a quarter (smeared colour)."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.quality_low > self.quality_high:
            raise RecipeError(
                f"quality_low must be at most quality_high ({self.quality_high}), "
                f"got {self.quality_low}."
            )

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        drawn = int(draws.integers(self.quality_low, self.quality_high + 1))
        quality = round(HARMLESS_QUALITY + (drawn - HARMLESS_QUALITY) * self.amount)
        for generation in range(self.generations):
            # There and back again, so that the picture stays in place.
            moved = self.shift_px * (generation % 8)
            shifted = ImageChops.offset(image, moved, moved)
            image = ImageChops.offset(
                decode_jpeg(encode_jpeg(shifted, quality, self.subsampling)), -moved, -moved
            )
        return image


@dataclasses.dataclass(frozen=True)
class Bitstream(Corruption):
    """Flips bits in the compressed data of a JPEG and decodes what is left."""

    flips: int = integer(12, 1, 10_000, "How many bytes get a flipped bit.")
    quality: int = integer(75, 1, 95, "JPEG quality of the stream; lower reaches further.")
    start: float = number(
        0.0, 0.0, 1.0, "Where damage may begin, over the stream's length: 0.5 spares the top half."
    )

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        stream = encode_jpeg(image, self.quality, "4:2:0")
        places = scan_bytes(stream)
        places = places[int(len(places) * self.start) :]
        flips = max(1, round(self.flips * self.amount))
        chosen = places[draws.permutation(len(places))[:flips]]
        bits = draws.integers(0, 8, size=len(chosen))
        while len(chosen):
            damaged = flip_bits(stream, chosen, bits)
            try:
                decoded = decode_jpeg(damaged)
            except (OSError, SyntaxError, ValueError):
                # Beyond what libjpeg recovers from: spare half of the bytes.
                chosen, bits = chosen[: len(chosen) // 2], bits[: len(bits) // 2]
                continue
            return decoded if decoded.size == image.size else image
        return image


def encode_jpeg(image: Image.Image, quality: int, subsampling: str) -> bytes:
    """Return a picture as baseline JPEG.

    Args:
        image: RGB.
        quality: 1 to 95.
        subsampling: ``4:4:4`` or ``4:2:0``.
    """
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return stream.getvalue()


def decode_jpeg(stream: bytes) -> Image.Image:
    """Return the picture in a JPEG, RGB."""
    with Image.open(io.BytesIO(stream)) as opened:
        return opened.convert("RGB")


def scan_bytes(stream: bytes) -> npt.NDArray[Any]:
    """Return the positions of a baseline JPEG's compressed bytes, markers left out.

    Bytes 0xFF and what follows them are left out too: they tell markers from data.
    """
    header = stream.index(_START_OF_SCAN)
    begin = header + 2 + int.from_bytes(stream[header + 2 : header + 4], "big")
    end = stream.rindex(_END_OF_IMAGE)
    values = np.frombuffer(stream, dtype=np.uint8)[begin:end]
    marker = values == 0xFF
    marker[1:] |= values[:-1] == 0xFF
    return np.flatnonzero(~marker) + begin


def flip_bits(stream: bytes, places: npt.NDArray[Any], bits: npt.NDArray[Any]) -> bytes:
    """Return the stream with one bit flipped in each of some bytes; none becomes a marker.

    Args:
        stream: a JPEG.
        places: positions of bytes.
        bits: which bit of each, 0 to 7.
    """
    values = np.frombuffer(stream, dtype=np.uint8).copy()
    flipped = values[places] ^ (1 << bits).astype(np.uint8)
    values[places] = np.where(flipped == 0xFF, flipped ^ 0x81, flipped)
    return values.tobytes()
