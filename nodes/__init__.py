"""Thin adapters between ComfyUI's graph and the library; the only place that imports the host."""

from comfy_api.latest import ComfyExtension, io

from .corruption_nodes import CORRUPTION_NODES
from .dataset_nodes import GlitchContactSheet, GlitchDatasetLoader
from .grid_nodes import GlitchGrid
from .image_nodes import GlitchDatasetFromImages
from .lora_nodes import GlitchCrossModelLoraApplier
from .loss_nodes import GlitchLossGraph
from .recipe_nodes import GlitchRecipe
from .report_nodes import GlitchReport
from .train_nodes import GlitchLoraTrainer

NODES: list[type[io.ComfyNode]] = [
    GlitchDatasetLoader,
    GlitchDatasetFromImages,
    GlitchContactSheet,
    *CORRUPTION_NODES,
    GlitchRecipe,
    GlitchLoraTrainer,
    GlitchLossGraph,
    GlitchCrossModelLoraApplier,
    GlitchGrid,
    GlitchReport,
]


class GlitchingTheGaze(ComfyExtension):
    """The pack, as the host sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return every node of the pack."""
        return NODES
