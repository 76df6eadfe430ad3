"""The host's MODEL, CLIP and VAE as the library's base model and encoders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import numpy as np
import torch
from PIL import Image

from ..glitch_train.cache import content_key, weights_key
from ..glitch_train.errors import CheckpointError
from ..glitch_train.model.checkpoint import BaseModel, TextEncoder, build_text_encoder, build_unet
from ..glitch_train.model.checkpoint_file import tokenize
from ..glitch_train.model.encoders import Encoders
from ..glitch_train.model.noise_schedule import own_alphas
from ..glitch_train.model.quantised import packed
from ..glitch_train.model.weight_places import HOST_CLIP_G, HOST_CLIP_L, HOST_TOWERS, IN_HOST

_TOWERS = (HOST_CLIP_L, HOST_CLIP_G)
"""In the order in which the families that are trained join them."""

# Source: ComfyUI comfy/ops.py, scaled_fp8_ops and mixed_precision_ops; comfy/sd1_clip.py.
_SCALES = (".scale_weight", ".scale_input", ".input_scale", ".scaled_fp8")
_INPUT_SCALE = ".pre_quant_scale"


def base_model(model: Any, clip: Any) -> BaseModel:
    """Rebuild the host's model as diffusers modules on the same memory.

    Patches on MODEL and CLIP (LoRAs, merges) are part of the weights that come out; only patched
    weights are copies.

    Args:
        model: the host's MODEL.
        clip: the host's CLIP.

    Raises:
        CheckpointError: for an unsupported family, or CLIP of another family than MODEL.
    """
    called = type(model.model).__name__
    unload(model, clip.patcher)
    unet, layout, family = build_unet(_patched(model, IN_HOST.unet), called)
    encoders = tuple(_text_encoder(clip, name) for name in _TOWERS if _tower(clip, name))
    expected = 2 if family.is_xl else 1
    if len(encoders) != expected or encoders[0].model.config.hidden_size != 768:
        raise CheckpointError(
            f"CLIP does not belong to this {family.name} MODEL: it has {len(encoders)} of "
            f"{expected} text encoders; connect CLIP from the same checkpoint."
        )
    prediction, alphas = noise_of(model.get_model_object("model_sampling"))
    return BaseModel(family, layout, unet, encoders, prediction, alphas_cumprod=alphas)


def encoders(model: Any, clip: Any, vae: Any) -> Encoders:
    """Return the host's VAE and tokenizers as plain functions."""
    scale, unscale = model.model.process_latent_in, model.model.process_latent_out

    def encode_picture(image: Image.Image) -> torch.Tensor:
        pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255.0)
        return scale(vae.encode(pixels.unsqueeze(0)))[0].float().cpu()

    def decode_picture(latents: torch.Tensor) -> Image.Image:
        pixels = vae.decode(unscale(latents.float().cpu()[None]))[0]
        return Image.fromarray(pixels.mul(255).round().byte().cpu().numpy())

    # Not the host's: that reads weights, embeddings and special tokens, and a caption is literal.
    towers = sum(_tower(clip, name) is not None for name in _TOWERS)
    key = content_key(
        weights_key(vae.first_stage_model.state_dict()),
        str(getattr(vae, "vae_dtype", "")),  # it may compute in another than it keeps
        type(model.model).__name__,
    )
    return Encoders(
        encode_picture,
        decode_picture,
        lambda text: tokenize(text, towers),
        key,
        lambda: unload(vae.patcher),
    )


def unload(*patchers: Any) -> None:
    """Take models off the device and their patches out of the weights.

    The host keeps patches written into the weights while a model is loaded; unloaded, the weights
    are the checkpoint's own. Under --highvram and --gpu-only it unloads to where they already are.
    """
    for patcher in patchers:
        comfy.model_management.free_memory(1e30, patcher.load_device)
        first = next(patcher.model.parameters(), None)
        if first is not None and first.device.type != "cpu":
            patcher.unpatch_model(torch.device("cpu"))
    comfy.model_management.soft_empty_cache()


def weight_names(patcher: Any) -> Iterator[str]:
    """Yield the names of all weights of a host's model, without the scales of quantised ones.

    Raises:
        CheckpointError: for a model whose inputs are scaled too, which its weights do not show.
    """
    for name, _ in patcher.model.named_parameters(remove_duplicate=False):
        if name.endswith(_INPUT_SCALE):
            raise packed(_called(patcher), "NVFP4 with scaled inputs")
        if not name.endswith(_SCALES):
            yield name


