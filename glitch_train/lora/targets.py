"""Which modules of a UNet and of text encoders get a LoRA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import TrainingError
from ..recipe.train import TrainRecipe

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

# unet_layers to what the names of its modules contain.
_LAYERS = {
    "all": (".attentions.",),
    "attention": (".attn1.", ".attn2."),
    "self_attention": (".attn1.",),
    "cross_attention": (".attn2.",),
    "feed_forward": (".ff.",),
    "convolutions": (),
}
_CONVOLUTIONAL = (".resnets.", ".downsamplers.", ".upsamplers.")


def unet_targets(
    unet: UNet2DConditionModel,
    blocks: str = "all",
    layers: str = "all",
    *,
    convolutions: bool = False,
) -> list[str]:
    """Return the Linears and convolutions to train, in the network's order.

    192 modules for SD1.5 and 722 for SDXL by default, 278 and 788 with convolutions.

    Args:
        unet: the UNet.
        blocks: one of :data:`..recipe.train.UNET_BLOCKS`.
        layers: one of :data:`..recipe.train.UNET_LAYERS`, inside transformers.
        convolutions: whether residual blocks and samplers are trained too: their 3×3
            convolutions, and the 1×1 ones and Linears beside them.

    Source: kohya's ``Transformer2DModel`` targets; ``ResnetBlock2D``, ``Downsample2D`` and
    ``Upsample2D`` with conv_dim.
    """
    stages = tuple(blocks.split("+")) if blocks != "all" else ("down", "mid", "up")
    pieces = _LAYERS[layers] + (_CONVOLUTIONAL if convolutions else ())
    return [
        name
        for name, module in unet.named_modules()
        if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
        and name.startswith(stages)
        and any(piece in name for piece in pieces)
    ]


def recipe_targets(unet: UNet2DConditionModel, recipe: TrainRecipe) -> list[str]:
    """Return the modules of a UNet that a recipe trains; none for text_encoder_only.

    Raises:
        TrainingError: when the recipe trains the UNet and selects nothing of this one.
    """
    if not recipe.trains_unet:
        return []
    targets = unet_targets(
        unet, recipe.unet_blocks, recipe.unet_layers, convolutions=bool(recipe.conv_dim)
    )
    if not targets:
        raise TrainingError(
            f"This UNet has no {recipe.unet_layers} layers in {recipe.unet_blocks}; choose other "
            "unet_blocks or unet_layers, or set conv_dim."
        )
    return targets


def text_encoder_targets(tower: CLIPTextModelWithProjection) -> list[str]:
    """Return the Linears of attention and MLP in every layer.

    72 modules for CLIP-L, 192 for OpenCLIP-bigG. Source: kohya's ``CLIPAttention`` and ``CLIPMLP``
    targets.
    """
    return [
        name
        for name, module in tower.named_modules()
        if ".layers." in name and isinstance(module, torch.nn.Linear)
    ]


def has_kernel(module: torch.nn.Module) -> bool:
    """Say whether a module is a convolution larger than 1×1, which conv_dim is for."""
    return isinstance(module, torch.nn.Conv2d) and module.kernel_size != (1, 1)
