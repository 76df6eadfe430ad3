"""The training loop: noise, forward, loss, backward, clip, optimizer."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from typing import Any

import torch

from ..errors import TrainingError
from ..lora.layers import trainable
from ..losses.record import StepReport
from ..model.checkpoint import BaseModel
from ..recipe.train import CLIP_NORM, TrainRecipe
from ..seeds import generator
from .base_storage import store_base
from .batches import BatchSource
from .devices import peak_memory_mb, resolve_precision
from .fp16 import way_out
from .inject import inject
from .memory import free_unused, is_out_of_memory, let_go, shortage
from .objective import draw_noise, draw_timesteps, perturbed
from .optim import build_optimizer, build_schedule
from .plan import MemoryPlan, Rehearsals
from .predictor import Predictor
from .team import ALONE, Team

log = logging.getLogger(__name__)


class NotFiniteError(TrainingError):
    """The loss or its gradient is NaN or infinite; the LoRA is as it was before that step.

    Attributes:
        report: the step that was not done.
    """

    def __init__(self, message: str, report: StepReport) -> None:
        super().__init__(message)
        self.report = report


class LoraTraining:
    """One LoRA being trained; iterate to train, stop iterating to cancel.

    Every random draw comes from a generator of its own, seeded by the recipe, on the CPU: data
    order, noise and timesteps are the same on every device.

    Attributes:
        step: optimizer steps done.
        lora: the factors.
        predictor: the base model with them, as it stands.
        is_whole: whether the LoRA may be saved: no update broke off and all factors are finite.
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
        dtype = resolve_precision(recipe.precision, device)
        self.base = base
        self.recipe = recipe
        self.device = device
        self.predictor = Predictor(base, recipe, device, dtype)
        self.source = source
        self.team = team
        self.step = 0
        self.is_whole = True
        with torch.inference_mode(False):
            if recipe.base_precision == "as precision":
                # diffusers' own .to() warns about modules to keep in fp32; this UNet has none.
                torch.nn.Module.to(base.unet, device=device, dtype=dtype)
            self.lora = inject(base, recipe, device, dtype)
            rehearsals = self._rehearse()
            if recipe.base_precision != "as precision":
                store_base(base.unet, recipe.base_precision, device, dtype)
            unet = list(trainable(self.lora.unet))
            text = [p for layers in self.lora.text_encoders for p in trainable(layers)]
            self.parameters = unet + text
            self.memory = MemoryPlan(base, recipe, device, self.parameters, rehearsals)
            if self.memory.checkpointing:
                base.unet.enable_gradient_checkpointing()
            self.optimizer = build_optimizer(recipe, unet, text)
            self.schedule = build_schedule(recipe, self.optimizer)
            self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
        self._noise = generator(recipe.seed, "noise")
        self._timesteps = generator(recipe.seed, "timesteps")

    def __iter__(self) -> Iterator[StepReport]:
        """Train until the recipe's last step, one report per optimizer step."""
        while self.step < self.recipe.steps:
            yield self.train_step()

    def train_step(self) -> StepReport:
        """Do one optimizer step.

        Raises:
            NotFiniteError: when loss or gradient is NaN or infinite, without glitch_through; or
                when the LoRA itself is. The next draws are those of this step again.
            OutOfMemory: when there is nothing left to give up.
        """
        started = time.perf_counter()
        here = self._position()
        with torch.inference_mode(False), torch.enable_grad():
            losses = self.team.all_succeed(lambda: self._gradients(here))
            self.team.share_gradients(self.parameters)
            self.scaler.unscale_(self.optimizer)
            grad_norm = torch.nn.utils.clip_grad_norm_(self.parameters, CLIP_NORM)
            # One wait for the device per step: the record needs all three numbers.
            numbers = [self.team.total(losses.mean()), grad_norm.float(), self._lora_norm()]
            loss, norm, lora_norm = torch.stack(numbers).tolist()
            finite = math.isfinite(loss) and (math.isfinite(norm) or self._may_skip(lora_norm))
            rates = {group["name"]: group["lr"] for group in self.optimizer.param_groups}
            report = StepReport(
                step=self.step + 1,
                steps=self.recipe.steps,
                epoch=self.source.epoch,
                loss=loss,
                learning_rate=rates.get("unet", math.nan),
                text_encoder_lr=rates.get("text_encoder", math.nan),
                grad_norm=norm,
                seconds=time.perf_counter() - started,
                lora_norm=lora_norm,
                peak_memory_mb=peak_memory_mb(self.device),
                finite=finite,
                skipped=finite and not math.isfinite(norm),
            )
            self.is_whole = finite or all(bool(one.isfinite().all()) for one in self.parameters)
            if not finite and not (self.recipe.glitch_through and self.is_whole):
                self._undo(here)
                raise self._not_finite(report)
            self._update(report)
        self.step += 1
        return dataclasses.replace(report, seconds=time.perf_counter() - started)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that decides the next step, as tensors, numbers and text."""
        return {
            "step": self.step,
            "lora": [parameter.detach() for parameter in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        } | self._position()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where :meth:`state_dict` was taken, in a training of the same recipe."""
        with torch.inference_mode(False), torch.no_grad():
            for parameter, value in zip(self.parameters, state["lora"], strict=True):
                parameter.copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])  # its copies are changed by steps
        self.step = state["step"]
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self._go_back(state)

    def _position(self) -> dict[str, Any]:
        """Return where the draws of the next step begin."""
        return {
            "noise": self._noise.get_state(),
            "timesteps": self._timesteps.get_state(),
            "source": self.source.state_dict(),
        }

    def _go_back(self, position: dict[str, Any]) -> None:
        self._noise.set_state(position["noise"])
        self._timesteps.set_state(position["timesteps"])
        self.source.load_state_dict(position["source"])

    def _undo(self, position: dict[str, Any]) -> None:
        """Forget a step that was begun."""
        self.optimizer.zero_grad(set_to_none=True)
        self._go_back(position)

    def _gradients(self, here: dict[str, Any]) -> torch.Tensor:
        """Do the passes of one step, anew and more thriftily where memory runs out."""
        while True:
            try:
                return self._accumulate()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                let_go(error)
            self._undo(here)
            free_unused(self.device)
            if not (given_up := self.memory.tighten()):
                raise shortage(self.memory.advice, f" at step {self.step + 1}")
            log.warning("Out of memory at step %d: %s", self.step + 1, given_up)
            if self.memory.checkpointing:
                self.base.unet.enable_gradient_checkpointing()

    def _accumulate(self) -> torch.Tensor:
        """Return this process's share of the loss of each forward pass of a step."""
        passes = range(self.recipe.gradient_accumulation)
        return torch.stack([self._forward_backward() for _ in passes])

    def _forward_backward(self) -> torch.Tensor:
        # Drawn for the whole batch, so that it is the same for any number of processes.
        whole = self.source.next()
        count = len(whole)
        noise = draw_noise(whole.latents.shape, self.recipe, self._noise)
        seen = perturbed(noise, self.recipe, self._noise)
        timesteps = draw_timesteps(count, self.recipe, self._timesteps)
        rows = self.team.rows(count)
        if rows.start == rows.stop:
            # Scaled, because the scaler refuses to unscale what it never scaled.
            return self.scaler.scale(torch.zeros((), device=self.device))
        predictor, losses = self.predictor, []
        for place, part in whole.rows(rows).cut(self.memory.micro_batch):
            part = predictor.with_trained_prompts(part.to(self.device, predictor.dtype))
            drawn = (draw[rows][place].to(self.device) for draw in (noise, timesteps, seen))
            loss = predictor.loss(part, *drawn).sum() / count
            self.scaler.scale(loss / self.recipe.gradient_accumulation).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _update(self, report: StepReport) -> None:
        """Let the optimizer change the LoRA; a step that is not finite changes nothing."""
        self.is_whole = False
        if report.finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if report.finite and not report.skipped:  # as accelerate: the rate follows real updates
            self.schedule.step()
        self.is_whole = True

    def _may_skip(self, lora_norm: float) -> bool:
        """Say whether a gradient out of fp16's range is the scaler's to handle.

        Not when it overflows even unscaled, nor when the run would end with nothing learned.
        """
        if not self.scaler.is_enabled() or self.scaler.get_scale() < 1:
            return False
        log.warning("Step %d: a gradient out of fp16's range; it is skipped.", self.step + 1)
        return self.step + 1 < self.recipe.steps or lora_norm > 0

    def _lora_norm(self) -> torch.Tensor:
        parts = (self.lora.unet, *self.lora.text_encoders)
        norms = torch._foreach_norm([layer.up.detach() for p in parts for layer in p.values()])
        return torch.linalg.vector_norm(torch.stack(norms))

    def _rehearse(self) -> Rehearsals:
        sizes = (item.latents_size for item in self.source.items)
        largest = max(sizes, key=lambda size: size[0] * size[1])
        rows = -(-self.recipe.batch_size // self.team.size)
        return Rehearsals(self.base, self.recipe, self.predictor.dtype, largest, rows)

    def _not_finite(self, report: StepReport) -> NotFiniteError:
        loss_is_finite = math.isfinite(report.loss)
        which, value = ("gradient", report.grad_norm) if loss_is_finite else ("loss", report.loss)
        learned = f"the LoRA up to step {self.step} is kept"
        kept = learned if report.lora_norm else "nothing was learned until then"
        hint = ", or switch glitch_through on to pass over such steps"
        if not self.is_whole:
            kept, hint = "the LoRA broke too, so only earlier snapshots are kept (save_every)", ""
        return NotFiniteError(
            f"The {which} became {value} at step {report.step}; {kept}. Lower learning_rate, or "
            f"choose {way_out(is_fp16=self.scaler.is_enabled())}{hint}.",
            report,
        )
