"""One run from a base model and a dataset to a LoRA file: the order of the pieces."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from ...cache import KeptTensors, TensorCache
from ...dataset.framing import LATENT_STEP
from ...environment import check_versions
from ...lora.file import LoraStateDict
from ...lora.targets import recipe_targets
from ...losses.about import About
from ...losses.record import LossRecord, StepReport
from ...recipe.train import TrainRecipe
from ..base_storage import check_base_precision
from ..batches import BatchSource
from ..devices import resolve_precision
from ..encode import captions_to_encode, encode_captions, encode_masks, encode_pictures
from ..items import CaptionDropout, TrainingItem, picture_variants, training_items
from ..memory import free_unused, is_out_of_memory, let_go, shortage
from ..plan import MemoryPlan
from ..probe import Probe, split_items
from .files import RunFiles
from .folder import write_recipe
from .samples import Prompts, Samples, Sampling, sampled_prompts
from .session import Session
from .setup import RunSetup


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
        setup: what it is made of.
        recipe: the setup's.
        paths: the setup's.
        record: the losses so far; ``about.ended`` says why it stopped.
        files: what it writes.
        samples: its sample pictures; None while there are none to be made.
    """

    def __init__(self, setup: RunSetup, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Describe the run; nothing is done yet.

        Args:
            setup: what it is made of.
            clock: seconds, increasing; for stop_at_minutes.

        Raises:
            EnvironmentFault: when diffusers or peft is too old.
            TrainingError: for a precision the device cannot train in, a package that
                base_precision needs, or a choice of layers that this UNet has none of.
        """
        train = setup.recipe.train
        check_versions("diffusers", "peft")
        resolve_precision(train.precision, setup.device)
        check_base_precision(train.base_precision)
        recipe_targets(setup.base.unet, train)
        self.setup = setup
        self.recipe = setup.recipe
        self.paths = setup.paths
        self.record = LossRecord.empty(
            setup.paths.name,
            About(setup.base.family.name, _loss_name(train, masked=False), setup.recipe.to_dict()),
        )
        self.files = RunFiles(setup, self.record)
        self.samples: Samples | None = None
        self._cache = TensorCache(setup.cache_folder)
        self._kept = KeptTensors(setup.cache_folder)
        self._clock = clock
        self._plan: MemoryPlan | None = None

    @property
    def lora(self) -> LoraStateDict:
        """The LoRA as saved; empty before it was saved."""
        return self.files.lora

    @property
    def lora_path(self) -> Path:
        """Where the LoRA is: beside ``paths.lora`` when that file was held while it was saved."""
        return self.files.lora_path

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
        raise shortage(self._plan.advice) if self._plan else shortage()

    def _events(self) -> Iterator[RunEvent]:
        setup = self.setup
        if setup.team.is_main:
            write_recipe(self.paths, self.recipe)
        items: list[TrainingItem] = []
        prompt_keys: dict[str, str] = {}
        with setup.team.local_main_first():  # the others find it all in the cache
            yield from self._prepare(items, prompt_keys)
        train = self.recipe.train
        if not train.trains_text_encoder:
            setup.base.text_encoders = ()  # every caption is encoded: their memory is free now
        setup.encoders.leave_device()
        free_unused(setup.device)
        split = split_items(items, train.validation_split, train.seed)
        source = self._source(split.training, prompt_keys.get("", ""))
        if train.sample_every and setup.team.is_main:
            self.samples = self._samples(items[0], prompt_keys)
        del prompt_keys
        probe = Probe(split, self._kept, train.seed)
        session = Session(self.files, source, probe, self.samples, self._clock)
        self._plan = session.plan
        yield from session.events()

    def _prepare(
        self, items: list[TrainingItem], prompt_keys: dict[str, str]
    ) -> Iterator[Preparing]:
        latents_keys: list[str] = []
        setup, dataset, encoders = self.setup, self.setup.dataset, self.setup.encoders
        total = sum(1 for _ in picture_variants(dataset))
        for key in encode_pictures(dataset, encoders.encode_picture, encoders.vae_key, self._cache):
            latents_keys.append(key)
            yield Preparing("pictures", len(latents_keys), total)
        captions = dict.fromkeys(captions_to_encode(dataset))
        if self.recipe.train.sample_every:
            captions |= dict.fromkeys([*sampled_prompts(self.recipe.train, dataset), ""])
        for caption, key in encode_captions(
            captions, encoders.tokenize, setup.base.text_encoders, self._cache, setup.device
        ):
            prompt_keys[caption] = key
            yield Preparing("captions", len(prompt_keys), len(captions))
        masks = list(encode_masks(dataset, self._cache))
        self._note_masks(masks)
        items += training_items(dataset, latents_keys, prompt_keys, masks)

    def _note_masks(self, mask_keys: Sequence[str]) -> None:
        """Say what masks do to the losses of this run."""
        keys = [key for key in mask_keys if key]
        self.record.about.loss = _loss_name(self.recipe.train, masked=bool(keys))
        empty = sum(not self._cache.load(key)["mask"].any() for key in keys)
        if empty:
            self.files.note(
                f"Of {empty} of {len(mask_keys)} prepared pictures the framing cuts off all that "
                "their masks keep, so nothing is learned from them and their loss is 0."
            )

    def _source(self, items: list[TrainingItem], empty_prompt_key: str) -> BatchSource:
        dataset = self.setup.dataset
        dropout = CaptionDropout(dataset.caption_dropped, empty_prompt_key)
        pictures = Counter(part for part, _ in {(item.part, item.picture) for item in items})
        counts = [pictures[number] for number in range(len(dataset.parts))]
        return BatchSource(
            items,
            self._kept,
            self._kept,
            batch_size=self.recipe.train.batch_size,
            repeats=1,
            seed=self.recipe.train.seed,
            dropout=dropout if any(p.recipe.caption_dropout for p in dataset.parts) else None,
            with_tokens=self.recipe.train.trains_text_encoder,
            per_epoch=dict(enumerate(dataset.samples_per_epoch(counts))),
        )

    def _samples(self, first: TrainingItem, prompt_keys: dict[str, str]) -> Samples:
        train = self.recipe.train
        height, width = (side * LATENT_STEP for side in first.latents_size)
        prompts = Prompts(
            {text: prompt_keys[text] for text in sampled_prompts(train, self.setup.dataset)},
            prompt_keys[""],
            self._kept,
            (train.sample_width or width, train.sample_height or height),
        )
        return Samples(train, prompts, self.setup.encoders, self.paths, self.record)


def _loss_name(train: TrainRecipe, *, masked: bool) -> str:
    """Name the loss for the record: figures of different losses do not compare."""
    weighted = f" weighted by min-SNR {train.min_snr_gamma:g}" if train.min_snr_gamma else ""
    kind = "huber (snr)" if train.loss_type == "huber" else train.loss_type
    return kind + weighted + (", masked" if masked else "")
