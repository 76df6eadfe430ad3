"""The two names of every UNet module: the original (LDM) layout and diffusers'.

Checkpoints, the host and kohya's SDXL LoRAs use the first; diffusers and kohya's SD1.5 LoRAs the
second. One table made from the UNet's shape serves them all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from ..errors import CheckpointError
from .families import Shapes, depths_of

Value = TypeVar("Value")

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_OUTSIDE = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}


@dataclasses.dataclass(frozen=True)
class UNetLayout:
    """The skeleton of an LDM UNet, read off its parameter names.

    Attributes:
        channels: output channels of each resolution level, finest first.
        layers_per_block: residual blocks per level on the way down.
        down_depths: transformer depth per level and residual block, 0 for none.
        up_depths: the same on the way up, coarsest level first; one more block per level.
        mid_depth: transformer depth of the middle, 0 when it has no attention.
    """

    channels: tuple[int, ...]
    layers_per_block: int
    down_depths: tuple[tuple[int, ...], ...]
    up_depths: tuple[tuple[int, ...], ...]
    mid_depth: int

    @property
    def levels(self) -> int:
        """Number of resolution levels."""
        return len(self.channels)


def read_layout(shapes: Shapes) -> UNetLayout:
    """Read the skeleton of a UNet from its LDM parameter names and shapes.

    Args:
        shapes: LDM parameter names to shapes.

    Raises:
        CheckpointError: when the blocks do not form equal levels.
    """
    levels = 1 + sum(name.endswith(".0.op.weight") for name in shapes)
    down = depths_of(shapes, "input_blocks")
    up = depths_of(shapes, "output_blocks")
    per_level, rest = divmod(len(down), levels)
    if rest or len(up) != levels * (per_level + 1):
        raise CheckpointError(
            f"The UNet has {len(down)} down blocks and {len(up)} up blocks on {levels} levels, "
            "which is not a Stable Diffusion layout; load a full SD1.5 or SDXL checkpoint."
        )
    channels = tuple(
        shapes[f"input_blocks.{1 + level * (per_level + 1)}.0.out_layers.3.weight"][0]
        for level in range(levels)
    )
    mid = {name.split(".")[3] for name in shapes if name.startswith("middle_block.1.transformer_b")}
    return UNetLayout(
        channels=channels,
        layers_per_block=per_level,
        down_depths=_chunks(down, per_level),
        up_depths=_chunks(up, per_level + 1),
        mid_depth=len(mid),
    )


def layout_prefixes(layout: UNetLayout) -> dict[str, str]:
    """Return the table of block prefixes, LDM to diffusers, resnet inner names excluded."""
    table: dict[str, str] = {}
    per_level = layout.layers_per_block
    for level, depths in enumerate(layout.down_depths):
        for index, depth in enumerate(depths):
            block = 1 + level * (per_level + 1) + index
            table[f"input_blocks.{block}.0"] = f"down_blocks.{level}.resnets.{index}"
            if depth:
                table[f"input_blocks.{block}.1"] = f"down_blocks.{level}.attentions.{index}"
        if level < layout.levels - 1:
            block = (level + 1) * (per_level + 1)
            table[f"input_blocks.{block}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    table["middle_block.0"] = "mid_block.resnets.0"
    if layout.mid_depth:
        table["middle_block.1"] = "mid_block.attentions.0"
        table["middle_block.2"] = "mid_block.resnets.1"
    for level, depths in enumerate(layout.up_depths):
        for index, depth in enumerate(depths):
            block = level * (per_level + 1) + index
            table[f"output_blocks.{block}.0"] = f"up_blocks.{level}.resnets.{index}"
            if depth:
                table[f"output_blocks.{block}.1"] = f"up_blocks.{level}.attentions.{index}"
        if level < layout.levels - 1:
            block = level * (per_level + 1) + per_level
            slot = 2 if depths[-1] else 1
            table[f"output_blocks.{block}.{slot}"] = f"up_blocks.{level}.upsamplers.0"
    return table


def to_diffusers_names(layout: UNetLayout, ldm_names: Iterable[str]) -> dict[str, str]:
    """Map every LDM parameter or module name of a UNet to diffusers' name.

    Args:
        layout: the UNet's skeleton.
        ldm_names: names such as ``input_blocks.1.0.in_layers.0.weight``.

    Returns:
        LDM name to diffusers name.

    Raises:
        CheckpointError: names a parameter that has no place in a Stable Diffusion UNet.
    """
    prefixes = layout_prefixes(layout)
    return {name: _translate(name, prefixes) for name in ldm_names}


def to_ldm_modules(layout: UNetLayout, modules: Iterable[str]) -> dict[str, str]:
    """Map diffusers module names inside the blocks to LDM names.

    Args:
        layout: the UNet's skeleton.
        modules: names such as ``down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q``.

    Returns:
        Diffusers name to LDM name.
    """
    back = {new: old for old, new in layout_prefixes(layout).items()}
    inner = {new: old for old, new in _RESNET.items()}
    names = {}
    for module in modules:
        name = _swap_prefix(module, back) or module
        if ".resnets." in module:
            block, _, job = name.rpartition(".")
            name = f"{block}.{inner[job]}"
        names[module] = name
    return names


def rename(values: Mapping[str, Value], names: Mapping[str, str]) -> dict[str, Value]:
    """Return ``values`` under their new names, in the same order."""
    return {names[name]: value for name, value in values.items()}


def _translate(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in _OUTSIDE.items():
        if f"{name}.".startswith(f"{old}."):
            return new + name[len(old) :]
    renamed = _swap_prefix(name, prefixes)
    if renamed is None:
        raise CheckpointError(
            f"The UNet has a weight called {name}, which Stable Diffusion does not have; "
            "load a full SD1.5 or SDXL checkpoint."
        )
    if ".resnets." not in renamed:
        return renamed
    dotted = f"{renamed}."
    for old, new in _RESNET.items():
        dotted = dotted.replace(f".{old}.", f".{new}.")
    return dotted[:-1]


def _swap_prefix(name: str, prefixes: Mapping[str, str]) -> str | None:
    for prefix in _prefixes_of(name):
        if prefix in prefixes:
            return prefixes[prefix] + name[len(prefix) :]
    return None


def _prefixes_of(name: str) -> Iterator[str]:
    """Yield ``a.b.c``, ``a.b``, ``a`` for ``a.b.c``: longest first."""
    while name:
        yield name
        name = name.rpartition(".")[0]


def _chunks(values: list[int], size: int) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(values[i : i + size]) for i in range(0, len(values), size))
