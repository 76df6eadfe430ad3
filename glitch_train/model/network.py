"""What every module of a network does: stage, level, place and job, whatever it is called."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence

from .families import SD2, Family, identify_family
from .unet_names import UNetLayout, read_layout, to_diffusers_names
from .unet_shapes import LAYOUTS, Shape, unet_shapes

UNET, TE1, TE2 = "unet", "te1", "te2"
PART_TITLES = {UNET: "UNet", TE1: "text encoder", TE2: "second text encoder"}

GATED = "ff.net.0.proj"
"""The one job whose output is two stacked halves (values, then gates), each fitted by itself."""

_TEXT_JOBS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj",
    "mlp.fc1", "mlp.fc2",
)  # fmt: skip
TEXT_LAYERS = "text_model.encoder.layers"
TEXT_PROJECTION = "text_projection"
"""What makes the pooled embedding; of SDXL's two text encoders, the host uses the second's."""
_PLACED = re.compile(
    r"(?:(?P<way>down|up)_blocks\.(?P<index>\d+)|mid_block)"
    r"\.(?P<kind>attentions|resnets|downsamplers|upsamplers)\.(?P<site>\d+)"
    r"(?:\.transformer_blocks\.(?P<block>\d+))?\.(?P<job>.+)"
)


@dataclasses.dataclass(frozen=True)
class Role:
    """What a module does.

    Attributes:
        part: a key of :data:`PART_TITLES`.
        stage: ``down``, ``mid``, ``up``, ``text``, or ``edge`` for what lies outside the blocks.
        level: resolution level, 0 the finest.
        site: which attention or residual block of its stage and level.
        block: which transformer block of its site, or layer of a text encoder.
        job: ``attn1.to_q``, ``ff.net.2``, ``proj_in``, ``conv1`` …, in diffusers' words.
    """

    part: str
    stage: str
    level: int
    site: int
    block: int
    job: str

    @property
    def is_attention(self) -> bool:
        """Whether it lies in a UNet's transformer: kohya's default set of targets."""
        return self.part == UNET and (
            self.job in ("proj_in", "proj_out") or self.job.startswith(("attn", "ff."))
        )


@dataclasses.dataclass(frozen=True)
class Module:
    """One Linear or convolution.

    Attributes:
        key: its name here: part, then diffusers' module name, ``unet.down_blocks.0…``.
        ldm: its original name, the same as diffusers' for text encoders.
        role: what it does.
        shape: of its weight.
    """

    key: str
    ldm: str
    role: Role
    shape: Shape

    @property
    def n_out(self) -> int:
        """Output width."""
        return self.shape[0]

    @property
    def n_in(self) -> int:
        """Input width."""
        return self.shape[1]

    @property
    def kernel(self) -> Shape:
        """Kernel size; empty for Linears and 1×1 convolutions, which are the same thing."""
        return kernel_of(self.shape)

    @property
    def diffusers(self) -> str:
        """Its name in diffusers or transformers, without the part."""
        return self.key.partition(".")[2]


@dataclasses.dataclass(frozen=True)
class TextTower:
    """A CLIP text encoder.

    Attributes:
        part: ``te1`` or ``te2``.
        layers: number of layers.
        width: hidden width.
    """

    part: str
    layers: int
    width: int


@dataclasses.dataclass(frozen=True)
class Network:
    """A model's modules, in the order in which they work.

    Attributes:
        family: its family.
        layout: the skeleton of its UNet.
        towers: its text encoders.
        modules: key to module.
        is_reference: whether it is the family's published full-size network.
    """

    family: Family
    layout: UNetLayout
    towers: tuple[TextTower, ...]
    modules: Mapping[str, Module]
    is_reference: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts it has."""
        return (UNET, *(tower.part for tower in self.towers))

    @property
    def title(self) -> str:
        """Family name, marked when the network is smaller or larger than the published one."""
        return self.family.name if self.is_reference else f"{self.family.name} (custom size)"


