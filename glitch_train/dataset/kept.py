"""Pictures that came from a graph, kept as a folder of their own, called by what is in it."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import DatasetError
from ..file_names import check_path_lengths
from ..files import atomic_path, check_space, disk_errors_said, write_text
from ..workers import in_order
from .caption_files import is_caption
from .dataset import GlitchDataset
from .folder import is_picture, list_folder
from .load import OnProgress
from .names import MASK_ENDINGS

MASK_ENDING = MASK_ENDINGS[0]

KEY_DIGITS = 16
"""Of the content's SHA-256 in a folder's name: enough that no two sets are ever called alike."""


@dataclasses.dataclass(frozen=True)
class GivenPicture:
    """A picture without a file.

    Attributes:
        pixels: (H, W, C) uint8; grey, RGB or RGBA.
        caption: its caption; None where there is none.
        mask: (h, w) uint8, 255 where it counts in the loss; None for all of it.
    """

    pixels: np.ndarray
    caption: str | None = None
    mask: np.ndarray | None = None

    @property
    def content(self) -> bytes:
        """SHA-256 of all of it."""
        digest = hashlib.sha256()
        caption = None if self.caption is None else self.caption.encode(errors="backslashreplace")
        for part in (self.pixels, self.mask):
            digest.update(f"{None if part is None else part.shape}|".encode())
            digest.update(b"" if part is None else np.ascontiguousarray(part).data)
        digest.update(b"-" if caption is None else b"|" + caption)
        return digest.digest()


def keep_pictures(
    count: int,
    given: Callable[[int], GivenPicture],
    place: Path,
    on_progress: OnProgress | None = None,
) -> Path:
    """Write pictures into a folder as a person would lay one out, with captions and masks beside.

    The folder is called by how many they are and what is in them, so that the same pictures are
    kept once, and a recipe that names the folder names them. What is there is not written again.

    Args:
        count: how many pictures.
        given: number of a picture, from 0, to the picture; asked for twice, so that not all need to
            be in memory.
        place: where such folders lie.
        on_progress: called with (pictures done, pictures in all).

    Returns:
        The folder: ``place/pictures_12_…``, in it ``00001.png`` and so on.

    Raises:
        DatasetError: pictures or captions of another set lie in it.
        DiskError: the disk does not take it.
    """
    digest, size = hashlib.sha256(), 0
    for number in range(count):
        picture = given(number)
        digest.update(picture.content)
        size += picture.pixels.nbytes + (0 if picture.mask is None else picture.mask.nbytes)
    folder = place / f"pictures_{count}_{digest.hexdigest()[:KEY_DIGITS]}"
    check_path_lengths(folder / f"{_stem(count)}{MASK_ENDING}.png")
    if not folder.is_dir():
        check_space({folder: size}, "free space there")
    with disk_errors_said(folder):
        names = in_order(lambda number: _keep(given(number), folder / _stem(number)), range(count))
        kept: set[str] = set()
        for number, written in enumerate(names, start=1):
            kept |= written
            if on_progress:
                on_progress(number, count)
    others = [name for name in _read_names(folder) if name not in kept]
    if others:
        raise DatasetError(
            f"{folder} holds {others[0]}, which is not of the pictures that were kept there; move "
            "what was put into that folder to one of your own."
        )
    return folder


def _stem(number: int) -> str:
    return f"{number + 1:05}"


def _keep(picture: GivenPicture, stem: Path) -> set[str]:
    """Write what belongs to one picture; return the names of its files."""
    names = {f"{stem.name}.png"}
    _write_png(stem.with_name(f"{stem.name}.png"), picture.pixels)
    if picture.mask is not None:
        mask = stem.with_name(f"{stem.name}{MASK_ENDING}.png")
        _write_png(mask, picture.mask)
        names.add(mask.name)
    if picture.caption is not None:
        caption = stem.with_name(f"{stem.name}.txt")
        write_text(caption, picture.caption)
        names.add(caption.name)
    return names


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG unless it is there: a run's state knows its pictures by their files' bytes."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    if not _shows(path, image):
        with atomic_path(path) as part:
            image.save(part, "PNG", compress_level=1)


def _shows(path: Path, image: Image.Image) -> bool:
    """Say whether a file is there and holds just these pixels."""
    try:
        with Image.open(path) as there:
            same = (there.mode, there.size) == (image.mode, image.size)
            return same and there.tobytes() == image.tobytes()
    except (OSError, SyntaxError):  # not there, or damaged: Pillow raises both
        return False


def _read_names(folder: Path) -> list[str]:
    """Return the files of a folder that would be read as pictures, captions or masks."""
    entries = list_folder(folder)
    return [name for name in entries.files if is_picture(name) or is_caption(name)] + [
        *entries.masks
    ]


def check_all_used(dataset: GlitchDataset) -> None:
    """Refuse a dataset of kept pictures that leaves one out: nobody looks into their folder.

    Raises:
        DatasetError: names the first, by its number, and the reason.
    """
    for file in dataset.skipped:
        number = Path(file.name).stem
        if number.isdigit():
            raise DatasetError(f"Picture {int(number)} cannot be trained: {file.reason}.")
