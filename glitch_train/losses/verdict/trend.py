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
import functools
import math
from collections.abc import Callable

import numpy as np

from ..smoothing import Floats
from .correlation import block_correlation
from .curve import SMALLEST, Curve, equal_blocks, fine_start, local_noise

Column = Callable[[Floats], Floats]

TAIL_FROM = 0.8
"""The tail, whose fall decides whether a curve is flat, is the last fifth of the run."""

START_ENDS = 0.05
LARGE_RISE = 0.3

CORRELATIONS = (0.0, 0.2, 0.4, 0.55, 0.7, 0.8, 0.88, 0.93, 0.96, 0.98, 0.99, 0.995)
ALWAYS_TRIED = 0.22
"""Correlations of block means up to this are tried whatever neighbours show."""

MAX_BLOCKS = 60
POINTS_PER_BLOCK = 5
MIN_BLOCKS = 16
TWO_CHANGES_FROM = 12
"""Fewer blocks are too few for two changes."""

GRID = np.unique(np.concatenate([[0.0], np.geomspace(1e-3, 0.1, 20), np.linspace(0.1, 1, 91)]))

TIMES = (0.01, 0.02, 0.035, 0.06, 0.1, 0.18, 0.3, 0.6)
STOPS = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
BENDS = (0.0, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)
STEPS = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Time constants of exponentials and places of what changes, as shares of the run."""


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
    rise: Estimate
    flat: float
    correlation: float
    blocks: int
    resolution: float

    @property
    def highest_drop(self) -> float:
        """From the trend's highest point to its end."""
        return float(self.curve.max() - self.curve[-1])


def fit_trend(
    curve: Curve, ignored: np.ndarray | None = None, extra: tuple[Column, ...] = ()
) -> Trend:
    """Return the trend of a curve.

    Args:
        curve: at least five values, as :func:`.correlation.without_average` returns them.
        ignored: (N,) bool, spikes to leave out; None for none.
        extra: columns every fit gets, for a known oscillation.
    """
    none = np.zeros(len(curve), dtype=bool)
    x, y, precision = _block_data(curve, none if ignored is None else ignored)
    scale = float(np.max(np.abs(y))) or 1.0
    shapes = [one for one in _shapes() if len(one) < 2 or len(y) >= TWO_CHANGES_FROM]
    changes = np.array([len(one) for one in shapes])
    prior = np.log(np.where(changes == 0, 0.5, 0.25 / np.bincount(changes, minlength=3)[changes]))
    root = np.sqrt(precision)
    design = np.stack([_design(shape, x, extra) for shape in shapes]) * root[:, None]
    per_block = curve.averaged * len(curve) / len(y)
    most = max(ALWAYS_TRIED, block_correlation(curve.correlation, per_block) + 0.02)
    tried = [one for one in CORRELATIONS if one <= most]
    fits = [
        _least_squares(design, y / scale * root, root, one, changes + len(extra)) for one in tried
    ]
    logs = np.concatenate([weight + prior for weight, _, _ in fits])
    weights = np.exp(logs - logs.max())
    seen = np.maximum(GRID, x[0])  # no shape may fall before anything was measured
    on_grid = np.stack([_design(shape, seen, ()) for shape in shapes])
    return _average(
        weights / weights.sum(),
        np.stack([beta for _, beta, _ in fits])[..., :3] * scale,
        np.stack([covariance for _, _, covariance in fits])[..., :3, :3] * scale**2,
        on_grid,
        np.tile(np.maximum(1, len(y) - 1 - changes - len(extra)), len(tried)),
        np.array(tried),
        len(y),
    )


@functools.cache
def _shapes() -> tuple[tuple[Column, ...], ...]:
    """Return every trend that is tried, as the columns beside a constant; the flat one first."""
    falls = [functools.partial(_exponential, time) for time in TIMES]
    falls += [functools.partial(_fall_until, stop) for stop in STOPS]
    turns = [functools.partial(_bend_from, bend) for bend in BENDS]
    turns += [functools.partial(_step_at, at) for at in STEPS]
    one = [(column,) for column in (*turns, *falls)]
    return ((), *one, *((fall, turn) for fall in falls for turn in turns))


def _exponential(time: float, x: Floats) -> Floats:
    return (np.exp(-x / time) - np.exp(-1 / time)) / -np.expm1(-1 / time)


