"""Aspect-ratio buckets by kohya's rules, so that results compare."""

from __future__ import annotations

import dataclasses
import functools
import math

from ..drawing.sizes import Size


@dataclasses.dataclass(frozen=True)
class BucketRule:
    """Which bucket a picture falls into.

    Attributes:
        area: most pixels of a bucket.
        step: widths and heights are multiples of this.
        shortest: smallest side of a bucket from the list.
        longest: largest side of a bucket from the list.
        no_upscale: shrink only; buckets are then not from a list.
    """

    area: int
    step: int = 64
    shortest: int = 256
    longest: int = 1024
    no_upscale: bool = False

    def choose(self, size: Size) -> tuple[Size, Size]:
        """Return (bucket, whole picture resized to cover it).

        Args:
            size: of the picture.

        Source: ``BucketManager.select_bucket`` of kohya-ss/sd-scripts.
        """
        return self._shrink(size) if self.no_upscale else self._nearest(size)

    @property
    def resolutions(self) -> tuple[Size, ...]:
        """The list of buckets; empty when no side length fits the area."""
        return _resolutions(self.area, self.step, self.shortest, self.longest)

    def _nearest(self, size: Size) -> tuple[Size, Size]:
        listed = self.resolutions
        if size in listed:
            return size, size
        aspect = size[0] / size[1]
        bucket = min(listed, key=lambda reso: abs(reso[0] / reso[1] - aspect))
        return bucket, cover_size(size, bucket)

    def _shrink(self, size: Size) -> tuple[Size, Size]:
        resized = self._reduced(size) if size[0] * size[1] > self.area else size
        bucket = (
            max(self.step, resized[0] - resized[0] % self.step),
            max(self.step, resized[1] - resized[1] % self.step),
        )
        if bucket[0] > resized[0] or bucket[1] > resized[1]:
            # Smaller than one step, where kohya has no bucket at all.
            return bucket, cover_size(size, bucket)
        return bucket, resized

    def _reduced(self, size: Size) -> Size:
        """Return the size of about the area whose one side is a multiple of the step."""
        aspect = size[0] / size[1]
        width = math.sqrt(self.area * aspect)
        by_width = self._rounded(width)
        by_height = self._rounded(self.area / width)
        error_by_width = _aspect_error(by_width, self._rounded(by_width / aspect), aspect)
        error_by_height = _aspect_error(self._rounded(by_height * aspect), by_height, aspect)
        if error_by_width < error_by_height:
            return by_width, max(1, int(by_width / aspect + 0.5))
        return max(1, int(by_height * aspect + 0.5)), max(1, by_height)

    def _rounded(self, length: float) -> int:
        """Round down to a multiple of the step, as kohya's ``round_to_steps`` does."""
        whole = int(length + 0.5)
        return whole - whole % self.step


def cover_size(size: Size, target: Size) -> Size:
    """Return the size at which a picture just covers a target, aspect ratio kept."""
    if size[0] / size[1] > target[0] / target[1]:
        return max(target[0], int(size[0] * target[1] / size[1] + 0.5)), target[1]
    return target[0], max(target[1], int(size[1] * target[0] / size[0] + 0.5))


def _aspect_error(width: int, height: int, aspect: float) -> float:
    return abs(width / height - aspect) if height else math.inf


@functools.cache
def _resolutions(area: int, step: int, shortest: int, longest: int) -> tuple[Size, ...]:
    found: set[Size] = set()
    square = int(math.sqrt(area) // step) * step
    if square:
        found.add((square, square))
    for width in range(shortest, longest + 1, step):
        height = min(longest, int((area // width) // step) * step)
        if height >= shortest:
            found |= {(width, height), (height, width)}
    return tuple(sorted(found))
