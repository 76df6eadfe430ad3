"""Weight loudness: how large a change of weights is against the weights, block by block."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

import torch

from ..errors import ReportError
from ..lora.family import named_modules
from ..lora.read import LoraFile
from ..model.network import UNET
from ..transfer.base import Base

_BLOCK = re.compile(r"(input_blocks\.\d+|middle_block|output_blocks\.\d+)")
_LAYER = re.compile(r"(?:(clip_\w|te\d)\b.*?)?\blayers\.(\d+)\b")


@dataclasses.dataclass(frozen=True)
class BlockChange:
    """The change of one block's touched weights.

    Attributes:
        block: its name, as ``output_blocks.3`` or ``clip_l layer 7``.
        change: ‖ΔW‖, Frobenius norm over the block.
        weight: ‖W‖ of the same weights.
    """

    block: str
    change: float
    weight: float

    @property
    def loudness(self) -> float:
        """Return ‖ΔW‖ / ‖W‖."""
        return self.change / self.weight if self.weight > 0 else math.inf


def total_loudness(blocks: Iterable[BlockChange]) -> float:
    """Return ‖ΔW‖ / ‖W‖ over all touched weights; 0 where none is touched."""
    rows = list(blocks)
    weight = math.sqrt(math.fsum(row.weight**2 for row in rows))
    change = math.sqrt(math.fsum(row.change**2 for row in rows))
    return change / weight if weight > 0 else 0.0


def compare_weights(
    weights: Iterable[tuple[str, torch.Tensor, torch.Tensor]],
) -> tuple[BlockChange, ...]:
    """Return the change of each block, from the weights of both models.

    Args:
        weights: (name in the checkpoint, base's weight, glitched weight), one at a time.

    Raises:
        ReportError: for shapes that differ.
    """
    sums: dict[str, list[float]] = {}
    for name, base, glitched in weights:
        if base.shape != glitched.shape:
            raise ReportError(
                f"The models differ in shape at {name}: {tuple(base.shape)} and "
                f"{tuple(glitched.shape)}; connect two of the same family."
            )
        with torch.no_grad():
            first = base.detach().to(torch.float32)
            change = glitched.detach().to(torch.float32) - first
            _add(sums, block_of(name), change.square().sum(), first.square().sum())
    return _rows(sums)


def lora_loudness(lora: LoraFile, base: Base) -> tuple[tuple[BlockChange, ...], int]:
    """Return the change of each block that a LoRA makes at strength 1.

    Args:
        lora: as read by :mod:`..lora.read`.
        base: the model it is for, with its weights at hand.

    Returns:
        The blocks, and how many of the LoRA's modules the base does not have.

    Raises:
        ReportError: when the base has no weights, or none of the LoRA's modules.
    """
    if base.measured is None:
        raise ReportError("Weight loudness needs the base's weights: give a checkpoint file.")
    sums: dict[str, list[float]] = {}
    found = named_modules(lora, base.network)
    for key, module in found.items():
        target = base.network.modules[key]
        prefix = "" if target.role.part == UNET else f"{target.role.part}."
        norm = base.measured(target)
        _add(sums, block_of(f"{prefix}{target.ldm}"), module.energy, norm**2)
    if not sums:
        raise ReportError(f"{lora.title} has no module that this base has; is it its family?")
    return _rows(sums), len(lora.modules) - len(found)


def block_of(name: str) -> str:
    """Return the block that a weight lies in, from its name in the original checkpoint."""
    if match := _BLOCK.search(name):
        return match[1]
    if match := _LAYER.search(name):
        return f"{match[1] or 'text'} layer {match[2]}"
    return "other"


def _add(sums: dict[str, list[float]], block: str, change: object, weight: object) -> None:
    row = sums.setdefault(block, [0.0, 0.0])
    row[0] += float(change)  # type: ignore[arg-type]
    row[1] += float(weight)  # type: ignore[arg-type]


def _rows(sums: dict[str, list[float]]) -> tuple[BlockChange, ...]:
    ordered = sorted(sums.items(), key=lambda row: _place(row[0]))
    return tuple(BlockChange(name, math.sqrt(d), math.sqrt(w)) for name, (d, w) in ordered)


def _place(block: str) -> tuple[int, str, int]:
    """Order blocks as they work: text encoders, down, middle, up, the rest."""
    order = ("clip", "te", "text", "input", "middle", "output", "other")
    rank = next(n for n, head in enumerate(order) if block.startswith(head))
    number = re.search(r"(\d+)$", block)
    return rank, re.sub(r"\d+$", "", block), int(number[1]) if number else 0
