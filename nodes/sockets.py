"""Socket types of the pack, and widgets made from the recipe's declarations."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

from ..glitch_train.settings import Setting, declared

CATEGORY = "Glitching the Gaze"

GlitchDatasetSocket = io.Custom("GLITCH_DATASET")
GlitchCorruptionSocket = io.Custom("GLITCH_CORRUPTION")
GlitchRecipeSocket = io.Custom("GLITCH_RECIPE")
LoraModelSocket = io.Custom("LORA_MODEL")
LossMapSocket = io.Custom("LOSS_MAP")


def widgets(
    recipe_type: type,
    *,
    group: str | None = None,
    without: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> list[io.Input]:
    """Return one widget per setting of a recipe dataclass, in its order.

    A graph sent to the API may leave any of them out.

    Args:
        recipe_type: a dataclass declared with ``glitch_train.settings``.
        group: the settings wanted: of this group alone, or empty for those of every day.
        without: settings that the node offers in another way or place.
        only: the settings wanted, whatever their group; all by default.
    """
    return [
        _widget(name, field, setting)
        for name, (field, setting) in declared(recipe_type).items()
        if name not in without
        and (name in only or not only)
        and (group is None or setting.group == group)
    ]


def places(*recipe_types: type) -> dict[str, str]:
    """Return the settings that are no widgets of the node that reads them, and where they are."""
    return {
        name: setting.group
        for recipe_type in recipe_types
        for name, (_, setting) in declared(recipe_type).items()
        if setting.group
    }


def search_words(*words: str) -> dict[str, list[str]]:
    """Return what makes a host's search find a node by other words than its name.

    Args:
        words: as people would type them.

    Returns:
        An argument for ``io.Schema``; none for a host that does not know it.
    """
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return {"search_aliases": list(words)} if "search_aliases" in known else {}


def tooltip(recipe_type: type, name: str) -> str:
    """Return the meaning of a setting, for a widget made by hand."""
    return declared(recipe_type)[name][1].help


def recipe_input() -> io.Input:
    """Return the socket of a node whose settings a recipe may name."""
    return GlitchRecipeSocket.Input(
        "recipe",
        optional=True,
        tooltip="From a Glitch Recipe or a setting node (Glitch Network, Glitch Framing …): what "
        "it names wins over the widgets here, and what nobody names is as by default.",
    )


def recipe_outputs(reader: str) -> list[io.Output]:
    """Return what a node of a recipe's chain hands on.

    Args:
        reader: the nodes that read what it names.
    """
    return [
        GlitchRecipeSocket.Output(
            display_name="recipe",
            tooltip=f"For {reader}, or the next Glitch Recipe or setting node of a chain.",
        ),
        io.String.Output(
            display_name="text",
            tooltip="What it names, why, and where the chain disagrees (Markdown).",
        ),
    ]


def _widget(name: str, field: dataclasses.Field[Any], setting: Setting) -> io.Input:
    common = {"id": name, "default": field.default, "tooltip": setting.help, "optional": True}
    if setting.choices:
        return io.Combo.Input(options=list(setting.choices), **common)
    if isinstance(field.default, bool):
        return io.Boolean.Input(**common)
    if isinstance(field.default, str):
        return io.String.Input(multiline=setting.lines, **common)
    limits = {"min": setting.low, "max": setting.high, "step": setting.step}
    if isinstance(field.default, int):
        # Said aloud, or the frontend would draw a new "seed" (and train anew) at every Run.
        return io.Int.Input(control_after_generate=False, **limits, **common)
    # Without a rounding step of its own the frontend would round to `step`.
    return io.Float.Input(round=False, **limits, **common)
