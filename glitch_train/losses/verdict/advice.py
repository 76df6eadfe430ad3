"""What to do next: how to learn better, and, never mixed with it, how to glitch more."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...recipe.experiments import TECHNIQUES, settings_of
from ...wording import number, rate_text, words_for_step
from ..record import LossRecord
from .finding import Finding
from .reading import MIN_POINTS

FLAT_EARLY = 0.6
"""A run that was flat before this share of its steps could have been shorter."""

SPARE = 1.2
"""How many times the step of flattening a shorter run should take."""

LOW_LEARNING_RATE = 2e-5

ENOUGH = 200
"""Of a run with fewer losses, nothing is asked but that it be longer."""


@dataclasses.dataclass(frozen=True)
class Advice:
    """Advice of two kinds.

    Attributes:
        learn: to learn better.
        glitch: to glitch more.
        confidence: of the findings it rests on.
        evidence: what it rests on.
    """

    learn: list[str]
    glitch: list[str]
    confidence: float
    evidence: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "learn": self.learn,
            "glitch": self.glitch,
            "confidence": round(self.confidence, 3),
            "evidence": self.evidence,
        }


def advise(record: LossRecord, convergence: Finding, fit: Finding, stability: Finding) -> Advice:
    """Return the advice that follows from the findings.

    Args:
        record: for its length, learning rate and recipe.
        convergence: as judged.
        fit: as judged.
        stability: as judged.
    """
    settings = _settings(record)
    learn = [
        *_on_stability(stability, settings),
        # What still falls while held-out pictures get worse is memory: no reason to train longer.
        *(_on_convergence(convergence, fit, record, settings) if fit.state != "overfit" else ()),
        *_on_fit(fit, convergence),
    ]
    glitch, use = _to_glitch(settings)
    resting = [one.confidence for one in (convergence, stability)]
    return Advice(
        learn or ["Nothing stands out; keep these settings."],
        glitch,
        min(resting),
        {
            "convergence": convergence.state,
            "fit": fit.state,
            "stability": stability.state,
            "learning_rate": settings.get("learning_rate"),
            "network_dim": settings.get("network_dim"),
            "steps": settings.get("steps"),
            "techniques": use,
        },
    )


def _settings(record: LossRecord) -> dict[str, Any]:
    """Return what is known: what the run did counts more than what its recipe wanted."""
    settings = settings_of(record.about.recipe)
    for setting, column in (("learning_rate", "learning_rate"), ("steps", "step")):
        values = record.array(column)
        if np.isfinite(values).any():
            settings[setting] = float(values[np.isfinite(values)].max())
    return settings


def _on_stability(stability: Finding, settings: dict[str, Any]) -> list[str]:
    rate = settings.get("learning_rate")
    to = f"from {rate_text(rate)} to {_rounded(rate / 3)}" if rate else "to a third"
    lower = f"ower learning_rate {to}"
    passed_over = "passed_over" in stability.evidence
    then = (
        "the steps passed over taught nothing"
        if passed_over
        else ("use a snapshot from before the break")
    )
    advice = {
        "nan": f"L{lower}, or train in precision fp32; {then}.",
        "diverged": f"L{lower}, with some warmup steps; use a snapshot from before the rise.",
        "spiky": "Raise batch_size or gradient_accumulation, so that single pictures and timesteps "
        f"weigh less; if the spikes stay: l{lower}.",
        "oscillating": f"L{lower}; if one swing is one epoch long, it is the order of the "
        "pictures.",
    }
    return [advice[stability.state]] if stability.state in advice else []


def _on_convergence(
    convergence: Finding, fit: Finding, record: LossRecord, settings: dict[str, Any]
) -> list[str]:
    state, rate = convergence.state, settings.get("learning_rate")
    steps = settings.get("steps", 0.0)
    # A probe is so steady that even a LoRA that hardly moves is seen to fall.
    creeps = state == "still_falling" and fit.state == "underfit"
    if rate is not None and rate < LOW_LEARNING_RATE and (creeps or state == "flat_from_start"):
        return [f"Raise learning_rate: at {rate_text(rate)} the LoRA hardly moves; try 1e-4."]
    if state == "converged":
        return _on_converged(convergence, record, settings)
    more = "500–1000" if steps <= 4000 else number(steps / 4, 2)
    raised = f"from {rate_text(rate)} to {_rounded(rate * 3)}" if rate else "threefold"
    advice = {
        "still_falling": f"Train longer: extend by {more} steps, the loss has not levelled off.",
        "flat_from_start": f"Raise learning_rate {raised}, or look at a probe: the raw loss may "
        "hide what is learned.",
        "too_short": _on_untold(convergence, more),
    }
    return [advice[state]] if state in advice else []


def _on_untold(convergence: Finding, more: str) -> str:
    points, averaged = (convergence.evidence.get(one, 0) for one in ("points", "averaged_over"))
    if points < ENOUGH:
        return "Train for at least a few hundred steps before reading the curve."
    if averaged * MIN_POINTS > points:
        return "Log the loss of every step: of an average over so many steps little can be read."
    return (
        f"Train {more} steps further and read the curve again; a probe (probe_every) shows what "
        "noise hides."
    )


def _rounded(rate: float) -> str:
    return rate_text(float(f"{rate:.1g}"))


def _on_converged(convergence: Finding, record: LossRecord, settings: dict[str, Any]) -> list[str]:
    first, steps = record.steps[0], settings.get("steps", 0.0)
    step = convergence.step or 0.0
    if step - first < FLAT_EARLY * (steps - first):
        enough = words_for_step(float(f"{step * SPARE:.2g}"))
        return [
            f"Fewer steps would do: the loss is flat from step {words_for_step(step)} on; about "
            f"{enough} steps are enough."
        ]
    dim = settings.get("network_dim")
    wider = f"{dim} → {round(dim * 1.5)}" if dim else "for example 128 → 192"
    return [
        f"For slightly sharper detail: extend by 500–1000 steps, or raise network_dim ({wider})."
    ]


def _on_fit(fit: Finding, convergence: Finding) -> list[str]:
    if fit.state == "overfit":
        at = words_for_step(fit.step or 0.0)
        return [
            f"Stop at step {at}, where the held-out probe was lowest, or use the snapshot nearest "
            "to it; more pictures, fewer repeats or a smaller network_dim push that point back."
        ]
    if fit.state == "underfit" and convergence.state != "still_falling":
        return [
            "The probe says there is more to learn: more steps, a higher learning_rate or a "
            "larger network_dim (128 → 192)."
        ]
    return []


def _to_glitch(settings: dict[str, Any]) -> tuple[list[str], dict[str, bool | None]]:
    """Return the techniques not in use yet, those known to be unused first."""
    use = {technique.name: technique.in_use(settings) for technique in TECHNIQUES}
    ordered = sorted(
        (one for one in TECHNIQUES if not use[one.name]), key=lambda one: use[one.name] is None
    )
    return [
        f"{one.name[0].upper()}{one.name[1:]}: {one.effect}."
        + (" (Not known whether this run used it.)" if use[one.name] is None else "")
        for one in ordered
    ], use
