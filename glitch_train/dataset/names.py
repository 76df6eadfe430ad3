"""What a file or folder is, by its name: another spelling, a mask, a system's own."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path

MASK_ENDINGS = ("-masklabel", "-condlabel")
"""Of a mask and of a conditioning picture beside the picture they belong to.
Source: OneTrainer, docs/MaskedTraining and its data loaders."""

MASK_ENDINGS_BESIDE_A_PICTURE = ("-mask", "_mask", ".mask", "-depth", "_depth")
"""As other tools call theirs. They are words of pictures as well, so that they say a mask only
where the picture without them is there."""

LOSS_MASK_ENDINGS = ("-masklabel", "-mask", "_mask", ".mask")
"""Of these, what says where a picture counts; the best first."""

SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin"),  # Synology
        *("@recycle", "@recently-snapshot", "@transcode"),  # QNAP
        *("$recycle.bin", "recycler", "system volume information"),  # Windows
        *("__macosx", "network trash folder", "temporary items"),  # macOS
        *("lost+found", "__pycache__"),
    }
)
"""Folders of small copies, deleted files and the like, in small letters; hidden ones, whose names
begin with a dot, are known by that."""


def same_name(name: str) -> str:
    """Return one spelling of a name: macOS writes é as e and an accent, Linux as it was typed."""
    return unicodedata.normalize("NFC", name)


def stem_of(name: str) -> str:
    """Return a file's name without its ending, in one spelling."""
    return same_name(Path(name).stem)


def callings(picture: str) -> tuple[str, str]:
    """Return what a file beside a picture may be called without its ending, the usual one first."""
    return stem_of(picture), same_name(picture)


def by_calling(pictures: Iterable[str]) -> dict[str, str]:
    """Return a picture for each of the :func:`callings` of all, readable or not."""
    named = [(callings(picture), picture) for picture in sorted(pictures, reverse=True)]
    whole = {full: picture for (_, full), picture in named}
    return whole | {stem: picture for (stem, _), picture in named}


def by_letters(names: Iterable[str]) -> dict[str, str]:
    """Return names by their small letters, without those that differ in capitals alone.

    Windows and macOS take ``IMG_1`` and ``img_1`` for the same name.
    """
    found: dict[str, list[str]] = {}
    for name in set(names):
        found.setdefault(name.casefold(), []).append(name)
    return {letters: alike[0] for letters, alike in found.items() if len(alike) == 1}


def is_system_folder(name: str) -> bool:
    """Say whether a folder is hidden or a system's own."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def masked_stem(name: str, stems: Collection[str]) -> str | None:
    """Return the stem of the picture that a mask of another tool belongs to; None for no mask.

    Args:
        name: a picture file's name.
        stems: those of all pictures beside it, from :func:`stem_of`.
    """
    stem = stem_of(name)
    for ending in (*MASK_ENDINGS, *MASK_ENDINGS_BESIDE_A_PICTURE):
        owner = stem[: -len(ending)]
        if stem.lower().endswith(ending) and (ending in MASK_ENDINGS or owner in stems):
            return owner
    return None
