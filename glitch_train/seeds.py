"""One seed, many independent generators."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**64 - 1
"""The host's widgets hold seeds of 64 bits."""


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for one purpose of a run.

    Args:
        seed: the recipe's seed, 0 to 2⁶⁴ - 1.
        purpose: a word such as ``noise``; different words give unrelated streams.
    """
    import torch  # not above: preparing pictures needs no torch

    return torch.Generator().manual_seed(_number(seed, purpose) >> 1)


def random_draws(seed: int, *purpose: object) -> random.Random:
    """Return a source of plain Python numbers for one purpose, such as one variant's framing.

    Args:
        seed: the dataset's seed, 0 to 2⁶⁴ - 1.
        purpose: what tells this stream from others, such as a word, a picture and a variant.
    """
    return random.Random(_number(seed, *purpose))


def array_draws(seed: int, *purpose: object) -> np.random.Generator:
    """Return a source of random arrays for one purpose; see :func:`random_draws`."""
    return np.random.Generator(np.random.PCG64(_number(seed, *purpose)))


def _number(seed: int, *purpose: object) -> int:
    text = " ".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
