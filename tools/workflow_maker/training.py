"""Parts of a workflow that trains: recipe, pictures, base model, trainer, and what reads it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.recipe.experiments import combined_presets
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import in_group

from .bases import CHOICE_COLOR, Base
from .flow import Flow, Node

NOTE_PX = 420
RECIPE_TOP = NOTE_PX + 60


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of a workflow.

    Attributes:
        name: of the LoRA and of all files.
        presets: titles of the recipes in their chain.
        settings: of the trainer, where no recipe names them.
        turned: what the run is about: written into the last recipe, where a person turns it.
        named: more settings for the last recipe, as it takes them.
    """

    name: str
    presets: tuple[str, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    turned: tuple[str, ...] = ()
    named: str = ""


class TrainingColumns:
    """The beginning of a workflow: the choices in green, then the trainers below each other.

    Attributes:
        flow: the workflow.
        group: of the trainers, for what reads them.
        bases: the loaders of the base models, the trained one first.
        pictures: the loader of the pictures.
    """

    def __init__(
        self,
        flow: Flow,
        note: str,
        presets: Sequence[str],
        bases: Sequence[Base],
        longest: int = 0,
    ) -> None:
        """Open the columns, with recipes, the choices and the contact sheet.

        Args:
            flow: The workflow.
            note: What stands above the recipes.
            presets: Titles of the recipes in the chain that prepares the pictures.
            bases: The base models, the one that is trained first.
            longest: How many recipes the longest chain of a run has, where that is another one.
        """
        self.flow = flow
        several = "checkpoints" if len(bases) > 1 else "a checkpoint"
        group = flow.group(f"1 · Choose a folder and {several}")
        further = max(longest, len(presets)) - 1
        self._recipes = [group.column(380), *(group.column(320) for _ in range(further))]
        self._recipes[0].note(note, tall=NOTE_PX)
        self._made: dict[tuple[str, ...], Node] = {}
        choices = group.column(400)
        self.bases = [
            base.loader(choices, f"Base model · {base.family}", top=0 if not place else None)
            for place, base in enumerate(bases)
        ]
        recipe = self._chain(tuple(presets))
        named = combined_presets(tuple(presets))
        self.pictures = choices.add(
            "GlitchDatasetLoader",
            "Pictures",
            color=CHOICE_COLOR,
            recipe=recipe["recipe"],
            **_on_the_node(DatasetRecipe, named.over(DatasetRecipe, {})),
        )
        flow.choose(self.pictures, "folder")
        for base in self.bases:
            flow.choose(base, "ckpt_name")
        sheet = group.column(400).add(
            "GlitchContactSheet",
            "What will be trained",
            top=0,
            tall=NOTE_PX,
            dataset=self.pictures["dataset"],
            pictures=6,
            cell_px=256,
            caption_lines=3,
        )
        flow.show(sheet)
        self.group = flow.group("2 · Train and read")
        self._trainers = self.group.column(420)

    def add(self, run: Run, top: int = 0) -> Node:
        """Add a run.

        Args:
            run: What it does.
            top: The y of its trainer, in pixels.

        Returns:
            The trainer.
        """
        base = self.bases[0]
        named = combined_presets(run.presets)
        recipe = self._chain(run.presets)
        if run.turned:
            lines = [f"{name} = {json.dumps(named.values[name])}" for name in run.turned]
            recipe.inputs["settings"] = "\n".join(filter(None, [*lines, run.named]))
            self.flow.choose(recipe, "settings")
        trainer = self._trainers.add(
            "GlitchLoraTrainer",
            f"Train {run.name}",
            top=top,
            model=base["MODEL"],
            clip=base["CLIP"],
            vae=base["VAE"],
            dataset=self.pictures["dataset"],
            recipe=recipe["recipe"],
            output_name=run.name,
            **_on_the_node(TrainRecipe, named.over(TrainRecipe, run.settings)),
        )
        self.flow.show(trainer)
        return trainer

    def _chain(self, presets: tuple[str, ...]) -> Node:
        """Return the last recipe of a chain; what chains begin with alike is made once."""
        if presets in self._made:
            return self._made[presets]
        before = {"recipe": self._chain(presets[:-1])["recipe"]} if presets[1:] else {}
        column = self._recipes[len(presets) - 1]
        top = RECIPE_TOP if not column.nodes or column is self._recipes[0] else None
        recipe = column.add(
            "GlitchRecipe", f"Recipe: {presets[-1]}", top=top, preset=presets[-1], **before
        )
        return self._made.setdefault(presets, recipe)


def _on_the_node(recipe_type: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are widgets of the node which reads them."""
    return {name: settings[name] for name in in_group(recipe_type, "") if name in settings}


def read_curves(
    columns: TrainingColumns, title: str, prefix: str, trainers: Sequence[Node]
) -> None:
    """Add one graph of the losses of several runs, and its verdict in words.

    Args:
        columns: Where the trainers stand.
        title: What stands on the graph.
        prefix: Of its files.
        trainers: The trainers.
    """
    losses = {
        f"loss_map_{number}" if number > 1 else "loss_map": trainer["loss_map"]
        for number, trainer in enumerate(trainers, start=1)
    }
    graph = columns.group.column(460).add(
        "GlitchLossGraph", title, top=0, filename_prefix=prefix, **losses
    )
    words = columns.group.column(400).add(
        "PreviewAny", "Verdict", top=0, tall=700, source=graph["verdict"]
    )
    columns.flow.show(graph, words)
