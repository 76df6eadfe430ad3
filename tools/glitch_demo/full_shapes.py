"""The shapes of full-size UNets, and their parameters under LDM names."""

from __future__ import annotations

import torch

from glitch_train.model import unet_shapes
from glitch_train.model.checkpoint import unet_config
from glitch_train.model.families import SUPPORTED, Family
from glitch_train.model.unet_names import UNetLayout, layout_prefixes

LAYOUTS = {family.name: (family, unet_shapes.LAYOUTS[family]) for family in SUPPORTED}
"""Name to family and skeleton of each that can be trained."""


def ldm_weights(family: Family, layout: UNetLayout) -> dict[str, torch.Tensor]:
    """Return a full-size UNet's parameters under their LDM names, on the meta device.

    The shapes come from diffusers' UNet for the layout; the names are undone by hand here, from
    the LDM definition (two norms, convolutions and embeddings per residual block).
    """
    from diffusers import UNet2DConditionModel

    shapes = {"label_emb.0.0.weight": (1280, 2816)} if family.is_xl else {}
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(shapes, layout, family))
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    }  # fmt: skip
    outside = {
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    }  # fmt: skip
    back = {new: old for old, new in layout_prefixes(layout).items()}
    weights = {}
    for name, value in unet.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if module in outside:
            weights[f"{outside[module]}.{leaf}"] = value
            continue
        prefix = max((p for p in back if f"{name}.".startswith(f"{p}.")), key=len)
        inner = name[len(prefix) + 1 :]
        first, _, rest = inner.partition(".")
        if ".resnets." in prefix:
            inner = f"{resnet[first]}.{rest}"
        weights[f"{back[prefix]}.{inner}"] = value
    return weights
