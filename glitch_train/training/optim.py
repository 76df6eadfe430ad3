"""Optimizers and learning-rate schedules from the libraries that keep them, loaded when chosen."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..errors import TrainingError
from ..recipe.train import TrainRecipe

Optimizer = torch.optim.Optimizer
Groups = list[dict[str, Any]]
Schedule = torch.optim.lr_scheduler.LRScheduler


def build_optimizer(
    recipe: TrainRecipe,
    unet: Iterable[torch.nn.Parameter],
    text_encoders: Iterable[torch.nn.Parameter] = (),
) -> Optimizer:
    """Return the optimizer a recipe asks for.

    Args:
        recipe: optimizer, learning_rate, text_encoder_lr and weight_decay.
        unet: the UNet's factors; a group called ``unet`` where there are any.
        text_encoders: the text encoders' factors, a group called ``text_encoder``.

    Raises:
        TrainingError: when the optimizer's package is not installed; names the package.
    """
    common: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    groups = [
        {"name": "unet", "params": list(unet), "lr": recipe.learning_rate},
        {"name": "text_encoder", "params": list(text_encoders), "lr": recipe.text_encoder_lr},
    ]
    return _OPTIMIZERS[recipe.optimizer]([group for group in groups if group["params"]], common)


def state_bytes(optimizer: str, shapes: Iterable[torch.Size]) -> int:
    """Return what an optimizer remembers of the factors once it has done a step, in bytes.

    Args:
        optimizer: one of :data:`..recipe.train.OPTIMIZERS`.
        shapes: of the factors, fp32.
    """
    return sum(_REMEMBERED[optimizer](shape) for shape in shapes)


def _adamw_8bit_bytes(shape: torch.Size) -> int:
    # Two moments of a byte with an fp32 scale for each block of 256; small ones stay fp32.
    # Source: bitsandbytes, optim/optimizer.py (min_8bit_size, blocksize).
    count = shape.numel()
    return 8 * count if count < 4096 else 2 * (count + 4 * -(-count // 256))


def _adafactor_bytes(shape: torch.Size) -> int:
    # Rows and columns instead of a matrix. Source: transformers, optimization.py.
    if len(shape) < 2:
        return 4 * shape.numel()
    return 4 * (shape[:-1].numel() + (shape[:-2] + shape[-1:]).numel())


_REMEMBERED: dict[str, Callable[[torch.Size], int]] = {
    "AdamW": lambda shape: 8 * shape.numel(),
    "AdamW8bit": _adamw_8bit_bytes,
    "Prodigy": lambda shape: 16 * shape.numel(),
    "Lion": lambda shape: 4 * shape.numel(),
    "Adafactor": _adafactor_bytes,
    "SGD": lambda shape: 4 * shape.numel(),
}


def build_schedule(recipe: TrainRecipe, optimizer: Optimizer) -> Schedule:
    """Return the learning rate's schedule over the recipe's steps.

    ``constant`` ignores warmup_steps, as diffusers and kohya do; all others rise over them.

    Args:
        recipe: lr_scheduler, warmup_steps, lr_cycles and steps.
        optimizer: whose learning rate it sets.
    """
    if recipe.lr_scheduler == "rex":
        return torch.optim.lr_scheduler.LambdaLR(optimizer, rex(recipe.steps, recipe.warmup_steps))
    from diffusers.optimization import get_scheduler

    return get_scheduler(
        recipe.lr_scheduler,
        optimizer,
        num_warmup_steps=recipe.warmup_steps,
        num_training_steps=recipe.steps,
        num_cycles=recipe.lr_cycles,
    )


def rex(steps: int, warmup_steps: int) -> Callable[[int], float]:
    """Return the REX multiplier: slow decay first, steep at the end.

    Args:
        steps: training steps in all.
        warmup_steps: steps of linear rise before the decay begins.

    Returns:
        Step (from 0) to a factor on the learning rate, ``(1 - p) / (1 - p / 2)`` for the share
        ``p`` of the decay that is done.

    Source: Chen et al. 2021, "REX: Revisiting Budgeted Training with an Improved Schedule".
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        done = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return (1 - done) / (1 - done / 2)

    return factor


def _optional(module: str, package: str, optimizer: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TrainingError(
            f"The optimizer {optimizer} needs the package {package}, which is not installed; "
            f"run pip install {package}, or choose AdamW."
        ) from error


def _adamw(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    # One kernel, where torch would otherwise hold a third copy of the LoRA during the step.
    on_gpu = all(p.is_cuda for group in parameters for p in group["params"])
    return torch.optim.AdamW(parameters, **common, fused=on_gpu or None)


def _adamw_8bit(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    bitsandbytes = _optional("bitsandbytes", "bitsandbytes", "AdamW8bit")
    return bitsandbytes.optim.AdamW8bit(parameters, **common)


def _prodigy(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    prodigy = _optional("prodigyopt", "prodigyopt", "Prodigy")
    return prodigy.Prodigy(parameters, **common, decouple=True, safeguard_warmup=True)


def _lion(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    return _optional("lion_pytorch", "lion-pytorch", "Lion").Lion(parameters, **common)


def _adafactor(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    from transformers.optimization import Adafactor

    # A learning rate of its own choosing would ignore the recipe's.
    return Adafactor(parameters, **common, scale_parameter=False, relative_step=False)


def _sgd(parameters: Groups, common: dict[str, Any]) -> Optimizer:
    return torch.optim.SGD(parameters, **common, momentum=0.9)


_OPTIMIZERS: dict[str, Callable[[Groups, dict[str, Any]], Optimizer]] = {
    "AdamW": _adamw,
    "AdamW8bit": _adamw_8bit,
    "Prodigy": _prodigy,
    "Lion": _lion,
    "Adafactor": _adafactor,
    "SGD": _sgd,
}
