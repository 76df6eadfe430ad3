"""One run from a base model and a dataset to a LoRA file: the order of the pieces."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from .batches import BatchSource, CaptionDropout
from .cache import TensorCache, sampled_key
from .checkpoint import BaseModel
from .dataset import GlitchDataset
from .devices import resolve_precision
from .encode import (
    EncodePicture,
    Tokenize,
    TrainingItem,
    captions_to_encode,
    encode_captions,
    encode_pictures,
    picture_variants,
    training_items,
)
from .errors import TrainingError
from .lora_file import LoraStateDict, metadata, save_lora, to_kohya
from .lora_targets import recipe_targets
from .probe import Probe, is_due, split_items
from .recipe import Recipe, TrainRecipe
from .record import LossRecord, RecordWriter
from .run_folder import RunPaths, write_recipe
from .state import load_state, material_key, save_state
from .team import ALONE, Team
from .train import LoraTraining, StepReport

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Preparing:
    """Progress of the work before training.

    Attributes:
        what: ``pictures`` or ``captions``.
        done: how many are encoded.
        total: how many there are.
    """

    what: str
    done: int
    total: int


Event = Preparing | StepReport


@dataclasses.dataclass(frozen=True)
class Encoders:
    """What turns pictures and captions into numbers; given by the host or by a checkpoint.

    Attributes:
        encode_picture: the VAE.
        tokenize: the tokenizers.
        vae_key: identifies the VAE's weights, for the cache.
    """

    encode_picture: EncodePicture
    tokenize: Tokenize
    vae_key: str


class TrainingRun:
    """A run; follow its events to make it happen, close them to stop it.

    However the iteration ends, the LoRA so far is on disk once a step has been done.

    Attributes:
        record: the losses so far.
        lora: the LoRA as saved; empty before it was saved.
    """

    def __init__(
        self,
        base: BaseModel,
        dataset: GlitchDataset,
        recipe: Recipe,
        encoders: Encoders,
        paths: RunPaths,
        *,
        cache_folder: Path,
        device: torch.device,
        team: Team = ALONE,
    ) -> None:
        """Describe the run; nothing is done yet.

        Args:
            base: the frozen base model.
            dataset: pictures and captions.
            recipe: the whole recipe, kept with the LoRA.
            encoders: the VAE and the tokenizers.
            paths: where the run's files go.
            cache_folder: where latents and prompt embeddings are kept between runs.
            device: where to train.
            team: the processes that train together; only the main one writes files.

        Raises:
            TrainingError: for a precision the device cannot train in, or a choice of layers that
                this UNet has none of.
        """
        resolve_precision(recipe.train.precision, device)
        recipe_targets(base.unet, recipe.train)
        self.base = base
        self.dataset = dataset
        self.recipe = recipe
        self.encoders = encoders
        self.paths = paths
        self.device = device
        self.team = team
        self.record = LossRecord.empty(
            paths.name,
            {
                "family": base.family.name,
                "loss": _loss_name(recipe.train),
                "recipe": recipe.to_dict(),
            },
        )
        self.lora: LoraStateDict = {}
        self._cache = TensorCache(cache_folder)
        self._base_key = sampled_key(base.unet)
        self._started = time.time()

    def events(self) -> Generator[Event, None, None]:
        """Encode what the cache lacks, then train."""
        if self.team.is_main:
            write_recipe(self.paths, self.recipe)
        items: list[TrainingItem] = []
        prompt_keys: dict[str, str] = {}
        with self.team.local_main_first():  # the others find it all in the cache
            yield from self._prepare(items, prompt_keys)
        train = self.recipe.train
        split = split_items(items, train.validation_split, train.seed)
        source = self._source(split.training, prompt_keys.get("", ""))
        del prompt_keys
        yield from self._train(source, Probe(split, self._cache, self.recipe.train.seed))

    def _prepare(
        self, items: list[TrainingItem], prompt_keys: dict[str, str]
    ) -> Iterator[Preparing]:
        latents_keys: list[str] = []
        total = sum(1 for _ in picture_variants(self.dataset))
        encoders = self.encoders
        for key in encode_pictures(
            self.dataset, encoders.encode_picture, encoders.vae_key, self._cache
        ):
            latents_keys.append(key)
            yield Preparing("pictures", len(latents_keys), total)
        total = sum(1 for _ in captions_to_encode(self.dataset))
        for caption, key in encode_captions(
            self.dataset, encoders.tokenize, self.base.text_encoders, self._cache, self.device
        ):
            prompt_keys[caption] = key
            yield Preparing("captions", len(prompt_keys), total)
        items += training_items(self.dataset, latents_keys, prompt_keys)

    def _source(self, items: list[TrainingItem], empty_prompt_key: str) -> BatchSource:
        dropout = CaptionDropout(self.dataset.caption_dropped, empty_prompt_key)
        return BatchSource(
            items,
            self._cache,
            self._cache,
            batch_size=self.recipe.train.batch_size,
            repeats=self.recipe.dataset.repeats,
            seed=self.recipe.train.seed,
            dropout=dropout if self.recipe.dataset.caption_dropout else None,
            with_tokens=self.recipe.train.trains_text_encoder,
        )

    def _train(self, source: BatchSource, probe: Probe) -> Iterator[StepReport]:
        training = LoraTraining(self.base, source, self.recipe.train, self.device, self.team)
        material = material_key(source.items)
        self._go_on(training, material)
        writer = RecordWriter(self.record, self.paths.losses) if self.team.is_main else None
        every, save_every = self.recipe.train.probe_every, self.recipe.train.save_every
        before = probe.measure(training) if every and not training.step else {}
        try:
            for report in training:
                measured, before = before, {}  # step 0 stands in the first row
                if is_due(report.step, report.steps, every):
                    measured = measured or probe.measure(training)
                self.record.append(report, **measured)
                if writer:
                    writer.write_last()
                if save_every and report.step % save_every == 0:
                    self.record.about.setdefault("snapshots", []).append(report.step)
                    self._save(training, self.paths.snapshot(report.step))
                    self._save_state(training, material)
                yield report
        finally:
            if writer:
                writer.close()
            if training.step:
                self._save(training, self.paths.lora)
                self._save_state(training, material)

    def _save_state(self, training: LoraTraining, material: str) -> None:
        if not self.team.is_main:
            return
        save_state(self.paths.state, training, self.record, material=material, base=self._base_key)

    def _go_on(self, training: LoraTraining, material: str) -> None:
        """Go back to the run's saved state, where it has one."""
        path = self.paths.state
        state = self.team.from_main(lambda: load_state(path) if path.is_file() else None)
        if state is None:
            return
        if state["material"] != material:
            raise TrainingError(
                f"The pictures or captions changed since {self.paths.name} was stopped, so it "
                "cannot go on; set resume to never."
            )
        training.load_state_dict(state["training"])
        self.record.restore(state["record"])
        log.info("%s goes on after step %d", self.paths.name, training.step)

    def _save(self, training: LoraTraining, path: Path) -> None:
        if not self.team.is_main:
            return
        train = self.recipe.train
        self.lora = to_kohya(
            training.lora,
            self.base,
            save_precision=train.save_precision,
        )
        about = metadata(
            self.recipe,
            self.base,
            self.dataset,
            self.lora,
            steps_done=training.step,
            epochs_done=training.source.epoch,
            started=self._started,
        )
        save_lora(path, self.lora, about)
        log.info("LoRA of %d steps saved to %s", training.step, path)


def _loss_name(train: TrainRecipe) -> str:
    """Name the loss for the record: figures of different losses do not compare."""
    weighted = f" weighted by min-SNR {train.min_snr_gamma:g}" if train.min_snr_gamma else ""
    return train.loss_type + weighted
