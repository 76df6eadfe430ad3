"""When the device's memory ran out: how it is known, what to say, how it is given back."""

from __future__ import annotations

import gc
import traceback

import torch

from ..errors import TrainingError
from ..recipe.train import TrainRecipe


class OutOfMemory(TrainingError):
    """The device has not enough memory, and nothing is left that could be given up by itself."""


def shortage(recipe: TrainRecipe, where: str) -> OutOfMemory:
    """Return the sentence for a person.

    Args:
        recipe: what could be lowered in it.
        where: for example `` at step 3``.
    """
    hints = []
    if recipe.gradient_checkpointing != "auto":
        hints.append("set gradient_checkpointing to auto")
    if recipe.batch_size > 1:
        hints.append(f"lower batch_size (it is {recipe.batch_size})")
    if recipe.network_dim > 16:
        hints.append(f"lower network_dim (it is {recipe.network_dim})")
    if recipe.trains_unet and recipe.train_text_encoder:
        hints.append("switch train_text_encoder off")
    hints.append("train smaller pictures")
    return OutOfMemory(f"The device ran out of memory{where}: {', or '.join(hints)}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the device or the system has no memory left."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    said = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in said or "not enough memory" in said or "can't allocate memory" in said
    )


def let_go(error: BaseException) -> None:
    """Free the tensors that the frames of an error hold."""
    traceback.clear_frames(error.__traceback__)


def free_unused(device: torch.device) -> None:
    """Give what nothing holds any more back to the device, so that others find it."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
