"""Samples of a dataset, and how each becomes a picture and a caption to train on."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..cache import content_key
from ..drawing.sizes import Size
from ..errors import DatasetError
from ..seeds import random_draws
from ..wording import shown_name
from .buckets import BucketRule
from .captions import CaptionRule, is_dropped, swapped
from .corruptions.chain import corrupt
from .folder import content_of, read_file
from .framing import Framed, FramePlan, plan_frame, render_frame
from .masks import SampleMask, open_mask
from .pictures import open_picture, parse_color
from .recipe import DatasetRecipe

PREPARATION = "2"
"""Raised when the same settings give other pixels than before: old cache entries then miss."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One picture and its caption.

    Attributes:
        folder: where the picture is.
        name: its file name.
        caption: the text as read, before anything random happens to it; possibly empty.
        size: (width, height) of the upright source, in pixels.
        content: SHA-256 of the file's bytes, hexadecimal.
        mask: which part of it counts in the loss; None for all of it.
    """

    folder: str
    name: str
    caption: str
    size: Size
    content: str
    mask: SampleMask | None = None

    @property
    def path(self) -> Path:
        """The picture's file."""
        return Path(self.folder) / self.name


@dataclasses.dataclass(frozen=True, slots=True)
class FileReport:
    """What became of one file of the folder.

    Attributes:
        name: the file's name.
        used: whether it is trained on.
        reason: why not; for a used one what is odd about it, or empty; on one line.
    """

    name: str
    used: bool
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", shown_name(self.reason))  # names of others are in it


