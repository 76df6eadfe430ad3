"""What a training needs of the device's memory, what is free, and what was chosen for it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import torch

from ..model.checkpoint import BaseModel
from ..recipe.train import TrainRecipe
from ..wording import size_text
from .base_storage import saved_by_fp8
from .devices import free_bytes
from .optim import state_bytes
from .rehearsal import StepMemory, rehearse

# Of both sides: what is usual to try next, from 1024 to 768.
_SMALLER = 3 / 4


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a training needs, in bytes.

    Attributes:
        base: the frozen weights, as they are stored.
        lora: what is trained, fp32.
        optimizer: what the optimizer remembers.
        step: activations and gradients, when they are most.
    """

    base: int
    lora: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.base + self.lora + self.optimizer + self.step


class Rehearsals:
    """What passes over some pictures take, by what one and what all of them take."""

    def __init__(
        self, base: BaseModel, recipe: TrainRecipe, dtype: torch.dtype, size: tuple[int, int],
        pictures: int,
    ) -> None:  # fmt: skip
        """Rehearse the passes; the base must not be stored as NF4 yet.

        Args:
            base: with its LoRA layers.
            recipe: the loss, and what is trained.
            dtype: what is computed in.
            size: (H/8, W/8) of the largest pictures.
            pictures: most of them in a pass.
        """
        self.pictures = pictures
        self.one = rehearse(base, recipe, dtype, size, 1)
        self.all = rehearse(base, recipe, dtype, size, pictures) if pictures > 1 else self.one

    def peak(self, pictures: int, checkpointing: bool, gradients_stay: bool) -> int:
        """Return what a step takes whose passes are over so many pictures."""

        def of(step: StepMemory) -> int:
            return step.peak(checkpointing, gradients_stay=gradients_stay)

        each = (of(self.all) - of(self.one)) / max(1, self.pictures - 1)
        return of(self.one) + round(each * (pictures - 1))


