"""Convergence: did the loss become flat, and where?"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...wording import percent, tidy_step, words_for_step
from .curve import SMALLEST, Curve
from .finding import Finding
from .jump import Jump
from .shapes import all_shapes
from .trend import GRID, TAIL_FROM, Trend

MIN_POINTS = 40
"""Fewer losses than this say nothing about convergence."""

SMALL_DROP = 0.02
"""A fall of less than this share of the start is no fall."""

TAIL_OF_DROP = 0.05
"""A tail (the last fifth) that falls by more than this share of the whole drop still falls: a
quarter of the run's average pace."""

TAIL_OF_LEVEL = 0.06
"""... and so does one that falls by this share of the final loss, however large the drop was."""

RISE_OF_LEVEL = 0.08
RISE_OF_DROP = 0.2
"""A curve diverges when it ends above its lowest point by both of these shares."""

FALLING_FROM = 0.1
"""Still falling is said from this probability on: calling a falling curve flat is the worse
error, because it ends the training."""

FLAT_WITHIN = 0.05
"""A curve is flat from where this share of its drop was left."""

TOO_NOISY = 0.25
"""Where the drop's standard error exceeds this share of the level, flat cannot be told from
falling."""

SMALLEST_SAID = 0.0005
"""Errors below this share are not worth a word."""

METHOD = (
    "slope of the trend over the last fifth of the run against its own error; the trend is the "
    "average over {shapes} shapes fitted to {blocks} block means with the spikes left out, whose "
    "autocorrelation of {correlation:.2f} leaves {effective:.0f} independent ones"
)


def judge_convergence(
    curve: Curve, trend: Trend | None, jump: Jump | None, min_points: int = MIN_POINTS
) -> Finding:
    """Return ``converged``, ``still_falling``, ``flat_from_start``, ``diverging`` or ``too_short``.

    Args:
        curve: the losses.
        trend: their trend; None where there are too few.
        jump: a jump at the end, or None.
        min_points: fewer values are too short.
    """
    if trend is None or len(curve) < min_points:
        return _too_short(curve, min_points)
    level = abs(trend.start.mean)
    drop = abs(trend.drop.mean)
    fell = trend.drop.chance_above(SMALL_DROP * level)
    rose = trend.rise.chance_above(rise_limit(trend))
    limit = min(TAIL_OF_DROP * drop, TAIL_OF_LEVEL * abs(trend.final.mean))
    falls = trend.tail_fall.chance_above(limit)
    evidence = _evidence(curve, trend, fell, falls, rose)
    if jump is not None:
        return _jumped(curve, jump, evidence)
    if rose > 0.5:
        return _diverging(curve, trend, rose, evidence)
    if fell < 0.5:
        return _flat(trend, fell, evidence)
    if falls > FALLING_FROM:
        return _falling(trend, fell, falls, evidence)
    return _converged(curve, trend, fell * (1 - falls) * (1 - rose), evidence)


def rise_limit(trend: Trend, share: float = RISE_OF_LEVEL) -> float:
    """Return the rise above the lowest point from which on a curve diverges."""
    lowest = trend.final.mean - trend.rise.mean
    return max(share * abs(lowest), RISE_OF_DROP * abs(trend.drop.mean))


def _evidence(curve: Curve, trend: Trend, fell: float, falls: float, rose: float) -> dict[str, Any]:
    per_thousand = 1000 / ((1 - TAIL_FROM) * float(np.ptp(curve.steps)))
    return {
        "points": len(curve),
        "drop_share": trend.drop.mean / max(abs(trend.start.mean), SMALLEST),
        "drop_error": trend.drop.error,
        "tail_slope_per_1000_steps": -trend.tail_fall.mean * per_thousand,
        "tail_slope_error_per_1000_steps": trend.tail_fall.error * per_thousand,
        "chance_it_fell": fell,
        "chance_it_still_falls": falls,
        "chance_it_rises": rose,
        "autocorrelation_of_blocks": trend.correlation,
        "independent_blocks": trend.effective_blocks,
        "best_shape": trend.family,
        "method": METHOD.format(
            shapes=len(all_shapes()),
            blocks=trend.blocks,
            correlation=trend.correlation,
            effective=trend.effective_blocks,
        ),
    }


