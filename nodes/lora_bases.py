"""The host's MODEL and CLIP as networks that a LoRA can be carried over to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from ..glitch_train.model.weight_places import IN_HOST
from ..glitch_train.transfer.base import Base, base_of_weights
from . import weights


class _Unpatched(Mapping[str, torch.Tensor]):
    """The weights of MODEL and CLIP without patches, dequantised when they are looked up.

    Attributes:
        shapes: name to shape, for which no weight is touched.
    """

    def __init__(self, *patchers: Any) -> None:
        self._patchers = {name: one for one in patchers for name in weights.weight_names(one)}
        self.shapes = {
            name: tuple(weight.shape)
            for one in patchers
            for name, weight in one.model.named_parameters(remove_duplicate=False)
        }

    def __getitem__(self, name: str) -> torch.Tensor:
        return weights.whole(self._patchers[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._patchers)

    def __len__(self) -> int:
        return len(self._patchers)


def base(model: Any, clip: Any) -> Base:
    """Return the network behind MODEL and CLIP; weights are measured where they lie.

    Args:
        model: the host's MODEL.
        clip: the host's CLIP, or None for the UNet alone.

    Raises:
        CheckpointError: for a model outside the Stable Diffusion families.
    """
    given = _Unpatched(*([model] if clip is None else [model, clip.patcher]))
    return base_of_weights(given.shapes, given, IN_HOST, called=type(model.model).__name__)
