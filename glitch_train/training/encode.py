"""Pictures become latents and captions become prompt embeddings, each once, kept in a cache."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..cache import TensorCache, content_key, weights_key
from ..dataset.dataset import GlitchDataset, Sample, training_captions
from ..dataset.framing import LATENT_STEP, FramePlan
from ..errors import TrainingError
from ..model.checkpoint import TextEncoder
from ..model.encoders import EncodePicture, TokenChunks, Tokenize
from ..workers import in_order


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
    """

    latents_key: str
    prompt_key: str
    latents_size: tuple[int, int]
    add_time_ids: tuple[int, int, int, int, int, int]
    picture: int
    mask_key: str = ""


@dataclasses.dataclass(frozen=True)
class PromptEmbeds:
    """A caption as the UNet sees it.

    Attributes:
        prompt_embeds: (77 · chunks, C) fp32.
        pooled_prompt_embeds: (P,) fp32 for SDXL, else None.
    """

    prompt_embeds: torch.Tensor
    pooled_prompt_embeds: torch.Tensor | None


def encode_pictures(
    dataset: GlitchDataset, encode: EncodePicture, vae_key: str, cache: TensorCache
) -> Iterator[str]:
    """Encode every variant of every picture that the cache does not hold yet.

    Threads prepare the next pictures while the VAE works on one.

    Args:
        dataset: the pictures.
        encode: the VAE.
        vae_key: identifies the VAE's weights.
        cache: where latents are kept.

    Yields:
        The key of each variant once its latents are in the cache: all variants of the first
        picture, then of the second, and so on.

    Raises:
        DatasetError: when a picture can no longer be read.
        TrainingError: when the VAE makes NaN or infinity of one; nothing of it is stored.
    """

    def prepare(job: tuple[Sample, int]) -> tuple[str, str, Image.Image | None]:
        key = content_key("latents", vae_key, dataset.picture_key(*job))
        image = None if _holds_numbers(cache, key) else dataset.prepare(*job).image
        return job[0].name, key, image

    encoded = set()  # of two alike, both may be prepared before the first is stored
    for name, key, image in in_order(prepare, picture_variants(dataset)):
        if image is not None and key not in encoded:
            latents = encode(image).float()
            if not latents.isfinite().all():
                raise TrainingError(
                    f"The VAE makes no numbers (NaN or infinity) of {name}, as SDXL's own does in "
                    "fp16; start ComfyUI with --fp32-vae, or use another VAE."
                )
            cache.store(key, {"latents": latents})
            encoded.add(key)
        yield key


def encode_masks(dataset: GlitchDataset, cache: TensorCache) -> Iterator[str]:
    """Bring the mask of every variant of every picture to the size of its latents.

    Args:
        dataset: the pictures.
        cache: where the masks are kept.

    Yields:
        In the order of :func:`encode_pictures` the key of each variant's mask, empty where all of
        the picture counts.

    Raises:
        DatasetError: when a mask can no longer be read.
    """

    def encode(job: tuple[Sample, int]) -> str:
        key = dataset.mask_key(*job)
        if not key:
            return ""
        if key not in cache and (mask := dataset.mask(*job)):
            cache.store(key, {"mask": latent_mask(mask)})
        return "" if bool((cache.load(key)["mask"] == 1).all()) else key

    yield from in_order(encode, picture_variants(dataset))


def latent_mask(mask: Image.Image) -> torch.Tensor:
    """Return how much each latent counts, (1, H/8, W/8) fp32: the mean of its 8 × 8 pixels.

    Args:
        mask: (W, H), mode L, sides multiples of 8.
    """
    pixels = torch.from_numpy(np.array(mask, dtype=np.float32)) / 255.0
    return torch.nn.functional.avg_pool2d(pixels[None], LATENT_STEP)


def picture_variants(dataset: GlitchDataset) -> Iterator[tuple[Sample, int]]:
    """Yield each picture's variants that may look different."""
    variants = dataset.recipe.variants if dataset.recipe.varies_pictures else 1
    for sample in dataset.samples:
        for variant in range(variants):
            yield sample, variant


def encode_captions(
    captions: Iterable[str],
    tokenize: Tokenize,
    encoders: Sequence[TextEncoder],
    cache: TensorCache,
    device: torch.device,
) -> Iterator[tuple[str, str]]:
    """Encode captions that the cache does not hold yet.

    Args:
        captions: each of them once, see :func:`captions_to_encode`.
        tokenize: caption to token chunks, one tensor per encoder.
        encoders: the text towers.
        cache: where embeddings are kept.
        device: where the towers run.

    Yields:
        (caption, key) once the caption's embeddings are in the cache.

    Raises:
        TrainingError: when a tower makes NaN or infinity of a caption; nothing of it is stored.
    """
    towers = "".join(
        f"{weights_key(encoder.model.state_dict())} {encoder.hidden_layer}" for encoder in encoders
    )
    with contextlib.ExitStack() as towers_in_use:
        in_use = False
        for caption in captions:
            chunks = tokenize(caption)
            ids = b"".join(part.numpy().tobytes() + b"|" for part in chunks)
            key = content_key("prompt with tokens", towers, ids)
            if key not in cache:
                if not in_use:
                    towers_in_use.enter_context(_in_fp32(encoders, device))
                    in_use = True
                # Not around the whole loop: a mode opened here would leak out at the yield.
                with torch.inference_mode(False), torch.no_grad():
                    tensors = _as_tensors(encode_prompt(encoders, chunks))
                    _check_prompt(tensors, caption)
                    cache.store(key, tensors | _named_tokens(chunks))
            yield caption, key


