"""The picture folders a person may choose from, and nothing outside them."""

from __future__ import annotations

import os
from pathlib import Path

import folder_paths

from ..glitch_train.errors import DatasetError

EXTRA_KINDS = ("datasets", "glitch_datasets")
"""Kinds of folder in the host's path registry; the second can be set in extra_model_paths.yaml."""

CACHE_KIND = "glitch_cache"
"""Kind of folder that extra_model_paths.yaml may set for the lasting cache."""

MAX_DEPTH = 4
MAX_CHOICES = 2000
INPUT_ITSELF = "."


def choices() -> list[str]:
    """Return what the folder combo offers: ``name`` below input, ``kind: name`` elsewhere."""
    found = [INPUT_ITSELF]
    for label, root in _roots():
        found += [label + path for path in _folders_below(root)]
    return found[:MAX_CHOICES]


def resolve(choice: str) -> Path:
    """Return the folder behind a choice.

    Args:
        choice: an entry of :func:`choices`.

    Raises:
        DatasetError: when the folder is missing or lies outside the allowed roots.
    """
    for label, root in reversed(_roots()):  # the bare input root, whose label is empty, last
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
        f"There is no folder {choice!r}; put your pictures into a folder below "
        f"{folder_paths.get_input_directory()} and refresh the node list (key R)."
    )


def temporary_cache() -> Path:
    """Return where encoded pictures and captions are kept until the host starts again."""
    return Path(folder_paths.get_temp_directory()) / "glitch_cache"


def lasting_cache() -> Path:
    """Return where they are kept for good: ``glitch_cache`` in the path registry, or output."""
    registered = folder_paths.folder_names_and_paths.get(CACHE_KIND, ([], set()))[0]
    output = Path(folder_paths.get_output_directory()) / "glitch" / "cache"
    return Path(registered[0]) if registered else output


def _roots() -> list[tuple[str, Path]]:
    roots = [("", Path(folder_paths.get_input_directory()).resolve())]
    for kind in EXTRA_KINDS:
        registered = folder_paths.folder_names_and_paths.get(kind, ([], set()))[0]
        roots += [(f"{kind}: ", Path(path).resolve()) for path in registered]
    return roots


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
