"""Departures from the level: a jump for good, single spikes, and a regular swing."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .curve import MAD_TO_SIGMA, SMALLEST, Curve, block_means, equal_blocks, running_median
from .trend import GRID, Trend

EARLY = 0.05
"""A jump begins within this share of the run; later ones are seen by the trend."""

MARGINS = (1.5, 1.25)
"""All later values lie this many times above the first one, the first two; from three on, above."""

SMOOTH_FROM, SMOOTH_MARGIN = 0.9, 4.0
"""Where neighbours correlate by so much, the first values are an average that has only begun: those
margins are this much wider."""

GAP, EXPLOSION = 0.2, 4.0
"""... and by this share of the level at the end, as near zero a ratio says nothing; unless the jump
is so many times wider than the fall from that level: what exploded may never come back."""

MIN_HEIGHT = 0.2
"""A spike rises at least this share above its surroundings: less is not seen as one."""

POINTS_PER_MEDIAN, MAX_MEDIANS = 12, 60
TIMES_LASTING = 3.0
"""Noise that drifts within a block's median would leave its own crests behind as spikes."""

MIRROR = 2.0
"""Noise with outliers below has them above too: a spike stands this much further out."""

TAIL_POINTS, TAIL_MARGIN = 60, 4.5
"""The tail is read off so many of the highest values; where it is exponential, one curve in
e^4.5 = 90 has a false spike."""

HUMP, HUMP_BLOCKS, HUMP_SIDES = 3.0, 3, 10
"""A hump is at least three of up to 60 blocks long, and lies this many times above as many as ten
blocks before and after, and above each of them: noise that drifts stays below, and three blocks
above twenty others are rare by chance."""

SIGMAS_TO_90 = 1.2816
"""Where a normal distribution's 90 % quantile lies."""

MIN_CYCLES, MIN_SHARE, MIN_SWING = 3, 0.18, 0.04
"""A swing comes at least so often (fewer cannot be told from a trend), makes this share of the
variation around the trend, and goes from top to bottom by this share of the level."""

MIN_PERSISTENCE = 0.35
"""Each third of the run has at least this share of the mean swing: what a trend's shape leaves
behind where it bends sharply has one frequency too, but not all along."""

MAX_BINS = 2048
RARITY = 7.0
"""A peak this far above the background, in e-folds beyond the number of frequencies, ..."""

BY_CHANCE = 1e-3
"""... whose share white noise has less often than this (Fisher's g test, three neighbours)."""


@dataclasses.dataclass(frozen=True)
class Jump:
    """A jump: where it begins, as a share of the run, and the mean loss from there and before."""

    position: float
    level: float
    before: float

    @property
    def ratio(self) -> float:
        """Level over level before."""
        return self.level / max(abs(self.before), SMALLEST)


@dataclasses.dataclass(frozen=True)
class Spikes:
    """Spikes of one curve.

    Attributes:
        marked: (N,) bool, every point that belongs to a spike.
        steps: the highest step of each spike.
        heights: each one's value as a multiple of its surroundings.
        fence: the limit, in robust standard deviations.
    """

    marked: np.ndarray
    steps: tuple[float, ...]
    heights: tuple[float, ...]
    fence: float


@dataclasses.dataclass(frozen=True)
class Hump:
    """A stretch that lies above all around it and comes back.

    Attributes:
        steps: the first and the last.
        height: its median loss as a multiple of that before and after, whichever is higher.
    """

    steps: tuple[float, float]
    height: float


@dataclasses.dataclass(frozen=True)
class Oscillation:
    """The strongest frequency of one curve.

    Attributes:
        cycles: full swings over the run.
        swing: from top to bottom, as a share of the level.
        share: of the variation around the trend.
        prominence: power over the noise's own at that frequency.
        found: whether it counts as an oscillation.
    """

    cycles: float = 0.0
    swing: float = 0.0
    share: float = 0.0
    prominence: float = 0.0
    found: bool = False


