"""Which network a LoRA was trained on, told by its names and shapes."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

from ..errors import LoraFileError
from ..model.families import SD2, SD15, SDXL, TRANSFERABLE, Family, family_names, family_of_depths
from ..model.network import (
    TE1,
    TE2,
    UNET,
    Module,
    Network,
    build_network,
    family_towers,
    reference_network,
)
from ..model.unet_names import UNetLayout
from .foreign import NotCarriedOver
from .keys import underscored
from .read import LoraFile, LoraModule

# A piece of a module's name that only LoRAs of this family have. Sources: the key maps in
# ComfyUI's comfy/lora.py, kohya-ss/sd-scripts' networks and diffusers' converters.
_OTHER_FAMILIES = (
    ("double_blocks", "Flux or HunyuanVideo"),
    ("single_transformer_blocks", "Flux"),
    ("joint_blocks", "SD3"),
    ("lora_prior_", "Stable Cascade"),
    ("cross_attn", "Wan"),
    ("adaLN_modulation", "a diffusion transformer"),
    ("lora_transformer_", "a diffusion transformer"),
    ("noise_refiner", "Lumina 2"),
    ("SelfAttention", "T5, a text encoder of Flux and SD3"),
    ("lora_te3_", "SD3"),
    ("_img_mlp", "Qwen-Image"),
    ("temporal_transformer", "AnimateDiff"),
    ("motion_modules", "AnimateDiff"),
)
_SITE = re.compile(
    r"(?:(?P<diffusers>down|up)_blocks_(?P<level>\d{1,2})_attentions_(?P<site>\d{1,2})"
    r"|(?P<ldm>in|out)put_blocks_(?P<block>\d{1,2})_1"
    r"|mid_block_attentions_0|middle_block_1)"
    r"_(?:transformer_blocks_(?P<depth>\d{1,2})_)?(?P<job>.+)"
)
# Llama and its kind: model.layers.0.self_attn …, where CLIP has text_model.encoder.layers.
_LANGUAGE_MODEL = re.compile(r"(model_)*layers_\d")
_BY_CONTEXT = {SD15.context_dim: SD15, SD2.context_dim: SD2}
_REFINER_CONTEXT = 1280
# Of a UNet's levels, and of the blocks of each: SD1.5 has 4 and 2.
_MOST_LEVELS = 8
# Source: kohya-ss/sd-scripts, networks/lora.py and its SDXL conversion.
_XL_HABIT = ("lora_unet_input_", "lora_unet_middle_", "lora_unet_output_", "lora_te1_", "lora_te2_")
_SD_HABIT = ("lora_unet_down_", "lora_unet_mid_", "lora_unet_up_", "lora_te_")


def source_network(lora: LoraFile, hints: Sequence[Network] = ()) -> Network:
    """Return the network a LoRA was trained on.

    Published networks and the hints are tried first; a LoRA of a smaller or larger network, such
    as a distilled one, is read off its own names.

    Args:
        lora: the LoRA.
        hints: networks at hand, such as the target; preferred where several fit equally.

    Raises:
        LoraFileError: names the family when it is another one, or says that it cannot be told.
    """
    _refuse_other_families(lora)
    known = [*hints, *(reference_network(family) for family in TRANSFERABLE)]
    fitting = [network for network in known if _fits(lora, network)]
    if not fitting:
        return _inferred(lora)
    return max(fitting, key=lambda network: _closeness(lora, network))


def spellings(network: Network) -> dict[tuple[str, str], str]:
    """Return (part, underscored name) to key, for original and diffusers names alike."""
    table: dict[tuple[str, str], str] = {}
    for key, module in network.modules.items():
        table[module.role.part, underscored(module.ldm)] = key
        table[module.role.part, underscored(module.diffusers)] = key
    return table


def named_modules(lora: LoraFile, network: Network) -> dict[str, LoraModule]:
    """Return the LoRA's modules by the network's keys; names it does not know are left out."""
    table = spellings(network)
    found = {}
    for module in lora.modules.values():
        key = table.get((module.part, module.path))
        if key is not None:
            found[key] = unflattened(module, network.modules[key])
    return found


def unflattened(module: LoraModule, target: Module) -> LoraModule:
    """Return a module with its kernel, where the file stores a convolution as a matrix."""
    flat = not module.shape[2:] and module.shape[1] == target.n_in * math.prod(target.kernel)
    return dataclasses.replace(module, kernel=target.kernel) if flat else module


def with_kernels(lora: LoraFile, network: Network) -> LoraFile:
    """Return a LoRA of a network with every convolution's kernel."""
    known = {module.name: module for module in named_modules(lora, network).values()}
    return dataclasses.replace(lora, modules=dict(lora.modules) | known)


