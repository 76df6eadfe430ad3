"""The host's MODEL and CLIP as networks that a LoRA can be carried over to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..glitch_train.model.network import TE1, TE2, UNET, Module, TextTower, read_network
from ..glitch_train.transfer.transfer import Base

_UNET_PREFIX = "diffusion_model."
_TOWERS = (("clip_l", TE1), ("clip_h", TE1), ("clip_g", TE2))
_LAYERS = "transformer.text_model.encoder.layers"


def base(model: Any, clip: Any) -> Base:
    """Return the network behind MODEL and CLIP; weights are measured where they lie.

    Args:
        model: the host's MODEL.
        clip: the host's CLIP, or None for the UNet alone.

    Raises:
        CheckpointError: for a model outside the Stable Diffusion families.
    """
    weights = model.model.state_dict()
    shapes = {
        name[len(_UNET_PREFIX) :]: tuple(weight.shape)
        for name, weight in weights.items()
        if name.startswith(_UNET_PREFIX)
    }
    text = {} if clip is None else clip.patcher.model.state_dict()
    towers = _towers(text)
    network = read_network(
        shapes, [tower for tower, _ in towers], called=type(model.model).__name__
    )
    names = {tower.part: name for tower, name in towers}

    def measured(module: Module) -> float:
        if module.role.part == UNET:
            return _norm(weights[f"{_UNET_PREFIX}{module.ldm}.weight"])
        tower = names[module.role.part]
        return _norm(text[f"{tower}.transformer.{module.diffusers}.weight"])

    return Base(network, measured)


def _towers(text: Mapping[str, torch.Tensor]) -> list[tuple[TextTower, str]]:
    found = []
    for name, part in _TOWERS:
        head = f"{name}.{_LAYERS}."
        layers = {key[len(head) :].partition(".")[0] for key in text if key.startswith(head)}
        if layers:
            width = text[f"{head}0.self_attn.q_proj.weight"].shape[0]
            found.append((TextTower(part, len(layers), width), name))
    return found


def _norm(weight: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(weight, dtype=torch.float32))
