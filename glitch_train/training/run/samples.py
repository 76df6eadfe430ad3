"""The sample pictures of a run: when they are made, where they lie, and the strip of them all."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...cache import TensorCache
from ...dataset.mix import AnyDataset, training_captions
from ...drawing.figures import save_png
from ...drawing.picture_table import FAINT, GridPicture, Label
from ...errors import DiskError, FileHeldError
from ...lora.layers import without_lora
from ...losses.record import LossRecord
from ...model.encoders import Encoders
from ...plain_json import json_object
from ...recipe.train import TrainRecipe
from ...text_lists import prompts as read_prompts
from ..loop import LoraTraining
from ..memory import free_unused, is_out_of_memory, let_go
from ..sampling import Drawing, drawn
from .folder import RunPaths

log = logging.getLogger(__name__)

TEXT = "glitch_sample"
"""Name of the PNG text that says how a picture was sampled."""

STRIP_PX, SHOWN_PX = 16e6, 2e6
"""Most pixels of the strip in the run's folder, and of the one beside a growing curve."""

PROMPT_LINES = 8

SHOWN_COLUMNS = 6
"""Most columns beside a growing curve: the base and the newest."""

FIRST_CAPTIONS = 3
"""How many captions are sampled where the recipe names no prompt."""


@dataclasses.dataclass(frozen=True)
class Sampling:
    """Progress of the sample pictures of one step.

    Attributes:
        step: optimizer steps done.
        done: denoising steps done, of all prompts together.
        total: how many there are. When all are done, pictures and strip are on disk.
    """

    step: int
    done: int
    total: int


@dataclasses.dataclass(frozen=True)
class Prompts:
    """What is sampled.

    Attributes:
        keys: each prompt to its key in ``cache``, in the order of the strip's rows.
        empty_key: key of the empty prompt, which guidance leads away from.
        cache: where prompt embeddings are kept.
        size: (width, height) of the pictures, in pixels.
    """

    keys: Mapping[str, str]
    empty_key: str
    cache: TensorCache
    size: tuple[int, int]


def sampled_prompts(recipe: TrainRecipe, dataset: AnyDataset) -> tuple[str, ...]:
    """Return the prompts of the sample pictures: the recipe's, or the folder's first captions."""
    if recipe.sample_prompts.strip():
        return read_prompts(recipe.sample_prompts)
    return tuple(itertools.islice(training_captions(dataset), FIRST_CAPTIONS))


