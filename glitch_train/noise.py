"""The forward diffusion process and what the UNet is asked to predict."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from .recipe import TrainRecipe

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


def draw_timesteps(count: int, recipe: TrainRecipe, generator: torch.Generator) -> torch.Tensor:
    """Draw timesteps within the recipe's range.

    Args:
        count: how many.
        recipe: timestep_min and timestep_max (both included) and timestep_sampling: ``uniform``,
            or ``logit_normal``, which prefers the middle (Esser et al. 2024, section 3.1).
        generator: CPU generator.

    Returns:
        (count,) int64.
    """
    low, span = recipe.timestep_min, recipe.timestep_max - recipe.timestep_min + 1
    if recipe.timestep_sampling == "logit_normal":
        share = torch.sigmoid(torch.randn(count, generator=generator))
        return (low + (share * span).long()).clamp(max=recipe.timestep_max)
    return torch.randint(low, low + span, (count,), generator=generator)


def draw_noise(shape: torch.Size, recipe: TrainRecipe, generator: torch.Generator) -> torch.Tensor:
    """Draw the noise that is added to latents, on the CPU: the same on every device.

    Args:
        shape: (B, 4, H/8, W/8).
        recipe: noise_offset shifts each channel of each picture by one normal draw times it;
            multires_noise_iterations adds coarser and coarser noise, each level weaker by
            multires_noise_discount, and brings the sum back to unit spread.
        generator: CPU generator.

    Returns:
        (B, 4, H/8, W/8) fp32.

    Source: crosslabs.org "Diffusion with Offset Noise"; wandb.ai/johnowhitaker "Multi-Resolution
        Noise for Diffusion Model Training".
    """
    noise = torch.randn(shape, generator=generator, dtype=torch.float32)
    if recipe.noise_offset:
        noise = noise + recipe.noise_offset * torch.randn(*shape[:2], 1, 1, generator=generator)
    if recipe.multires_noise_iterations:
        noise = _add_coarser_noise(noise, recipe, generator)
    return noise


def perturbed(noise: torch.Tensor, recipe: TrainRecipe, generator: torch.Generator) -> torch.Tensor:
    """Return the noise the UNet sees, while it still predicts ``noise``.

    Args:
        noise: (B, 4, H/8, W/8) on the CPU.
        recipe: input_perturbation is the share of further noise.
        generator: CPU generator.

    Source: Ning et al. 2023, "Input Perturbation Reduces Exposure Bias in Diffusion Models".
    """
    if not recipe.input_perturbation:
        return noise
    return noise + recipe.input_perturbation * torch.randn(noise.shape, generator=generator)


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


def _add_coarser_noise(
    noise: torch.Tensor, recipe: TrainRecipe, generator: torch.Generator
) -> torch.Tensor:
    height, width = noise.shape[-2:]
    for level in range(1, recipe.multires_noise_iterations + 1):
        size = (max(1, height // 2**level), max(1, width // 2**level))
        coarse = torch.randn(*noise.shape[:2], *size, generator=generator)
        grown = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        noise = noise + recipe.multires_noise_discount**level * grown
        if size == (1, 1):
            break
    return noise / noise.std()
