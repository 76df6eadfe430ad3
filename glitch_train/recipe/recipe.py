"""The recipe of one run: everything needed to repeat it, validated on construction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..dataset.mix import MixPart
from ..dataset.recipe import DatasetRecipe
from ..errors import RecipeError
from ..files import read_text
from ..plain_json import parse_json
from ..settings import check_text, declared, from_mapping
from .experiments import EXPERIMENTS, slug_of
from .text import MIX, RECIPE_PARTS, RECIPE_VERSION, mix_of, parse_toml, recipe_parts
from .train import TrainRecipe

__all__ = ["DatasetRecipe", "Recipe", "TrainRecipe", "read_recipe"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One run: its dataset and its training.

    Attributes:
        dataset: how a folder becomes training pictures.
        train: how they are trained on.
        checkpoint: path of the base model for runs without a host; empty where MODEL decides.
        origins: setting name to the preset or recipe that named it; all others were chosen one by
            one. Says where a run comes from and changes nothing in it.
        mix: the datasets that are trained as one; empty where there is only ``dataset``, which
            says otherwise what they have in common, or is the first of them.
    """

    dataset: DatasetRecipe = dataclasses.field(default_factory=DatasetRecipe)
    train: TrainRecipe = dataclasses.field(default_factory=TrainRecipe)
    checkpoint: str = ""
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    mix: tuple[MixPart, ...] = ()

    def __post_init__(self) -> None:
        check_text("checkpoint", self.checkpoint)
        for name, who in self.origins.items():
            check_text("origins", name)
            check_text(f"the origin of {name}", who)

    @property
    def datasets(self) -> tuple[DatasetRecipe, ...]:
        """The settings of every dataset that is trained on."""
        return tuple(part.dataset for part in self.mix) or (self.dataset,)

    def with_datasets(self, change: Callable[[DatasetRecipe], DatasetRecipe]) -> Recipe:
        """Return the recipe with every dataset's settings changed."""
        mix = (dataclasses.replace(part, dataset=change(part.dataset)) for part in self.mix)
        return dataclasses.replace(self, dataset=change(self.dataset), mix=tuple(mix))

    def without_paths(self) -> Recipe:
        """Return what may be shared: picture folders by their names alone, and no checkpoint."""
        hidden = self.with_datasets(
            lambda one: dataclasses.replace(one, folder=Path(one.folder).name)
        )
        return dataclasses.replace(hidden, checkpoint="")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the version that wrote them."""
        values = {"version": RECIPE_VERSION, **dataclasses.asdict(self)}
        values["mix"] = [part.to_dict() for part in self.mix]
        for name in ("checkpoint", "mix"):
            if not values[name]:
                del values[name]
        return values

    def to_json(self) -> str:
        """Return the recipe as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Read what :meth:`to_dict` wrote.

        Raises:
            RecipeError: for a newer version, an unknown name or a value out of range.
        """
        parts = recipe_parts(values)
        return cls(
            dataset=from_mapping(DatasetRecipe, parts["dataset"]),
            train=from_mapping(TrainRecipe, parts["train"]),
            mix=tuple(MixPart.from_dict(one, parts["dataset"]) for one in mix_of(values)),
            checkpoint=values.get("checkpoint", ""),
            origins={str(name): str(source) for name, source in parts["origins"].items()},
        )

    @classmethod
    def from_json(cls, text: str, what: str = "The recipe") -> Recipe:
        """Read what :meth:`to_json` wrote.

        Args:
            text: the JSON.
            what: whose recipe it is, for the error.

        Raises:
            RecipeError: when the text is not JSON, or as :meth:`from_dict`.
        """
        return cls.from_dict(_json_object(text, what))


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML or JSON file, also one that holds settings alone.

    Raises:
        RecipeError: when the file is missing, malformed, or as :meth:`Recipe.from_dict`.
    """
    try:
        text = read_text(path)
    except OSError as error:
        slug = slug_of(str(path))
        print_it = f"; to print the preset of that name: recipe --preset {slug} --json"
        offer = print_it if slug in EXPERIMENTS else ""
        raise RecipeError(f"Cannot read the recipe {path}: {error.strerror}{offer}.") from error
    except ValueError as error:
        raise RecipeError(
            f"The recipe {path} cannot be read as text: {error}; give a .toml or .json file, or a "
            "LoRA as .safetensors."
        ) from error
    values = _parsed(path, text)
    try:
        return Recipe.from_dict(_in_parts(values))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def _json_object(text: str, what: str) -> dict[str, Any]:
    try:
        values = parse_json(text, once=True)
    except ValueError as error:
        raise RecipeError(f"{what} is not valid JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{what} is not a JSON object with names and values, {{…}}.")
    return values


def _parsed(path: Path, text: str) -> dict[str, Any]:
    """Return what a file says: what it is goes by how it begins, what it is called may lie."""
    if not text.strip():
        raise RecipeError(f"The recipe {path} is empty; write settings, or choose another file.")
    if text.lstrip().startswith("{"):
        return _json_object(text, f"The recipe {path}")
    try:
        return parse_toml(f"The recipe {path}", text)
    except RecipeError as error:
        if path.suffix.lower() == ".json":
            return _json_object(text, f"The recipe {path}")
        if text.startswith("- **"):
            way_out = "this is a list for reading, `recipe --preset NAME --json` prints a recipe"
        else:
            way_out = 'write lines such as steps = 800 below [train], words in quotes: "stretch"'
        raise RecipeError(f"{str(error).rstrip('.')}; {way_out}.") from error


def _in_parts(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a recipe in its parts, where settings were written without, as presets are printed."""
    if not values or any(name in values for name in ("version", "checkpoint", MIX, *RECIPE_PARTS)):
        return values
    named, origins = values, {}
    if isinstance(values.get("settings"), dict):
        named, origins = values["settings"], values.get("sources", {})
    in_dataset = {name: value for name, value in named.items() if name in declared(DatasetRecipe)}
    others = {name: value for name, value in named.items() if name not in in_dataset}
    return {"dataset": in_dataset, "train": others, "origins": origins}
