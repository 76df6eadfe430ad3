"""One run from a base model and a dataset to a LoRA file: the order of the pieces."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from .batches import BatchSource
from .cache import TensorCache
from .checkpoint import BaseModel
from .dataset import GlitchDataset, training_captions
from .devices import resolve_precision
from .encode import (
    EncodePicture,
    Tokenize,
    TrainingItem,
    encode_captions,
    encode_pictures,
    training_items,
)
from .lora_file import LoraStateDict, metadata, save_lora, to_kohya
from .recipe import Recipe
from .record import LossRecord, RecordWriter
from .run_folder import RunPaths, write_recipe
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
    ) -> None:
        """Describe the run; nothing is done yet.

        Args:
            base: the frozen base model.
            dataset: pictures and captions.
            recipe: the whole recipe, kept with the LoRA.
            encoders: the VAE and the tokenizers.
            paths: where the run's files go.
            cache_folder: where latents are kept between runs.
            device: where to train.

        Raises:
            TrainingError: for a precision the device cannot train in.
        """
        resolve_precision(recipe.train.precision, device)
        self.base = base
        self.dataset = dataset
        self.recipe = recipe
        self.encoders = encoders
        self.paths = paths
        self.device = device
        self.record = LossRecord.empty(paths.name)
        self.lora: LoraStateDict = {}
        self._latents = TensorCache(cache_folder)
        self._started = time.time()

    def events(self) -> Generator[Event, None, None]:
        """Encode what the cache lacks, then train."""
        write_recipe(self.paths, self.recipe)
        with tempfile.TemporaryDirectory(prefix="glitch_prompts_") as folder:
            prompts = TensorCache(Path(folder))
            items: list[TrainingItem] = []
            yield from self._prepare(prompts, items)
            yield from self._train(self._source(items, prompts))

    def _prepare(self, prompts: TensorCache, items: list[TrainingItem]) -> Iterator[Preparing]:
        pictures = []
        total = len(self.dataset.samples)
        encoded = encode_pictures(
            self.dataset, self.encoders.encode_picture, self.encoders.vae_key, self._latents
        )
        for picture in encoded:
            pictures.append(picture)
            yield Preparing("pictures", len(pictures), total)
        captions: dict[str, str] = {}
        total = len(list(training_captions(self.dataset)))
        encoded_captions = encode_captions(
            self.dataset, self.encoders.tokenize, self.base.text_encoders, prompts, self.device
        )
        for caption, key in encoded_captions:
            captions[caption] = key
            yield Preparing("captions", len(captions), total)
        items += training_items(pictures, captions, self._latents)

    def _source(self, items: list[TrainingItem], prompts: TensorCache) -> BatchSource:
        return BatchSource(
            items,
            self._latents,
            prompts,
            batch_size=self.recipe.train.batch_size,
            repeats=self.recipe.dataset.repeats,
            seed=self.recipe.train.seed,
        )

    def _train(self, source: BatchSource) -> Iterator[StepReport]:
        training = LoraTraining(self.base, source, self.recipe.train, self.device)
        writer = RecordWriter(self.paths.losses)
        try:
            for report in training:
                self.record.append(report)
                writer.append(report)
                yield report
        finally:
            writer.close()
            if training.step:
                self._save(training)

    def _save(self, training: LoraTraining) -> None:
        train = self.recipe.train
        self.lora = to_kohya(
            training.layers,
            self.base,
            alpha=train.network_alpha,
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
        save_lora(self.paths.lora, self.lora, about)
        log.info("LoRA of %d steps saved to %s", training.step, self.paths.lora)
