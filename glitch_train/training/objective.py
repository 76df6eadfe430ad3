"""The forward diffusion process and what the UNet is asked to predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..model.noise_schedule import BETA_END, BETA_START, TRAIN_TIMESTEPS
from ..recipe.train import TrainRecipe

if TYPE_CHECKING:
    from diffusers import DDPMScheduler


def noise_schedule(
    prediction_type: str = "epsilon", alphas_cumprod: torch.Tensor | None = None
) -> DDPMScheduler:
    """Return the schedule a model was trained with.

    Args:
        prediction_type: ``epsilon`` or ``v_prediction``.
        alphas_cumprod: (1000,) the model's own; None for Stable Diffusion's.
    """
    from diffusers import DDPMScheduler

    schedule = DDPMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=BETA_START,
        beta_end=BETA_END,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
    )
    if alphas_cumprod is not None:
        schedule.alphas_cumprod = alphas_cumprod
    return schedule


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
            multires_noise_iterations adds coarser and coarser noise, 2 to 4 times a level, each
            level weaker by multires_noise_discount, and brings the sum back to unit spread.
        generator: CPU generator.

    Returns:
        (B, 4, H/8, W/8) fp32.

    Source: crosslabs.org "Diffusion with Offset Noise"; wandb.ai/johnowhitaker "Multi-Resolution
        Noise for Diffusion Model Training", as kohya-ss/sd-scripts has it,
        library/custom_train_functions.py.
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
    latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor, schedule: DDPMScheduler
) -> torch.Tensor:
    """Return what the UNet should predict.

    Args:
        latents: (B, 4, H/8, W/8), scaled by the family's latent scale.
        noise: like ``latents``.
        timesteps: (B,).
        schedule: says whether that is the noise or v, and how much of each is where.

    Source: Ho et al. 2020, Salimans & Ho 2022 (eq. for v).
    """
    if schedule.config.prediction_type == "v_prediction":
        return schedule.get_velocity(latents, noise, timesteps)
    return noise


def _add_coarser_noise(
    noise: torch.Tensor, recipe: TrainRecipe, generator: torch.Generator
) -> torch.Tensor:
    """Add noise level by level as kohya's ``pyramid_noise_like`` does; level 0 is full size."""
    height, width = noise.shape[-2:]
    for level in range(recipe.multires_noise_iterations):
        coarser = (2 + 2 * torch.rand((), generator=generator).item()) ** level
        size = (max(1, int(height / coarser)), max(1, int(width / coarser)))
        coarse = torch.randn(*noise.shape[:2], *size, generator=generator)
        grown = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
        noise = noise + recipe.multires_noise_discount**level * grown
        if 1 in size:
            break
    return noise / noise.std()


HUBER_C = 0.1
"""Where the Huber loss turns from square to linear in pure noise; kohya's ``huber_c``."""


def huber_thresholds(timesteps: torch.Tensor, schedule: DDPMScheduler) -> torch.Tensor:
    """Return where the Huber loss turns from square to linear: late in noise, early in detail.

    Args:
        timesteps: (B,) int64.
        schedule: the model's.

    Returns:
        (B,) fp32: ``(1 - c) / (1 + σ)² + c`` with c = 0.1.

    Source: kohya-ss/sd-scripts, library/train_util.py, huber_schedule ``snr``.
    """
    alphas = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    sigmas = ((1 - alphas) / alphas).sqrt()
    return (1 - HUBER_C) / (1 + sigmas).square() + HUBER_C


def per_sample_loss(
    model_pred: torch.Tensor,
    target: torch.Tensor,
    loss_type: str = "mse",
    thresholds: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean error of each sample over what of it counts, computed in fp32.

    Args:
        model_pred: (B, 4, H/8, W/8), any float dtype.
        target: like ``model_pred``.
        loss_type: ``mse``, ``l1``, or ``huber``: ``2c(√(d² + c²) - c)``.
        thresholds: (B,) the c of each sample; for ``huber``.
        mask: (B, 1, H/8, W/8), how much each place counts, 0 to 1; None for all of it. A sample
            of which nothing counts has a loss of 0.

    Returns:
        (B,) fp32.

    Source: the masked losses of kohya-ss/sd-scripts (library/custom_train_functions.py), whose
        mean is over all places, and of OneTrainer with normalize_masked_area_loss, as here.
    """
    difference = model_pred.float() - target.float()
    if loss_type == "l1":
        errors = difference.abs()
    elif thresholds is not None:
        c = thresholds.view(-1, *[1] * (difference.ndim - 1))
        errors = 2 * c * ((difference.square() + c.square()).sqrt() - c)
    else:
        errors = difference.square()
    places = tuple(range(1, errors.ndim))
    if mask is None:
        return errors.mean(dim=places)
    kept = mask.mean(dim=places).clamp(min=torch.finfo(mask.dtype).tiny)
    return (errors * mask).mean(dim=places) / kept


def snr_weights(timesteps: torch.Tensor, gamma: float, schedule: DDPMScheduler) -> torch.Tensor:
    """Return min-SNR weights.

    Args:
        timesteps: (B,) int64.
        gamma: cap on the signal-to-noise ratio; 5 is usual.
        schedule: the model's, with its prediction.

    Returns:
        (B,) fp32: ``min(SNR, γ) / SNR`` for noise, ``/ (SNR + 1)`` for v prediction.

    Source: Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy".
    """
    alphas = schedule.alphas_cumprod.to(timesteps.device)[timesteps]
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / (
        snr + 1 if schedule.config.prediction_type == "v_prediction" else snr
    )
