"""Put LoRA layers into a frozen UNet with peft, on kohya's default set of modules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from .seeds import generator

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

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


def unet_targets(unet: UNet2DConditionModel) -> list[str]:
    """Return every Linear and 1×1 convolution inside the transformer blocks.

    192 modules for SD1.5, 722 for SDXL. Source: kohya's default ``Transformer2DModel`` targets.
    """
    return [
        name
        for name, module in unet.named_modules()
        if ".attentions." in name and _is_linear_or_1x1(module)
    ]


def inject_lora(
    unet: UNet2DConditionModel, *, rank: int, alpha: float, seed: int
) -> dict[str, LoraLayer]:
    """Add trainable LoRA layers to a frozen UNet, in place.

    Args:
        unet: the frozen UNet.
        rank: inner dimension of the factors.
        alpha: the product is scaled by ``alpha / rank``.
        seed: seeds the down factors (kaiming uniform, a=√5); the up factors start at zero, so
            the model is unchanged at step 0.

    Returns:
        Module name to its layer, in module order. The factors are fp32 on the UNet's device.
    """
    from peft import LoraConfig, inject_adapter_in_model

    targets = unet_targets(unet)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0)
    inject_adapter_in_model(config, unet, adapter_name=ADAPTER)
    layers = {name: _layer(unet.get_submodule(name)) for name in targets}
    _initialise(layers, seed)
    return layers


def trainable(layers: dict[str, LoraLayer]) -> Iterator[torch.nn.Parameter]:
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


def _initialise(layers: dict[str, LoraLayer], seed: int) -> None:
    stream = generator(seed, "lora")
    for layer in layers.values():
        values = torch.empty(layer.down.shape, dtype=torch.float32)
        torch.nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=stream)
        layer.down.data.copy_(values)
        layer.up.data.zero_()
