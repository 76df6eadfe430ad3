"""Parts of a workflow that trains: recipe, pictures, base model, trainer, and what reads it."""

from __future__ import annotations

import dataclasses
from typing import Any

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.recipe.experiments import combined_presets
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import in_group

from .bases import Base
from .flow import Flow, Node

BAND = 480
"""Where trainers stand below the upper edge: above are notes and contact sheets, in pixels."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of a workflow.

    Attributes:
        name: of the LoRA and of all files.
        presets: titles of the recipes in their chain.
        base: what it is trained on.
        note: what stands above the recipe; empty for no note.
        settings: of the trainer, where no recipe names them.
        named: more settings, written into the last recipe.
    """

    name: str
    presets: tuple[str, ...]
    base: Base
    note: str = ""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    named: str = ""


class TrainingColumns:
    """Runs below each other: recipe → pictures → trainer."""

    def __init__(self, flow: Flow, chain: int = 2, number: int = 1) -> None:
        """Open the columns.

        Args:
            flow: The workflow.
            chain: How many recipes the longest chain has.
            number: Of the first group.
        """
        group = flow.group(f"{number} · Recipe and pictures")
        self._recipes = [group.column(380), *(group.column(320) for _ in range(chain - 1))]
        self._pictures = group.column(360)
        self._base = group.column(400)
        self.group = flow.group(f"{number + 1} · Train and read")
        self._trainer = self.group.column(420)

    def add(self, run: Run, top: int = 0) -> Node:
        """Add a run.

        Args:
            run: What it does.
            top: The y of its upper edge, in pixels.

        Returns:
            The trainer.
        """
        if run.note:
            self._recipes[0].note(run.note, top=top, tall=BAND - 80)
        recipe = self._chain(run, top + BAND)
        named = combined_presets(run.presets)
        loader = self._pictures.add(
            "GlitchDatasetLoader",
            "Pictures",
            top=top + BAND,
            recipe=recipe["recipe"],
            **_on_the_node(DatasetRecipe, named.over(DatasetRecipe, {})),
        )
        self._base.add(
            "GlitchContactSheet",
            "What will be trained",
            top=top,
            tall=BAND - 80,
            dataset=loader["dataset"],
            pictures=6,
            cell_px=256,
            caption_lines=3,
        )
        base = run.base.loader(self._base, top=top + BAND)
        return self._trainer.add(
            "GlitchLoraTrainer",
            f"Train {run.name}",
            top=top + BAND,
            model=base["MODEL"],
            clip=base["CLIP"],
            vae=base["VAE"],
            dataset=loader["dataset"].passing_under(base),
            recipe=recipe["recipe"].passing_under(loader, base),
            output_name=run.name,
            **_on_the_node(TrainRecipe, named.over(TrainRecipe, run.settings)),
        )

    def _chain(self, run: Run, top: int) -> Node:
        columns = self._recipes[len(self._recipes) - len(run.presets) :]
        if run.note:
            columns = self._recipes[: len(run.presets)]
        last: Node | None = None
        for title, column in zip(run.presets, columns, strict=True):
            before = {"recipe": last["recipe"]} if last else {}
            last = column.add("GlitchRecipe", f"Recipe: {title}", top=top, preset=title, **before)
        if last is None:
            raise ValueError("A run has at least one recipe.")
        if run.named:
            last.inputs["settings"] = run.named
        return last


def _on_the_node(recipe_type: type, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are widgets of the node which reads them."""
    return {name: settings[name] for name in in_group(recipe_type, "") if name in settings}


def read_curve(columns: TrainingColumns, run: Run, trainer: Node, top: int = 700) -> None:
    """Add the graph of a run's losses, and its verdict in words.

    Args:
        columns: Where the trainer stands.
        run: The run.
        trainer: Its trainer.
        top: The y of the graph, in pixels: wires to the right pass above it.
    """
    graph = columns.group.column(460).add(
        "GlitchLossGraph",
        "Read the curve",
        top=top,
        loss_map=trainer["loss_map"],
        filename_prefix=f"glitch/{run.name}_loss",
    )
    columns.group.column(400).add(
        "PreviewAny", "Verdict", top=top, tall=700, source=graph["verdict"]
    )