@dataclasses.dataclass(frozen=True)
class GlitchDataset:
    """Samples and how they are prepared; no decoded picture is kept.

    Attributes:
        recipe: the settings it was made with.
        samples: the usable pictures, sorted by file name.
        files: every file of the folder, exactly once, sorted by name.
        subfolders: folders inside it, which are not read.
        cache_folder: where encoded variants are kept; None leaves it to the trainer.
        origins: setting name to who named it, for settings that came from a connected recipe.
        for_trainer: settings of a training that this recipe names, which a dataset does not read.
    """

    recipe: DatasetRecipe
    samples: tuple[Sample, ...]
    files: tuple[FileReport, ...] = ()
    subfolders: tuple[str, ...] = ()
    cache_folder: Path | None = None
    origins: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    for_trainer: Mapping[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def skipped(self) -> tuple[FileReport, ...]:
        """The files that are not trained on."""
        return tuple(file for file in self.files if not file.used)

    @property
    def parts(self) -> tuple[GlitchDataset, ...]:
        """The datasets in it: itself alone, where a mix has several."""
        return (self,)

    @property
    def mix(self) -> tuple[()]:
        """The parts of a mix, as a recipe names them: none."""
        return ()

    @property
    def shares(self) -> tuple[float, ...]:
        """The parts' shares of an epoch."""
        return (1.0,)

    def samples_per_epoch(self, pictures: Sequence[int] = ()) -> tuple[int, ...]:
        """Return how many samples an epoch has, for its one part.

        Args:
            pictures: how many pictures are trained on; all by default.
        """
        (count,) = pictures or (len(self.samples),)
        return (count * self.recipe.repeats,)

    @functools.cached_property
    def folder_content(self) -> str:
        """What all pictures together are made of; ``datamosh_blocks`` depends on it."""
        return content_key(*(sample.content for sample in self.samples))

    def plan(self, sample: Sample, variant: int = 0) -> FramePlan:
        """Return the geometry of one variant, without opening the picture."""
        recipe = self.recipe
        draws = random_draws(recipe.data_seed, "framing", sample.content, variant)
        pick, flip = draws.random(), recipe.random_flip and draws.random() < 0.5
        framing = _pick(recipe.framing_weights, pick)
        shape = recipe.shape_for(sample.size)
        buckets = recipe.buckets(shape)
        window = random_draws(recipe.data_seed, "window", sample.content, variant)
        plan = plan_frame(sample.size, framing, shape, buckets, window)
        return dataclasses.replace(plan, flip=flip)

    def prepare(self, sample: Sample, variant: int = 0) -> Framed:
        """Open one picture, frame it and corrupt it.

        Raises:
            DatasetError: when the file changed and cannot be read any more.
        """
        plan = self.plan(sample, variant)
        framed = render_frame(self._open(sample, plan.resized), plan, self.recipe.letterbox_fill)
        chain = self.recipe.corruption_chain
        if not chain:
            return framed
        donor = functools.partial(self._donor, sample)
        seed = self.recipe.data_seed
        image = corrupt(framed.image, chain, seed, sample.content, variant, donor)
        return Framed(image, plan)

    def mask(self, sample: Sample, variant: int = 0) -> Image.Image | None:
        """Return which part of a prepared picture counts in the loss, or None where all of it does.

        The mask is framed as the picture is. Beside a letterboxed picture the border counts where
        the mask's edge next to it does, so that a white mask is none. Corruptions leave it alone.

        Returns:
            (W, H) of the training picture, mode L: 255 where it counts, 0 where it does not.

        Raises:
            DatasetError: when the file changed and cannot be read any more.
        """
        if sample.mask is None:
            return None
        name = sample.mask.name
        raw = self._read(sample.folder, name, sample.mask.content)
        try:
            opened = open_mask(raw, name, alpha=name == sample.name)
        except DatasetError as error:
            raise DatasetError(f"{shown_name(name)}: {error}.") from error
        plan = self.plan(sample, variant)
        return None if opened is None else render_frame(opened, plan, "edge").image

    def mask_key(self, sample: Sample, variant: int = 0) -> str:
        """Return a name for what :meth:`mask` gives, empty where all of the picture counts."""
        if sample.mask is None:
            return ""
        kind = "alpha" if sample.mask.name == sample.name else "beside"
        plan = self.plan(sample, variant).cache_key
        return content_key("mask", PREPARATION, kind, sample.mask.content, plan)

    def picture_key(self, sample: Sample, variant: int = 0) -> str:
        """Return a name for what :meth:`prepare` gives: it changes when the pixels would."""
        recipe = self.recipe
        parts = [PREPARATION, sample.content, self.plan(sample, variant).cache_key]
        parts += [recipe.letterbox_fill, repr(parse_color(recipe.background))]
        for step in recipe.corruption_chain:
            parts += [step.cache_key, str(recipe.data_seed), str(variant)]
            if step.kind == "datamosh_blocks":
                parts.append(self.folder_content)
        return content_key("picture", *parts)

    def caption(self, index: int, variant: int = 0) -> str:
        """Return the caption of one variant, whole dropout aside.

        Args:
            index: of the sample.
            variant: number of the variant, from 0.
        """
        recipe = self.recipe
        owner = index
        if recipe.caption_swap:
            owner = _swapped(len(self.samples), recipe.caption_swap, recipe.data_seed, variant)[
                index
            ]
        rule = CaptionRule(
            recipe.trigger_word,
            recipe.caption_part_dropout,
            recipe.caption_word_dropout,
            recipe.caption_shuffle,
            recipe.data_seed,
        )
        return rule.apply(self.samples[owner].caption, self.samples[index].content, variant)

    def caption_dropped(self, index: int, visit: int) -> bool:
        """Say whether a picture is trained with an empty caption when it is seen.

        Args:
            index: of the sample.
            visit: how often it was seen before.
        """
        recipe = self.recipe
        return is_dropped(
            recipe.caption_dropout, recipe.data_seed, self.samples[index].content, visit
        )

    def shown_caption(self, index: int, variant: int = 0) -> str:
        """Return the caption as trained when the variant is seen for the first time."""
        dropped = self.caption_dropped(index, variant)
        return "" if dropped else self.caption(index, variant)

    def _open(self, sample: Sample, needed: Size) -> Image.Image:
        raw = self._read(sample.folder, sample.name, sample.content)
        background = parse_color(self.recipe.background)
        try:
            return open_picture(raw, sample.name, needed=needed, background=background).image
        except DatasetError as error:
            raise DatasetError(f"{shown_name(sample.name)}: {error}.") from error

    def _read(self, folder: str, name: str, content: str) -> bytes:
        try:
            raw = read_file(Path(folder), name)
            if content_of(raw) != content:
                raise DatasetError("it was changed after the folder was read; queue it again")
        except DatasetError as error:
            raise DatasetError(f"{shown_name(name)}: {error}.") from error
        return raw

    def _donor(self, sample: Sample, draws: np.random.Generator, size: Size) -> Image.Image | None:
        others = [other for other in (self.samples) if other.content != sample.content]
        if not others:
            return None
        other = others[int(draws.integers(0, len(others)))]
        plan = plan_frame(other.size, "center_crop", size, BucketRule(1), None)
        return render_frame(self._open(other, plan.resized), plan).image


def _pick(weights: dict[str, float], draw: float) -> str:
    """Return the framing whose share a number in 0..1 falls into."""
    reached = 0.0
    for framing, share in weights.items():
        reached += share
        if draw < reached:
            return framing
    return next(reversed(weights))


_swapped = functools.lru_cache(maxsize=8)(swapped)
