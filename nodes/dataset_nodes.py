"""Glitch Dataset Loader and Glitch Contact Sheet: a folder becomes a dataset to look at."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui

from ..glitch_train.dataset.recipe import DatasetRecipe
from ..glitch_train.recipe.partial import PartialRecipe
from ..glitch_train.settings import check_choice
from ..glitch_train.wording import where_from
from . import folders, host
from .node import GlitchNode
from .sockets import (
    CATEGORY,
    GlitchCorruptionSocket,
    GlitchDatasetSocket,
    recipe_input,
    search_words,
    tooltip,
    widgets,
)

CACHES = ("until restart", "keep")


class GlitchDatasetLoader(GlitchNode):
    """A folder of pictures and captions → GLITCH_DATASET."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchDatasetLoader",
            display_name="Glitch Dataset Loader",
            category=CATEGORY,
            **search_words("training data", "image folder", "captions"),
            description="Reads a folder of pictures with captions and shows what will be trained.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders.choices(),
                    tooltip=tooltip(DatasetRecipe, "folder"),
                ),
                *widgets(DatasetRecipe, without=("folder", "masks"), optional=True),
                io.Int.Input(
                    "preview_count",
                    default=32,
                    min=1,
                    max=512,
                    optional=True,
                    tooltip="How many prepared pictures and captions are sent out for looking at. "
                    "All pictures are trained on.",
                ),
                io.Combo.Input(
                    "cache",
                    options=list(CACHES),
                    default=CACHES[0],
                    optional=True,
                    tooltip="How long encoded pictures and captions stay on disk: in ComfyUI's "
                    "temp folder until it starts again, or for good in output/glitch/cache (or "
                    "glitch_cache of extra_model_paths.yaml).",
                ),
                GlitchCorruptionSocket.Input(
                    "corruption_chain",
                    optional=True,
                    tooltip="From Glitch Corruption nodes; carried out after those in the text.",
                ),
                recipe_input(),
            ],
            outputs=[
                GlitchDatasetSocket.Output(
                    display_name="dataset", tooltip="For the Glitch LoRA Trainer."
                ),
                io.Image.Output(
                    display_name="pictures",
                    is_output_list=True,
                    tooltip="The first pictures as they are trained.",
                ),
                io.String.Output(
                    display_name="captions",
                    is_output_list=True,
                    tooltip="The captions of these pictures as they are trained.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Counts, sizes, shapes, caption lengths, and every skipped file with "
                    "its reason (Markdown).",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls,
        folder: str,
        framing_mix: str = "",
        corruption: str = "",
        background: str = "white",
        fixed_caption: str = "",
        trigger_word: str = "",
        cache: str = CACHES[0],
    ) -> bool | str:
        """Refuse a folder without pictures, or a malformed text, before anything runs."""
        from ..glitch_train.dataset.load import check_folder

        def check() -> None:
            check_folder(folders.resolve(folder))
            check_choice("cache", cache, CACHES)  # ComfyUI 0.3.75 lets any word through
            DatasetRecipe(
                framing_mix=framing_mix,
                corruption=corruption,
                background=background,
                fixed_caption=fixed_caption,
                trigger_word=trigger_word,
                bucket_no_upscale=True,  # whether buckets fit is for execute, which knows the shape
            )

        return host.sentence_or_true(check)

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        """Run again when the folder's files changed."""
        from ..glitch_train.dataset.folder import folder_fingerprint

        return folder_fingerprint(folders.resolve(folder))

    @classmethod
    def execute(
        cls,
        folder: str,
        preview_count: int = 32,
        cache: str = CACHES[0],
        corruption_chain: str = "",
        recipe: PartialRecipe | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Read the folder and prepare the first pictures."""
        progress = host.NodeProgress(cls.hidden.unique_id)
        kept = folders.lasting_cache() if cache == CACHES[1] else None
        reading = Reading(settings, corruption_chain, recipe, kept)
        dataset, report = reading.read(folders.resolve(folder), progress)
        pictures, captions = _previews(dataset, preview_count)
        return io.NodeOutput(
            dataset, pictures, captions, report, ui=reading.said(dataset, progress)
        )


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a node reads a folder, by its widgets and what is connected to it.

    Attributes:
        settings: its widgets.
        corruption_chain: what the Glitch Corruption nodes before it say.
        recipe: what a connected recipe names, which wins.
        cache_folder: where encoded variants stay for good; None until the host starts again.
    """

    settings: Mapping[str, Any]
    corruption_chain: str = ""
    recipe: PartialRecipe | None = None
    cache_folder: Path | None = None

    def read(self, folder: Path, progress: host.NodeProgress) -> tuple[Any, str]:
        """Return the dataset and its report."""
        from ..glitch_train.dataset.corruptions.chain import chain_text
        from ..glitch_train.dataset.load import load_dataset
        from ..glitch_train.dataset.report import DatasetReport

        named = self.recipe or PartialRecipe()
        chosen = named.over(DatasetRecipe, self.settings)
        corruption = chain_text(chosen.pop("corruption", ""), self.corruption_chain)
        dataset = load_dataset(
            DatasetRecipe(folder=str(folder), corruption=corruption, **chosen),
            on_progress=stoppable(progress),
            cache_folder=self.cache_folder,
            origins=named.origins(DatasetRecipe),
        )
        return dataset, DatasetReport.of(dataset).to_markdown()

    def said(self, dataset: Any, progress: host.NodeProgress) -> dict[str, tuple[str]] | None:
        """Show on the node which settings a connected recipe decided, and return it for its ui."""
        if self.recipe is None:
            return None
        said = where_from(dataset.origins, dataset.recipe)
        progress.say(said)
        return {"text": (said,)}


class GlitchContactSheet(GlitchNode):
    """GLITCH_DATASET → one picture with sources, prepared variants and captions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchContactSheet",
            display_name="Glitch Contact Sheet",
            category=CATEGORY,
            **search_words("dataset preview", "training pictures"),
            description="Shows sources beside what becomes of them, with the captions as trained.",
            is_output_node=True,
            inputs=[
                GlitchDatasetSocket.Input("dataset", tooltip="From the Glitch Dataset Loader."),
                io.Int.Input(
                    "pictures",
                    default=8,
                    min=1,
                    max=200,
                    tooltip="How many pictures are shown, spread evenly over the dataset.",
                ),
                io.Int.Input(
                    "variants",
                    default=3,
                    min=1,
                    max=32,
                    tooltip="How many prepared variants of each are shown.",
                ),
                io.Int.Input(
                    "cell_px",
                    default=512,
                    min=64,
                    max=2048,
                    tooltip="Side of a cell, in pixels. Pictures up to this size are shown pixel "
                    "by pixel, larger ones shrunk.",
                ),
                io.Int.Input(
                    "caption_lines",
                    default=4,
                    min=0,
                    max=40,
                    tooltip="Most lines of a caption below its picture.",
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The contact sheet.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, dataset: Any, **style: int) -> io.NodeOutput:
        """Draw the sheet."""
        from ..glitch_train.dataset.contact_sheet import SheetStyle, contact_sheet

        progress = host.NodeProgress(cls.hidden.unique_id)
        sheet = contact_sheet(dataset, SheetStyle(**style), stoppable(progress))
        image = host.to_image_tensor([sheet])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))


def stoppable(progress: host.NodeProgress) -> Any:
    """Return a callback that moves a node's bar, and ends its work when the person cancels."""

    def show(done: int, total: int) -> None:
        host.stop_if_interrupted()
        progress.show(done, total)

    return show


def _previews(dataset: Any, count: int) -> tuple[list[Any], list[str]]:
    """Return the first prepared variants, picture by picture, and their captions."""
    from ..glitch_train.workers import in_order

    variants = dataset.recipe.variants
    jobs = [
        (index, variant) for index in range(len(dataset.samples)) for variant in range(variants)
    ][:count]
    prepared = in_order(lambda job: dataset.prepare(dataset.samples[job[0]], job[1]).image, jobs)
    pictures = []
    for image in prepared:
        host.stop_if_interrupted()
        pictures.append(host.to_image_tensor([image]))
    return pictures, [dataset.shown_caption(*job) for job in jobs]
