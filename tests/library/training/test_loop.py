"""The training loop against plain diffusers and torch code."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from runs import CPU, start
from tiny import tiny_base, tiny_items, tiny_unet

from glitch_train.errors import TrainingError
from glitch_train.lora.layers import LoraShape, inject_lora
from glitch_train.lora.targets import unet_targets
from glitch_train.losses.record import StepReport
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.batches import BatchSource
from glitch_train.training.devices import resolve_precision
from glitch_train.training.loop import LoraTraining


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
def test_loss_equals_plain_diffusers(tmp_path: Path, is_xl: bool, prediction: str) -> None:
    """Catches a wrong target, noise level, conditioning or reduction."""
    training = start(tmp_path, is_xl=is_xl, prediction=prediction, batch_size=2)
    batch = training.source.next()
    stream = torch.Generator().manual_seed(5)
    noise = torch.randn(batch.latents.shape, generator=stream)
    timesteps = torch.tensor([17, 903])
    mine = training.predictor.loss(batch, noise, timesteps)

    schedule = DDPMScheduler(1000, 0.00085, 0.012, "scaled_linear", prediction_type=prediction)
    noisy = schedule.add_noise(batch.latents, noise, timesteps)
    plain = tiny_unet(is_xl=is_xl)  # without LoRA: its up factors are zero at step 0
    extra = None
    if is_xl:
        extra = {"text_embeds": batch.pooled_prompt_embeds, "time_ids": batch.add_time_ids}
    pred = plain(noisy, timesteps, batch.prompt_embeds, added_cond_kwargs=extra).sample
    target = noise
    if prediction == "v_prediction":
        target = schedule.get_velocity(batch.latents, noise, timesteps)
    reference = ((pred - target) ** 2).mean(dim=(1, 2, 3))
    torch.testing.assert_close(mine, reference, rtol=1e-5, atol=0)


def test_lora_scale_is_alpha_over_rank() -> None:
    """Catches alpha ignored, or divided by its square root."""
    unet = tiny_unet()
    targets = unet_targets(unet)
    layers = inject_lora(unet, targets, LoraShape(4, 3.0), torch.Generator())
    name = targets[2]
    module, layer = unet.get_submodule(name), layers[name]
    layer.up.data.normal_()
    x = torch.randn(2, layer.down.shape[1])
    delta = x @ layer.down.T @ layer.up.T * (3.0 / 4)
    torch.testing.assert_close(module(x), module.base_layer(x) + delta, rtol=1e-5, atol=1e-6)


def test_lora_starts_as_kohyas() -> None:
    """Catches another initialisation: down uniform within 1/sqrt(in), up zero."""
    unet = tiny_unet()
    targets = unet_targets(unet)
    layers = inject_lora(unet, targets, LoraShape(8, 8.0), torch.Generator())
    for name, layer in layers.items():
        bound = 1 / math.sqrt(layer.down[0].numel())
        assert layer.down.abs().max() <= bound, name
        assert layer.down.abs().max() > bound * 0.8, name
        assert not layer.up.any(), name


def test_only_the_lora_is_trained(tmp_path: Path) -> None:
    """Catches a base weight that changes, or a factor that does not."""
    training = start(tmp_path, learning_rate=1e-2)
    unet = training.base.unet
    before = {name: value.clone() for name, value in unet.named_parameters()}
    list(training)
    changed = {name for name, value in unet.named_parameters() if not value.equal(before[name])}
    assert changed == {name for name in before if ".lora_" in name}


def test_every_setting_arrives(tmp_path: Path) -> None:
    """Catches settings swapped on their way to the optimizer: each has a value of its own."""
    training = start(
        tmp_path,
        learning_rate=3e-3,
        network_dim=5,
        network_alpha=7.0,
        batch_size=3,
        gradient_accumulation=2,
        gradient_checkpointing="on",
        steps=4,
    )
    group = training.optimizer.param_groups[0]
    assert group["lr"] == 3e-3
    assert group["weight_decay"] == 0.01
    assert group["betas"] == (0.9, 0.999)
    name, layer = next(iter(training.lora.unet.items()))
    assert layer.down.shape[0] == 5
    assert training.base.unet.get_submodule(name).scaling["glitch"] == 7 / 5
    assert training.source.batch_size == 3
    assert training.base.unet.is_gradient_checkpointing
    assert [report.step for report in training] == [1, 2, 3, 4]


def test_first_step_equals_torch_adamw(tmp_path: Path) -> None:
    """Catches a wrong clip, scale or optimizer: one step by hand with torch's own parts."""
    training = start(tmp_path / "a", learning_rate=1e-3, steps=1)
    twin = start(tmp_path / "b", learning_rate=1e-3, steps=1)
    report = training.train_step()
    batch = twin.source.next()
    noise = torch.randn(batch.latents.shape, generator=twin._noise)
    timesteps = torch.randint(0, 1000, (len(batch.latents),), generator=twin._timesteps)
    loss = twin.predictor.loss(batch, noise, timesteps).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(twin.parameters, 1.0)
    torch.optim.AdamW(twin.parameters, lr=1e-3).step()
    assert report.loss == pytest.approx(loss.item(), rel=1e-6)
    assert report.grad_norm == pytest.approx(norm.item(), rel=1e-5)
    for mine, theirs in zip(training.parameters, twin.parameters, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)


