"""What turns pictures and captions into numbers and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from PIL import Image

EncodePicture = Callable[[Image.Image], torch.Tensor]
"""RGB picture → latents (4, H/8, W/8), already scaled by the family's latent scale."""


TokenChunks = tuple[torch.Tensor, ...]
"""Token ids of one caption per text encoder: (chunks, 77) int64 each, start and end included."""


Tokenize = Callable[[str], TokenChunks]


DecodePicture = Callable[[torch.Tensor], Image.Image]
"""Latents (4, H/8, W/8), scaled by the family's latent scale → RGB picture."""


def _stay() -> None:
    """Leave everything where it is."""


@dataclasses.dataclass(frozen=True)
class Encoders:
    """What turns pictures and captions into numbers and back; given by the host or a checkpoint.

    Attributes:
        encode_picture: the VAE.
        decode_picture: the VAE, the other way.
        tokenize: the tokenizers.
        vae_key: identifies the VAE's weights, for the cache.
        leave_device: makes room for the training; the next picture brings the VAE back.
    """

    encode_picture: EncodePicture
    decode_picture: DecodePicture
    tokenize: Tokenize
    vae_key: str
    leave_device: Callable[[], None] = _stay
