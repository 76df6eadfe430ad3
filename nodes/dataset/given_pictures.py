"""IMAGE, MASK and STRING inputs, one batch or lists of any sizes, as pictures of the library."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...glitch_train.dataset.kept import GivenPicture
from ...glitch_train.errors import DatasetError

CHANNELS = (1, 3, 4)
"""Grey, RGB, RGBA."""


@dataclasses.dataclass(frozen=True)
class GivenPictures:
    """What arrived at a node: still the host's tensors, made into pictures one at a time.

    Attributes:
        images: (H, W, C) each, 0..1.
        captions: none, one for all, or one each.
        masks: (h, w) each, 0..1; none, one for all, or one each.
    """

    images: Sequence[torch.Tensor]
    captions: Sequence[str]
    masks: Sequence[torch.Tensor]

    @classmethod
    def of(cls, images: Any, captions: Any, masks: Any) -> GivenPictures:
        """Take a node's inputs apart.

        Args:
            images: batches (B, H, W, C).
            captions: texts; one that is empty, alone, is none.
            masks: batches (B, H, W), or None.

        Raises:
            DatasetError: for what is no picture, and for counts that do not match.
        """
        pictures = _one_by_one("images", images, 4)
        if not pictures:
            raise DatasetError("No picture arrived at images; connect a node that gives some.")
        texts = [text for text in captions if text is not None]
        texts = [] if texts == [""] else texts
        given = cls(pictures, texts, _one_by_one("masks", masks or (), 3))
        for number, picture in enumerate(pictures, start=1):
            if picture.shape[-1] not in CHANNELS:
                raise DatasetError(
                    f"Picture {number} has {picture.shape[-1]} channels; only grey, RGB and RGBA "
                    "pictures can be trained."
                )
        for what, them in (("captions", given.captions), ("masks", given.masks)):
            if len(them) not in (0, 1, len(pictures)):
                raise DatasetError(
                    f"There are {len(them)} {what} for {len(pictures)} pictures; give one for all "
                    "or one for each."
                )
        return given

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> GivenPicture:
        """Return a picture with its caption and mask.

        Raises:
            DatasetError: when it holds NaN or infinity.
        """
        caption = _of_all_or_each(self.captions, number)
        mask = _of_all_or_each(self.masks, number)
        return GivenPicture(
            _pixels(self.images[number], f"Picture {number + 1}"),
            caption,
            None if mask is None else _pixels(mask, f"The mask of picture {number + 1}"),
        )


def _one_by_one(what: str, batches: Any, dimensions: int) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for batch in batches:
        if batch is None:
            continue
        if batch.ndim == dimensions - 1:  # one without a batch around it, as some packs give it
            batch = batch[None]
        if batch.ndim != dimensions:
            raise DatasetError(
                f"{what} got a tensor of shape {tuple(batch.shape)}, which is no batch of pictures."
            )
        found += list(batch)
    return found


def _of_all_or_each(them: Sequence[Any], number: int) -> Any:
    return them[number if len(them) > 1 else 0] if them else None


def _pixels(values: torch.Tensor, what: str) -> np.ndarray:
    """Return 0..1 as 0..255, rounded, so that a picture read from 8 bits comes back the same."""
    if not bool(values.isfinite().all()):
        raise DatasetError(f"{what} holds NaN or infinity, so that it cannot be trained.")
    scaled = values.detach().float().clamp(0, 1).mul(255).round()
    return scaled.byte().cpu().numpy()
