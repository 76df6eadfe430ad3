"""Declare a setting once: default, range, choices and meaning, next to its name.

A recipe dataclass declares its fields with the helpers below. Validation, the nodes' widgets and
tooltips, and the command line's options are all read from these declarations, so they cannot
disagree.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .errors import RecipeError, quoted

META = "glitch_setting"


@dataclasses.dataclass(frozen=True)
class Setting:
    """The declaration of one field.

    Attributes:
        help: one or two sentences for tooltips and ``--help``; units included.
        low: smallest allowed number, or None.
        high: largest allowed number, or None.
        step: increment of the widget, and for integers also a divisor that is enforced when
            ``multiple`` is set.
        choices: allowed words, or empty.
        multiple: whether an integer must be a multiple of ``step``.
        text: whether the widget is a free text field.
        lines: whether the text may have several lines.
        check: raises a ``RecipeError`` for a text that does not fit.
        group: the settings that it is turned with, on a node of their own; empty for what is
            turned every day, on the node that reads it.
    """

    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    multiple: bool = False
    text: bool = False
    lines: bool = False
    check: Callable[[str], object] | None = None
    group: str = ""


def integer(
    default: int,
    low: int,
    high: int,
    help: str,
    *,
    step: int = 1,
    multiple: bool = False,
    group: str = "",
) -> Any:
    """Declare an integer field in ``low..high``."""
    return _field(default, Setting(help, low, high, step, multiple=multiple, group=group))


def number(
    default: float,
    low: float,
    high: float,
    help: str,
    *,
    step: float = 0.01,
    group: str = "",
) -> Any:
    """Declare a floating-point field in ``low..high``."""
    return _field(default, Setting(help, low, high, step, group=group))


def choice(default: str, choices: Iterable[str], help: str, *, group: str = "") -> Any:
    """Declare a field that is one of a few words."""
    return _field(default, Setting(help, choices=tuple(choices), group=group))


def switch(default: bool, help: str, *, group: str = "") -> Any:
    """Declare an on/off field."""
    return _field(default, Setting(help, group=group))


def words(
    default: str,
    help: str,
    *,
    lines: bool = False,
    check: Callable[[str], object] | None = None,
    group: str = "",
) -> Any:
    """Declare a free text field, of one line or of several."""
    return _field(default, Setting(help, text=True, lines=lines, check=check, group=group))


def declared(recipe_type: type) -> dict[str, tuple[dataclasses.Field[Any], Setting]]:
    """Return the declared settings of a recipe dataclass, in order of declaration."""
    return {
        field.name: (field, field.metadata[META])
        for field in dataclasses.fields(recipe_type)
        if META in field.metadata
    }


def in_group(recipe_type: type, group: str) -> list[str]:
    """Return the names of the settings of one group, in order of declaration.

    Args:
        recipe_type: the dataclass that declares them.
        group: its name; empty for the settings of every day.
    """
    return [name for name, (_, one) in declared(recipe_type).items() if one.group == group]


def validate(recipe: Any) -> None:
    """Check every declared field of a recipe.

    Args:
        recipe: an instance of a dataclass whose fields were declared here.

    Raises:
        RecipeError: names the field, the value got and the values allowed.
    """
    for name, (field, setting) in declared(type(recipe)).items():
        _check(name, getattr(recipe, name), type(field.default), setting)


def check_setting(recipe_type: type, name: str, value: Any) -> None:
    """Check one setting by itself.

    Args:
        recipe_type: the dataclass that declares it.
        name: of the setting.
        value: what it shall be.

    Raises:
        RecipeError: names the setting, the value got and the values allowed.
    """
    field, setting = declared(recipe_type)[name]
    _check(name, value, type(field.default), setting)


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise unless a value is one of a few words.

    Args:
        name: of the setting.
        value: what was given.
        choices: the words.

    Raises:
        RecipeError: with the words.
    """
    allowed = list(choices)
    if value not in allowed:
        raise RecipeError(f"{name} must be one of {', '.join(allowed)}; got {quoted(value)}.")


def check_text(name: str, value: Any) -> None:
    """Check that a value is a text that any file can hold.

    Args:
        name: of the setting, for the error.
        value: what it shall be.

    Raises:
        RecipeError: it is no text, or has a character that no file can hold.
    """
    if not isinstance(value, str):
        raise RecipeError(f"{name} must be text, got {quoted(value)}.")
    odd = re.search(r"[\0\ud800-\udfff]", value)
    if odd:
        raise RecipeError(
            f"{name} has {odd[0]!r} as character {odd.start() + 1}, which no file can hold; "
            "replace it."
        )


def from_mapping(recipe_type: type, values: Mapping[str, Any]) -> Any:
    """Build a recipe from plain values, refusing unknown names.

    Args:
        recipe_type: the dataclass to build.
        values: field name to value; missing fields keep their defaults.

    Raises:
        RecipeError: for an unknown name (the nearest known one is offered) or a bad value.
    """
    known = declared(recipe_type)
    for name in values:
        if name not in known:
            raise RecipeError(f"There is no setting called {quoted(name)}{nearest(name, known)}")
    return recipe_type(**values)


def nearest(name: str, known: Iterable[str], otherwise: str = ".") -> str:
    """Return how a sentence about an unknown name ends: ``"; did you mean 'x'?"``.

    Args:
        name: the unknown one.
        known: those there are.
        otherwise: the end where none of them is close, with its stop.
    """
    close = difflib.get_close_matches(name, list(known), n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else otherwise


def _field(default: Any, setting: Setting) -> Any:
    return dataclasses.field(default=default, metadata={META: setting})


def _check(name: str, value: Any, kind: type, setting: Setting) -> None:
    if setting.choices:
        check_choice(name, value, setting.choices)
    elif kind is bool:
        if not isinstance(value, bool):
            raise RecipeError(f"{name} must be true or false, got {quoted(value)}.")
    elif kind is str:
        check_text(name, value)
        if setting.check:
            setting.check(value)
    else:
        _check_number(name, value, kind, setting)


def _check_number(name: str, value: Any, kind: type, setting: Setting) -> None:
    whole = kind is int
    fits = isinstance(value, int) if whole else isinstance(value, (int, float))
    if not fits or isinstance(value, bool) or not -math.inf < value < math.inf:
        raise RecipeError(
            f"{name} must be a {'whole ' if whole else ''}number, got {quoted(value)}."
        )
    low, high = setting.low, setting.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise RecipeError(f"{name} must be {low} to {high}, got {value}.")
    if setting.multiple and setting.step and value % setting.step:
        raise RecipeError(f"{name} must be a multiple of {setting.step:g}, got {value}.")
