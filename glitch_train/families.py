"""Tell model families apart by the shapes of their UNet weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from .errors import CheckpointError

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

SUPPORTED = (SD15, SDXL, SSD1B, VEGA)

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


def supported_names() -> str:
    """Return the supported families as readable text."""
    return ", ".join(family.name for family in SUPPORTED)


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
    context_dim = _context_dim(shapes)
    if conv_in is None or context_dim is None:
        raise _unsupported(_name_other(shapes) or called or "of an unknown architecture")
    if conv_in[1] != 4:
        raise _unsupported(f"an inpainting or edit model with {conv_in[1]} input channels")
    if context_dim == SD15.context_dim and "label_emb.0.0.weight" not in shapes:
        return SD15
    if context_dim == 1024:
        raise _unsupported("SD2.x")
    if context_dim == 1280:
        raise _unsupported("the SDXL refiner")
    if context_dim == SDXL.context_dim:
        depths = tuple(depth for depth in down_depths(shapes) if depth)
        first, last = (depths[0], depths[-1]) if depths else (0, 0)
        family = _XL_BY_DEPTHS.get((first, last))
        if family:
            return family
    raise _unsupported(called or f"a UNet with text width {context_dim}")


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


def _unsupported(what: str) -> CheckpointError:
    return CheckpointError(
        f"This checkpoint is {what}, which cannot be trained here; "
        f"load one of these families: {supported_names()}."
    )
