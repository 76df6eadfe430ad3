"""The host's folders: where pictures may lie, and where the cache goes."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..glitch_train.dataset.folder_choice import Root, folder_choices, resolve_choice
from ..glitch_train.errors import DatasetError

EXTRA_KINDS = ("datasets", "glitch_datasets")
"""Kinds of folder in the host's path registry; the second can be set in extra_model_paths.yaml."""

CACHE_KIND = "glitch_cache"
"""Kind of folder that extra_model_paths.yaml may set for the lasting cache."""


def choices() -> list[str]:
    """Return what the folder combo offers: ``name`` below input, ``kind: name`` elsewhere.

    Its first entry, and so the default, asks for a choice; `resolve` refuses it in a sentence.
    """
    return folder_choices(_roots())


def resolve(choice: str) -> Path:
    """Return the folder behind a choice.

    Args:
        choice: an entry of :func:`choices`, in a workflow of Windows perhaps with backslashes.

    Raises:
        DatasetError: when none is chosen, it is missing or lies outside the allowed roots.
    """
    try:
        return resolve_choice(choice, _roots())
    except DatasetError:
        slashed = choice.replace("\\", "/")
        if slashed == choice:
            raise
        return resolve_choice(slashed, _roots())


def temporary_cache() -> Path:
    """Return where encoded pictures and captions are kept until the host starts again."""
    return Path(folder_paths.get_temp_directory()) / "glitch_cache"


def lasting_cache() -> Path:
    """Return where they are kept for good: ``glitch_cache`` in the path registry, or output."""
    registered = _registered(CACHE_KIND)
    output = Path(folder_paths.get_output_directory()) / "glitch" / "cache"
    return Path(registered[0]) if registered else output


def kept_pictures() -> Path:
    """Return where pictures are kept that came from the graph, a folder for each set of them."""
    return Path(folder_paths.get_output_directory()) / "glitch" / "pictures"


def _roots() -> list[Root]:
    roots = [("", Path(folder_paths.get_input_directory()))]
    for kind in EXTRA_KINDS:
        roots += [(f"{kind}: ", Path(path)) for path in _registered(kind)]
    return roots


def _registered(kind: str) -> list[str]:
    return folder_paths.folder_names_and_paths.get(kind, ([], set()))[0]
