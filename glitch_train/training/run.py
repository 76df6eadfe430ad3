"""One run from a base model and a dataset to a LoRA file: the order of the pieces."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import torch

from ..cache import TensorCache, sampled_key
from ..dataset.dataset import GlitchDataset
from ..dataset.framing import LATENT_STEP
from ..lora.file import LoraStateDict
from ..lora.targets import recipe_targets
from ..losses.record import LossRecord, RecordWriter, StepReport
from ..model.checkpoint import BaseModel
from ..model.encoders import Encoders
from ..recipe.recipe import Recipe
from ..recipe.train import TrainRecipe
from .base_storage import check_base_precision
from .batches import BatchSource, CaptionDropout
from .devices import resolve_precision
from .encode import (
    TrainingItem,
    captions_to_encode,
    encode_captions,
    encode_pictures,
    picture_variants,
    training_items,
)
from .endings import Ending, RunProgress, reached
from .loop import LoraTraining, NotFiniteError
from .memory import is_out_of_memory, let_go, shortage
from .probe import Probe, is_due, split_items
from .run_files import RunFiles
from .run_folder import RunPaths, write_recipe
from .samples import Prompts, Samples, Sampling, sampled_prompts
from .state import material_key
from .team import ALONE, Team


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


RunEvent = Preparing | StepReport | Sampling


class TrainingRun:
    """A run; follow its events to make it happen, close them to stop it.

    However the iteration ends, the LoRA so far is on disk once a step has been done.

    Attributes:
        record: the losses so far; ``about["ended"]`` says why it stopped.
        files: what it writes.
        samples: its sample pictures; None while there are none to be made.
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
        base_key: str = "",
        clock: Callable[[], float] = time.monotonic,
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
            base_key: :func:`cache.sampled_key` of the UNet, where it is known already.
            clock: seconds, increasing; for stop_at_minutes.

        Raises:
            TrainingError: for a precision the device cannot train in, a package that
                base_precision needs, or a choice of layers that this UNet has none of.
        """
        resolve_precision(recipe.train.precision, device)
        check_base_precision(recipe.train.base_precision)
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
        key = base_key or sampled_key(base.unet)
        self.files = RunFiles(paths, recipe, base, dataset, self.record, key, team)
        self.samples: Samples | None = None
        self._cache = TensorCache(cache_folder)
        self._clock = clock

    @property
    def lora(self) -> LoraStateDict:
        """The LoRA as saved; empty before it was saved."""
        return self.files.lora

    def events(self) -> Generator[RunEvent, None, None]:
        """Encode what the cache lacks, then train.

        Raises:
            GlitchTrainError: one sentence; what was trained so far is saved.
        """
        try:
            yield from self._events()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            let_go(error)
        else:
            return
        raise shortage(self.recipe.train, "")

    def _events(self) -> Iterator[RunEvent]:
        if self.team.is_main:
            write_recipe(self.paths, self.recipe)
        items: list[TrainingItem] = []
        prompt_keys: dict[str, str] = {}
        with self.team.local_main_first():  # the others find it all in the cache
            yield from self._prepare(items, prompt_keys)
        train = self.recipe.train
        if not train.trains_text_encoder:
            self.base.text_encoders = ()  # every caption is encoded: their memory is free now
        split = split_items(items, train.validation_split, train.seed)
        source = self._source(split.training, prompt_keys.get("", ""))
        if train.sample_every and self.team.is_main:
            self.samples = self._samples(items[0], prompt_keys)
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
        captions = dict.fromkeys(captions_to_encode(self.dataset))
        if self.recipe.train.sample_every:
            captions |= dict.fromkeys([*sampled_prompts(self.recipe.train, self.dataset), ""])
        for caption, key in encode_captions(
            captions, encoders.tokenize, self.base.text_encoders, self._cache, self.device
        ):
            prompt_keys[caption] = key
            yield Preparing("captions", len(prompt_keys), len(captions))
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

    def _samples(self, first: TrainingItem, prompt_keys: dict[str, str]) -> Samples:
        train = self.recipe.train
        height, width = (side * LATENT_STEP for side in first.latents_size)
        prompts = Prompts(
            {text: prompt_keys[text] for text in sampled_prompts(train, self.dataset)},
            prompt_keys[""],
            self._cache,
            (train.sample_width or width, train.sample_height or height),
        )
        return Samples(train, prompts, self.encoders.decode_picture, self.paths, self.record)

    def _train(self, source: BatchSource, probe: Probe) -> Iterator[StepReport | Sampling]:
        training = LoraTraining(self.base, source, self.recipe.train, self.device, self.team)
        material = material_key(source.items)
        progress = self.files.go_on(training, material)
        self.files.check_space(training)
        began = self._clock() - progress.seconds
        train, every = self.recipe.train, self.recipe.train.probe_every
        ending = reached(self.recipe.train, progress)
        writer = RecordWriter(self.record, self.paths.losses) if self.team.is_main else None
        try:
            if self.samples:
                began += yield from self._paused(self.samples.begin(training))
            before = probe.measure(training) if every and not training.step else {}
            for report in training:
                measured, before = before, {}  # step 0 stands in the first row
                progress = self._progress(training, began)
                ending = self._ending(progress)
                if is_due(report.step, report.steps, every) or (every and ending):
                    measured = measured or probe.measure(training)
                self._write(writer, report, measured)
                progress = self._progress(training, began)
                ending = ending or self._ending(progress)
                sample = is_due(report.step, report.steps, train.sample_every)
                sample = sample or bool(train.sample_every and ending)
                if train.save_every and report.step % train.save_every == 0:
                    self.files.save_snapshot(training)
                    if not ending:  # a finished run's state is written after its LoRA
                        self.files.save_state(training, progress, material)
                if sample:  # it takes memory of its own: nothing is lost if it ends the process
                    self._keep(training, progress, material)
                yield report
                if sample and self.samples:
                    began += yield from self._paused(self.samples.make(training))
                if ending:
                    break
        except GeneratorExit:
            cancelled = f"Cancelled after step {training.step}; run it again to go on."
            ending = ending or Ending("cancel", training.step, cancelled)
            raise
        except Exception as error:
            ending = Ending("error", training.step, str(error))
            if isinstance(error, NotFiniteError):
                self._write(writer, error.report, {})
            raise
        finally:
            if ending:
                self.record.about["ended"] = dataclasses.asdict(ending)
            with contextlib.closing(writer) if writer else contextlib.nullcontext():
                if training.step and training.is_whole:
                    self._keep(training, progress, material)

    def _keep(self, training: LoraTraining, progress: RunProgress, material: str) -> None:
        self.files.save_lora(self.paths.lora, training)
        self.files.save_state(training, progress, material)

    def _paused(self, work: Iterator[Sampling]) -> Generator[Sampling, None, float]:
        """Follow work that is not training; return its seconds, which stop_at_minutes omits."""
        began = self._clock()
        yield from work
        return self._clock() - began

    def _ending(self, progress: RunProgress) -> Ending | None:
        # Clocks differ: all processes stop where the main one does.
        return self.team.from_main(lambda: reached(self.recipe.train, progress))

    def _progress(self, training: LoraTraining, began: float) -> RunProgress:
        return RunProgress(
            training.step,
            training.source.epochs_done,
            self._clock() - began,
            self.record.last("drift"),
        )

    def _write(
        self, writer: RecordWriter | None, report: StepReport, measured: dict[str, float]
    ) -> None:
        self.record.append(report, **measured)
        if not report.finite and self.recipe.train.glitch_through:
            self.record.about["passed_over"] = self.record.about.get("passed_over", 0) + 1
        if writer:
            writer.write_last()


def _loss_name(train: TrainRecipe) -> str:
    """Name the loss for the record: figures of different losses do not compare."""
    weighted = f" weighted by min-SNR {train.min_snr_gamma:g}" if train.min_snr_gamma else ""
    return train.loss_type + weighted
