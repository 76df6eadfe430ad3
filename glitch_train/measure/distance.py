"""Overall distance of paired pictures: structure (SSIM), and features of a vision model."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from .pixels import Grey

COMPARED_PX = 256

_WINDOW_PX = 11
_SIGMA_PX = 1.5
_C1, _C2 = 0.01**2, 0.03**2
"""Window and constants of SSIM as its authors give them, for values in 0..1."""


def structure_distance(base: Grey, glitched: Grey) -> float:
    """Return 1 − SSIM of two pictures; 0 is the same picture.

    Large pictures are averaged down by a whole factor to about 256 pixels, as SSIM's authors
    advise, so that it compares what is seen and not the finest grain.

    Args:
        base: (H, W) luma in 0..1.
        glitched: of the same size.

    Source: Z. Wang et al., Image quality assessment, 2004
    """
    first, second = (_averaged(grey) for grey in (base, glitched))
    if np.array_equal(first, second):
        return 0.0
    return 1.0 - _structural_similarity(first, second)


def feature_distance(
    base: NDArray[np.floating], glitched: NDArray[np.floating]
) -> tuple[NDArray[np.float64], float]:
    """Return how far each picture moved in a vision model's features, and the yardstick.

    Args:
        base: (n, d), one vector per picture, of CLIP, SigLIP, DINO …
        glitched: (n, d).

    Returns:
        1 − cosine of each pair (n,), and the mean of it between different base pictures.
    """
    first, second = unit_rows(base), unit_rows(glitched)
    moved = 0.5 * ((first - second) ** 2).sum(axis=1)
    n = len(first)
    apart = 1.0 - (np.square(first.sum(axis=0)).sum() - n) / (n * (n - 1)) if n > 1 else np.nan
    return moved, float(apart)


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return vectors (n, d) scaled to length 1.

    Raises:
        ReportError: when they are no such table, or not finite.
    """
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise ReportError(
            f"Features must be a finite table of one vector per picture, got shape {table.shape}."
        )
    norm = np.linalg.norm(table, axis=1, keepdims=True)
    return np.asarray(table / np.maximum(norm, 1e-12))


def _structural_similarity(first: Grey, second: Grey) -> float:
    """Return the mean SSIM over all windows that lie inside two pictures (H, W) in 0..1.

    Pictures smaller than the Gaussian window get a square one, with the sample covariance.

    Source: Z. Wang et al., Image quality assessment, 2004, equation 13
    """
    from scipy.ndimage import gaussian_filter, uniform_filter

    side = min(_WINDOW_PX, min(first.shape) - 1 | 1)  # odd
    if side == _WINDOW_PX:
        reach = side // 2 / _SIGMA_PX
        mean, correction = partial(gaussian_filter, sigma=_SIGMA_PX, truncate=reach), 1.0
    else:
        mean, correction = partial(uniform_filter, size=side), side**2 / (side**2 - 1)
    mean_1, mean_2 = mean(first), mean(second)
    variance_1 = correction * (mean(first * first) - mean_1 * mean_1)
    variance_2 = correction * (mean(second * second) - mean_2 * mean_2)
    covariance = correction * (mean(first * second) - mean_1 * mean_2)
    alike = (2 * mean_1 * mean_2 + _C1) * (2 * covariance + _C2)
    most = (mean_1**2 + mean_2**2 + _C1) * (variance_1 + variance_2 + _C2)
    edge = side // 2
    return float((alike / most)[edge:-edge, edge:-edge].mean(dtype=np.float64))


def _averaged(grey: Grey) -> Grey:
    factor = max(1, round(min(grey.shape) / COMPARED_PX))
    height, width = (side // factor for side in grey.shape)
    cut = grey[: height * factor, : width * factor]
    return np.asarray(cut.reshape(height, factor, width, factor).mean(axis=(1, 3)), np.float32)