def test_accumulation_equals_a_larger_batch(tmp_path: Path) -> None:
    """Catches gradients summed instead of averaged over accumulated passes."""
    items, cache = tiny_items(tmp_path, 2)

    def grad(batch_size: int, accumulation: int) -> list[torch.Tensor]:
        recipe = TrainRecipe(
            network_dim=2, batch_size=batch_size, gradient_accumulation=accumulation
        )
        source = BatchSource(items, cache, cache, batch_size=batch_size, repeats=1, seed=0)
        training = LoraTraining(tiny_base(), source, recipe, CPU)
        for _ in range(accumulation):
            training._forward_backward()
        return [parameter.grad for parameter in training.parameters]

    for one, two in zip(grad(2, 1), grad(1, 2), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_same_seed_same_losses(tmp_path: Path) -> None:
    """Catches a draw from the global random state."""

    def losses(folder: str, noise_seed: int) -> list[float]:
        torch.manual_seed(noise_seed)
        return [report.loss for report in start(tmp_path / folder, seed=11)]

    assert losses("a", 1) == losses("b", 2)


def test_iterating_leaves_the_callers_grad_mode_alone(tmp_path: Path) -> None:
    """Catches a grad or inference mode that leaks out of the iterator into the host."""
    training = start(tmp_path)
    with torch.inference_mode():
        for report in training:
            assert isinstance(report, StepReport)
            assert torch.is_inference_mode_enabled()
            assert not torch.is_grad_enabled()


@pytest.mark.slow
def test_the_loss_falls_on_one_picture(tmp_path: Path) -> None:
    """Catches a trainer that moves nothing: one picture's fixed-noise loss must fall by a third."""
    items, cache = tiny_items(tmp_path, 1)
    source = BatchSource(items, cache, cache, batch_size=4, repeats=8, seed=0)
    recipe = TrainRecipe(network_dim=16, network_alpha=16.0, learning_rate=1e-2, steps=60)
    training = LoraTraining(tiny_base(), source, recipe, CPU)
    batch = source.next()
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0))
    timesteps = torch.tensor([100, 300, 600, 900])
    with torch.no_grad():
        before = training.predictor.loss(batch, noise, timesteps).mean()
    list(training)
    with torch.no_grad():
        after = training.predictor.loss(batch, noise, timesteps).mean()
    assert after < before * 0.67


def test_a_loss_that_is_not_a_number_stops(tmp_path: Path) -> None:
    """Catches a run that goes on saving NaN."""
    training = start(tmp_path)
    next(iter(training.lora.unet.values())).up.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="became nan at step 1.*[Ll]ower learning_rate"):
        training.train_step()


def test_precision_on_a_cpu() -> None:
    """Catches bf16 chosen by itself on a CPU, where it can be thirty times slower."""
    assert resolve_precision("auto", CPU) == torch.float32
    assert resolve_precision("bf16", CPU) == torch.bfloat16
    with pytest.raises(TrainingError, match="needs a GPU"):
        resolve_precision("fp16", CPU)


def test_bf16_trains_and_keeps_the_lora_in_fp32(tmp_path: Path) -> None:
    """Catches LoRA weights rounded to the compute dtype."""
    training = start(tmp_path, precision="bf16", steps=1)
    assert math.isfinite(training.train_step().loss)
    assert {parameter.dtype for parameter in training.parameters} == {torch.float32}
    assert training.base.unet.conv_in.weight.dtype == torch.bfloat16


def test_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    """Catches activations recomputed with other inputs."""
    plain = start(tmp_path / "a", gradient_checkpointing="off", steps=1)
    saving = start(tmp_path / "b", gradient_checkpointing="on", steps=1)
    assert saving.base.unet.is_gradient_checkpointing
    assert not plain.base.unet.is_gradient_checkpointing
    assert plain.train_step().grad_norm == pytest.approx(saving.train_step().grad_norm, rel=1e-5)


def test_checkpointing_keeps_less(tmp_path: Path) -> None:
    """Catches a diffusers that checkpoints only in ``.train()`` mode, as 0.31 and older do."""
    kept = {}
    for choice in ("off", "on"):
        training = start(tmp_path / choice, gradient_checkpointing=choice, steps=1)
        training.base.unet.eval()  # as it is built from a checkpoint
        saved: list[int] = []

        def pack(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            training.train_step()
        kept[choice] = sum(saved)
    assert kept["on"] < kept["off"] / 2
