"""One row of the GPU benchmark: seeded full-size weights, made on the device, and its steps."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from glitch_demo.full_shapes import LAYOUTS
from glitch_train.cache import TensorCache
from glitch_train.lora.layers import without_lora
from glitch_train.lora.targets import unet_targets
from glitch_train.model.checkpoint import BaseModel, unet_config
from glitch_train.model.unet_names import UNetLayout
from glitch_train.recipe.train import CLIP_NORM, TrainRecipe
from glitch_train.training.batches import Batch, BatchSource
from glitch_train.training.devices import peak_memory_mb, resolve_precision
from glitch_train.training.items import TrainingItem
from glitch_train.training.loop import LoraTraining
from glitch_train.training.objective import noise_schedule

from ._gpu_rows import Row

Figures = dict[str, Any]
TINY_PX = 64
_TINY = UNetLayout((64, 64), 1, ((0,), (1,)), ((1, 1), (0, 0)), 1)
"""A UNet of either family for the CPU, where only the command itself is tried."""
_CONTEXT_TOKENS, _POOLED = 77, 1280
_PROFILED_STEPS = 3
_SYNCS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_READS = "aten::_local_scalar_dense"
"""What torch calls when Python asks for a number; of one on the device it waits for that."""


def measure(row: Row, device: torch.device, steps: int, tiny: bool, folder: Path) -> Figures:
    """Return a row's figures; what it raises is the row's result too, see :mod:`.gpu`.

    Args:
        row: what to measure, by this pack or by diffusers.
        device: where.
        steps: how many of each kind are timed.
        tiny: a small UNet and small pictures instead of the full size.
        folder: for the cache of latents and prompts.
    """
    dtype = resolve_precision(row.precision, device)
    base = seeded_base(row, device, dtype, tiny)
    source = seeded_source(row, folder, tiny)
    if row.by == "diffusers + peft":
        step = _plain_step(row, base, source, device, dtype)
        return _timed({"step": step}, device, steps)
    training = LoraTraining(base, source, _recipe(row, steps), device)
    if row.by == "torch.compile":
        base.unet.compile()
    kinds = {"step": training.train_step, "least": _least_step(training, device)}
    figures = _timed(kinds, device, steps)
    needs = getattr(training.memory, "needs", None)  # what the plan estimated, where there is one
    figures["estimate_mb"] = None if needs is None else needs.total / 2**20
    return figures | _waits(training.train_step, device, min(steps, _PROFILED_STEPS))


def _recipe(row: Row, steps: int) -> TrainRecipe:
    return TrainRecipe(
        steps=10 * steps + 10,  # it is stopped long before
        network_dim=row.rank,
        network_alpha=float(row.rank),
        batch_size=row.batch,
        precision=row.precision,
        base_precision=row.base_precision,
        gradient_checkpointing="on" if row.checkpointing else "off",
    )


def seeded_base(row: Row, device: torch.device, dtype: torch.dtype, tiny: bool) -> BaseModel:
    """Return a frozen base of a family whose weights keep the variance from layer to layer."""
    from diffusers import UNet2DConditionModel

    family, layout = LAYOUTS[row.family]
    layout = _TINY if tiny else layout
    with torch.device("meta"):
        config = unet_config({"label_emb.0.0.weight": (1280, 2816)}, layout, family)
        unet = UNet2DConditionModel(**config)
    torch.nn.Module.to(unet, dtype=dtype)
    unet.to_empty(device=device)
    stream = torch.Generator(device).manual_seed(0)
    for name, weight in unet.named_parameters():
        if weight.ndim == 1:
            weight.data.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            weight.data.normal_(0, 1 / math.sqrt(weight[0].numel()), generator=stream)
    return BaseModel(family, layout, unet.requires_grad_(False).eval(), ())


def seeded_source(row: Row, folder: Path, tiny: bool) -> BatchSource:
    """Return batches of seeded latents and prompts, from a cache as in any run."""
    side_px = TINY_PX if tiny else row.size_px
    family, _ = LAYOUTS[row.family]
    cache, items, stream = TensorCache(folder), [], torch.Generator().manual_seed(0)
    for number in range(2 * row.batch):
        latents = torch.randn(4, side_px // 8, side_px // 8, generator=stream)
        prompt = {
            "prompt_embeds": torch.randn(_CONTEXT_TOKENS, family.context_dim, generator=stream)
        }
        if family.is_xl:
            prompt["pooled_prompt_embeds"] = torch.randn(_POOLED, generator=stream)
        cache.store(f"latents{number}", {"latents": latents})
        cache.store(f"prompt{number}", prompt)
        size, ids = (side_px // 8, side_px // 8), (side_px, side_px, 0, 0, side_px, side_px)
        items.append(TrainingItem(f"latents{number}", f"prompt{number}", size, ids, number))
    return BatchSource(items, cache, cache, batch_size=row.batch, repeats=10, seed=0)


def _least_step(training: LoraTraining, device: torch.device) -> Callable[[], object]:
    """Return forward and gradient of the input of the same UNet without its LoRA."""
    predictor = training.predictor
    batch = training.source.next().to(device, predictor.dtype)
    noisy = torch.randn_like(batch.latents, dtype=torch.float32).requires_grad_(True)
    timesteps = torch.full((len(batch),), 500, device=device)

    def step() -> None:
        with without_lora(training.base.unet), torch.enable_grad():
            predictor.predict(batch, noisy, timesteps).float().square().mean().backward()
        noisy.grad = None

    return step


def _plain_step(
    row: Row, base: BaseModel, source: BatchSource, device: torch.device, dtype: torch.dtype
) -> Callable[[], object]:
    """Return a step as diffusers' own LoRA scripts do it, on the same modules."""
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    unet, schedule = base.unet, noise_schedule()
    targets = unet_targets(unet)
    unet.add_adapter(LoraConfig(r=row.rank, lora_alpha=row.rank, target_modules=list(targets)))
    cast_training_params(unet, dtype=torch.float32)
    unet.train()
    if row.checkpointing:
        unet.enable_gradient_checkpointing()
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def step() -> float:
        batch: Batch = source.next().to(device, dtype)
        noise = torch.randn_like(batch.latents)
        timesteps = torch.randint(0, 1000, (len(batch),), device=device)
        noisy = schedule.add_noise(batch.latents, noise, timesteps).to(dtype)
        extra = {"text_embeds": batch.pooled_prompt_embeds, "time_ids": batch.add_time_ids}
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            prediction = unet(noisy, timesteps, batch.prompt_embeds, added_cond_kwargs=extra).sample
        loss = torch.nn.functional.mse_loss(prediction.float(), noise.float())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.item()

    return step


