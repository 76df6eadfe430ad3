"""One judged aspect of a run: a state, how sure it is, why, and in words."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Finding:
    """One aspect.

    Attributes:
        state: a word out of the aspect's fixed list.
        confidence: probability that the state is right, 0..1.
        sentence: state and reason for a person.
        evidence: the numbers behind it.
        step: where it happened, where that means something.
    """

    state: str
    confidence: float
    sentence: str
    evidence: dict[str, Any]
    step: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "state": self.state,
            "confidence": round(min(1.0, max(0.0, self.confidence)), 3),
            "sentence": self.sentence,
            "evidence": plain(self.evidence),
        }


def plain(value: Any) -> Any:
    """Return a value that JSON holds: six significant digits, None for what is not finite."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return float(f"{number:.6g}")


def tidy_step(step: float) -> float:
    """Return a step with three digits: no curve tells it closer."""
    return float(f"{step:.3g}")


def words_for_step(step: float) -> str:
    """Return ``1,230`` or ``4.25``."""
    return f"{step:,.0f}" if step == round(step) or abs(step) >= 20 else f"{step:.3g}"


def percent(share: float) -> str:
    """Return ``12 %``, with one decimal below ten, and never a signed or bare zero."""
    number = 100 * share
    if abs(number) < 0.05:
        return "less than 0.1 %" if number else "0 %"
    return f"{number:.0f} %" if abs(number) >= 9.95 else f"{number:.1f} %"
