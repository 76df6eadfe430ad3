"""Glitch Dataset Loader and Glitch Contact Sheet: a folder becomes a dataset to look at."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui

from ...glitch_train.dataset.recipe import DatasetRecipe
from ...glitch_train.recipe.partial import PartialRecipe
from .. import folders, host
from ..node import GlitchNode
from ..sockets import (
    CATEGORY,
    GlitchCorruptionSocket,
    GlitchDatasetSocket,
    recipe_input,
    search_words,
    tooltip,
    widgets,
)
from .reading import Previews, Reading, stoppable


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
                *widgets(DatasetRecipe, group="", without=("folder",)),
                GlitchCorruptionSocket.Input(
                    "corruption_chain",
                    optional=True,
                    tooltip="From Glitch Corruption nodes; carried out after those "
                    "that a recipe names.",
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
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, folder: str, trigger_word: str = "") -> bool | str:
        """Refuse a folder without pictures, or a malformed text, before anything runs."""
        from ...glitch_train.dataset.load import check_folder

        def check() -> None:
            check_folder(folders.resolve(folder))
            DatasetRecipe(trigger_word=trigger_word)

        return host.sentence_or_true(check)

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        """Run again when the folder's files changed."""
        from ...glitch_train.dataset.folder import folder_fingerprint

        return str(host.state_or_sentence(lambda: folder_fingerprint(folders.resolve(folder))))

    @classmethod
    def execute(
        cls,
        folder: str,
        corruption_chain: str = "",
        recipe: PartialRecipe | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Read the folder and prepare the first pictures."""
        progress = host.NodeProgress(cls.hidden.unique_id)
        reading = Reading.of(cls, settings, corruption_chain, recipe)
        dataset, report = reading.read(folders.resolve(folder), progress)
        sent_out = Previews.of(dataset, reading.handling.preview_count)
        ui = reading.show(dataset, progress, sent_out.warning)
        return io.NodeOutput(
            dataset, sent_out.pictures(), sent_out.captions(), sent_out.above(report), ui=ui
        )


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
        from ...glitch_train.dataset.contact_sheet import SheetStyle, contact_sheet

        progress = host.NodeProgress(cls.hidden.unique_id)
        sheet = contact_sheet(dataset, SheetStyle(**style), stoppable(progress))
        image = host.to_image_tensor([sheet])
        return io.NodeOutput(image, ui=ui.PreviewImage(image, cls=cls))
