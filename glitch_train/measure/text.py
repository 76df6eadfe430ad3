"""Text: how far a trained text encoder moved prompts, and whether pictures keep to captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from ..text_lists import lines_of
from .distance import unit_rows

PROBE_PROMPTS = (
    "a portrait of a woman looking at the camera",
    "a portrait of a man looking at the camera",
    "a model walks down the catwalk in a red dress",
    "a model walks down the catwalk in a white dress",
    "an old photograph of a family at the beach",
    "an old photograph of a family at the table",
    "a cat sleeping on a chair by the window",
    "a dog sleeping on a chair by the window",
    "a city skyline at night with neon lights",
    "a city skyline at dawn with neon lights",
    "a glass building reflected in the water",
    "a wooden building reflected in the water",
)
"""Prompts in pairs that one word tells apart, for telling what training did to all words."""

MIN_PROMPTS = 2

Encode = Callable[[str], Any]
"""A prompt to its embedding: (tokens, width) or (width,), array or tensor."""


def encode_all(prompts: Sequence[str], encode: Encode) -> list[NDArray[np.float64]]:
    """Return the embeddings of prompts as arrays."""
    return [_array(encode(prompt)) for prompt in prompts]


def prompts_of_pairs(text: str, pairs: int, what: str) -> tuple[str, ...]:
    """Return the prompt of each pair, written one per line; none where nothing is written.

    Args:
        text: the lines.
        pairs: how many pairs there are.
        what: how the text is called.

    Raises:
        ReportError: there are more or fewer prompts than pairs.
    """
    prompts = tuple(lines_of(text))
    if prompts and len(prompts) != pairs:
        raise ReportError(
            f"{what} has {len(prompts)} lines for {pairs} pairs; write one line per pair, or "
            "leave it empty."
        )
    return prompts


def semantic_drift(base: Sequence[Any], glitched: Sequence[Any]) -> NDArray[np.float64]:
    """Return how far each prompt moved, against its distance to the nearest other prompt.

    Args:
        base: one embedding per prompt under the base's text encoder, (tokens, width) or (width,).
        glitched: the same prompts under the trained text encoder.

    Returns:
        (prompts,): 0 unmoved, 1 as far away as the nearest other prompt is.

    Raises:
        ReportError: for fewer than two different prompts, or embeddings that do not pair up.
    """
    if len(base) != len(glitched):
        raise ReportError(
            f"There are {len(base)} prompts under base and {len(glitched)} under the glitched "
            "text encoder; encode the same prompts with both."
        )
    if len(base) < MIN_PROMPTS:
        raise ReportError("Semantic drift needs at least 2 probe prompts: one is no yardstick.")
    first, second = _flat(base), _flat(glitched)
    if first.shape != second.shape:
        raise ReportError(
            "The two text encoders give embeddings of different sizes; connect CLIP of the same "
            "family."
        )
    moved = np.linalg.norm(second - first, axis=1)
    apart = np.array([np.linalg.norm(first - one, axis=1) for one in first])
    nearest = np.where(apart > 0, apart, np.inf).min(axis=1)
    if np.isinf(nearest).any():
        raise ReportError("All probe prompts are the same; use at least 2 different ones.")
    return np.asarray(moved / nearest)


def caption_hold(
    pictures: NDArray[np.floating], captions: NDArray[np.floating], texts: Sequence[str]
) -> NDArray[np.float64]:
    """Return how much nearer each picture is to its own caption than to the others'.

    Args:
        pictures: (n, d), CLIP's projected image embeddings.
        captions: (n, d), CLIP's projected text embeddings of each picture's caption.
        texts: the captions, to know which are the same.

    Returns:
        (n,): cosine with its own minus the mean cosine with other captions.

    Raises:
        ReportError: when sizes differ, or there is only one caption.
    """
    first, second = unit_rows(pictures), unit_rows(captions)
    if first.shape != second.shape or len(texts) != len(first):
        raise ReportError(
            f"CLIP's picture embeddings {first.shape} and caption embeddings {second.shape} do "
            "not pair up; use a CLIP vision model that belongs to the text encoder, and one "
            "prompt per pair."
        )
    cosine = first @ second.T
    other = np.array([[one != two for two in texts] for one in texts], dtype=np.float64)
    if not other.any(axis=1).all():
        raise ReportError("The caption's hold needs at least 2 different prompts.")
    return np.asarray(np.diag(cosine) - (cosine * other).sum(axis=1) / other.sum(axis=1))


def prompts_hold(
    pictures: NDArray[np.floating], base: NDArray[np.floating], texts: Sequence[str]
) -> NDArray[np.float64]:
    """Return how much nearer each picture is to base's of its prompt than to those of others.

    What a prompt means is read off the base's own pictures of it, so no vision model is needed.

    Args:
        pictures: (n, d), rows of length 1: the pictures that are judged.
        base: (n, d), of base's pictures of the same prompts and seeds; that of a picture's own
            seed is left out, or base would be compared with itself.
        texts: the prompt of each.

    Returns:
        (n,): mean likeness (squared correlation) with base's other pictures of the prompt, minus
        that with its pictures of other prompts.

    Raises:
        ReportError: when there is only one prompt, or a prompt has only one picture.
    """
    # Equal pictures are equally alike, whichever product of matrices rounds them.
    alike = np.round((np.asarray(pictures) @ np.asarray(base).T) ** 2, 9)
    same = np.array([[one == two for two in texts] for one in texts])
    own = same & ~np.eye(len(texts), dtype=bool)
    if not (own.any(axis=1) & ~same.all(axis=1)).all():
        raise ReportError("The hold needs at least 2 different prompts, each with 2 seeds.")
    near, far = (np.where(part, alike, 0.0).sum(1) / part.sum(1) for part in (own, ~same))
    return np.asarray(near - far)


def _flat(embeddings: Sequence[Any]) -> NDArray[np.float64]:
    """Return (prompts, tokens · width); shorter prompts are padded with zeros at the end."""
    arrays = [np.atleast_2d(_array(one)) for one in embeddings]
    tokens = max(len(one) for one in arrays)
    if len({one.shape[1] for one in arrays}) > 1 or not all(np.isfinite(a).all() for a in arrays):
        raise ReportError("Prompt embeddings must be finite and of one width.")
    return np.stack([np.pad(one, ((0, tokens - len(one)), (0, 0))).ravel() for one in arrays])


def _array(embedding: Any) -> NDArray[np.float64]:
    tensor = embedding.detach().float().cpu() if hasattr(embedding, "detach") else embedding
    array = np.asarray(tensor, dtype=np.float64)
    return array[0] if array.ndim == 3 and len(array) == 1 else array
