"""Tell model families apart by the shapes of their UNet weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from ..errors import CheckpointError

Shapes = Mapping[str, Sequence[int]]
"""Parameter name in the original (LDM) UNet layout to shape."""


@dataclasses.dataclass(frozen=True)
class Family:
    """What training needs to know of a model family.

    Attributes:
        name: the field's name for it.
        context_dim: width of the text conditioning.
        is_xl: whether pooled text and size conditioning are used.
        latent_scale: factor on the VAE's latents.
        kohya_base: kohya's ``ss_base_model_version``.
        architecture: ``modelspec.architecture``.
    """

    name: str
    context_dim: int
    is_xl: bool
    latent_scale: float
    kohya_base: str
    architecture: str


SD15 = Family("SD1.5", 768, False, 0.18215, "sd_v1", "stable-diffusion-v1/lora")
SDXL = Family("SDXL", 2048, True, 0.13025, "sdxl_base_v1-0", "stable-diffusion-xl-v1-base/lora")
SSD1B = dataclasses.replace(SDXL, name="SSD-1B")
VEGA = dataclasses.replace(SDXL, name="Vega")

SD2 = Family("SD2.x", 1024, False, 0.18215, "sd_v2", "stable-diffusion-v2-768-v/lora")

SUPPORTED = (SD15, SDXL, SSD1B, VEGA)
"""What can be trained on."""

TRANSFERABLE = (SD15, SD2, SDXL, SSD1B, VEGA)
"""Between which LoRAs can be carried over."""

# Depth of the first and second transformer level: what tells the SDXL family's members apart.
_XL_BY_DEPTHS = {(2, 10): SDXL, (2, 4): SSD1B, (1, 2): VEGA}

# A weight that only this family has, in the host's layout. Checked in order.
_OTHER_FAMILIES = (
    ("double_blocks.0.img_attn.norm.key_norm.scale", "Flux"),
    ("double_blocks.0.img_attn.norm.key_norm.weight", "Flux"),
    ("joint_blocks.0.context_block.attn.qkv.weight", "SD3"),
    ("transformer_blocks.0.norm1.linear.weight", "a diffusion transformer"),
    ("noise_refiner.0.attention.k_norm.weight", "Lumina 2"),
    ("clip_txt_mapper.weight", "Stable Cascade"),
    ("blocks.0.cross_attn.k.weight", "Wan"),
)


def family_names(families: Sequence[Family]) -> str:
    """Return families as readable text."""
    return ", ".join(family.name for family in families)


def detect_family(shapes: Shapes, called: str = "") -> Family:
    """Say which family a UNet belongs to.

    Args:
        shapes: LDM parameter names (without ``model.diffusion_model.``) to shapes.
        called: what the loader calls the model, used when the shapes are unknown.

    Returns:
        The family.

    Raises:
        CheckpointError: names what the model is and what is supported.
    """
    conv_in = shapes.get("input_blocks.0.0.weight")
    if conv_in is not None and _context_dim(shapes) and conv_in[1] != 4:
        raise _untrainable(f"an inpainting or edit model with {conv_in[1]} input channels")
    family = _recognise(shapes, called)
    if isinstance(family, str):
        raise _untrainable(family)
    if family not in SUPPORTED:
        raise _untrainable(family.name)
    return family


def identify_family(shapes: Shapes, called: str = "") -> Family:
    """Say which family a UNet belongs to, among those that LoRAs can be carried over to.

    Args:
        shapes: as for :func:`detect_family`.
        called: as for :func:`detect_family`.

    Raises:
        CheckpointError: names what the model is and what can be carried over.
    """
    family = _recognise(shapes, called)
    if isinstance(family, str):
        raise CheckpointError(
            f"This model is {family}, which LoRAs cannot be carried over to; "
            f"use one of these families: {family_names(TRANSFERABLE)}."
        )
    return family


def _recognise(shapes: Shapes, called: str) -> Family | str:
    """Return the family, or what the model is instead."""
    context_dim = _context_dim(shapes)
    if "input_blocks.0.0.weight" not in shapes or context_dim is None:
        return _name_other(shapes) or called or "of an unknown architecture"
    if "label_emb.0.0.weight" not in shapes:
        by_width = {SD15.context_dim: SD15, SD2.context_dim: SD2}
        if context_dim in by_width:
            return by_width[context_dim]
    if context_dim == SD2.context_dim:
        return "an unCLIP variant of SD2.x"
    if context_dim == 1280:
        return "the SDXL refiner"
    if context_dim == SDXL.context_dim:
        depths = tuple(depth for depth in down_depths(shapes) if depth)
        family = family_of_depths(depths)
        if family:
            return family
    return called or f"a UNet with text width {context_dim}"


def family_of_depths(depths: Sequence[int]) -> Family | None:
    """Return the member of the SDXL family with these transformer depths on the way down."""
    return _XL_BY_DEPTHS.get((depths[0], depths[-1])) if depths else None


def down_depths(shapes: Shapes) -> list[int]:
    """Return the transformer depth of each residual block on the way down, in order."""
    return depths_of(shapes, "input_blocks")


def depths_of(shapes: Shapes, part: str) -> list[int]:
    """Return the transformer depth at each residual block of ``input_blocks``/``output_blocks``."""
    blocks: dict[int, int] = {}
    for name in shapes:
        found = re.match(rf"{part}\.(\d+)\.0\.in_layers\.0\.weight$", name)
        if found:
            blocks.setdefault(int(found[1]), 0)
        found = re.match(rf"{part}\.(\d+)\.1\.transformer_blocks\.(\d+)\.norm1\.weight$", name)
        if found:
            block, layer = int(found[1]), int(found[2])
            blocks[block] = max(blocks.get(block, 0), layer + 1)
    return [blocks[index] for index in sorted(blocks)]


def _context_dim(shapes: Shapes) -> int | None:
    for name, shape in shapes.items():
        if name.endswith("transformer_blocks.0.attn2.to_k.weight"):
            return shape[1]
    return None


def _name_other(shapes: Shapes) -> str:
    return next((family for name, family in _OTHER_FAMILIES if name in shapes), "")


def _untrainable(what: str) -> CheckpointError:
    return CheckpointError(
        f"This checkpoint is {what}, which cannot be trained here; "
        f"load one of these families: {family_names(SUPPORTED)}."
    )
