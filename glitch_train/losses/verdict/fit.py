"""Fit: underfitting and overfitting, read from the probe, never from the raw loss alone."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ...wording import loss_text, percent, tidy_step, words_for_step
from ..record import LossRecord
from .curve import MAD_TO_SIGMA, SMALLEST, Curve, clean_curve, equal_blocks, fine_start
from .finding import Finding
from .trend import Trend

MIN_PROBES = 4
MAX_PROBE_BLOCKS = 24
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

MIN_SMOOTHED = 8
"""From this many blocks on, three neighbours are averaged."""

CANNOT = "Overfitting cannot be told: the record has no probe on held-out pictures."


@dataclasses.dataclass(frozen=True)
class ProbeCurve:
    """What a probe curve says.

    Attributes:
        count: values measured.
        first: at step 0 (the first measured).
        lowest: the lowest block.
        lowest_step: where.
        last: the last block.
        tail_fall: fall over the last fifth.
        error: standard error of a difference of two levels.
        drop_error: standard error of the fall from step 0.
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

    @property
    def rise(self) -> float:
        """How far it ends above its lowest point."""
        return self.last - self.lowest

    def numbers(self) -> dict[str, Any]:
        """Return the values for the evidence."""
        return dataclasses.asdict(self) | {"drop_share": self.drop_share}


def read_probe(record: LossRecord, column: str) -> ProbeCurve | None:
    """Return what a probe column says, or None where it has too few values."""
    values = record.array(column)
    measured = np.isfinite(values)
    if measured.sum() < MIN_PROBES:
        return None
    curve = clean_curve(record.array("step")[measured], values[measured])
    if len(curve) < MIN_PROBES:
        return None
    return _summarise(curve)


