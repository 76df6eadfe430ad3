"""Tiny seeded models and datasets for the library's tests: milliseconds instead of gigabytes."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from PIL import Image

from glitch_train.cache import TensorCache
from glitch_train.model.checkpoint import BaseModel
from glitch_train.model.families import SD15, VEGA, Family
from glitch_train.model.unet_names import UNetLayout
from glitch_train.training.batches import BatchSource
from glitch_train.training.items import TrainingItem

LATENT_PX = 8


def tiny_unet(*, is_xl: bool = False, seed: int = 0) -> UNet2DConditionModel:
    """Return a seeded UNet with two levels of 32 channels."""
    torch.manual_seed(seed)
    extra = {}
    if is_xl:
        extra = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
            "use_linear_projection": True,
        }
    return UNet2DConditionModel(
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
        **extra,
    ).requires_grad_(False)


def tiny_layout() -> UNetLayout:
    """Return the layout of :func:`tiny_unet`."""
    return UNetLayout((32, 32), 1, ((1,), (0,)), ((0, 0), (1, 1)), 1)


def tiny_base(*, is_xl: bool = False, prediction_type: str = "epsilon") -> BaseModel:
    """Return a base model without text encoders."""
    family: Family = VEGA if is_xl else SD15
    return BaseModel(family, tiny_layout(), tiny_unet(is_xl=is_xl), (), prediction_type)


def tiny_items(
    folder: Path, count: int = 3, *, is_xl: bool = False, tokens: tuple[int, ...] = (77,)
) -> tuple[list[TrainingItem], TensorCache]:
    """Store seeded latents and prompts; return their items and the cache that holds both."""
    cache = TensorCache(folder)
    stream = torch.Generator().manual_seed(7)
    items = []
    for index in range(count):
        latents = torch.randn(4, LATENT_PX, LATENT_PX, generator=stream)
        cache.store(f"latents{index}", {"latents": latents})
        prompt = {"prompt_embeds": torch.randn(tokens[index % len(tokens)], 24, generator=stream)}
        if is_xl:
            prompt["pooled_prompt_embeds"] = torch.randn(16, generator=stream)
        cache.store(f"prompt{index}", prompt)
        ids = (100 + index, 200, 3, 5, 64, 64)
        size = (LATENT_PX, LATENT_PX)
        items.append(TrainingItem(f"latents{index}", f"prompt{index}", size, ids, index))
    return items, cache


def tiny_source(folder: Path, *, batch_size: int = 2, seed: int = 0, **kwargs) -> BatchSource:
    """Return a source of batches over :func:`tiny_items`."""
    items, cache = tiny_items(folder, **kwargs)
    return BatchSource(items, cache, cache, batch_size=batch_size, repeats=2, seed=seed)


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "red") -> Path:
    """Write a small picture and return its path."""
    Image.new("RGB", size, colour).save(path)
    return path
