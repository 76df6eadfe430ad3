"""A grid of pictures before it is sampled: what is asked for, and which cell shows what."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Container, Mapping, Sequence
from typing import Any

from .. import text_lists as grid_axes
from ..drawing.sizes import Size
from ..drawing.style import STYLES
from ..errors import GridError
from ..seeds import MAX_SEED
from ..settings import choice, integer, nearest, number, switch, validate, words

AXES = ("prompt", "size", "steps", "cfg", "lora", "strength", "seed")
"""Names of the axes as they are nested, outermost first: the base stands beside its LoRAs."""

BASE = "base"
SETTINGS = "Glitch Grid Settings"
"""The group of what is seldom turned, called as the node that shows it."""
_WIDE = 1.4
"""The shape that the automatic choice of columns aims at: somewhat wider than high."""


@dataclasses.dataclass(frozen=True)
class GridRecipe:
    """What a grid shows. The order of fields is the order of widgets."""

    prompts: str = words(
        "",
        "One prompt a line. For prompts of several paragraphs, put a line of --- between (or "
        "after) them.",
        lines=True,
    )
    negative: str = words("", "The negative prompt of all cells.", lines=True, group=SETTINGS)
    seeds: str = words("0", "Seeds, such as 0-3 or 7, 99. The same ones in every row.")
    steps: str = words("20", "Sampling steps, such as 5-21, 5:21:4 or 8, 20.")
    cfg: str = words("7", "Guidance scales, such as 1, 4, 7.5 or 1:20:3.")
    strength: str = words("1", "LoRA strengths, such as 0.5, 1, 1.5 or -1:1:0.5.")
    sizes: str = words("512x512", "Picture sizes in pixels, such as 1088x896, 1536x640.")
    sampler_name: str = words("dpmpp_2m", "The host's sampler.")
    scheduler: str = words("normal", "The host's schedule of noise levels.")
    denoise: float = number(
        1.0, 0.0, 1.0, "As in KSampler: 1 is the whole way from noise.", group=SETTINGS
    )
    base: bool = switch(
        True, "Show the base model too, and hand out its pictures as pairs.", group=SETTINGS
    )
    patch_clip: bool = switch(
        True,
        "Patch the text encoders with the same strength, as Load LoRA. Off: the model alone, as "
        "LoraLoaderModelOnly.",
        group=SETTINGS,
    )
    columns: str = words(
        "",
        "Axes that run across, outermost first, such as 'cfg, seed', out of "
        f"{', '.join(AXES)}; the others run down. Empty: seeds, and what makes the picture's "
        "shape handy.",
        group=SETTINGS,
    )
    style: str = choice("dark", STYLES, "Dark or light paper.", group=SETTINGS)
    max_cells: int = integer(
        400,
        1,
        10_000,
        "Refuse a larger grid before it starts: it may have been a slip.",
        group=SETTINGS,
    )
    max_megapixels: int = integer(
        64,
        1,
        400,
        "Cells are shrunk in the one large picture until it has at most this many million pixels; "
        "the cells' own outputs stay whole.",
        group=SETTINGS,
    )

    def __post_init__(self) -> None:
        validate(self)
        self.axis_values()
        self.column_axes()

    def axis_values(self) -> dict[str, tuple[Any, ...]]:
        """Return axis name to its values; the axis lora is not in it."""
        return {
            "prompt": grid_axes.prompts(self.prompts),
            "strength": grid_axes.real_numbers(self.strength, "strength", -100, 100),
            "size": grid_axes.sizes(self.sizes),
            "steps": grid_axes.whole_numbers(self.steps, "steps", 1, 10_000),
            "cfg": grid_axes.real_numbers(self.cfg, "cfg", 0, 100),
            "seed": grid_axes.whole_numbers(self.seeds, "seeds", 0, MAX_SEED),
        }

    def column_axes(self) -> tuple[str, ...]:
        """Return the axes that were asked to run across."""
        wanted = self.columns.replace(",", " ").replace(";", " ").lower().split()
        for name in wanted:
            if name not in AXES:
                axes = f"; the axes are {', '.join(AXES)}."
                raise GridError(f"columns: there is no axis {name!r}{nearest(name, AXES, axes)}")
        return tuple(dict.fromkeys(wanted))


@dataclasses.dataclass(frozen=True)
class Variant:
    """A model beside the base.

    Attributes:
        name: as it stands in the grid; unique.
        has_strength: whether it is a LoRA, sampled at every strength, or an already patched model.
    """

    name: str
    has_strength: bool = True


@dataclasses.dataclass(frozen=True)
class Shot:
    """One picture to sample.

    Attributes:
        lora: name of the variant, or None for the base.
        strength: of the LoRA; None where there is none.
        prompt: the positive prompt.
        size: width and height in pixels.
        steps: sampling steps.
        cfg: guidance scale.
        seed: of the noise.
    """

    lora: str | None
    strength: float | None
    prompt: str
    size: Size
    steps: int
    cfg: float
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        values = {**dataclasses.asdict(self), "lora": self.lora or BASE}
        width, height = values.pop("size")
        return {**values, "width": width, "height": height}


Key = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class GridPlan:
    """Which cell shows what.

    Attributes:
        recipe: what was asked for.
        rows: axis values of each row, top down, outermost axis first.
        columns: axis values of each column.
        fixed: axes of one value, which all cells share.
        variants: the models beside the base.
    """

    recipe: GridRecipe
    rows: tuple[Key, ...]
    columns: tuple[Key, ...]
    fixed: Key
    variants: tuple[Variant, ...]

    def shot(self, row: int, column: int) -> Shot:
        """Return what a cell shows."""
        values = {**self.fixed, **self.rows[row], **self.columns[column]}
        kind = {variant.name: variant for variant in self.variants}.get(values["lora"])
        if kind is None or not kind.has_strength:
            values["strength"] = None
        if values["strength"] == 0:  # Load LoRA at 0 is the base
            values |= {"lora": None, "strength": None}
        return Shot(**values)

    def cells(self) -> list[tuple[int, int]]:
        """Return (row, column) of every cell, row by row."""
        return list(itertools.product(range(len(self.rows)), range(len(self.columns))))

    def shots(self) -> list[Shot]:
        """Return every picture to sample, once, so that a model is patched only once."""
        order = {name: number for number, name in enumerate(v.name for v in self.variants)}

        def patched(shot: Shot) -> tuple[float, ...]:
            return (order[shot.lora] if shot.lora else -1, shot.strength or 0.0)

        return sorted(self.in_reading_order(), key=patched)

    def in_reading_order(self, among: Container[Shot] | None = None) -> list[Shot]:
        """Return every picture once, row by row.

        Args:
            among: those that are wanted; all by default.
        """
        found = dict.fromkeys(self.shot(*cell) for cell in self.cells())
        return [shot for shot in found if among is None or shot in among]

    def pairs(self) -> list[tuple[Shot, Shot]]:
        """Return (base, glitched) of equal settings, in the order of the cells."""
        found = self.in_reading_order()
        twins = ((dataclasses.replace(s, lora=None, strength=None), s) for s in found)
        return [(base, shot) for base, shot in twins if shot.lora and base in found]


def plan_grid(recipe: GridRecipe, variants: Sequence[Variant] = ()) -> GridPlan:
    """Lay the axes out.

    Args:
        recipe: what is asked for.
        variants: LoRAs and patched models beside the base.

    Raises:
        GridError: when nothing or too much would be sampled.
    """
    if not recipe.base and not variants:
        raise GridError("There is nothing to sample: switch base on, or choose a LoRA.")
    models = ([None] if recipe.base else []) + [variant.name for variant in variants]
    values: dict[str, tuple[Any, ...]] = {**recipe.axis_values(), "lora": tuple(models)}
    strengths = values["strength"] if any(v.has_strength for v in variants) else (None,)
    values["strength"] = strengths
    count = math.prod(len(one) for one in values.values())
    if count > recipe.max_cells * 2 or len(values["lora"]) > grid_axes.MAX_VALUES:
        raise _too_many(count, values, recipe)
    plan = _laid_out(recipe, values, tuple(variants))
    count = len(plan.cells())
    if count > recipe.max_cells:
        raise _too_many(count, values, recipe)
    return plan


def _too_many(count: int, values: Mapping[str, Sequence[Any]], recipe: GridRecipe) -> GridError:
    factors = " × ".join(f"{len(values[a])} {a}" for a in AXES if len(values[a]) > 1)
    largest = max(size[0] * size[1] for size in values["size"])
    return GridError(
        f"The grid would have {count} cells ({factors}; up to {count * largest / 1e6:.0f} "
        f"megapixels in all), more than max_cells = {recipe.max_cells}; ask for fewer values or "
        "raise max_cells."
    )


def _laid_out(
    recipe: GridRecipe, values: Mapping[str, tuple[Any, ...]], variants: tuple[Variant, ...]
) -> GridPlan:
    with_strength = {variant.name for variant in variants if variant.has_strength}
    several = [axis for axis in AXES if len(values[axis]) > 1]
    fixed = {axis: values[axis][0] for axis in AXES if axis not in several}

    def plan(across: Sequence[str]) -> GridPlan:
        down = [axis for axis in several if axis not in across]
        rows, columns = (_keys(side, values, with_strength) for side in (down, across))
        return GridPlan(recipe, rows, columns, fixed, variants)

    if recipe.columns.strip():
        return plan([axis for axis in recipe.column_axes() if axis in several])
    seeds = [axis for axis in several if axis == "seed"]
    free = [axis for axis in several if axis in ("strength", "size", "steps", "cfg")]
    choices = [
        plan([*some, *seeds])
        for count in range(len(free) + 1)
        for some in itertools.combinations(free, count)
    ]
    return min(choices, key=_awkwardness)


def _keys(
    axes: Sequence[str], values: Mapping[str, tuple[Any, ...]], with_strength: set[str]
) -> tuple[Key, ...]:
    """Return the combinations along one side; the base stands there once, not per strength."""
    found: list[Key] = []
    for combination in itertools.product(*(values[axis] for axis in axes)):
        key = dict(zip(axes, combination, strict=True))
        if "lora" in key and "strength" in key and key["lora"] not in with_strength:
            key["strength"] = None
        if key not in found:
            found.append(key)
    return tuple(found)


def _awkwardness(plan: GridPlan) -> float:
    """Say how far from a handy shape the picture is."""
    widths = [max(_size(plan, row, c)[0] for row in plan.rows) for c in plan.columns]
    heights = [max(_size(plan, r, column)[1] for column in plan.columns) for r in plan.rows]
    return abs(math.log(sum(widths) / sum(heights) / _WIDE))


def _size(plan: GridPlan, row: Key, column: Key) -> Size:
    return {**plan.fixed, **row, **column}["size"]
