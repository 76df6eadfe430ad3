"""Puts the LoRA layers that a recipe asks for into a base model."""

from __future__ import annotations

import torch

from ..lora.layers import LoraLayers, LoraShape, TrainedLora, inject_lora
from ..lora.targets import recipe_targets, text_encoder_targets
from ..model.checkpoint import BaseModel
from ..recipe.train import TrainRecipe
from ..seeds import generator


def inject(
    base: BaseModel, recipe: TrainRecipe, device: torch.device, dtype: torch.dtype
) -> TrainedLora:
    """Put layers into the UNet, and into the text encoders where they are trained, in place.

    Args:
        base: the frozen base; text encoders that are trained move to the device.
        recipe: which layers, and the seed of their first values.
        device: where to compute.
        dtype: what to compute in.

    Returns:
        The layers; the model computes what it did before.

    Raises:
        TrainingError: for DoRA on a weight with an output that is all zero.
    """
    stream = generator(recipe.seed, "lora")

    def layers(model: torch.nn.Module, targets: list[str]) -> LoraLayers:
        return inject_lora(model, targets, LoraShape.of(recipe), stream)

    targets = recipe_targets(base.unet, recipe)
    unet = layers(base.unet, targets) if targets else {}
    towers = [encoder.model for encoder in base.text_encoders if recipe.trains_text_encoder]
    for tower in towers:
        torch.nn.Module.to(tower, device=device, dtype=dtype)
    return TrainedLora(unet, tuple(layers(one, text_encoder_targets(one)) for one in towers))
