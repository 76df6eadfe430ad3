"""Diversity of a batch: how many different pictures it looks like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
"""(n, d), one row per picture, of length 1."""

THUMB_SIZE = 16
MIN_PICTURES = 2


def thumbprint(small: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a tiny picture as a vector of length 1 without its mean: blind to contrast.

    Args:
        small: (16, 16, 3), a reduced picture.
    """
    vector = small.astype(np.float64).ravel()
    vector -= vector.mean()
    norm = float(np.linalg.norm(vector))
    return vector / norm if norm > 1e-6 else np.full(vector.size, vector.size**-0.5)


def likeness(vectors: Vectors) -> NDArray[np.float64]:
    """Return the squared correlation of each picture with each, (n, n); 1 is the same picture."""
    square = np.minimum(1.0, (vectors @ vectors.T) ** 2)
    np.fill_diagonal(square, 1.0)
    # Equal pictures are exactly alike, whatever the rounding of their product.
    square[square > 1.0 - 1e-9] = 1.0
    return square


def different_pictures(
    alike: NDArray[np.float64], counts: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return how many different pictures the batch looks like, 1..n, one value per resample.

    The order-2 Vendi score, n / (1 + (n − 1) s) with s the mean likeness of two different
    pictures. In a resample, copies of one picture are not compared with each other.

    Args:
        alike: (n, n) from :func:`likeness`.
        counts: (resamples, n), how often each picture was drawn; once each by default.

    Source: A. Pasarkar, A. Dieng, Cousins of the Vendi Score, 2023
    """
    n = len(alike)
    drawn = np.ones((1, n)) if counts is None else counts
    others = alike - np.diag(np.diag(alike))
    together = ((drawn @ others) * drawn).sum(axis=1)
    pairs = drawn.sum(axis=1) ** 2 - (drawn**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(pairs > 0, together / pairs, np.nan)
    return np.asarray(n / (1.0 + (n - 1) * mean))


def collapse(
    base: NDArray[np.float64],
    glitched: NDArray[np.float64],
    counts: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return the share of the base's diversity that is gone; 1 is one picture repeated.

    Args:
        base: likeness of the base's pictures.
        glitched: likeness of the glitched ones.
        counts: as in :func:`different_pictures`.

    Returns:
        One value per resample; NaN where the base itself is one picture repeated.
    """
    before = different_pictures(base, counts) - 1.0
    after = different_pictures(glitched, counts) - 1.0
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(before > 1e-6, 1.0 - after / before, np.nan)
