"""How a node reads a folder into a dataset, and what of it the node hands out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...glitch_train.dataset.handling import DatasetHandling
from ...glitch_train.dataset.recipe import DatasetRecipe
from ...glitch_train.errors import DatasetError
from ...glitch_train.recipe.partial import PartialRecipe, partial
from ...glitch_train.recipe.train import TrainRecipe
from ...glitch_train.settings import declared
from ...glitch_train.wording import size_text, where_from
from .. import folders, host
from ..sockets import places

BYTES_PER_PIXEL = 3 * 4
"""Of an IMAGE: RGB, fp32."""

WARNED_SHARE = 0.25
"""Of the free memory: what works on the pictures holds them once or twice more."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a node reads a folder, by its widgets and what is connected to it.

    Attributes:
        settings: its widgets, and what a graph sent beside them.
        corruption_chain: what the Glitch Corruption nodes before it say.
        recipe: what a connected recipe names, which wins.
        remark: a sentence on what was sent beside the widgets, or empty.
    """

    settings: Mapping[str, Any]
    corruption_chain: str = ""
    recipe: PartialRecipe | None = None
    remark: str = ""

    @classmethod
    def of(
        cls, node: Any, widgets: Mapping[str, Any], chain: str, recipe: PartialRecipe | None
    ) -> Reading:
        """Take in what a node was given.

        Args:
            node: the executing node class, with the hidden inputs unique_id and prompt.
            widgets: its settings.
            chain: what the Glitch Corruption nodes before it say.
            recipe: the recipe connected to it.
        """
        besides = places(DatasetRecipe, DatasetHandling)
        sent = host.sent_besides(node, besides)
        checked = partial(sent).values
        return cls({**widgets, **checked}, chain, recipe, host.said_of_sent(sent, besides))

    @property
    def handling(self) -> DatasetHandling:
        """What is done with the dataset beside training on it."""
        return DatasetHandling(**self._chosen(DatasetHandling))

    def recipe_for(self, folder: Path) -> DatasetRecipe:
        """Return the settings for a folder.

        Raises:
            RecipeError: they do not fit, alone or together.
        """
        from ...glitch_train.dataset.corruptions.chain import chain_text

        chosen = self._chosen(DatasetRecipe)
        corruption = chain_text(chosen.pop("corruption", ""), self.corruption_chain)
        return DatasetRecipe(folder=str(folder), corruption=corruption, **chosen)

    def read(
        self, folder: Path, progress: host.NodeProgress, *, allow_empty: bool = False
    ) -> tuple[Any, str]:
        """Return the dataset and its report.

        Args:
            folder: the pictures'.
            progress: shows how many are read.
            allow_empty: return a dataset without samples instead of raising.
        """
        from ...glitch_train.dataset.load import load_dataset
        from ...glitch_train.dataset.mix_report import report_of

        named = self.recipe or PartialRecipe()
        dataset = load_dataset(
            self.recipe_for(folder),
            on_progress=stoppable(progress),
            cache_folder=folders.lasting_cache() if self.handling.keeps_cache else None,
            allow_empty=allow_empty,
            origins=named.origins(DatasetRecipe),
            for_trainer={name: named.values[name] for name in named.names(TrainRecipe)},
        )
        return dataset, report_of(dataset).to_markdown()

    def show(
        self, dataset: Any, progress: host.NodeProgress, *remarks: str
    ) -> dict[str, tuple[str]] | None:
        """Say on the node where settings came from and what is remarked; return it for its ui."""
        lines = [*remarks, self.remark]
        if self.recipe is not None:
            lines.append(where_from(dataset.origins, dataset.recipe))
        said = " ".join(filter(None, lines))
        if not said:
            return None
        progress.say(said)
        return {"text": (said,)}

    def _chosen(self, recipe_type: type) -> dict[str, Any]:
        """Return the settings of one recipe; what the connected one names wins."""
        known = declared(recipe_type)
        ours = {name: value for name, value in self.settings.items() if name in known}
        return (self.recipe or PartialRecipe()).over(recipe_type, ours)


@dataclasses.dataclass(frozen=True)
class Previews:
    """The first prepared variants of a dataset, picture by picture.

    Attributes:
        jobs: (part of the dataset, index of the picture, variant) of each.
        warning: how much memory they take, where that is much; else empty.
    """

    jobs: tuple[tuple[Any, int, int], ...]
    warning: str = ""

    @classmethod
    def of(cls, dataset: Any, count: int) -> Previews:
        """Choose what is handed out; nothing is prepared yet.

        Args:
            dataset: the dataset.
            count: how many pictures at most; 0 for all.

        Raises:
            DatasetError: they do not fit into the memory.
        """
        import torch

        from ...glitch_train.training.devices import free_bytes

        every = [
            (part, index, variant)
            for part in dataset.parts
            for index in range(len(part.samples))
            for variant in range(part.recipe.variants)
        ]
        jobs = tuple(every[:count] if count else every)
        sizes = (part.plan(part.samples[index], variant).size for part, index, variant in jobs)
        needed = sum(width * height * BYTES_PER_PIXEL for width, height in sizes)
        return cls(jobs, memory_warning(len(jobs), needed, free_bytes(torch.device("cpu"))))

    def pictures(self) -> list[Any]:
        """Return each as an IMAGE of one."""
        from ...glitch_train.workers import in_order

        def prepare(job: tuple[Any, int, int]) -> Any:
            part, index, variant = job
            return part.prepare(part.samples[index], variant).image

        made = []
        for image in in_order(prepare, self.jobs):
            host.stop_if_interrupted()
            made.append(host.to_image_tensor([image]))
        return made

    def captions(self) -> list[str]:
        """Return the caption of each as it is trained."""
        return [part.shown_caption(index, variant) for part, index, variant in self.jobs]

    def above(self, report: str) -> str:
        """Return a report with the warning in front."""
        return f"{self.warning}\n\n{report}" if self.warning else report


def memory_warning(count: int, needed: float, free: float) -> str:
    """Return a sentence where pictures take much of the memory, and an empty text otherwise.

    Args:
        count: how many pictures are handed out.
        needed: bytes that they take.
        free: bytes of memory that are free.

    Raises:
        DatasetError: it is more than there is.
    """
    said = (
        f"The {count} pictures handed out take {size_text(needed)} of memory, of which "
        f"{size_text(free)} are free"
    )
    advice = "lower preview_count (in a Glitch Cache node)"
    if needed > free:
        raise DatasetError(f"{said}; {advice}. All pictures are trained on whatever it is.")
    return f"{said}: {advice} if that is too much." if needed > WARNED_SHARE * free else ""


def stoppable(progress: host.NodeProgress) -> Any:
    """Return a callback that moves a node's bar, and ends its work when the person cancels."""

    def show(done: int, total: int) -> None:
        host.stop_if_interrupted()
        progress.show(done, total)

    return show
