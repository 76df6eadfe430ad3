"""Stability: spikes, swings, divergence and values that are no numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...wording import number, percent, words_for_step
from .curve import SMALLEST, Curve
from .departures import Oscillation, Spikes
from .finding import Finding
from .reading import MIN_POINTS, Reading

SHORT_BLOW_UP = 2.0
"""In a short run: the last values are all this many times the largest of the first half."""

MAX_NAMED = 5


def judge_stability(reading: Reading, convergence: Finding) -> Finding:
    """Return ``stable``, ``spiky``, ``oscillating``, ``diverged`` or ``nan``.

    The worst that applies is the state; the evidence has all of them.

    Args:
        reading: of the losses.
        convergence: of the same; a loss that diverges is not stable.
    """
    curve, spikes, swing = reading.curve, reading.spikes, reading.swing
    evidence = _evidence(reading)
    if curve.not_finite:
        return _not_finite(curve, evidence)
    if convergence.state == "diverging":
        of = convergence.evidence
        if "jump_ratio" in of:
            evidence["jump_ratio"] = of["jump_ratio"]
        else:
            evidence["rise_share"] = of["rise"] / max(abs(of["lowest"]), SMALLEST)
        words = "Diverged: the loss rose and did not come back."
        return Finding("diverged", convergence.confidence, words, evidence)
    if spikes is None or swing is None or curve.points < MIN_POINTS:
        return _short(curve, evidence)
    # The crests of a swing are no spikes: beside one, a spike must stand out of it.
    crest = 1 + 2 * swing.swing if swing.found else 0.0
    if any(height > crest for height in spikes.heights):
        return _spiky(spikes, evidence)
    if swing.found:
        return _oscillating(curve, swing, evidence)
    sure = 0.95 if curve.points >= 200 else 0.8
    return Finding("stable", sure, "No spikes, no swings, no divergence.", evidence)


def _evidence(reading: Reading) -> dict[str, Any]:
    curve, spikes, swing = reading.curve, reading.spikes, reading.swing
    evidence: dict[str, Any] = {
        "points": curve.points,
        "not_finite": curve.not_finite,
        "infinite": curve.infinite,
        "first_not_finite_step": curve.bad_step,
        "steps_out_of_order": curve.shuffled,
    }
    if spikes is not None:
        evidence |= {
            "spikes": len(spikes.steps),
            "spike_steps": list(spikes.steps[:50]),
            "spike_heights": list(spikes.heights[:50]),
            "fence_in_mads": spikes.fence,
        }
    if swing is not None:
        evidence |= {
            "swings": swing.cycles,
            "swing_size_share": swing.swing,
            "swing_share_of_variation": swing.share,
            "swing_prominence": swing.prominence,
        }
    return evidence


def _not_finite(curve: Curve, evidence: dict[str, Any]) -> Finding:
    kind = "infinite" if curve.infinite == curve.not_finite else "not a number"
    many = f"{curve.not_finite:,} losses (or gradients) are"
    times = many if curve.not_finite > 1 else "one loss (or gradient) is"
    step = words_for_step(curve.bad_step or 0.0)
    return Finding("nan", 1.0, f"Broken: {times} {kind}, first at step {step}.", evidence)


def _short(curve: Curve, evidence: dict[str, Any]) -> Finding:
    values, half = curve.values, len(curve) // 2
    last = values[-max(1, len(curve) // 5) :]
    if half >= 2 and float(last.min()) > SHORT_BLOW_UP * float(np.max(np.abs(values[:half]))):
        return Finding(
            "diverged",
            0.7,
            f"Diverged: the last losses ({number(float(last.mean()))}) are more than twice the "
            "largest of the first half.",
            evidence,
        )
    return Finding("stable", 0.2, "Too short to tell; nothing unusual so far.", evidence)


def _spiky(spikes: Spikes, evidence: dict[str, Any]) -> Finding:
    many = len(spikes.steps)
    named = ", ".join(words_for_step(step) for step in spikes.steps[:MAX_NAMED])
    more = f" and {many - MAX_NAMED} more" if many > MAX_NAMED else ""
    return Finding(
        "spiky",
        0.95 if many > 1 else 0.85,
        f"{many} spike{'s' if many > 1 else ''} (step {named}{more}), up to "
        f"{number(max(spikes.heights), 2)} times the surroundings.",
        evidence,
    )


def _oscillating(curve: Curve, swing: Oscillation, evidence: dict[str, Any]) -> Finding:
    period = float(np.ptp(curve.steps)) / max(swing.cycles, 1e-9)
    return Finding(
        "oscillating",
        min(0.99, 0.6 + swing.share / 2),
        f"Oscillating: about {swing.cycles:.0f} swings of {percent(swing.swing)} of the level, "
        f"one per {words_for_step(round(period) if period > 20 else period)} steps, "
        f"{percent(swing.share)} of all variation around the trend.",
        evidence | {"period_steps": period},
    )
