"""Recipe settings as command-line options, made from their declarations."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .errors import RecipeError
from .settings import declared, nearest

if TYPE_CHECKING:
    from .recipe import Recipe

_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def add_settings(
    parser: argparse.ArgumentParser, recipe_type: type, *, without: tuple[str, ...] = ()
) -> None:
    """Give a verb one option per setting: ``--caption-dropout`` and ``--caption_dropout``.

    An option that is not given leaves the recipe's value alone. Values are checked by the recipe.

    Args:
        parser: the verb's parser.
        recipe_type: a dataclass declared with :mod:`glitch_train.settings`.
        without: settings that the verb offers in another way.
    """
    group = parser.add_argument_group("recipe settings")
    for name, (field, setting) in declared(recipe_type).items():
        if name in without:
            continue
        flags = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        about: dict[str, Any] = {
            "dest": name,
            "default": None,
            "help": f"{setting.help} (default: {field.default!r})".replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            group.add_argument(*flags, action=argparse.BooleanOptionalAction, **about)
        elif setting.choices:
            group.add_argument(*flags, choices=setting.choices, **about)
        else:
            about["metavar"] = type(field.default).__name__.upper()
            group.add_argument(*flags, type=type(field.default), **about)


def read_settings(
    options: argparse.Namespace, recipe_type: type, *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the settings that were given on the command line."""
    given = vars(options)
    names = (name for name in declared(recipe_type) if name not in without)
    return {name: given[name] for name in names if given.get(name) is not None}


def with_assignments(recipe: Recipe, assignments: Iterable[str]) -> Recipe:
    """Return a recipe with some settings replaced.

    Args:
        recipe: the recipe.
        assignments: ``name=value`` each, of either half of the recipe.

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
            raise RecipeError(f"--set takes name=value, got {assignment!r}.")
        if name not in known:
            raise RecipeError(f"There is no setting called {name!r}{nearest(name, known) or '.'}")
        half, field = known[name]
        halves[half][name] = read_value(name, text.strip(), type(field.default))
    changed = {
        half: dataclasses.replace(getattr(recipe, half), **values)
        for half, values in halves.items()
        if values
    }
    replaced = {name for values in halves.values() for name in values}
    origins = {name: who for name, who in recipe.origins.items() if name not in replaced}
    return dataclasses.replace(recipe, **changed, origins=origins)


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
            raise RecipeError(f"{name} must be true or false, got {text!r}.")
        return text.lower() in _YES
    try:
        return kind(text)
    except ValueError as error:
        whole = "whole " if kind is int else ""
        raise RecipeError(f"{name} must be a {whole}number, got {text!r}.") from error