def kernel_of(shape: Sequence[int]) -> Shape:
    """Return a weight's kernel size, empty for 1×1."""
    kernel = tuple(shape[2:])
    return () if all(size == 1 for size in kernel) else kernel


def family_towers(family: Family) -> tuple[TextTower, ...]:
    """Return the text encoders of a family: CLIP-L; OpenCLIP-H; or CLIP-L and OpenCLIP-bigG."""
    if family is SD2:
        return (TextTower(TE1, 24, 1024),)
    first = TextTower(TE1, 12, 768)
    return (first, TextTower(TE2, 32, 1280)) if family.is_xl else (first,)


@functools.cache
def reference_network(family: Family) -> Network:
    """Return the published full-size network of a family."""
    return build_network(family, LAYOUTS[family], family_towers(family))


def build_network(
    family: Family,
    layout: UNetLayout,
    towers: Sequence[TextTower],
    shapes: Mapping[str, Shape] | None = None,
) -> Network:
    """Build a network from its skeleton.

    Args:
        family: its family.
        layout: the skeleton of its UNet.
        towers: its text encoders.
        shapes: LDM module name to weight shape where known; computed otherwise.
    """
    known = unet_shapes(family, layout) if shapes is None else dict(shapes)
    names = to_diffusers_names(layout, known)
    modules: dict[str, Module] = {}
    for ldm, name in names.items():
        key = f"{UNET}.{name}"
        modules[key] = Module(key, ldm, unet_role(name, layout), known[ldm])
    for tower in towers:
        modules |= _text_modules(tower)
    is_reference = layout == LAYOUTS.get(family)
    return Network(family, layout, tuple(towers), modules, is_reference)


def read_network(
    shapes: Mapping[str, Sequence[int]], towers: Sequence[TextTower], called: str = ""
) -> Network:
    """Read a network off a UNet's parameters.

    Args:
        shapes: LDM parameter names, without ``model.diffusion_model.``, to shapes.
        towers: the text encoders at hand.
        called: what the loader calls the model, for the error of an unknown family.

    Raises:
        CheckpointError: for a model that is not of the Stable Diffusion families.
    """
    family = identify_family(shapes, called)
    layout = read_layout(shapes)
    weights = {
        name.removesuffix(".weight"): tuple(shape)
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) >= 2
    }
    return build_network(family, layout, towers, weights)


def unet_role(name: str, layout: UNetLayout) -> Role:
    """Return the role of a UNet module by its diffusers name."""
    found = _PLACED.fullmatch(name)
    if not found:
        return Role(UNET, "edge", 0, 0, 0, name)
    stage = found["way"] or "mid"
    level = int(found["index"] or layout.levels - 1)
    if stage == "up":
        level = layout.levels - 1 - level
    job = found["job"]
    if found["kind"] in ("downsamplers", "upsamplers"):
        job = found["kind"]
    return Role(UNET, stage, level, int(found["site"]), int(found["block"] or 0), job)


def _text_modules(tower: TextTower) -> dict[str, Module]:
    modules = {}
    for layer in range(tower.layers):
        for job in _TEXT_JOBS:
            name = f"{TEXT_LAYERS}.{layer}.{job}"
            key = f"{tower.part}.{name}"
            role = Role(tower.part, "text", 0, 0, layer, job)
            modules[key] = Module(key, name, role, _text_shape(job, tower.width))
    if tower.part == TE2:
        key = f"{TE2}.{TEXT_PROJECTION}"
        role = Role(TE2, "edge", 0, 0, 0, TEXT_PROJECTION)
        modules[key] = Module(key, TEXT_PROJECTION, role, (tower.width, tower.width))
    return modules


def _text_shape(job: str, width: int) -> Shape:
    if job == "mlp.fc1":
        return (4 * width, width)
    return (width, 4 * width) if job == "mlp.fc2" else (width, width)
