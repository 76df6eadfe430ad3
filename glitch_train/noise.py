"""The forward diffusion process and what the UNet is asked to predict."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from diffusers import DDPMScheduler

TRAIN_TIMESTEPS = 1000
# Betas of Stable Diffusion 1.x, 2.x and XL.
BETA_START, BETA_END = 0.00085, 0.012


@functools.cache
def noise_schedule(prediction_type: str = "epsilon") -> DDPMScheduler:
    """Return the schedule every Stable Diffusion model was trained with.

    Args:
        prediction_type: ``epsilon`` or ``v_prediction``.
    """
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
    )


def draw_timesteps(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw uniform timesteps.

    Args:
        count: how many.
        generator: CPU generator.

    Returns:
        (count,) int64 in 0..999.
    """
    return torch.randint(0, TRAIN_TIMESTEPS, (count,), generator=generator)


def draw_noise(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Draw standard normal noise on the CPU, so that every device trains on the same noise."""
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def training_target(
    latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Return what the UNet should predict.

    Args:
        latents: (B, 4, H/8, W/8), scaled by the family's latent scale.
        noise: like ``latents``.
        timesteps: (B,).
        prediction_type: ``epsilon`` (the noise) or ``v_prediction``.

    Source: Ho et al. 2020, Salimans & Ho 2022 (eq. for v).
    """
    if prediction_type == "v_prediction":
        return noise_schedule(prediction_type).get_velocity(latents, noise, timesteps)
    return noise
