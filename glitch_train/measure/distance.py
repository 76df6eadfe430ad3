"""Overall distance of paired pictures: structure (SSIM), and features of a vision model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import ReportError
from .pixels import Grey

COMPARED_PX = 256
_WINDOW_PX = 11
_SIGMA_PX = 1.5


def structure_distance(base: Grey, glitched: Grey) -> float:
    """Return 1 − SSIM of two pictures; 0 is the same picture.

    Large pictures are averaged down by a whole factor to about 256 pixels, as SSIM's authors
    advise, so that it compares what is seen and not the finest grain.

    Args:
        base: (H, W) luma in 0..1.
        glitched: of the same size.

    Source: Z. Wang et al., Image quality assessment, 2004; scikit-image's structural_similarity
    """
    from skimage.metrics import structural_similarity

    first, second = (_averaged(grey) for grey in (base, glitched))
    if np.array_equal(first, second):
        return 0.0
    if min(first.shape) < _WINDOW_PX:
        window = min(first.shape) - 1 + min(first.shape) % 2
        how = {"win_size": max(3, window)}
    else:
        how = {"gaussian_weights": True, "sigma": _SIGMA_PX, "use_sample_covariance": False}
    return 1.0 - float(structural_similarity(first, second, data_range=1.0, **how))


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


def _averaged(grey: Grey) -> Grey:
    factor = max(1, round(min(grey.shape) / COMPARED_PX))
    height, width = (side // factor for side in grey.shape)
    cut = grey[: height * factor, : width * factor]
    return np.asarray(cut.reshape(height, factor, width, factor).mean(axis=(1, 3)), np.float32)
