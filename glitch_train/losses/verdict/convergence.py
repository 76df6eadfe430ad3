"""Convergence: did the loss become flat, and where?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...wording import number, percent, tidy_step, with_error, words_for_step
from .curve import SMALLEST, Curve
from .departures import Jump
from .finding import Finding
from .reading import MIN_POINTS, Reading
from .trend import GRID, TAIL_FROM, Estimate, Trend

FALSE_ALARM = 0.06
"""A loss is called flat, or not to be told, unless "nothing changes" is less likely than this."""

SMALL_DROP = 0.02
"""A fall of less than this share of the level is no fall."""

TOO_WIDE = 0.5
"""Flat is said only where a fall by this share of the level would have been seen (two errors)."""

DOUBTFUL_DROP = 0.3
"""... and where a change is likelier than none, only where it is surely smaller than this."""

LARGEST_TAIL = 0.1
"""Converged is said only where the last fifth surely makes less than this share of the drop."""

USUAL_TAIL = 0.07
"""Between converged and falling: a third of the run's average pace."""

SURE_OF_FLAT, SURE_OF_FALL, SURE_OF_RISE = 0.98, 0.9, 0.9
"""How sure each must be; calling a falling curve flat is the worst error, it ends the training."""

RISE_OF_LEVEL, RISE_OF_DROP = 0.08, 0.2
"""A curve diverges when it ends above its lowest point by both of these shares."""

FLAT_WITHIN = 0.05
"""A curve is flat from where this share of its drop was left."""

METHOD = (
    "the slope over the last fifth of the run against its own error, from a regression on the "
    "means of {blocks} blocks without the spikes, whose noise correlates by {correlation:.2f}"
)
METHOD_SEEN = (
    "the slope of a line through the losses of the last fifth of the run against its error"
)


def judge_convergence(reading: Reading, min_points: int = MIN_POINTS) -> Finding:
    """Return ``converged``, ``still_falling``, ``flat_from_start``, ``diverging`` or ``too_short``.

    ``too_short`` is also what cannot be told: the interval reaches from one state into another.

    Args:
        reading: of the losses.
        min_points: fewer values are too short.
    """
    curve, trend = reading.curve, reading.trend
    if trend is None or curve.points < min_points:
        return _too_few(curve, min_points)
    lowest = trend.final.mean - trend.rise.mean
    limit = max(RISE_OF_LEVEL * abs(lowest), RISE_OF_DROP * abs(trend.drop.mean))
    rose = trend.rise.chance_above(limit)
    evidence = _evidence(curve, trend, rose)
    if reading.jump is not None:
        return _jumped(curve, reading.jump, evidence)
    if trend.flat > FALSE_ALARM:
        return _unchanged(curve, trend, evidence)
    if rose > SURE_OF_RISE:
        return _diverging(curve, trend, lowest, evidence)
    if trend.highest_drop < SMALL_DROP * abs(trend.start.mean):
        return _flat(trend, 1 - rose, evidence)
    return _judge_tail(curve, trend, evidence)


def _judge_tail(curve: Curve, trend: Trend, evidence: dict[str, Any]) -> Finding:
    tail, drop = trend.tail_fall, trend.highest_drop
    falls, large = tail.chance_above(0.0), tail.chance_above(LARGEST_TAIL * drop)
    words = with_error(100 * tail.mean / drop, 100 * tail.error / drop)
    level = -LARGEST_TAIL * drop < tail.mean < USUAL_TAIL * drop
    if level and large < 1 - SURE_OF_FLAT:
        above = np.flatnonzero(trend.curve - trend.curve[-1] > FLAT_WITHIN * drop)
        at = float(GRID[min(len(GRID) - 1, above[-1] + 1)]) if len(above) else 0.0
        step = tidy_step(curve.step_at(at))
        done = f"{percent(1 - FLAT_WITHIN)} of the drop was done there"
        sentence = (
            f"Flat from step {words_for_step(step)} on: {done}, and the last fifth of the run "
            f"makes {words} % of it."
        )
        return Finding("converged", 1 - large, sentence, evidence, step)
    if tail.mean >= USUAL_TAIL * drop and falls > SURE_OF_FALL:
        share = f"{percent(tail.mean / drop)} of the whole drop in the last fifth of the run"
        sentence = f"Still falling by {_pace(curve, tail)} at the end ({share})."
        return Finding("still_falling", falls, sentence, evidence)
    tail_words = f"the last fifth of the run makes {words} % of the whole drop"
    return _untold(f"{tail_words}; the loss may be flat, or still changing", evidence)


def _pace(curve: Curve, tail: Estimate) -> str:
    """Say how fast the loss falls, over a round number of steps that the run has."""
    steps = float(np.ptp(curve.steps))
    per = 10 ** min(3, max(1, math.floor(math.log10(steps))))
    times = per / ((1 - TAIL_FROM) * steps)
    return f"{with_error(tail.mean * times, tail.error * times)} per {per} steps"


