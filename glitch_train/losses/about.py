"""What is known of a run beside its losses, as its record keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

Kind = TypeVar("Kind")

LAST_STEP = 2**53
"""No step number is larger: a float, as the graph needs it, counts no further (IEEE 754)."""


@dataclasses.dataclass(frozen=True)
class Ending:
    """Why a run stopped.

    Attributes:
        rule: ``steps``, ``stop_at_epochs``, ``stop_at_minutes`` or ``stop_at_drift``: finished;
            ``cancel`` or ``error``: it can go on.
        step: optimizer steps done.
        why: one sentence.
    """

    rule: str
    step: int
    why: str

    @property
    def is_stop(self) -> bool:
        """Whether the run was stopped before its end, and can go on."""
        return self.rule in ("cancel", "error")


@dataclasses.dataclass
class About:
    """What is known of a run; what is empty is not known, or there is none of it.

    Attributes:
        family: of the base model.
        loss: what was minimised: figures of different losses do not compare.
        recipe: the whole recipe, as plain values.
        memory: what was needed, what was free, and what was chosen for it.
        snapshots: steps at which the LoRA was saved on the way.
        passed_over: steps that changed nothing because they were not finite.
        skipped: updates that fp16's loss scale skipped.
        samples_missing: steps whose sample pictures could not be made.
        ended: why it stopped; None while it trains.
        notes: sentences on how the file was read, or what could not be written.
    """

    family: str = ""
    loss: str = ""
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    memory: str = ""
    snapshots: list[float] = dataclasses.field(default_factory=list)
    passed_over: int = 0
    skipped: int = 0
    samples_missing: list[float] = dataclasses.field(default_factory=list)
    ended: Ending | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def from_dict(cls, told: object) -> About:
        """Take what has the right type; a LOSS_MAP or file of others may say anything.

        Args:
            told: what :meth:`to_dict` gave, or whatever else was found in its place.
        """
        known = _mapping(told)
        return cls(
            family=_only(str, known.get("family")),
            loss=_only(str, known.get("loss")),
            recipe=_mapping(known.get("recipe")),
            memory=_only(str, known.get("memory")),
            snapshots=_steps(known.get("snapshots")),
            passed_over=_only(int, known.get("passed_over")),
            skipped=_only(int, known.get("skipped")),
            samples_missing=_steps(known.get("samples_missing")),
            ended=_ending(known.get("ended")),
            notes=_sentences(known.get("notes")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what is known as plain values."""
        values = vars(self) | {"ended": self.ended and dataclasses.asdict(self.ended)}
        return {name: value for name, value in values.items() if value}


def _only(kind: type[Kind], value: object) -> Kind:
    return value if isinstance(value, kind) else kind()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _steps(value: object) -> list[float]:
    found = value if isinstance(value, (list, tuple)) else ()
    return [one for one in found if isinstance(one, (int, float)) and 0 <= one <= LAST_STEP]


def _sentences(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _ending(value: object) -> Ending | None:
    match value:
        case {"rule": str(rule), "step": int(step), "why": str(why)}:
            return Ending(rule, step, why)
    return None
