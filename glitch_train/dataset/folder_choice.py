"""The picture folders a person may choose from, and nothing outside them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DatasetError
from .names import is_system_folder, same_name

MAX_DEPTH = 4
MAX_CHOICES = 2000
NOT_CHOSEN = "choose a folder below input/"
"""What a list of folders begins with: no folder's name ends with a slash, so it hides none."""
ALL_OF_FIRST = "all of input/"
"""The whole first root, by a name that is only there on purpose."""

Root = tuple[str, Path]
"""What its choices begin with, and the folder; the first root's begin with nothing."""


def folder_choices(roots: Sequence[Root]) -> list[str]:
    """Return what a list of folders offers: ``name`` below the first root, ``label name`` others.

    It begins with an entry that is no folder, so that none is chosen until a person does.

    Args:
        roots: where folders may lie.
    """
    found: list[str] = []
    resolved = [Path(os.path.realpath(root)) for _, root in roots]
    for (label, _), root in zip(roots, resolved, strict=True):
        found += [label + path for path in _folders_below(root, resolved)]
    return [NOT_CHOSEN, *found[: MAX_CHOICES - 2], ALL_OF_FIRST]


def resolve_choice(choice: str, roots: Sequence[Root]) -> Path:
    """Return the folder behind a choice.

    Args:
        choice: an entry of :func:`folder_choices`.
        roots: where folders may lie.

    Raises:
        DatasetError: when none is chosen, or the folder is missing or lies outside the roots.
    """
    if choice in (NOT_CHOSEN, ""):
        raise DatasetError(
            "No folder is chosen yet; choose the folder of your pictures (a new one below "
            f"{roots[0][1]} is offered after key R)."
        )
    if os.path.normpath(choice) == ".":  # once the default, so that nobody need have meant it
        raise DatasetError(
            f"The folder {choice!r}, the older name for everything in {roots[0][1]}, is no longer "
            f"a choice; choose the folder of your pictures, or {ALL_OF_FIRST!r} for all of them."
        )
    if choice == ALL_OF_FIRST:
        return Path(os.path.realpath(roots[0][1]))
    resolved = [Path(os.path.realpath(root)) for _, root in roots]
    for (label, _), root in reversed(list(zip(roots, resolved, strict=True))):
        if choice.startswith(label):  # the first root, whose label is empty, is tried last
            try:
                folder = Path(os.path.realpath(root / choice[len(label) :]))
            except ValueError:  # no file system takes it
                continue
            inside = next((one for one in resolved if folder.is_relative_to(one)), None)
            if inside is None:
                raise DatasetError(_outside(choice, root / choice[len(label) :], folder, root))
            if any(map(is_system_folder, folder.relative_to(inside).parts)):
                raise DatasetError(
                    f"The folder {choice!r} is hidden or the system's own, for thumbnails or "
                    "deleted files; choose the folder that your pictures lie in."
                )
            if os.path.isdir(folder):
                return folder
    spelt = [one for one in folder_choices(roots) if same_name(one) == same_name(choice)]
    if spelt and choice not in spelt:
        return resolve_choice(spelt[0], roots)
    raise DatasetError(
        f"There is no folder {choice!r}; put your pictures into a folder below {roots[0][1]} and "
        "refresh the node list (key R)."
    )


def _outside(choice: str, place: Path, folder: Path, root: Path) -> str:
    if os.path.normpath(place) == os.path.normpath(folder) or ".." in Path(choice).parts:
        return f"The folder {choice!r} lies outside {root}; choose one inside it."
    return (
        f"The folder {choice!r} is a link to {folder}, which lies outside {root}; name that folder "
        "in extra_model_paths.yaml under glitch_datasets, or copy its pictures into one inside."
    )


def _folders_below(root: Path, roots: Sequence[Path]) -> list[str]:
    found: list[str] = []
    for current, names, _ in os.walk(root):
        names[:] = sorted(name for name in names if not is_system_folder(name))
        here = Path(current).relative_to(root)
        found += [(here / name).as_posix() for name in names if _is_offered(current, name, roots)]
        if len(here.parts) + 1 >= MAX_DEPTH:
            names.clear()
        if len(found) > MAX_CHOICES:
            break
    return sorted(found)


def _is_offered(current: str, name: str, roots: Sequence[Path]) -> bool:
    """Say whether a folder can be chosen; a link may lead out of all of them."""
    path = Path(current, name)
    target = Path(os.path.realpath(path))
    return not path.is_symlink() or any(target.is_relative_to(root) for root in roots)
