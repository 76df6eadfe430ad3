"""A recipe that names only some settings, and by what: the GLITCH_RECIPE that nodes pass on.

A partial recipe lies over the settings of a node: what it names wins, the rest is left alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..dataset.handling import DatasetHandling
from ..dataset.recipe import DatasetRecipe
from ..errors import RecipeError, quoted
from ..plain_json import parse_json
from ..settings import check_setting, declared, nearest
from ..wording import shown
from .text import MIX, RECIPE_PARTS, mix_of, parse_toml, recipe_parts
from .train import TrainRecipe

LEFT_TO_THE_LOADER = "folder"
"""A recipe is for any folder; which one is said where it is read."""

GROWS = "corruption"
"""Corruption nodes add to what a recipe names."""

PARTS = (DatasetRecipe, TrainRecipe, DatasetHandling)
"""Whose settings a partial recipe names: a run's two halves, and what a loader does beside."""

OWN_SETTINGS = "settings of its own"
"""Who names a setting that is in no preset."""

NO_PRESET = "none: only the settings below"
"""What the Glitch Recipe node's preset says when there is none."""


@dataclasses.dataclass(frozen=True)
class Named:
    """One named setting.

    Attributes:
        value: what it shall be.
        source: the preset or setting node that names it, or :data:`OWN_SETTINGS`.
        reason: why the preset does, or empty.
    """

    value: Any
    source: str
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Collision:
    """Two parts of a chain that name the same setting with different values.

    Attributes:
        setting: its name.
        loser: the earlier one.
        winner: the later one.
    """

    setting: str
    loser: Named
    winner: Named

    def __str__(self) -> str:
        """Return it as one sentence."""
        return (
            f"{self.setting}: {self.loser.source} says {shown(self.loser.value)}, "
            f"{self.winner.source} says {shown(self.winner.value)}; the later in the chain, "
            f"{self.winner.source}, wins."
        )


