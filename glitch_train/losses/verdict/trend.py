"""The trend of a noisy curve, and how sure it is: regression on block means with correlated noise.

The losses are averaged in at most 60 blocks. The trend is flat, or one change, or two: a fall (an
exponential, or a straight line until some point), and a bend or a step. Each is fitted by least
squares with AR(1) noise, and they are averaged by how well they explain the means. Nothing assumes
the noise to be independent: the correlation is averaged over too, up to what neighbouring losses
show (:mod:`.correlation`). "Flat" starts with half of all weight, so that a change is believed
against odds of 1 to ``1 / FALSE_ALARM`` only. Source: generalised least squares, Cochrane & Orcutt
1949; model averaging with the BIC, Raftery 1995.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .correlation import block_correlation
from .curve import SMALLEST, Curve, block_means, equal_blocks, fine_start, local_noise

TAIL_FROM = 0.8
"""The tail, whose fall decides whether a curve is flat, is the last fifth of the run."""

START_ENDS = 0.05
"""A low beginning is mostly a few lucky draws: the lowest point is looked for from here on."""

CORRELATIONS = (0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.88, 0.93, 0.96, 0.98, 0.99, 0.995)
ALWAYS_TRIED = 0.22
"""Correlations of block means up to this are tried whatever neighbours show."""

LEAST_SEEN, LASTING = 5, 2.0
"""Values of a probe that show a fall by themselves, and what their error grows by because what a
step does to the model lasts for some steps."""

MAX_BLOCKS = 60
POINTS_PER_BLOCK = 5
MIN_BLOCKS = 16
TWO_CHANGES_FROM = 8
"""Fewer blocks are too few for two changes."""

GRID = np.unique(np.concatenate([[0.0], np.geomspace(1e-3, 0.1, 20), np.linspace(0.1, 1, 91)]))

BENDS = np.array([0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9])
STEPS = np.array([0.3, 0.5, 0.7, 0.8, 0.9, 0.95])
TIMES = np.array([0.01, 0.02, 0.035, 0.06, 0.1, 0.18, 0.3, 0.6])
STOPS = np.array([0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8])
"""Places of what changes, and time constants of exponentials, as shares of the run."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number out of several fits, each with its mean, error, weight and degrees of freedom."""

    means: Floats
    errors: Floats
    weights: Floats
    freedom: Floats

    @property
    def mean(self) -> float:
        """Weighted mean."""
        return float(self.weights @ self.means)

    @property
    def error(self) -> float:
        """Standard error, within and between fits."""
        return math.sqrt(self.weights @ (self.errors**2 + (self.means - self.mean) ** 2))

    def chance_above(self, limit: float) -> float:
        """Return the probability that the number is above ``limit`` (Student's t)."""
        from scipy.special import stdtr  # not above: only verdicts need it

        over = self.means - limit
        t = over / np.maximum(self.errors, 1e-6 * np.abs(over) + SMALLEST)
        return float(self.weights @ stdtr(self.freedom, t))


@dataclasses.dataclass(frozen=True)
class Trend:
    """The averaged trend.

    Attributes:
        curve: mean trend on ``GRID``.
        start: at the first step.
        final: at the last step.
        drop: start minus final.
        tail_fall: fall over the tail.
        tail_is_seen: the fall over the tail is read off its own values, not off the regression.
        rise: final minus lowest.
        flat: probability that nothing changes.
        correlation: averaged correlation of neighbouring block means.
        blocks: number of blocks.
        resolution: standard error of the drop, were the trend a straight line.
    """

    curve: Floats
    start: Estimate
    final: Estimate
    drop: Estimate
    tail_fall: Estimate
    tail_is_seen: bool
    rise: Estimate
    flat: float
    correlation: float
    blocks: int
    resolution: float

    @property
    def highest_drop(self) -> float:
        """From the trend's highest point to its end."""
        return float(self.curve.max() - self.curve[-1])


