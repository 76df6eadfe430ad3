"""Fit: underfitting and overfitting, read from the probe, never from the raw loss alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...wording import number, percent, tidy_step, words_for_step
from ..record import LossRecord
from .curve import MAD_TO_SIGMA, SMALLEST, block_means, equal_blocks, fine_start
from .finding import Finding
from .reading import measured
from .trend import TAIL_FROM, Trend

MIN_PROBES, MAX_BLOCKS = 4, 24
MIN_SMOOTHED = 8
"""From this many blocks on, three neighbours are averaged."""

LITTLE = 0.03
"""A probe that fell by less than this share has learned next to nothing."""

OVERFIT_OF_LEVEL = 0.025
OVERFIT_OF_DROP = 0.12
"""Overfit: the held-out probe ends above its lowest point by both of these shares."""

PLAIN_FALL = 0.2
"""A fall of more than this share is not called small, however much the probe swings."""

STILL_LEARNING = 0.07
"""Underfit: the probe makes more than this share of its whole drop in the last fifth."""

WIDE_GAP = 0.12
"""Overfit: the gap to the training pictures grew by this share of the probe at step 0."""

SURE = 4.0
"""Standard errors that a difference must have; many, because the lowest of all is looked for."""

CANNOT = "Overfitting cannot be told: the record has no probe on held-out pictures."


@dataclasses.dataclass(frozen=True)
class ProbeCurve:
    """What a probe curve says: first value, lowest and last block, and standard errors.

    ``error`` is that of a difference of two blocks, ``drop_error`` that of the fall from step 0.
    """

    count: int
    first: float
    lowest: float
    lowest_step: float
    last: float
    tail_fall: float
    error: float
    drop_error: float

    @property
    def drop_share(self) -> float:
        """Largest fall, relative to step 0."""
        return (self.first - self.lowest) / max(abs(self.first), SMALLEST)

    def numbers(self) -> dict[str, Any]:
        """Return the values for the evidence."""
        return dataclasses.asdict(self) | {"drop_share": self.drop_share}


def read_probe(record: LossRecord, column: str) -> ProbeCurve | None:
    """Return what a probe column says, or None where it has too few values."""
    curve = measured(record, column, MIN_PROBES)
    if curve is None:
        return None
    blocks = equal_blocks(len(curve), MAX_BLOCKS)
    means, steps = block_means(curve.values, blocks), block_means(curve.steps, blocks)
    # A block's noise, from second differences, which a bend hardly touches.
    bends = np.diff(means, 2) if len(means) >= MIN_PROBES + 1 else np.zeros(1)
    noise = float(np.median(np.abs(bends))) * MAD_TO_SIGMA / 6**0.5
    width = 3 if len(means) >= MIN_SMOOTHED else 1
    level = np.convolve(means, np.ones(width) / width, "valid")
    lowest = int(np.argmin(level))
    tail = np.interp(curve.step_at(TAIL_FROM), steps, means)
    return ProbeCurve(
        count=len(curve),
        first=float(curve.values[fine_start(blocks, 2)[0]].mean()),
        lowest=float(level[lowest]),
        lowest_step=tidy_step(float(steps[lowest + width // 2])),
        last=float(level[-1]),
        tail_fall=float(tail - means[-max(1, width - 1) :].mean()),
        error=noise * (2 / width) ** 0.5,
        drop_error=noise * (1 + 1 / width) ** 0.5,
    )


def judge_fit(record: LossRecord, trend: Trend | None) -> Finding:
    """Return ``underfit``, ``fits``, ``overfit`` or ``cannot_tell``.

    Args:
        record: with ``probe_loss`` (held-out pictures) or ``train_probe_loss``, or neither.
        trend: of the raw loss.
    """
    held, seen = read_probe(record, "probe_loss"), read_probe(record, "train_probe_loss")
    if held is not None:
        return _judge_held_out(held, seen, trend, _bands(record, "probe_loss"))
    if seen is not None:
        evidence = {"training": seen.numbers(), **_bands(record, "train_probe_loss")}
        fell = percent(seen.drop_share)
        words = f"Not underfit: the probe on training pictures fell by {fell}. {CANNOT}"
        judged = _judge_drop(seen, "training", evidence)
        return judged or Finding("cannot_tell", 0.9, words, evidence)
    few = int(np.isfinite(record.array("probe_loss")).sum())
    words = f"Too few probes to tell: {few} of {MIN_PROBES}." if few else CANNOT
    evidence = {"probes": few, "needed": MIN_PROBES}
    return Finding("cannot_tell", 0.9 if few else 1.0, words, evidence)


def _judge_held_out(
    held: ProbeCurve, seen: ProbeCurve | None, trend: Trend | None, bands: dict[str, Any]
) -> Finding:
    evidence: dict[str, Any] = {"held_out": held.numbers(), **bands}
    if seen is not None:
        evidence["training"] = seen.numbers()
    if seen is not None and seen.last > (1 + LITTLE) * abs(seen.first):
        times = number(seen.last / max(abs(seen.first), SMALLEST), 2)
        words = (
            "Neither fits nor overfits: the probe on training pictures itself ends at "
            f"{times} times its start, so the model was damaged, not taught."
        )
        return Finding("cannot_tell", 0.9, words, evidence)
    rise, drop = held.last - held.lowest, held.first - held.lowest
    limit = max(OVERFIT_OF_LEVEL * abs(held.lowest), OVERFIT_OF_DROP * drop, SURE * held.error)
    if rise > limit:
        sure, above = (
            min(0.98, 0.6 + 0.2 * (rise / limit - 1)),
            rise / max(abs(held.lowest), SMALLEST),
        )
        lowest = f"lowest, {number(held.lowest)}, at step {words_for_step(held.lowest_step)}"
        words = f"Overfit: the held-out probe was {lowest} and ends {percent(above)} above that."
        return Finding("overfit", sure, words, evidence, held.lowest_step)
    memorised = _gap(held, seen, trend, evidence)
    if memorised:
        return Finding("overfit", 0.7, memorised, evidence, held.lowest_step)
    fell = f"fell by {percent(held.drop_share)} from step 0 and has not risen again"
    fits = Finding(
        "fits", 0.9 if held.count >= 8 else 0.7, f"Fits: the held-out probe {fell}.", evidence
    )
    return _judge_drop(held, "held-out", evidence) or fits


def _judge_drop(probe: ProbeCurve, kind: str, evidence: dict[str, Any]) -> Finding | None:
    """Return the finding of a probe that fell too little, too late, or within its own swings."""
    drop, fell = probe.first - probe.lowest, percent(probe.drop_share)
    in_doubt = drop < SURE * probe.drop_error
    if in_doubt and probe.drop_share > PLAIN_FALL:
        do = "raise batch_size or lower learning_rate"
        words = (
            f"The {kind} probe fell by {fell} from step 0, but swings too much to be sure; {do}."
        )
        return Finding("cannot_tell", 0.7, words, evidence)
    if in_doubt or probe.drop_share < LITTLE:
        fell = f"fell by only {fell}" if drop > 0 else "did not fall"
        words = f"Underfit: the {kind} probe {fell} from step 0."
        return Finding("underfit", 0.85, words, evidence)
    if probe.tail_fall > max(STILL_LEARNING * drop, probe.error):
        words = (
            f"Underfit so far: the {kind} probe makes {percent(probe.tail_fall / drop)} of its "
            "fall in the last fifth of the run, so it has more to learn."
        )
        return Finding("underfit", 0.7, words, evidence)
    return None


def _gap(
    held: ProbeCurve, seen: ProbeCurve | None, trend: Trend | None, evidence: dict[str, Any]
) -> str:
    """Say how far training ran ahead of the held-out pictures; empty where it did not."""
    level = max(abs(held.first), SMALLEST)
    if seen is not None:
        growth = ((held.last - seen.last) - (held.first - seen.first)) / level
        evidence["gap_growth_share"] = growth
        if growth > WIDE_GAP and held.tail_fall < SURE * held.error + 0.01 * level:
            return (
                f"Overfit: training pictures improved by {percent(seen.drop_share)}, held-out ones "
                f"{_by(held)}; the gap grew by {percent(growth)} of the start."
            )
    elif trend is not None:
        learned = trend.drop.mean / max(abs(trend.start.mean), SMALLEST)
        evidence["loss_drop_share"] = learned
        if learned > 2 * WIDE_GAP and held.drop_share < learned / 4:
            return (
                f"Overfit: the training loss fell by {percent(learned)}, the held-out probe "
                f"{_by(held)}."
            )
    return ""


def _by(probe: ProbeCurve) -> str:
    return f"by only {percent(probe.drop_share)}" if probe.drop_share > 0 else "not at all"


def _bands(record: LossRecord, column: str) -> dict[str, Any]:
    """Return the drop of each timestep band's probe."""
    bands = {
        f"timesteps {name.rpartition('_t')[2].replace('_', '-')}": probe.drop_share
        for name in record.columns
        if name.startswith(f"{column}_t") and (probe := read_probe(record, name)) is not None
    }
    return {"drop_share_by_timesteps": bands} if bands else {}
