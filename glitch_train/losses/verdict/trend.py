"""The trend of a noisy curve: an average over shapes, weighted by how well each explains it.

The raw values are averaged in blocks; every shape is fitted to the block means by least squares,
weighted by each block's own noise, with the residuals' autocorrelation (AR(1) between blocks)
averaged over as well. What is autocorrelated within a block only makes all block means noisier,
and the size of their noise is estimated from them. Source: Bayesian model averaging with the BIC
approximation, Raftery 1995; generalised least squares, Cochrane & Orcutt 1949.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .curve import SMALLEST, Curve, equal_blocks, fine_start, local_noise
from .estimate import Estimate, mixture
from .shapes import Column, Shape, all_shapes

TAIL_FROM = 0.8
"""The tail, whose slope decides whether a curve is flat, is the last fifth of the run."""

START_ENDS = 0.05
LARGE_RISE = 0.3

CORRELATIONS = (0.0, 0.2, 0.4, 0.6, 0.75, 0.87, 0.94)
PRIOR_POWER = 0.5
"""The prior of a correlation r between blocks is (1 - r) to this power: one that bridges whole
blocks is rare, and would explain every trend away."""

MAX_BLOCKS = 60
POINTS_PER_BLOCK = 5
MIN_BLOCKS = 16
"""As long as three values are left for each; shapes with two columns need as many."""

GRID = np.unique(np.concatenate([[0.0], np.geomspace(1e-3, 0.1, 20), np.linspace(0.1, 1, 91)]))


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
        correlation: averaged autocorrelation of neighbouring block means.
        blocks: number of blocks.
        family: the family with the largest weight.
        resolution: standard error of the drop, were the trend a straight line.
    """

    curve: Floats
    start: Estimate
    final: Estimate
    drop: Estimate
    tail_fall: Estimate
    rise: Estimate
    correlation: float
    blocks: int
    family: str
    resolution: float

    @property
    def effective_blocks(self) -> float:
        """Number of independent blocks with the same information."""
        return self.blocks * (1 - self.correlation) / (1 + self.correlation)


@dataclasses.dataclass(frozen=True)
class _Fits:
    """Least squares of one group of shapes with equally many columns."""

    weights: Floats  # log, unnormalised: (shapes, correlations)
    coefficients: Floats  # (shapes, correlations, k)
    covariances: Floats  # (shapes, correlations, k, k)
    on_grid: Floats  # (shapes, G, k)


