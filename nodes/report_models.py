"""What the host's MODEL, CLIP and CLIP_VISION tell a glitch report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..glitch_train.errors import ReportError
from ..glitch_train.measure.context import ModelContext
from ..glitch_train.measure.text import PROBE_PROMPTS, encode_all, prompts_of_pairs
from ..glitch_train.measure.weights import compare_weights
from ..glitch_train.model.weight_places import HOST_CLIP_G, HOST_CLIP_L
from ..glitch_train.text_lists import lines_of
from . import host, weights

Given = Mapping[str, Any]
"""The node's optional inputs by name."""

_VISION_BATCH = 8


def check(given: Given) -> None:
    """Refuse halves: a MODEL without CLIP, or one side only.

    Raises:
        ReportError: says which input is missing.
    """
    models = [given.get(name) is not None for name in ("base_model", "glitched_model")]
    clips = [given.get(name) is not None for name in ("base_clip", "glitched_clip")]
    if any(models) and not all(clips):
        raise ReportError(
            "A MODEL is connected without CLIP: connect base_clip and glitched_clip too, so that "
            "the text encoder's part of the change is counted."
        )
    if any(models) and not all(models):
        raise ReportError("Connect both base_model and glitched_model, or neither.")
    if clips[1] and not clips[0]:
        raise ReportError("glitched_clip is connected without base_clip; connect both.")


def wearing(given: Given) -> Given:
    """Return the inputs with the models that wear ``lora``, where one is connected.

    Raises:
        ReportError: when the models to put it on are missing, or worn ones are connected too.
    """
    lora = given.get("lora")
    if lora is None:
        return given
    if any(given.get(name) is not None for name in ("glitched_model", "glitched_clip")):
        raise ReportError("Connect lora, or glitched_model and glitched_clip, but not both.")
    bases = (given.get("base_model"), given.get("base_clip"))
    if bases[0] is None or bases[1] is None:
        raise ReportError("lora needs base_model and base_clip beside it, to be put on them.")
    model, clip = host.with_lora(*bases, lora)
    return {**given, "glitched_model": model, "glitched_clip": clip}


def contexts(base: Any, batches: Sequence[Any], given: Given) -> list[ModelContext]:
    """Return what the models tell of each run; text encoders and weights are the first run's.

    Args:
        base: (B, H, W, 3), the base's pictures.
        batches: one such batch per run.
        given: the node's optional inputs.

    Raises:
        ReportError: when prompts and pairs do not match.
    """
    prompts = prompts_of_pairs(given.get("prompts") or "", len(base), "prompts")
    parts: list[dict[str, Any]] = [{"prompts": prompts} for _ in batches]
    parts[0] |= _text_and_weights(given)
    vision = given.get("clip_vision")
    if vision is not None:
        first = _features(vision, base)
        shared = {"base_pictures": first} | _captions(given, prompts, first.shape[1])
        for part, batch in zip(parts, batches, strict=True):
            part |= {**shared, "glitched_pictures": _features(vision, batch)}
    return [ModelContext(**part) for part in parts]


def _text_and_weights(given: Given) -> dict[str, Any]:
    found: dict[str, Any] = {}
    clips = (given.get("base_clip"), given.get("glitched_clip"))
    if clips[1] is not None:
        probes = lines_of(given.get("probe_prompts") or "") or PROBE_PROMPTS
        found["base_prompts"] = _encoded(clips[0], probes)
        found["glitched_prompts"] = _encoded(clips[1], probes)
    models = (given.get("base_model"), given.get("glitched_model"))
    if models[1] is not None:
        found["blocks"] = compare_weights(_changed_weights(models, clips))
    return found


def _changed_weights(
    models: tuple[Any, Any], clips: tuple[Any, Any]
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield every weight that differs between two models: name, base's, glitched."""
    weights.unload(*models, *(clip.patcher for clip in clips))
    for base, glitched in (models, tuple(clip.patcher for clip in clips)):
        theirs = set(weights.weight_names(glitched))
        same = base.model is glitched.model
        touched = base.patches.keys() | glitched.patches.keys()
        for name in weights.weight_names(base):
            if name not in theirs:
                raise ReportError(f"The glitched model has no {name}; connect the same family.")
            if same and name not in touched:
                continue
            host.stop_if_interrupted()
            pair = weights.patched(base, name).float(), weights.patched(glitched, name).float()
            if pair[0].ndim < 2:
                continue
            if pair[0].shape != pair[1].shape or not torch.equal(*pair):
                yield name, *pair


def _encoded(clip: Any, prompts: Sequence[str]) -> list[Any]:
    def encode(text: str) -> torch.Tensor:
        host.stop_if_interrupted()
        return clip.encode_from_tokens(clip.tokenize(text))

    return encode_all(prompts, encode)


def _features(vision: Any, pictures: Any) -> Any:
    """Return one vector per picture, (B, D), on the CPU."""
    found = []
    for start in range(0, len(pictures), _VISION_BATCH):
        host.stop_if_interrupted()
        found.append(vision.encode_image(pictures[start : start + _VISION_BATCH])["image_embeds"])
    return torch.cat([one.flatten(1).float().cpu() for one in found]).numpy()


def _captions(given: Given, prompts: Sequence[str], width: int) -> dict[str, Any]:
    """Return CLIP's text embeddings of the prompts, or why there are none."""
    if not prompts:
        return {}
    clip = given.get("base_clip")
    if clip is None:
        return {"no_captions": "The caption's hold needs base_clip beside clip_vision."}
    tower = next(
        (
            one
            for name in (HOST_CLIP_G, HOST_CLIP_L)
            if (one := getattr(clip.cond_stage_model, name, None)) is not None
        ),
        None,
    )
    projection = getattr(getattr(tower, "transformer", None), "text_projection", None)
    matrix = getattr(projection, "weight", None)
    if matrix is None or _is_identity(matrix):
        return {
            "no_captions": "This CLIP has no text projection (SD1.5 checkpoints lack it), so "
            "captions cannot be compared with pictures; load CLIP with Load CLIP from its own file."
        }
    texts = [clip.encode_from_tokens(clip.tokenize(p), return_pooled=True)[1] for p in prompts]
    table = torch.cat([text.reshape(1, -1).float().cpu() for text in texts])[:, -len(matrix) :]
    if table.shape[1] != width:
        return {
            "no_captions": f"The vision model's features ({width} wide) do not belong to this "
            f"CLIP's text encoder ({table.shape[1]} wide)."
        }
    return {"captions": table.numpy()}


def _is_identity(matrix: torch.Tensor) -> bool:
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    return square and bool(torch.equal(matrix.float().cpu(), torch.eye(len(matrix))))
