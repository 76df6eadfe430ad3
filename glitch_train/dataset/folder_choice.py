"""The picture folders a person may choose from, and nothing outside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DatasetError

MAX_DEPTH = 4
MAX_CHOICES = 2000
ROOT_ITSELF = "."

Root = tuple[str, Path]
"""What its choices begin with, and the folder; the first root's begin with nothing."""


def folder_choices(roots: Sequence[Root]) -> list[str]:
    """Return what a list of folders offers: ``name`` below the first root, ``label name`` others.

    Args:
        roots: where folders may lie.
    """
    found = [ROOT_ITSELF]
    for label, root in roots:
        found += [label + path for path in _folders_below(root.resolve())]
    return found[:MAX_CHOICES]


def resolve_choice(choice: str, roots: Sequence[Root]) -> Path:
    """Return the folder behind a choice.

    Args:
        choice: an entry of :func:`folder_choices`.
        roots: where folders may lie.

    Raises:
        DatasetError: when the folder is missing or lies outside the roots.
    """
    for label, unresolved in reversed(roots):  # the first root, whose label is empty, last
        root = unresolved.resolve()
        if choice.startswith(label):
            try:
                folder = (root / choice[len(label) :]).resolve()
            except ValueError:  # a name that no file system takes
                continue
            if not _inside(folder, root):
                raise DatasetError(
                    f"The folder {choice!r} lies outside {root}; choose one inside it."
                )
            if os.path.isdir(folder):
                return folder
    raise DatasetError(
        f"There is no folder {choice!r}; put your pictures into a folder below {roots[0][1]} and "
        "refresh the node list (key R)."
    )


def _folders_below(root: Path) -> list[str]:
    found: list[str] = []
    for current, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        here = Path(current).relative_to(root)
        found += [(here / name).as_posix() for name in names]
        if len(here.parts) + 1 >= MAX_DEPTH:
            names.clear()
        if len(found) > MAX_CHOICES:
            break
    return sorted(found)


def _inside(folder: Path, root: Path) -> bool:
    return folder == root or root in folder.parents