class MemoryPlan:
    """How thriftily a training's forward passes are done; it only ever gets thriftier.

    Attributes:
        checkpointing: whether activations are recomputed instead of kept.
        micro_batch: most pictures per forward pass; a larger batch is cut, with equal losses.
        needs: what that takes.
        free: bytes that were free for it, with the base and the LoRA already there.
    """

    def __init__(
        self,
        base: BaseModel,
        recipe: TrainRecipe,
        device: torch.device,
        trained: Iterable[torch.nn.Parameter],
        rehearsals: Rehearsals,
    ) -> None:
        """Decide by the recipe and the memory that is free.

        Args:
            base: on the device, as it will stay there, with its LoRA layers.
            recipe: gradient_checkpointing, and what the remedies change.
            device: where training runs.
            trained: what is trained.
            rehearsals: of the largest pictures.
        """
        self._recipe = recipe
        self._base = base
        self._rehearsals = rehearsals
        self._accumulates = recipe.gradient_accumulation > 1
        self._shapes = [value.shape for value in trained]
        self.micro_batch = rehearsals.pictures
        self.checkpointing = recipe.gradient_checkpointing == "on"
        self.free = free_bytes(device)
        self.needs = self._needs()
        while not self.fits and self.tighten():
            pass

    @property
    def free_in_all(self) -> float:
        """What was free before the base and the LoRA came, in bytes."""
        return self.free + self.needs.base + self.needs.lora

    @property
    def fits(self) -> bool:
        """Whether what is not there yet finds room."""
        return self.needs.optimizer + self.needs.step <= self.free

    def tighten(self) -> str:
        """Give up something, where the recipe leaves it to us; return what, or an empty text."""
        if self._recipe.gradient_checkpointing != "auto":
            return ""
        given_up = ""
        if not self.checkpointing:
            self.checkpointing = True
            given_up = "gradient checkpointing is on from here"
        elif self.micro_batch > 1:
            self.micro_batch = -(-self.micro_batch // 2)
            given_up = f"batches are trained {self.micro_batch} at a time from here"
        self.needs = self._needs()
        return given_up

    @property
    def sentence(self) -> str:
        """What is needed, what is free and what was chosen for it, as one line."""
        needs, recipe = self.needs, self._recipe
        step = "a step with gradient checkpointing" if self.checkpointing else "a step"
        if self.micro_batch < self._rehearsals.pictures:
            step += f" of {self.micro_batch} at a time"
        stored = "" if recipe.base_precision == "as precision" else f" in {recipe.base_precision}"
        known = math.isfinite(self.free)
        free = f"{size_text(self.free_in_all)} free" if known else "nobody says how much is free"
        said = (
            f"Memory: about {size_text(needs.total)} needed, {free}; "
            f"base{stored} {size_text(needs.base)}, LoRA {size_text(needs.lora)}, "
            f"{recipe.optimizer} {size_text(needs.optimizer)}, {step} {size_text(needs.step)}."
        )
        if self.fits:
            return said
        return f"{said} It does not fit, so it may page and be slow, or stop: choose {self.advice}."

    @property
    def advice(self) -> str:
        """What would help, with what each saves; also once memory did run out."""
        return ", ".join(f"{what} ({size_text(gain)} less)" for gain, what in self.remedies())

    def remedies(self) -> list[tuple[int, str]]:
        """Return what would help: bytes it saves, and what to set, the largest gain first."""
        recipe, needs = self._recipe, self.needs
        found = [
            (needs.optimizer - state_bytes("AdamW8bit", self._shapes), "optimizer AdamW8bit"),
            (self._by_smaller_pictures(), f"pictures of {_SMALLER:.0%} the width and height"),
        ]
        if recipe.base_precision == "as precision" and recipe.network_type != "dora":
            found.append((saved_by_fp8(self._base.unet), "base_precision fp8"))
        if recipe.network_dim > 1:
            # Factors, their gradients and the optimizer's memory of them.
            half = (2 * needs.lora + needs.optimizer) // 2
            found.append((half, f"network_dim {recipe.network_dim // 2}"))
        if recipe.gradient_checkpointing == "off":
            gain = needs.step - self._step_bytes(self.micro_batch, True)
            found.append((gain, "gradient_checkpointing auto"))
        if recipe.gradient_checkpointing != "auto" and self.micro_batch > 1:
            one = self._rehearsals.one.peak(self.checkpointing, gradients_stay=self._accumulates)
            found.append((needs.step - one, "batch_size 1"))
        return sorted((one for one in found if one[0] > 0), reverse=True)

    def _needs(self) -> Needs:
        models = [self._base.unet, *(encoder.model for encoder in self._base.text_encoders)]
        return Needs(
            base=sum(map(frozen_bytes, models)),
            lora=4 * sum(shape.numel() for shape in self._shapes),
            optimizer=state_bytes(self._recipe.optimizer, self._shapes),
            step=self._step_bytes(self.micro_batch, self.checkpointing),
        )

    def _step_bytes(self, pictures: int, checkpointing: bool) -> int:
        several = self._accumulates or pictures < self._rehearsals.pictures
        return self._rehearsals.peak(pictures, checkpointing, several)

    def _by_smaller_pictures(self) -> int:
        activations = self.needs.step - self._rehearsals.one.gradients
        return round(activations * (1 - _SMALLER**2))


def frozen_bytes(model: torch.nn.Module) -> int:
    """Return what a model's frozen weights and buffers take, in bytes."""
    weights = (value for value in model.parameters() if not value.requires_grad)
    total = sum(value.nbytes for value in (*weights, *model.buffers()))
    states = (getattr(value, "quant_state", None) for value in model.parameters())
    nf4 = (state.as_dict(packed=True).values() for state in states if state is not None)
    return total + sum(value.nbytes for values in nf4 for value in values)
