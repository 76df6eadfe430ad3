"""Thin adapters between ComfyUI's graph and the library; the only place that imports the host."""

from comfy_api.latest import ComfyExtension, io

from .corruption_nodes import CORRUPTION_NODES
from .dataset.from_images import GlitchDatasetFromImages
from .dataset.loader import GlitchContactSheet, GlitchDatasetLoader
from .dataset.mix import GlitchDatasetMix
from .grid.node import GlitchGrid
from .grid.settings import GlitchGridSettings
from .lora_nodes import GlitchCrossModelLoraApplier
from .loss_nodes import GlitchLossGraph
from .recipe_nodes import GlitchRecipe
from .report_nodes import GlitchReport
from .setting_nodes import SETTING_NODES
from .train_nodes import GlitchLoraTrainer

NODES: list[type[io.ComfyNode]] = [
    GlitchDatasetLoader,
    GlitchDatasetFromImages,
    GlitchDatasetMix,
    GlitchContactSheet,
    *CORRUPTION_NODES,
    GlitchRecipe,
    *SETTING_NODES,
    GlitchLoraTrainer,
    GlitchLossGraph,
    GlitchCrossModelLoraApplier,
    GlitchGrid,
    GlitchGridSettings,
    GlitchReport,
]


class GlitchingTheGaze(ComfyExtension):
    """The pack, as the host sees it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return every node of the pack."""
        return NODES