def fit_trend(curve: Curve, cycles: float = 0.0) -> Trend:
    """Return the trend of a curve.

    Args:
        curve: at least five values, as :func:`.correlation.without_average` returns them.
        cycles: of a swing that every fit gets, 0 for none.
    """
    x, y, precision = _block_data(curve)
    shapes = _shapes(len(y) >= TWO_CHANGES_FROM)
    per_block = curve.averaged * len(curve) / len(y)
    most = max(ALWAYS_TRIED, block_correlation(curve.correlation, per_block) + 0.02)
    tried = np.array([one for one in CORRELATIONS if one <= most])
    fits = _fit_all(_design(x, shapes, cycles), y, np.sqrt(precision), shapes, tried)
    # No shape may fall before anything was measured.
    on_grid = _design(np.maximum(GRID, x[0]), shapes)
    mean = np.einsum("rs,sgk,rsk->g", fits.weights, on_grid, fits.beta)
    settled = int(np.searchsorted(GRID, START_ENDS))
    lowest, tail = settled + int(np.argmin(mean[settled:])), np.searchsorted(GRID, TAIL_FROM)
    start, final = on_grid[:, 0], on_grid[:, -1]
    drop, by_correlation = fits.estimate(start - final), fits.weights.sum(axis=1)
    fitted, seen = fits.estimate(on_grid[:, tail] - final), _seen_tail_fall(curve)
    is_seen = seen is not None and seen.error < fitted.error
    return Trend(
        curve=mean,
        start=fits.estimate(start),
        final=fits.estimate(final),
        drop=drop,
        tail_fall=seen if seen is not None and is_seen else fitted,
        tail_is_seen=is_seen,
        rise=fits.estimate(final - on_grid[:, lowest]),
        flat=float(fits.weights[:, 0].sum()),
        correlation=float(by_correlation @ tried),
        blocks=len(y),
        resolution=float(by_correlation @ drop.errors.reshape(fits.weights.shape)[:, 1]),
    )


def _seen_tail_fall(curve: Curve) -> Estimate | None:
    """Return the fall of a line through the tail of a probe, which shows the model as it was."""
    late = curve.position >= TAIL_FROM
    count = int(late.sum())
    if not curve.steady or count < LEAST_SEEN:
        return None
    x, y = curve.position[late] - curve.position[late].mean(), curve.values[late]
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = LASTING * math.sqrt(rest @ rest / (count - 2) / (x @ x))
    fall, error = -slope * (1 - TAIL_FROM), error * (1 - TAIL_FROM)
    return Estimate(*(np.array([one]) for one in (fall, error, 1.0, count - 2.0)))


@dataclasses.dataclass(frozen=True)
class _Fits:
    """Weights (R, S), coefficients (R, S, 3) and covariances of R correlations and S shapes."""

    weights: Floats
    beta: Floats
    covariance: Floats
    freedom: Floats

    def estimate(self, row: Floats) -> Estimate:
        """Return the number that (S, 3) multiples of the coefficients add up to."""
        variance = np.einsum("sk,rskl,sl->rs", row, self.covariance, row)
        means = np.einsum("sk,rsk->rs", row, self.beta)
        errors = np.sqrt(np.maximum(variance, 0.0))
        return Estimate(means.ravel(), errors.ravel(), self.weights.ravel(), self.freedom)


def _fit_all(design: Floats, y: Floats, root: Floats, shapes: np.ndarray, tried: Floats) -> _Fits:
    scale = float(np.max(np.abs(y))) or 1.0
    changes = np.count_nonzero(shapes, axis=1)
    columns = changes + design.shape[-1] - 3
    prior = np.log(np.where(changes == 0, 0.5, 0.25 / np.bincount(changes, minlength=3)[changes]))
    design, y = design * root[:, None], y / scale * root
    fits = [_least_squares(design, y, root, one, columns) for one in tried]
    logs, beta, covariance = (np.stack(part) for part in zip(*fits, strict=True))
    weights = np.exp(logs + prior - (logs + prior).max())
    freedom = np.tile(np.maximum(1, len(y) - 1 - columns), len(tried))
    beta, covariance = scale * beta[..., :3], scale**2 * covariance[..., :3, :3]
    return _Fits(weights / weights.sum(), beta, covariance, freedom)


