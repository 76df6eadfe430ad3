"""A verdict as Markdown, and as rows for the table under a graph."""

from __future__ import annotations

from ...wording import loss_text
from .diagnose import Verdict
from .finding import Finding
from .fit import CANNOT

Row = tuple[str, str, str]
"""Metric, status, notes."""

WORDS = {
    "converged": "Yes",
    "still_falling": "Not yet",
    "flat_from_start": "Flat from the start",
    "diverging": "Diverging",
    "too_short": "Too short to tell",
    "stable": "Stable",
    "spiky": "Spiky",
    "oscillating": "Oscillating",
    "diverged": "Diverged",
    "nan": "Broken (NaN)",
}
GOOD, BAD, UNSURE = "✅", "❌", "⚠️"
SYMBOLS = {
    "converged": GOOD,
    "still_falling": UNSURE,
    "flat_from_start": BAD,
    "diverging": BAD,
    "too_short": UNSURE,
    "stable": GOOD,
    "spiky": UNSURE,
    "oscillating": UNSURE,
    "diverged": BAD,
    "nan": BAD,
}


def verdict_rows(verdict: Verdict) -> list[Row]:
    """Return the log's table: metric, status and notes, without symbols."""
    under, over = _fit_rows(verdict.fit)
    return [
        ("Convergence", WORDS[verdict.convergence.state], verdict.convergence.sentence),
        ("Underfitting", *under),
        ("Overfitting", *over),
        ("Training stability", WORDS[verdict.stability.state], verdict.stability.sentence),
        ("Loss", _levels(verdict.levels), verdict.levels.sentence),
    ]


def to_markdown(verdict: Verdict) -> str:
    """Return the verdict: how it was read, a table, a paragraph and two lists of advice."""
    marks = {
        "Convergence": SYMBOLS[verdict.convergence.state],
        "Training stability": SYMBOLS[verdict.stability.state],
        "Underfitting": BAD if verdict.fit.state == "underfit" else "",
        "Overfitting": BAD if verdict.fit.state == "overfit" else "",
    }
    sure = {
        "Convergence": verdict.convergence,
        "Training stability": verdict.stability,
        "Underfitting": verdict.fit,
        "Overfitting": verdict.fit,
        "Loss": verdict.levels,
    }
    lines = [f"### {_plain(verdict.name)}", ""]
    if verdict.notes:
        lines += [_plain(" ".join(verdict.notes)), ""]
    lines += ["| Metric | Status | Sure | Notes |", "| --- | --- | --- | --- |"]
    for metric, status, notes in verdict_rows(verdict):
        mark = f"{marks.get(metric, '')} {status}".strip()
        chance = f"{100 * min(1.0, max(0.0, sure[metric].confidence)):.0f} %"
        lines.append(f"| {metric} | {mark} | {chance} | {_plain(notes)} |")
    lines += ["", _paragraph(verdict), "", "**To learn better**", ""]
    lines += [f"- {one}" for one in verdict.advice.learn]
    lines += ["", "**To glitch more**", ""]
    lines += [f"- {one}" for one in verdict.advice.glitch]
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
    under = "No" if "training" in fit.evidence else unseen
    return (under, fit.sentence if under == "No" else ""), (unseen, fit.sentence)


def _levels(levels: Finding) -> str:
    start, final = levels.evidence["start"], levels.evidence["final"]
    return "none" if start is None or final is None else f"{loss_text(start)} → {loss_text(final)}"


def _paragraph(verdict: Verdict) -> str:
    parts = [verdict.convergence, verdict.stability, verdict.fit, verdict.levels]
    method = verdict.convergence.evidence.get("method")
    return _plain(
        " ".join(part.sentence for part in parts) + (f" How: {method}." if method else "")
    )


def _plain(text: str) -> str:
    """Keep a name from breaking the table."""
    return " ".join(text.replace("|", "¦").split())
