"""Read a loss record as an expert would: convergence, fit, stability, levels and advice."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np

from ...wording import plain
from ..record import LossRecord
from .advice import Advice, advise
from .convergence import judge_convergence
from .curve import clean_curve
from .finding import Finding
from .fit import judge_fit
from .levels import judge_levels
from .reading import MIN_TREND_POINTS, Reading, measured, read_curve
from .stability import judge_stability

UNSURE_BELOW = 0.6
"""Below this confidence the raw loss gives way to a probe, which has far less noise."""

UNTOLD = "too_short"
"""The state of what cannot be told."""

DECAYED = 0.1
"""A learning rate below this share of its largest no longer moves the LoRA much."""


@dataclasses.dataclass(frozen=True)
class Verdict:
    """The judgement of one run; ``notes`` say how its log was read."""

    name: str
    convergence: Finding
    fit: Finding
    stability: Finding
    levels: Finding
    advice: Advice
    reading: Reading
    notes: list[str] = dataclasses.field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: what ``verdict --json`` prints."""
        levels = self.levels.to_dict()
        del levels["state"]
        convergence, fit = (
            {"state": one.state, "step": plain(one.step), **one.to_dict()}
            for one in (self.convergence, self.fit)
        )
        return {
            "name": self.name,
            "notes": self.notes,
            "convergence": convergence,
            "fit": fit,
            "stability": self.stability.to_dict(),
            **{key: levels["evidence"][key] for key in ("start", "final", "drop")},
            "levels": levels,
            "advice": plain(self.advice.to_dict()),
        }

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)


def diagnose(record: LossRecord) -> Verdict:
    """Judge a record.

    Args:
        record: at least one loss; NaN, infinity and steps out of order are judged, not refused.
    """
    losses = record.array("loss")
    only_gradient = (record.array("not_finite") == 1) & np.isfinite(losses)
    reading = read_curve(clean_curve(record.array("step"), np.where(only_gradient, np.nan, losses)))
    of_loss = judge_convergence(reading)
    convergence = _with_schedule(record, _with_probe(record, of_loss))
    fit = judge_fit(record, reading.trend)
    stability = judge_stability(reading, of_loss, record.about.passed_over)
    levels = judge_levels(record, reading)
    advice = advise(record, convergence, fit, stability)
    notes = record.about.notes
    return Verdict(record.name, convergence, fit, stability, levels, advice, reading, notes)


def _with_probe(record: LossRecord, finding: Finding) -> Finding:
    """Judge convergence on a probe where the raw loss is too noisy to say."""
    if finding.confidence >= UNSURE_BELOW and finding.state != UNTOLD:
        return finding
    for column in ("train_probe_loss", "probe_loss"):
        curve = measured(record, column, MIN_TREND_POINTS)
        if curve is None:
            continue
        probed = judge_convergence(read_curve(curve), MIN_TREND_POINTS)
        if probed.state == finding.state == UNTOLD:
            break
        # What the probe cannot tell, an unsure raw loss cannot either.
        evidence = probed.evidence | {
            "judged_on": column,
            "raw_loss_says": {"state": finding.state, "sentence": finding.sentence},
        }
        sentence = f"{probed.sentence} (Judged on the probe: the raw loss is too noisy.)"
        return dataclasses.replace(probed, evidence=evidence, sentence=sentence)
    return finding


def _with_schedule(record: LossRecord, finding: Finding) -> Finding:
    """Say so where the curve may be flat only because the learning rate ran out."""
    rates = record.array("learning_rate")
    rates = rates[np.isfinite(rates)]
    if finding.state != "converged" or not len(rates) or rates[-1] >= DECAYED * rates.max():
        return finding
    note = " The learning rate had nearly run out by then, which flattens any curve."
    evidence = finding.evidence | {"final_learning_rate_share": float(rates[-1] / rates.max())}
    return dataclasses.replace(finding, sentence=finding.sentence + note, evidence=evidence)
