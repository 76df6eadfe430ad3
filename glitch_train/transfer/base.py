"""The base models of a transfer: published networks, or checkpoints with their weights."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from ..errors import CheckpointError, LoraFileError
from ..model.families import SD2, SD15, SDXL, SSD1B, VEGA
from ..model.network import TE1, TE2, UNET, Module, TextTower, read_network, reference_network
from ..model.tensor_file import TensorFile
from .transfer import Base

FAMILIES = {"sd15": SD15, "sd21": SD2, "sdxl": SDXL, "ssd1b": SSD1B, "vega": VEGA}
"""Short name, as on the command line, to family."""

_UNET_PREFIX = "model.diffusion_model."
# Where checkpoints keep their text encoders. Source: CompVis/stable-diffusion and
# Stability-AI/generative-models; the second spelling of each pair is OpenCLIP's.
_TOWER_PREFIXES = (
    (TE1, "cond_stage_model.transformer.text_model.encoder.layers."),
    (TE1, "cond_stage_model.model.transformer.resblocks."),
    (TE1, "conditioner.embedders.0.transformer.text_model.encoder.layers."),
    (TE2, "conditioner.embedders.1.model.transformer.resblocks."),
)
_OPEN_CLIP = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_PACKED = {"self_attn.q_proj": 0, "self_attn.k_proj": 1, "self_attn.v_proj": 2}


def find_base(name: str) -> Base:
    """Return the base model of a short family name or of a checkpoint's path.

    Args:
        name: a key of :data:`FAMILIES`, or a .safetensors checkpoint.

    Raises:
        CheckpointError: when it is neither.
    """
    if name in FAMILIES:
        return Base(reference_network(FAMILIES[name]))
    if not Path(name).is_file():
        raise CheckpointError(
            f"There is no checkpoint {name}; give one of {', '.join(FAMILIES)} or the path of a "
            ".safetensors checkpoint."
        )
    return read_base(Path(name))


def read_base(path: Path) -> Base:
    """Read a checkpoint's layout; weights are read one by one when they are measured.

    Args:
        path: a checkpoint, or the UNet of one, in the original format, as safetensors.

    Raises:
        CheckpointError: for a file that is no Stable Diffusion checkpoint in this format.
    """
    try:
        file = TensorFile(path)
    except LoraFileError as error:
        raise CheckpointError(str(error)) from error
    prefix = _UNET_PREFIX if any(name.startswith(_UNET_PREFIX) for name in file) else ""
    shapes = {name[len(prefix) :]: s for name, s in file.shapes.items() if name.startswith(prefix)}
    towers = _towers(file)
    network = read_network(shapes, [tower for tower, _ in towers])
    places = {tower.part: place for tower, place in towers}

    def measured(module: Module) -> float:
        if module.role.part == UNET:
            return _norm(file[f"{prefix}{module.ldm}.weight"])
        return _norm(_text_weight(file, places[module.role.part], module))

    return Base(network, measured)


def _towers(file: TensorFile) -> list[tuple[TextTower, str]]:
    """Return the text encoders of a checkpoint, and where it keeps their layers."""
    found = []
    for part, prefix in _TOWER_PREFIXES:
        matches = (re.match(rf"{re.escape(prefix)}(\d+)\.", name) for name in file)
        layers = 1 + max((int(match[1]) for match in matches if match), default=-1)
        if layers:
            norm = "ln_1" if "resblocks" in prefix else "layer_norm1"
            width = file.shapes[f"{prefix}0.{norm}.weight"][0]
            found.append((TextTower(part, layers, width), prefix))
    return found


def _text_weight(file: TensorFile, prefix: str, module: Module) -> torch.Tensor:
    layer, job = f"{prefix}{module.role.block}", module.role.job
    if "resblocks" not in prefix:
        return file[f"{layer}.{job}.weight"]
    if job in _PACKED:
        return file[f"{layer}.attn.in_proj_weight"].chunk(3)[_PACKED[job]]
    return file[f"{layer}.{_OPEN_CLIP[job]}.weight"]


def _norm(weight: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(weight.float()))
