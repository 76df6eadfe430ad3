"""Corruptions that work on pixels; each is a frozen set of options with an ``apply``."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageOps

from ...errors import RecipeError
from ...settings import choice, integer, number
from .base import Corruption, Donor, Draws

FILTERS = ("nearest", "bilinear", "lanczos")
DIRECTIONS = ("horizontal", "vertical")

LUMA = np.array([299, 587, 114], dtype=np.uint32)
"""ITU-R 601 weights of red, green and blue, in thousandths, as in JPEG and Pillow's ``L``."""


@dataclasses.dataclass(frozen=True)
class ResolutionCrush(Corruption):
    """Shrinks the picture to a few pixels and enlarges it again."""

    width: int = integer(64, 1, 4096, "Width it is shrunk to, in pixels.")
    height: int = integer(64, 1, 4096, "Height it is shrunk to, in pixels.")
    filter: str = choice(
        "nearest", FILTERS, "How it is enlarged: nearest gives blocks, the others blur."
    )

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        small = (
            _between(image.width, min(self.width, image.width), self.amount),
            _between(image.height, min(self.height, image.height), self.amount),
        )
        how = Image.Resampling[self.filter.upper()]
        down = Image.Resampling.BOX if self.filter == "nearest" else how
        return image.resize(small, down).resize(image.size, how)


@dataclasses.dataclass(frozen=True)
class Posterize(Corruption):
    """Leaves only a few levels per colour channel."""

    bits: int = integer(2, 1, 8, "Bits left per channel; 1 leaves two levels, 8 all 256.")

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        return ImageOps.posterize(image, round(8 + (self.bits - 8) * self.amount))


@dataclasses.dataclass(frozen=True)
class ChannelShift(Corruption):
    """Moves red and blue apart, in a random direction."""

    shift: float = number(0.04, 0.0, 1.0, "How far, over the picture's longer side.")

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        angle = draws.uniform(0, 2 * np.pi)
        distance = self.shift * self.amount * max(image.size)
        x, y = round(np.cos(angle) * distance), round(np.sin(angle) * distance)
        red, green, blue = image.split()
        moved = (ImageChops.offset(red, x, y), green, ImageChops.offset(blue, -x, -y))
        return Image.merge("RGB", moved)


@dataclasses.dataclass(frozen=True)
class PixelSort(Corruption):
    """Sorts runs of pixels of middle brightness along rows or columns."""

    low: int = integer(60, 0, 255, "Darkest brightness that is sorted.")
    high: int = integer(220, 0, 255, "Brightest one that is sorted.")
    direction: str = choice("vertical", DIRECTIONS, "Along rows or along columns.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low > self.high:
            raise RecipeError(f"low must be at most high ({self.high}), got {self.low}.")

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        pixels = np.asarray(image)
        turned = pixels.transpose(1, 0, 2) if self.direction == "vertical" else pixels
        lines = np.array(turned, order="C")
        chosen = draws.random(len(lines)) < self.amount
        lines[chosen] = _sort_runs(lines[chosen], self.low, self.high)
        result = lines.transpose(1, 0, 2) if self.direction == "vertical" else lines
        return Image.fromarray(np.ascontiguousarray(result))


@dataclasses.dataclass(frozen=True)
class Scanline(Corruption):
    """Darkens lines like a tube's, and pulls bands of them sideways."""

    spacing_px: int = integer(4, 2, 256, "Every n-th row is dark, in pixels.")
    darkness: float = number(0.6, 0.0, 1.0, "How dark the rows are; 1 is black.")
    jitter: float = number(0.05, 0.0, 1.0, "Furthest pull sideways, over the picture's width.")

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        pixels = np.asarray(image).copy()
        height, width = pixels.shape[:2]
        reach = self.jitter * self.amount * width
        top = 0
        while top < height:
            band = int(draws.integers(self.spacing_px, self.spacing_px * 12))
            pull = round(draws.uniform(-reach, reach)) if draws.random() < 0.5 else 0
            pixels[top : top + band] = np.roll(pixels[top : top + band], pull, axis=1)
            top += band
        dark = pixels[:: self.spacing_px] * (1.0 - self.darkness * self.amount)
        pixels[:: self.spacing_px] = (dark + 0.5).astype(np.uint8)
        return Image.fromarray(pixels)


@dataclasses.dataclass(frozen=True)
class DatamoshBlocks(Corruption):
    """Replaces blocks by those of another picture of the folder, as a lost key frame does."""

    block_px: int = integer(16, 4, 512, "Side of a block, in pixels.")
    share: float = number(0.35, 0.0, 1.0, "Share of the picture's blocks that is replaced.")
    drift_px: int = integer(
        24, 0, 1024, "How far blocks are dragged from where they were, in pixels."
    )

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture."""
        other = donor(draws, image.size)
        if other is None:
            return image
        pixels, source = np.asarray(image).copy(), np.asarray(other)
        height, width = pixels.shape[:2]
        rows, columns = -(-height // self.block_px), -(-width // self.block_px)
        lost = _lost_blocks(rows, columns, self.share * self.amount, draws)
        drag = draws.integers(-self.drift_px, self.drift_px + 1, size=2)
        source = np.roll(source, drag, axis=(0, 1))
        mask = np.kron(lost, np.ones((self.block_px, self.block_px), dtype=bool))
        mask = mask[:height, :width]
        pixels[mask] = source[mask]
        return Image.fromarray(pixels)


def _between(full: int, crushed: int, amount: float) -> int:
    """Return a length between two, evenly in ratio."""
    return max(1, round(full * (crushed / full) ** amount))


def _sort_runs(lines: npt.NDArray[Any], low: int, high: int) -> npt.NDArray[Any]:
    """Sort each run of pixels whose brightness lies in ``low..high``, dark to bright.

    Args:
        lines: (N, length, 3) uint8.
        low: darkest brightness that is sorted.
        high: brightest.
    """
    luma = (lines.astype(np.uint32) @ LUMA) // 1000
    inside = (luma >= low) & (luma <= high)
    # A run's number goes up wherever membership changes; pixels outside keep their place because
    # each of them is a run of its own.
    starts = np.ones_like(inside)
    starts[:, 1:] = (inside[:, 1:] != inside[:, :-1]) | ~inside[:, 1:]
    runs = np.cumsum(starts, axis=1)
    order = np.argsort(runs * 256 + luma, axis=1, kind="stable")
    return np.take_along_axis(lines, order[..., None], axis=1)


def _lost_blocks(rows: int, columns: int, share: float, draws: Draws) -> npt.NDArray[Any]:
    """Return (rows, columns) bool with about ``share`` true, in runs along rows as codecs lose."""
    wanted = round(rows * columns * share)
    lost = np.zeros(rows * columns, dtype=bool)
    while lost.sum() < wanted:
        start = int(draws.integers(0, len(lost)))
        length = min(int(draws.integers(1, max(2, columns))), wanted - int(lost.sum()))
        lost[start : start + length] = True
    return lost.reshape(rows, columns)