def find_jump(curve: Curve) -> Jump | None:
    """Return where a curve jumps up for good within its first steps, or None.

    Before a trend could be seen there is nothing to fit: the order of the values alone decides.
    """
    most = max(1, int(EARLY * len(curve)))
    highest = np.maximum.accumulate(curve.values[:most])
    lowest_after = np.minimum.accumulate(curve.values[::-1])[::-1][1 : most + 1]
    margins = np.ones(most)
    wider = SMOOTH_MARGIN if curve.correlation > SMOOTH_FROM else 1.0
    margins[: len(MARGINS)] = wider * np.array(MARGINS[:most])
    level = float(np.abs(np.median(curve.values[-max(1, len(curve) // 5) :])))
    clear = lowest_after > highest + GAP * level
    exploded = (lowest_after > 0) & (lowest_after**2 > EXPLOSION * level * np.abs(highest))
    found = np.flatnonzero((lowest_after > margins * np.abs(highest)) & (clear | exploded))
    if not len(found):
        return None
    begin = int(found[0]) + 1
    after, before = float(curve.values[begin:].mean()), float(curve.values[:begin].mean())
    return Jump(float(curve.position[begin]), after, before)


def find_spikes(curve: Curve) -> Spikes:
    """Return the spikes of a curve of at least ten values.

    A point is compared with the higher of the medians before and after its own block, so neither
    a slope nor a lasting jump counts. The distance is measured in MADs, after the noise was
    made symmetric by its own quantiles (losses are skewed: which timesteps were drawn decides most
    of them), and must exceed what the noise's own tail gives for a run of this length.
    """
    values, lasts = curve.values, (1 + curve.correlation) / (1 - curve.correlation)
    each = max(POINTS_PER_MEDIAN, min(TIMES_LASTING * lasts, len(curve) / 8))
    blocks = equal_blocks(len(curve), min(MAX_MEDIANS, max(4, int(len(curve) / each))))
    medians = np.array([np.median(values[block]) for block in blocks])
    sides = np.fmax(np.append(np.nan, medians[:-1]), np.append(medians[1:], np.nan))
    sizes = [block.stop - block.start for block in blocks]
    reference = np.repeat(sides, sizes)
    # Nothing lies before the first block, where a loss falls fast: its points must pass the first.
    reference[blocks[0]] = np.fmax(reference[blocks[0]], values[0])
    middles = [(block.start + block.stop - 1) / 2 for block in blocks]
    centred = values - np.interp(np.arange(len(curve)), middles, medians)
    deviations = np.array([MAD_TO_SIGMA * np.median(np.abs(centred[b])) for b in blocks])
    spread = np.repeat(running_median(deviations, 5), sizes)
    spread = np.maximum(spread, 1e-9 * float(np.max(np.abs(centred))) + SMALLEST)
    above, noise = (values - reference) / spread, centred / spread
    fence = _fence(_symmetric(noise, noise))
    level = np.maximum(np.abs(reference), SMALLEST)
    high = (_symmetric(above, noise) > fence) & (values - reference > MIN_HEIGHT * level)
    high &= above > MIRROR * -noise.min()
    return _collect(curve, high, values / level, fence)


def find_hump(curve: Curve) -> Hump | None:
    """Return the highest stretch of several blocks that the loss rose to and came back from.

    A fall has nothing as low before it, a rise nothing as low after it.
    """
    blocks = equal_blocks(len(curve), min(MAX_MEDIANS, len(curve) // 5))
    medians = np.array([np.median(curve.values[block]) for block in blocks])
    before = np.minimum.accumulate(medians)
    after = np.minimum.accumulate(medians[::-1])[::-1]
    high = np.concatenate([[False], medians > HUMP * np.maximum(before, after), [False]])
    edges = np.flatnonzero(np.diff(high.astype(int)))
    found = []
    for begin, end in edges.reshape(-1, 2).tolist():
        sides = medians[max(0, begin - HUMP_SIDES) : begin], medians[end : end + HUMP_SIDES]
        if end - begin < HUMP_BLOCKS or not all(map(len, sides)):
            continue
        if medians[begin:end].min() <= max(float(side.max()) for side in sides):
            continue
        around = max(float(np.median(side)) for side in sides)
        height = float(np.median(medians[begin:end])) / max(around, SMALLEST)
        if around > 0 and height > HUMP:
            steps = (
                float(curve.steps[blocks[begin].start]),
                float(curve.steps[blocks[end - 1].stop - 1]),
            )
            found.append(Hump(steps, height))
    return max(found, key=lambda one: one.height, default=None)


def _symmetric(values: Floats, noise: Floats) -> Floats:
    """Undo the skew of the noise: Tukey's g-distribution fitted to its 10 and 90 % quantiles."""
    low, middle, high = np.quantile(noise, [0.1, 0.5, 0.9])
    if middle - low <= 0 or high - middle <= 0:
        return values
    skew = math.log((high - middle) / (middle - low)) / SIGMAS_TO_90
    # Few values cannot tell their skew; it is shrunk towards none.
    skew = min(1.5, max(0.0, skew)) * len(noise) / (len(noise) + 100)
    if skew < 0.05:
        return values
    scale = (high - middle) * skew / math.expm1(SIGMAS_TO_90 * skew)
    return np.log(np.maximum(1 + skew * (values - middle) / scale, 1e-9)) / skew


def _fence(noise: Floats) -> float:
    """Return a high quantile plus an exponential tail for a run of this length.

    The tail's decay is read off its own median, but where spikes are so many that they fill the
    tail themselves it is read off what lies below.
    """
    share = min(0.1, max(0.01, TAIL_POINTS / len(noise)))
    below, start = np.quantile(noise, [1 - 2.5 * share, 1 - share])
    beyond = [noise[noise > limit] - limit for limit in (start, below)]
    decays = [np.median(one) / math.log(2) if len(one) else 0.0 for one in beyond]
    expected = math.log(max(2.0, len(noise) * share))
    return float(start + (expected + TAIL_MARGIN) * min(decays[0], 1.2 * decays[1]))


def _collect(curve: Curve, high: np.ndarray, heights: Floats, fence: float) -> Spikes:
    """Join neighbouring points; what is still high at the end is a rise, not a spike."""
    marked, points = high.copy(), np.flatnonzero(high)
    gap = max(2, len(curve) // 500)
    groups = np.split(points, np.flatnonzero(np.diff(points) > gap) + 1) if len(points) else []
    tops = []
    for group in groups:
        if len(curve) - 1 - group[-1] <= gap and len(group) * curve.averaged >= 3:
            marked[group] = False
        else:
            tops.append(int(group[np.argmax(curve.values[group])]))
    return Spikes(marked, tuple(curve.steps[tops].tolist()), tuple(heights[tops].tolist()), fence)


def find_oscillation(curve: Curve, trend: Trend) -> Oscillation:
    """Return the strongest oscillation of a curve around its trend.

    The periodogram of what the trend leaves is compared, near each frequency, with a power law
    fitted to its neighbours: noise that drifts slowly has much power at low frequencies too, but
    no single frequency of its own.

    Args:
        curve: at least a dozen values, without its spikes.
        trend: its trend.
    """
    level = np.interp(curve.position, GRID, trend.curve)
    rest = curve.values - level
    blocks = equal_blocks(len(curve), MAX_BINS)
    rest, level = block_means(rest, blocks), block_means(level, blocks)
    # The swing is relative to the level, and no single value may make a peak.
    relative = rest / np.maximum(np.abs(level), SMALLEST)
    bound = 4 * MAD_TO_SIGMA * float(np.median(np.abs(relative))) + SMALLEST
    relative = np.clip(relative, -bound, bound)
    relative -= relative.mean()
    power = np.abs(np.fft.rfft(relative))[1:] ** 2  # frequency k at index k - 1
    if power.sum() <= 0 or len(power) < 3 * MIN_CYCLES:
        return Oscillation()
    peaks = np.argsort(power[MIN_CYCLES - 1 :])[::-1][:8] + MIN_CYCLES
    found = [_peak(power, relative, cycles) for cycles in peaks.tolist()]
    return max(found, key=lambda one: (one.found, one.share))


def _peak(power: Floats, relative: Floats, cycles: int) -> Oscillation:
    width = max(1, cycles // 10)
    near = np.arange(max(1, cycles - width), min(len(power), cycles + width) + 1)
    share = float(power[near - 1].sum() / power.sum())
    prominence = float(power[cycles - 1]) / _background(power, cycles, width)
    swing = 2 * math.sqrt(2 * share) * float(relative.std())
    centre = float(near @ power[near - 1] / power[near - 1].sum())
    turned = relative * np.exp(-2j * np.pi * centre * np.arange(len(relative)) / len(relative))
    thirds = np.array([abs(part.mean()) for part in np.array_split(turned, 3)])
    number = len(power)
    by_chance = number * (1 - share) ** (number - 3) * (number * share) ** 2 / 2
    found = (
        share >= MIN_SHARE
        and by_chance < BY_CHANCE
        and swing >= MIN_SWING
        and prominence >= math.log(number) + RARITY
        and bool(thirds.min() >= MIN_PERSISTENCE * thirds.mean())
    )
    return Oscillation(centre, swing, share, prominence, found)


def _background(power: Floats, cycles: int, width: int) -> float:
    """Return the noise's mean power at a frequency, from a power law through its neighbours."""
    around = np.arange(max(1, cycles // 4), min(len(power), max(cycles * 4, cycles + 8)) + 1)
    around = around[np.abs(around - cycles) > width]
    if len(around) < 4:
        return float(power.mean())
    logs = np.log(np.maximum(power[around - 1], SMALLEST))
    slope = min(0.5, max(-2.5, np.polyfit(np.log(around), logs, 1)[0]))
    offset = float(np.median(logs - slope * np.log(around)))
    # The median of an exponentially distributed power is ln 2 of its mean.
    return math.exp(offset + slope * math.log(cycles)) / math.log(2)