def patched(patcher: Any, name: str) -> torch.Tensor:
    """Return a weight as the host computes with it: dequantised, the patcher's patches applied.

    What has neither patches nor scales is the host's own tensor; what is no copy of it keeps more
    than fp8's three bits, in which small patches would be lost.

    Raises:
        CheckpointError: for a weight that some loader has packed in its own way.
    """
    weight = whole(patcher, name)
    patches = patcher.patches.get(name)
    wrappers = getattr(patcher, "weight_wrapper_patches", {}).get(name, ())
    if not patches and not wrappers:
        return weight
    with torch.inference_mode(False), torch.no_grad():
        result = weight.to(torch.float32, copy=True)
        if patches:
            result = comfy.lora.calculate_weight(patches, result, name)
        for wrapper in wrappers:
            result = wrapper(result)
        return result.to(weight.dtype if weight.dtype.itemsize > 1 else torch.float16)


def whole(patcher: Any, name: str) -> torch.Tensor:
    """Return a weight without patches; quantised ones as fp16 numbers, or what they compute in."""
    weight, _, convert = comfy.model_patcher.get_key_weight(patcher.model, name)
    if convert is not None:
        with torch.inference_mode(False), torch.no_grad():
            # Plain fp8 numbers are widened first, as the host does before it patches: older ones
            # would scale them in fp8.
            plain = type(weight.data) is torch.Tensor and weight.is_floating_point()
            wide = weight.float() if plain and weight.itemsize == 1 else weight
            converted = convert(wide)
            if converted is not wide:
                return converted.half() if converted.dtype == torch.float32 else converted
    if not weight.is_floating_point():
        raise packed(_called(patcher), f"{weight.dtype} numbers ({type(weight).__name__})")
    return weight


def _called(patcher: Any) -> str:
    return f"{type(patcher.model).__name__} ({type(patcher).__name__})"


def _patched(patcher: Any, prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights below ``prefix`` with the patcher's patches applied."""
    return {
        name[len(prefix) :]: patched(patcher, name)
        for name in weight_names(patcher)
        if name.startswith(prefix)
    }


def _tower(clip: Any, name: str) -> Any:
    return getattr(clip.cond_stage_model, name, None)


def _text_encoder(clip: Any, name: str) -> TextEncoder:
    tower = _tower(clip, name)
    layer, layer_idx, _ = tower.options_default
    if clip.layer_idx is not None:  # CLIP Set Last Layer
        skipped_past_end = abs(clip.layer_idx) > tower.num_layers
        layer, layer_idx = ("last", None) if skipped_past_end else ("hidden", clip.layer_idx)
    return build_text_encoder(
        _patched(clip.patcher, HOST_TOWERS[name].prefix),
        hidden_layer=None if layer == "last" else layer_idx,
        final_layer_norm=tower.layer_norm_hidden_state,
    )


def noise_of(sampling: Any) -> tuple[str, torch.Tensor | None]:
    """Return what a UNet predicts, and its own noise schedule.

    Most of the host's samplings derive from those of noise and v prediction, so they are told
    apart by whose methods they have: what the UNet is given, for which timestep, and what its
    output means.

    Args:
        sampling: the host's ``model_sampling`` of a MODEL, with its patches.

    Returns:
        ``epsilon`` or ``v_prediction``, and what :func:`.noise_schedule.own_alphas` says.

    Raises:
        CheckpointError: for any other sampling, by name.
    """
    kinds = {"epsilon": comfy.model_sampling.EPS, "v_prediction": comfy.model_sampling.V_PREDICTION}
    discrete = comfy.model_sampling.ModelSamplingDiscrete
    for prediction, kind in kinds.items():
        methods = {
            "calculate_denoised": kind,
            "calculate_input": kind,
            "noise_scaling": kind,
            "timestep": discrete,
            "sigma": discrete,
        }
        if all(_has_method_of(sampling, name, owner) for name, owner in methods.items()):
            return prediction, own_alphas(sampling.sigmas)
    called = " and ".join(base.__name__ for base in type(sampling).__bases__)
    raise CheckpointError(
        f"MODEL samples by {called}, which cannot be trained here; use a noise- or v-prediction "
        "checkpoint, or take off the node that changes its sampling."
    )


def _has_method_of(sampling: Any, name: str, owner: type) -> bool:
    method = getattr(sampling, name, None)
    return getattr(method, "__func__", None) is getattr(owner, name)