def fit_trend(curve: Curve, ignored: np.ndarray, extra: tuple[Column, ...] = ()) -> Trend:
    """Return the trend of a curve.

    Args:
        curve: at least ten values.
        ignored: (N,) bool, spikes to leave out.
        extra: columns every shape gets, for a known oscillation.
    """
    x, y, precision = _block_data(curve, ignored)
    scale = float(np.max(np.abs(y))) or 1.0
    shapes = [s for s in all_shapes() if len(s.columns) < 2 or len(y) >= MIN_BLOCKS]
    groups: dict[int, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(len(shape.columns), []).append(shape)
    fits = [
        _fit_group(tuple(group), x, y / scale, precision, extra, _prior(group, shapes))
        for group in groups.values()
    ]
    ordered = [shape for group in groups.values() for shape in group]
    return _average(fits, ordered, len(x), scale, len(extra))


def _block_data(curve: Curve, ignored: np.ndarray) -> tuple[Floats, Floats, Floats]:
    """Return position, mean and relative precision of each block."""
    few = min(MIN_BLOCKS, len(curve) // 3)
    equal = equal_blocks(len(curve), min(MAX_BLOCKS, max(few, len(curve) // POINTS_PER_BLOCK)))
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


def _prior(group: list[Shape], shapes: list[Shape]) -> Floats:
    members: dict[str, int] = {}
    for shape in shapes:
        members[shape.family] = members.get(shape.family, 0) + 1
    others = len(members) - 1
    return np.array(
        [
            math.log(others) if shape.family == "flat" else -math.log(members[shape.family])
            for shape in group
        ]
    )


def _design(shapes: tuple[Shape, ...], x: Floats, extra: tuple[Column, ...]) -> Floats:
    return np.stack(
        [
            np.stack([np.ones_like(x), *(c(x) for c in (*shape.columns, *extra))], axis=-1)
            for shape in shapes
        ]
    )


def _fit_group(
    shapes: tuple[Shape, ...],
    x: Floats,
    y: Floats,
    precision: Floats,
    extra: tuple[Column, ...],
    prior: Floats,
) -> _Fits:
    design = _design(shapes, x, extra)
    root = np.sqrt(precision)
    number, k = design.shape[1:]
    parts = [
        _least_squares(_whiten(design * root[:, None], r), _whiten((y * root)[:, None], r)[:, 0])
        for r in CORRELATIONS
    ]
    weights = []
    for r, (_, _, squares) in zip(CORRELATIONS, parts, strict=True):
        free = max(1, number - k)
        # Student's likelihood of the residuals, the AR(1) determinant, BIC's price per parameter.
        fit = -0.5 * free * np.log(squares) + 0.5 * math.log1p(-(r**2))
        likely = PRIOR_POWER * math.log1p(-r)
        weights.append(fit + likely - 0.5 * k * math.log(number) + prior)
    covariances = [
        inverse * (squares / max(1, number - k))[:, None, None] for _, inverse, squares in parts
    ]
    return _Fits(
        np.stack(weights, axis=1),
        np.stack([beta for beta, _, _ in parts], axis=1),
        np.stack(covariances, axis=1),
        _design(shapes, GRID, extra),
    )


def _whiten(columns: Floats, correlation: float) -> Floats:
    """Take AR(1) out along the block axis (second to last)."""
    rest = columns[..., 1:, :] - correlation * columns[..., :-1, :]
    return np.concatenate([columns[..., :1, :], rest / math.sqrt(1 - correlation**2)], axis=-2)


def _least_squares(design: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Return coefficients, inverse normal matrices and residual sums of squares."""
    normal = np.swapaxes(design, -1, -2) @ design
    ridge = 1e-9 * np.trace(normal, axis1=-2, axis2=-1)[:, None, None]
    inverse = np.linalg.inv(normal + ridge * np.eye(design.shape[-1]))
    beta = (inverse @ (np.swapaxes(design, -1, -2) @ y[:, None]))[..., 0]
    residuals = y - (design @ beta[..., None])[..., 0]
    squares = np.sum(residuals**2, axis=-1)
    return beta, inverse, np.maximum(squares, 1e-12 * float(np.sum(y**2)) + SMALLEST**2)


def _average(
    fits: list[_Fits], shapes: list[Shape], blocks: int, scale: float, extra: int
) -> Trend:
    logs = np.concatenate([fit.weights for fit in fits])
    weights = np.exp(logs - logs.max())
    weights /= weights.sum()
    grids = np.concatenate([_values(fit, extra) for fit in fits])  # (shapes, correlations, G)
    mean = np.einsum("sr,srg->g", weights, grids) * scale
    lowest = _lowest(mean)
    tail = int(np.searchsorted(GRID, TAIL_FROM))

    def estimate(one: int, minus: int | None = None) -> Estimate:
        errors = np.concatenate([_error(fit, one, minus, extra) for fit in fits]) * scale
        values = (grids[..., one] - (grids[..., minus] if minus is not None else 0.0)) * scale
        return mixture(values.ravel(), errors.ravel(), weights.ravel())

    line = next(i for i, shape in enumerate(shapes) if shape.family == "line")
    line_errors = np.concatenate([_error(fit, 0, -1, extra) for fit in fits])[line] * scale
    resolution = float(line_errors @ weights.sum(axis=0))
    by_family: dict[str, float] = {}
    for shape, weight in zip(shapes, weights.sum(axis=1), strict=True):
        by_family[shape.family] = by_family.get(shape.family, 0.0) + float(weight)
    return Trend(
        curve=mean,
        start=estimate(0),
        final=estimate(-1),
        drop=estimate(0, -1),
        tail_fall=estimate(tail, -1),
        rise=estimate(-1, lowest),
        correlation=float(weights.sum(axis=0) @ np.array(CORRELATIONS)),
        blocks=blocks,
        family=max(by_family, key=by_family.__getitem__),
        resolution=resolution,
    )


def _lowest(mean: Floats) -> int:
    """Return where the trend is lowest.

    A low beginning is mostly a few lucky draws: it counts only where the rest lies far above.
    """
    settled = int(np.searchsorted(GRID, START_ENDS))
    later = settled + int(np.argmin(mean[settled:]))
    first = int(np.argmin(mean))
    return first if mean[-1] - mean[first] > LARGE_RISE * abs(mean[first]) else later


def _values(fit: _Fits, extra: int) -> Floats:
    used = fit.on_grid.shape[-1] - extra
    return np.einsum("sgk,srk->srg", fit.on_grid[..., :used], fit.coefficients[..., :used])


def _error(fit: _Fits, one: int, minus: int | None, extra: int) -> Floats:
    used = fit.on_grid.shape[-1] - extra
    row = fit.on_grid[:, one, :used]
    if minus is not None:
        row = row - fit.on_grid[:, minus, :used]
    variance = np.einsum("sk,srkl,sl->sr", row, fit.covariances[..., :used, :used], row)
    return np.sqrt(np.maximum(variance, 0.0))
