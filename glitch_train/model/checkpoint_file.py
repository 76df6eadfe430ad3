"""A single-file checkpoint as base model, VAE and tokenizers, without a host.

The file is read tensor by tensor and not mapped: what moves to another device or number format
gives its memory back at once, while a mapping stays whole as long as one tensor of it is in use.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

from ..errors import CheckpointError, LoraFileError
from ..file_names import foreign_path
from .checkpoint import BaseModel, TextEncoder, Weights, build_text_encoder, build_unet
from .clip_tokens import END_TOKEN, token_chunks
from .encoders import Encoders, TokenChunks
from .network import TEXT_LAYERS
from .noise_schedule import zero_terminal_alphas
from .quantised import whole_weights
from .tensor_file import TensorFile
from .vae import FileVae
from .weight_places import IN_CHECKPOINTS, OPEN_CLIP, OPEN_CLIP_PACKED, SD1_TOWER, XL_TOWERS

_VAE = "first_stage_model."
_FROM_OPEN_CLIP = {theirs: ours for ours, theirs in OPEN_CLIP.items()}
_OPEN_CLIP_OUTSIDE = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection.weight": "text_projection.weight",
}
_GGUF = b"GGUF"
"""How a file of llama.cpp's format begins. Source: ggml-org/ggml, docs/gguf.md."""
_PADDING = (END_TOKEN, 0)
"""What fills a caption's last chunk: CLIP-L repeats the end token, OpenCLIP's bigG has zeros."""


def load_checkpoint(path: Path, device: torch.device) -> tuple[BaseModel, Encoders]:
    """Read a Stable Diffusion checkpoint.

    Args:
        path: .safetensors in the original (LDM) layout, of a supported family.
        device: where the VAE works; the UNet is moved by training.

    Returns:
        The frozen base model, and what turns pictures and captions into numbers as the host does.

    Raises:
        CheckpointError: when the file is missing, damaged, of another family or not whole.
    """
    weights = whole_weights(_open(path))
    in_unet = _below(weights, IN_CHECKPOINTS.unet)
    unet, layout, family = build_unet(in_unet or dict(weights), path.name)
    towers = _xl_towers(weights) if family.is_xl else (_sd15_tower(weights),)
    prediction, alphas = noise_of(weights)
    base = BaseModel(family, layout, unet, towers, prediction, path.name, alphas)
    vae = FileVae(_below(weights, _VAE), family.latent_scale, device)
    count = len(towers)  # the tokenizer must not keep them: training lets them go
    encoders = Encoders(
        vae.encode,
        vae.decode,
        lambda caption: tokenize(caption, count),
        vae.key,
        vae.leave_device,
    )
    return base, encoders


def tokenize(caption: str, towers: int) -> TokenChunks:
    """Return a caption's token ids, (chunks, 77) int64 for each text encoder."""
    return tuple(torch.tensor(token_chunks(caption, padding)) for padding in _PADDING[:towers])


def _open(path: Path) -> TensorFile:
    if not os.path.isfile(path):  # also of a name that no file system takes
        is_what = (
            "is a folder" if os.path.isdir(path) else f"does not exist{foreign_path(str(path))}"
        )
        if os.path.isfile(path / "model_index.json"):
            is_what = "is a folder in diffusers' layout"
        raise CheckpointError(f"The checkpoint {path} {is_what}; give one .safetensors file.")
    try:
        with path.open("rb") as opened:
            is_gguf = opened.read(len(_GGUF)) == _GGUF
        if is_gguf:
            raise CheckpointError(_unusable(path.name, "a GGUF file"))
        file = TensorFile(path)
    except LoraFileError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    if "conv_in.weight" in file and "down_blocks.0.resnets.0.conv1.weight" in file:
        raise CheckpointError(_unusable(path.name, "a UNet in diffusers' layout"))
    return file


def _unusable(name: str, is_what: str) -> str:
    return (
        f"{name} is {is_what}, which is not read here; give the checkpoint of the same model in "
        "one .safetensors file, with UNet, text encoders and VAE."
    )


def _below(weights: Weights, prefix: str) -> dict[str, torch.Tensor]:
    start = len(prefix)
    return {name[start:]: weights[name] for name in weights if name.startswith(prefix)}


def _sd15_tower(weights: Weights) -> TextEncoder:
    tower = {
        name if name.startswith("text_") else f"text_model.{name}": value
        for name, value in _below(weights, SD1_TOWER.prefix).items()
    }
    _check_tower(tower)
    return build_text_encoder(tower, hidden_layer=None, final_layer_norm=True)


def _xl_towers(weights: Weights) -> tuple[TextEncoder, ...]:
    clip_l, clip_g = (_below(weights, place.prefix) for place in XL_TOWERS)
    towers = clip_l, _from_open_clip(clip_g)
    for tower in towers:
        _check_tower(tower)
    return tuple(
        build_text_encoder(tower, hidden_layer=-2, final_layer_norm=False) for tower in towers
    )


def _from_open_clip(weights: Weights) -> dict[str, torch.Tensor]:
    """Rename OpenCLIP's parameters to transformers'; packed projections become views."""
    renamed: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        inside = re.match(r"transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)$", name)
        if name == "text_projection":
            renamed["text_projection.weight"] = value.T
        elif name in _OPEN_CLIP_OUTSIDE:
            renamed[_OPEN_CLIP_OUTSIDE[name]] = value
        elif inside and inside[2] == "attn.in_proj":
            for job, third in zip(OPEN_CLIP_PACKED, value.chunk(3), strict=True):
                renamed[f"{TEXT_LAYERS}.{inside[1]}.{job}.{inside[3]}"] = third
        elif inside:
            job = _FROM_OPEN_CLIP[inside[2]]
            renamed[f"{TEXT_LAYERS}.{inside[1]}.{job}.{inside[3]}"] = value
    return renamed


def _check_tower(tower: Weights) -> None:
    if "text_model.embeddings.token_embedding.weight" not in tower:
        raise CheckpointError(
            "This checkpoint lacks a text encoder; use a whole checkpoint with UNet, text "
            "encoders and VAE."
        )


def noise_of(weights: Weights) -> tuple[str, torch.Tensor | None]:
    """Read what a UNet predicts and its own noise schedule off the marks in its checkpoint.

    Args:
        weights: of the whole file; the names say all, as for the host.

    Returns:
        ``epsilon`` or ``v_prediction``, and the schedule where it is not Stable Diffusion's.

    Raises:
        CheckpointError: for a checkpoint marked as EDM's.
    """
    if "edm_mean" in weights or "edm_vpred.sigma_max" in weights:
        raise CheckpointError(
            "This checkpoint predicts with EDM, which cannot be trained here; use a noise- or "
            "v-prediction checkpoint."
        )
    if "v_pred" not in weights:
        return "epsilon", None
    return "v_prediction", zero_terminal_alphas() if "ztsnr" in weights else None
