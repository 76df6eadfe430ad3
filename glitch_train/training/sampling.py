"""Latents out of a model as it stands, by diffusers' schedulers, one denoising step at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from ..cache import TensorCache
from ..model.noise_schedule import BETA_END, BETA_START, TRAIN_TIMESTEPS
from .batches import Batch, with_prompts
from .predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Drawing:
    """How one picture is sampled.

    Attributes:
        prompt_key: of the prompt's embeddings in the cache.
        negative_key: of those that guidance leads away from, mostly the empty prompt's.
        size: (width, height) in pixels.
        seed: of the noise.
        sampler: see :func:`sample_scheduler`.
        steps: denoising steps.
        cfg: guidance scale.
    """

    prompt_key: str
    negative_key: str
    size: tuple[int, int]
    seed: int
    sampler: str
    steps: int
    cfg: float


def drawn(
    predictor: Predictor, drawing: Drawing, cache: TensorCache, *, with_tokens: bool
) -> Iterator[torch.Tensor]:
    """Yield the latents of one picture after each denoising step, see :func:`denoised`.

    Args:
        predictor: the model as it stands.
        drawing: what is drawn.
        cache: where the prompts' embeddings are kept.
        with_tokens: whether the predictor's text encoders are trained, and encode the prompts.
    """
    width, height = drawing.size
    keys = [drawing.prompt_key] + ([drawing.negative_key] if drawing.cfg != 1 else [])
    batch = with_prompts(
        sample_noise(drawing.seed, height, width).expand(len(keys), -1, -1, -1),
        keys,
        [(height, width, 0, 0, height, width)] * len(keys),
        cache,
        with_tokens,
    )
    return denoised(predictor, batch, sampler=drawing.sampler, steps=drawing.steps, cfg=drawing.cfg)


def sample_noise(seed: int, height: int, width: int) -> torch.Tensor:
    """Return the noise a picture begins with: what KSampler draws for the same seed.

    Args:
        seed: 0 to 2⁶⁴ - 1.
        height: of the picture, in pixels, a multiple of 8.
        width: likewise.

    Returns:
        (4, H/8, W/8) fp32 on the CPU.
    """
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(1, 4, height // 8, width // 8, generator=stream)[0]


def sample_scheduler(
    sampler: str, prediction_type: str, alphas_cumprod: torch.Tensor | None = None
) -> Any:
    """Return a new scheduler of diffusers.

    Args:
        sampler: one of :data:`..recipe.train.SAMPLERS`. ``dpmpp_2m`` is DPM-Solver++ of second
            order, with ``_karras`` on Karras' noise levels (arXiv:2211.01095, arXiv:2206.00364).
        prediction_type: ``epsilon`` or ``v_prediction``.
        alphas_cumprod: (1000,) the model's own schedule; None for Stable Diffusion's.
    """
    from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler

    common = {
        "num_train_timesteps": TRAIN_TIMESTEPS,
        "beta_start": BETA_START,
        "beta_end": BETA_END,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction_type,
    }
    scheduler: Any = (
        EulerDiscreteScheduler(**common)
        if sampler == "euler"
        else DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++",
            solver_order=2,
            use_karras_sigmas=sampler == "dpmpp_2m_karras",
            **common,
        )
    )
    if alphas_cumprod is not None:
        scheduler.alphas_cumprod = alphas_cumprod  # its sigmas follow in set_timesteps
    return scheduler


def denoised(
    predictor: Predictor, batch: Batch, *, sampler: str, steps: int, cfg: float
) -> Iterator[torch.Tensor]:
    """Yield the latents of one picture after each denoising step.

    Nothing of the model, and no random state of anyone, is changed; the caller may stop between
    two steps.

    Args:
        predictor: the model as it stands.
        batch: on the CPU: the noise as ``latents``, twice where ``cfg`` is not 1, with the
            prompt's conditioning and then the empty prompt's.
        sampler: see :func:`sample_scheduler`.
        steps: denoising steps.
        cfg: guidance scale; at 1 the batch holds the prompt alone.

    Yields:
        (4, H/8, W/8) fp32 on the predictor's device, scaled by the family's latent scale.
    """
    base = predictor.base
    scheduler = sample_scheduler(sampler, base.prediction_type, base.alphas_cumprod)
    scheduler.set_timesteps(steps, device=predictor.device)
    # Of its own, so that a scheduler that draws takes nothing from the global one; on the CPU,
    # which every device can take numbers from, while not every device has a generator.
    stream = torch.Generator().manual_seed(0)
    # The modes are opened within a step: around a yield they would leak into the caller.
    with torch.inference_mode(False), torch.no_grad():
        batch = predictor.with_trained_prompts(batch.to(predictor.device, predictor.dtype))
        latents = batch.latents[:1].float() * scheduler.init_noise_sigma
    for timestep in scheduler.timesteps:
        with torch.inference_mode(False), torch.no_grad():
            seen = scheduler.scale_model_input(latents, timestep).expand(len(batch), -1, -1, -1)
            predicted = predictor.predict(batch, seen, timestep.expand(len(batch))).float()
            if len(batch) == 2:
                prompted, empty = predicted.chunk(2)
                predicted = empty + cfg * (prompted - empty)
            latents = scheduler.step(
                predicted, timestep, latents, generator=stream, return_dict=False
            )[0]
        yield latents[0]
