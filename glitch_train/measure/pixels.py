"""Measures of single pictures at pixel scale: blocks, texture, tones, colour."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .pairs import Pixels

Grey = NDArray[np.float32]
"""(H, W), luma in 0..1."""

BLOCK_PX = 8
"""JPEG's block, and a latent pixel of Stable Diffusion's VAE."""

MIN_BLOCK_SIDE_PX = 3 * BLOCK_PX

# A level of 8-bit pixels, and half of one: differences below it are rounding, not pictures.
_LEVEL = 1 / 255
_HALF_LEVEL = _LEVEL / 2
_TEXTURE_FLOOR = 0.01
_TONE_PERCENTILES = (5, 95)
_REC_601 = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def luma(picture: Pixels) -> Grey:
    """Return a picture's luma.

    Source: ITU-R BT.601, as JPEG uses it
    """
    return np.asarray(picture @ _REC_601, dtype=np.float32)


def blockiness(grey: Grey) -> float:
    """Return how much the jumps at an 8-pixel grid stand out, in powers of two; 0 is no grid.

    At each column (and row) the jump between neighbours is compared with the slope on both sides.
    The grid may begin anywhere: the loudest of the eight phases is set against their median. NaN
    for pictures with a side under 24 pixels.

    Source: after Z. Wang, A. Bovik, B. Evans, Blind measurement of blocking artifacts, 2000
    """
    if min(grey.shape) < MIN_BLOCK_SIDE_PX:
        return math.nan
    return float(np.mean([_blocks_across(grey), _blocks_across(grey.T)]))


def _blocks_across(grey: Grey) -> float:
    step = np.diff(grey, axis=1)
    jumps = np.abs(step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2).mean(axis=0)
    phases = np.array([jumps[start::BLOCK_PX].mean() for start in range(BLOCK_PX)])
    floor = _HALF_LEVEL / 2
    return math.log2((phases.max() + floor) / (np.median(phases) + floor))


def fine_texture(grey: Grey) -> float:
    """Return the amplitude of the finest texture against the picture's contrast, at least 0.01.

    The kernel has no response to slopes and to straight horizontal or vertical edges, so that
    blocks of a crushed JPEG hardly count.

    Source: J. Immerkær, Fast noise variance estimation, 1996
    """
    kernel = np.diff(np.diff(grey, 2, axis=0), 2, axis=1) / 6
    amplitude = math.sqrt(math.pi / 2) * float(np.abs(kernel).mean())
    return amplitude / (float(grey.std()) + _HALF_LEVEL) + _TEXTURE_FLOOR


def tone_range(small: NDArray[np.float32]) -> float:
    """Return the range of tones between the 5th and 95th percentile, never 0.

    Args:
        small: (h, w) luma of a reduced picture, in which noise is averaged out.
    """
    low, high = np.percentile(small, _TONE_PERCENTILES)
    return float(high - low) + _HALF_LEVEL


def colourfulness(small: NDArray[np.float32]) -> float:
    """Return the mean difference of the largest and smallest channel, never 0.

    Args:
        small: (h, w, 3) of a reduced picture.
    """
    return float((small.max(axis=2) - small.min(axis=2)).mean()) + _HALF_LEVEL


def clipped(small: NDArray[np.float32]) -> float:
    """Return the share of values that lie at black or at white: areas with no tones left.

    Args:
        small: (h, w, 3) of a reduced picture.
    """
    return float(((small < _LEVEL) | (small > 1 - _LEVEL)).mean())


def reduced(picture: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return a picture averaged over a grid of ``size`` × ``size`` areas, whatever its shape.

    Args:
        picture: (H, W) or (H, W, C).
        size: rows and columns of the grid.
    """
    import torch

    planes = picture[..., None] if picture.ndim == 2 else picture
    tensor = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]
    small = torch.nn.functional.adaptive_avg_pool2d(tensor, (size, size))[0].permute(1, 2, 0)
    array = small.numpy()
    return np.ascontiguousarray(array[..., 0] if picture.ndim == 2 else array)
