"""Paired pictures become one index per effect: 0 is base, 1 the stated reference corruption."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..wording import number, percent
from .diversity import MIN_PICTURES, collapse, different_pictures, likeness
from .features import PairFeatures
from .interval import MIN_PAIRS, Interval, interval, interval_of_mean
from .measurement import Measurement, measured, untold
from .scale import Reference, reference

SMALL = 0.05
"""An index below this is not worth a sentence: about what rounding and resizing do."""

COLOURLESS = 0.01
"""Pictures less colourful than this, on average, are grey: they have no colour to lose."""

ENOUGH_MATCHED = 0.25
"""Share of pairs that must match before their stretch is spoken of."""


def measure_pictures(
    pairs: Sequence[PairFeatures], scale: Reference | None = None
) -> tuple[Measurement, ...]:
    """Return every effect that the pictures alone can tell.

    Args:
        pairs: from :func:`.features.read_features`.
        scale: what index 1 means; the shipped reference by default.
    """
    scale = scale or reference()
    return (
        _composition(pairs, scale),
        _framing(pairs, scale),
        _compression(pairs, scale),
        _texture(pairs, scale),
        _contrast(pairs, scale),
        _burn(pairs, scale),
        _mode_collapse(pairs, scale),
        _overall(pairs, scale),
    )


def mean(values: Sequence[float]) -> float:
    """Return the mean of finite values, independent of their order; NaN of none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def few(count: int, what: str = "pairs") -> str:
    """Return the warning for a number without an interval, or nothing."""
    if count >= MIN_PAIRS:
        return ""
    return f"{count} {what if count != 1 else what[:-1]}: an interval needs at least {MIN_PAIRS}."


def _through(
    function: Callable[[float], float], ends: Interval | None, rising: bool = True
) -> Interval | None:
    if ends is None:
        return None
    low, high = (function(end) for end in ends)
    return (low, high) if rising else (high, low)


