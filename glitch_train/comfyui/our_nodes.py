"""This pack's nodes as a workflow names them: classes, inputs, outputs, and the files they write.

A client outside the host has no schema to read, so the names stand here too; a test holds them
against the schemas.
"""

from __future__ import annotations

import dataclasses

RECIPE_SOCKET = "recipe"
PRESET, SETTINGS = "preset", "settings"
OUTPUT_NAME = "output_name"
FILENAME_PREFIX = "filename_prefix"
SAVE_SVG = "save_svg"
MORE_LOSSES = "loss_map_"
"""How the sockets for further runs begin; the first run's has no number."""


@dataclasses.dataclass(frozen=True)
class OurNode:
    """One class of node.

    Attributes:
        node_id: its class in a workflow.
        inputs: those that this library reads or sets.
        outputs: all of them, in the order of their numbers.
        files: suffixes of what it saves in the output folder under one name; it tells of the
            first, and the others lie beside it.
    """

    node_id: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def output(self, name: str) -> int:
        """Return the number of an output, as links have it.

        Raises:
            ValueError: it has no output of this name.
        """
        return self.outputs.index(name)


DATASET_LOADER = OurNode(
    "GlitchDatasetLoader",
    inputs=(RECIPE_SOCKET,),
    outputs=("dataset", "pictures", "captions", "report"),
)
IMAGE_DATASET = OurNode(
    "GlitchDatasetFromImages", inputs=(RECIPE_SOCKET,), outputs=("dataset", "report")
)
RECIPE = OurNode(
    "GlitchRecipe", inputs=(PRESET, SETTINGS, RECIPE_SOCKET), outputs=("recipe", "text")
)
TRAINER = OurNode(
    "GlitchLoraTrainer",
    inputs=(RECIPE_SOCKET, OUTPUT_NAME),
    outputs=("model", "clip", "lora", "loss_map", "lora_path"),
)
LOSS_GRAPH = OurNode(
    "GlitchLossGraph",
    inputs=(FILENAME_PREFIX, SAVE_SVG, f"{MORE_LOSSES}2"),
    outputs=("graph", "csv_path", "verdict", "verdict_json"),
    files=(".png", ".csv"),
)
GRID = OurNode(
    "GlitchGrid",
    inputs=(FILENAME_PREFIX,),
    outputs=("grid", "cells", "base", "glitched", "settings_json", "prompts"),
    files=(".png",),
)
REPORT = OurNode(
    "GlitchReport",
    inputs=(FILENAME_PREFIX,),
    outputs=("report", "report_json", "radar"),
    files=(".png", ".md", ".json", ".csv"),
)
OUR_NODES = (DATASET_LOADER, IMAGE_DATASET, RECIPE, TRAINER, LOSS_GRAPH, GRID, REPORT)
"""Those that this library knows by name; the pack has more."""
