"""Settings written as ``name=value``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..errors import RecipeError, quoted
from ..settings import declared, nearest

if TYPE_CHECKING:
    from .recipe import Recipe


_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def with_assignments(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Return a recipe with some settings replaced.

    Args:
        recipe: the recipe.
        assignments: ``name=value`` each, of either half of the recipe; of every part of a mix.

    Raises:
        RecipeError: for an unknown name (the nearest are offered) or a value that does not fit.
    """
    halves: dict[str, dict[str, Any]] = {"dataset": {}, "train": {}}
    known = {
        name: (half, field)
        for half in halves
        for name, (field, _) in declared(type(getattr(recipe, half))).items()
    }
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        name = name.strip()
        if not equals:
            raise RecipeError(f"--set takes name=value, got {quoted(assignment)}.")
        if name not in known:
            raise RecipeError(f"There is no setting called {quoted(name)}{nearest(name, known)}")
        half, field = known[name]
        halves[half][name] = read_value(name, text.strip(), type(field.default))
    recipe = recipe.with_datasets(lambda one: dataclasses.replace(one, **halves["dataset"]))
    train = dataclasses.replace(recipe.train, **halves["train"])
    replaced = {name for values in halves.values() for name in values}
    origins = {name: who for name, who in recipe.origins.items() if name not in replaced}
    return dataclasses.replace(recipe, train=train, origins=origins)


def read_value(name: str, text: str, kind: type) -> Any:
    """Return a setting's value from what a person typed.

    Args:
        name: of the setting, for the error.
        text: what was typed.
        kind: ``bool``, ``int``, ``float`` or ``str``.

    Raises:
        RecipeError: when it is not of that kind.
    """
    if kind is bool:
        if text.lower() not in _YES + _NO:
            raise RecipeError(f"{name} must be true or false, got {quoted(text)}.")
        return text.lower() in _YES
    try:
        return kind(text)
    except ValueError as error:
        whole = "whole " if kind is int else ""
        raise RecipeError(f"{name} must be a {whole}number, got {quoted(text)}.") from error