def captions_to_encode(dataset: GlitchDataset) -> Iterator[str]:
    """Yield each different caption once, the empty one last where captions drop out."""
    empty_seen = False
    for caption in training_captions(dataset):
        empty_seen = empty_seen or not caption
        yield caption
    if dataset.recipe.caption_dropout and not empty_seen:
        yield ""


def encode_prompt(encoders: Sequence[TextEncoder], chunks: TokenChunks) -> PromptEmbeds:
    """Encode one caption of any length.

    Each chunk of 77 tokens goes through the tower by itself and the results are joined along the
    sequence; with two towers their features stand side by side and the second one's projected
    end-of-text feature of the first chunk is the pooled embedding. This is what the host's CLIP
    Text Encode does.

    Args:
        encoders: one or two towers, on one device.
        chunks: token ids (chunks, 77) per tower.

    Returns:
        The embeddings, on the towers' device.
    """
    hidden: list[torch.Tensor] = []
    pooled: torch.Tensor | None = None
    for encoder, ids in zip(encoders, chunks, strict=True):
        device = next(encoder.model.parameters()).device
        output = encoder.model(ids.to(device), output_hidden_states=True)
        hidden.append(_select_layer(encoder, output).flatten(0, 1))
        pooled = output.text_embeds[0]
    length = min(part.shape[0] for part in hidden)
    joined = torch.cat([part[:length] for part in hidden], dim=-1)
    return PromptEmbeds(joined, pooled if len(encoders) > 1 else None)


def training_items(
    dataset: GlitchDataset,
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
    recipe, items = dataset.recipe, []
    prepared = len(latents_keys) // max(1, len(dataset.samples))
    prompts = _prompts_by_variant(dataset, prompt_keys)
    for index, sample in enumerate(dataset.samples):
        for variant in range(recipe.variants):
            plan = dataset.plan(sample, variant)
            place = index * prepared + variant % prepared
            items.append(
                TrainingItem(
                    latents_keys[place],
                    prompts[variant % len(prompts)][index],
                    (plan.size[1] // LATENT_STEP, plan.size[0] // LATENT_STEP),
                    time_ids(plan, recipe.size_conditioning),
                    index,
                    mask_keys[place] if mask_keys else "",
                )
            )
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


def _holds_numbers(cache: TensorCache, key: str) -> bool:
    """Say whether usable latents are stored; files of before they were checked may hold NaN."""
    return key in cache and bool(cache.load(key)["latents"].isfinite().all())


def _check_prompt(tensors: Mapping[str, torch.Tensor], caption: str) -> None:
    # They run in fp32, so that the weights are to blame.
    if not all(value.isfinite().all() for value in tensors.values()):
        raise TrainingError(
            f"A text encoder makes no numbers (NaN or infinity) of the caption {caption[:60]!r}; "
            "its weights are broken, so use another checkpoint or CLIP."
        )


@contextlib.contextmanager
def _in_fp32(encoders: Sequence[TextEncoder], device: torch.device) -> Iterator[None]:
    """Run the towers in fp32, as the host does, then let the copies go."""
    before = [dict(encoder.model.named_parameters()) for encoder in encoders]
    original = [{name: p.data for name, p in params.items()} for params in before]
    try:
        with torch.inference_mode(False):
            for encoder in encoders:
                encoder.model.to(device=device, dtype=torch.float32)
        yield
    finally:
        for params, values in zip(before, original, strict=True):
            for name, parameter in params.items():
                parameter.data = values[name]


def _select_layer(encoder: TextEncoder, output: Any) -> torch.Tensor:
    if encoder.hidden_layer is None:
        return output.last_hidden_state
    hidden: torch.Tensor = output.hidden_states[encoder.hidden_layer]
    if encoder.final_layer_norm:
        return encoder.model.text_model.final_layer_norm(hidden)
    return hidden


def _named_tokens(chunks: TokenChunks) -> dict[str, torch.Tensor]:
    return {f"tokens_{number}": ids for number, ids in enumerate(chunks)}


def _as_tensors(prompt: PromptEmbeds) -> dict[str, torch.Tensor]:
    tensors = {"prompt_embeds": prompt.prompt_embeds}
    if prompt.pooled_prompt_embeds is not None:
        tensors["pooled_prompt_embeds"] = prompt.pooled_prompt_embeds
    return tensors


def _prompts_by_variant(dataset: GlitchDataset, prompt_keys: Mapping[str, str]) -> list[list[str]]:
    # Variant by variant, because a swap of captions is drawn for all pictures at once.
    variants = dataset.recipe.variants if dataset.recipe.varies_captions else 1
    pictures = range(len(dataset.samples))
    return [
        [prompt_keys[dataset.caption(index, variant)] for index in pictures]
        for variant in range(variants)
    ]