def same_weight(module: LoraModule, target: Module) -> bool:
    """Say whether a LoRA's module patches a weight of exactly this shape."""
    return module.shape == (target.n_out, target.n_in, *target.kernel)


def _fits(lora: LoraFile, network: Network) -> bool:
    """Say whether the network has all of the LoRA's UNet modules and parts, in their shapes."""
    table = spellings(network)
    parts = {UNET, *(tower.part for tower in family_towers(network.family))}
    judged = 0
    for module in lora.modules.values():
        key = table.get((module.part, module.path))
        if key is not None:
            judged += 1
            target = network.modules[key]
            if not same_weight(unflattened(module, target), target):
                return False
        elif module.part == UNET or (module.part and module.part not in parts):
            return False
    return judged > 0


def _closeness(lora: LoraFile, network: Network) -> tuple[bool, bool, bool]:
    """Return whether the LoRA touches all transformer blocks, and what else speaks for a network.

    Vega's names and shapes are all in SDXL too: a LoRA that touches every block of Vega is Vega's.
    Then metadata decides, then kohya's habits: original names for the SDXL family, diffusers' for
    the others.
    """
    blocks = {_block(m) for m in network.modules.values() if m.role.is_attention}
    touched = {_block(network.modules[key]) for key in named_modules(lora, network)}
    stated = lora.metadata.get("ss_base_model_version", "")
    named = bool(stated) and stated.startswith(network.family.kohya_base)
    habit = _XL_HABIT if network.family.is_xl else _SD_HABIT
    return blocks <= touched, named, any(name.startswith(habit) for name in lora.modules)


def _block(module: Module) -> tuple[str, int, int, int]:
    role = module.role
    return role.stage, role.level, role.site, role.block


def _refuse_other_families(lora: LoraFile) -> None:
    for name, module in lora.modules.items():
        for piece, family in _OTHER_FAMILIES:
            if piece in name:
                raise _refusal(lora, family)
        if name.startswith("transformer."):
            raise _refusal(lora, "a diffusion transformer such as Flux or SD3")
        if module.part != UNET and _LANGUAGE_MODEL.match(module.path):
            raise _refusal(lora, "a language model, the text encoder of another family")
        is_refiner = _is_cross_key(module.path) and module.shape[1] == _REFINER_CONTEXT
        if is_refiner and module.part == UNET:
            raise _refusal(lora, "the SDXL refiner")
    if not any(module.part for module in lora.modules.values()):
        first = next(iter(lora.modules))
        raise _refusal(lora, f"an unknown family (its first module is {first!r})")


def _refusal(lora: LoraFile, family: str) -> NotCarriedOver:
    advice = f"; LoRAs of {family_names(TRANSFERABLE)} can be carried over"
    return NotCarriedOver(lora.title, f"a LoRA for {family}", advice)


def _is_cross_key(path: str) -> bool:
    return path.endswith(("attn2_to_k", "attn2_to_v"))


def _inferred(lora: LoraFile) -> Network:
    """Read the network off the LoRA's own names and shapes."""
    unet = [module for module in lora.modules.values() if module.part == UNET]
    sites = _sites(unet)
    if not unet:
        raise LoraFileError(
            f"{lora.title} has text encoder modules alone, and they are those of no text encoder "
            f"of {family_names(TRANSFERABLE)}; choose another LoRA."
        )
    if not sites:
        raise LoraFileError(
            f"{lora.title} fits no known network and has no attention modules to tell its family "
            f"by; LoRAs of {family_names(TRANSFERABLE)} can be carried over."
        )
    layout = _layout(lora.title, sites)
    family = _family(lora, unet, layout)
    towers = family_towers(family)
    network = build_network(family, layout, towers)
    if not named_modules(lora, network):
        raise LoraFileError(f"{lora.title} has modules of no Stable Diffusion UNet.")
    return network


Sites = dict[tuple[str, int, int], tuple[int, int]]
"""(stage, level or block, site) to (channels, transformer depth)."""