def _evidence(curve: Curve, trend: Trend, rose: float) -> dict[str, Any]:
    per_thousand = 1000 / ((1 - TAIL_FROM) * float(np.ptp(curve.steps)))
    level = max(abs(trend.start.mean), SMALLEST)
    return {
        "points": curve.points,
        "averaged_over": curve.averaged,
        "drop_share": trend.drop.mean / level,
        "drop_error": trend.drop.error,
        "tail_slope_per_1000_steps": -trend.tail_fall.mean * per_thousand,
        "tail_slope_error_per_1000_steps": trend.tail_fall.error * per_thousand,
        "chance_it_fell": trend.drop.chance_above(SMALL_DROP * level),
        "chance_it_still_falls": trend.tail_fall.chance_above(USUAL_TAIL * trend.highest_drop),
        "chance_it_rises": rose,
        "chance_of_no_change": trend.flat,
        "autocorrelation_of_blocks": trend.correlation,
        "method": (METHOD_SEEN if trend.tail_is_seen else METHOD).format(
            blocks=trend.blocks, correlation=trend.correlation
        ),
    }


def _too_few(curve: Curve, min_points: int) -> Finding:
    evidence = {"points": curve.points, "needed": min_points, "averaged_over": curve.averaged}
    if curve.points >= min_points:
        log = f"the log is a moving average over about {curve.averaged:,} losses"
        return _untold(f"{log}, which leaves {len(curve)} independent ones", evidence)
    sure = 0.95 if curve.points < min_points / 2 else 0.8
    needed = f"{curve.points} finite losses, at least {min_points} are needed"
    return Finding("too_short", sure, f"Too short to tell: {needed}.", evidence)


def _untold(why: str, evidence: dict[str, Any]) -> Finding:
    return Finding("too_short", 0.6, f"Cannot be told yet: {why}.", evidence)


def _jumped(curve: Curve, jump: Jump, evidence: dict[str, Any]) -> Finding:
    step, ratio = tidy_step(curve.step_at(jump.position)), jump.ratio
    evidence |= {"jump_step": step, "jump_level": jump.level, "jump_ratio": ratio}
    words = (
        f"Diverging: from about step {words_for_step(step)} on the loss lies above all it was "
        f"before, at {number(ratio, 2)} times that level."
    )
    return Finding("diverging", 0.95, words, evidence)


def _diverging(curve: Curve, trend: Trend, lowest: float, evidence: dict[str, Any]) -> Finding:
    step = tidy_step(curve.step_at(float(GRID[int(np.argmin(trend.curve))])))
    # A fit of what explodes may begin where no loss was.
    lowest, final = np.clip([lowest, trend.final.mean], curve.values.min(), curve.values.max())
    share = (final - lowest) / max(abs(lowest), SMALLEST)
    evidence |= {"lowest": float(lowest), "lowest_step": step, "rise": trend.rise.mean}
    words = (
        f"Diverging: the trend was lowest, {number(lowest)}, near step {words_for_step(step)} "
        f"and ends {percent(share)} above that."
    )
    return Finding("diverging", evidence["chance_it_rises"], words, evidence)


def _unchanged(curve: Curve, trend: Trend, evidence: dict[str, Any]) -> Finding:
    """Say flat, unless the interval holds a change that would matter."""
    level = max(float(np.abs(trend.curve).mean()), SMALLEST)
    hidden = evidence["smallest_visible_drop_share"] = 2 * trend.resolution / level
    if hidden > TOO_WIDE:
        fall = "any fall" if hidden >= 1 else f"a fall by {percent(hidden)}"
        return _untold(f"{curve.points:,} losses that vary so much would hide {fall}", evidence)
    largest = (abs(trend.drop.mean) + 2 * trend.drop.error) / level
    if trend.flat < 0.5 and largest > DOUBTFUL_DROP:
        words = with_error(-100 * trend.drop.mean / level, 100 * trend.drop.error / level)
        return _untold(f"the loss changed by {words} %, as noise alone can do", evidence)
    return _flat(trend, trend.flat * min(1.0, max(0.3, 1.1 - 2 * hidden)), evidence)


def _flat(trend: Trend, confidence: float, evidence: dict[str, Any]) -> Finding:
    level = max(abs(trend.start.mean), SMALLEST)
    changed = with_error(-100 * trend.drop.mean / level, 100 * trend.drop.error / level)
    words = (
        f"Flat: from start to end the loss changed by {changed} %; noise alone can change it by "
        f"{percent(2 * trend.resolution / level)}."
    )
    return Finding("flat_from_start", confidence, words, evidence)
