"""Start, final and drop of a run, beside the reference runs of the development log."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...wording import change, number
from ..record import LossRecord
from .curve import SMALLEST
from .finding import Finding
from .fit import MIN_PROBES, read_probe
from .reading import Reading, measured
from .trend import GRID, START_ENDS

NOTHING_PREDICTED = 0.9
"""The target, noise or velocity, has variance 1: so much is lost when the prediction is zero."""

# SD1.5, noise prediction, mean squared error, as read off the log's graphs; none are of SDXL.
REFERENCES: tuple[dict[str, Any], ...] = (
    {"run": "SD1.5 standard", "start": [0.07, 0.08], "final": None},
    {"run": "SD1.5 uncropped portraits", "start": [0.11, 0.12], "final": 0.08},
)
REFERENCE_FAMILY, REFERENCE_LOSSES = "SD1.5", ("mse", "l2")

AT_AN_END = 0.05
"""The share of a run whose mean is a level where the fitted trend leaves the losses' range."""

NEAR = 0.15
"""A level within this share of the reference's range counts as like it."""


def judge_levels(record: LossRecord, reading: Reading) -> Finding:
    """Return start, final and drop, in words and as evidence.

    Args:
        record: for the family and the loss it was trained with.
        reading: of its losses; without a trend the levels are plain means.
    """
    if not len(reading.curve):
        nothing = {"start": None, "final": None, "drop": None, "drop_error": 0.0}
        return Finding("none", 0.0, "There is no finite loss.", nothing)
    start, final, error = _ends(reading)
    by = change(1 + (final - start) / max(abs(start), SMALLEST))
    is_long = reading.trend is not None
    words, compared = _compare(record, start, final, is_long=is_long)
    # A drop of no size has no relative error: then what counts is the error against the level.
    size = max(abs(start - final), 0.1 * abs(start), SMALLEST)
    sure = 1 / (1 + (error / size) ** 2) if is_long else 0.3
    levels = {"start": start, "final": final, "drop": start - final, "drop_error": error}
    by_probe, probe = _of_probe(record)
    words = f"Loss {number(start)} → {number(final)} ({by}). {by_probe}{words}".strip()
    return Finding("measured", sure, words, levels | probe | {"compared": compared})


def _of_probe(record: LossRecord) -> tuple[str, dict[str, Any]]:
    """Say the same of a probe, where there is one: its noise is the same at every step."""
    for column in ("train_probe_loss", "probe_loss"):
        curve, probe = measured(record, column, MIN_PROBES), read_probe(record, column)
        if curve is not None and probe is not None:
            first, last = float(curve.values[0]), probe.last
            by = change(1 + (last - first) / max(abs(first), SMALLEST))
            words = f"The probe, always with the same noise: {number(first)} → {number(last)}"
            return f"{words} ({by}). ", {"probe": {"of": column, "start": first, "final": last}}
    return "", {}


def _ends(reading: Reading) -> tuple[float, float, float]:
    """Return start, final and the error of their difference."""
    values, trend = reading.curve.values, reading.trend
    few = max(1, round(AT_AN_END * len(values)) if trend else len(values) // 4)
    first, last = values[:few], values[-few:]
    if trend is None:
        error = float(np.hypot(first.std(), last.std()) / np.sqrt(few))
        return float(first.mean()), float(last.mean()), error
    begun = float(np.interp(START_ENDS, GRID, trend.curve))
    start = reading.jump.before if reading.jump else max(trend.start.mean, begun)
    # A level that no loss ever had is none.
    seen = [
        level if values.min() <= level <= values.max() else float(there.mean())
        for level, there in ((start, first), (trend.final.mean, last))
    ]
    return seen[0], seen[1], trend.drop.error


def _compare(
    record: LossRecord, start: float, final: float, *, is_long: bool
) -> tuple[str, dict[str, Any]]:
    family, loss = record.about.family, (record.about.loss or "mse").lower()
    destroyed = is_long and start < NOTHING_PREDICTED < final  # else it was no better to begin with
    if family and loss in REFERENCE_LOSSES and destroyed:
        why = "a loss of about 1 is what predicting nothing gives: the model is destroyed"
        return f"{why[0].upper()}{why[1:]}.", {"comparable": False, "why": why}
    known = list(REFERENCES)
    if not family:
        return "", {"comparable": None, "why": "the record names no model family", "log": known}
    if family != REFERENCE_FAMILY or loss not in REFERENCE_LOSSES:
        why = f"the log's figures are for {REFERENCE_FAMILY} with MSE, this is {family} with {loss}"
        return f"Not comparable with the log: {why}.", {"comparable": False, "why": why}
    near = min(known, key=lambda one: abs(start - sum(one["start"]) / 2))
    (low, high), end = near["start"], near["final"]
    words = f"It starts {_place(start, low, high)} the log's {near['run']} run ({low:g}–{high:g}"
    words += f") and ends {_place(final, end, end)} it ({end:g})." if end else ", then flat)."
    return words, {"comparable": True, "nearest": near["run"], "log": known}


def _place(value: float, low: float, high: float) -> str:
    if value < low * (1 - NEAR):
        return "below"
    return "above" if value > high * (1 + NEAR) else "like"
