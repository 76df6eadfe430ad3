"""How far a prediction is from its target, per sample."""

from __future__ import annotations

import torch


def per_sample_loss(model_pred: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean squared error of each sample, computed in fp32.

    Args:
        model_pred: (B, 4, H/8, W/8), any float dtype.
        target: like ``model_pred``.

    Returns:
        (B,) fp32.
    """
    squared = torch.nn.functional.mse_loss(model_pred.float(), target.float(), reduction="none")
    return squared.mean(dim=tuple(range(1, squared.ndim)))
