"""What is kept of a pair of pictures: a few numbers, and two tiny pictures."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .distance import structure_distance
from .diversity import THUMB_SIZE, thumbprint
from .layout import Layout, layout
from .pairs import PicturePairs, Pixels
from .pixels import blockiness, clipped, colourfulness, fine_texture, luma, reduced, tone_range

_TONE_SIZE = 64


@dataclasses.dataclass(frozen=True)
class PairFeatures:
    """The measures of one pair.

    Attributes:
        index: the pair's place in the batch.
        layout: composition and stretch.
        blocks: growth of the 8-pixel grid's visibility, powers of two; NaN for tiny pictures.
        texture: log2 of fine texture, glitched over base.
        contrast: log of tone range and colourfulness together, glitched over base.
        base_tones: tone range, colourfulness and share of clipped values of the base picture.
        glitched_tones: of the glitched one.
        structure: 1 − SSIM.
        base_thumb: the base picture as a vector for comparing it with others.
        glitched_thumb: the glitched one.
        key: names the pair by its content, so that results do not depend on order.
    """

    index: int
    layout: Layout
    blocks: float
    texture: float
    contrast: float
    base_tones: tuple[float, float, float]
    glitched_tones: tuple[float, float, float]
    structure: float
    base_thumb: NDArray[np.float64] = dataclasses.field(repr=False)
    glitched_thumb: NDArray[np.float64] = dataclasses.field(repr=False)
    key: str = ""


def read_features(
    pairs: PicturePairs, on_progress: Callable[[int, int], None] | None = None
) -> list[PairFeatures]:
    """Measure every pair, in an order that depends on the pictures alone.

    Args:
        pairs: read one at a time.
        on_progress: called with (done, total); may raise to stop.
    """
    found = []
    for index, (base, glitched) in enumerate(pairs):
        found.append(features(index, base, glitched))
        if on_progress:
            on_progress(index + 1, len(pairs))
    return sorted(found, key=lambda one: one.key)


def features(index: int, base: Pixels, glitched: Pixels) -> PairFeatures:
    """Measure one pair.

    Args:
        index: its place in the batch.
        base: (H, W, 3) in 0..1.
        glitched: of the same size.
    """
    first, second = luma(base), luma(glitched)
    tones = [_tones(picture) for picture in (base, glitched)]
    thumbs = [thumbprint(reduced(picture, THUMB_SIZE)) for picture in (base, glitched)]
    return PairFeatures(
        index=index,
        layout=layout(first, second),
        blocks=blockiness(second) - blockiness(first),
        texture=math.log2(fine_texture(second) / fine_texture(first)),
        contrast=math.log(sum(tones[1][:2]) / sum(tones[0][:2])),
        base_tones=tones[0],
        glitched_tones=tones[1],
        structure=structure_distance(first, second),
        base_thumb=thumbs[0],
        glitched_thumb=thumbs[1],
        key=_content_key(base, glitched),
    )


def _tones(picture: Pixels) -> tuple[float, float, float]:
    small = reduced(picture, _TONE_SIZE)
    return tone_range(luma(small)), colourfulness(small), clipped(small)


def _content_key(*pictures: Pixels) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        digest.update(np.round(picture * 255).astype(np.uint8).tobytes())
    return digest.hexdigest()
