"""Stability: spikes, swings, divergence and values that are no numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...wording import number, percent, tidy_step, words_for_step
from .curve import SMALLEST, Curve
from .departures import Hump, Oscillation, Spikes
from .finding import Finding
from .reading import MIN_POINTS, Reading

SHORT_BLOW_UP = 2.0
"""In a short run: the last values are all this many times the largest of the first half."""

MAX_NAMED = 5


def judge_stability(reading: Reading, convergence: Finding, passed_over: int = 0) -> Finding:
    """Return ``stable``, ``spiky``, ``oscillating``, ``diverged`` or ``nan``.

    The worst that applies is the state; the evidence has all of them.

    Args:
        reading: of the losses.
        convergence: of the same; a loss that diverges is not stable.
        passed_over: steps that changed nothing, as they were not finite.
    """
    curve, spikes, swing = reading.curve, reading.spikes, reading.swing
    evidence = _evidence(reading)
    if curve.not_finite:
        return _not_finite(curve, passed_over, evidence)
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
    if reading.hump is not None and not swing.found:
        return _humped(reading.hump, evidence)
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


def _not_finite(curve: Curve, passed_over: int, evidence: dict[str, Any]) -> Finding:
    kind = "infinite" if curve.infinite == curve.not_finite else "not a number"
    many = f"{curve.not_finite:,} losses (or gradients) are"
    times = many if curve.not_finite > 1 else "one loss (or gradient) is"
    words = f"Broken: {times} {kind}, first at step {words_for_step(curve.bad_step or 0.0)}."
    if passed_over:
        evidence["passed_over"] = passed_over
        steps = "1 step was" if passed_over == 1 else f"{passed_over:,} steps were"
        words += f" {steps} passed over (glitch_through), changing nothing."
    return Finding("nan", 1.0, words, evidence)


def _short(curve: Curve, evidence: dict[str, Any]) -> Finding:
    values, half = curve.values, len(curve) // 2
    last = values[-max(1, len(curve) // 5) :]
    if half >= 2 and float(last.min()) > SHORT_BLOW_UP * float(np.max(np.abs(values[:half]))):
        level = number(float(last.mean()))
        words = f"the last losses ({level}) are more than twice the largest of the first half"
        return Finding("diverged", 0.7, f"Diverged: {words}.", evidence)
    return Finding("stable", 0.2, "Too short to tell; nothing unusual so far.", evidence)


def _spiky(spikes: Spikes, evidence: dict[str, Any]) -> Finding:
    many = len(spikes.steps)
    named = ", ".join(words_for_step(step) for step in spikes.steps[:MAX_NAMED])
    more = f" and {many - MAX_NAMED} more" if many > MAX_NAMED else ""
    found = f"{many} spike{'s' if many > 1 else ''} (step {named}{more})"
    words = f"{found}, up to {number(max(spikes.heights), 2)} times the surroundings."
    return Finding("spiky", 0.95 if many > 1 else 0.85, words, evidence)


def _humped(hump: Hump, evidence: dict[str, Any]) -> Finding:
    begin, end = (words_for_step(tidy_step(step)) for step in hump.steps)
    evidence |= {"hump_steps": list(hump.steps), "hump_height": hump.height}
    times = f"{number(hump.height, 2)} times its level before and after"
    words = f"A hump: from about step {begin} to {end} the loss lay at {times}."
    return Finding("spiky", 0.9, words, evidence)


def _oscillating(curve: Curve, swing: Oscillation, evidence: dict[str, Any]) -> Finding:
    period = evidence["period_steps"] = float(np.ptp(curve.steps)) / max(swing.cycles, 1e-9)
    words = (
        f"Oscillating: about {swing.cycles:.0f} swings of {percent(swing.swing)} of the level, "
        f"one per {words_for_step(round(period) if period > 20 else period)} steps, "
        f"{percent(swing.share)} of all variation around the trend."
    )
    return Finding("oscillating", min(0.99, 0.6 + swing.share / 2), words, evidence)
