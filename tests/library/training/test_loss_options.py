"""Every option that changes noise, timesteps or loss, against plain code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st
from runs import start
from tiny import tiny_unet

from glitch_train.errors import RecipeError
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.objective import (
    draw_noise,
    draw_timesteps,
    huber_thresholds,
    noise_schedule,
    per_sample_loss,
    perturbed,
    snr_weights,
)

pytestmark = pytest.mark.slow

SHAPE = torch.Size((3, 4, 16, 24))


def stream() -> torch.Generator:
    """Return a fresh seeded generator."""
    return torch.Generator().manual_seed(4)


# kohya's huber_schedule snr with c = 0.1 at three timesteps, in double precision, for the usual
# schedule: alphas 0.99915, 0.27633 and 0.00466 give sigmas 0.02917, 1.61828 and 14.61464.
TIMESTEPS, THRESHOLDS = (0, 500, 999), (0.949710, 0.231284, 0.103691)


def test_huber_turns_where_kohyas_does() -> None:
    """Catches a threshold that is the same at every timestep, as it is not in kohya's scripts."""
    found = huber_thresholds(torch.tensor(TIMESTEPS), noise_schedule())
    torch.testing.assert_close(found, torch.tensor(THRESHOLDS), rtol=1e-4, atol=0)


@pytest.mark.parametrize("loss_type", ["mse", "l1", "huber"])
def test_losses_by_hand(loss_type: str) -> None:
    """Catches another reduction or constant."""
    pred, target = torch.randn(SHAPE), torch.randn(SHAPE)
    d, c = (pred - target).double(), torch.tensor(THRESHOLDS).double().view(3, 1, 1, 1)
    by_hand = {"mse": d**2, "l1": d.abs(), "huber": 2 * c * ((d**2 + c**2) ** 0.5 - c)}
    expected = by_hand[loss_type].flatten(1).mean(1).float()
    thresholds = torch.tensor(THRESHOLDS) if loss_type == "huber" else None
    torch.testing.assert_close(per_sample_loss(pred, target, loss_type, thresholds), expected)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_agrees_with_diffusers(prediction: str) -> None:
    """Catches a wrong weight, against the SNR of diffusers' own training utilities."""
    schedule = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")
    timesteps = torch.tensor([0, 120, 500, 999])
    snr = compute_snr(schedule, timesteps)
    divisor = snr + 1 if prediction == "v_prediction" else snr
    expected = torch.minimum(snr, torch.tensor(5.0)) / divisor
    weights = snr_weights(timesteps, 5.0, noise_schedule(prediction))
    torch.testing.assert_close(weights, expected, rtol=1e-5, atol=0)


@given(
    low=st.integers(0, 999),
    span=st.integers(0, 999),
    sampling=st.sampled_from(["uniform", "logit_normal"]),
)
def test_timesteps_stay_in_their_range(low: int, span: int, sampling: str) -> None:
    """Catches a timestep outside the range, and a bound that is never drawn."""
    high = min(999, low + span)
    recipe = TrainRecipe(timestep_min=low, timestep_max=high, timestep_sampling=sampling)
    drawn = draw_timesteps(400, recipe, stream())
    assert drawn.dtype == torch.int64
    assert low <= drawn.min() <= drawn.max() <= high
    if high - low < 8 and sampling == "uniform":
        assert set(drawn.tolist()) == set(range(low, high + 1))


def test_logit_normal_prefers_the_middle() -> None:
    """Catches a distribution that is not the logistic of a normal one."""
    drawn = draw_timesteps(20_000, TrainRecipe(timestep_sampling="logit_normal"), stream())
    expected = torch.sigmoid(torch.randn(20_000, generator=stream())) * 1000
    assert drawn.equal(expected.long())
    middle = ((drawn > 250) & (drawn < 750)).float().mean()
    assert 0.7 < middle < 0.75  # P(|N| < ln 3) = 0.728


