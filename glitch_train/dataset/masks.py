"""Which part of a picture counts in the loss: a mask beside it, or its own transparency."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from PIL import Image

from ..drawing.sizes import Size
from ..errors import DatasetError
from ..wording import shown_name
from .names import LOSS_MASK_ENDINGS, stem_of
from .pictures import open_alpha, open_picture

BLACK = (0, 0, 0)

ASPECT_GAP = 0.02
"""A mask's aspect ratio may be so much off its picture's: rounded to whole pixels once more."""


@dataclasses.dataclass(frozen=True, slots=True)
class SampleMask:
    """Where a picture's mask is.

    Attributes:
        name: the file; the picture's own for its transparency.
        content: SHA-256 of the file's bytes, hexadecimal.
    """

    name: str
    content: str


class FolderMasks:
    """The masks of a folder's pictures, and what becomes of each mask file.

    Attributes:
        choice: the recipe's ``masks``.
        used: mask files that a picture is trained with.
    """

    def __init__(self, choice: str, owners: Mapping[str, str]) -> None:
        """Find each picture's mask by its name.

        Args:
            choice: the recipe's ``masks``.
            owners: files that other tools put beside pictures, to the stem of the picture.
        """
        self.choice = choice
        self.used: set[str] = set()
        self._of: dict[str, list[str]] = {}
        for name in sorted(filter(_rank, owners), key=lambda name: (_rank(name), name)):
            self._of.setdefault(owners[name], []).append(name)
        self._owners = owners

    def file_of(self, picture: str) -> str:
        """Return the file that a picture's mask is in; empty where there is none to look into."""
        if self.choice == "alpha":
            return picture
        found = self._of.get(stem_of(picture), []) if self.choice == "beside" else []
        return found[0] if found else ""

    @property
    def remark_without(self) -> str:
        """What is remarked of a picture without a mask; empty where none is asked for."""
        missing = {"beside": "no mask beside it", "alpha": "no transparency"}.get(self.choice)
        return f"{missing}: all of it counts" if missing else ""

    def why_unused(self, name: str, owners: Mapping[str, str]) -> str:
        """Return the reason against a mask file that no picture took.

        Args:
            name: the file.
            owners: as :func:`.names.by_calling` has them.
        """
        owner = self._owners[name]
        if self.choice != "beside" or not _rank(name):
            return (
                f"a mask or conditioning picture of {owner}, by its name: not trained as a picture"
            )
        best = self._of[owner][0]
        if best != name:
            return f"a mask of {owner}: {best} is used instead"
        theirs = owners.get(owner)
        return f"its picture {theirs} is skipped" if theirs else "a mask without a picture"


def open_mask(raw: bytes, name: str, *, alpha: bool) -> Image.Image | None:
    """Return a mask, mode L, upright: 255 where the picture counts; None where all of it does.

    Args:
        raw: the whole file.
        name: its name, for messages and for its suffix.
        alpha: whether it is the picture itself, whose transparency is the mask.

    Raises:
        DatasetError: says what is wrong with the file, without its name.
    """
    if alpha:
        return open_alpha(raw, name)
    return open_picture(raw, name, background=BLACK).image.convert("L")


def check_mask(mask: Image.Image, name: str, size: Size) -> None:
    """Refuse a mask that cannot be its picture's.

    Args:
        mask: as :func:`open_mask` gave it; it may be smaller or larger than the picture.
        name: of its file.
        size: of the picture, upright.

    Raises:
        DatasetError: says why, for the picture's line in the report.
    """
    width, height = mask.size
    if abs(width * size[1] / (height * size[0]) - 1) > ASPECT_GAP:
        raise DatasetError(
            f"its mask {shown_name(name)} is {width}×{height}, another shape than the picture's "
            f"{size[0]}×{size[1]}"
        )
    if mask.getextrema()[1] == 0:
        raise DatasetError(f"its mask in {shown_name(name)} is black, so that nothing would count")


def _rank(name: str) -> int:
    """Return 1 for the best kind of mask file and so on, and 0 for what is no mask of a loss."""
    stem = stem_of(name).lower()
    for rank, ending in enumerate(LOSS_MASK_ENDINGS, start=1):
        if stem.endswith(ending):
            return rank
    return 0
