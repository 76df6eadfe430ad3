"""Pictures become latents and captions become prompt embeddings, each once, kept in a cache."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from .cache import TensorCache, content_key, weights_key
from .checkpoint import TextEncoder
from .dataset import GlitchDataset, Sample, training_captions

EncodePicture = Callable[[Image.Image], torch.Tensor]
"""RGB picture → latents (4, H/8, W/8), already scaled by the family's latent scale."""

TokenChunks = tuple[torch.Tensor, ...]
"""Token ids of one caption per text encoder: (chunks, 77) int64 each, start and end included."""

Tokenize = Callable[[str], TokenChunks]


@dataclasses.dataclass(frozen=True)
class TrainingItem:
    """One prepared picture with its caption, as keys into the cache.

    Attributes:
        latents_key: key of ``latents`` (4, H/8, W/8).
        prompt_key: key of ``prompt_embeds`` (T, C) and, for SDXL, ``pooled_prompt_embeds``.
        latents_size: (H/8, W/8); only equal sizes share a batch.
        add_time_ids: SDXL's (original height, original width, crop top, crop left,
            target height, target width), in pixels.
    """

    latents_key: str
    prompt_key: str
    latents_size: tuple[int, int]
    add_time_ids: tuple[int, int, int, int, int, int]


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
) -> Iterator[tuple[Sample, str]]:
    """Encode every picture that the cache does not hold yet.

    Args:
        dataset: the pictures.
        encode: the VAE.
        vae_key: identifies the VAE's weights.
        cache: where latents are kept.

    Yields:
        (sample, key) once the sample's latents are in the cache.

    Raises:
        DatasetError: when a picture can no longer be read.
    """
    for sample in dataset.samples:
        key = content_key("latents", vae_key, dataset.framing_key(), sample.path.read_bytes())
        if key not in cache:
            framed = dataset.prepare(sample)
            latents = encode(framed.image)
            geometry = (*framed.original_size, *framed.crop_top_left, *framed.image.size)
            cache.store(key, {"latents": latents.float(), "geometry": torch.tensor(geometry)})
        yield sample, key


def encode_captions(
    dataset: GlitchDataset,
    tokenize: Tokenize,
    encoders: Sequence[TextEncoder],
    cache: TensorCache,
    device: torch.device,
) -> Iterator[tuple[str, str]]:
    """Encode every different caption once.

    Args:
        dataset: its captions.
        tokenize: caption to token chunks, one tensor per encoder.
        encoders: the text towers.
        cache: where embeddings are kept.
        device: where the towers run.

    Yields:
        (caption, key) once the caption's embeddings are in the cache.
    """
    towers = "".join(
        f"{weights_key(encoder.model.state_dict())} {encoder.hidden_layer}" for encoder in encoders
    )
    with _in_fp32(encoders, device):
        for caption in training_captions(dataset):
            chunks = tokenize(caption)
            ids = b"".join(part.numpy().tobytes() + b"|" for part in chunks)
            key = content_key("prompt", towers, ids)
            if key not in cache:
                # Not around the whole loop: a mode opened here would leak out at the yield.
                with torch.inference_mode(False), torch.no_grad():
                    cache.store(key, _as_tensors(encode_prompt(encoders, chunks)))
            yield caption, key


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
    pictures: Sequence[tuple[Sample, str]], prompts: dict[str, str], latents: TensorCache
) -> list[TrainingItem]:
    """Join encoded pictures with their encoded captions.

    Args:
        pictures: what :func:`encode_pictures` yielded.
        prompts: caption to key, what :func:`encode_captions` yielded.
        latents: the cache of the pictures.
    """
    items = []
    for sample, key in pictures:
        stored = latents.load(key)
        ow, oh, left, top, width, height = stored["geometry"].tolist()
        size = stored["latents"].shape[-2:]
        time_ids = (oh, ow, top, left, height, width)
        items.append(TrainingItem(key, prompts[sample.caption], (size[0], size[1]), time_ids))
    return items


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


def _as_tensors(prompt: PromptEmbeds) -> dict[str, torch.Tensor]:
    tensors = {"prompt_embeds": prompt.prompt_embeds}
    if prompt.pooled_prompt_embeds is not None:
        tensors["pooled_prompt_embeds"] = prompt.pooled_prompt_embeds
    return tensors
