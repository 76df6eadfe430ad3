"""The recipe of one run: everything needed to repeat it, validated on construction."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset.recipe import DatasetRecipe
from ..errors import RecipeError
from ..files import read_text
from ..plain_json import parse_json
from ..settings import check_text, from_mapping
from .text import RECIPE_VERSION, parse_toml, recipe_parts
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
    """

    dataset: DatasetRecipe = dataclasses.field(default_factory=DatasetRecipe)
    train: TrainRecipe = dataclasses.field(default_factory=TrainRecipe)
    checkpoint: str = ""
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_text("checkpoint", self.checkpoint)
        for name, who in self.origins.items():
            check_text("origins", name)
            check_text(f"the origin of {name}", who)

    def without_paths(self) -> Recipe:
        """Return what may be shared: the picture folder by its name alone, and no checkpoint."""
        folder = Path(self.dataset.folder).name
        dataset = dataclasses.replace(self.dataset, folder=folder)
        return dataclasses.replace(self, dataset=dataset, checkpoint="")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, with the version that wrote them."""
        values = {"version": RECIPE_VERSION, **dataclasses.asdict(self)}
        if not self.checkpoint:
            del values["checkpoint"]
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
        try:
            values = parse_json(text)
        except ValueError as error:
            raise RecipeError(f"{what} is not valid JSON: {error}.") from error
        if not isinstance(values, dict):
            raise RecipeError(f"{what} is not a JSON object.")
        return cls.from_dict(values)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a ``.toml`` or ``.json`` file.

    Raises:
        RecipeError: when the file is missing, malformed, or as :meth:`Recipe.from_dict`.
    """
    try:
        text = read_text(path)
    except OSError as error:
        raise RecipeError(f"Cannot read the recipe {path}: {error.strerror}.") from error
    except ValueError as error:
        raise RecipeError(
            f"The recipe {path} cannot be read as text: {error}; give a .toml or .json file, or a "
            "LoRA as .safetensors."
        ) from error
    if path.suffix.lower() != ".toml":
        return Recipe.from_json(text, f"The recipe {path}")
    return Recipe.from_dict(parse_toml(path, text))