def _composition(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    values = [pair.layout.composition for pair in pairs]
    value, unrelated = mean(values), scale.values["composition"]
    index = value / unrelated
    sentence = (
        "Tones and edges lie where they lie in base."
        if index < SMALL
        else f"Tones and edges have moved {percent(min(1.0, index))} of the way to an unrelated "
        "picture."
    )
    ends = interval_of_mean(values)
    return measured("composition", value, ends, unrelated, len(values), sentence, few(len(values)))


def _framing(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    matched = [p.layout.log_aspect for p in pairs if p.layout.match >= scale.match_floor]
    n, of = len(matched), len(pairs)
    if n < ENOUGH_MATCHED * of or not n:
        return untold(
            "framing",
            f"Only {n} of {of} pictures can be matched with their base, so stretch cannot be told "
            "from another composition.",
            n,
        )
    wider, taller = sum(a > 0 for a in matched), sum(a < 0 for a in matched)
    sizes = [abs(aspect) for aspect in matched]
    value, ends = math.expm1(mean(sizes)), _through(math.expm1, interval_of_mean(sizes))
    if value / scale.values["framing"] < SMALL:
        sentence = "Nothing is stretched."
    else:
        sentence = (
            f"Pictures are stretched by {percent(value)} on average: {wider} wider, {taller} "
            f"taller, {n - wider - taller} not."
        )
    note = few(n, "matched pairs")
    if n < of:
        note = f"{n} of {of} pairs can be matched. {note}".strip()
    return measured(
        "framing", value, ends, scale.values["framing"], n, sentence, note,
        wider=wider, taller=taller, mean_log_aspect=mean(matched),
    )  # fmt: skip


def _compression(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    values = [pair.blocks for pair in pairs if math.isfinite(pair.blocks)]
    if not values:
        return untold("compression", "The pictures are too small for 8×8 blocks: 24 px at least.")
    value = mean(values)
    strong = value / scale.values["compression"] >= SMALL
    sentence = (
        f"An 8×8 grid stands out {number(2**value, 2)} times as much as in base."
        if strong
        else "No 8×8 blocks that base does not have."
    )
    ends = interval_of_mean(values)
    return measured(
        "compression", value, ends, scale.values["compression"], len(values), sentence,
        few(len(values)), grid_ratio=2**value,
    )  # fmt: skip


def _texture(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    values = [pair.texture for pair in pairs]
    value = mean(values)
    part = value / scale.values["texture"]
    if part >= SMALL:
        times = number(2**value, 2)
        sentence = f"Fine texture is {times} times as strong as in base: noise, grain."
    elif part <= -SMALL:
        sentence = f"Fine texture fell to {percent(2**value)} of base: smoother; no texture glitch."
    else:
        sentence = "Fine texture is as strong as in base."
    ends = interval_of_mean(values)
    return measured(
        "texture", value, ends, scale.values["texture"], len(values), sentence, few(len(values)),
        texture_ratio=2**value,
    )  # fmt: skip


def _contrast(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    logs = [pair.contrast for pair in pairs]
    value = -math.expm1(mean(logs))
    ends = _through(lambda log: -math.expm1(log), interval_of_mean(logs), rising=False)
    about, ratios = _tones(pairs)
    if value / scale.values["contrast"] <= -SMALL:
        about = "Contrast and colour did not collapse; they grew"
    return measured(
        "contrast", value, ends, scale.values["contrast"], len(logs), f"{about}.", few(len(logs)),
        **ratios,
    )  # fmt: skip


def _burn(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    base, glitched = (
        np.array([getattr(pair, tones) for pair in pairs])
        for tones in ("base_tones", "glitched_tones")
    )

    def grown(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        # Of the batch, not of each pair: in a nearly black picture any speck of noise is a burn.
        return np.asarray((counts @ glitched.sum(axis=1)) / (counts @ base.sum(axis=1)) - 1.0)

    n = len(pairs)
    value = float(grown(np.ones(n)))
    about, ratios = "Contrast and colour are no stronger than in base", dict[str, float]()
    clipped = [float(tones[:, 2].mean()) for tones in (base, glitched)]
    if value / scale.values["burn"] >= SMALL:
        about, ratios = _tones(pairs)
        about += f"; {percent(clipped[1])} of all values are clipped, in base {percent(clipped[0])}"
    return measured(
        "burn", value, interval(n, grown), scale.values["burn"], n, f"{about}.", few(n),
        clipped_in_base=clipped[0], clipped=clipped[1], **ratios,
    )  # fmt: skip


def _tones(pairs: Sequence[PairFeatures]) -> tuple[str, dict[str, float]]:
    """Return how tone range and colour changed, in words and as ratios."""
    tone, colour = (_growth(pairs, which) for which in (0, 1))
    about = _grew_or_shrank("Tone range", tone) if math.isfinite(tone) else "Base has no contrast"
    if math.isfinite(colour):
        about += f", {_grew_or_shrank('colour', colour)}"
    return about, {"tone_range_ratio": tone, "colour_ratio": colour}


def _growth(pairs: Sequence[PairFeatures], which: int) -> float:
    """Return the mean tone range (0) or colourfulness (1) over base's; NaN for grey base."""
    before = mean([pair.base_tones[which] for pair in pairs])
    after = mean([pair.glitched_tones[which] for pair in pairs])
    return math.nan if before < COLOURLESS else after / before


def _grew_or_shrank(what: str, ratio: float) -> str:
    if abs(ratio - 1.0) < SMALL:
        return f"{what} is as in base"
    return f"{what} {'shrank' if ratio < 1 else 'grew'} to {percent(ratio)} of base"


def _mode_collapse(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    n = len(pairs)
    if n < MIN_PICTURES:
        return untold("mode_collapse", "One pair: diversity needs at least 2 pictures.", n)
    base = likeness(np.stack([pair.base_thumb for pair in pairs]))
    glitched = likeness(np.stack([pair.glitched_thumb for pair in pairs]))
    value = float(collapse(base, glitched)[0])
    if math.isnan(value):
        return untold("mode_collapse", "Base repeats one picture itself: no diversity to lose.", n)

    def resampled(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return collapse(base, glitched, counts)

    before, after = (float(different_pictures(alike)[0]) for alike in (base, glitched))
    sentence = f"{n} pictures look like {after:.1f} different ones; in base like {before:.1f}."
    note = few(n) or ("" if n >= 8 else f"{n} pictures say little about diversity; 8 say more.")
    return measured(
        "mode_collapse", value, interval(n, resampled), scale.values["mode_collapse"], n, sentence,
        note, different_in_base=before, different=after,
    )  # fmt: skip


def _overall(pairs: Sequence[PairFeatures], scale: Reference) -> Measurement:
    values = [pair.structure for pair in pairs]
    value = mean(values)
    sentence = f"Structure agrees with base to {percent(max(0.0, 1.0 - value))} (SSIM)."
    ends = interval_of_mean(values)
    return measured(
        "overall", value, ends, scale.values["overall"], len(values), sentence, few(len(values)),
        ssim=1.0 - value,
    )  # fmt: skip
