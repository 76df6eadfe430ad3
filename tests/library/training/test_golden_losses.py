"""The losses of three steps against a training loop in plain diffusers, peft and torch code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from runs import start
from tiny import tiny_unet

from glitch_train.recipe.train import TrainRecipe
from glitch_train.seeds import generator
from glitch_train.training.loop import LoraTraining

pytestmark = pytest.mark.slow

STEPS = 3
COMMON = {"steps": STEPS, "batch_size": 2, "learning_rate": 1e-2, "seed": 3}

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "huber": {"loss_type": "huber"},
    "l1": {"loss_type": "l1"},
    "min-SNR": {"min_snr_gamma": 1.0},
    "high timesteps": {"timestep_min": 600},
    "low timesteps": {"timestep_max": 300},
    "logit-normal": {"timestep_sampling": "logit_normal", "timestep_min": 100},
    "noise offset": {"noise_offset": 0.1},
    "coarser noise": {"multires_noise_iterations": 6, "multires_noise_discount": 0.7},
    "input perturbation": {"input_perturbation": 0.2},
    "accumulation": {"gradient_accumulation": 2},
    "rank and alpha": {"network_dim": 3, "network_alpha": 7.0},
    "rsLoRA": {"network_type": "rslora"},
    "weight decay": {"weight_decay": 0.5},
    "SGD": {"optimizer": "SGD"},
    "all at once": {
        "loss_type": "huber", "min_snr_gamma": 2.0, "timestep_min": 50, "timestep_max": 900,
        "timestep_sampling": "logit_normal", "noise_offset": 0.05, "input_perturbation": 0.1,
        "multires_noise_iterations": 2, "gradient_accumulation": 2,
    },
}  # fmt: skip


FAMILIES = [(False, "epsilon"), (False, "v_prediction"), (True, "epsilon"), (True, "v_prediction")]
OF_FAMILIES = ("plain", "min-SNR", "all at once")
"""What is computed otherwise for another family; the rest looks at none."""

CASES = [
    pytest.param(option, *family, id=f"{option}, {'sdxl' if family[0] else 'sd15'} {family[1]}")
    for option in OPTIONS
    for family in (FAMILIES if option in OF_FAMILIES else FAMILIES[:1])
]


@pytest.mark.parametrize(("option", "is_xl", "prediction"), CASES)
def test_losses_equal_a_plain_loop(
    tmp_path: Path, option: str, is_xl: bool, prediction: str
) -> None:
    """Catches an option that is applied at another place, in another order or twice."""
    settings = COMMON | OPTIONS[option]
    training = start(tmp_path, is_xl=is_xl, prediction=prediction, **settings)
    twin = start(tmp_path / "twin", is_xl=is_xl, prediction=prediction, **settings)
    expected = plain_losses(twin, is_xl=is_xl, prediction=prediction)
    assert [report.loss for report in training] == pytest.approx(expected, rel=1e-5)


def plain_losses(begun: LoraTraining, *, is_xl: bool, prediction: str) -> list[float]:
    """Train with diffusers' own adapter and torch's optimizer; return each step's loss.

    Args:
        begun: gives the batches and the factors to begin with.
        is_xl: whether the UNet has SDXL's conditioning.
        prediction: what the UNet predicts.
    """
    recipe = begun.recipe
    unet = tiny_unet(is_xl=is_xl)
    unet.add_adapter(
        LoraConfig(
            r=recipe.network_dim,
            lora_alpha=recipe.network_alpha,
            use_rslora=recipe.network_type == "rslora",
            target_modules=list(begun.lora.unet),
        )  # fmt: skip
    )
    for name, layer in begun.lora.unet.items():
        unet.get_submodule(name).lora_A["default"].weight.data.copy_(layer.down)
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    kinds = {"AdamW": torch.optim.AdamW, "SGD": torch.optim.SGD}
    more = {"momentum": 0.9} if recipe.optimizer == "SGD" else {}
    optimizer = kinds[recipe.optimizer](
        trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **more
    )
    schedule = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear", prediction_type=prediction)
    of_noise, of_time = (generator(recipe.seed, word) for word in ("noise", "timesteps"))
    losses = []
    for _ in range(STEPS):
        parts = []
        for _ in range(recipe.gradient_accumulation):
            batch = begun.source.next()
            noise, seen = noises(batch.latents.shape, recipe, of_noise)
            timesteps = drawn_timesteps(len(noise), recipe, of_time)
            noisy = schedule.add_noise(batch.latents, seen, timesteps)
            extra = None
            if is_xl:
                ids = {"time_ids": batch.add_time_ids}
                extra = {"text_embeds": batch.pooled_prompt_embeds, **ids}
            pred = unet(noisy, timesteps, batch.prompt_embeds, added_cond_kwargs=extra).sample
            target = noise
            if prediction == "v_prediction":
                target = schedule.get_velocity(batch.latents, noise, timesteps)
            each = errors(pred, target, recipe.loss_type, timesteps)
            if recipe.min_snr_gamma:
                snr = compute_snr(schedule, timesteps)
                weights = snr.clamp(max=recipe.min_snr_gamma)
                each = each * weights / (snr + 1 if prediction == "v_prediction" else snr)
            (each.mean() / recipe.gradient_accumulation).backward()
            parts.append(each.mean().item())
        losses.append(sum(parts) / len(parts))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return losses


def noises(shape, recipe: TrainRecipe, stream: torch.Generator):
    """Return the noise to predict and the noise to add, by the papers' formulas."""
    noise = torch.randn(shape, generator=stream)
    if recipe.noise_offset:
        noise = noise + recipe.noise_offset * torch.randn(
            shape[0], shape[1], 1, 1, generator=stream
        )
    if recipe.multires_noise_iterations:
        for level in range(recipe.multires_noise_iterations):
            ratio = 2 + 2 * torch.rand((), generator=stream).item()
            side = max(1, int(shape[-1] / ratio**level))
            coarse = torch.randn(shape[0], shape[1], side, side, generator=stream)
            grown = F.interpolate(coarse, size=shape[-2:], mode="bilinear")
            noise = noise + grown * recipe.multires_noise_discount**level
            if side == 1:
                break
        noise = noise / noise.std()
    seen = noise
    if recipe.input_perturbation:
        seen = noise + recipe.input_perturbation * torch.randn(shape, generator=stream)
    return noise, seen


def drawn_timesteps(count: int, recipe: TrainRecipe, stream: torch.Generator) -> torch.Tensor:
    """Return timesteps of the recipe's range, its end included."""
    low, high = recipe.timestep_min, recipe.timestep_max + 1
    if recipe.timestep_sampling == "uniform":
        return torch.randint(low, high, (count,), generator=stream)
    return (low + torch.randn(count, generator=stream).sigmoid() * (high - low)).long()


def errors(
    pred: torch.Tensor, target: torch.Tensor, kind: str, timesteps: torch.Tensor
) -> torch.Tensor:
    """Return each sample's mean error; huber as kohya's scripts have it by default."""
    off = pred.float() - target.float()
    alphas = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear").alphas_cumprod[timesteps]
    c = (0.9 / (1 + (1 / alphas - 1).sqrt()) ** 2 + 0.1).view(-1, 1, 1, 1)
    by_kind = {"mse": off**2, "l1": off.abs(), "huber": 2 * c * ((off**2 + c**2).sqrt() - c)}
    return by_kind[kind].flatten(1).mean(1)
