"""A number out of several fits: its mean, its error, and the chance that it exceeds a limit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ..smoothing import Floats
from .curve import SMALLEST


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its standard error and what mixture it came from."""

    mean: float
    error: float
    means: Floats
    errors: Floats
    weights: Floats

    def chance_above(self, limit: float) -> float:
        """Return the probability that the number is above ``limit``."""
        from scipy.special import ndtr  # not above: only verdicts need it

        over = self.means - limit
        z = over / np.maximum(self.errors, 1e-6 * np.abs(over) + SMALLEST)
        return float(np.sum(self.weights * ndtr(z)))


def mixture(means: Floats, errors: Floats, weights: Floats) -> Estimate:
    """Return the estimate of fits that each have a mean, an error and a weight (sum 1)."""
    mean = float(weights @ means)
    variance = float(weights @ (errors**2 + (means - mean) ** 2))
    return Estimate(mean, math.sqrt(variance), means, errors, weights)
