"""Glitch Grid Settings: what of a grid is seldom turned."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...glitch_train.grid.plan import SETTINGS, GridRecipe
from .. import host
from ..node import GlitchNode
from ..sockets import CATEGORY, search_words, widgets
from . import loras

GridSettingsSocket = io.Custom("GLITCH_GRID_SETTINGS")
LORA_NAMES = {"lora_names": SETTINGS}
"""The one setting that no recipe of a grid declares: files of the host, and the node it is in."""


class GlitchGridSettings(GlitchNode):
    """Layout, negative prompt and more LoRA files → GLITCH_GRID_SETTINGS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchGridSettings",
            display_name=SETTINGS,
            category=f"{CATEGORY}/settings",
            **search_words("grid layout", "negative prompt", "xy plot columns"),
            description="How a Glitch Grid is laid out, what else it compares, and how it samples "
            "where the grid itself does not ask.",
            inputs=[
                *widgets(GridRecipe, group=SETTINGS),
                io.String.Input(
                    "lora_names",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="More files in models/loras, one a line; * stands for anything, such "
                    "as glitch/run_*. What it stands for is looked up when the grid begins, so "
                    "snapshots of a trainer before it are found.",
                ),
            ],
            outputs=[
                GridSettingsSocket.Output(display_name="settings", tooltip="For Glitch Grid.")
            ],
        )

    @classmethod
    def validate_inputs(
        cls, columns: str | None = None, lora_names: str | None = None
    ) -> bool | str:
        """Refuse what cannot be read before anything runs; what is linked is None here."""

        def check() -> None:
            GridRecipe(columns=columns or "")
            loras.check_files(None, lora_names)

        return host.sentence_or_true(check)

    @classmethod
    def fingerprint_inputs(cls, lora_names: str | None = None, **_: Any) -> Any:
        """Have the grid run again when a LoRA's file changed."""
        return host.state_or_sentence(lambda: loras.file_states(loras.NO_LORA, lora_names or ""))

    @classmethod
    def execute(cls, **settings: Any) -> io.NodeOutput:
        """Hand the settings on."""
        return io.NodeOutput(settings)
