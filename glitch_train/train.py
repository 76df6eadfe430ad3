"""The training loop: noise, forward, loss, backward, clip, optimizer."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from .batches import Batch, BatchSource, pad_prompts
from .checkpoint import BaseModel
from .devices import peak_memory_mb, resolve_precision, wants_checkpointing
from .encode import encode_prompt
from .errors import TrainingError
from .lora import LoraLayers, LoraShape, TrainedLora, inject_lora, trainable
from .lora_targets import recipe_targets, text_encoder_targets
from .loss import per_sample_loss, snr_weights
from .noise import draw_noise, draw_timesteps, noise_schedule, perturbed, training_target
from .optim import build_optimizer, build_schedule
from .recipe import TrainRecipe
from .seeds import generator
from .team import ALONE, Team

CLIP_NORM = 1.0
"""Largest gradient norm; kohya's ``max_grad_norm``."""


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one optimizer step did.

    Attributes:
        step: optimizer steps done, from 1.
        steps: optimizer steps in all.
        epoch: epoch the step's last batch belongs to, from 1.
        loss: mean loss over the step's samples.
        learning_rate: of the UNet at this step; NaN when it is left alone.
        grad_norm: norm of the LoRA's gradient before clipping.
        seconds: wall time of the step.
        lora_norm: L2 norm of the up factors before the step; they start at zero, so it says how
            far training has moved the model.
        peak_memory_mb: most memory in use so far, in MiB; NaN where it is not known.
        text_encoder_lr: of the text encoders at this step; NaN when they are left alone.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    lora_norm: float = math.nan
    peak_memory_mb: float = math.nan
    text_encoder_lr: float = math.nan