def test_an_empty_timestep_range_is_refused() -> None:
    """Catches a range the wrong way round."""
    with pytest.raises(RecipeError, match="timestep_min must not be above timestep_max"):
        TrainRecipe(timestep_min=600, timestep_max=300)


def test_noise_offset_by_hand() -> None:
    """Catches an offset shared by pictures or channels, or of another size."""
    generator = stream()
    plain = torch.randn(SHAPE, generator=generator)
    shift = torch.randn(3, 4, 1, 1, generator=generator)
    mine = draw_noise(SHAPE, TrainRecipe(noise_offset=0.07), stream())
    torch.testing.assert_close(mine, plain + 0.07 * shift)


def test_multires_noise_is_kohyas() -> None:
    """Catches noise that grew, and another pyramid than kohya's: how much of it is how coarse.

    One and two levels are told apart by their correlation with the noise below them: kohya adds
    a full level first, so that one level leaves 1/√2 of the plain noise.
    """
    big = torch.Size((8, 4, 64, 64))

    def drawn(**settings) -> torch.Tensor:
        return draw_noise(big, TrainRecipe(**settings), stream())

    plain = drawn()
    one = drawn(multires_noise_iterations=1)
    six = drawn(multires_noise_iterations=6, multires_noise_discount=0.8)
    for noise in (one, six):
        assert noise.std().item() == pytest.approx(1, abs=1e-3)
    assert (one * plain).mean().item() == pytest.approx(0.5**0.5, abs=0.01)
    coarse = [torch.nn.functional.avg_pool2d(noise, 8).std() for noise in (plain, one, six)]
    assert coarse[1].item() == pytest.approx(coarse[0].item(), rel=0.1)
    assert coarse[2] > 3 * coarse[0]


def test_input_perturbation_is_seen_and_not_predicted(tmp_path: Path) -> None:
    """Catches perturbation that leaks into the target: plain diffusers code is the judge."""
    training = start(tmp_path, batch_size=2, input_perturbation=0.3)
    batch = training.source.next()
    noise = torch.randn(batch.latents.shape, generator=stream())
    seen = perturbed(noise, training.recipe, stream())
    torch.testing.assert_close(seen, noise + 0.3 * torch.randn(noise.shape, generator=stream()))
    timesteps = torch.tensor([40, 800])
    mine = training.predictor.loss(batch, noise, timesteps, seen)
    schedule = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear")
    noisy = schedule.add_noise(batch.latents, seen, timesteps)
    pred = tiny_unet()(noisy, timesteps, batch.prompt_embeds).sample
    expected = ((pred - noise) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(mine, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("loss_type", "huber"),
        ("loss_type", "l1"),
        ("min_snr_gamma", 0.01),
        ("timestep_min", 600),
        ("timestep_max", 300),
        ("timestep_sampling", "logit_normal"),
        ("noise_offset", 0.1),
        ("multires_noise_iterations", 4),
        ("input_perturbation", 0.2),
        ("seed", 5),
    ],
)
def test_an_option_changes_the_first_loss(tmp_path: Path, setting: str, value: object) -> None:
    """Catches an option that never reaches the loop."""
    plain = start(tmp_path / "a", batch_size=2).train_step()
    changed = start(tmp_path / "b", batch_size=2, **{setting: value}).train_step()
    assert changed.loss != plain.loss


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("learning_rate", 7e-4),
        ("weight_decay", 0.5),
        ("optimizer", "SGD"),
        ("lr_scheduler", "linear"),
        ("network_alpha", 4.0),
    ],
)
def test_an_option_of_the_optimizer_leaves_the_first_loss_alone(
    tmp_path: Path, setting: str, value: object
) -> None:
    """Catches an option that changes more than it should: equal at step 1, different later."""
    plain = [report.loss for report in start(tmp_path / "a", learning_rate=1e-2)]
    changed = [
        report.loss
        for report in start(tmp_path / "b", **{"learning_rate": 1e-2} | {setting: value})
    ]
    assert changed[0] == plain[0]
    if setting not in ("weight_decay", "lr_scheduler"):  # too small to show in three steps
        assert changed[2] != plain[2]