class Samples:
    """Samples pictures of a model as it stands, with the same prompts and noise at every step.

    Column 0 of the strip is the base model without the LoRA. The pictures of a run that goes on
    are found again by what is written in them.
    """

    def __init__(
        self,
        recipe: TrainRecipe,
        prompts: Prompts,
        encoders: Encoders,
        paths: RunPaths,
        record: LossRecord,
    ) -> None:
        """Prepare to sample; nothing is done yet.

        Args:
            recipe: its ``sample_`` settings.
            prompts: what is sampled.
            encoders: the VAE, which leaves the device again.
            paths: where the pictures go.
            record: is told which pictures could not be made.
        """
        self._recipe = recipe
        self._prompts = prompts
        self._encoders = encoders
        self._paths = paths
        self._record = record
        self._last_step = 0

    def begin(self, training: LoraTraining) -> Iterator[Sampling]:
        """Sample the base model, without the LoRA; and what a stopped run did not finish."""
        self._last_step = training.step
        towers = (encoder.model for encoder in training.base.text_encoders)
        with without_lora(training.base.unet, *towers):
            yield from self._guarded(training, 0)
        if training.step and training.step % self._recipe.sample_every == 0:
            yield from self.make(training)

    def make(self, training: LoraTraining) -> Iterator[Sampling]:
        """Sample every prompt from the model as it stands; what hinders it is noted and logged."""
        self._last_step = training.step
        yield from self._guarded(training, training.step)

    def strip(self, *, small: bool = False) -> Image.Image | None:
        """Return the pictures as prompts × steps, or None while there are none.

        Pictures of steps that a stopped run has lost again are left out.

        Args:
            small: for a view beside the curve: the base and the newest columns, without prompts.
        """
        found = self._pictures()
        steps = sorted({step for step, _ in found})
        if not steps:
            return None
        if small and len(steps) > SHOWN_COLUMNS:
            steps = [steps[0], *steps[1 - SHOWN_COLUMNS :]]
        rows = list(self._prompts.keys)
        cells = itertools.product(range(len(rows)), range(len(steps)))
        words = [[Label(row or "(empty prompt)", PROMPT_LINES, FAINT)] for row in rows]
        sheet = GridPicture(
            [[] for _ in rows] if small else words,
            [[Label(f"step {step}" if step else "base")] for step in steps],
            dict.fromkeys(cells, self._prompts.size),
            [] if small else [Label(self._heading(), 3)],
            max_px=SHOWN_PX if small else STRIP_PX,
        )
        for (step, prompt), path in found.items():
            if step in steps:
                with Image.open(path) as picture:
                    sheet.paste((rows.index(prompt), steps.index(step)), picture)
        return sheet.image

    def _guarded(self, training: LoraTraining, step: int) -> Iterator[Sampling]:
        """Sample; a picture that finds no room is not worth the run."""
        missing = self._record.about.samples_missing
        try:
            yield from self._make(training, step)
            if step in missing:
                missing.remove(step)
        except Exception as error:
            if not (is_out_of_memory(error) or isinstance(error, DiskError)):
                raise
            let_go(error)
            why = str(error) if isinstance(error, DiskError) else "the device ran out of memory"
            log.warning("No sample pictures after step %d, training goes on: %s", step, why)
            if step not in missing:
                missing.append(step)
        self._encoders.leave_device()
        free_unused(training.device)

    def _make(self, training: LoraTraining, step: int) -> Iterator[Sampling]:
        found = self._pictures()
        done, total = 0, self._recipe.sample_steps * len(self._prompts.keys)
        for row, prompt in enumerate(self._prompts.keys, 1):
            if (step, prompt) in found:
                done += self._recipe.sample_steps
                continue
            for latents in self._denoised(training, prompt):
                done, last = done + 1, latents
                if done < total:  # the end is said when the strip is there
                    yield Sampling(step, done, total)
            picture = self._encoders.decode_picture(last)
            about = {TEXT: json.dumps(self._about(step, prompt))}
            save_png(picture, self._paths.sample(step, row), about)
        strip = self.strip()
        if strip is not None:
            self._save_strip(strip)
        yield Sampling(step, total, total)

    def _save_strip(self, strip: Image.Image) -> None:
        """Write the strip, or say that it could not be: the pictures it shows are there."""
        note = f"{self._paths.strip.name} is in use by a program, so that it lacks the last steps."
        notes = self._record.about.notes
        try:
            save_png(strip, self._paths.strip, {})
        except FileHeldError as error:
            log.warning("Training goes on with the strip as it was: %s", error)
            if note not in notes:
                notes.append(note)
        else:  # of an earlier one
            notes[:] = [one for one in notes if one != note]

    def _denoised(self, training: LoraTraining, prompt: str) -> Iterator[torch.Tensor]:
        recipe, given = self._recipe, self._prompts
        drawing = Drawing(
            prompt_key=given.keys[prompt],
            negative_key=given.empty_key,
            size=given.size,
            seed=recipe.sample_seed,
            sampler=recipe.sample_sampler,
            steps=recipe.sample_steps,
            cfg=recipe.sample_cfg,
        )
        with_tokens = training.source.with_tokens
        return drawn(training.predictor, drawing, given.cache, with_tokens=with_tokens)

    def _pictures(self) -> dict[tuple[int, str], Path]:
        """Return (step, prompt) to the picture of these settings on disk, up to the last step."""
        found: dict[tuple[int, str], Path] = {}
        for path in sorted(self._paths.samples.glob("step*.png")):
            about = _read_about(path)
            step, prompt = about.get("step", -1), about.get("prompt", "")
            known = 0 <= step <= self._last_step and prompt in self._prompts.keys
            if known and about == self._about(step, prompt):
                found[step, prompt] = path
        return found

    def _about(self, step: int, prompt: str) -> dict[str, Any]:
        """Return how a picture is sampled, as it is written into its file."""
        recipe, (width, height) = self._recipe, self._prompts.size
        return {
            "step": step,
            "prompt": prompt,
            "sampler": recipe.sample_sampler,
            "steps": recipe.sample_steps,
            "cfg": recipe.sample_cfg,
            "seed": recipe.sample_seed,
            "width": width,
            "height": height,
        }

    def _heading(self) -> str:
        recipe = self._recipe
        return (
            f"{self._paths.name} · {recipe.sample_sampler} · {recipe.sample_steps} steps · "
            f"CFG {recipe.sample_cfg:g} · seed {recipe.sample_seed}"
        )


def _read_about(path: Path) -> dict[str, Any]:
    """Return what is written in a sample picture; nothing for a file of someone else."""
    try:
        with Image.open(path) as picture:
            return json_object(picture.info[TEXT])
    except (OSError, KeyError):
        return {}