class LoraTraining:
    """One LoRA being trained; iterate to train, stop iterating to cancel.

    Every random draw comes from a generator of its own, seeded by the recipe, on the CPU: data
    order, noise and timesteps are the same on every device.
    """

    def __init__(
        self,
        base: BaseModel,
        source: BatchSource,
        recipe: TrainRecipe,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        """Put LoRA layers into the base model's UNet and prepare the optimizer.

        Args:
            base: the frozen base; its UNet is changed in place (the weights themselves are not).
            source: the batches.
            recipe: the settings.
            device: where to train; the UNet is moved there.
            team: the processes that share every batch; each has the same source and recipe.

        Raises:
            TrainingError: for a precision the device cannot train in.
        """
        self.base = base
        self.source = source
        self.recipe = recipe
        self.device = device
        self.team = team
        self.dtype = resolve_precision(recipe.precision, device)
        self.step = 0
        with torch.inference_mode(False):
            # diffusers' own .to() warns about modules to keep in fp32; this UNet has none.
            torch.nn.Module.to(base.unet, device=device, dtype=self.dtype)
            self.lora = self._inject()
            if self._wants_checkpointing():
                base.unet.enable_gradient_checkpointing()
            unet = list(trainable(self.lora.unet))
            text = [p for layers in self.lora.text_encoders for p in trainable(layers)]
            self.parameters = unet + text
            self.optimizer = build_optimizer(recipe, unet, text)
            self.schedule = build_schedule(recipe, self.optimizer)
            self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self._noise = generator(recipe.seed, "noise")
        self._timesteps = generator(recipe.seed, "timesteps")

    def __iter__(self) -> Iterator[StepReport]:
        """Train until the recipe's last step, one report per optimizer step."""
        while self.step < self.recipe.steps:
            yield self.train_step()

    def train_step(self) -> StepReport:
        """Do one optimizer step.

        Raises:
            TrainingError: when the loss is not a finite number.
        """
        started = time.perf_counter()
        with torch.inference_mode(False), torch.enable_grad():
            losses = self.team.all_succeed(self._accumulate)
            self.team.share_gradients(self.parameters)
            self.scaler.unscale_(self.optimizer)
            grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
            # One wait for the device per step: the record needs all three numbers.
            numbers = [self.team.total(losses.mean()), grad_norm.float(), self._lora_norm()]
            loss, norm, lora_norm = torch.stack(numbers).tolist()
            self._check_finite(loss if self.scaler.is_enabled() else loss + norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
            self.schedule.step()
        self.step += 1
        return StepReport(
            step=self.step,
            steps=self.recipe.steps,
            epoch=self.source.epoch,
            loss=loss,
            learning_rate=rates.get("unet", math.nan),
            text_encoder_lr=rates.get("text_encoder", math.nan),
            grad_norm=norm,
            seconds=time.perf_counter() - started,
            lora_norm=lora_norm,
            peak_memory_mb=peak_memory_mb(self.device),
        )

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides the next step, as tensors, numbers and text."""
        return {
            "step": self.step,
            "lora": [parameter.detach().cpu() for parameter in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "noise": self._noise.get_state(),
            "timesteps": self._timesteps.get_state(),
            "source": self.source.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken, in a training of the same recipe."""
        with torch.inference_mode(False), torch.no_grad():
            for parameter, value in zip(self.parameters, state["lora"], strict=True):
                parameter.copy_(value)
        self.step = state["step"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self._noise.set_state(state["noise"])
        self._timesteps.set_state(state["timesteps"])
        self.source.load_state_dict(state["source"])

    def predict(
        self, batch: Batch, noisy_latents: torch.Tensor, timesteps: torch.Tensor
    ) -> torch.Tensor:
        """Run the UNet with the LoRA as it stands.

        Args:
            batch: conditioning, on the device.
            noisy_latents: (B, 4, H/8, W/8).
            timesteps: (B,).

        Returns:
            (B, 4, H/8, W/8).
        """
        extra = None
        if batch.pooled_prompt_embeds is not None:
            extra = {"text_embeds": batch.pooled_prompt_embeds, "time_ids": batch.add_time_ids}
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            return self.base.unet(
                noisy_latents.to(self.dtype),
                timesteps,
                encoder_hidden_states=batch.prompt_embeds,
                encoder_attention_mask=batch.prompt_mask,
                added_cond_kwargs=extra,
                return_dict=False,
            )[0]

    def loss(
        self,
        batch: Batch,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        noise_seen: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the loss of each sample for given noise and timesteps.

        Args:
            batch: on the device.
            noise: (B, 4, H/8, W/8), what is to be predicted.
            timesteps: (B,) int64.
            noise_seen: what is added to the latents; ``noise`` by default.

        Returns:
            (B,) fp32.
        """
        schedule = noise_schedule(self.base.prediction_type)
        seen = noise if noise_seen is None else noise_seen
        noisy_latents = schedule.add_noise(batch.latents, seen, timesteps)
        model_pred = self.predict(batch, noisy_latents, timesteps)
        prediction_type = self.base.prediction_type
        target = training_target(batch.latents, noise, timesteps, prediction_type)
        losses = per_sample_loss(model_pred, target, self.recipe.loss_type)
        if self.recipe.min_snr_gamma:
            losses *= snr_weights(timesteps, self.recipe.min_snr_gamma, prediction_type)
        return losses

    def measure(self, batch: Batch, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Return the loss of each sample with the LoRA as it stands; call it without gradients.

        Args:
            batch: on the CPU.
            noise: (B, 4, H/8, W/8), on the CPU.
            timesteps: (B,), on the CPU.

        Returns:
            (B,) fp32.
        """
        batch = self._with_trained_prompts(batch.to(self.device, self.dtype))
        return self.loss(batch, noise.to(self.device), timesteps.to(self.device))

    def _accumulate(self) -> torch.Tensor:
        """Return this process's share of the loss of each forward pass of a step."""
        passes = range(self.recipe.gradient_accumulation)
        return torch.stack([self._forward_backward() for _ in passes])

    def _forward_backward(self) -> torch.Tensor:
        # Everything is drawn for the whole batch, so that it is the same for any number of
        # processes; each then takes its rows.
        whole = self.source.next()
        count = len(whole.latents)
        noise = draw_noise(whole.latents.shape, self.recipe, self._noise)
        seen = perturbed(noise, self.recipe, self._noise)
        timesteps = draw_timesteps(count, self.recipe, self._timesteps)
        rows = self.team.rows(count)
        share = len(range(*rows.indices(count))) / count
        if not share:
            return torch.zeros((), device=self.device)
        batch = self._with_trained_prompts(whole.rows(rows).to(self.device, self.dtype))
        noise, seen = noise[rows].to(self.device), seen[rows].to(self.device)
        loss = self.loss(batch, noise, timesteps[rows].to(self.device), seen).mean() * share
        self.scaler.scale(loss / self.recipe.gradient_accumulation).backward()
        return loss.detach()

    def _inject(self) -> TrainedLora:
        recipe, base = self.recipe, self.base
        stream = generator(recipe.seed, "lora")

        def inject(model: torch.nn.Module, targets: list[str]) -> LoraLayers:
            return inject_lora(model, targets, LoraShape.of(recipe), stream)

        targets = recipe_targets(base.unet, recipe)
        unet = inject(base.unet, targets) if targets else {}
        towers = [encoder.model for encoder in base.text_encoders if recipe.trains_text_encoder]
        for tower in towers:
            torch.nn.Module.to(tower, device=self.device, dtype=torch.float32)
        return TrainedLora(
            unet, tuple(inject(tower, text_encoder_targets(tower)) for tower in towers)
        )

    def _with_trained_prompts(self, batch: Batch) -> Batch:
        """Return the batch with its captions encoded by the text encoders, where they train."""
        if batch.tokens is None:
            return batch
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            prompts = [encode_prompt(self.base.text_encoders, ids) for ids in batch.tokens]
        embeds, mask = pad_prompts([prompt.prompt_embeds for prompt in prompts])
        pooled = [p.pooled_prompt_embeds for p in prompts if p.pooled_prompt_embeds is not None]
        return dataclasses.replace(
            batch,
            prompt_embeds=embeds.to(self.dtype),
            prompt_mask=None if mask is None else mask.to(self.device, self.dtype),
            pooled_prompt_embeds=torch.stack(pooled).to(self.dtype) if pooled else None,
        )

    def _lora_norm(self) -> torch.Tensor:
        parts = (self.lora.unet, *self.lora.text_encoders)
        norms = torch._foreach_norm([layer.up.detach() for p in parts for layer in p.values()])
        return torch.linalg.vector_norm(torch.stack(norms))

    def _wants_checkpointing(self) -> bool:
        largest = max(height * width for height, width in self._latents_sizes())
        return wants_checkpointing(
            self.recipe.gradient_checkpointing,
            self.device,
            latent_pixels=largest,
            batch_size=self.recipe.batch_size,
            is_xl=self.base.family.is_xl,
        )

    def _latents_sizes(self) -> set[tuple[int, int]]:
        return {item.latents_size for item in self.source.items}

    def _check_finite(self, loss: float) -> None:
        if loss - loss != 0:  # NaN or infinite
            raise TrainingError(
                f"The loss or its gradient became {loss} at step {self.step + 1}; the LoRA up to "
                f"step {self.step} is kept. Lower learning_rate, or choose precision fp32."
            )
