"""One seed, many independent generators."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator for one purpose of a run.

    Args:
        seed: the recipe's seed, 0 to 2⁶⁴ - 1.
        purpose: a word such as ``noise``; different words give unrelated streams.
    """
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
