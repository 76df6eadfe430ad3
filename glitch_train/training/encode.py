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
from ..dataset.framing import LATENT_STEP
from ..dataset.mix import AnyDataset, training_captions
from ..errors import TrainingError
from ..model.checkpoint import TextEncoder
from ..model.encoders import EncodePicture, TokenChunks, Tokenize
from ..workers import in_order
from .items import Job, picture_variants


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
    dataset: AnyDataset, encode: EncodePicture, vae_key: str, cache: TensorCache
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

    def prepare(job: Job) -> tuple[str, str, Image.Image | None]:
        part, sample, variant = job
        key = content_key("latents", vae_key, part.picture_key(sample, variant))
        image = None if _holds_numbers(cache, key) else part.prepare(sample, variant).image
        return sample.name, key, image

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


def encode_masks(dataset: AnyDataset, cache: TensorCache) -> Iterator[str]:
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

    def encode(job: Job) -> str:
        part, sample, variant = job
        key = part.mask_key(sample, variant)
        if not key:
            return ""
        if not cache.holds(key, "mask") and (mask := part.mask(sample, variant)):
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
            if not cache.holds(key, "prompt_embeds"):
                if not in_use:
                    towers_in_use.enter_context(_in_fp32(encoders, device))
                    in_use = True
                # Not around the whole loop: a mode opened here would leak out at the yield.
                with torch.inference_mode(False), torch.no_grad():
                    tensors = _as_tensors(encode_prompt(encoders, chunks))
                    _check_prompt(tensors, caption)
                    cache.store(key, tensors | _named_tokens(chunks))
            yield caption, key


def captions_to_encode(dataset: AnyDataset) -> Iterator[str]:
    """Yield each different caption once, the empty one last where captions drop out."""
    empty_seen = False
    for caption in training_captions(dataset):
        empty_seen = empty_seen or not caption
        yield caption
    if any(part.recipe.caption_dropout for part in dataset.parts) and not empty_seen:
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


def _holds_numbers(cache: TensorCache, key: str) -> bool:
    """Say whether usable latents are stored; files of before they were checked may hold NaN."""
    return cache.holds(key, "latents") and bool(cache.load(key)["latents"].isfinite().all())


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
