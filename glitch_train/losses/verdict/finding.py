"""One judged aspect of a run: a state, how sure it is, why, and in words."""

from __future__ import annotations

import dataclasses
from typing import Any

from ...wording import plain


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
