"""A planned grid as a labelled picture and as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from ..drawing.picture_table import FAINT, PLAIN, GridPicture, Label
from .plan import AXES, BASE, GridPlan, Key, Shot

PROMPT_LINES = 8
HEADING_LINES = 3
PREVIEW_PX = 640 * 640


def grid_picture(plan: GridPlan, max_px: float | None = None) -> GridPicture:
    """Lay out the picture of a plan, its cells still empty.

    Args:
        plan: what to show.
        max_px: most pixels; by default the recipe's.
    """
    return GridPicture(
        [_labels(plan, key, PROMPT_LINES) for key in plan.rows],
        [_labels(plan, key, HEADING_LINES) for key in plan.columns],
        {cell: plan.shot(*cell).size for cell in plan.cells()},
        _heading(plan),
        style=plan.recipe.style,
        max_px=max_px or plan.recipe.max_megapixels * 1e6,
    )


def preview_picture(plan: GridPlan) -> GridPicture:
    """Lay out a small picture without words, for a grid that grows."""
    rows: list[list[Label]] = [[] for _ in plan.rows]
    columns: list[list[Label]] = [[] for _ in plan.columns]
    sizes = {cell: plan.shot(*cell).size for cell in plan.cells()}
    return GridPicture(rows, columns, sizes, style=plan.recipe.style, max_px=PREVIEW_PX)


def paste_shot(picture: GridPicture, plan: GridPlan, shot: Shot, image: Image.Image) -> None:
    """Put a sampled picture into every cell that shows it."""
    for cell in plan.cells():
        if plan.shot(*cell) == shot:
            picture.paste(cell, image)


def grid_settings(plan: GridPlan, picture: GridPicture, done: Mapping[Shot, int]) -> dict[str, Any]:
    """Return what every cell is, as plain values for JSON.

    Args:
        plan: the grid.
        picture: its picture.
        done: sampled shot to its number in the batch of cells.
    """
    recipe = plan.recipe
    cells = []
    for row, column in plan.cells():
        shot = plan.shot(row, column)
        place = {"row": row, "column": column, "picture": done.get(shot)}
        box = list(picture.box((row, column)))
        cells.append({**place, **shot.to_dict(), "box": box})
    return {
        "sampler_name": recipe.sampler_name,
        "scheduler": recipe.scheduler,
        "denoise": recipe.denoise,
        "negative": recipe.negative,
        "rows": [_plain(key) for key in plan.rows],
        "columns": [_plain(key) for key in plan.columns],
        "pairs": [
            {"base": done[base], "glitched": done[shot], **shot.to_dict()}
            for base, shot in plan.pairs()
            if base in done and shot in done
        ],
        "scale": picture.scale,
        "size": list(picture.size),
        "cells": cells,
    }


def described(axis: str, value: Any) -> str:
    """Return an axis' value in words, or an empty text where it has none."""
    if axis == "lora":
        return value or BASE
    if value is None:
        return ""
    if axis == "prompt":
        return value or "(empty prompt)"
    if axis == "size":
        return f"{value[0]}×{value[1]}"
    if axis == "steps":
        return f"{value} step{'s' if value != 1 else ''}"
    if axis == "cfg":
        return f"CFG {value:g}"
    return f"{axis} {value:g}" if isinstance(value, float) else f"{axis} {value}"


def _labels(plan: GridPlan, key: Key, prompt_lines: int) -> list[Label]:
    """Return a side's labels: the short ones first, prompts last."""
    loras = [variant.name for variant in plan.variants]
    found = []
    for axis in sorted(key, key=lambda name: (name == "prompt", name != "lora")):
        text = described(axis, key[axis])
        tone = FAINT if axis == "prompt" else PLAIN
        if axis == "lora" and key[axis]:
            tone = loras.index(key[axis])
        if text:
            found.append(Label(text, prompt_lines if axis == "prompt" else 3, tone))
    return found


def _heading(plan: GridPlan) -> list[Label]:
    recipe = plan.recipe
    fixed = {axis: plan.fixed[axis] for axis in AXES if axis in plan.fixed and axis != "prompt"}
    shared = [text for axis, value in fixed.items() if (text := described(axis, value))]
    if recipe.denoise != 1:
        shared.append(f"denoise {recipe.denoise:g}")
    found = [Label(" · ".join([*shared, recipe.sampler_name, recipe.scheduler]), 4)]
    if "prompt" in plan.fixed:
        found.append(Label(described("prompt", plan.fixed["prompt"]), HEADING_LINES, FAINT))
    if recipe.negative.strip():
        found.append(Label(f"negative: {recipe.negative}", 2, FAINT))
    return found


def _plain(key: Key) -> dict[str, Any]:
    return {axis: (value or BASE if axis == "lora" else value) for axis, value in key.items()}