def _summarise(curve: Curve) -> ProbeCurve:
    blocks = equal_blocks(len(curve), min(MAX_PROBE_BLOCKS, len(curve)))
    means = np.array([curve.values[block].mean() for block in blocks])
    steps = np.array([curve.steps[block].mean() for block in blocks])
    noise = _block_error(means)
    width = 3 if len(means) >= MIN_SMOOTHED else 1
    level = np.convolve(means, np.ones(width) / width, "valid")
    middle = steps[width // 2 : len(steps) - width // 2]
    lowest = int(np.argmin(level))
    tail = np.interp(curve.steps[-1] - np.ptp(curve.steps) / 5, steps, means)
    return ProbeCurve(
        count=len(curve),
        first=float(curve.values[fine_start(blocks, 2)[0]].mean()),
        lowest=float(level[lowest]),
        lowest_step=tidy_step(float(middle[lowest])),
        last=float(level[-1]),
        tail_fall=float(tail - means[-max(1, width - 1) :].mean()),
        error=noise * float(np.sqrt(2 / width)),
        drop_error=noise * float(np.sqrt(1 + 1 / width)),
    )


def _block_error(means: np.ndarray) -> float:
    """Return the noise of a block, from second differences, which a bend hardly touches."""
    if len(means) < 5:
        return 0.0
    bends = means[2:] - 2 * means[1:-1] + means[:-2]
    return float(np.median(np.abs(bends))) * MAD_TO_SIGMA / float(np.sqrt(6))


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
        return _judge_seen(seen, _bands(record, "train_probe_loss"))
    few = int(np.isfinite(record.array("probe_loss")).sum())
    evidence = {"probes": few, "needed": MIN_PROBES}
    if few:
        return Finding(
            "cannot_tell", 0.9, f"Too few probes to tell: {few} of {MIN_PROBES}.", evidence
        )
    return Finding("cannot_tell", 1.0, CANNOT, evidence)


def _judge_held_out(
    held: ProbeCurve, seen: ProbeCurve | None, trend: Trend | None, bands: dict[str, Any]
) -> Finding:
    evidence: dict[str, Any] = {"held_out": held.numbers(), **bands}
    if seen is not None:
        evidence["training"] = seen.numbers()
    if seen is not None and seen.last > (1 + LITTLE) * abs(seen.first):
        return Finding(
            "cannot_tell",
            0.9,
            f"Neither fits nor overfits: the probe on training pictures itself ends at "
            f"{loss_text(seen.last / max(abs(seen.first), SMALLEST))} times its start, so the "
            "model was damaged, not taught.",
            evidence,
        )
    drop = held.first - held.lowest
    limit = max(OVERFIT_OF_LEVEL * abs(held.lowest), OVERFIT_OF_DROP * drop, SURE * held.error)
    if held.rise > limit:
        return _overfit(
            held,
            _confidence(held.rise, limit),
            f"Overfit: the held-out probe was lowest, {loss_text(held.lowest)}, at step "
            f"{words_for_step(held.lowest_step)} and ends {percent(held.rise / held.lowest)} above "
            "that.",
            evidence,
        )
    memorised = _gap(held, seen, trend, evidence)
    if memorised:
        return _overfit(held, 0.7, memorised, evidence)
    return _judge_drop(held, "held-out", evidence) or Finding(
        "fits",
        0.9 if held.count >= 8 else 0.7,
        f"Fits: the held-out probe fell by {percent(held.drop_share)} from step 0 and has not "
        "risen again.",
        evidence,
    )


def _judge_seen(seen: ProbeCurve, bands: dict[str, Any]) -> Finding:
    evidence = {"training": seen.numbers(), **bands}
    return _judge_drop(seen, "training", evidence) or Finding(
        "cannot_tell",
        0.9,
        f"Not underfit: the probe on training pictures fell by {percent(seen.drop_share)}. "
        + CANNOT,
        evidence,
    )


def _judge_drop(probe: ProbeCurve, kind: str, evidence: dict[str, Any]) -> Finding | None:
    """Return the finding of a probe that fell too little, too late, or within its own swings."""
    drop = probe.first - probe.lowest
    in_doubt = drop < SURE * probe.drop_error
    if in_doubt and probe.drop_share > PLAIN_FALL:
        return Finding(
            "cannot_tell",
            0.7,
            f"The {kind} probe fell by {percent(probe.drop_share)} from step 0, but swings too "
            "much to be sure; raise batch_size or lower learning_rate.",
            evidence,
        )
    if in_doubt or probe.drop_share < LITTLE:
        return Finding(
            "underfit",
            0.85,
            f"Underfit: the {kind} probe fell by only {percent(probe.drop_share)} from step 0.",
            evidence,
        )
    if probe.tail_fall > max(STILL_LEARNING * drop, probe.error):
        return Finding(
            "underfit",
            0.7,
            f"Underfit so far: the {kind} probe makes {percent(probe.tail_fall / drop)} of its "
            "fall in the last fifth of the run, so it has more to learn.",
            evidence,
        )
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
                f"by {percent(held.drop_share)}; the gap grew by {percent(growth)} of the start."
            )
        return ""
    if trend is None:
        return ""
    learned = trend.drop.mean / max(abs(trend.start.mean), SMALLEST)
    evidence["loss_drop_share"] = learned
    if learned > 2 * WIDE_GAP and held.drop_share < learned / 4:
        return (
            f"Overfit: the training loss fell by {percent(learned)}, the held-out probe by only "
            f"{percent(held.drop_share)}."
        )
    return ""


def _overfit(
    held: ProbeCurve, confidence: float, sentence: str, evidence: dict[str, Any]
) -> Finding:
    return Finding("overfit", confidence, sentence, evidence, held.lowest_step)


def _confidence(found: float, limit: float) -> float:
    return min(0.98, 0.6 + 0.2 * (found / limit - 1))


def _bands(record: LossRecord, column: str) -> dict[str, Any]:
    """Return the drop of each timestep band's probe."""
    bands = {}
    for name in record.columns:
        if name.startswith(f"{column}_t"):
            probe = read_probe(record, name)
            if probe is not None:
                first, last = name.rpartition("_t")[2].split("_")
                bands[f"timesteps {first}-{last}"] = probe.drop_share
    return {"drop_share_by_timesteps": bands} if bands else {}