def _sites(modules: Iterable[LoraModule]) -> Sites:
    """Return the attention sites; sites under original names have level -1 and a block number."""
    sites: Sites = {}
    for module in modules:
        found = _SITE.match(module.path)
        if not found:
            continue
        if found["diffusers"]:
            place = (found["diffusers"], int(found["level"]), int(found["site"]))
        elif found["ldm"]:
            place = ({"in": "down", "out": "up"}[found["ldm"]], -1, int(found["block"]))
        else:
            place = ("mid", 0, 0)
        channels, depth = sites.get(place, (0, 1))
        depth = max(depth, int(found["depth"] or 0) + 1)
        sites[place] = (_channels(module, found["job"]) or channels, depth)
    return sites


def _channels(module: LoraModule, job: str) -> int:
    """Return the width of a site where this module tells it, else 0."""
    if job == "ff_net_0_proj":
        return module.shape[1]
    return module.shape[0] if job.startswith(("proj_", "attn", "ff_net_2")) else 0


def _layout(title: str, sites: Sites) -> UNetLayout:
    down = {place[1:]: size for place, size in sites.items() if place[0] == "down"}
    up = {place[1:]: size for place, size in sites.items() if place[0] == "up"}
    if not down or not up:
        raise LoraFileError(
            f"{title} fits no published network and patches only one half of its UNet, which is "
            "too little to tell its layout; name the model it was trained on: source_model of the "
            "node, --from of the command line."
        )
    if next(iter(down))[0] < 0:
        down, up = _numbered(down, up)
    first = min(level for level, _ in down)
    levels = 1 + max(first + max(level for level, _ in up), *(level for level, _ in down))
    per_level = 1 + max(site for _, site in down)
    if first < 0 or max(levels, per_level) > _MOST_LEVELS:
        raise LoraFileError(
            f"{title} names {levels} levels with {per_level} blocks each, the first being number "
            f"{first}; no Stable Diffusion UNet is so, download or save it again."
        )
    channels = [0] * levels
    for (level, _), (width, _) in down.items():
        channels[level] = width
    mid_width, mid_depth = sites.get(("mid", 0, 0), (0, 0))
    for level in reversed(range(levels)):
        channels[level] = channels[level] or mid_width or channels[min(level + 1, levels - 1)]
        mid_width = 0
    channels = [width or max(channels) for width in channels]
    return UNetLayout(
        channels=tuple(channels),
        layers_per_block=per_level,
        down_depths=_depths(down, levels, per_level),
        up_depths=_depths(up, levels, per_level + 1),
        mid_depth=mid_depth,
    )


Halves = dict[tuple[int, int], tuple[int, int]]


def _numbered(down: Halves, up: Halves) -> tuple[Halves, Halves]:
    """Turn original block numbers into levels and sites."""
    numbers = sorted(block for _, block in down)
    # Blocks of one level have consecutive numbers; a downsampler stands between levels.
    per_level = longest = 1
    for before, after in zip(numbers, numbers[1:], strict=False):
        longest = longest + 1 if after == before + 1 else 1
        per_level = max(per_level, longest)
    step = per_level + 1
    placed_down = {divmod(block - 1, step): size for (_, block), size in down.items()}
    return placed_down, {divmod(block, step): size for (_, block), size in up.items()}


def _depths(half: Halves, levels: int, count: int) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(half.get((level, site), (0, 0))[1] for site in range(count))
        for level in range(levels)
    )


def _family(lora: LoraFile, unet: Sequence[LoraModule], layout: UNetLayout) -> Family:
    parts = {module.part for module in lora.modules.values()}
    context = next((m.shape[1] for m in unet if _is_cross_key(m.path)), 0)
    if context in _BY_CONTEXT:
        return _BY_CONTEXT[context]
    stated = lora.metadata.get("ss_base_model_version", "")
    original = any("put_blocks_" in module.path for module in unet)
    if context == SDXL.context_dim or TE2 in parts or stated.startswith("sdxl") or original:
        depths = [depth for level in layout.down_depths for depth in level if depth]
        return family_of_depths(depths) or SDXL
    if context:
        raise _refusal(lora, f"a UNet with text width {context}")
    is_sd2 = stated.startswith(SD2.kohya_base) or any(
        module.part == TE1 and SD2.context_dim in module.shape for module in lora.modules.values()
    )
    return SD2 if is_sd2 else SD15
