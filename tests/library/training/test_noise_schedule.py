"""A model's own noise schedule: what it is trained, weighed and sampled with."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UNet2DConditionModel,
)
from diffusers.training_utils import compute_snr
from runs import CPU
from safetensors.torch import load_file, save_file
from tiny import tiny_base, tiny_source, tiny_unet

from glitch_train.errors import CheckpointError
from glitch_train.model.checkpoint_file import load_checkpoint
from glitch_train.model.noise_schedule import own_alphas, zero_terminal_alphas
from glitch_train.recipe.train import SAMPLERS, TrainRecipe
from glitch_train.training.batches import Batch, with_prompts
from glitch_train.training.loop import LoraTraining
from glitch_train.training.sampling import denoised, sample_noise

COMMON = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
}  # fmt: skip


def begin(folder: Path, is_xl: bool, **settings: float) -> LoraTraining:
    """Return a training on a tiny v-prediction model of zero terminal SNR."""
    base = tiny_base(is_xl=is_xl, prediction_type="v_prediction")
    base.alphas_cumprod = zero_terminal_alphas()
    recipe = TrainRecipe(**{"network_dim": 2, "batch_size": 2} | settings)
    return LoraTraining(base, tiny_source(folder, is_xl=is_xl), recipe, CPU)


def kohyas_alphas() -> torch.Tensor:
    """Return what kohya's fix_noise_scheduler_betas_for_zero_terminal_snr gives, in fp64."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    roots = (1 - betas).cumprod(0).sqrt()
    first, last = roots[0].clone(), roots[-1].clone()
    return ((roots - last) * (first / (first - last))) ** 2


def predicted(unet: UNet2DConditionModel, batch: Batch, seen, timesteps) -> torch.Tensor:
    """Run a plain UNet on a batch."""
    extra = None
    if batch.pooled_prompt_embeds is not None:
        extra = {"text_embeds": batch.pooled_prompt_embeds, "time_ids": batch.add_time_ids}
    with torch.no_grad():
        return unet(seen, timesteps, batch.prompt_embeds, added_cond_kwargs=extra).sample


def test_the_rescaled_schedule_is_kohyas() -> None:
    """Catches another rescaling; at the end a sliver is left, as the host has it."""
    alphas, expected = zero_terminal_alphas(), kohyas_alphas().float()
    torch.testing.assert_close(alphas[:-1], expected[:-1], rtol=1e-5, atol=0)
    assert 0 < alphas[-1] < 1e-7
    assert alphas[-1].sqrt() == pytest.approx(0.0002, abs=5e-5)  # the usual one leaves 0.068
    assert alphas[900].sqrt() == pytest.approx(0.054, abs=5e-4)  # the usual one leaves 0.119


@pytest.mark.parametrize("gamma", [0.0, 5.0], ids=["plain", "min-SNR"])
@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
def test_losses_are_of_the_models_own_schedule(tmp_path: Path, is_xl: bool, gamma: float) -> None:
    """Catches noise, target or weight of the usual schedule, against diffusers' rescaled one."""
    training = begin(tmp_path, is_xl, min_snr_gamma=gamma)
    batch = training.source.next()
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(5))
    timesteps = torch.tensor([900, 999])
    mine = training.predictor.loss(batch, noise, timesteps)

    schedule = DDPMScheduler(**COMMON, rescale_betas_zero_snr=True)
    noisy = schedule.add_noise(batch.latents, noise, timesteps)
    prediction = predicted(tiny_unet(is_xl=is_xl), batch, noisy, timesteps)
    target = schedule.get_velocity(batch.latents, noise, timesteps)
    expected = (prediction - target).square().mean(dim=(1, 2, 3))
    if gamma:
        snr = compute_snr(schedule, timesteps)
        expected = expected * snr.clamp(max=gamma) / (snr + 1)
    torch.testing.assert_close(mine, expected, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
def test_sample_pictures_are_of_it_too(tmp_path: Path, is_xl: bool, sampler: str) -> None:
    """Catches pictures that begin in the usual schedule's noise, against diffusers' own loop."""
    training = begin(tmp_path, is_xl)
    noise = sample_noise(7, 64, 64)[None]
    batch = with_prompts(
        noise, ["prompt0"], [(64, 64, 0, 0, 64, 64)], training.source.prompts, False
    )
    *_, mine = denoised(training.predictor, batch, sampler=sampler, steps=6, cfg=1.0)

    alphas = kohyas_alphas()
    alphas[-1] = 4.8973451890853435e-08  # the host's, for Karras' levels lie between both ends
    ratios = torch.cat([alphas[:1], alphas[1:] / alphas[:-1]])
    betas = {"trained_betas": (1 - ratios).numpy(), "prediction_type": "v_prediction"}
    scheduler = (
        EulerDiscreteScheduler(**betas)
        if sampler == "euler"
        else DPMSolverMultistepScheduler(**betas, use_karras_sigmas=sampler.endswith("karras"))
    )
    scheduler.set_timesteps(6)
    latents, unet = noise * scheduler.init_noise_sigma, tiny_unet(is_xl=is_xl)
    for timestep in scheduler.timesteps:
        seen = scheduler.scale_model_input(latents, timestep)
        velocity = predicted(unet, batch, seen, timestep)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
    torch.testing.assert_close(mine, latents[0], rtol=1e-3, atol=1e-3)


def test_the_usual_schedule_is_told_by_its_sigmas() -> None:
    """Catches a plain model that loses otherwise than before by what sigmas in fp32 round off."""
    alphas = DDPMScheduler(**COMMON).alphas_cumprod
    assert own_alphas(((1 - alphas) / alphas).sqrt()) is None
    rescaled = zero_terminal_alphas()
    torch.testing.assert_close(
        own_alphas(((1 - rescaled.double()) / rescaled).sqrt().float()), rescaled, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize(
    "sigmas",
    [
        torch.linspace(0.1, 14, 50),
        torch.linspace(14, 0.1, 1000),
        torch.full((1000,), torch.nan),
        torch.cat([torch.linspace(0.1, 14, 999), torch.tensor([torch.inf])]),
    ],
    ids=["50 levels", "falling", "nan", "infinite"],
)
def test_levels_that_cannot_be_trained_are_refused(sigmas: torch.Tensor) -> None:
    """Catches a schedule that would index past its end or give NaN after an hour of encoding."""
    with pytest.raises(CheckpointError, match="noise schedule"):
        own_alphas(sigmas)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("marks", "prediction", "is_zero"),
    [
        ((), "epsilon", False),
        (("v_pred",), "v_prediction", False),
        (("v_pred", "ztsnr"), "v_prediction", True),
    ],
    ids=["plain", "v", "v with zero terminal SNR"],
)
def test_a_file_says_which_it_is(
    checkpoint: Path, tmp_path: Path, marks: tuple[str, ...], prediction: str, is_zero: bool
) -> None:
    """Catches a checkpoint's marks, tensors without a value, that are not read."""
    file = tmp_path / "marked.safetensors"
    save_file(load_file(checkpoint) | {mark: torch.tensor([]) for mark in marks}, file)
    base, _ = load_checkpoint(file, CPU)
    assert (base.prediction_type, base.is_zero_terminal) == (prediction, is_zero)
