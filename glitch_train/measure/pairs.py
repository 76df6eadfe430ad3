"""Paired pictures: the same prompts and seeds, once with the base and once glitched."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetError, ReportError

Pixels = NDArray[np.float32]
"""(H, W, 3), RGB in 0..1."""

MAX_PAIRS = 500
MIN_SIDE_PX = 8


@dataclasses.dataclass(frozen=True)
class PicturePairs:
    """Pairs that are read one at a time, so that many large pictures need little memory.

    Attributes:
        name: what to call the glitched run.
        names: one name per pair, for messages.
        read: index to base and glitched picture, both as they come.
    """

    name: str
    names: tuple[str, ...]
    read: Callable[[int], tuple[Any, Any]]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_PAIRS:
            raise ReportError(
                f"{self.name}: a report takes 1 to {MAX_PAIRS} pairs of pictures, got "
                f"{len(self.names)}."
            )

    def __len__(self) -> int:
        """Return how many pairs there are."""
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[Pixels, Pixels]]:
        """Yield (base, glitched) as float pixels.

        Raises:
            ReportError: for sizes that differ, NaN pixels, or arrays that are no pictures.
        """
        for index, name in enumerate(self.names):
            raw_base, raw_glitched = self.read(index)
            base = as_pixels(raw_base, f"{name} of base")
            glitched = as_pixels(raw_glitched, f"{name} of {self.name}")
            if base.shape != glitched.shape:
                raise ReportError(
                    f"{name}: base is {_size(base)} and {self.name} is {_size(glitched)} pixels; "
                    "sample both at the same size."
                )
            yield base, glitched


def pairs_of_arrays(name: str, base: Sequence[Any], glitched: Sequence[Any]) -> PicturePairs:
    """Return pairs of pictures in memory.

    Args:
        name: what to call the glitched run.
        base: B pictures, each (H, W, 3) or (H, W), uint8 or float in 0..1; a tensor or a list.
        glitched: as many, in the same order.

    Raises:
        ReportError: for unequal or unusable counts.
    """
    if len(base) != len(glitched):
        raise ReportError(
            f"There are {len(base)} base pictures and {len(glitched)} of {name}; a pair is the "
            "same prompt and seed, so sample both with the same prompts and seeds."
        )
    names = tuple(f"picture {number}" for number in range(1, len(base) + 1))
    return PicturePairs(name, names, lambda index: (base[index], glitched[index]))


def pairs_of_folders(base: Path, glitched: Path, name: str = "") -> PicturePairs:
    """Return pairs of picture files with the same name (whatever their suffix) in two folders.

    Args:
        base: folder of the base's pictures.
        glitched: folder of the glitched ones.
        name: what to call the run; the folder's name by default.

    Raises:
        ReportError: when a folder is missing, or a picture lacks its partner.
    """
    first, second = _pictures(base), _pictures(glitched)
    lonely = sorted(first.keys() ^ second.keys())
    if lonely:
        where = base if lonely[0] in first else glitched
        raise ReportError(
            f"{lonely[0]!r} is only in {where}; {len(lonely)} of {len(first | second)} pictures "
            "have no partner: pairs need the same file name in both folders."
        )
    names = tuple(sorted(first))

    def read(index: int) -> tuple[Any, Any]:
        return _open(first[names[index]]), _open(second[names[index]])

    return PicturePairs(name or glitched.name or str(glitched), names, read)


def as_pixels(picture: Any, what: str) -> Pixels:
    """Return a picture as (H, W, 3) float in 0..1.

    Args:
        picture: uint8 in 0..255 or float in 0..1; grey, RGB or RGBA (alpha is left out); array
            or tensor.
        what: what to call it in errors.

    Raises:
        ReportError: when it is no such picture, or has pixels that are no numbers.
    """
    array = np.asarray(picture.detach().cpu() if hasattr(picture, "detach") else picture)
    whole = array.dtype == np.uint8
    if not whole and not np.issubdtype(array.dtype, np.floating):
        raise ReportError(f"{what} holds {array.dtype}; pictures are uint8 or float.")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise ReportError(f"{what} has shape {array.shape}; a picture is (height, width, 3).")
    if min(array.shape[:2]) < MIN_SIDE_PX:
        raise ReportError(
            f"{what} is {_size(array)} pixels; nothing can be measured on a picture with a side "
            f"under {MIN_SIDE_PX}."
        )
    array = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    pixels = array.astype(np.float32) / (np.float32(255) if whole else np.float32(1))
    if not np.isfinite(pixels).all():
        raise ReportError(
            f"{what} has NaN or infinite pixels; the sampler or VAE overflowed: lower the LoRA's "
            "strength or CFG, or decode in fp32."
        )
    return np.ascontiguousarray(np.clip(pixels, 0.0, 1.0))


def _pictures(folder: Path) -> dict[str, Path]:
    from ..dataset.pictures import PICTURE_SUFFIXES

    if not folder.is_dir():
        raise ReportError(f"There is no folder {folder}.")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise ReportError(
                f"{folder} has both {found[path.stem].name} and {path.name}; pairs are found by "
                "name without suffix, so remove one."
            )
        found[path.stem] = path
    if not found:
        raise ReportError(f"There are no pictures in {folder}.")
    return found


def _open(path: Path) -> NDArray[np.uint8]:
    from ..dataset.pictures import open_picture

    try:
        return np.asarray(open_picture(path.read_bytes(), path.name).image)
    except DatasetError as error:
        raise ReportError(f"{path}: {error}.") from error


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"
