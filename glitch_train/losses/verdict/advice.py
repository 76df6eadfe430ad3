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
        return dataclasses.asdict(self) | {"confidence": round(self.confidence, 3)}


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
    evidence = {
        **{"convergence": convergence.state, "fit": fit.state, "stability": stability.state},
        **{name: settings.get(name) for name in ("learning_rate", "network_dim", "steps")},
        "techniques": use,
    }
    sure = min(convergence.confidence, stability.confidence)
    return Advice(learn or ["Nothing stands out; keep these settings."], glitch, sure, evidence)


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
    lower, then = f"ower learning_rate {to}", "use a snapshot from before the break"
    if "passed_over" in stability.evidence:
        then = "the steps passed over taught nothing"
    advice = {
        "nan": f"L{lower}, or train in precision fp32; {then}.",
        "diverged": f"L{lower}, with some warmup steps; use a snapshot from before the rise.",
        "spiky": "Raise batch_size or gradient_accumulation, so that single pictures and timesteps "
        f"weigh less; if the spikes stay: l{lower}.",
        "oscillating": f"L{lower}; if one swing is one epoch long, it is the pictures' order.",
    }
    return [advice[stability.state]] if stability.state in advice else []


def _on_convergence(
    convergence: Finding, fit: Finding, record: LossRecord, settings: dict[str, Any]
) -> list[str]:
    state, rate = convergence.state, settings.get("learning_rate")
    # A probe is so steady that even a LoRA that hardly moves is seen to fall.
    creeps = state == "still_falling" and fit.state == "underfit"
    if rate is not None and rate < LOW_LEARNING_RATE and (creeps or state == "flat_from_start"):
        return [f"Raise learning_rate: at {rate_text(rate)} the LoRA hardly moves; try 1e-4."]
    more = "500–1000" if settings.get("steps", 0) <= 4000 else number(settings["steps"] / 4, 2)
    raised = f"from {rate_text(rate)} to {_rounded(rate * 3)}" if rate else "threefold"
    advice = {
        "converged": _on_converged(convergence, record.steps[0], settings),
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
    again = f"Train {more} steps further and read the curve again"
    return f"{again}; a probe (probe_every) shows what noise hides."


def _rounded(rate: float) -> str:
    return rate_text(float(f"{rate:.1g}"))


def _on_converged(convergence: Finding, first: float, settings: dict[str, Any]) -> str:
    step, dim = convergence.step or 0.0, settings.get("network_dim")
    if step - first < FLAT_EARLY * (settings.get("steps", 0.0) - first):
        enough = words_for_step(float(f"{step * SPARE:.2g}"))
        flat = f"the loss is flat from step {words_for_step(step)} on"
        return f"Fewer steps would do: {flat}; about {enough} steps are enough."
    wider = f"{dim} → {round(dim * 1.5)}" if dim else "for example 128 → 192"
    return f"For slightly sharper detail: extend by 500–1000 steps, or raise network_dim ({wider})."


def _on_fit(fit: Finding, convergence: Finding) -> list[str]:
    if fit.state == "overfit":
        at = f"Stop at step {words_for_step(fit.step or 0.0)}, where the held-out probe was lowest"
        back = "more pictures, fewer repeats or a smaller network_dim push that point back"
        return [f"{at}, or use the snapshot nearest to it; {back}."]
    if fit.state == "underfit" and convergence.state != "still_falling":
        more = "more steps, a higher learning_rate or a larger network_dim (128 → 192)"
        return [f"The probe says there is more to learn: {more}."]
    return []


def _to_glitch(settings: dict[str, Any]) -> tuple[list[str], dict[str, bool | None]]:
    """Return the techniques not in use yet, those known to be unused first."""
    use = {technique.name: technique.in_use(settings) for technique in TECHNIQUES}
    words: dict[bool, list[str]] = {False: [], True: []}
    for one in TECHNIQUES:
        unknown = " (Not known whether this run used it.)" * (use[one.name] is None)
        if not use[one.name]:
            told = f"{one.name[0].upper()}{one.name[1:]}: {one.effect}.{unknown}"
            words[bool(unknown)].append(told)
    return words[False] + words[True], use
