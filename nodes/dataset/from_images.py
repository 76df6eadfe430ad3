"""Glitch Dataset from Images: pictures from anywhere on the graph become a dataset."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...glitch_train.dataset.recipe import DatasetRecipe
from ...glitch_train.errors import RecipeError
from ...glitch_train.recipe.partial import PartialRecipe
from .. import folders, host, made_files
from ..node import GlitchNode
from ..sockets import (
    CATEGORY,
    GlitchCorruptionSocket,
    GlitchDatasetSocket,
    recipe_input,
    search_words,
    widgets,
)
from .reading import Reading, stoppable


class GlitchDatasetFromImages(GlitchNode):
    """IMAGE, captions and masks → GLITCH_DATASET, kept as a folder by content."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchDatasetFromImages",
            display_name="Glitch Dataset from Images",
            category=CATEGORY,
            **search_words("training data", "image batch", "video frames", "masked training"),
            description="Makes a dataset of pictures from the graph: from other packs' glitch "
            "nodes, captioners, video frames or ComfyUI's own dataset nodes. They are kept in "
            "output/glitch/pictures by their content.",
            is_input_list=True,
            inputs=[
                io.Image.Input("images", tooltip="Pictures: batches, or lists of any sizes."),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="One caption for all pictures, or a list with one for each.",
                ),
                *widgets(DatasetRecipe, group="", without=("folder",)),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where a picture counts in the loss: one mask for all pictures, "
                    "or one for each, each of its picture's shape.",
                ),
                GlitchCorruptionSocket.Input(
                    "corruption_chain",
                    optional=True,
                    tooltip="From Glitch Corruption nodes; carried out after those that a recipe "
                    "names.",
                ),
                recipe_input(),
            ],
            outputs=[
                GlitchDatasetSocket.Output(
                    display_name="dataset",
                    tooltip="For the Glitch LoRA Trainer or a Glitch Dataset Mix.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Counts, sizes, shapes and caption lengths (Markdown).",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, trigger_word: Any = "") -> bool | str:
        """Refuse a malformed text before anything runs."""
        text = _one("trigger_word", trigger_word)
        return host.sentence_or_true(lambda: DatasetRecipe(trigger_word=text or ""))

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """Run again when a kept picture is gone."""
        return made_files.fingerprint(inputs)

    @classmethod
    def execute(
        cls,
        images: list[Any],
        captions: list[str | None] | None = None,
        mask: list[Any] | None = None,
        **single: Any,
    ) -> io.NodeOutput:
        """Keep the pictures, then read their folder as any other."""
        from ...glitch_train.dataset.kept import check_all_used, keep_pictures
        from .given_pictures import GivenPictures

        settings = {name: _one(name, value) for name, value in single.items()}
        recipe: PartialRecipe | None = settings.pop("recipe", None)
        chain = settings.pop("corruption_chain", None) or ""
        given = GivenPictures.of(images, captions or [], mask)
        settings["masks"] = "beside" if given.masks else "none"
        reading = Reading.of(cls, settings, chain, recipe)
        place = folders.kept_pictures()
        reading.recipe_for(place)  # what does not fit is said before anything is written
        progress = host.NodeProgress(cls.hidden.unique_id)
        folder = keep_pictures(len(given), given.__getitem__, place, stoppable(progress))
        dataset, report = reading.read(folder, progress, allow_empty=True)
        check_all_used(dataset)
        made_files.remember(folder / file.name for file in dataset.files)
        return io.NodeOutput(dataset, report, ui=reading.show(dataset, progress))


def _one(name: str, value: Any) -> Any:
    """Return the one value of an input: this node gets a list of each.

    Raises:
        RecipeError: when several came, of which all but one would be dropped.
    """
    if not isinstance(value, list):
        return value
    if len(value) > 1:
        raise RecipeError(f"{name} takes one value, and a list of {len(value)} arrived.")
    return value[0] if value else None
