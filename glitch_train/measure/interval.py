"""Intervals by bootstrap: how much a number would change with other pairs of the same kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Counts (resamples, n), how often each pair was drawn → one value per resample."""

LEVEL = 0.95
RESAMPLES = 4000
MIN_PAIRS = 5
"""Fewer pairs have so few different resamples that an interval would pretend."""


def interval_of_mean(values: Sequence[float], seed: int = 0) -> Interval | None:
    """Return the interval of a mean, or None for fewer than :data:`MIN_PAIRS` values.

    Args:
        values: one number per pair; their order does not matter.
        seed: of the resampling.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    # Deviations, so that equal values give exactly their own mean.
    centre = math.fsum(ordered) / len(ordered) if len(ordered) else 0.0
    found = interval(len(ordered), lambda counts: counts @ (ordered - centre) / len(ordered), seed)
    return None if found is None else (centre + found[0], centre + found[1])


def interval(n: int, statistic: Statistic, seed: int = 0) -> Interval | None:
    """Return the interval of a statistic of n pairs, resampled with replacement.

    Percentiles of the bootstrap distribution, expanded for small n: plain percentiles are too
    narrow by √((n − 1)/n) and use the normal where the t distribution is due.

    Args:
        n: number of pairs.
        statistic: of resamples, given as counts per pair; NaN where a resample has no value.
        seed: of the resampling.

    Returns:
        Lower and upper end, or None for fewer than :data:`MIN_PAIRS` pairs.

    Source: T. Hesterberg, What Teachers Should Know About the Bootstrap, 2015, section 3.4
    """
    if n < MIN_PAIRS:
        return None
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES).astype(np.float64)
    values = statistic(counts)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = expanded_tail(n)
    low, high = np.quantile(values, [tail, 1.0 - tail])
    return float(low), float(high)


def expanded_tail(n: int) -> float:
    """Return the share of resamples outside each end, for n pairs."""
    from scipy.stats import t

    reach = math.sqrt(n / (n - 1)) * float(t.ppf(0.5 + LEVEL / 2, n - 1))
    return NormalDist().cdf(-reach)
