"""The host's published networks in this process, without weights, and its maps of LoRA names."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

import torch

# Configurations of the published checkpoints, as the host's model detection reads them.
_COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "use_spatial_transformer": True, "legacy": False,
}  # fmt: skip
_XL = {
    **_COMMON, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "context_dim": 2048,
    "num_classes": "sequential", "adm_in_channels": 2816, "num_head_channels": 64,
    "use_linear_in_transformer": True,
}  # fmt: skip
_SD = {
    **_COMMON, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "adm_in_channels": None,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {**_SD, "context_dim": 768, "num_heads": 8},
    "sd21": {**_SD, "context_dim": 1024, "num_head_channels": 64,
             "use_linear_in_transformer": True},
    "sdxl": {**_XL, "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
             "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10]},
    "ssd1b": {**_XL, "transformer_depth": [0, 0, 2, 2, 4, 4], "transformer_depth_middle": -1,
              "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4]},
    "vega": {**_XL, "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": -1,
             "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2]},
}  # fmt: skip


def host_unet(name: str) -> SimpleNamespace:
    """Return a full-size UNet of the host on the meta device, as its key map wants it."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        unet = UNetModel(**CONFIGS[name], operations=comfy.ops.disable_weight_init, device="meta")
    weights = {f"diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    config = SimpleNamespace(unet_config=dict(CONFIGS[name]))
    return SimpleNamespace(state_dict=lambda: weights, model_config=config)


@functools.cache
def key_map(name: str) -> dict[str, str]:
    """Return the host's own map of LoRA names, for weights that a LoRA can patch."""
    import comfy.lora

    model = host_unet(name)
    weights = model.state_dict()
    full = comfy.lora.model_lora_keys_unet(model, {})
    return {
        spelled: key
        for spelled, key in full.items()
        if key in weights and weights[key].ndim >= 2 and key.endswith(".weight")
    }


def text_key_map(towers: dict[str, dict[str, torch.Tensor]]) -> dict[str, str]:
    """Return the host's own map of LoRA names of text encoders.

    Args:
        towers: the host's name of a tower, such as clip_l, to its weights by transformers' names.
    """
    import comfy.lora

    weights = {
        f"{tower}.transformer.{name}.weight": weight
        for tower, named in towers.items()
        for name, weight in named.items()
    }
    return comfy.lora.model_lora_keys_clip(SimpleNamespace(state_dict=lambda: weights), {})
