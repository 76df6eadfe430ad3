"""What the GPU benchmark measures, in order of value: each row is a process of its own."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One training to measure.

    Attributes:
        family: ``SD1.5`` or ``SDXL``.
        batch: pictures per step.
        by: ``this pack``, ``diffusers + peft``, ``TrainLoraNode``, or ``torch.compile`` for this
            pack with a compiled UNet.
        precision: ``bf16``, ``fp16`` or ``fp32``.
        base_precision: how the frozen UNet is stored, as in the recipe.
        checkpointing: whether activations are recomputed.
        rank: of the LoRA.
    """

    family: str
    batch: int
    by: str = "this pack"
    precision: str = "bf16"
    base_precision: str = "as precision"
    checkpointing: bool = False
    rank: int = 32

    @property
    def size_px(self) -> int:
        """Side of the pictures."""
        return 1024 if self.family == "SDXL" else 512

    @property
    def title(self) -> str:
        """The row in words."""
        base = "" if self.base_precision == "as precision" else f", base {self.base_precision}"
        recomputed = ", checkpointing" if self.checkpointing else ""
        return (
            f"{self.family} {self.size_px}², batch {self.batch}, {self.precision}{base}, "
            f"rank {self.rank}{recomputed}"
        )


def _against(row: Row, *others: str) -> list[Row]:
    """Return a row, and the same by others right after it."""
    return [row, *(dataclasses.replace(row, by=other) for other in others)]


_OTHERS = ("diffusers + peft", "TrainLoraNode")
_XL = Row("SDXL", 1, checkpointing=True)
_SD = Row("SD1.5", 1)

ROWS = (
    *_against(_XL, *_OTHERS),
    dataclasses.replace(_XL, base_precision="fp8"),
    dataclasses.replace(_XL, base_precision="fp8", rank=128),
    *_against(_SD, *_OTHERS),
    *_against(dataclasses.replace(_SD, batch=4), *_OTHERS, "torch.compile"),
    *_against(dataclasses.replace(_XL, batch=4), *_OTHERS),
    dataclasses.replace(_XL, checkpointing=False),
    dataclasses.replace(_XL, base_precision="nf4"),
    dataclasses.replace(_XL, precision="fp16"),
    dataclasses.replace(_XL, by="torch.compile"),
    dataclasses.replace(_SD, checkpointing=True),
    dataclasses.replace(_SD, precision="fp16"),
    dataclasses.replace(_SD, base_precision="fp8"),
    dataclasses.replace(_SD, base_precision="nf4"),
    dataclasses.replace(_XL, batch=4, checkpointing=False),
)
"""SD1.5 512² and SDXL 1024², batch 1 and 4; what is compared stands together."""