def _too_short(curve: Curve, min_points: int) -> Finding:
    return Finding(
        "too_short",
        0.95 if len(curve) < min_points / 2 else 0.8,
        f"Too short to tell: {len(curve)} finite losses, at least {min_points} are needed.",
        {"points": len(curve), "needed": min_points},
    )


def _jumped(curve: Curve, jump: Jump, evidence: dict[str, Any]) -> Finding:
    step = tidy_step(curve.step_at(jump.position))
    return Finding(
        "diverging",
        0.95,
        f"Diverging: from about step {words_for_step(step)} on the loss lies above all it was "
        f"before, at {jump.words} times that level.",
        evidence | {"jump_step": step, "jump_level": jump.level, "jump_ratio": jump.ratio},
    )


def _diverging(curve: Curve, trend: Trend, rose: float, evidence: dict[str, Any]) -> Finding:
    lowest = trend.final.mean - trend.rise.mean
    at = curve.step_at(float(GRID[int(np.argmin(trend.curve))]))
    step = tidy_step(at)
    return Finding(
        "diverging",
        rose,
        f"Diverging: the trend was lowest, {lowest:.4g}, near step {words_for_step(step)} and ends "
        f"{percent(trend.rise.mean / max(abs(lowest), SMALLEST))} above that.",
        evidence | {"lowest": lowest, "lowest_step": step, "rise": trend.rise.mean},
    )


def _flat(trend: Trend, fell: float, evidence: dict[str, Any]) -> Finding:
    level = max(abs(trend.start.mean), SMALLEST)
    hidden = 2 * trend.resolution / level
    evidence = evidence | {"smallest_visible_drop_share": hidden}
    if trend.resolution > TOO_NOISY * level:
        return Finding(
            "too_short",
            0.6,
            "Too short to tell: against this noise, even a fall of "
            f"{percent(hidden)} would not be seen.",
            evidence,
        )
    return Finding(
        "flat_from_start",
        (1 - fell) * min(1.0, max(0.3, 1.1 - 2 * hidden)),
        f"Flat from the start: the change of {percent(-trend.drop.mean / level)} is within the "
        f"noise (a fall of {percent(hidden)} would have been seen).",
        evidence,
    )


def _falling(trend: Trend, fell: float, falls: float, evidence: dict[str, Any]) -> Finding:
    slope = -evidence["tail_slope_per_1000_steps"]
    error = evidence["tail_slope_error_per_1000_steps"]
    sure = "Still falling" if falls > 0.5 else "Cannot be called flat yet: falling"
    return Finding(
        "still_falling",
        fell * falls,
        f"{sure} by {slope:.2g} ± {error:.1g} per 1000 steps at the end "
        f"({percent(trend.tail_fall.mean / max(abs(trend.drop.mean), SMALLEST))} of the whole drop "
        "in the last fifth of the run).",
        evidence,
    )


def _converged(curve: Curve, trend: Trend, confidence: float, evidence: dict[str, Any]) -> Finding:
    final, drop = float(trend.curve[-1]), trend.curve[0] - trend.curve[-1]
    above = np.flatnonzero(trend.curve - final > FLAT_WITHIN * drop)
    at = float(GRID[min(len(GRID) - 1, above[-1] + 1)]) if len(above) else 0.0
    step = tidy_step(curve.step_at(at))
    change = -trend.tail_fall.mean / max(abs(final), SMALLEST)
    error = trend.tail_fall.error / max(abs(final), SMALLEST)
    words = f"{percent(change)} ± {percent(error)}" if error >= SMALLEST_SAID else percent(change)
    return Finding(
        "converged",
        confidence,
        f"Flat from step {words_for_step(step)} on: {percent(1 - FLAT_WITHIN)} of the drop was "
        f"done there, and over the last fifth the loss changes by {words} "
        "of its level.",
        evidence,
        step,
    )
