"""A low-noise loss and the drift: fixed pictures, noise and timesteps, measured now and then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from ..cache import TensorCache
from ..errors import TrainingError
from ..lora.layers import without_lora
from ..model.noise_schedule import TRAIN_TIMESTEPS
from ..seeds import generator
from .batches import read_batch
from .items import TrainingItem
from .loop import LoraTraining
from .predictor import Measured

BANDS = 4
"""Bands of timesteps that are also told apart: 0 to 249, 250 to 499, 500 to 749, 750 to 999."""

DRAWS_PER_BAND = 2


@dataclasses.dataclass(frozen=True)
class Split:
    """Training pictures and held-out ones.

    Attributes:
        training: items that are trained on.
        held_out: items that are not; empty without a validation_split.
    """

    training: list[TrainingItem]
    held_out: list[TrainingItem]


def split_items(items: Sequence[TrainingItem], validation_split: float, seed: int) -> Split:
    """Hold a share of the pictures out, all variants of a picture together.

    Args:
        items: what could be trained on; a picture in several parts of a mix counts once.
        validation_split: share of the pictures, 0 to below 1; at least one when above 0.
        seed: the recipe's seed, which decides which.

    Raises:
        TrainingError: when nothing would be left to train on.
    """
    pictures = sorted({item.original for item in items})
    count = max(1, round(validation_split * len(pictures))) if validation_split else 0
    if count >= len(pictures):
        raise TrainingError(
            f"validation_split {validation_split} holds out all {len(pictures)} pictures; "
            "add pictures or lower it."
        )
    order = torch.randperm(len(pictures), generator=generator(seed, "validation")).tolist()
    chosen = {pictures[index] for index in order[:count]}
    return Split(
        [item for item in items if item.original not in chosen],
        [item for item in items if item.original in chosen],
    )


class Probe:
    """The probe of one run; measuring changes nothing of the training."""

    def __init__(self, split: Split, cache: TensorCache, seed: int) -> None:
        """Choose the pictures; the noise is drawn anew, and the same, at every measurement."""
        self._parts = {"train_probe_loss": split.training}
        if split.held_out:
            self._parts["probe_loss"] = split.held_out
        self._cache = cache
        self._seed = seed
        self._base: list[torch.Tensor] = []

    def measure(self, training: LoraTraining) -> dict[str, float]:
        """Return the mean loss of each part and of each band of timesteps, and the drift.

        The drift is ``‖p - b‖ / ‖b‖`` over all predictions ``p`` of the measurement and those of
        the base model without the LoRA, ``b``: 0 at step 0, 1 where they differ as much as the
        base's own size.

        Args:
            training: whose model is measured as it stands.

        Returns:
            Record columns: ``drift``, ``train_probe_loss`` and, with held-out pictures,
            ``probe_loss``; with ``_t0_249`` and so on behind the name: of one band.
        """
        values: dict[str, float] = {}
        predictions: list[torch.Tensor] = []
        with torch.inference_mode(False), torch.no_grad():
            for column, items in self._parts.items():
                measured = self._measure(training, items)
                losses = torch.cat([one.losses for one in measured])
                bands = losses.reshape(BANDS, DRAWS_PER_BAND).mean(dim=1).tolist()
                values[column] = losses.mean().item()
                for number, loss in enumerate(bands):
                    values[f"{column}_{_band_name(number)}"] = loss
                predictions += [one.prediction.float().cpu() for one in measured]
            values["drift"] = self._drift(training, predictions)
        return values

    def _drift(self, training: LoraTraining, predictions: Sequence[torch.Tensor]) -> float:
        if not self._base:
            towers = (encoder.model for encoder in training.base.text_encoders)
            with without_lora(training.base.unet, *towers):
                for items in self._parts.values():
                    measured = self._measure(training, items)
                    self._base += [one.prediction.float().cpu() for one in measured]
        moved = [p - b for p, b in zip(predictions, self._base, strict=True)]
        return (_norm(moved) / _norm(self._base)).item()

    def _measure(self, training: LoraTraining, items: Sequence[TrainingItem]) -> list[Measured]:
        stream = generator(self._seed, "probe")
        draws = BANDS * DRAWS_PER_BAND
        measured = []
        for draw in range(draws):
            item = items[draw * len(items) // draws if len(items) >= draws else draw % len(items)]
            batch = read_batch([item], self._cache, self._cache, training.source.with_tokens)
            noise = torch.randn(batch.latents.shape, generator=stream)
            timestep = torch.tensor([round((draw + 0.5) * TRAIN_TIMESTEPS / draws)])
            measured.append(training.predictor.measure(batch, noise, timestep))
        return measured


def is_due(step: int, steps: int, probe_every: int) -> bool:
    """Say whether the probe is measured after a step: every so many, and after the last."""
    return bool(probe_every) and (step % probe_every == 0 or step == steps)


def _norm(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(p) for p in parts]))


def _band_name(number: int) -> str:
    width = TRAIN_TIMESTEPS // BANDS
    return f"t{number * width}_{(number + 1) * width - 1}"