@dataclasses.dataclass(frozen=True)
class PartialRecipe:
    """Named settings of a recipe's parts, in the order of their declaration.

    Attributes:
        settings: setting name to value and source.
        collisions: what was named twice with different values, in the order of the chain.
        parts: the presets in the order of the chain, with the reason of each.
    """

    settings: Mapping[str, Named] = dataclasses.field(default_factory=dict)
    collisions: tuple[Collision, ...] = ()
    parts: tuple[tuple[str, str], ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """Setting name to value."""
        return {name: named.value for name, named in self.settings.items()}

    def over(self, recipe_type: type, others: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of one half of a recipe: what is named here wins.

        Args:
            recipe_type: one of :data:`PARTS`.
            others: the settings of a node or file.
        """
        return {**others, **{name: self.settings[name].value for name in self.names(recipe_type)}}

    def names(self, recipe_type: type) -> list[str]:
        """Return the named settings that belong to one half of a recipe."""
        return [name for name in declared(recipe_type) if name in self.settings]

    def origins(self, recipe_type: type) -> dict[str, str]:
        """Return who names each setting of one half of a recipe."""
        return {name: self.settings[name].source for name in self.names(recipe_type)}

    def unmet(self, recipe: Any, origins: Mapping[str, str]) -> list[str]:
        """Say what a finished half of a recipe has otherwise than it is named here.

        Args:
            recipe: the finished half.
            origins: who named its settings; the same source's corruption may have been added to.
        """
        return [
            f"{name} is {shown(getattr(recipe, name))}, the recipe asks for "
            f"{shown(self.settings[name].value)}"
            for name in self.names(type(recipe))
            if getattr(recipe, name) != self.settings[name].value
            and (name, origins.get(name)) != (GROWS, self.settings[name].source)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "settings": self.values,
            "sources": {name: named.source for name, named in self.settings.items()},
            "presets": {title: reason for title, reason in self.parts},
            "collisions": [str(collision) for collision in self.collisions],
        }

    def summary(self) -> str:
        """Return what it holds in one line: presets, number of settings and of collisions."""
        titles = " + ".join(title for title, _ in self.parts)
        count = f"{len(self.settings)} setting{'s' * (len(self.settings) != 1)}"
        line = f"{titles}: {count}" if titles else count
        won = f", in {len(self.collisions)} of which the later wins" if self.collisions else ""
        return f"{line}{won}"

    def to_markdown(self) -> str:
        """Return presets with their reasons, the named settings and the collisions."""
        lines = [f"- **{title}**: {reason}" for title, reason in self.parts]
        lines += [""] if lines else []
        if self.settings:
            lines += ["| setting | value | named by |", "| --- | --- | --- |"]
            lines += [
                f"| {name} | {shown(named.value)} | {named.source} |"
                for name, named in self.settings.items()
            ]
        else:
            lines.append("This recipe names no setting: all come from the nodes' own widgets.")
        if self.collisions:
            lines += ["", "**Collisions**", "", *(f"- {one}" for one in self.collisions)]
        return "\n".join(lines)


def combine(*recipes: PartialRecipe) -> PartialRecipe:
    """Lay partial recipes over each other; where two disagree, the later one wins and it is said.

    Where they name different settings, or the same values, the order does not matter.
    """
    settings: dict[str, Named] = {}
    collisions: list[Collision] = []
    for recipe in recipes:
        collisions += recipe.collisions
        for name, named in recipe.settings.items():
            before = settings.get(name)
            if before is None or before.value != named.value:
                settings[name] = named
            if before is not None and before.value != named.value:
                collisions.append(Collision(name, before, named))
    parts = dict.fromkeys(part for recipe in recipes for part in recipe.parts)
    return PartialRecipe(_in_order(settings), tuple(collisions), tuple(parts))


def partial(
    values: Mapping[str, Any], source: str = OWN_SETTINGS, reason: str = ""
) -> PartialRecipe:
    """Return a partial recipe of checked settings.

    Args:
        values: setting name to value, of either half.
        source: who names them.
        reason: why; with one, the source counts as a part of the chain even if it names nothing.

    Raises:
        RecipeError: for an unknown name (the nearest are offered) or a value out of range.
    """
    for name, value in values.items():
        if name == LEFT_TO_THE_LOADER:
            raise RecipeError(
                "A recipe is for any folder: choose folder in the Glitch Dataset Loader."
            )
        check_setting(part_of(name), name, value)
    named = {name: Named(value, source, reason) for name, value in values.items()}
    parts = ((source, reason),) if reason else ()
    return PartialRecipe(_in_order(named), parts=parts)


def parse_settings(text: str, source: str = OWN_SETTINGS) -> PartialRecipe:
    """Read settings that a person wrote down.

    Args:
        text: lines ``name = value`` as in TOML, with or without the headings ``[dataset]`` and
            ``[train]``; or a whole recipe as JSON, as ``glitch_train recipe`` prints it.
        source: who names them.

    Raises:
        RecipeError: when it cannot be read, is of a newer version, or as :func:`partial`.
    """
    values = _parse(text)
    if values.get(MIX):
        raise RecipeError(
            f"This recipe is a mix of {len(mix_of(values))} datasets, which settings alone cannot "
            "say: connect a Glitch Dataset Mix to the trainer."
        )
    if any(part in values for part in ("version", "checkpoint", *RECIPE_PARTS)):
        parts = recipe_parts(values)
        values = {**parts["dataset"], **parts["train"]}
        values.pop(LEFT_TO_THE_LOADER, None)  # a whole recipe has its own
    return partial(values, source)


def _parse(text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            values: dict[str, Any] = parse_json(text, once=True)
        except ValueError as error:
            raise RecipeError(f"The recipe is not valid JSON: {error}.") from error
        return values
    try:
        return parse_toml("The list of settings", text)
    except RecipeError as error:
        raise RecipeError(
            f"{str(error).rstrip('.')}; write one name = value per line, words in quotes: "
            'framing = "stretch".'
        ) from error


def part_of(name: str) -> type:
    """Return the dataclass that declares a setting, one of :data:`PARTS`.

    Raises:
        RecipeError: there is no setting of this name; the nearest are offered.
    """
    for part in PARTS:
        if name in declared(part):
            return part
    raise RecipeError(f"There is no setting called {quoted(name)}{nearest(name, _known())}")


def _known() -> list[str]:
    return [name for part in PARTS for name in declared(part)]


def _in_order(settings: Mapping[str, Named]) -> dict[str, Named]:
    return {name: settings[name] for name in _known() if name in settings}
