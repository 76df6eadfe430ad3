"""What is trained, item by item: a variant of a picture with its caption, as keys of the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from ..dataset.dataset import GlitchDataset, Sample
from ..dataset.framing import LATENT_STEP, FramePlan
from ..dataset.mix import AnyDataset


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingItem:
    """One prepared variant of a picture with its caption, as keys into the cache.

    Attributes:
        latents_key: key of ``latents`` (4, H/8, W/8).
        prompt_key: key of ``prompt_embeds`` (T, C) and, for SDXL, ``pooled_prompt_embeds``.
        latents_size: (H/8, W/8); only equal sizes share a batch.
        add_time_ids: SDXL's (original height, original width, crop top, crop left,
            target height, target width), in pixels.
        picture: index of the picture among the dataset's samples; its variants are taken in
            turns.
        mask_key: key of ``mask`` (1, H/8, W/8); empty where all of the picture counts.
        part: number of its part in a mix.
        twin: index of the same picture in an earlier part of a mix, if there is one: the two are
            held out together.
    """

    latents_key: str
    prompt_key: str
    latents_size: tuple[int, int]
    add_time_ids: tuple[int, int, int, int, int, int]
    picture: int
    mask_key: str = ""
    part: int = 0
    twin: int | None = None

    @property
    def original(self) -> int:
        """Index of the picture, or of its twin: the same for all items that show one picture."""
        return self.picture if self.twin is None else self.twin


@dataclasses.dataclass(frozen=True)
class CaptionDropout:
    """When a picture is trained with an empty caption.

    Attributes:
        dropped: (index of the picture, how often it was seen before) to yes or no.
        prompt_key: key of the empty caption's embeddings.
    """

    dropped: Callable[[int, int], bool]
    prompt_key: str

    def apply(self, item: TrainingItem, visit: int) -> TrainingItem:
        """Return the item as it is trained when its picture is seen."""
        if not self.dropped(item.picture, visit):
            return item
        return dataclasses.replace(item, prompt_key=self.prompt_key)


Job = tuple[GlitchDataset, Sample, int]
"""A variant of a picture, and the part of the dataset that prepares it."""


def picture_variants(dataset: AnyDataset) -> Iterator[Job]:
    """Yield each picture's variants that may look different, part by part."""
    for part in dataset.parts:
        for sample in part.samples:
            for variant in range(_prepared(part)):
                yield part, sample, variant


def _prepared(part: GlitchDataset) -> int:
    """Return how many variants of a picture may look different."""
    return part.recipe.variants if part.recipe.varies_pictures else 1


def training_items(
    dataset: AnyDataset,
    latents_keys: Sequence[str],
    prompt_keys: Mapping[str, str],
    mask_keys: Sequence[str] = (),
) -> list[TrainingItem]:
    """Join encoded pictures with their encoded captions, variant by variant.

    Args:
        dataset: the pictures and captions.
        latents_keys: what :func:`encode_pictures` yielded.
        prompt_keys: caption to key, what :func:`encode_captions` yielded.
        mask_keys: what :func:`encode_masks` yielded; empty where no picture has a mask.

    Returns:
        All variants of the first picture, then of the second, and so on.
    """
    items: list[TrainingItem] = []
    first_place = first_picture = 0
    seen: dict[str, int] = {}
    for number, part in enumerate(dataset.parts):
        prompts, prepared = _prompts_by_variant(part, prompt_keys), _prepared(part)
        for index, sample in enumerate(part.samples):
            for variant in range(part.recipe.variants):
                plan = part.plan(sample, variant)
                place = first_place + index * prepared + variant % prepared
                items.append(
                    TrainingItem(
                        latents_keys[place],
                        prompts[variant % len(prompts)][index],
                        (plan.size[1] // LATENT_STEP, plan.size[0] // LATENT_STEP),
                        time_ids(plan, part.recipe.size_conditioning),
                        first_picture + index,
                        mask_keys[place] if mask_keys else "",
                        number,
                        seen.get(sample.content),
                    )
                )
        # Only now: two files of one folder that are alike are pictures of their own.
        for index, sample in enumerate(part.samples, start=first_picture):
            seen.setdefault(sample.content, index)
        first_place += len(part.samples) * prepared
        first_picture += len(part.samples)
    return items


def time_ids(plan: FramePlan, size_conditioning: str) -> tuple[int, int, int, int, int, int]:
    """Return what SDXL is told of a picture's size and crop.

    Args:
        plan: how the picture was framed.
        size_conditioning: ``truthful``, or ``lie``: the values of a picture that has the training
            size and is not cut, which is also what the host says when it samples.

    Returns:
        (original height, original width, crop top, crop left, target height, target width).

    Source: SDXL, arXiv:2307.01952, section 2.2.
    """
    width, height = plan.size
    if size_conditioning == "lie":
        return height, width, 0, 0, height, width
    left, top = plan.crop_left_top
    return plan.original_size[1], plan.original_size[0], top, left, height, width


def _prompts_by_variant(dataset: GlitchDataset, prompt_keys: Mapping[str, str]) -> list[list[str]]:
    # Variant by variant, because a swap of captions is drawn for all pictures at once.
    variants = dataset.recipe.variants if dataset.recipe.varies_captions else 1
    pictures = range(len(dataset.samples))
    return [
        [prompt_keys[dataset.caption(index, variant)] for index in pictures]
        for variant in range(variants)
    ]