def _shapes(two: bool) -> np.ndarray:
    """Return the trends that are tried: (S, 2) numbers of changes, 0 for none.

    The first is flat, the second a straight line.
    """
    turns = np.arange(1, 1 + len(BENDS) + len(STEPS))
    falls = np.arange(turns[-1] + 1, turns[-1] + 1 + len(TIMES) + len(STOPS))
    one = [(change, 0) for change in (0, *turns, *falls)]
    return np.array(one + [(fall, turn) for fall in falls for turn in turns] * two)


def _design(x: Floats, shapes: np.ndarray, cycles: float = 0.0) -> Floats:
    """Return (S, points, 3 or more) columns: one, two changes, and a swing's sine and cosine."""
    at = x[:, None]
    bends = np.maximum(0.0, at - BENDS) / (1 - BENDS)
    exponentials = (np.exp(-at / TIMES) - np.exp(-1 / TIMES)) / -np.expm1(-1 / TIMES)
    changes = np.hstack([0 * at, bends, at > STEPS, exponentials, np.maximum(0.0, 1 - at / STOPS)])
    angle = 2 * math.pi * cycles * x
    swing = [np.sin(angle), np.cos(angle)] if cycles else []
    always = np.tile(np.stack([np.ones_like(x), *swing]), (len(shapes), 1, 1))
    columns = np.concatenate([always[:, :1], changes.T[shapes], always[:, 1:]], axis=1)
    return np.swapaxes(columns, 1, 2)


def _block_data(curve: Curve) -> tuple[Floats, Floats, Floats]:
    """Return position, mean and relative precision of each block."""
    length = len(curve)
    few = min(MIN_BLOCKS, length if length < 3 * MIN_BLOCKS else length // 3)
    equal = equal_blocks(length, min(MAX_BLOCKS, max(few, length // POINTS_PER_BLOCK)))
    noise = local_noise(curve.values, equal, curve.steady)
    level = float(np.median(np.abs(curve.values)))
    noise = np.maximum(noise, max(0.05 * float(np.median(noise)), 1e-6 * level, SMALLEST))
    blocks = fine_start(equal)
    # The first block's parts are too small to tell their own noise: skewed noise is low where
    # the values are low, and would make a few lucky draws look certain.
    noise = np.concatenate([np.full(len(blocks) - len(equal), noise[0]), noise])
    precision = np.array([block.stop - block.start for block in blocks]) / noise**2
    x, y = block_means(curve.position, blocks), block_means(curve.values, blocks)
    return x, y, precision / precision.mean()


def _least_squares(
    design: Floats, y: Floats, root: Floats, correlation: float, columns: Floats
) -> tuple[Floats, Floats, Floats]:
    """Fit every shape with AR(1) noise; return log weights, coefficients and covariances."""
    a, b = _whiten(design, correlation), _whiten(y[:, None], correlation)
    constant = float(np.sum(_whiten(root[:, None], correlation) ** 2))
    normal = np.swapaxes(a, -1, -2) @ a
    ridge = 1e-10 * np.trace(normal, axis1=-2, axis2=-1)[:, None, None]
    inverse = np.linalg.inv(normal + ridge * np.eye(design.shape[-1]))
    beta = inverse @ (np.swapaxes(a, -1, -2) @ b)
    squares = np.sum((b - a @ beta)[..., 0] ** 2, axis=-1)
    squares = np.maximum(squares, 1e-12 * float(np.sum(y**2)) + SMALLEST**2)
    free = len(y) - 1
    # The likelihood with level and size of the noise integrated out, and BIC's price per column.
    weight = -0.5 * (free * (np.log(squares) + math.log1p(-(correlation**2))) + math.log(constant))
    covariance = inverse * (squares / np.maximum(1, free - columns))[:, None, None]
    return weight - 0.5 * columns * math.log(len(y)), beta[..., 0], covariance


def _whiten(columns: Floats, correlation: float) -> Floats:
    """Take AR(1) out along the block axis (second to last)."""
    rest = columns[..., 1:, :] - correlation * columns[..., :-1, :]
    return np.concatenate([columns[..., :1, :], rest / math.sqrt(1 - correlation**2)], axis=-2)
