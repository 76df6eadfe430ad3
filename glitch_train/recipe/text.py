"""The text of a recipe: its version, its parts, and TOML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import RecipeError, quoted

RECIPE_VERSION = 2
"""Raised when a recipe written today could not be read correctly by yesterday's code."""

RECIPE_PARTS = ("dataset", "train", "origins")
MIX = "mix"


def recipe_parts(values: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the parts of a recipe that was read from somewhere, none of them missing.

    Raises:
        RecipeError: for a version that is newer or none, or an unknown part.
    """
    version = values.get("version", RECIPE_VERSION)
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise RecipeError(
            f"The version of a recipe is a whole number from 1 on, got {quoted(version)}; leave it "
            "out to mean this pack's."
        )
    if version > RECIPE_VERSION:
        raise RecipeError(
            f"This recipe has version {version}, this pack reads up to {RECIPE_VERSION}; "
            "update the pack to use it."
        )
    for name in values:
        if name not in ("version", "checkpoint", MIX, *RECIPE_PARTS):
            there = ", ".join((*RECIPE_PARTS, MIX))
            raise RecipeError(
                f"A recipe has the parts {there}, got {quoted(name)} too; settings stand below "
                "[dataset] or [train]."
            )
    parts = {name: values.get(name, {}) for name in RECIPE_PARTS}
    for name, part in parts.items():
        if not isinstance(part, Mapping):
            raise RecipeError(
                f"The part {quoted(name)} of a recipe holds names and values, got {quoted(part)}."
            )
    return parts


def mix_of(values: Mapping[str, Any]) -> list[Any]:
    """Return the parts of a mix that a recipe names, as they were read.

    Raises:
        RecipeError: it is no list.
    """
    parts = values.get(MIX, [])
    if not isinstance(parts, list):
        raise RecipeError(
            f"The mix of a recipe is a list of datasets, [[mix]] each, got {quoted(parts)}."
        )
    return parts


def parse_toml(what: object, text: str) -> dict[str, Any]:
    """Read TOML.

    Args:
        what: its file or meaning, for the error.
        text: the TOML.

    Raises:
        RecipeError: says where it is wrong.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef]
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise RecipeError(f"{what} is not valid TOML: {error}.") from error
    except RecursionError:
        raise RecipeError(f"{what} is not valid TOML: it is nested too deep.") from None
