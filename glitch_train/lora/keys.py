"""The names in LoRA files: which part, module and factor a key means, in every spelling."""

from __future__ import annotations

import re

from ..model.network import TE1, TE2, UNET, Module, Network
from ..model.weight_places import HOST_TOWERS

DOWN, UP, MID, ALPHA, DORA = "down", "up", "mid", "alpha", "dora_scale"

# Suffix to factor. Sources: kohya-ss/sd-scripts networks/lora.py, KohakuBlueleaf/LyCORIS,
# huggingface/peft and diffusers, and ComfyUI's comfy/weight_adapter/lora.py.
_SUFFIXES = (
    (".lora_down.weight", DOWN),
    (".lora_up.weight", UP),
    (".lora_mid.weight", MID),
    (".lora_linear_layer.down.weight", DOWN),
    (".lora_linear_layer.up.weight", UP),
    ("_lora.down.weight", DOWN),
    ("_lora.up.weight", UP),
    (".lora.down.weight", DOWN),
    (".lora.up.weight", UP),
    (".dora_scale", DORA),
    (".alpha", ALPHA),
)
# Peft's names, with the adapter's name in them or without. Source: huggingface/peft,
# src/peft/utils/save_and_load.py.
_PEFT = re.compile(
    r"(.+)\.lora_(A|B|magnitude_vector)(?:\.(?!(?:weight|bias)$)[^.]+)?(?:\.weight)?"
)
_PEFT_FACTORS = {"A": DOWN, "B": UP, "magnitude_vector": DORA}
PEFT_MAGNITUDE = ".lora_magnitude_vector"
"""What only peft's keys of DoRA magnitudes have: they are of another meaning than the host's."""
# Diffusers up to 0.20 named the attention of text encoders as it did that of the UNet.
_OLD_TEXT_ATTENTION = re.compile(r"_self_attn_to_(q|k|v|out)(?:_0)?$")
HOST_CLIPS = "text_encoders."
"""What stands before a tower's own names in the host's way to spell them."""
_PREFIXES = (
    ("lora_unet_", UNET),
    ("lycoris_", UNET),
    ("lora_te1_", TE1),
    ("lora_te2_", TE2),
    ("lora_te_", TE1),
    ("diffusion_model.", UNET),
    ("unet.base_model.model.", UNET),
    ("base_model.model.", UNET),
    ("unet.", UNET),
    ("text_encoder_2.base_model.model.", TE2),
    ("text_encoder_2.", TE2),
    ("text_encoder.base_model.model.", TE1),
    ("text_encoder.", TE1),
    *((f"{HOST_CLIPS}{place.prefix}", place.part) for place in HOST_TOWERS.values()),
)
_BARE = ("down_blocks.", "mid_block.", "up_blocks.", "conv_in.", "conv_out.")


def split_key(key: str) -> tuple[str, str] | None:
    """Split a key into the module's name in the file and the factor, or return None."""
    for suffix, factor in _SUFFIXES:
        if key.endswith(suffix):
            return key[: -len(suffix)], factor
    found = _PEFT.fullmatch(key)
    return (found[1], _PEFT_FACTORS[found[2]]) if found else None


def split_name(name: str) -> tuple[str, str] | None:
    """Return the part a module's name belongs to and its spelling without prefix and dots.

    Args:
        name: as in the file, such as ``lora_unet_down_blocks_0_attentions_0_proj_in`` or
            ``unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_out``.

    Returns:
        Part and underscored path, or None for a name of no Stable Diffusion module.
    """
    for prefix, part in _PREFIXES:
        if name.startswith(prefix):
            return _placed(part, underscored(name[len(prefix) :]))
    if name.startswith(_BARE):
        return UNET, underscored(name)
    return None


def _placed(part: str, path: str) -> tuple[str, str]:
    """Return part and path; peft names the modules of a text encoder without its part."""
    if part == UNET and not path.startswith("text_model_"):
        return part, path
    path = _OLD_TEXT_ATTENTION.sub(r"_self_attn_\1_proj", path)
    return TE1 if part == UNET else part, path


def underscored(path: str) -> str:
    """Return one spelling for dotted, underscored and attention-processor names."""
    path = path.replace(".processor.", ".").replace("_processor_", "_").replace(".", "_")
    return f"{path}_0" if path.endswith("_to_out") else path


def lora_name(network: Network, module: Module) -> str:
    """Return a module's name in kohya's format: original names for the SDXL family."""
    part = module.role.part
    if part == UNET:
        path = module.ldm if network.family.is_xl else module.diffusers
        return f"lora_unet_{underscored(path)}"
    prefix = f"lora_{part}_" if network.family.is_xl else "lora_te_"
    return prefix + underscored(module.diffusers)


def format_of(names: list[str]) -> str:
    """Say in whose format a file's modules are named."""
    unet = [name for name in names if (split_name(name) or ("",))[0] == UNET]
    first = (unet or names or [""])[0]
    if first.startswith("diffusion_model."):
        return "host"
    if not first.startswith(("lora_", "lycoris_")):
        return "diffusers/peft"
    original = any("put_blocks_" in name or "_middle_block_" in name for name in unet)
    return "kohya, original names" if original else "kohya, diffusers names"
