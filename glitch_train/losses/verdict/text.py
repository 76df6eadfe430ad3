"""A verdict as Markdown, and as rows for the table under a graph."""

from __future__ import annotations

from ...wording import number
from .diagnose import Verdict
from .finding import Finding
from .fit import CANNOT

Row = tuple[str, str, str]
"""Metric, status, notes."""

GOOD, BAD, UNSURE = "✅", "❌", "⚠️"
STATES = {
    "converged": (GOOD, "Yes"),
    "still_falling": (UNSURE, "Not yet"),
    "flat_from_start": (BAD, "Flat from the start"),
    "diverging": (BAD, "Diverging"),
    "too_short": (UNSURE, "Too short to tell"),
    "stable": (GOOD, "Stable"),
    "spiky": (UNSURE, "Spiky"),
    "oscillating": (UNSURE, "Oscillating"),
    "diverged": (BAD, "Diverged"),
    "nan": (BAD, "Broken (NaN)"),
}
WORDS = {state: words for state, (_, words) in STATES.items()}


def verdict_rows(verdict: Verdict) -> list[Row]:
    """Return the log's table: metric, status and notes, without symbols."""
    under, over = _fit_rows(verdict.fit)
    start, final = (verdict.levels.evidence[end] for end in ("start", "final"))
    levels = "none" if start is None else f"{number(start)} → {number(final)}"
    return [
        ("Convergence", WORDS[verdict.convergence.state], verdict.convergence.sentence),
        ("Underfitting", *under),
        ("Overfitting", *over),
        ("Training stability", WORDS[verdict.stability.state], verdict.stability.sentence),
        ("Loss", levels, verdict.levels.sentence),
    ]


def to_markdown(verdict: Verdict) -> str:
    """Return the verdict: how it was read, a table, a paragraph and two lists of advice."""
    fit, parts = verdict.fit, [verdict.convergence, verdict.stability, verdict.fit, verdict.levels]
    beside = (  # each row's finding and mark
        (verdict.convergence, STATES[verdict.convergence.state][0]),
        (fit, BAD if fit.state == "underfit" else ""),
        (fit, BAD if fit.state == "overfit" else ""),
        (verdict.stability, STATES[verdict.stability.state][0]),
        (verdict.levels, ""),
    )
    lines = [f"### {_plain(verdict.name)}", ""]
    if verdict.notes:
        lines += [_plain(" ".join(verdict.notes)), ""]
    lines += ["| Metric | Status | Sure | Notes |", "| --- | --- | --- | --- |"]
    for (metric, status, notes), (part, mark) in zip(verdict_rows(verdict), beside, strict=True):
        chance = f"{100 * min(1.0, max(0.0, part.confidence)):.0f} %"
        lines.append(f"| {metric} | {f'{mark} {status}'.strip()} | {chance} | {_plain(notes)} |")
    method = verdict.convergence.evidence.get("method")
    how = [f"How: {method}."] if method else []
    lines += ["", _plain(" ".join([*(part.sentence for part in parts), *how]))]
    lines += ["", "**To learn better**", "", *(f"- {one}" for one in verdict.advice.learn)]
    lines += ["", "**To glitch more**", "", *(f"- {one}" for one in verdict.advice.glitch)]
    return "\n".join(lines) + "\n"


def _fit_rows(fit: Finding) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return status and notes of underfitting and of overfitting."""
    unseen = "Cannot be told"
    if fit.state == "underfit":
        held_out = "held_out" in fit.evidence
        return ("Yes", fit.sentence), ("No sign", "") if held_out else (unseen, CANNOT)
    if fit.state == "overfit":
        return ("No", ""), ("Yes", fit.sentence)
    if fit.state == "fits":
        return ("No", fit.sentence), ("No sign", fit.sentence)
    if "training" in fit.evidence and fit.sentence.endswith(CANNOT):
        return ("No", fit.sentence.removesuffix(CANNOT).strip()), (unseen, CANNOT)
    under = "No" if "training" in fit.evidence else unseen
    return (under, fit.sentence if under == "No" else ""), (unseen, fit.sentence)


def _plain(text: str) -> str:
    """Keep a name from breaking the table."""
    return " ".join(text.replace("|", "¦").split())
