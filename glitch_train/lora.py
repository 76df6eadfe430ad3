"""Put LoRA layers into a frozen UNet with peft, on kohya's default set of modules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

ADAPTER = "glitch"


@dataclasses.dataclass(frozen=True)
class LoraLayer:
    """The two trained factors of one module; ``ΔW = up @ down * alpha / rank``.

    Attributes:
        down: (rank, in) or (rank, in, 1, 1), fp32.
        up: (out, rank) or (out, rank, 1, 1), fp32.
    """

    down: torch.nn.Parameter
    up: torch.nn.Parameter


LoraLayers = dict[str, LoraLayer]
"""Module name, as diffusers and transformers have it, to its layer."""


@dataclasses.dataclass(frozen=True)
class TrainedLora:
    """All factors of one training.

    Attributes:
        unet: the UNet's layers; empty when only text encoders are trained.
        text_encoders: one dict per text encoder; empty when they are left alone.
    """

    unet: LoraLayers
    text_encoders: tuple[LoraLayers, ...] = ()


def unet_targets(unet: UNet2DConditionModel) -> list[str]:
    """Return every Linear and 1×1 convolution inside the transformer blocks.

    192 modules for SD1.5, 722 for SDXL. Source: kohya's default ``Transformer2DModel`` targets.
    """
    return [
        name
        for name, module in unet.named_modules()
        if ".attentions." in name and _is_linear_or_1x1(module)
    ]


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


def inject_lora(
    model: torch.nn.Module,
    targets: list[str],
    *,
    rank: int,
    alpha: float,
    stream: torch.Generator,
) -> LoraLayers:
    """Add trainable LoRA layers to a frozen model, in place.

    Args:
        model: the frozen UNet or text encoder.
        targets: names of the modules to train.
        rank: inner dimension of the factors.
        alpha: the product is scaled by ``alpha / rank``.
        stream: CPU generator for the down factors (kaiming uniform, a=√5); the up factors start
            at zero, so the model is unchanged at step 0.

    Returns:
        Module name to its layer, in order. The factors are fp32 on the model's device.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    layers = {name: _layer(model.get_submodule(name)) for name in targets}
    _initialise(layers, stream)
    return layers


def trainable(layers: LoraLayers) -> Iterator[torch.nn.Parameter]:
    """Yield the factors in a fixed order: down then up, module by module."""
    for layer in layers.values():
        yield layer.down
        yield layer.up


def _is_linear_or_1x1(module: torch.nn.Module) -> bool:
    if isinstance(module, torch.nn.Conv2d):
        return module.kernel_size == (1, 1)
    return isinstance(module, torch.nn.Linear)


def _layer(module: Any) -> LoraLayer:
    down, up = module.lora_A[ADAPTER], module.lora_B[ADAPTER]
    for factor in (down, up):
        factor.float()
        factor.requires_grad_(True)
    return LoraLayer(down.weight, up.weight)


def _initialise(layers: LoraLayers, stream: torch.Generator) -> None:
    for layer in layers.values():
        values = torch.empty(layer.down.shape, dtype=torch.float32)
        torch.nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=stream)
        layer.down.data.copy_(values)
        layer.up.data.zero_()