def _timed(
    kinds: dict[str, Callable[[], object]], device: torch.device, steps: int
) -> Figures:  # fmt: skip
    """Return each kind's median seconds, in turns, and the peak of the first kind's steps."""
    seconds: dict[str, list[float]] = {name: [] for name in kinds}
    for one in kinds.values():
        one()  # the first step allocates and compiles
    peak = 0.0
    for _ in range(steps):
        for name, one in kinds.items():
            synchronize(device)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            began = time.perf_counter()
            one()
            synchronize(device)
            seconds[name].append(time.perf_counter() - began)
            if name == "step":
                peak = max(peak, peak_memory_mb(device))
    medians = {f"{name}_s": statistics.median(values) for name, values in seconds.items()}
    return medians | {"peak_mb": peak}


def _waits(step: Callable[[], object], device: torch.device, steps: int) -> Figures:
    """Return how often a step waits for the device, and how often it asks for a number at all."""
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        for _ in range(steps):
            step()
    counted = {event.key: event.count for event in profiler.key_averages()}
    waits = sum(counted.get(name, 0) for name in _SYNCS)
    if device.type == "cuda":
        waits -= 1  # the profiler's own, at its end
    return {"syncs_per_step": waits / steps, "reads_per_step": counted.get(_READS, 0) / steps}


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
