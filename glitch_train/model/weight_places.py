"""Where checkpoints, and the host's models in memory, keep their UNet and their text encoders."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import torch

from .network import TE1, TE2, TEXT_LAYERS, TEXT_PROJECTION, Module, TextTower

# Source: mlfoundations/open_clip, src/open_clip/transformer.py; its names in a layer.
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
"""Transformers' name of a part of a layer to OpenCLIP's."""

OPEN_CLIP_PACKED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
"""What OpenCLIP keeps as the thirds of one ``attn.in_proj``, in this order."""

_OPEN_CLIP_LAYERS = "transformer.resblocks"


@dataclasses.dataclass(frozen=True)
class TowerPlace:
    """Where a text encoder lies.

    Attributes:
        part: ``te1`` or ``te2``.
        prefix: what its parameters' names begin with.
        is_open_clip: whether they go on with OpenCLIP's names; transformers' otherwise.
    """

    part: str
    prefix: str
    is_open_clip: bool = False

    @property
    def layers(self) -> str:
        """What the names of its layers begin with, up to their number."""
        return f"{self.prefix}{_OPEN_CLIP_LAYERS if self.is_open_clip else TEXT_LAYERS}."

    def weight(self, weights: Mapping[str, torch.Tensor], module: Module) -> torch.Tensor:
        """Return a module's weight, (outputs, inputs)."""
        layer, job = f"{self.layers}{module.role.block}", module.role.job
        if job == TEXT_PROJECTION:
            name = f"{self.prefix}{TEXT_PROJECTION}"
            return weights[name].T if self.is_open_clip else weights[f"{name}.weight"]
        if not self.is_open_clip:
            return weights[f"{layer}.{job}.weight"]
        if job in OPEN_CLIP_PACKED:
            thirds = weights[f"{layer}.attn.in_proj_weight"].chunk(3)
            return thirds[OPEN_CLIP_PACKED.index(job)]
        return weights[f"{layer}.{OPEN_CLIP[job]}.weight"]


@dataclasses.dataclass(frozen=True)
class WeightPlaces:
    """Where the parts of a model lie.

    Attributes:
        unet: what the names of the UNet's parameters begin with.
        towers: where text encoders may lie; a model has some of them.
    """

    unet: str
    towers: tuple[TowerPlace, ...]


# Source: CompVis/stable-diffusion and Stability-AI/generative-models; SD2's and SDXL's second
# text encoder have OpenCLIP's names.
SD1_TOWER = TowerPlace(TE1, "cond_stage_model.transformer.")
SD2_TOWER = TowerPlace(TE1, "cond_stage_model.model.", is_open_clip=True)
XL_TOWERS = (
    TowerPlace(TE1, "conditioner.embedders.0.transformer."),
    TowerPlace(TE2, "conditioner.embedders.1.model.", is_open_clip=True),
)
IN_CHECKPOINTS = WeightPlaces("model.diffusion_model.", (SD1_TOWER, SD2_TOWER, *XL_TOWERS))

# Source: ComfyUI, comfy/sd1_clip.py, comfy/text_encoders/sd2_clip.py and comfy/sdxl_clip.py.
HOST_CLIP_L, HOST_CLIP_H, HOST_CLIP_G = "clip_l", "clip_h", "clip_g"
"""The host's names of its CLIP towers: OpenAI's CLIP-L, OpenCLIP's H and bigG."""

_HOST_PARTS = {HOST_CLIP_L: TE1, HOST_CLIP_H: TE1, HOST_CLIP_G: TE2}
HOST_TOWERS = {name: TowerPlace(part, f"{name}.transformer.") for name, part in _HOST_PARTS.items()}
IN_HOST = WeightPlaces("diffusion_model.", tuple(HOST_TOWERS.values()))


def find_towers(
    shapes: Mapping[str, Sequence[int]], places: WeightPlaces
) -> list[tuple[TextTower, TowerPlace]]:
    """Return the text encoders of a model, and where they lie.

    Args:
        shapes: the names of the model's parameters to their shapes.
        places: where to look.
    """
    found = []
    for place in places.towers:
        matches = (re.match(rf"{re.escape(place.layers)}(\d+)\.", name) for name in shapes)
        layers = 1 + max((int(match[1]) for match in matches if match), default=-1)
        if layers:
            norm = OPEN_CLIP["layer_norm1"] if place.is_open_clip else "layer_norm1"
            width = shapes[f"{place.layers}0.{norm}.weight"][0]
            found.append((TextTower(place.part, layers, width), place))
    return found
