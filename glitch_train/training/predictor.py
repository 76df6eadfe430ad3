"""What a base model with its LoRA predicts for given noise, and the loss of that."""

from __future__ import annotations

import dataclasses

import torch

from ..model.checkpoint import BaseModel
from ..recipe.train import TrainRecipe
from .batches import Batch, pad_prompts
from .encode import encode_prompt
from .objective import (
    huber_thresholds,
    noise_schedule,
    per_sample_loss,
    snr_weights,
    training_target,
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """The model as it stands, on given noise.

    Attributes:
        losses: (B,) fp32.
        prediction: (B, 4, H/8, W/8).
    """

    losses: torch.Tensor
    prediction: torch.Tensor


class Predictor:
    """A base model, with whatever LoRA is in it, on one device."""

    def __init__(
        self, base: BaseModel, recipe: TrainRecipe, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Predict with ``base`` where it is.

        Args:
            base: its UNet is on ``device``, in ``dtype``.
            recipe: the loss.
            device: where to compute.
            dtype: what to compute in.
        """
        self.base = base
        self.schedule = noise_schedule(base.prediction_type, base.alphas_cumprod)
        self.recipe = recipe
        self.device = device
        self.dtype = dtype

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
        # Without autocast, which keeps norms and their inputs in fp32: the frozen weights and what
        # flows between them have one format, and the LoRA's factors take it on.
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
        return self._measure(batch, noise, timesteps, noise_seen).losses

    def _measure(
        self,
        batch: Batch,
        noise: torch.Tensor,
        timesteps: torch.Tensor,
        noise_seen: torch.Tensor | None = None,
    ) -> Measured:
        schedule = self.schedule
        seen = noise if noise_seen is None else noise_seen
        noisy_latents = schedule.add_noise(batch.latents, seen, timesteps)
        model_pred = self.predict(batch, noisy_latents, timesteps)
        target = training_target(batch.latents, noise, timesteps, schedule)
        is_huber = self.recipe.loss_type == "huber"
        thresholds = huber_thresholds(timesteps, schedule) if is_huber else None
        losses = per_sample_loss(
            model_pred, target, self.recipe.loss_type, thresholds, batch.loss_mask
        )
        if self.recipe.min_snr_gamma:
            losses *= snr_weights(timesteps, self.recipe.min_snr_gamma, schedule)
        return Measured(losses, model_pred)

    def measure(self, batch: Batch, noise: torch.Tensor, timesteps: torch.Tensor) -> Measured:
        """Return losses and predictions of the model as it stands; call it without gradients.

        Args:
            batch: on the CPU.
            noise: (B, 4, H/8, W/8), on the CPU.
            timesteps: (B,), on the CPU.
        """
        batch = self.with_trained_prompts(batch.to(self.device, self.dtype))
        return self._measure(batch, noise.to(self.device), timesteps.to(self.device))

    def with_trained_prompts(self, batch: Batch) -> Batch:
        """Return the batch with its captions encoded by the text encoders, where they train."""
        if batch.tokens is None:
            return batch
        prompts = [encode_prompt(self.base.text_encoders, ids) for ids in batch.tokens]
        embeds, mask = pad_prompts([prompt.prompt_embeds for prompt in prompts])
        pooled = [p.pooled_prompt_embeds for p in prompts if p.pooled_prompt_embeds is not None]
        return dataclasses.replace(
            batch,
            prompt_embeds=embeds.to(self.dtype),
            prompt_mask=None if mask is None else mask.to(self.device, self.dtype),
            pooled_prompt_embeds=torch.stack(pooled).to(self.dtype) if pooled else None,
        )
