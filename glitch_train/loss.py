"""How far a prediction is from its target, per sample, and how much each sample counts."""

from __future__ import annotations

import torch

from .noise import noise_schedule

HUBER_C = 0.1
"""Where the Huber loss turns from square to linear; kohya's ``huber_c``."""


def per_sample_loss(
    model_pred: torch.Tensor, target: torch.Tensor, loss_type: str = "mse"
) -> torch.Tensor:
    """Return the mean error of each sample, computed in fp32.

    Args:
        model_pred: (B, 4, H/8, W/8), any float dtype.
        target: like ``model_pred``.
        loss_type: ``mse``, ``l1``, or ``huber``: ``2c(√(d² + c²) - c)`` with c = 0.1.

    Returns:
        (B,) fp32.
    """
    difference = model_pred.float() - target.float()
    if loss_type == "l1":
        errors = difference.abs()
    elif loss_type == "huber":
        errors = 2 * HUBER_C * ((difference.square() + HUBER_C**2).sqrt() - HUBER_C)
    else:
        errors = difference.square()
    return errors.mean(dim=tuple(range(1, errors.ndim)))


def snr_weights(timesteps: torch.Tensor, gamma: float, prediction_type: str) -> torch.Tensor:
    """Return min-SNR weights.

    Args:
        timesteps: (B,) int64.
        gamma: cap on the signal-to-noise ratio; 5 is usual.
        prediction_type: ``epsilon`` or ``v_prediction``.

    Returns:
        (B,) fp32: ``min(SNR, γ) / SNR`` for noise, ``/ (SNR + 1)`` for v prediction.

    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
    """
    alphas = noise_schedule(prediction_type).alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / (snr + 1 if prediction_type == "v_prediction" else snr)
