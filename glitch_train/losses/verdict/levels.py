"""Start, final and drop of a run, beside the reference runs of the development log."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...wording import loss_text, percent
from ..record import LossRecord
from ..smoothing import Floats
from .curve import SMALLEST, Curve
from .finding import Finding
from .jump import Jump
from .trend import Trend

NOTHING_PREDICTED = 0.9
"""The target, noise or velocity, has variance 1: so much is lost when the prediction is zero."""


@dataclasses.dataclass(frozen=True)
class LoggedRun:
    """A run of the development log, as read off its graph."""

    name: str
    start: tuple[float, float]
    final: float | None


# SD1.5, noise prediction, mean squared error; the log has no figures for SDXL.
REFERENCES = (
    LoggedRun("SD1.5 standard", (0.07, 0.08), None),
    LoggedRun("SD1.5 uncropped portraits", (0.11, 0.12), 0.08),
)
REFERENCE_FAMILY = "SD1.5"
REFERENCE_LOSSES = ("mse", "l2")
AT_AN_END = 0.05
"""The share of a run whose mean is a level where the fitted trend leaves the losses' range."""

MANY_TIMES = 9.0
"""A growth beyond this many times the start is said as a multiple, not in per cent."""

NEAR = 0.15
"""A level within this share of the reference's range counts as like it."""


def judge_levels(
    record: LossRecord, curve: Curve, trend: Trend | None, jump: Jump | None
) -> Finding:
    """Return start, final and drop, in words and as evidence.

    Args:
        record: for the family and the loss it was trained with.
        curve: its losses.
        trend: their trend; None where there are too few, then ends are plain means.
        jump: a jump, whose level before is the start when it comes early.
    """
    start, final, error = _ends(curve, trend)
    if jump is not None:
        start = jump.before
    if start is not None and final is not None:
        few = max(1, round(AT_AN_END * len(curve)))
        start, final = (
            _seen(start, curve, curve.values[:few]),
            _seen(final, curve, curve.values[-few:]),
        )
    evidence: dict[str, Any] = {
        "start": start,
        "final": final,
        "drop": None if start is None or final is None else start - final,
        "drop_error": error,
    }
    if start is None or final is None:
        return Finding("none", 0.0, "There is no finite loss.", evidence)
    change = (start - final) / max(abs(start), SMALLEST)
    by = f"{'+' if change < 0 else ''}{percent(-change)}"
    if change < -MANY_TIMES:
        by = f"{loss_text(1 - change)} times the start"
    words = f"Loss {loss_text(start)} → {loss_text(final)} ({by})."
    compared, comparison = _compare(record, start, final, is_long=trend is not None)
    # A drop of no size has no relative error: then what counts is the error against the level.
    size = max(abs(start - final), 0.1 * abs(start), SMALLEST)
    confidence = 1 / (1 + (error / size) ** 2) if trend is not None else 0.3
    return Finding(
        "measured", confidence, f"{words} {compared}".strip(), evidence | {"compared": comparison}
    )


def _seen(level: float, curve: Curve, there: Floats) -> float:
    """Return a level, or the mean of the losses there where no loss ever was so low or high."""
    seen = curve.values.min() <= level <= curve.values.max()
    return level if seen else float(there.mean())


def _ends(curve: Curve, trend: Trend | None) -> tuple[float | None, float | None, float]:
    if len(curve) == 0:
        return None, None, 0.0
    if trend is not None:
        return trend.start.mean, trend.final.mean, trend.drop.error
    few = max(1, len(curve) // 4)
    first, last = curve.values[:few], curve.values[-few:]
    error = float(np.hypot(first.std(), last.std()) / np.sqrt(few))
    return float(first.mean()), float(last.mean()), error


def _compare(
    record: LossRecord, start: float, final: float, *, is_long: bool
) -> tuple[str, dict[str, Any]]:
    family, loss = record.about.family, (record.about.loss or "mse").lower()
    destroyed = is_long and start < NOTHING_PREDICTED < final  # else it was no better to begin with
    if family and loss in REFERENCE_LOSSES and destroyed:
        why = "a loss of about 1 is what predicting nothing gives: the model is destroyed"
        return f"{why[0].upper()}{why[1:]}.", {"comparable": False, "why": why}
    known = [{"run": one.name, "start": list(one.start), "final": one.final} for one in REFERENCES]
    if not family:
        return "", {"comparable": None, "why": "the record names no model family", "log": known}
    if family != REFERENCE_FAMILY or loss not in REFERENCE_LOSSES:
        why = f"the log's figures are for {REFERENCE_FAMILY} with MSE, this is {family} with {loss}"
        return f"Not comparable with the log: {why}.", {"comparable": False, "why": why}
    near = min(REFERENCES, key=lambda one: abs(start - sum(one.start) / 2))
    low, high = near.start
    place = _place(start, low * (1 - NEAR), high * (1 + NEAR))
    words = f"It starts {place} the log's {near.name} run ({low:g}–{high:g}"
    if near.final is None:
        words += ", then flat)."
    else:
        ends = _place(final, near.final * (1 - NEAR), near.final * (1 + NEAR))
        words += f") and ends {ends} it ({near.final:g})."
    return words, {"comparable": True, "nearest": near.name, "log": known}


def _place(value: float, low: float, high: float) -> str:
    return "below" if value < low else "above" if value > high else "like"
