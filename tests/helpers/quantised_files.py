"""Checkpoints as ComfyUI's tools quantise them, and what their weights mean."""

from __future__ import annotations

import json

import torch

UNET, TOWER = "model.diffusion_model.", "cond_stage_model.transformer."


def is_scaled(name: str, value: torch.Tensor) -> bool:
    """Say whether quantisers take a weight: the Linears'."""
    return name.startswith((UNET, TOWER)) and value.ndim == 2 and "embed" not in name


def quantised(state: dict[str, torch.Tensor], kind: str, stored: torch.dtype) -> tuple:
    """Return a checkpoint as ComfyUI's tools write it, its metadata, and what it means.

    ``old`` has ``scale_weight`` and a mark, ``layers`` has ``weight_scale`` and a JSON beside each
    weight, ``metadata`` the same JSON in the header.
    """
    made, meant, layers = {}, {}, {}
    largest = 127 if stored == torch.int8 else torch.finfo(stored).max
    for name, value in state.items():
        made[name], meant[name] = value, value.float()
        if not is_scaled(name, value):
            continue
        layer = name.removesuffix(".weight")
        scale = value.float().abs().max() / largest
        scaled = value.float() / scale
        made[name] = (scaled.round() if stored == torch.int8 else scaled).to(stored)
        meant[name] = made[name].float() * scale
        if kind == "old":
            made[f"{layer}.scale_weight"] = scale
            made[f"{layer}.scale_input"] = torch.tensor(1.0)
        else:
            made[f"{layer}.weight_scale"] = scale
            format_name = "int8_tensorwise" if stored == torch.int8 else "float8_e4m3fn"
            layers[layer] = {"format": format_name}
            if kind == "layers":
                raw = json.dumps(layers[layer]).encode()
                made[f"{layer}.comfy_quant"] = torch.tensor(list(raw), dtype=torch.uint8)
    if kind == "old":
        for prefix in (UNET, TOWER):
            made[f"{prefix}scaled_fp8"] = torch.tensor([], dtype=stored)
    told = {"_quantization_metadata": json.dumps({"layers": layers})} if kind == "metadata" else {}
    return made, told, meant
