"""The host's MODEL and CLIP as networks that a LoRA can be carried over to."""

from __future__ import annotations

from typing import Any

from ..glitch_train.model.weight_places import IN_HOST
from ..glitch_train.transfer.base import Base, base_of_weights


def base(model: Any, clip: Any) -> Base:
    """Return the network behind MODEL and CLIP; weights are measured where they lie.

    Args:
        model: the host's MODEL.
        clip: the host's CLIP, or None for the UNet alone.

    Raises:
        CheckpointError: for a model outside the Stable Diffusion families.
    """
    text = {} if clip is None else clip.patcher.model.state_dict()
    weights = {**model.model.state_dict(), **text}
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    return base_of_weights(shapes, weights, IN_HOST, called=type(model.model).__name__)
