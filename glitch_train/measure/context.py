"""What models add to the pictures: text drift, the caption's hold, features, weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from ..wording import percent
from .distance import feature_distance
from .features import PairFeatures
from .index import SMALL, few, mean
from .interval import interval, interval_of_mean
from .measurement import Measurement, measured, untold
from .scale import Reference, reference
from .text import caption_hold, prompts_hold, semantic_drift
from .weights import BlockChange, total_loudness


@dataclasses.dataclass(frozen=True)
class ModelContext:
    """What is known of a run beside its pictures; every part may be missing.

    Attributes:
        base_prompts: embeddings of the probe prompts under the base's text encoder.
        glitched_prompts: of the same prompts under the trained one.
        prompts: the caption of each pair.
        base_pictures: (n, d), features of the base pictures by a vision model.
        glitched_pictures: (n, d), of the glitched ones.
        captions: (n, d), CLIP's text embeddings of the captions, in the same space.
        no_captions: why there are none, where there is a reason worth telling.
        blocks: the change of weights, block by block.
        notes: further remarks for the report.
    """

    base_prompts: Sequence[Any] = ()
    glitched_prompts: Sequence[Any] = ()
    prompts: Sequence[str] = ()
    base_pictures: NDArray[np.floating] | None = None
    glitched_pictures: NDArray[np.floating] | None = None
    captions: NDArray[np.floating] | None = None
    no_captions: str = ""
    blocks: Sequence[BlockChange] | None = None
    notes: tuple[str, ...] = ()


def measure_context(
    context: ModelContext,
    pairs: Sequence[PairFeatures] = (),
    scale: Reference | None = None,
) -> tuple[Measurement, ...]:
    """Return every effect that prompts and models tell; those without material are left out.

    Args:
        context: what is known beside the pictures.
        pairs: the pictures' own features, by which the caption's hold is told without captions
            in a vision model's space.
        scale: what index 1 means; the shipped reference by default.
    """
    scale = scale or reference()
    found = []
    if len(context.base_prompts) or len(context.glitched_prompts):
        found.append(_semantic_drift(context, scale))
    if context.captions is not None:
        found.append(_caption_hold(context, scale))
    elif context.prompts and pairs:
        found.append(_prompts_hold(context, pairs, scale))
    elif context.no_captions:
        found.append(untold("caption_hold", context.no_captions))
    if context.base_pictures is not None and context.glitched_pictures is not None:
        found.append(_perceptual(context.base_pictures, context.glitched_pictures, scale))
    if context.blocks is not None:
        found.append(_weight_loudness(context.blocks, scale))
    return tuple(found)


def _semantic_drift(context: ModelContext, scale: Reference) -> Measurement:
    drift = semantic_drift(context.base_prompts, context.glitched_prompts)
    value, n = mean(list(drift)), len(drift)
    sentence = (
        f"Prompts moved {percent(value)} of the way to the nearest other prompt."
        if value > 1e-3
        else "Prompts mean to the model what they meant in base."
    )
    return measured(
        "semantic_drift", value, interval_of_mean(list(drift)), scale.values["semantic_drift"], n,
        sentence, few(n, "prompts"), per_prompt=[float(one) for one in drift],
    )  # fmt: skip


def _caption_hold(context: ModelContext, scale: Reference) -> Measurement:
    if context.captions is None or context.base_pictures is None:
        raise ReportError("The caption's hold needs picture and caption embeddings.")
    if context.glitched_pictures is None:
        raise ReportError("The caption's hold needs the glitched pictures' embeddings.")
    if len(set(context.prompts)) < 2:
        return untold("caption_hold", "One prompt only: the hold needs at least 2 different ones.")
    before = caption_hold(context.base_pictures, context.captions, context.prompts)
    after = caption_hold(context.glitched_pictures, context.captions, context.prompts)
    return _lost_hold(
        before, after, scale, "their caption", "pictures are no nearer to their own caption"
    )


def _prompts_hold(
    context: ModelContext, pairs: Sequence[PairFeatures], scale: Reference
) -> Measurement:
    """Return the caption's hold with base's own pictures of each prompt as the vocabulary."""
    prompts = [context.prompts[pair.index] for pair in pairs]
    often = [prompts.count(prompt) for prompt in prompts]
    if len(set(prompts)) < 2 or min(often) < 2:
        return untold(
            "caption_hold",
            context.no_captions
            or "Without a vision model the hold is read off base's own pictures: it needs at least "
            "2 different prompts, each with 2 seeds.",
        )
    base = np.stack([pair.base_thumb for pair in pairs])
    glitched = np.stack([pair.glitched_thumb for pair in pairs])
    before, after = (prompts_hold(one, base, prompts) for one in (base, glitched))
    return _lost_hold(
        before, after, scale, "base's pictures of their prompt",
        "pictures of one prompt are no more alike than others", context.no_captions,
    )  # fmt: skip


def _lost_hold(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    scale: Reference,
    what: str,
    no_hold: str,
    note: str = "",
) -> Measurement:
    """Return the share of base's hold that is gone, from the hold of each picture."""
    order = np.lexsort((after, before))
    before, after = before[order], after[order]
    n, held = len(before), mean(list(before))
    ends = interval_of_mean(list(before))
    if held <= 0 or (ends is not None and ends[0] <= 0):
        return untold("caption_hold", f"In base, too, {no_hold}: there is no hold to lose.", n)
    # The loss itself is resampled, so that equal pictures have an interval of exactly 0.
    lost = before - after

    def resampled(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((counts @ lost) / (counts @ before))

    value = mean(list(lost)) / held
    return measured(
        "caption_hold", value, interval(n, resampled), scale.values["caption_hold"], n,
        f"Pictures keep {percent(max(0.0, 1.0 - value))} of base's nearness to {what}.",
        " ".join(filter(None, (few(n), note))), hold_in_base=held, hold=mean(list(after)),
    )  # fmt: skip


def _perceptual(
    base: NDArray[np.floating], glitched: NDArray[np.floating], scale: Reference
) -> Measurement:
    if base.shape != glitched.shape:
        raise ReportError(
            f"The vision model's features do not pair up: {base.shape} and {glitched.shape}."
        )
    moved, apart = feature_distance(base, glitched)
    n = len(moved)
    if not apart > 1e-9:
        return untold(
            "perceptual", "Base has no two different pictures to compare the distance with.", n
        )
    parts = [float(one) / apart for one in moved]
    value = mean(parts)
    sentence = (
        f"To the vision model, pictures moved {percent(value)} of the way to another base picture."
        if value >= SMALL
        else "To the vision model, the pictures are as in base."
    )
    return measured(
        "perceptual", value, interval_of_mean(parts), scale.values["perceptual"], n, sentence,
        few(n),
    )  # fmt: skip


def _weight_loudness(blocks: Sequence[BlockChange], scale: Reference) -> Measurement:
    value = total_loudness(blocks)
    touched = [row for row in blocks if row.change > 0]
    if touched:
        loudest = max(touched, key=lambda row: row.loudness)
        sentence = (
            f"Weights changed by {percent(value)} of their size, most in {loudest.block} "
            f"({percent(loudest.loudness)})."
        )
    else:
        sentence = "No weight changed."
    return measured(
        "weight_loudness", value, None, scale.values["weight_loudness"], len(touched), sentence,
        blocks={row.block: row.loudness for row in blocks},
    )  # fmt: skip