def _fall_until(stop: float, x: Floats) -> Floats:
    return np.maximum(0.0, 1 - x / stop)


def _bend_from(bend: float, x: Floats) -> Floats:
    return np.maximum(0.0, x - bend) / (1 - bend)


def _step_at(at: float, x: Floats) -> Floats:
    return (x > at).astype(float)


def _design(shape: tuple[Column, ...], x: Floats, extra: tuple[Column, ...]) -> Floats:
    """Return (points, 3 + extra) columns; those that a shape lacks are zero."""
    unused = [np.zeros_like(x)] * (2 - len(shape))
    columns = [column(x) for column in shape]
    return np.stack([np.ones_like(x), *columns, *unused, *(one(x) for one in extra)], axis=-1)


def _block_data(curve: Curve, ignored: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """Return position, mean and relative precision of each block."""
    length = len(curve)
    few = min(MIN_BLOCKS, length if length < 3 * MIN_BLOCKS else length // 3)
    equal = equal_blocks(length, min(MAX_BLOCKS, max(few, length // POINTS_PER_BLOCK)))
    noise = local_noise(_bridged(curve.values, ignored), equal)
    level = float(np.median(np.abs(curve.values)))
    noise = np.maximum(noise, max(0.05 * float(np.median(noise)), 1e-6 * level, SMALLEST))
    blocks = fine_start(equal)
    # The first block's parts are too small to tell their own noise: skewed noise is low where
    # the values are low, and would make a few lucky draws look certain.
    noise = np.concatenate([np.full(len(blocks) - len(equal), noise[0]), noise])
    kept = ~ignored
    number = np.array([kept[block].sum() for block in blocks])
    used = number > 0
    position = curve.position
    x = [position[b][kept[b]].mean() for b, u in zip(blocks, used, strict=True) if u]
    y = [curve.values[b][kept[b]].mean() for b, u in zip(blocks, used, strict=True) if u]
    precision = number[used] / noise[used] ** 2
    return np.array(x), np.array(y), precision / precision.mean()


def _bridged(values: Floats, ignored: np.ndarray) -> Floats:
    """Replace ignored values by the line between their neighbours."""
    if not ignored.any():
        return values
    places = np.arange(len(values))
    return np.interp(places, places[~ignored], values[~ignored])


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


def _average(
    weights: Floats,
    beta: Floats,
    covariance: Floats,
    on_grid: Floats,
    freedom: Floats,
    tried: Floats,
    blocks: int,
) -> Trend:
    """Average fits: correlations first, then shapes, as in ``beta`` (R, S, 3)."""
    by_fit = weights.reshape(beta.shape[:2])
    mean = np.einsum("rs,sgk,rsk->g", by_fit, on_grid, beta)

    def estimate(one: int, minus: int | None = None) -> Estimate:
        row = on_grid[:, one] - (0.0 if minus is None else on_grid[:, minus])
        variance = np.einsum("sk,rskl,sl->rs", row, covariance, row)
        errors = np.sqrt(np.maximum(variance, 0.0))
        return Estimate(
            np.einsum("sk,rsk->rs", row, beta).ravel(), errors.ravel(), weights, freedom
        )

    drop = estimate(0, -1)
    line_errors = drop.errors.reshape(by_fit.shape)[:, 1]
    return Trend(
        curve=mean,
        start=estimate(0),
        final=estimate(-1),
        drop=drop,
        tail_fall=estimate(int(np.searchsorted(GRID, TAIL_FROM)), -1),
        rise=estimate(-1, _lowest(mean)),
        flat=float(by_fit[:, 0].sum()),
        correlation=float(by_fit.sum(axis=1) @ tried),
        blocks=blocks,
        resolution=float(by_fit.sum(axis=1) @ line_errors),
    )


def _lowest(mean: Floats) -> int:
    """Return where the trend is lowest.

    A low beginning is mostly a few lucky draws: it counts only where the rest lies far above.
    """
    settled = int(np.searchsorted(GRID, START_ENDS))
    later = settled + int(np.argmin(mean[settled:]))
    first = int(np.argmin(mean))
    return first if mean[-1] - mean[first] > LARGE_RISE * abs(mean[first]) else later
