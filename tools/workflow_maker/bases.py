"""The base models that the experiment workflows name, and what suits each."""

from __future__ import annotations

import dataclasses

from .flow import Column, Node

CHOICE_COLOR = ("#232", "#353")
"""Green: every node in which a person has something to choose before Run."""


@dataclasses.dataclass(frozen=True)
class Base:
    """A base model.

    Attributes:
        family: how people call it.
        checkpoint: the file's name.
        url: where the file can be had; empty where nowhere.
        sizes: of sample pictures, as a Glitch Grid takes them.
    """

    family: str
    checkpoint: str
    url: str = ""
    sizes: str = "512x512"

    @property
    def models(self) -> tuple[dict[str, str], ...]:
        """What the frontend's missing-model dialog needs."""
        if not self.url:
            return ()
        return ({"name": self.checkpoint, "url": self.url, "directory": "checkpoints"},)

    def loader(self, column: Column, title: str = "Base model", *, top: int | None = None) -> Node:
        """Add a node that loads it.

        Args:
            column: Where it stands.
            title: What stands on it.
            top: As in `Column.add`.
        """
        return column.add(
            "CheckpointLoaderSimple",
            title,
            top=top,
            models=self.models,
            color=CHOICE_COLOR,
            ckpt_name=self.checkpoint,
        )


POCKET = Base("pocket SD1.5", "pocket_sd15.safetensors", sizes="128x128")
SD15 = Base(
    "SD1.5",
    "v1-5-pruned-emaonly-fp16.safetensors",
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
    "v1-5-pruned-emaonly-fp16.safetensors",
)
SDXL = Base(
    "SDXL",
    "sd_xl_base_1.0.safetensors",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/"
    "sd_xl_base_1.0.safetensors",
    sizes="832x1216",
)
