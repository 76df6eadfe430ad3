"""The settings of a transfer: which module goes where, how it is made to fit, how loud it is."""

from __future__ import annotations

import dataclasses

from ..seeds import MAX_SEED
from ..settings import choice, integer, number, validate

MAPPINGS = ("by_role", "by_depth", "by_name", "shuffled", "strict")
FITS = ("crop", "stretch", "tile", "project", "svd")
DEPTHS = ("first", "last", "mean", "sum", "each")
NORMS = ("leave", "match", "loudness")
SECOND_ENCODER = ("leave_out", "by_layer_depth")


@dataclasses.dataclass(frozen=True)
class TransferRecipe:
    """How a LoRA is carried over. The order of fields is the order of widgets."""

    mapping: str = choice(
        "by_role",
        MAPPINGS,
        "Which module feeds which. by_role: the same job at the same stage and nearest level. "
        "by_depth: the same job at the same relative depth. by_name: what the host's loader does, "
        "but only where the shape agrees. shuffled: by_role, then permuted among modules of the "
        "same shape. strict: refuse a LoRA of another family.",
    )
    fit: str = choice(
        "stretch",
        FITS,
        "How a factor meets another dimension. crop: cut, or pad with zeros. stretch: interpolate. "
        "tile: repeat. project: seeded random orthogonal map, which scatters it and keeps its "
        "loudness. svd: stretch the singular directions and keep their strengths.",
    )
    depth: str = choice(
        "first",
        DEPTHS,
        "Which of several source blocks feeds one target block: the first, the last, their mean or "
        "sum (cut back to the LoRA's rank), or each of them whole, which multiplies the rank.",
    )
    norm: str = choice(
        "leave",
        NORMS,
        "leave: as loud as it comes out. match: each module as loud against its weight as on its "
        "own base. loudness: each module as loud as the number below.",
    )
    loudness: float = number(
        0.1,
        0.0,
        10.0,
        "For norm = loudness: size of the change against the weight, ‖ΔW‖ / ‖W‖. 0.03 is gentle, "
        "0.1 strong, 0.5 destroys.",
        step=0.005,
    )
    te2: str = choice(
        "leave_out",
        SECOND_ENCODER,
        "The second text encoder, which only the SDXL family has. by_layer_depth: carry it onto "
        "the one text encoder of SD1.5, or the one onto both, by relative layer.",
    )
    seed: int = integer(0, 0, MAX_SEED, "Seeds shuffled and project: same seed, same file.")

    def __post_init__(self) -> None:
        validate(self)
