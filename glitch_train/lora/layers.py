"""Put LoRA, DoRA or rsLoRA layers into a frozen model with peft."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import TrainingError
from ..recipe.train import TrainRecipe
from .targets import has_kernel

ADAPTER = "glitch"


@dataclasses.dataclass(frozen=True)
class LoraLayer:
    """What is trained of one module; ``ΔW = up @ down * alpha / rank``.

    With a magnitude (DoRA) the weight becomes ``magnitude * (W + ΔW) / ‖W + ΔW‖``, row by row.

    Attributes:
        down: (rank, in) or (rank, in, kh, kw), fp32.
        up: (out, rank) or (out, rank, 1, 1), fp32.
        alpha: what files say; rsLoRA's is larger by the root of the rank.
        magnitude: (out,) or (1, out, 1, 1), fp32; DoRA only.
        weight: the frozen W, (out, in) or (out, in, kh, kw); DoRA only.
    """

    down: torch.nn.Parameter
    up: torch.nn.Parameter
    alpha: float
    magnitude: torch.nn.Parameter | None = None
    weight: torch.Tensor | None = None

    def change(self) -> torch.Tensor:
        """Return ΔW as a matrix (out, in · kh · kw), fp32."""
        product = self.up.detach().flatten(1) @ self.down.detach().flatten(1)
        return product * (self.alpha / self.down.shape[0])


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


@dataclasses.dataclass(frozen=True)
class LoraShape:
    """Kind and size of the layers.

    Attributes:
        rank: inner dimension of the factors.
        alpha: the product is scaled by ``alpha / rank``, in rsLoRA by ``alpha / √rank``.
        kind: one of :data:`..recipe.train.NETWORK_TYPES`.
        conv_rank: inner dimension at convolutions larger than 1×1.
        conv_alpha: their alpha.
    """

    rank: int
    alpha: float
    kind: str = "lora"
    conv_rank: int = 0
    conv_alpha: float = 1.0

    @classmethod
    def of(cls, recipe: TrainRecipe) -> LoraShape:
        """Return the shape a recipe asks for."""
        return cls(
            rank=recipe.network_dim,
            alpha=recipe.network_alpha,
            kind=recipe.network_type,
            conv_rank=recipe.conv_dim,
            conv_alpha=recipe.conv_alpha,
        )


def inject_lora(
    model: torch.nn.Module, targets: Sequence[str], shape: LoraShape, stream: torch.Generator
) -> LoraLayers:
    """Add trainable layers to a frozen model, in place; the model computes what it did before.

    Args:
        model: the frozen UNet or text encoder.
        targets: names of the modules to train.
        shape: kind and size of the layers.
        stream: CPU generator for the down factors (kaiming uniform, a=√5); the up factors start
            at zero, DoRA's magnitudes at the norms of the frozen weights.

    Returns:
        Module name to its layer, in order. What is trained is fp32 on the model's device.

    Raises:
        TrainingError: for DoRA on a weight with an output that is all zero.
    """
    from peft import LoraConfig, inject_adapter_in_model

    kernels = [name for name in targets if has_kernel(model.get_submodule(name))]
    patterns = [re.escape(name) for name in kernels]
    config = LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        rank_pattern=dict.fromkeys(patterns, shape.conv_rank),
        alpha_pattern=dict.fromkeys(patterns, shape.conv_alpha),
        target_modules=list(targets),
        lora_dropout=0.0,
        use_dora=shape.kind == "dora",
        use_rslora=shape.kind == "rslora",
    )
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    layers = {name: _layer(name, model.get_submodule(name), shape.kind) for name in targets}
    _initialise(layers, stream)
    return layers


@contextlib.contextmanager
def without_lora(*models: torch.nn.Module) -> Iterator[None]:
    """Leave the LoRA layers of some models out for a while: the base model, exactly."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for model in models for m in model.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def trainable(layers: LoraLayers) -> Iterator[torch.nn.Parameter]:
    """Yield what is trained in a fixed order: down, up and magnitude, module by module."""
    for layer in layers.values():
        yield layer.down
        yield layer.up
        if layer.magnitude is not None:
            yield layer.magnitude


class LinearFactor(torch.nn.Linear):
    """A factor that is kept in fp32 and computes in the format of what it is given."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return ``input @ weightᵀ``."""
        return F.linear(input, self.weight.to(input.dtype))


class ConvolutionFactor(torch.nn.Conv2d):
    """A factor that is kept in fp32 and computes in the format of what it is given."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the convolution of the input."""
        return self._conv_forward(input, self.weight.to(input.dtype), None)


def _layer(name: str, module: Any, kind: str) -> LoraLayer:
    down, up = module.lora_A[ADAPTER], module.lora_B[ADAPTER]
    # peft would copy every input to fp32, for each of the layers that share it.
    module.cast_input_dtype_enabled = False
    for factor in (down, up):
        factor.__class__ = ConvolutionFactor if factor.weight.ndim > 2 else LinearFactor
        factor.float()
        factor.requires_grad_(True)
    rank = down.weight.shape[0]
    alpha = module.lora_alpha[ADAPTER] * (math.sqrt(rank) if kind == "rslora" else 1.0)
    if ADAPTER not in module.lora_magnitude_vector:
        return LoraLayer(down.weight, up.weight, alpha)
    dora, weight = module.lora_magnitude_vector[ADAPTER], module.get_base_layer().weight
    dora.get_weight_norm = _in_fp32(dora.get_weight_norm)
    norms = dora.get_weight_norm(weight.detach(), torch.zeros_like(weight), 1.0)
    if not norms.all():
        raise TrainingError(
            f"network_type dora cannot train {name}: one of its outputs is all zero in this model; "
            "choose lora or rslora."
        )
    dora.weight = torch.nn.Parameter(norms)
    return LoraLayer(down.weight, up.weight, alpha, dora.weight, weight.detach())


def _in_fp32(measure: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return peft's measure of a weight in fp32.

    In the frozen weight's own format it would be rounded, and the model changed before step 1.
    """

    def measured(
        weight: torch.Tensor, lora_weight: torch.Tensor, scaling: float, **kwargs: Any
    ) -> torch.Tensor:
        return measure(weight.float(), lora_weight.float(), scaling, **kwargs)

    return measured


def _initialise(layers: LoraLayers, stream: torch.Generator) -> None:
    for layer in layers.values():
        values = torch.empty(layer.down.shape, dtype=torch.float32)
        torch.nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=stream)
        layer.down.data.copy_(values)
        layer.up.data.zero_()
