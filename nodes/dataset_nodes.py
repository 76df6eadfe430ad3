"""Glitch Dataset Loader: a folder becomes a dataset, with its pictures and a report to look at."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..glitch_train.errors import DatasetError
from ..glitch_train.recipe import DatasetRecipe
from . import folders, host
from .sockets import CATEGORY, GlitchDatasetSocket, tooltip, widgets


class GlitchDatasetLoader(io.ComfyNode):
    """A folder of pictures and captions → GLITCH_DATASET."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchDatasetLoader",
            display_name="Glitch Dataset Loader",
            category=CATEGORY,
            description="Reads a folder of pictures with captions and shows what will be trained.",
            inputs=[
                io.Combo.Input(
                    "folder",
                    options=folders.choices(),
                    tooltip=tooltip(DatasetRecipe, "folder"),
                ),
                *widgets(DatasetRecipe, without=("folder",)),
                io.Int.Input(
                    "preview_count",
                    default=32,
                    min=1,
                    max=512,
                    tooltip="How many prepared pictures and captions are sent out for looking at. "
                    "All pictures are trained on.",
                ),
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
                    tooltip="Counts, sizes, and every skipped file with its reason (Markdown).",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, folder: str) -> bool | str:
        """Refuse a missing or outside folder before anything runs."""
        try:
            folders.resolve(folder)
        except DatasetError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, folder: str, **_: Any) -> str:
        """Run again when the folder's files changed."""
        from ..glitch_train.dataset import folder_fingerprint

        return folder_fingerprint(folders.resolve(folder))

    @classmethod
    def execute(cls, folder: str, preview_count: int, **settings: Any) -> io.NodeOutput:
        """Read the folder."""
        from ..glitch_train.dataset import load_dataset, report

        recipe = DatasetRecipe(folder=str(folders.resolve(folder)), **settings)
        progress = host.NodeProgress(cls.hidden.unique_id)
        dataset = load_dataset(recipe, on_progress=progress.show)
        shown = dataset.samples[:preview_count]
        pictures = [host.to_image_tensor([dataset.prepare(sample).image]) for sample in shown]
        captions = [sample.caption for sample in shown]
        return io.NodeOutput(dataset, pictures, captions, report(dataset))
