"""When the device's memory ran out: how it is known, what to say, how it is given back."""

from __future__ import annotations

import gc
import traceback

import torch

from ..errors import TrainingError

UNPLANNED = "smaller pictures, or close what else uses the device"
"""What helps before it is known what a training needs."""


class OutOfMemory(TrainingError):
    """The device has not enough memory, and nothing is left that could be given up by itself."""


def shortage(remedies: str = UNPLANNED, where: str = "") -> OutOfMemory:
    """Return the sentence for a person.

    Args:
        remedies: what to choose, as :attr:`MemoryPlan.advice` says it where there is a plan.
        where: for example `` at step 3``.
    """
    return OutOfMemory(f"The device ran out of memory{where}: choose {remedies}.")


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
