"""When the device's memory does not suffice: what a training gives up, and what to say."""

from __future__ import annotations

import gc
import traceback

import torch

from ..errors import TrainingError
from ..recipe.train import TrainRecipe
from .devices import wants_checkpointing


class OutOfMemory(TrainingError):
    """The device has not enough memory, and nothing is left that could be given up by itself."""


class MemoryPlan:
    """How thriftily a training's forward passes are done; it only ever gets thriftier.

    Attributes:
        checkpointing: whether activations are recomputed instead of kept.
        micro_batch: most pictures per forward pass; a larger batch is cut, with equal losses.
    """

    def __init__(
        self, recipe: TrainRecipe, device: torch.device, *, latent_pixels: int, is_xl: bool
    ) -> None:
        """Decide by the recipe and the memory that is free.

        Args:
            recipe: gradient_checkpointing and batch_size.
            device: where training runs; the UNet is already there.
            latent_pixels: H/8 × W/8 of the largest training picture.
            is_xl: whether the UNet is of the SDXL family.
        """
        self._recipe = recipe
        self.micro_batch = recipe.batch_size
        self.checkpointing = wants_checkpointing(
            recipe.gradient_checkpointing,
            device,
            latent_pixels=latent_pixels,
            batch_size=recipe.batch_size,
            is_xl=is_xl,
        )

    def tighten(self) -> str:
        """Give up something, where the recipe leaves it to us; return what, or an empty text."""
        if self._recipe.gradient_checkpointing != "auto":
            return ""
        if not self.checkpointing:
            self.checkpointing = True
            return "gradient checkpointing is on from here"
        if self.micro_batch > 1:
            self.micro_batch = -(-self.micro_batch // 2)
            return f"batches are trained {self.micro_batch} at a time from here"
        return ""


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
