"""The noise levels that a base model was trained at: the usual ones, or its own."""

from __future__ import annotations

import torch

from ..errors import CheckpointError

TRAIN_TIMESTEPS = 1000
# Betas of Stable Diffusion 1.x, 2.x and XL.
BETA_START, BETA_END = 0.00085, 0.012

# What the host puts in place of zero (comfy/model_sampling.py), so that every level has a sigma.
_LEAST_ALPHA = 4.8973451890853435e-08
# Sigmas come in fp32; any change that someone meant is larger.
_SAME_WITHIN = 1e-4


def zero_terminal_alphas() -> torch.Tensor:
    """Return the usual schedule, rescaled so that at the last timestep only noise is left.

    Returns:
        (1000,) fp32: the cumulative product of alphas.

    Source: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
    """
    from diffusers.schedulers.scheduling_ddpm import rescale_zero_terminal_snr

    alphas = (1 - rescale_zero_terminal_snr(_usual_betas())).cumprod(0)
    alphas[-1] = _LEAST_ALPHA
    return alphas.float()


def own_alphas(sigmas: torch.Tensor) -> torch.Tensor | None:
    """Return the schedule of a model's noise levels; None where it is the usual one.

    Args:
        sigmas: noise over picture at each timestep, (1000,), on any device.

    Returns:
        (1000,) fp32 on the CPU: the cumulative product of alphas, 1 / (σ² + 1).

    Raises:
        CheckpointError: when they are not 1000 finite levels, each above the one before.
    """
    levels = sigmas.detach().cpu().double()  # MPS has no float64
    rises = levels.ndim == 1 and bool((levels > 0).all() and (levels.diff() > 0).all())
    if levels.shape != (TRAIN_TIMESTEPS,) or not rises or not levels.isfinite().all():
        raise CheckpointError(
            f"MODEL's noise schedule has {levels.numel()} levels that are not what can be trained "
            f"here: {TRAIN_TIMESTEPS}, each above the one before; take off the node that changes "
            "its sampling."
        )
    alphas = 1 / (levels.square() + 1)
    usual = (1 - _usual_betas()).cumprod(0)
    return None if torch.allclose(alphas, usual, rtol=_SAME_WITHIN, atol=0) else alphas.float()


def _usual_betas() -> torch.Tensor:
    roots = torch.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_TIMESTEPS, dtype=torch.float64)
    return roots.square()
